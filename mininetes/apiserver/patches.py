"""Patches of the three types that clients send, and server-side apply: from the object that is to the one wanted.

Nothing is changed in place: what comes back shares nothing with what was given.
"""

from __future__ import annotations

from typing import Any, Final

import jsonpatch
import orjson
import yaml
from jsonpointer import JsonPointerException

from mininetes.apiserver.decoding import decode
from mininetes.apiserver.errors import ApiError, Cause
from mininetes.apiserver.resources import Resource
from mininetes.apiserver.schema import type_of
from mininetes.apiserver.server_side_apply import applied
from mininetes.apiserver.strategic_merge import merge

JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH: Final = "application/strategic-merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"
CONTENT_TYPES: Final = (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY_PATCH)
MOST_OPERATIONS: Final = 10_000
"""A JSON patch with more operations is refused."""


def apply_patch(content_type: str, resource: Resource, current: dict[str, Any], patch: bytes) -> dict[str, Any]:
    """The object after a JSON patch, a merge patch or a strategic merge patch; for APPLY_PATCH see apply_server_side.

    The result is neither validated nor given defaults. Raises ApiError: 400 for a patch that cannot be
    read, 415 for another content type, 422 for a JSON patch that does not fit the object.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == JSON_PATCH:
        return _json_patch(current, patch)
    if media_type == MERGE_PATCH:
        return _merge_patch(_copy(current), _object(patch))
    if media_type == STRATEGIC_MERGE_PATCH:
        try:
            return merge(type_of(resource), _copy(current), _object(patch))
        except TypeError as error:  # an object or a list where a key or an element of a set belongs
            raise ApiError.bad_request(f"invalid strategic merge patch: {error}") from None
    raise ApiError.unsupported_media_type(media_type, CONTENT_TYPES)


def apply_server_side(
    resource: Resource, current: dict[str, Any] | None, patch: bytes, *, manager: str, now: str
) -> dict[str, Any]:
    """The object after server-side apply: created from ``patch`` (YAML or JSON), or ``current`` with it merged in.

    Fields that the same manager applied before and leaves out now are taken away; conflicts with other
    managers are not looked for. ``now`` is a time in Kubernetes' format, for managedFields. Raises ApiError (400).
    """
    wanted = _yaml_object(patch)
    if not manager:
        cause = Cause("fieldManager", "FieldValueRequired", "Required value: is required for apply patch")
        raise ApiError.invalid("PatchOptions", "", [cause], "meta.k8s.io")
    decode(resource, _copy(wanted))  # for its types; unknown fields are for whoever checks the result
    if (wanted.get("metadata") or {}).get("managedFields"):
        raise ApiError.bad_request("metadata.managedFields must be nil")
    for field, right in (("apiVersion", resource.api_version), ("kind", resource.kind)):
        if wanted.get(field) != right:
            raise ApiError.bad_request(f"{field} of the applied object must be {right}, not {wanted.get(field)!r}")
    result = _copy(current) if current else {}
    return applied(type_of(resource), result, wanted, manager, now, resource.api_version)


def _copy(value: dict[str, Any]) -> dict[str, Any]:
    copied: dict[str, Any] = orjson.loads(orjson.dumps(value))
    return copied


def _json(patch: bytes) -> Any:
    try:
        value = orjson.loads(patch)
        orjson.dumps(value)  # what is nested too deeply can be read, but neither worked on nor written
    except (orjson.JSONDecodeError, orjson.JSONEncodeError) as error:
        raise ApiError.bad_request(f"error decoding patch: {error}") from None
    return value


def _object(patch: bytes) -> dict[str, Any]:
    value = _json(patch)
    if not isinstance(value, dict):
        raise ApiError.bad_request(f"error decoding patch: it must be an object, not {type(value).__name__}")
    return value


class _NoAliases(yaml.SafeLoader):
    """Takes no aliases: a few lines of them can stand for more than fits into memory."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse aliases."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("anchors and aliases are not taken")
        return super().compose_node(parent, index)


def _yaml_object(patch: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(patch)
        orjson.dumps(value)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        try:
            # Times become text, as in JSON.
            value = orjson.loads(orjson.dumps(yaml.load(patch, Loader=_NoAliases)))  # noqa: S506
        except (yaml.YAMLError, orjson.JSONEncodeError, UnicodeDecodeError, ValueError, RecursionError) as error:
            raise ApiError.bad_request(f"error decoding YAML: {error}") from None
    if not isinstance(value, dict):
        raise ApiError.bad_request(f"error decoding YAML: it must be an object, not {type(value).__name__}")
    return value


def _json_patch(current: dict[str, Any], patch: bytes) -> dict[str, Any]:
    operations = _json(patch)
    if not isinstance(operations, list):
        raise ApiError.bad_request(f"error decoding patch: it must be a list, not {type(operations).__name__}")
    if len(operations) > MOST_OPERATIONS:
        raise ApiError.too_large(MOST_OPERATIONS)
    try:
        result = _copy(jsonpatch.JsonPatch(operations).apply(current))
    except jsonpatch.InvalidJsonPatch as error:
        raise ApiError.bad_request(f"error decoding patch: {error}") from None
    except (jsonpatch.JsonPatchException, JsonPointerException, TypeError, KeyError) as error:
        message = f"the server rejected our request due to an error in our request: {error}"
        raise ApiError(422, "Invalid", message) from None
    if not isinstance(result, dict):
        raise ApiError(422, "Invalid", "the patch leaves no object")
    return result


def _merge_patch(target: Any, patch: dict[str, Any]) -> dict[str, Any]:
    """RFC 7396, for patches that are objects."""
    result: dict[str, Any] = target if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merge_patch(result.get(key), value) if isinstance(value, dict) else value
    return result
