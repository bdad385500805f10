"""When what changed a service's endpoints happened: kube-proxies count from there how long their rules took."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mininetes.agents.controllers.slice_packing import SliceChanges
from mininetes.agents.objects import Object, conditions_of

CHANGED_AT = "endpoints.kubernetes.io/last-change-trigger-time"
_Time = datetime.datetime


@dataclass
class _Seen:
    service: _Time | None = None
    pods: dict[str, _Time] = field(default_factory=dict)


class TriggerTimes:
    """The times that each service's endpoints went by when they were last worked out, by the service's key."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def changed_at(self, key: str, service: Mapping[str, Any], pods: Iterable[Object]) -> _Time | None:
        """The earliest change since the last call: pods that became ready or unready, or the service being made.

        None when nothing has changed that has a time, as when a pod is gone.
        """
        before = self._seen.get(key)
        made = _time((service.get("metadata") or {}).get("creationTimestamp"))
        now = _Seen(made, {pod["metadata"]["name"]: time for pod in pods if (time := _ready_since(pod)) is not None})
        self._seen[key] = now
        if before is None:
            return made
        later = [time for name, time in now.pods.items() if name not in before.pods or time > before.pods[name]]
        if made is not None and (before.service is None or made > before.service):
            later.append(made)
        return min(later, default=None)

    def forget(self, key: str) -> None:
        """The service is gone."""
        self._seen.pop(key, None)


def _ready_since(pod: Mapping[str, Any]) -> _Time | None:
    since = (each.get("lastTransitionTime") for each in conditions_of(pod) if each.get("type") == "Ready")
    return _time(next(since, None))


def _time(text: Any) -> _Time | None:
    if text:
        with contextlib.suppress(ValueError):
            found = datetime.datetime.fromisoformat(str(text).replace("Z", "+00:00"))
            return found if found.tzinfo else found.replace(tzinfo=datetime.timezone.utc)
    return None


def stamp(changes: SliceChanges, changed_at: _Time | None) -> None:
    """Write the time on the slices that are to be created or updated; without one they say none."""
    for each in (*changes.create, *changes.update):
        metadata = each["metadata"]
        annotations = {k: v for k, v in (metadata.get("annotations") or {}).items() if k != CHANGED_AT}
        if changed_at is not None:
            text = changed_at.astimezone(datetime.timezone.utc).isoformat()
            annotations[CHANGED_AT] = text.replace("+00:00", "Z")
        if annotations:
            metadata["annotations"] = annotations
        else:
            metadata.pop("annotations", None)
