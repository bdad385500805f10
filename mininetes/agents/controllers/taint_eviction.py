"""Taint-based eviction: pods leave a node with a NoExecute taint that they do not tolerate, or not for ever."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mininetes.agents.controllers.controller import Controller, Shared
from mininetes.agents.controllers.indexes import Index, by_node
from mininetes.agents.controllers.node_conditions import NOT_READY, UNREACHABLE
from mininetes.agents.objects import (
    MIRROR,
    Object,
    annotations_of,
    is_deleted,
    is_finished,
    key_of,
    parse_time,
    uid_of,
)
from mininetes.agents.scheduler.node_selection import covers
from mininetes.apiserver.errors import ApiError


def eviction_due(
    pod: Mapping[str, Any], taints: Sequence[Mapping[str, Any]], *, default_s: float, now: float
) -> float | None:
    """In how many seconds the pod is to leave (0: now); None when it may stay. Pure; ``now`` since the epoch.

    A pod without a toleration for a node that is not ready or not reachable has ``default_s``, as
    the API server's admission would have given it one. Static pods stay: their kubelet would show
    them again at once.
    """
    if MIRROR in annotations_of(pod):
        return None
    due: float | None = None
    for taint in taints:
        if taint.get("effect") != "NoExecute":
            continue
        since = parse_time(str(taint.get("timeAdded") or "")) or now
        allowed = _tolerated_for(pod, taint, default_s)
        if allowed is not None and (due is None or since + allowed - now < due):
            due = since + allowed - now
    return None if due is None else max(0.0, due)


def _tolerated_for(pod: Mapping[str, Any], taint: Mapping[str, Any], default_s: float) -> float | None:
    """For how many seconds the pod bears the taint; None for ever. Of several tolerations the shortest counts."""
    covering = [each for each in (pod.get("spec") or {}).get("tolerations") or () if covers(each, taint)]
    if not covering:
        return default_s if taint.get("key") in (NOT_READY, UNREACHABLE) else 0.0
    limits = [max(0.0, float(each["tolerationSeconds"])) for each in covering if "tolerationSeconds" in each]
    return min(limits) if limits else None


class TaintEviction(Controller):
    """Deletes pods whose time on a tainted node is over."""

    name: ClassVar[str] = "taint-eviction"

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._pods = shared.informer("pods").items
        self._nodes = shared.informer("nodes").items
        self._on = Index(shared.informer("pods"), by_node)
        shared.informer("pods").on_change(self._pod_changed)
        shared.informer("nodes").on_change(self._node_changed)

    async def sync(self, key: str) -> float | None:
        """Delete one pod when it is due, or look again when it will be."""
        pod = self._pods.get(key)
        node = self._nodes.get(by_node(pod)) if pod is not None else None
        if pod is None or node is None or is_deleted(pod) or is_finished(pod):
            return None
        taints = _no_execute(node)
        due_s = eviction_due(pod, taints, default_s=self.shared.settings.eviction_s, now=time.time())
        if due_s is None or due_s > 0:
            return due_s
        metadata = pod["metadata"]
        self.shared.events.record(pod, "Normal", "TaintManagerEviction", f"Marking for deletion Pod {key}")
        try:
            await self.client.delete("pods", metadata["name"], metadata["namespace"], uid=uid_of(pod))
        except ApiError as refused:
            if refused.code not in (404, 409):
                raise
        self.log.info("Deleted pod from tainted node", pod=key, node=by_node(pod))
        return None

    def _pod_changed(self, _: str, old: Object | None, new: Object | None) -> None:
        node = self._nodes.get(by_node(new)) if new is not None else None
        if new is None or node is None or not _no_execute(node):
            return
        if old is None or by_node(old) != by_node(new) or old.get("spec") != new.get("spec"):
            self.queue.add(key_of(new))

    def _node_changed(self, _: str, old: Object | None, new: Object | None) -> None:
        before = _no_execute(old) if old is not None else []
        if new is not None and _no_execute(new) != before:
            for pod in self._on.of(new["metadata"]["name"]):
                self.queue.add(key_of(pod))


def _no_execute(node: Mapping[str, Any]) -> list[Object]:
    return [each for each in (node.get("spec") or {}).get("taints") or () if each.get("effect") == "NoExecute"]
