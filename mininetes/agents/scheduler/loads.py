"""What the scheduler knows of each node: what it offers and what runs on it. Kept up to date pod by pod."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from mininetes.agents.objects import controller_of, is_true, key_of, labels_of
from mininetes.agents.quantities import quantity
from mininetes.errors import BadInput

HOSTNAME = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"
NOT_READY = "node.kubernetes.io/not-ready"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
DEFAULT_PODS = 110

Pod = Mapping[str, Any]


class PodNeeds:
    """What of a pod matters for placing others: read once from the object, which is not changed."""

    __slots__ = ("guards", "host_ports", "key", "labels", "namespace", "owner", "requests", "spec", "terminating")

    def __init__(self, pod: Pod) -> None:
        self.key = key_of(pod)
        self.namespace = str(pod["metadata"].get("namespace", ""))
        self.labels = labels_of(pod)
        self.spec: Mapping[str, Any] = pod.get("spec") or {}
        self.requests = requests_of(self.spec)
        self.owner = owner_of(pod)
        self.terminating = bool(pod["metadata"].get("deletionTimestamp"))
        self.host_ports = frozenset(host_ports_of(self.spec))
        anti_affinity = (self.spec.get("affinity") or {}).get("podAntiAffinity") or {}
        self.guards: Sequence[Mapping[str, Any]] = anti_affinity.get(REQUIRED) or ()


class NodeLoad:
    """One node with the pods on it."""

    def __init__(self, node: Mapping[str, Any]) -> None:
        self.pods: dict[str, PodNeeds] = {}
        self.guarded: dict[str, PodNeeds] = {}
        """Those of the pods that do not want some others near them."""
        self.used: dict[str, Decimal] = {}
        self.owners: dict[str, int] = {}
        self.update(node)

    def update(self, node: Mapping[str, Any]) -> None:
        """Take the node's object over as it is now; the pods stay."""
        self.node = node
        self.name = str(node["metadata"]["name"])
        self.labels = {HOSTNAME: self.name, **labels_of(node)}
        self.zone = self.labels.get(ZONE, "")
        spec = node.get("spec") or {}
        self.unschedulable = bool(spec.get("unschedulable"))
        self.taints: list[Mapping[str, Any]] = list(spec.get("taints") or ())
        ready = is_true(node, "Ready")
        if not ready and not any(str(t.get("key")).startswith("node.kubernetes.io/") for t in self.taints):
            # The node lifecycle controller is about to say so too; until then nothing is to be put there.
            self.taints.append({"key": NOT_READY, "effect": "NoSchedule"})
        status = node.get("status") or {}
        offered = status.get("allocatable") or status.get("capacity") or {}
        self.offered = {name: _amount(value) for name, value in offered.items()}
        self.room = int(self.offered.pop("pods", Decimal(DEFAULT_PODS)))

    def add(self, pod: PodNeeds) -> None:
        """A pod runs (or is about to run) here, in place of what was known of it."""
        self.remove(pod.key)
        self.pods[pod.key] = pod
        if pod.guards:
            self.guarded[pod.key] = pod
        self._count(pod, 1)

    def remove(self, key: str) -> None:
        """A pod no longer runs here. Does nothing when it did not."""
        pod = self.pods.pop(key, None)
        if pod is not None:
            self.guarded.pop(key, None)
            self._count(pod, -1)

    def _count(self, pod: PodNeeds, sign: int) -> None:
        for name, amount in pod.requests.items():
            self.used[name] = self.used.get(name, Decimal(0)) + sign * amount
        if pod.owner:
            self.owners[pod.owner] = self.owners.get(pod.owner, 0) + sign


def requests_of(spec: Mapping[str, Any]) -> dict[str, Decimal]:
    """What a pod asks for: its containers' sum, or more where an init container alone asks for more; plus overhead."""
    total: dict[str, Decimal] = {}
    for container in spec.get("containers") or ():
        for name, amount in _requested(container).items():
            total[name] = total.get(name, Decimal(0)) + amount
    for container in spec.get("initContainers") or ():
        for name, amount in _requested(container).items():
            total[name] = max(total.get(name, Decimal(0)), amount)
    for name, value in (spec.get("overhead") or {}).items():
        total[name] = total.get(name, Decimal(0)) + _amount(value)
    return total


def owner_of(pod: Pod) -> str:
    """What counts as the same set of pods: the controller's uid, or (without one) nothing."""
    owner = controller_of(pod)
    return str(owner.get("uid") or f"{owner.get('kind')}/{owner.get('name')}") if owner is not None else ""


def host_ports_of(spec: Mapping[str, Any]) -> Iterable[tuple[str, int]]:
    """The (protocol, port) of the node that a pod takes; on the host's network all ports it declares."""
    for container in spec.get("containers") or ():
        for port in container.get("ports") or ():
            taken = port.get("hostPort") or (port.get("containerPort") if spec.get("hostNetwork") else 0)
            if taken:
                yield (port.get("protocol") or "TCP", int(taken))


def _requested(container: Mapping[str, Any]) -> dict[str, Decimal]:
    resources = container.get("resources") or {}
    asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: _amount(value) for name, value in asked.items()}


def _amount(value: Any) -> Decimal:
    try:
        return quantity(value)
    except BadInput:
        return Decimal(0)  # the API server refuses such; a node's own report may still be odd
