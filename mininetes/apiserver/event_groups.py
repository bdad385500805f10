"""Events have two groups with other field names: core/v1, as they are stored, and events.k8s.io/v1."""

from __future__ import annotations

from typing import Any

from mininetes.apiserver.resources import Resource, by_path

_CORE_TO_NEW = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_NEW_TO_CORE = {new: core for core, new in _CORE_TO_NEW.items()}

CORE = by_path("", "v1", "events")


def stored_resource(resource: Resource) -> Resource:
    """The kind under which a resource's objects are stored: its own, but for events of the newer group."""
    return resource if resource.store_name == resource.resource_name or CORE is None else CORE


def to_stored(resource: Resource, obj: Any) -> Any:
    """An object of the resource as it is stored. Anything that is no such object is returned as it is."""
    if stored_resource(resource) is resource or not isinstance(obj, dict):
        return obj
    return _renamed(obj, _NEW_TO_CORE, resource.api_version, "v1")


def from_stored(resource: Resource, obj: dict[str, Any]) -> dict[str, Any]:
    """A stored object as the resource shows it."""
    if stored_resource(resource) is resource:
        return obj
    return _renamed(obj, _CORE_TO_NEW, "v1", resource.api_version)


def _renamed(obj: dict[str, Any], names: dict[str, str], old_version: str, new_version: str) -> dict[str, Any]:
    renamed = {names.get(field, field): value for field, value in obj.items()}
    if renamed.get("apiVersion", old_version) == old_version:
        renamed["apiVersion"] = new_version
    return renamed
