"""What `apply` sends: a patch that sets what a manifest has, and takes away what the last one had and it has not. Pure.

The last one is in the annotation in which kubectl keeps it, so that both commands can be used by turns.
"""

from __future__ import annotations

import json
from typing import Any

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

_MERGE_KEYS = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("containerPort", "port"),
}
"""By which field the entries of a list are told apart, as Kubernetes' strategic merge patch does; others are whole."""


def remembering(obj: dict[str, Any]) -> dict[str, Any]:
    """The object with itself as an annotation."""
    text = json.dumps(obj, sort_keys=True, separators=(",", ":")) + "\n"
    metadata = obj["metadata"]
    annotations = {**(metadata.get("annotations") or {}), LAST_APPLIED: text}
    return {**obj, "metadata": {**metadata, "annotations": annotations}}


def patch_to(wanted: dict[str, Any], there: dict[str, Any]) -> dict[str, Any]:
    """A strategic merge patch from an object that is there to one that is wanted."""
    earlier = (there["metadata"].get("annotations") or {}).get(LAST_APPLIED)
    return _merged(json.loads(earlier), wanted) if earlier else wanted


def _merged(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    patch = dict(now)
    for key, value in before.items():
        if key not in now:
            if key != LAST_APPLIED:
                patch[key] = None
        elif isinstance(value, dict) and isinstance(now[key], dict):
            patch[key] = _merged(value, now[key])
        elif key in _MERGE_KEYS and isinstance(value, list) and isinstance(now[key], list):
            patch[key] = _merged_list(value, now[key], _MERGE_KEYS[key])
    return patch


def _merged_list(before: list[Any], now: list[Any], keys: tuple[str, ...]) -> list[Any]:
    def identity(entry: Any) -> tuple[str, Any] | None:
        return next(((key, entry[key]) for key in keys if key in entry), None) if isinstance(entry, dict) else None

    earlier = {found: entry for entry in before if (found := identity(entry)) is not None}
    patch = [_merged(earlier[found], entry) if (found := identity(entry)) in earlier else entry for entry in now]
    kept = {identity(entry) for entry in now}
    return patch + [{"$patch": "delete", found[0]: found[1]} for found in earlier if found not in kept]
