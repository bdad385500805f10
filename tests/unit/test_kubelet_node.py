"""The Node object and its lease."""

from __future__ import annotations

from mininetes.agents.agent import Placement
from mininetes.agents.kubelet.interfaces import KubeletOptions
from mininetes.agents.kubelet.node_status import lease, node_object, node_status

PLACE = Placement("node1", "192.168.1.11", "/proc/1/ns/net", 1)
FIRST, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"


def test_a_worker_has_no_taint_and_a_control_plane_node_has() -> None:
    worker = node_object(PLACE, KubeletOptions(), {})
    assert worker["spec"] == {}
    assert not any("node-role" in label for label in worker["metadata"]["labels"])
    master = node_object(PLACE, KubeletOptions(control_plane=True), {})
    assert master["spec"]["taints"] == [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]
    assert node_object(PLACE, KubeletOptions(control_plane=True, tainted=False), {})["spec"] == {}


def test_conditions_keep_the_time_of_their_last_change() -> None:
    first = node_status(PLACE, KubeletOptions(), "no network", FIRST, [])
    other = {"type": "NetworkUnavailable", "status": "False"}
    second = node_status(PLACE, KubeletOptions(), "", LATER, [*first["conditions"], other])
    found = {each["type"]: each for each in second["conditions"]}
    assert found["Ready"]["status"] == "True"
    assert found["Ready"]["lastTransitionTime"] == LATER
    assert found["MemoryPressure"]["lastTransitionTime"] == FIRST
    assert found["MemoryPressure"]["lastHeartbeatTime"] == LATER
    assert found["NetworkUnavailable"] == other


def test_capacity_can_be_set() -> None:
    status = node_status(PLACE, KubeletOptions(max_pods=7, memory_bytes=1 << 30), "", FIRST, [])
    assert status["capacity"]["pods"] == "7"
    assert status["allocatable"]["memory"] == "1048576Ki"


def test_the_lease_belongs_to_the_node() -> None:
    made = lease(PLACE, KubeletOptions(lease_duration_s=5), "u-1")
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u-1"
    assert made["spec"]["holderIdentity"] == "node1"
    assert made["spec"]["leaseDurationSeconds"] == 5
