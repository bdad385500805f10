"""Reading requests: which object a path means, what the query asks, what the body holds, which form is wanted."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

import orjson
import yaml
from aiohttp import web

from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.resources import Resource, by_path

BODY_LIMIT = 3 << 20
"""The largest body that is taken, bytes."""

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
_IN_THE_LOOP = 16 << 10
"""YAML of more bytes than this is parsed by a thread: a megabyte takes a second."""

_META = ("v1", "v1beta1")


@dataclass(frozen=True)
class Target:
    """What a path names. Without a ``name``: the collection."""

    resource: Resource
    namespace: str | None
    name: str | None = None
    subresource: str | None = None


def target_of(path: str) -> Target | None:
    """What a path below /api/v1 or /apis/GROUP/VERSION names; None for any other path."""
    parts = unquote(path).strip("/").split("/") if "%" in path else path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = None
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    resource = by_path(group, version, rest[0])
    if resource is None or len(rest) > 3 or "" in (*rest, namespace) or (namespace and not resource.namespaced):
        return None
    name, subresource = (*rest[1:], None, None)[:2]
    if name is not None and resource.namespaced and namespace is None:
        return None
    if subresource is not None and subresource not in (*resource.subresources, *_EXTRA.get(resource.plural, ())):
        return None
    return Target(resource, namespace, name, subresource)


_EXTRA = {"pods": ("eviction", "portforward")}
"""Subresources that are answered whether or not they are listed."""


@dataclass(frozen=True)
class Form:
    """How an answer is to look: ``kind`` "" for the objects themselves, or Table, PartialObjectMetadata, ..."""

    kind: str = ""
    version: str = "v1"
    group: str = ""


_AS_IT_IS = Form()


@functools.lru_cache(maxsize=256)
def form_of(accept: str) -> Form | None:
    """The first form in an Accept header that can be given; None when none can. JSON is the only format."""
    if not accept:
        return _AS_IT_IS
    for offer in accept.split(","):
        media_type, *parameters = (part.strip() for part in offer.split(";"))
        values = dict(each.split("=", 1) for each in parameters if "=" in each)
        kind = values.get("as", "")
        if media_type not in (JSON, "*/*", "application/*"):
            continue
        if not kind:
            return _AS_IT_IS
        if kind in ("Table", "PartialObjectMetadata", "PartialObjectMetadataList"):
            if values.get("g") == "meta.k8s.io" and values.get("v") in _META:
                return Form(kind, values["v"], "meta.k8s.io")
        elif kind == "APIGroupDiscoveryList":
            return Form(kind, values.get("v", ""), values.get("g", ""))
    return None


def query_of(query: str) -> dict[str, str]:
    """The parameters of a query string; of those given twice the first."""
    if not query:
        return {}
    values: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        values.setdefault(name, value)
    return values


def number_of(query: dict[str, str], name: str) -> int | None:
    """A parameter as a number of 0 or more; None when it is not given. Raises ApiError 400."""
    text = query.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 19:
        raise ApiError.bad_request(f'{name}: Invalid value: "{text}": must be a number of 0 or more')
    return int(text)


def flag_of(query: dict[str, str], name: str) -> bool:
    """A parameter that says yes or no; given without a value it says yes."""
    return query.get(name, "false") not in ("false", "0")


async def read_body(request: web.BaseRequest) -> bytes:
    """The body. Raises ApiError 413 when it is too large."""
    if (request.content_length or 0) > BODY_LIMIT:
        raise ApiError.too_large(BODY_LIMIT)
    chunks: list[bytes] = []
    size = 0
    while chunk := await request.content.readany():
        chunks.append(chunk)
        size += len(chunk)
        if size > BODY_LIMIT:
            raise ApiError.too_large(BODY_LIMIT)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def decode(body: bytes, content_type: str, kind: str) -> Any:
    """A body of JSON, YAML or protobuf, decoded. Raises ApiError 400 when it is malformed, 415 for another format."""
    media_type = content_type.partition(";")[0].strip()
    if media_type in (JSON, ""):
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as wrong:
            raise ApiError.bad_request(
                f"the object provided is unrecognized (must be of type {kind}): "
                f"couldn't get version/kind; json parse error: {wrong}"
            ) from None
    if media_type == PROTOBUF:
        from mininetes.apiserver import protobuf  # noqa: PLC0415 - only some clients send it

        try:
            return protobuf.decode(body)
        except protobuf.Malformed as wrong:
            raise ApiError.bad_request(
                f"the object provided is unrecognized (must be of type {kind}): {wrong}"
            ) from None
    if media_type != YAML:
        raise ApiError.unsupported_media_type(media_type, (JSON, YAML, PROTOBUF))
    try:
        if len(body) <= _IN_THE_LOOP:
            return _load_yaml(body)
        return await asyncio.get_running_loop().run_in_executor(None, _load_yaml, body)
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as wrong:
        raise ApiError.bad_request(
            f"the object provided is unrecognized (must be of type {kind}): yaml parse error: {wrong}"
        ) from None


class _JsonTypesLoader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: what looks like a date is text."""


_JsonTypesLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _load_yaml(body: bytes) -> Any:
    # A few aliases of aliases can stand for gigabytes.
    if b"*" in body and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(body, _JsonTypesLoader)):
        raise ValueError("aliases are not taken")
    # Through JSON and back: keys that are no text, and numbers that JSON does not have, are refused here.
    return orjson.loads(orjson.dumps(yaml.load(body, _JsonTypesLoader)))  # noqa: S506 - a SafeLoader
