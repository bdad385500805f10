"""Where a pod goes: filters, then a ranking, as kube-scheduler's default plugins decide. Pure and deterministic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from mininetes.agents.scheduler.loads import NodeLoad, PodNeeds
from mininetes.agents.scheduler.neighbourhood import NodeTest, node_tests, soft_affinity, soft_skew
from mininetes.agents.scheduler.node_selection import preference, selects, untolerated

UNSCHEDULABLE = "node(s) were unschedulable"
SELECTION = "node(s) didn't match Pod's node affinity/selector"
PORTS = "node(s) didn't have free ports for the requested pod ports"
TOO_MANY = "Too many pods"
NO_NODES = "no nodes available to schedule pods"

_UNSCHEDULABLE_TAINT = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


@dataclass(frozen=True)
class Decision:
    """The node, or (``node`` empty) how many nodes were turned down for which reasons."""

    node: str
    reasons: Mapping[str, int]
    nodes: int
    preemptable: int = 0
    """How many nodes would take the pod were others not there."""

    @property
    def message(self) -> str:
        """The words of the FailedScheduling event."""
        if not self.nodes:
            return NO_NODES
        shown = ", ".join(sorted(f"{count} {reason}" for reason, count in self.reasons.items()))
        helpless = self.nodes - self.preemptable
        why = [f"{helpless} Preemption is not helpful for scheduling"] if helpless else []
        why += [f"{self.preemptable} No preemption victims found for incoming pod"] if self.preemptable else []
        none = f"0/{self.nodes} nodes are available"
        return f"{none}: {shown}. preemption: {none}: {', '.join(sorted(why))}."


def place(pod: Mapping[str, Any], loads: Mapping[str, NodeLoad]) -> Decision:
    """Choose the node of a pod among ``loads``.

    Of the nodes that may take it: those that it prefers, then where fewest pods of its owner are
    (per node, then per zone), then the least loaded one (share of what is requested, then number
    of pods), then the first by name.
    """
    needs = PodNeeds(pod)
    tests = node_tests(needs, loads)
    fitting: list[NodeLoad] = []
    reasons: Counter[str] = Counter()
    preemptable = 0
    for load in loads.values():
        why = _fixed_reason(needs, load)
        if why:
            reasons[why] += 1
            continue
        busy = _busy_reasons(needs, load, tests)
        if busy:
            reasons.update(busy)
            preemptable += 1
        else:
            fitting.append(load)
    if not fitting:
        return Decision("", dict(reasons), len(loads), preemptable)
    return Decision(_best(needs, fitting, loads).name, {}, len(loads))


def _fixed_reason(pod: PodNeeds, load: NodeLoad) -> str:
    """Why the node would not take the pod even if it were empty."""
    if load.unschedulable and untolerated(pod.spec, [_UNSCHEDULABLE_TAINT]) is not None:
        return UNSCHEDULABLE
    named = pod.spec.get("nodeName")
    if named and named != load.name:
        return "node(s) didn't match the requested node name"
    taint = untolerated(pod.spec, load.taints)
    if taint is not None:
        return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value') or ''}}}"
    return "" if selects(pod.spec, load.name, load.labels) else SELECTION


def _busy_reasons(pod: PodNeeds, load: NodeLoad, tests: Iterable[NodeTest]) -> list[str]:
    """Why the node does not take the pod for what runs there and around it; as many reasons as resources lack."""
    if pod.host_ports and any(not pod.host_ports.isdisjoint(other.host_ports) for other in load.pods.values()):
        return [PORTS]
    lacking = [TOO_MANY] if len(load.pods) >= load.room else []
    for name, amount in pod.requests.items():
        offered = load.offered.get(name)
        if offered is None and name in ("cpu", "memory", "ephemeral-storage"):
            continue  # a node that does not say what it has of these is not counted on
        if amount > 0 and amount > (offered or Decimal(0)) - load.used.get(name, Decimal(0)):
            lacking.append(f"Insufficient {name}")
    if lacking:
        return lacking
    first = next(filter(None, (test(load) for test in tests)), "")
    return [first] if first else []


def _best(pod: PodNeeds, fitting: list[NodeLoad], loads: Mapping[str, NodeLoad]) -> NodeLoad:
    if len(fitting) == 1:
        return fitting[0]
    in_zone: Counter[str] = Counter()
    if pod.owner:
        for load in loads.values():
            in_zone[load.zone] += load.owners.get(pod.owner, 0)
    liked, skew = soft_affinity(pod, loads), soft_skew(pod, loads)

    def rank(load: NodeLoad) -> tuple[int, int, int, int, int, Decimal, int, str]:
        return (
            -preference(pod.spec, load.name, load.labels) - liked(load),
            _unwelcoming(pod, load),
            skew(load),
            load.owners.get(pod.owner, 0) if pod.owner else 0,
            in_zone[load.zone] if load.zone else 0,
            _share(load),
            len(load.pods),
            load.name,
        )

    return min(fitting, key=rank)


def _unwelcoming(pod: PodNeeds, load: NodeLoad) -> int:
    """How many of the node's PreferNoSchedule taints the pod does not tolerate."""
    return sum(untolerated(pod.spec, [taint], ("PreferNoSchedule",)) is not None for taint in load.taints)


def _share(load: NodeLoad) -> Decimal:
    """The mean share of CPU and memory that is requested."""
    shares = [
        load.used.get(name, Decimal(0)) / load.offered[name] for name in ("cpu", "memory") if load.offered.get(name)
    ]
    return sum(shares, Decimal(0)) / len(shares) if shares else Decimal(0)
