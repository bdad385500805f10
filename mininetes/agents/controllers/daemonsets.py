"""DaemonSets: one pod on each node that fits."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from mininetes.agents.controllers.controller import Controller, Shared
from mininetes.agents.controllers.indexes import Index, by_namespace
from mininetes.agents.controllers.pod_changes import PodChanges
from mininetes.agents.controllers.pod_sets import availability, claim, pod_from_template, template_hash
from mininetes.agents.objects import (
    MIRROR,
    Object,
    annotations_of,
    is_active,
    is_deleted,
    is_finished,
    is_true,
    key_of,
    labels_of,
    parse_time,
)
from mininetes.agents.scheduler.loads import HOSTNAME
from mininetes.agents.scheduler.node_selection import selects, untolerated
from mininetes.apiserver.selectors import LabelSelector

DAEMONSETS = "daemonsets.apps"
HASH = "controller-revision-hash"
KUBELETS_OWN = "mininetes.io/pods-from"
"""Annotation of a DaemonSet, value "kubelet": its pods are shown by the kubelets, none is made or ended for it."""

_EVERYWHERE = tuple(
    {"key": f"node.kubernetes.io/{name}", "operator": "Exists", "effect": effect}
    for name, effect in (
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    )
)
_ON_HOST_NETWORK = {"key": "node.kubernetes.io/network-unavailable", "operator": "Exists", "effect": "NoSchedule"}


@dataclass(frozen=True)
class DaemonPlan:
    """On which nodes to make pods, which pods to end, what to say, and in how many seconds to look again."""

    create: list[str] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    status: Object = field(default_factory=dict)
    again_s: float | None = None


def plan(daemonset: Mapping[str, Any], nodes: Iterable[Object], pods: Iterable[Object], now: float) -> DaemonPlan:
    """Compare a DaemonSet with the pods that are its own; ``now`` in seconds since the epoch. Pure."""
    spec = daemonset["spec"]
    hashed = template_hash(spec["template"])
    on: dict[str, list[Object]] = {}
    for pod in pods:
        on.setdefault(_meant_for(pod), []).append(pod)
    fitting = {name: _fits(daemonset, node) for node in nodes for name in [node["metadata"]["name"]]}
    create: list[str] = []
    delete: list[Object] = []
    kept: list[Object] = []
    misplaced = 0
    for name, fit in fitting.items():
        there = on.pop(name, [])
        active = sorted(filter(is_active, there), key=_worth, reverse=True)
        delete += [pod for pod in there if is_finished(pod) and not is_deleted(pod)]
        if not fit.run and active:
            misplaced += 1
        if not (fit.run or (fit.stay and active)):
            delete += active
            continue
        if active:
            delete += active[1:]
            if fit.run:
                kept.append(active[0])
        elif fit.run and not any(map(is_deleted, there)):
            create.append(name)
    delete += [pod for there in on.values() for pod in there if not is_deleted(pod)]
    wanted = sum(fit.run for fit in fitting.values())
    delete += _outdated(daemonset, kept, hashed, wanted)
    status, again_s = _status(daemonset, kept, hashed, wanted, misplaced, now)
    if is_deleted(daemonset) or annotations_of(daemonset).get(KUBELETS_OWN) == "kubelet":
        return DaemonPlan(status=status, again_s=again_s)
    return DaemonPlan(create, delete, status, again_s)


def daemon_pod(daemonset: Mapping[str, Any], node: str) -> Object:
    """The daemon's pod for a node: bound to it by affinity, tolerant of what its node may suffer from."""
    pod = pod_from_template(daemonset, daemonset["spec"]["template"])
    pod["metadata"].setdefault("labels", {})[HASH] = template_hash(daemonset["spec"]["template"])
    spec = pod["spec"]
    spec["tolerations"] = _tolerations(spec)
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]
    affinity = spec["affinity"] = copy.deepcopy(spec.get("affinity") or {})
    affinity["nodeAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return pod


@dataclass(frozen=True)
class _Fit:
    """Whether a pod of the daemon is to be made on a node, and whether one that is there may stay."""

    run: bool
    stay: bool


def _fits(daemonset: Mapping[str, Any], node: Mapping[str, Any]) -> _Fit:
    spec = daemonset["spec"]["template"].get("spec") or {}
    name = node["metadata"]["name"]
    if spec.get("nodeName") not in (None, "", name) or is_deleted(node):
        return _Fit(False, False)
    if not selects(spec, name, {HOSTNAME: name, **labels_of(node)}):
        return _Fit(False, False)
    tolerant = {"tolerations": _tolerations(spec)}
    taints = (node.get("spec") or {}).get("taints") or []
    if untolerated(tolerant, taints, ("NoExecute",)) is not None:
        return _Fit(False, False)
    return _Fit(untolerated(tolerant, taints, ("NoSchedule",)) is None, True)


def _tolerations(spec: Mapping[str, Any]) -> list[Object]:
    own = list(spec.get("tolerations") or ())
    more = [*_EVERYWHERE, *([_ON_HOST_NETWORK] if spec.get("hostNetwork") else [])]
    return [*own, *(dict(each) for each in more if each not in own)]


def _meant_for(pod: Mapping[str, Any]) -> str:
    """The node a daemon's pod is on, or (not bound yet) is to be bound to."""
    spec = pod.get("spec") or {}
    if spec.get("nodeName"):
        return str(spec["nodeName"])
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for each in term.get("matchFields") or ():
            if each.get("key") == "metadata.name" and each.get("values"):
                return str(each["values"][0])
    return ""


def _worth(pod: Mapping[str, Any]) -> tuple[bool, bool, float, str]:
    """Of several pods on a node the ready, bound, oldest one is kept."""
    age = -parse_time(str(pod["metadata"].get("creationTimestamp") or ""))
    return is_true(pod, "Ready"), bool((pod.get("spec") or {}).get("nodeName")), age, pod["metadata"]["name"]


def _outdated(daemonset: Mapping[str, Any], pods: Sequence[Object], hashed: str, wanted: int) -> list[Object]:
    """Pods of an older template that may be ended now: as many as maxUnavailable leaves, those not ready at once."""
    strategy = daemonset["spec"].get("updateStrategy") or {}
    if strategy.get("type", "RollingUpdate") != "RollingUpdate":
        return []
    old = [pod for pod in pods if HASH in labels_of(pod) and labels_of(pod)[HASH] != hashed]
    most = str((strategy.get("rollingUpdate") or {}).get("maxUnavailable", 1))
    room = -(-int(most[:-1]) * wanted // 100) if most.endswith("%") else int(most)
    room = max(room, 1) - (wanted - sum(is_true(pod, "Ready") for pod in pods))
    unready = [pod for pod in old if not is_true(pod, "Ready")]
    ready = sorted((pod for pod in old if is_true(pod, "Ready")), key=key_of)
    return [*unready, *ready[: max(0, room)]]


def _status(
    daemonset: Mapping[str, Any], pods: Sequence[Object], hashed: str, wanted: int, misplaced: int, now: float
) -> tuple[Object, float | None]:
    ready, available, again_s = availability(pods, float(daemonset["spec"].get("minReadySeconds") or 0), now)
    # Pods that a kubelet shows have no hash: they are always of the one template there is.
    updated = sum(labels_of(pod).get(HASH, hashed) == hashed for pod in pods)
    status = {
        "currentNumberScheduled": len(pods),
        "desiredNumberScheduled": wanted,
        "numberMisscheduled": misplaced,
        "numberReady": ready,
        "updatedNumberScheduled": updated,
        "numberAvailable": available,
        "numberUnavailable": max(0, wanted - available),
        "observedGeneration": int(daemonset["metadata"].get("generation") or 0),
    }
    return status, again_s


class DaemonSets(Controller):
    """Makes and ends pods of DaemonSets as nodes come, go and change."""

    name: ClassVar[str] = "daemonset"

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._daemonsets = self.watch(DAEMONSETS)
        pods = shared.informer("pods")
        self._nodes = shared.informer("nodes").items
        self._pods = Index(pods, by_namespace)
        self.watch_owned("pods", "DaemonSet")
        pods.on_change(self._mirrored)
        shared.informer("nodes").on_change(self._node_changed)
        self._changes = PodChanges(self, pods.items)

    async def sync(self, key: str) -> float | None:
        """Make one DaemonSet's pods what its nodes ask for."""
        daemonset = self._daemonsets.get(key)
        if daemonset is None:
            return None
        candidates = list(self._pods.of(daemonset["metadata"]["namespace"]))
        mirrored = [pod for pod in candidates if _is_shown_for(pod, daemonset)]
        shown = {key_of(pod) for pod in mirrored}
        found = claim(daemonset, [pod for pod in candidates if key_of(pod) not in shown])
        owned = [*await self._changes.settle(key, daemonset, found), *mirrored]
        wanted = plan(daemonset, list(self._nodes.values()), owned, time.time())
        await self._changes.delete(key, daemonset, wanted.delete)
        await self._changes.create(key, daemonset, [daemon_pod(daemonset, node) for node in wanted.create])
        old = daemonset.get("status") or {}
        if {**old, **wanted.status} != old:
            status = {**old, **wanted.status}
            changed = await self.client.update(DAEMONSETS, {**daemonset, "status": status}, subresource="status")
            self.expectations.written(key, self._daemonsets, changed)
        return wanted.again_s

    def _node_changed(self, _: str, old: Object | None, new: Object | None) -> None:
        if old is None or new is None or _placing(old) != _placing(new):
            for key in self._daemonsets:
                self.queue.add(key)

    def _mirrored(self, _: str, old: Object | None, new: Object | None) -> None:
        pod = new or old
        if pod is None or MIRROR not in annotations_of(pod):
            return
        for key, daemonset in self._daemonsets.items():
            if _is_shown_for(pod, daemonset):
                self.queue.add(key)


def _is_shown_for(pod: Mapping[str, Any], daemonset: Mapping[str, Any]) -> bool:
    """Whether a pod is a kubelet's own, shown as one of a DaemonSet that leaves its pods to the kubelets."""
    return (
        annotations_of(daemonset).get(KUBELETS_OWN) == "kubelet"
        and MIRROR in annotations_of(pod)
        and by_namespace(pod) == by_namespace(daemonset)
        and LabelSelector.of(daemonset["spec"].get("selector")).matches(labels_of(pod))
    )


def _placing(node: Mapping[str, Any]) -> tuple[Any, ...]:
    return (node.get("spec") or {}).get("taints"), labels_of(node), is_deleted(node)
