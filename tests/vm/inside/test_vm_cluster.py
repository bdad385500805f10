"""A whole cluster on a kernel that has everything: mode ipvs on every node, over links with delay; and links that lose.

node1 ---- 20 ms ---- s1 ---- 20 ms ---- node2        80 ms for a round trip
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from cluster_api import ClusterApi
from running_lab import RunningLab, fresh_name, is_left, mininetes
from waiting import wait_until

DELAY_MS, LOSS_PERCENT = 20, 2
ROUND_TRIP_MS = 4 * DELAY_MS
SLOWLY_S = 300.0
"""Without KVM all of this is emulated."""

NODE_PORT = 30080
SERVICES = "/api/v1/namespaces/default/services"


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    name = fresh_name("vm")
    shape = ("--set", f"underlay.parameters.delay={DELAY_MS}ms", "--set", f"underlay.parameters.loss={LOSS_PERCENT}")
    cluster = ("--nodes", "2", "--pods", "1", "--proxy", "ipvs", "--underlay", "single_switch", *shape)
    with ExitStack() as undo:
        undo.callback(_end, name)
        done = mininetes("up", "--lab", name, *cluster, "-o", "json", timeout_s=SLOWLY_S)
        assert done.status == 0, done
        yield RunningLab(name, json.loads(done.stdout))


def _end(name: str) -> None:
    if is_left(name):
        done = mininetes("down", name)
        assert done.status == 0, done


@pytest.fixture(scope="module")
def address(lab: RunningLab) -> str:
    """The cluster IP of a NodePort service in front of the ready-made pods, once node2 has it."""
    port = lab.pods["node1-1"]["port"]
    spec = {
        "type": "NodePort",
        "selector": {"app": "responder"},
        "ports": [{"port": 80, "targetPort": port, "nodePort": NODE_PORT}],
    }
    made = ClusterApi(lab).create(SERVICES, {"kind": "Service", "metadata": {"name": "web"}, "spec": spec})
    ip = str(made["spec"]["clusterIP"])
    for node in lab.nodes:
        wait_until(
            lambda node=node: servers(lab, node).count(f" {ip}:80 -r ") == 2,
            f"{node} has both endpoints",
            within_s=60.0,
        )
    return ip


def servers(lab: RunningLab, node: str) -> str:
    """The node's virtual servers and their real ones, as ipvsadm saves them."""
    return lab.exec(node, "ipvsadm", "-Sn")


def connects(lab: RunningLab, place: str, ip: str, port: int) -> bool:
    script = f"exec 3<>/dev/tcp/{ip}/{port}"
    return lab.try_exec(place, "timeout", "10", "bash", "-c", script).status == 0


def round_trips_ms(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"time=([\d.]+) ms", text)]


def test_a_links_delay_is_in_every_ping(lab: RunningLab) -> None:
    times = round_trips_ms(lab.exec("node1", "ping", "-c", "20", "-i", "0.1", lab.address("node2")))
    assert len(times) >= 10
    assert min(times) >= ROUND_TRIP_MS
    assert statistics.median(times) < ROUND_TRIP_MS + 40


def test_a_links_delay_and_loss_are_in_measured_latencies(lab: RunningLab) -> None:
    probed = ("--count", "100", "--interval", "0.02")
    done = mininetes("probe", "latency", "--lab", lab.name, "-o", "json", *probed, timeout_s=SLOWLY_S)
    assert done.status == 1, done
    (row,) = [row for row in json.loads(done.stdout) if (row["group"], row["metric"]) == ("cross node", "rtt_us")]
    assert ROUND_TRIP_MS * 1000 <= row["p50"] <= row["max"]
    assert row["lost"] + row["measured"] == row["sent"] == 200
    # all lost or none, or one in two: less likely than one in a million
    assert 0.01 <= row["loss"] <= 0.3


@pytest.mark.parametrize("node", ["node1", "node2"])
def test_each_node_balances_in_the_kernel_and_says_so(node: str, lab: RunningLab, address: str) -> None:
    found = servers(lab, node)
    assert f"-A -t {address}:80 -s rr" in found
    assert f"-A -t {lab.address(node)}:{NODE_PORT} -s rr" in found
    carried = lab.exec(node, "ip", "-4", "-o", "address", "show", "dev", "kube-ipvs0")
    assert {f"{address}/32", "10.96.0.1/32", "10.96.0.10/32"} <= set(carried.split())
    assert f"{address},tcp:80" in lab.exec(node, "ipset", "list", "KUBE-CLUSTER-IP")
    assert "Using ipvs Proxier" in lab.exec(node, "cat", "/var/log/kube-proxy.log")


@pytest.mark.parametrize("place", ["node1", "node2", "pod/node1-1", "pod/node2-1"])
def test_services_are_reached_from_nodes_and_pods(place: str, lab: RunningLab, address: str) -> None:
    # twice: round robin, so both endpoints, of which one may be the pod itself
    assert connects(lab, place, address, 80)
    assert connects(lab, place, address, 80)
    assert connects(lab, place, "10.96.0.1", 443)
    assert connects(lab, place, lab.address("node2"), NODE_PORT)


def test_a_port_that_no_service_has_is_refused_at_its_address(lab: RunningLab, address: str) -> None:
    assert not connects(lab, "pod/node1-1", address, 81)
