"""Where pods go: one table of pods, nodes and what runs there against the node, or the reason why none."""

from __future__ import annotations

from typing import Any

import pytest

from mininetes.agents.quantities import quantity
from mininetes.agents.scheduler.loads import NodeLoad, PodNeeds
from mininetes.agents.scheduler.node_selection import covers
from mininetes.agents.scheduler.placement import place
from mininetes.errors import BadInput

ZONE = "topology.kubernetes.io/zone"
CONTROL_PLANE = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}


def node(
    name: str,
    *,
    labels: dict[str, str] | None = None,
    taints: list[dict[str, Any]] | None = None,
    cordoned: bool = False,
    ready: str = "True",
    **allocatable: str,
) -> dict[str, Any]:
    spec: dict[str, Any] = {"taints": taints or []}
    if cordoned:
        spec["unschedulable"] = True
    status = {"conditions": [{"type": "Ready", "status": ready}], "allocatable": allocatable}
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": spec, "status": status}


def pod(
    name: str = "new", *, on: str = "", owner: str = "", labels: dict[str, str] | None = None, **spec: Any
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": "default", "labels": labels or {}}
    if owner:
        metadata["ownerReferences"] = [{"kind": "ReplicaSet", "name": owner, "uid": owner, "controller": True}]
    spec.setdefault("containers", [{"name": "c"}])
    if on:
        spec["nodeName"] = on
    return {"metadata": metadata, "spec": spec}


def asking(**requests: str) -> list[dict[str, Any]]:
    return [{"name": "c", "resources": {"requests": requests}}]


def required(*expressions: dict[str, Any], **fields: Any) -> dict[str, Any]:
    terms = [{"matchExpressions": list(expressions), **fields}]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def apart(key: str, app: str = "db", kind: str = "podAntiAffinity") -> dict[str, Any]:
    term = {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}}
    return {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def spread(key: str, **more: Any) -> list[dict[str, Any]]:
    wanted = {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule"}
    return [{**wanted, "labelSelector": {"matchLabels": {"app": "db"}}, **more}]


THREE = [node("node1", taints=[CONTROL_PLANE]), node("node2"), node("node3")]
ZONES = [node(f"node{n}", labels={ZONE: zone}) for n, zone in enumerate("aaab", 1)]
DB = {"app": "db"}


def names(cases: list[Any]) -> list[str]:
    return [case[0] for case in cases]


PLACED: list[Any] = [
    ("first by name", pod(), THREE, [], "node2"),
    ("tolerates the control plane", pod(tolerations=[{"operator": "Exists"}]), THREE, [], "node1"),
    ("fewest of its owner first", pod(owner="o"), THREE, [pod("a", on="node2", owner="o")], "node3"),
    (
        "others' pods weigh less than its owner's",
        pod(owner="o"),
        THREE,
        [pod("a", on="node2", owner="o"), pod("b", on="node3"), pod("c", on="node3")],
        "node3",
    ),
    ("least loaded by number", pod(), THREE, [pod("a", on="node2")], "node3"),
    (
        "least loaded by request",
        pod(),
        [node("a", cpu="4"), node("b", cpu="4")],
        [pod("x", on="a", containers=asking(cpu="2")), pod("y", on="b", containers=asking(cpu="1"))],
        "b",
    ),
    ("the emptier zone", pod(owner="o"), ZONES, [pod("x", on="node1", owner="o")], "node4"),
    ("nodeSelector", pod(nodeSelector={"d": "ssd"}), [node("a"), node("b", labels={"d": "ssd"})], [], "b"),
    (
        "affinity In",
        pod(affinity=required({"key": ZONE, "operator": "In", "values": ["b"]})),
        ZONES,
        [],
        "node4",
    ),
    ("affinity NotIn", pod(affinity=required({"key": ZONE, "operator": "NotIn", "values": ["a"]})), ZONES, [], "node4"),
    (
        "affinity Gt",
        pod(affinity=required({"key": "n", "operator": "Gt", "values": ["5"]})),
        [node("a", labels={"n": "5"}), node("b", labels={"n": "6"})],
        [],
        "b",
    ),
    (
        "affinity by name",
        pod(affinity=required(matchFields=[{"key": "metadata.name", "operator": "In", "values": ["node3"]}])),
        THREE,
        [],
        "node3",
    ),
    (
        "preferred affinity",
        pod(
            affinity={
                "nodeAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {
                            "weight": 5,
                            "preference": {"matchExpressions": [{"key": ZONE, "operator": "In", "values": ["b"]}]},
                        }
                    ]
                }
            }
        ),
        ZONES,
        [],
        "node4",
    ),
    (
        "PreferNoSchedule is a wish",
        pod(),
        [node("a", taints=[{"key": "k", "effect": "PreferNoSchedule"}]), node("b")],
        [],
        "b",
    ),
    ("enough left", pod(containers=asking(cpu="500m")), [node("a", cpu="400m"), node("b", cpu="0.5")], [], "b"),
    (
        "anti-affinity per node",
        pod(labels=DB, affinity=apart("kubernetes.io/hostname")),
        THREE,
        [pod("a", on="node2", labels=DB)],
        "node3",
    ),
    ("anti-affinity per zone", pod(affinity=apart(ZONE)), ZONES, [pod("a", on="node2", labels=DB)], "node4"),
    (
        "anti-affinity of one that runs",
        pod(labels={"app": "web"}),
        THREE,
        [pod("a", on="node2", labels=DB, affinity=apart("kubernetes.io/hostname", "web"))],
        "node3",
    ),
    (
        "affinity to a pod",
        pod(affinity=apart("kubernetes.io/hostname", kind="podAffinity")),
        THREE,
        [pod("a", on="node3", labels=DB)],
        "node3",
    ),
    (
        "affinity to its own like, the first of them",
        pod(labels=DB, affinity=apart("kubernetes.io/hostname", kind="podAffinity")),
        THREE,
        [],
        "node2",
    ),
    (
        "spread over zones",
        pod(labels=DB, topologySpreadConstraints=spread(ZONE)),
        ZONES,
        [pod("a", on="node1", labels=DB)],
        "node4",
    ),
    (
        "a spread that is a wish",
        pod(labels=DB, topologySpreadConstraints=spread(ZONE, whenUnsatisfiable="ScheduleAnyway")),
        ZONES,
        [pod("a", on="node1", labels=DB)],
        "node4",
    ),
    (
        "a host port that is free",
        pod(containers=[{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]),
        THREE,
        [pod("a", on="node2", containers=[{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}])],
        "node3",
    ),
]


def loads_of(nodes: list[dict[str, Any]], pods: list[dict[str, Any]] | None = None) -> dict[str, NodeLoad]:
    loads = {node["metadata"]["name"]: NodeLoad(node) for node in nodes}
    for bound in pods or ():
        loads[bound["spec"]["nodeName"]].add(PodNeeds(bound))
    return loads


@pytest.mark.parametrize(("new", "nodes", "pods", "expected"), [case[1:] for case in PLACED], ids=names(PLACED))
def test_a_pod_is_placed(new: Any, nodes: Any, pods: Any, expected: str) -> None:
    decision = place(new, loads_of(nodes, pods))
    assert (decision.node, dict(decision.reasons)) == (expected, {})


NOT_HELPFUL = "Preemption is not helpful for scheduling"
NO_VICTIMS = "No preemption victims found for incoming pod"
REFUSED: list[Any] = [
    ("no nodes", pod(), [], [], "no nodes available to schedule pods"),
    (
        "taints and selectors",
        pod(nodeSelector={"disk": "ssd"}),
        THREE,
        [],
        "0/3 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, "
        "2 node(s) didn't match Pod's node affinity/selector. "
        f"preemption: 0/3 nodes are available: 3 {NOT_HELPFUL}.",
    ),
    (
        "resources",
        pod(containers=asking(cpu="3", memory="2Gi")),
        [node("a", cpu="2", memory="1Gi", pods="110"), node("b", cpu="4", memory="1Gi"), node("c", pods="0")],
        [],
        "0/3 nodes are available: 1 Insufficient cpu, 1 Too many pods, 2 Insufficient memory. "
        f"preemption: 0/3 nodes are available: 3 {NO_VICTIMS}.",
    ),
    (
        "cordoned",
        pod(),
        [node("a", cordoned=True), node("b", taints=[{"key": "k", "value": "v", "effect": "NoExecute"}])],
        [],
        "0/2 nodes are available: 1 node(s) had untolerated taint {k: v}, 1 node(s) were unschedulable. "
        f"preemption: 0/2 nodes are available: 2 {NOT_HELPFUL}.",
    ),
    (
        "not ready, though nobody has tainted it yet",
        pod(),
        [node("a", ready="False")],
        [],
        "0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }. "
        f"preemption: 0/1 nodes are available: 1 {NOT_HELPFUL}.",
    ),
    (
        "anti-affinity and what is needed by others",
        pod(labels=DB, affinity=apart("kubernetes.io/hostname")),
        THREE[1:],
        [pod("a", on="node2", labels=DB), pod("b", on="node3", affinity=apart("kubernetes.io/hostname"))],
        "0/2 nodes are available: 1 node(s) didn't match pod anti-affinity rules, "
        "1 node(s) didn't satisfy existing pods anti-affinity rules. "
        f"preemption: 0/2 nodes are available: 2 {NO_VICTIMS}.",
    ),
    (
        "spread",
        pod(labels=DB, topologySpreadConstraints=spread(ZONE), containers=asking(cpu="1")),
        [node("a", labels={ZONE: "a"}, cpu="4"), node("b", labels={ZONE: "b"}, cpu="0")],
        [pod("p", on="a", labels=DB)],
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match pod topology spread constraints. "
        f"preemption: 0/2 nodes are available: 2 {NO_VICTIMS}.",
    ),
    (
        "spread without the label",
        pod(labels=DB, topologySpreadConstraints=spread(ZONE)),
        [node("a")],
        [],
        "0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label). "
        f"preemption: 0/1 nodes are available: 1 {NO_VICTIMS}.",
    ),
]


@pytest.mark.parametrize(("new", "nodes", "pods", "message"), [case[1:] for case in REFUSED], ids=names(REFUSED))
def test_a_pod_that_fits_nowhere_gets_kubernetes_words(new: Any, nodes: Any, pods: Any, message: str) -> None:
    decision = place(new, loads_of(nodes, pods))
    assert decision.node == ""
    assert decision.message == message


def test_a_spread_constraint_is_kept_pod_by_pod() -> None:
    loads = loads_of(ZONES)
    placed: list[str] = []
    for number in range(6):
        wanted = pod(f"p{number}", labels=DB, topologySpreadConstraints=spread(ZONE))
        placed.append(place(wanted, loads).node)
        loads = loads_of(ZONES, [pod(f"p{n}", on=on, labels=DB) for n, on in enumerate(placed)])
    assert sum(on == "node4" for on in placed) == 3
    assert max(placed.count(f"node{n}") for n in (1, 2, 3)) == 1


TOLERATIONS = [
    ({"operator": "Exists"}, {"key": "a", "effect": "NoSchedule"}, True),
    ({"key": "a", "operator": "Exists"}, {"key": "b", "effect": "NoSchedule"}, False),
    ({"key": "a", "value": "1"}, {"key": "a", "value": "1", "effect": "NoSchedule"}, True),
    ({"key": "a", "operator": "Equal", "value": "1"}, {"key": "a", "value": "2", "effect": "NoSchedule"}, False),
    ({"key": "a", "operator": "Exists", "effect": "NoExecute"}, {"key": "a", "effect": "NoSchedule"}, False),
    ({"operator": "Equal"}, {"key": "a", "effect": "NoSchedule"}, False),
]


@pytest.mark.parametrize(("toleration", "taint", "covered"), TOLERATIONS)
def test_tolerations(toleration: Any, taint: Any, covered: bool) -> None:
    assert covers(toleration, taint) is covered


@pytest.mark.parametrize(
    ("text", "number"),
    [("100m", 0.1), ("2", 2), ("0.5", 0.5), ("128Mi", 128 * 2**20), ("1e3", 1000), ("1Ki", 1024), ("3k", 3000), (4, 4)],
)
def test_quantities(text: Any, number: float) -> None:
    assert float(quantity(text)) == pytest.approx(number)


@pytest.mark.parametrize("text", ["", "many", "1 Gi", "1GiB", "--1", None])
def test_a_quantity_that_is_none_is_refused_by_value(text: Any) -> None:
    with pytest.raises(BadInput, match="a number with a suffix"):
        quantity(text)
