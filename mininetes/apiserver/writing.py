"""POST, PUT, PATCH and DELETE of objects and collections."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from mininetes.apiserver.calls import Call, json_response, object_response, send_in_pieces
from mininetes.apiserver.deletion import DeleteOptions
from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.event_groups import from_stored, to_stored
from mininetes.apiserver.metadata import Object, check_type, timestamp
from mininetes.apiserver.patches import apply_patch, apply_server_side
from mininetes.apiserver.reading import selection_of
from mininetes.apiserver.registry import Registry, WriteOptions
from mininetes.apiserver.requests import decode, read_body
from mininetes.apiserver.store import Stored

APPLY = "application/apply-patch+yaml"
PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    APPLY,
)


async def body_of(call: Call) -> Any:
    """The decoded body, as an object of the kind that is stored."""
    raw = await read_body(call.request)
    decoded = await decode(raw, call.request.headers.get("Content-Type", ""), call.resource.kind)
    return to_stored(call.resource, decoded)


async def create(registry: Registry, call: Call) -> web.StreamResponse:
    """Make an object."""
    options = call.write_options()
    stored = await registry.create(call.kind, call.namespace, await body_of(call), options)
    return object_response(call, stored, 201, options.warnings)


async def update(registry: Registry, call: Call) -> web.StreamResponse:
    """Replace an object, or its status."""
    assert call.name is not None
    options = call.write_options()
    body = await body_of(call)
    status = call.subresource == "status"
    stored = await registry.update(call.kind, call.namespace, call.name, body, options, status=status)
    return object_response(call, stored, 200, options.warnings)


async def patch(registry: Registry, call: Call) -> web.StreamResponse:
    """Change part of an object, or of its status."""
    options = call.write_options()
    content_type = call.request.headers.get("Content-Type", "").partition(";")[0].strip()
    if content_type not in PATCH_TYPES:
        raise ApiError.unsupported_media_type(content_type, PATCH_TYPES)
    raw = await read_body(call.request)
    if content_type == APPLY:
        return await _apply(registry, call, raw, options)

    def change(current: Stored) -> Object:
        shown = from_stored(call.resource, current.copy())
        patched: Object = to_stored(call.resource, apply_patch(content_type, call.resource, shown, raw))
        return check_type(call.kind, patched)

    assert call.name is not None
    status = call.subresource == "status"
    stored = await registry.modify(call.kind, call.namespace, call.name, change, options, status=status)
    return object_response(call, stored, 200, options.warnings)


async def _apply(registry: Registry, call: Call, raw: bytes, options: WriteOptions) -> web.StreamResponse:
    """Server-side apply: changes the object, or makes it when there is none."""
    assert call.name is not None
    manager = call.query.get("fieldManager", "")
    if not manager:
        raise ApiError.bad_request(
            "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: is required for apply patch"
        )

    def applied(current: Object | None) -> Object:
        shown = None if current is None else from_stored(call.resource, current)
        result = apply_server_side(call.resource, shown, raw, manager=manager, now=timestamp())
        obj: Object = to_stored(call.resource, result)
        return check_type(call.kind, obj)

    status = call.subresource == "status"
    while True:
        try:
            stored = await registry.modify(
                call.kind, call.namespace, call.name, lambda c: applied(c.copy()), options, status=status
            )
            return object_response(call, stored, 200, options.warnings)
        except ApiError as refused:
            if refused.code != 404 or status or refused.details.get("name") != call.name:
                raise
        obj = applied(None)
        if obj["metadata"].setdefault("name", call.name) != call.name:
            raise ApiError.bad_request(
                f"the name of the object ({obj['metadata']['name']}) does not match the name on the URL ({call.name})"
            )
        try:
            made = await registry.create(call.kind, call.namespace, obj, options)
            return object_response(call, made, 201, options.warnings)
        except ApiError as refused:
            if refused.reason != "AlreadyExists":
                raise


async def _delete_options(call: Call) -> DeleteOptions:
    raw = await read_body(call.request)
    body = await decode(raw, call.request.headers.get("Content-Type", ""), "DeleteOptions") if raw else None
    return DeleteOptions.parse(body, call.query)


_ANSWERED_WITH = ("pods", "services", "serviceaccounts")
"""Kinds whose deletion is answered with the object: clients with types (the Python one) take nothing else."""


async def delete(registry: Registry, call: Call) -> web.StreamResponse:
    """Delete an object. Answers with it while it lasts (and always where Kubernetes does), else with a Status."""
    assert call.name is not None
    stored, gone = await registry.delete(call.kind, call.namespace, call.name, await _delete_options(call))
    if not gone or call.kind.resource_name in _ANSWERED_WITH:
        return object_response(call, stored)
    details = {"name": call.name, "kind": call.resource.plural, "uid": stored.value["metadata"]["uid"]}
    if call.resource.group:
        details["group"] = call.resource.group
    return json_response(
        {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
    )


async def delete_collection(registry: Registry, call: Call) -> web.StreamResponse:
    """Delete all objects that the selectors name. Answers with them."""
    selection, rendering = selection_of(call), call.rendering()
    deleted = await registry.delete_all(call.kind, call.namespace, selection, await _delete_options(call))
    metadata = {"resourceVersion": str(await registry.store.revision())}
    return await send_in_pieces(call, await rendering.many(deleted, metadata))
