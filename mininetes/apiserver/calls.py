"""One request on its way through the server, and the answers to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.event_groups import stored_resource
from mininetes.apiserver.registry import WriteOptions
from mininetes.apiserver.rendering import IncludeObject, Rendering
from mininetes.apiserver.requests import JSON, Form, Target, flag_of, form_of, query_of
from mininetes.apiserver.store import Stored

_PIECE = 256 << 10


class Call:
    """A request for an object or a collection, read as far as its head goes.

    ``kind`` is the resource as it is stored, ``resource`` as it is asked for; they differ for
    events alone. Raises ApiError 406 when no form that the client takes can be given.
    """

    __slots__ = ("kind", "name", "namespace", "query", "request", "resource", "subresource", "user")

    def __init__(self, request: web.BaseRequest, target: Target, query_string: str, user: str) -> None:
        self.request = request
        self.resource = target.resource
        self.kind = stored_resource(target.resource)
        self.namespace = target.namespace
        self.name = target.name
        self.subresource = target.subresource
        self.query = query_of(query_string)
        self.user = user

    def form(self) -> Form:
        """The form of the answer that the client asks for."""
        form = form_of(self.request.headers.get("Accept", ""))
        if form is None:
            raise ApiError.not_acceptable((JSON,))
        return form

    def rendering(self) -> Rendering:
        """What turns objects into the answer. Raises ApiError 400 for an unknown ``includeObject``."""
        include = self.query.get("includeObject") or "Metadata"
        if include not in ("Metadata", "Object", "None"):
            raise ApiError.bad_request(f'includeObject: Invalid value: "{include}": must be Metadata, Object or None')
        known: IncludeObject = include  # type: ignore[assignment]
        return Rendering(self.resource, self.form(), known)

    def write_options(self) -> WriteOptions:
        """How a write is meant. Raises ApiError 400 for values that there are not."""
        validation = self.query.get("fieldValidation") or "Warn"
        if validation not in ("Strict", "Warn", "Ignore"):
            raise ApiError.bad_request(
                f'fieldValidation: Unsupported value: "{validation}": supported values: "Ignore", "Strict", "Warn"'
            )
        return WriteOptions(self.dry_run(), validation)  # type: ignore[arg-type]

    def dry_run(self) -> bool:
        """Whether nothing is to be stored. Raises ApiError 400 for any value but All."""
        value = self.query.get("dryRun", "")
        if value not in ("", "All"):
            raise ApiError.bad_request(f'dryRun: Unsupported value: "{value}": supported values: "All"')
        return value == "All"

    @property
    def watches(self) -> bool:
        """Whether this is a watch."""
        return flag_of(self.query, "watch")


def json_response(
    body: bytes | Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """An answer of JSON, encoded already or not."""
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return web.Response(body=data, status=status, headers={"Content-Type": JSON, **(headers or {})})


def refusal(error: ApiError) -> web.Response:
    """The Status object of a refusal; says when to try again where the error does."""
    seconds = error.details.get("retryAfterSeconds")
    headers = {"Retry-After": str(seconds)} if seconds else None
    if error.code == 401:
        headers = {"WWW-Authenticate": 'Bearer realm="mininetes"'}
    return json_response(error.to_status(), error.code, headers)


def object_response(call: Call, stored: Stored, status: int = 200, warnings: list[str] | None = None) -> web.Response:
    """An answer that is one object; warnings go into the headers."""
    response = json_response(call.rendering().one(stored), status)
    for warning in warnings or ():
        quoted = warning.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
        response.headers.add("Warning", f'299 - "{quoted}"')
    return response


async def send_in_pieces(call: Call, body: bytes) -> web.StreamResponse:
    """An answer that may be large, without holding the loop while it is encrypted."""
    if len(body) <= _PIECE:
        return json_response(body)
    response = web.StreamResponse(headers={"Content-Type": JSON, "Content-Length": str(len(body))})
    await response.prepare(call.request)
    view = memoryview(body)
    for start in range(0, len(body), _PIECE):
        await response.write(bytes(view[start : start + _PIECE]))
    await response.write_eof()
    return response
