"""Expectations of a cluster without a fabric: what routes by hand make of them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from mininetes.kernel.netstate import Hop, Route
from mininetes.probes.vantage import Vantage
from mininetes.testbed.expectation import Basis, expect

NODES = {"node1": "192.168.1.11", "node2": "192.168.1.12"}
POD1 = Vantage("pod/a", "pod", "node1", "10.244.1.2", "")
POD2 = Vantage("pod/b", "pod", "node2", "10.244.2.2", "")
NODE1 = Vantage("node1", "node", "node1", NODES["node1"], "")
NODE2 = Vantage("node2", "node", "node2", NODES["node2"], "")


def route(destination: str, gateway: str) -> Route:
    return Route(IPv4Network(destination), (Hop("eth0", IPv4Address(gateway)),))


TO2, TO1 = route("10.244.2.0/24", NODES["node2"]), route("10.244.1.0/24", NODES["node1"])


def basis(node1: list[Route], node2: list[Route]) -> Basis:
    return Basis(
        connects_nodes=False,
        hosts={address: name for name, address in NODES.items()},
        routes={"node1": node1, "node2": node2},
    )


CASES = [
    ("no route", [], [], {}),
    ("there only", [TO2], [], {(NODE1, POD2), (POD2, NODE1)}),
    ("both", [TO2], [TO1], {(POD1, POD2), (POD2, POD1), (NODE1, POD2), (POD2, NODE1), (NODE2, POD1), (POD1, NODE2)}),
    ("the wrong gateway", [route("10.244.2.0/24", "192.168.1.1")], [TO1], {(NODE2, POD1), (POD1, NODE2)}),
    ("one pod only", [route("10.244.2.2/32", NODES["node2"])], [TO1],
     {(POD1, POD2), (POD2, POD1), (NODE1, POD2), (POD2, NODE1), (NODE2, POD1), (POD1, NODE2)}),
    ("another pod", [route("10.244.2.9/32", NODES["node2"])], [], {}),
    ("in a circle", [route("10.244.2.0/24", "192.168.1.11")], [], {}),
    ("a longer prefix bends it", [TO2, route("10.244.2.0/25", "192.168.1.1")], [], {}),
    ("a default route is none", [route("0.0.0.0/0", "192.168.1.1")], [route("0.0.0.0/0", "192.168.1.1")], {}),
]  # fmt: skip


@pytest.mark.parametrize(("node1", "node2", "reached"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_pairs_that_routes_by_hand_connect_are_expected(
    node1: list[Route], node2: list[Route], reached: object
) -> None:
    ends = [POD1, POD2, NODE1, NODE2]
    across = [(a, b) for a in ends for b in ends if a.node != b.node and "pod" in (a.kind, b.kind)]
    found = {(a, b) for a, b in across if expect(a, b, basis(node1, node2)).reached}
    assert found == set(reached)  # type: ignore[call-overload]


def test_a_way_over_a_third_node_leads_too() -> None:
    hosts = {"192.168.1.11": "node1", "192.168.1.12": "node2", "192.168.1.13": "node3"}
    routes = {"node1": [route("10.244.2.0/24", "192.168.1.13")], "node3": [TO2], "node2": [TO1]}
    assert expect(POD1, POD2, Basis(False, hosts=hosts, routes=routes)).reached
    assert not expect(POD1, POD2, Basis(False, hosts=hosts, routes={**routes, "node3": []})).reached
