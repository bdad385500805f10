"""Permanent neighbour entries for large matrices: who is on whose network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mininetes.agents.kubelet import RunningPod
from mininetes.errors import MininetesError
from mininetes.spec import describe
from mininetes.testbed.blueprint import draw
from mininetes.testbed.neighbours import number, permanent_entries


def pod(node: str, number: int, address: str, gateway: str, **result: Any) -> RunningPod:
    made = {
        "interfaces": [
            {"name": "cni0", "mac": f"br:{node}"},
            {"name": "veth1", "mac": "aa"},
            {"name": "eth0", "mac": f"mac:{node}:{number}", "sandbox": "/x"},
        ],
        "ips": [{"address": f"{address}/24", "gateway": gateway}],
    }
    return RunningPod("default", f"{node}-{number}", "", node, address, "/x", None, (), False, True, {**made, **result})


VIEW = draw(describe({"outside": {"clients": 0}})).view
PODS = [
    pod("node1", 1, "10.1.0.2", "10.1.0.1"),
    pod("node1", 2, "10.1.0.3", "10.1.0.1"),
    pod("node2", 1, "10.1.1.2", "10.1.1.1"),
]


def of_pods(lines: list[str]) -> list[str]:
    return sorted(line.removesuffix(" dev eth0").removesuffix(" dev cni0") for line in lines if "10.1." in line)


def entry(address: str, mac: str) -> str:
    return f"neigh replace {address} lladdr {mac} nud permanent"


def test_where_nodes_have_subnets_pods_know_their_own_node_alone() -> None:
    found = permanent_entries(VIEW, PODS)
    assert of_pods(found["pod/node1-1"]) == [entry("10.1.0.1", "br:node1"), entry("10.1.0.3", "mac:node1:2")]
    assert of_pods(found["pod/node2-1"]) == [entry("10.1.1.1", "br:node2")]
    assert of_pods(found["node1"]) == [entry("10.1.0.2", "mac:node1:1"), entry("10.1.0.3", "mac:node1:2")]
    assert any("192.168.1.12 lladdr 02:00:c0:a8:01:0c" in line for line in found["node1"])
    assert of_pods(found["node3"]) == []


def test_on_one_network_pods_and_bridges_know_all_pods_and_bridges() -> None:
    found = permanent_entries(VIEW, PODS, flat=True)
    bridges = [entry("10.1.0.1", "br:node1"), entry("10.1.1.1", "br:node2")]
    pods = [entry("10.1.0.2", "mac:node1:1"), entry("10.1.0.3", "mac:node1:2"), entry("10.1.1.2", "mac:node2:1")]
    assert of_pods(found["pod/node1-1"]) == sorted([*bridges, *pods[1:]])
    assert of_pods(found["node2"]) == sorted([bridges[0], *pods])


def test_a_result_that_does_not_say_enough_is_refused() -> None:
    with pytest.raises(MininetesError, match=r"node1-9.*no MACs"):
        permanent_entries(VIEW, [pod("node1", 9, "10.1.0.9", "10.1.0.1", interfaces=[])])
    with pytest.raises(MininetesError, match=r"node1-9.*no gateway"):
        permanent_entries(VIEW, [pod("node1", 9, "10.1.0.9", "10.1.0.1", ips=[{"address": "10.1.0.9/24"}])])


@pytest.mark.parametrize("flat", [False, True])
def test_how_many_there_would_be_is_known_without_macs(flat: bool) -> None:
    entries = permanent_entries(VIEW, PODS, flat=flat)
    silent = [replace(each, result={}) for each in PODS]
    assert number(VIEW, silent, flat=flat) == sum(len(each) for each in entries.values())
