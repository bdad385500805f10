"""Events: what `kubectl describe` shows at the end, written by components about objects."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any, Literal

from mininetes.agents.klog import AgentLog
from mininetes.agents.objects import now_time
from mininetes.apiserver.client import Client
from mininetes.apiserver.errors import ApiError
from mininetes.errors import MininetesError

MOST_WAITING = 1000
MOST_REMEMBERED = 4096

EventType = Literal["Normal", "Warning"]


class EventRecorder:
    """Writes events in the background, in order. What repeats itself is counted in the event that is there.

    `record` never waits and never fails; while the API server is away the oldest events beyond
    1,000 are dropped, as Kubernetes' own components drop them. ``run`` writes until cancelled.
    """

    def __init__(self, client: Client, component: str, host: str, log: AgentLog) -> None:
        self._client = client
        self._source = {"component": component, **({"host": host} if host else {})}
        self._log = log
        self._waiting: deque[dict[str, Any]] = deque(maxlen=MOST_WAITING)
        self._some = asyncio.Event()
        self._written: OrderedDict[tuple[str, ...], dict[str, Any]] = OrderedDict()
        self._last = 0

    def record(self, obj: Mapping[str, Any], kind: EventType, reason: str, message: str) -> None:
        """Say something about an object (which has apiVersion, kind and metadata)."""
        metadata = obj["metadata"]
        regarding = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "name": metadata["name"]}
        regarding |= {k: metadata[k] for k in ("namespace", "uid", "resourceVersion") if metadata.get(k)}
        now = now_time()
        self._waiting.append(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {
                    "name": f"{metadata['name']}.{self._next_number():x}",
                    "namespace": metadata.get("namespace") or "default",
                },
                "involvedObject": regarding,
                "type": kind,
                "reason": reason,
                "message": message,
                "source": self._source,
                "reportingComponent": self._source["component"],
                "reportingInstance": self._source.get("host", ""),
                "firstTimestamp": now,
                "lastTimestamp": now,
                "count": 1,
            }
        )
        self._some.set()

    def _next_number(self) -> int:
        """The time in nanoseconds, never twice the same: names in it keep the events of one second in order."""
        self._last = max(self._last + 1, time.time_ns())
        return self._last

    async def run(self) -> None:
        """Write what was recorded, until cancelled."""
        while True:
            while not self._waiting:
                self._some.clear()
                await self._some.wait()
            event = self._waiting.popleft()
            try:
                await self._write(event)
            except MininetesError as failed:
                self._log.warning("Unable to write event (may retry after sleeping)", err=failed)

    async def _write(self, event: dict[str, Any]) -> None:
        regarding = event["involvedObject"]
        same = (regarding.get("uid", ""), regarding["name"], event["type"], event["reason"], event["message"])
        known = self._written.get(same)
        if known is not None:
            count = known["count"] + 1
            changed = {"count": count, "lastTimestamp": event["lastTimestamp"]}
            metadata = known["metadata"]
            try:
                await self._client.patch("events", metadata["name"], changed, metadata["namespace"])
            except ApiError as refused:
                if refused.code != 404:
                    raise
            else:
                known["count"] = count
                return
        try:
            await self._client.create("events", event)
        except ApiError as refused:
            if refused.code not in (403, 404):  # the namespace is ending or has ended
                raise
            return
        self._written[same] = event
        self._written.move_to_end(same)
        while len(self._written) > MOST_REMEMBERED:
            self._written.popitem(last=False)
