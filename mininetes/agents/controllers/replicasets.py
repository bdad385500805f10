"""ReplicaSets: as many pods of a template as wanted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mininetes.agents.controllers.controller import Controller, Shared
from mininetes.agents.controllers.indexes import Index, by_namespace
from mininetes.agents.controllers.pod_changes import PodChanges
from mininetes.agents.controllers.pod_sets import availability, claim, first_to_end, pod_from_template
from mininetes.agents.objects import (
    Object,
    controller_of,
    is_active,
    is_deleted,
    key_of,
    labels_of,
    now_time,
    with_condition,
)
from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.selectors import LabelSelector

REPLICASETS = "replicasets.apps"
MOST_AT_ONCE = 500
"""Pods made or ended in one go, as in Kubernetes."""


@dataclass(frozen=True)
class ReplicaPlan:
    """What is to be done for a ReplicaSet, and in how many seconds to look again (None: at the next change)."""

    create: int
    delete: Sequence[Object]
    status: Object
    again_s: float | None


def plan(replicaset: Mapping[str, Any], pods: Iterable[Object], now: float) -> ReplicaPlan:
    """Compare a ReplicaSet with the pods that are its own; ``now`` in seconds since the epoch. Pure."""
    spec = replicaset["spec"]
    active = [pod for pod in pods if is_active(pod)]
    missing = int(spec.get("replicas", 1)) - len(active)
    min_ready_s = float(spec.get("minReadySeconds") or 0)
    ready, available, again_s = availability(active, min_ready_s, now)
    template_labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    labelled = sum(template_labels.items() <= labels_of(pod).items() for pod in active)
    status = {
        "replicas": len(active),
        "fullyLabeledReplicas": labelled,
        "readyReplicas": ready,
        "availableReplicas": available,
        "observedGeneration": int(replicaset["metadata"].get("generation") or 0),
    }
    if is_deleted(replicaset):
        return ReplicaPlan(0, [], status, again_s)
    surplus = first_to_end(active, min(-missing, MOST_AT_ONCE)) if missing < 0 else []
    return ReplicaPlan(min(max(missing, 0), MOST_AT_ONCE), surplus, status, again_s)


class ReplicaSets(Controller):
    """Makes and ends pods of ReplicaSets, and says in their status how many there are."""

    name: ClassVar[str] = "replicaset"
    workers: ClassVar[int] = 8

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._replicasets = self.watch(REPLICASETS)
        pods = shared.informer("pods")
        self._by_namespace = Index(pods, by_namespace)
        self._sets_of = Index(shared.informer(REPLICASETS), by_namespace)
        self.watch_owned("pods", "ReplicaSet")
        pods.on_change(self._orphan)
        self._changes = PodChanges(self, pods.items)

    async def sync(self, key: str) -> float | None:
        """Make one ReplicaSet's pods as many as it wants."""
        replicaset = self._replicasets.get(key)
        if replicaset is None:
            return None
        namespace = replicaset["metadata"]["namespace"]
        pods = self._by_namespace.of(namespace)
        found = await self.compute(len(pods), lambda: claim(replicaset, pods))
        owned = await self._changes.settle(key, replicaset, found)
        wanted = await self.compute(len(owned), lambda: plan(replicaset, owned, time.time()))
        failure: ApiError | None = None
        try:
            template = replicaset["spec"]["template"]
            fresh = [pod_from_template(replicaset, template) for _ in range(wanted.create)]
            await self._changes.create(key, replicaset, fresh)
            await self._changes.delete(key, replicaset, wanted.delete)
        except ApiError as refused:
            failure = refused
        await self._tell(key, replicaset, wanted, failure)
        if failure is not None:
            raise failure
        return wanted.again_s

    async def _tell(self, key: str, replicaset: Object, wanted: ReplicaPlan, failure: ApiError | None) -> None:
        old = replicaset.get("status") or {}
        status = {**old, **wanted.status}
        conditions = [c for c in old.get("conditions") or () if c.get("type") != "ReplicaFailure"]
        if failure is not None:
            reason = "FailedCreate" if wanted.create else "FailedDelete"
            said = {"type": "ReplicaFailure", "status": "True", "reason": reason, "message": failure.message}
            conditions = with_condition(old.get("conditions") or (), said, now_time())
        status["conditions"] = conditions
        if not conditions:
            del status["conditions"]
        if {**dict.fromkeys(wanted.status, 0), **old} != status:
            changed = await self.client.update(REPLICASETS, {**replicaset, "status": status}, subresource="status")
            self.expectations.written(key, self._replicasets, changed)

    def _orphan(self, _: str, old: Object | None, new: Object | None) -> None:
        """A pod that nobody controls may be one that a ReplicaSet takes."""
        if new is None or controller_of(new) is not None or not labels_of(new):
            return
        if old is not None and old is not new and labels_of(old) == labels_of(new) and controller_of(old) is None:
            return
        for replicaset in self._sets_of.of(by_namespace(new)):
            if LabelSelector.of(replicaset["spec"].get("selector")).matches(labels_of(new)):
                self.queue.add(key_of(replicaset))
