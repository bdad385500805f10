"""GET: one object, lists with pages and selectors, and the beginnings of watches."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import orjson
from aiohttp import web

from mininetes.apiserver.calls import Call, object_response, send_in_pieces
from mininetes.apiserver.errors import ApiError, Cause
from mininetes.apiserver.registry import Registry, Selection, prefix_of
from mininetes.apiserver.requests import flag_of, number_of
from mininetes.apiserver.selectors import FieldSelector, LabelSelector
from mininetes.apiserver.store import Compacted, FutureRevision, Page, Stored
from mininetes.apiserver.watches import WatchOptions, WatchStream

_TOKEN_VERSION = "meta.k8s.io/v1"  # noqa: S105 - the format of continue tokens
_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. "
    "You must start a new list without the continue parameter."
)


def selection_of(call: Call) -> Selection:
    """The selectors of a query. Raises ApiError 400 for a malformed one."""
    labels, fields = call.query.get("labelSelector"), call.query.get("fieldSelector")
    return Selection(
        LabelSelector.parse(labels) if labels else None,
        FieldSelector.parse(fields, call.kind) if fields else None,
    )


async def get(registry: Registry, call: Call) -> web.StreamResponse:
    """Answer with one object."""
    assert call.name is not None
    return object_response(call, await registry.get(call.kind, call.namespace, call.name))


async def list_(registry: Registry, call: Call) -> web.StreamResponse:
    """Answer with a list, or one page of it. Raises ApiError 400, 410 (too old), 504 (a version to come)."""
    selection, rendering = selection_of(call), call.rendering()
    limit = number_of(call.query, "limit") or 0
    prefix = prefix_of(call.kind, call.namespace)
    start_key, revision, least = _position(call, prefix)
    try:
        page = await registry.store.list(
            prefix, limit=limit if selection.everything else 0, start_key=start_key, revision=revision
        )
    except Compacted as lost:
        if start_key:
            raise ApiError.expired(_TOO_OLD) from None
        raise ApiError.expired(f"too old resource version: {lost.revision} ({lost.oldest})") from None
    except FutureRevision:
        raise _to_come(revision, await registry.store.revision()) from None
    if page.revision < least:
        raise _to_come(least, page.revision)
    items, metadata = _page(page, selection, limit)
    return await send_in_pieces(call, await rendering.many(items, metadata))


def _page(page: Page, selection: Selection, limit: int) -> tuple[list[Stored], dict[str, Any]]:
    """The items of an answer, and the list's metadata."""
    metadata: dict[str, Any] = {"resourceVersion": str(page.revision)}
    items = page.items
    continue_key = page.continue_key
    if not selection.everything:
        items = [item for item in items if selection(item.value)]
        if limit and len(items) > limit:
            items = items[:limit]
            continue_key = items[-1].key + "\0"
    elif page.remaining:
        metadata["remainingItemCount"] = page.remaining
    if continue_key is not None:
        token = orjson.dumps({"v": _TOKEN_VERSION, "rv": page.revision, "start": continue_key})
        metadata["continue"] = base64.urlsafe_b64encode(token).decode().rstrip("=")
    return items, metadata


def _position(call: Call, prefix: str) -> tuple[str, int, int]:
    """Where a list begins: first key, exact revision (0: now), and the revision that it must have reached."""
    token, match = call.query.get("continue"), call.query.get("resourceVersionMatch", "")
    version = number_of(call.query, "resourceVersion") or 0
    if match and not call.query.get("resourceVersion"):
        raise _bad_option(
            "resourceVersionMatch", "Forbidden", "resourceVersionMatch is forbidden unless resourceVersion is provided"
        )
    if match not in ("", "Exact", "NotOlderThan"):
        raise _bad_option(
            "resourceVersionMatch",
            "NotSupported",
            f'Unsupported value: "{match}": supported values: "Exact", "NotOlderThan"',
        )
    if token:
        if version:
            raise ApiError.bad_request("specifying resource version is not allowed when using continue")
        return (*_continued(token, prefix), 0)
    if match == "Exact":
        if not version:
            message = 'Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
            raise _bad_option("resourceVersionMatch", "Forbidden", message)
        return "", version, 0
    return "", 0, version


def _bad_option(field: str, reason: str, message: str) -> ApiError:
    return ApiError.invalid("ListOptions", "", [Cause(field, f"FieldValue{reason}", message)], "meta.k8s.io")


def _continued(token: str, prefix: str) -> tuple[str, int]:
    try:
        known = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        start, revision = known["start"], known["rv"]
        if known["v"] != _TOKEN_VERSION or not start.startswith(prefix) or not isinstance(revision, int):
            raise ValueError(token)
    except (binascii.Error, ValueError, KeyError, TypeError, AttributeError):
        raise ApiError.bad_request(
            "continue key is not valid: it must come from an earlier page of this list"
        ) from None
    return start, revision


def _to_come(wanted: int, current: int) -> ApiError:
    message = f"Too large resource version: {wanted}, current: {current}"
    details = {"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]}
    return ApiError(504, "Timeout", message, details | {"retryAfterSeconds": 1})


async def begin_watch(registry: Registry, call: Call) -> WatchStream:
    """The watch that a request asks for. Raises ApiError 400 or 422."""
    text = call.query.get("resourceVersion", "")
    after = number_of(call.query, "resourceVersion") if text not in ("", "0") else None
    bookmarks = flag_of(call.query, "allowWatchBookmarks")
    initial = call.query.get("sendInitialEvents")
    if initial is not None and call.query.get("resourceVersionMatch") != "NotOlderThan":
        message = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        raise _bad_option("resourceVersionMatch", "Forbidden", message)
    if flag_of(call.query, "sendInitialEvents"):
        if after is not None and after > (now := await registry.store.revision()):
            raise _to_come(after, now)
        after = None
    elif initial is not None and after is None:
        after = await registry.store.revision()
    timeout_s = number_of(call.query, "timeoutSeconds")
    mark = flag_of(call.query, "sendInitialEvents")
    options = WatchOptions.lasting(after, timeout_s, bookmarks=bookmarks, mark=mark)
    selection = selection_of(call)
    if call.name is not None:
        named = FieldSelector.parse(f"metadata.name={call.name}", call.kind)
        selection = Selection(selection.labels, named)
    return WatchStream(registry.store, call.namespace, selection, call.rendering(), options)
