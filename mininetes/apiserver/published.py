"""What is the same for every client: discovery, OpenAPI and version, encoded once."""

from __future__ import annotations

import functools

import orjson

from mininetes.apiserver import discovery, openapi, openapi_v2
from mininetes.apiserver.requests import JSON, Form


class Published:
    """The documents of one server, by path. ``server_address`` is where clients are told to reach it."""

    def __init__(self, server_address: str) -> None:
        self._documents = {path: orjson.dumps(each) for path, each in discovery.documents(server_address).items()}
        self._documents["/version"] = orjson.dumps(discovery.version())
        self._aggregated = {
            (root, version): orjson.dumps(discovery.aggregated(root, version))
            for root in ("/api", "/apis")
            for version in discovery.AGGREGATED_TYPES
        }
        roots = ["/api", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
        self._documents["/"] = orjson.dumps({"paths": sorted({*roots, *self._documents})})

    def find(self, path: str, form: Form | None) -> tuple[bytes, str] | None:
        """A document and its content type; None when there is none at that path."""
        if form is not None and form.kind == "APIGroupDiscoveryList" and form.group == "apidiscovery.k8s.io":
            found = self._aggregated.get((path, form.version))
            if found is not None:
                return found, f"{JSON};g={form.group};v={form.version};as={form.kind}"
        if path == "/openapi/v2":
            return openapi_v2.as_protobuf() if form is None else openapi_v2.as_json()
        if path.startswith("/openapi/v3"):
            document = encode_openapi().get(path.removeprefix("/openapi/v3").strip("/"))
            return None if document is None else (document, JSON)
        plain = self._documents.get(path.rstrip("/") or "/")
        return None if plain is None else (plain, JSON)


@functools.cache
def encode_openapi() -> dict[str, bytes]:
    """The OpenAPI documents by what follows /openapi/v3/; "" is their index. Takes some 50 ms, once."""
    documents = {path: orjson.dumps(document) for path, document in openapi.documents().items()}
    documents[""] = orjson.dumps(openapi.index())
    return documents
