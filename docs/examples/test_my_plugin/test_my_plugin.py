"""A CNI plugin of one's own, held against what Kubernetes asks of a pod network."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
CLUSTER = {"nodes": 3, "pods": 2, "cni": "my-plugin.conflist", "fabric": "static"}
network_alone = pytest.mark.cluster(**CLUSTER, controlPlane={"store": "none"})


@network_alone
def test_every_pod_and_node_reaches_every_other(probe):
    assert probe.reachability().holds


@network_alone
def test_a_pod_is_seen_at_its_own_address(cluster):
    pod = cluster.pod("node1-1")
    assert f"inet {pod.address}/32" in pod.exec("ip", "-4", "address", "show", "eth0")


def test_a_service_is_answered_by_all_its_pods(cluster, probe):
    cluster.apply(HERE / "web.yaml")
    cluster.wait_for("deployment/web")
    cluster.wait_for(lambda: len(probe.service("web", times=40).pods) == 4, "all four pods answer for web")
    assert probe.service("web").holds
    assert probe.service("web", source="client1", at="node2").holds


def test_all_comes_back_with_a_node_that_was_away(cluster, probe):
    with cluster.cut("node3"):
        assert not probe.reachability().reached("pod/node1-1", "pod/node3-1")
    cluster.wait_for(lambda: probe.reachability().holds, "everyone reaches everyone")


@pytest.mark.cluster(nodes=2, pods=1, cni="my-plugin.conflist", proxy="nftables", fresh=True)
def test_a_deleted_pod_leaves_no_route(cluster):
    address = cluster.pod("node1-1").address
    assert address in cluster.exec("node1", "ip", "route")
    cluster.delete("pod", "node1-1")
    cluster.wait_for(lambda: address not in cluster.exec("node1", "ip", "route"), "the route is gone")
