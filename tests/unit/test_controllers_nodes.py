"""Nodes, load balancers, garbage and the furniture of namespaces: what is decided, as tables."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from mininetes.agents.controllers.load_balancers import NoAddress, addresses_of, choose_address, is_ours
from mininetes.agents.controllers.namespace_furniture import default_account, root_ca
from mininetes.agents.controllers.node_conditions import heartbeat_of, ready_status, silent_conditions, tainted
from mininetes.agents.controllers.node_subnets import subnet_for, subnets_of
from mininetes.agents.controllers.ownership import Member, OwnershipGraph, Verdict, judge
from mininetes.agents.controllers.pod_garbage import is_garbage
from mininetes.agents.controllers.settings import ControllerSettings
from mininetes.agents.controllers.taint_eviction import eviction_due
from mininetes.agents.objects import MIRROR, rfc3339, with_condition

NOW = 1_700_000_000.0
NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"

# Subnets

PLAN = {"node1": IPv4Network("10.244.1.0/24"), "node2": IPv4Network("10.244.2.0/24")}
SUBNETS = [
    ("node2", PLAN, [], "10.244.2.0/24"),
    ("other", PLAN, [], "10.244.3.0/24"),
    ("other", PLAN, ["10.244.3.0/24"], "10.244.4.0/24"),
    ("other", {}, [], "10.244.1.0/24"),
    ("other", {}, ["10.244.0.0/22"], "10.244.4.0/24"),
    ("other", {}, [f"10.244.{n}.0/24" for n in range(1, 256)], None),
]


@pytest.mark.parametrize(("name", "plan", "taken", "subnet"), SUBNETS)
def test_a_node_gets_its_planned_subnet_or_the_next_free_one(name: str, plan: Any, taken: Any, subnet: Any) -> None:
    found = subnet_for(name, ControllerSettings(pod_subnets=plan), map(IPv4Network, taken))
    assert found == (None if subnet is None else IPv4Network(subnet))


def test_only_the_ipv4_subnets_of_a_node_count() -> None:
    spec = {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00::/64"]}
    assert subnets_of({"spec": spec}) == [IPv4Network("10.244.1.0/24")]


# Conditions and taints


def node(*conditions: tuple[str, str], taints: Any = (), **spec: Any) -> dict[str, Any]:
    said = [{"type": kind, "status": status, "lastHeartbeatTime": "t1"} for kind, status in conditions]
    return {"metadata": {"name": "n"}, "spec": {"taints": list(taints), **spec}, "status": {"conditions": said}}


def test_a_silent_node_becomes_unknown_once() -> None:
    changed = silent_conditions(node(("Ready", "True"), ("MemoryPressure", "False"), ("Mine", "True")), "now")
    assert changed is not None
    found = {each["type"]: each for each in changed}
    assert found["Ready"] == {
        "type": "Ready",
        "status": "Unknown",
        "reason": "NodeStatusUnknown",
        "message": "Kubelet stopped posting node status.",
        "lastHeartbeatTime": "t1",
        "lastTransitionTime": "now",
    }
    assert found["MemoryPressure"]["status"] == "Unknown"
    assert found["Mine"]["status"] == "True"
    assert found["DiskPressure"]["reason"] == "NodeStatusNeverUpdated"
    assert silent_conditions({**node(), "status": {"conditions": changed}}, "later") is None


TAINTS = [
    (node(("Ready", "True")), []),
    (node(("Ready", "False")), [(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
    (node(("Ready", "Unknown")), [(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
    (node(), [(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
    (node(("Ready", "True"), unschedulable=True), [("node.kubernetes.io/unschedulable", "NoSchedule")]),
    (node(("Ready", "True"), ("DiskPressure", "True")), [("node.kubernetes.io/disk-pressure", "NoSchedule")]),
    (
        node(
            ("Ready", "True"),
            taints=[{"key": "mine", "effect": "NoExecute"}, {"key": NOT_READY, "effect": "NoExecute"}],
        ),
        [("mine", "NoExecute")],
    ),
    (
        node(("Ready", "False"), taints=[{"key": UNREACHABLE, "effect": "NoExecute", "timeAdded": "t"}]),
        [(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")],
    ),
]


@pytest.mark.parametrize(("wanted", "expected"), TAINTS)
def test_taints_follow_conditions(wanted: Any, expected: list[Any]) -> None:
    assert [(each["key"], each["effect"]) for each in tainted(wanted, "now")] == expected


def test_a_taint_that_stays_keeps_its_time() -> None:
    first = tainted(node(("Ready", "Unknown")), "t1")
    again = tainted(node(("Ready", "Unknown"), taints=first), "t2")
    assert again == first
    assert {each["timeAdded"] for each in again} == {"t1"}


def test_signs_of_life_are_the_lease_and_the_posted_status() -> None:
    lease = {"spec": {"renewTime": "r1"}}
    assert heartbeat_of(node(("Ready", "True")), lease) == ("t1", "r1")
    assert heartbeat_of(node(("Ready", "True"), taints=[{"key": "k", "effect": "e"}]), lease) == ("t1", "r1")
    assert heartbeat_of(node(), None) == (None, None)
    assert ready_status(node()) == "Unknown"


# Eviction


def tolerating(*tolerations: dict[str, Any], **annotations: str) -> dict[str, Any]:
    return {"metadata": {"name": "p", "annotations": annotations}, "spec": {"tolerations": list(tolerations)}}


SINCE_10 = {"key": UNREACHABLE, "effect": "NoExecute", "timeAdded": rfc3339(NOW - 10)}
OWN = {"key": "mine", "effect": "NoExecute", "timeAdded": rfc3339(NOW - 10)}
BRIEF = {"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}
EVICTIONS = [
    (tolerating(), [SINCE_10], 290.0),
    (tolerating(BRIEF), [SINCE_10], 20.0),
    (tolerating({**BRIEF, "tolerationSeconds": 5}), [SINCE_10], 0.0),
    (tolerating({"operator": "Exists"}), [SINCE_10], None),
    (tolerating(BRIEF, {**BRIEF, "tolerationSeconds": 12}), [SINCE_10], 2.0),
    (tolerating(BRIEF), [OWN], 0.0),
    (tolerating(), [{**SINCE_10, "effect": "NoSchedule"}], None),
    (tolerating(BRIEF), [], None),
    (tolerating(**{MIRROR: "x"}), [SINCE_10, OWN], None),
]


@pytest.mark.parametrize(("pod", "taints", "due"), EVICTIONS)
def test_when_a_pod_leaves_a_tainted_node(pod: Any, taints: Any, due: float | None) -> None:
    assert eviction_due(pod, taints, default_s=300.0, now=NOW) == (None if due is None else pytest.approx(due))


GARBAGE = [
    ({"spec": {"nodeName": "here"}}, False),
    ({"spec": {"nodeName": "gone"}}, True),
    ({"spec": {}}, False),
    ({"spec": {}, "metadata": {"deletionTimestamp": "x"}}, True),
    ({"spec": {"nodeName": "here"}, "metadata": {"deletionTimestamp": "x"}}, False),
]


@pytest.mark.parametrize(("pod", "expected"), GARBAGE)
def test_pods_that_nobody_will_end(pod: Any, expected: bool) -> None:
    assert is_garbage({"metadata": {}, **pod}, {"here"}.__contains__) is expected


# Load balancers

POOL = IPv4Network("198.51.100.0/29")
ADDRESSES = [
    ("", [], "198.51.100.1"),
    ("", ["198.51.100.1", "198.51.100.2"], "198.51.100.3"),
    ("198.51.100.6", [], "198.51.100.6"),
]


@pytest.mark.parametrize(("wanted", "taken", "address"), ADDRESSES)
def test_addresses_of_the_pool(wanted: str, taken: list[str], address: str) -> None:
    assert str(choose_address(wanted, POOL, map(IPv4Address, taken))) == address


NO_ADDRESSES = [
    ("198.51.100.3", ["198.51.100.3"], "198.51.100.3 belongs to another service"),
    ("203.0.113.1", [], "203.0.113.1 is outside of the pool 198.51.100.0/29"),
    ("one", [], "'one' is no IPv4 address"),
    ("", [f"198.51.100.{n}" for n in range(1, 7)], "the pool 198.51.100.0/29 has no address left"),
]


@pytest.mark.parametrize(("wanted", "taken", "why"), NO_ADDRESSES)
def test_no_address_says_why(wanted: str, taken: list[str], why: str) -> None:
    with pytest.raises(NoAddress, match=why):
        choose_address(wanted, POOL, map(IPv4Address, taken))


def test_services_of_another_class_are_left_to_it() -> None:
    assert is_ours({"metadata": {}, "spec": {"type": "LoadBalancer"}})
    assert not is_ours({"metadata": {}, "spec": {"type": "LoadBalancer", "loadBalancerClass": "x/y"}})
    assert not is_ours({"metadata": {"deletionTimestamp": "x"}, "spec": {"type": "LoadBalancer"}})
    assert not is_ours({"metadata": {}, "spec": {"type": "NodePort"}})
    assert addresses_of({"status": {"loadBalancer": {"ingress": [{"hostname": "x"}, {"ip": "192.0.2.1"}]}}}) == [
        IPv4Address("192.0.2.1")
    ]


# Ownership


def owned(*owners: str, uid: str = "me", **metadata: Any) -> dict[str, Any]:
    references = [{"uid": owner, "kind": "X", "name": owner, "blockOwnerDeletion": True} for owner in owners]
    return {"metadata": {"name": uid, "uid": uid, "ownerReferences": references, **metadata}}


VERDICTS = [
    (owned(), {}, False, Verdict()),
    (owned("a"), {"a": "solid"}, False, Verdict()),
    (owned("a"), {"a": "absent"}, False, Verdict(delete=True)),
    (owned("a", "b"), {"a": "absent", "b": "solid"}, False, Verdict(forget=["a"])),
    (owned("a", "b"), {"a": "waiting", "b": "solid"}, False, Verdict(forget=["a"])),
    (owned("a", "b"), {"a": "absent", "b": "absent"}, False, Verdict(delete=True)),
    (owned("a"), {"a": "waiting"}, False, Verdict(delete=True)),
    (owned("a"), {"a": "waiting"}, True, Verdict(delete=True, policy="Foreground")),
    (owned("a"), {"a": "absent"}, True, Verdict(delete=True)),
    (owned("a", finalizers=["orphan"]), {"a": "absent"}, True, Verdict(delete=True, policy="Orphan")),
    (owned("a", deletionTimestamp="x"), {"a": "absent"}, False, Verdict()),
]


@pytest.mark.parametrize(("obj", "states", "has_dependents", "verdict"), VERDICTS)
def test_what_becomes_of_an_object_by_its_owners(obj: Any, states: Any, has_dependents: bool, verdict: Verdict) -> None:
    assert judge(obj, lambda each: states[each["uid"]], has_dependents=has_dependents) == verdict


def test_the_graph_knows_dependents_before_and_after_their_owners() -> None:
    graph = OwnershipGraph()
    child = owned("parent", uid="child")
    graph.put(Member("pods", "default/child", child))
    assert [each.key for each in graph.dependents("parent")] == ["default/child"]
    assert [each.key for each in graph.blocking("parent")] == ["default/child"]
    graph.put(Member("replicasets.apps", "default/parent", owned(uid="parent")))
    child["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] = False
    graph.put(Member("pods", "default/child", child))
    assert graph.blocking("parent") == []
    graph.put(Member("pods", "default/child", owned(uid="child")))
    assert graph.dependents("parent") == []
    graph.remove("child")
    graph.remove("child")
    assert graph.get("child") is None
    assert vars(graph)["_dependents"] == {}


def test_furniture() -> None:
    assert root_ca("team", "PEM")["data"] == {"ca.crt": "PEM"}
    assert root_ca("team", "PEM")["metadata"]["namespace"] == "team"
    assert default_account("team")["metadata"] == {"name": "default", "namespace": "team"}


def test_conditions_keep_the_time_of_their_last_transition() -> None:
    first = with_condition([], {"type": "A", "status": "True", "reason": "x", "message": ""}, "t1")
    same = with_condition(first, {"type": "A", "status": "True", "reason": "y", "message": ""}, "t2")
    other = with_condition(same, {"type": "A", "status": "False", "reason": "y", "message": ""}, "t3")
    assert [each[0]["lastTransitionTime"] for each in (first, same, other)] == ["t1", "t1", "t3"]
    assert with_condition(other, {"type": "A", "status": "False", "reason": "y", "message": ""}, "t4") == other
