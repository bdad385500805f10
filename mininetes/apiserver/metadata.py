"""What the server itself writes into every object's metadata, and what of it clients may change."""

from __future__ import annotations

import datetime
import random
import uuid
from typing import Any

from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.resources import Resource

Object = dict[str, Any]

# No vowels, and nothing that looks like another: Kubernetes' own choice, so that no words come out.
_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_LENGTH = 5
_LONGEST_BASE = 63 - _SUFFIX_LENGTH

_SERVER_SET = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
_KEPT = (*_SERVER_SET, "generateName", "selfLink")


def utc_now() -> datetime.datetime:
    """The time, with its zone."""
    return datetime.datetime.now(datetime.timezone.utc)


def timestamp(moment: datetime.datetime | None = None) -> str:
    """A moment (now) as the API writes it: ``2024-05-01T12:00:00Z``."""
    return (moment or utc_now()).strftime("%Y-%m-%dT%H:%M:%SZ")


def check_type(resource: Resource, obj: Any) -> Object:
    """The body as an object of that kind; kind and apiVersion are filled in when left out. Raises ApiError 400."""
    if not isinstance(obj, dict):
        raise ApiError.bad_request(f"the body must be a JSON object of kind {resource.kind}")
    version = obj.setdefault("apiVersion", resource.api_version)
    kind = obj.setdefault("kind", resource.kind)
    if version != resource.api_version:
        raise ApiError.bad_request(
            f"the API version in the data ({version}) does not match the expected API version ({resource.api_version})"
        )
    if kind != resource.kind:
        raise ApiError.bad_request(f"the kind in the data ({kind}) does not match the expected kind ({resource.kind})")
    if not isinstance(obj.setdefault("metadata", {}), dict):
        raise ApiError.bad_request("metadata must be a JSON object")
    return obj


def set_namespace(resource: Resource, metadata: Object, namespace: str | None) -> None:
    """Put the path's namespace in; another one in the object is refused (ApiError 400)."""
    if not resource.namespaced:
        metadata.pop("namespace", None)
        return
    if metadata.get("namespace") not in (None, "", namespace):
        raise ApiError.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    metadata["namespace"] = namespace


def set_name(metadata: Object) -> bool:
    """Make a name from ``generateName`` when there is none. Returns whether one was made."""
    base = metadata.get("generateName")
    if metadata.get("name") or not isinstance(base, str) or not base:
        return False
    suffix = "".join(random.choices(_SUFFIX_LETTERS, k=_SUFFIX_LENGTH))
    metadata["name"] = base[:_LONGEST_BASE] + suffix
    return True


def begin(metadata: Object, *, generation: bool) -> None:
    """Give a new object its identity. Raises ApiError 400 when it names a resourceVersion."""
    if metadata.pop("resourceVersion", ""):
        raise ApiError.bad_request("resourceVersion should not be set on objects to be created")
    for name in (*_SERVER_SET, "selfLink"):
        metadata.pop(name, None)
    metadata["uid"] = str(uuid.uuid4())
    metadata["creationTimestamp"] = timestamp()
    if generation:
        metadata["generation"] = 1


def carry_over(resource: Resource, name: str, old: Object, new: Object) -> None:
    """Keep what an update may not change in ``new`` (metadata both). Raises ApiError 400 or 409."""
    if new.setdefault("name", name) != name:
        raise ApiError.bad_request(
            f"the name of the object ({new['name']}) does not match the name on the URL ({name})"
        )
    set_namespace(resource, new, old.get("namespace"))
    if new.get("uid") not in (None, "", old.get("uid")):
        why = f"Precondition failed: UID in precondition: {new['uid']}, UID in object meta: {old.get('uid')}"
        raise ApiError.conflict(resource, name, why)
    for field in _KEPT:
        if field in old:
            new[field] = old[field]
        else:
            new.pop(field, None)
    new.pop("resourceVersion", None)
