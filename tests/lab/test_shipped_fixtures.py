"""The fixtures of the pytest plugin, used as people use them."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mininetes.testing import Cluster, Probe, Sandbox

CLUSTER = {"nodes": 2, "pods": 2, "outside": {"clients": 1}}
network_alone = pytest.mark.cluster(nodes=3, pods=1, fabric="vxlan", controlPlane={"store": "none"}, name="alone")
_seen: list[str] = []

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: responder, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"""


@network_alone
def test_a_marker_says_which_cluster(cluster: Cluster, probe: Probe) -> None:
    assert cluster.name.startswith("alone-")
    assert cluster.nodes == ["node1", "node2", "node3"]
    assert cluster.pods == ["node1-1", "node2-1", "node3-1"]
    assert "vxlan" in cluster.exec("node1", "ip", "-d", "link", "show", "flannel.1")
    reachability = probe.reachability("udp")
    assert reachability.holds, reachability.message
    assert probe.latency(count=10).of("cross node").p50 > 0
    with pytest.raises(Exception, match=r"controlPlane: \{store: none\}"):
        _ = cluster.kubeconfig
    _seen.append(cluster.name)


@network_alone
def test_tests_that_ask_for_the_same_share_it(cluster: Cluster) -> None:
    assert _seen in ([], [cluster.name])
    _seen[:] = [cluster.name]
    cluster.cut("node2")  # and forgets it


@network_alone
def test_what_the_last_test_cut_is_healed(cluster: Cluster, probe: Probe) -> None:
    assert _seen in ([], [cluster.name])
    cluster.wait_for(lambda: probe.reachability().holds, "everyone reaches everyone")


@pytest.mark.cluster(nodes=3, pods=1, fabric="vxlan", controlPlane={"store": "none"}, name="alone", fresh=True)
def test_a_fresh_one_is_not_shared(cluster: Cluster) -> None:
    assert cluster.name.startswith("alone-")
    assert cluster.name not in _seen


@network_alone
def test_what_does_not_hold_is_false_and_says_why(cluster: Cluster, probe: Probe) -> None:
    cluster.exec("node1", "ip", "route", "flush", "10.244.2.0/24")
    answer = probe.reachability()
    assert not answer
    assert not answer.reached("pod/node1-1", cluster.pod("node2-1"))
    assert answer.reached("pod/node1-1", "node1")
    assert "pod/node1-1 -> pod/node2-1 (10.244.2.2 icmp): expected an answer" in answer.message
    assert "lost" in repr(answer)
    probe.answers.clear()


def test_a_module_says_which_cluster_the_others_get(cluster: Cluster) -> None:
    assert cluster.nodes == ["node1", "node2"]
    pod = cluster.pod("node2-1")
    assert (pod.node, str(pod), pod.address) == ("node2", "pod/node2-1", "10.244.2.2")
    assert pod.exec("hostname").strip() == "node2-1"
    assert cluster.node("client1").address == "203.0.113.2"
    done = cluster.try_exec("node1", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.status, done.stdout, done.stderr) == (7, "out\n", "err\n")
    with pytest.raises(AssertionError, match=r"exit 7 at node1 ended with status 7\nout\nerr"):
        cluster.exec("node1", "sh", "-c", "echo out; echo err >&2; exit 7")
    with pytest.raises(AssertionError, match=r"sleep 60 at pod/node1-1 was not done after 0\.3 s"):
        cluster.exec("pod/node1-1", "sleep", "60", timeout_s=0.3)
    with pytest.raises(Exception, match="one of node1-1, node1-2"):
        cluster.pod("nonsense")


def test_manifests_services_and_waiting(cluster: Cluster, probe: Probe, tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(WEB)
    made = cluster.apply(tmp_path / "web.yaml")
    assert [each["kind"] for each in made] == ["Deployment", "Service"]
    cluster.wait_for("deployment/web")
    cluster.wait_for("service/web")
    cluster.wait_for(lambda: probe.service("web", times=3).holds, "web answers from everywhere")
    answer = probe.service("web", times=40)
    assert answer.holds
    assert (
        set(answer.pods)
        == answer.endpoints
        == {pod["metadata"]["name"] for pod in cluster.objects("pods", labels="app=web")}
    )
    assert set(answer.replies) == {"node1", "node2", "pod/node1-1", "pod/node2-1"}
    assert probe.service("web", source="client1", at="node2").holds
    assert probe.truth_table("web").holds
    cluster.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "idle"}, "spec": {"ports": [{"port": 80}]}}
    )
    idle = probe.service("idle", source="pod/node1-1", times=2)
    assert not idle.holds
    assert "idle has no endpoint that is ready" in idle.message
    probe.answers.clear()
    with pytest.raises(AssertionError, match=r"not within 0\.2 s: service/idle ready: service/idle has no endpoint"):
        cluster.wait_for("service/idle", within_s=0.2)
    cluster.delete("service", "idle")
    with pytest.raises(Exception, match="object 1: apiVersion: a text such as v1"):
        cluster.apply("a: 1\nb: 2\n")


def test_it_works_in_a_loop_and_with_other_clients(cluster: Cluster) -> None:
    async def main() -> dict[str, Any]:
        return cluster.get("node", "node1")

    assert asyncio.run(main())["metadata"]["name"] == "node1"
    environment = {"KUBECONFIG": str(cluster.kubeconfig), "PATH": "/usr/bin:/bin"}
    code = 'grep server: "$KUBECONFIG"'
    done = subprocess.run(["sh", "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "https://127.0.0.1:" in done.stdout


def test_a_lab_without_a_cluster(lab: Sandbox) -> None:
    lab.netns("web", "db")
    lab.exec("ip", "link", "add", "left", "netns", "web", "type", "veth", "peer", "name", "right", "netns", "db")
    assert {link["ifname"] for link in lab.json("ip", "-j", "link", netns="web")} >= {"lo", "left"}
    assert [link["ifname"] for link in lab.json("ip", "-j", "link")] == ["lo"]
    assert not Path("/run/netns/web").exists()
    assert lab.try_exec("false").status == 1
    with pytest.raises(AssertionError, match="ended with status 1"):
        lab.exec("ip", "link", "show", "nonsense")
