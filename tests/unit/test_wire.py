"""Whom pods reach whose links are on the nodes' own wire, as their CNI configuration declares it.

The matrices are those that packets had on live clusters, of macvlan; in modes of ipvlan the kernel has the same rules.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mininetes.probes.vantage import Vantage
from mininetes.spec import describe
from mininetes.testbed.blueprint import draw
from mininetes.testbed.expectation import Basis, expect

ONE_RANGE = {"subnet": "$POD_NETWORK", "rangeStart": "$POD_FIRST", "rangeEnd": "$POD_LAST"}


def conflist(folder: Path, kind: str = "bash-macvlan", ranges: Any = ONE_RANGE, **more: Any) -> str:
    ipam = {"type": "bash-host-local", "ranges": [[ranges]]} if ranges else {"type": "dhcp"}
    plugin = {"type": kind, "master": "eth0", "ipam": ipam, **more}
    path = folder / "wire.conflist"
    path.write_text(json.dumps({"cniVersion": "0.4.0", "name": "wire", "plugins": [plugin]}))
    return str(path)


def ends(addresses: dict[str, str], prefix: str = "10.244") -> list[Vantage]:
    """The nodes, and two pods on each of the first two."""
    found = [Vantage(name, "node", name, address, "") for name, address in addresses.items()]
    for number, node in enumerate(addresses, start=1):
        for last in (2, 3):
            found.append(Vantage(f"{node}-{last}", "pod", node, f"{prefix}.{number}.{last}", ""))
    return found


NODES = {"node1": "192.168.1.11", "node2": "192.168.1.12"}
PODS_ALL = {("pod", "pod", True), ("pod", "pod", False)}


def reached(cni: str, places: list[Vantage], *, connects: bool = True, **spec: Any) -> set[tuple[str, str, bool]]:
    """Which kinds of pairs are expected: from, to, and whether on one node; nodes among themselves left out."""
    count = len({each.node for each in places})
    wire = draw(describe({"nodes": {"controlPlane": 1, "workers": count - 1}, "cni": cni, **spec})).wire()
    assert wire is not None
    basis = Basis(connects_nodes=connects, wire=wire)
    pairs = [(a, b) for a in places for b in places if a is not b and "pod" in (a.kind, b.kind)]
    kinds: dict[tuple[str, str, bool], set[bool]] = {}
    for a, b in pairs:
        kinds.setdefault((a.kind, b.kind, a.node == b.node), set()).add(expect(a, b, basis).reached)
    assert all(len(found) == 1 for found in kinds.values())
    return {kind for kind, found in kinds.items() if found == {True}}


@pytest.mark.parametrize("connects", [True, False])
@pytest.mark.parametrize("kind", ["bash-macvlan", "bash-ipvlan"])
def test_pods_of_the_shipped_configurations_reach_each_other_alone_whatever_the_fabric(
    kind: str, connects: bool
) -> None:
    assert reached(f"{kind}.conflist", ends(NODES), connects=connects) == PODS_ALL


CASES: dict[str, tuple[dict[str, Any], set[tuple[str, str, bool]]]] = {
    "macvlan without a mode": ({}, PODS_ALL),
    "an address plugin that says no subnet": ({"ranges": None}, PODS_ALL),
    "mode private": ({"mode": "private"}, {("pod", "pod", False)}),
    "mode vepa": ({"mode": "vepa"}, {("pod", "pod", False)}),
    "a subnet for each node": ({"ranges": {"subnet": "$POD_CIDR"}}, {("pod", "pod", True)}),
    "a VLAN of its own": ({"master": "eth0.7"}, PODS_ALL),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_a_configuration_declares_decides(case: str, tmp_path: Path) -> None:
    values, kinds = CASES[case]
    assert reached(conflist(tmp_path, **values), ends(NODES)) == kinds


@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_where_the_node_routes_only_its_own_pods_are_decided_on(mode: str, tmp_path: Path) -> None:
    spec = describe({"nodes": {"controlPlane": 1, "workers": 1}, "cni": conflist(tmp_path, "bash-ipvlan", mode=mode)})
    wire = draw(spec).wire()
    assert wire is not None
    for source in (places := ends(NODES)):
        for target in places:
            if source is target or "pod" not in (source.kind, target.kind):
                continue
            said = wire.expect(source, target)
            assert (said is None) == (source.node != target.node)
            assert said is None or said.reached == ("node" not in (source.kind, target.kind))


def test_pods_with_addresses_of_the_nodes_network_reach_the_other_nodes_and_never_their_own(tmp_path: Path) -> None:
    cni = conflist(tmp_path, ranges={"subnet": "192.168.0.0/16"})
    network = {"network": {"nodes": "192.168.0.0/16"}}
    nodes = {"node1": "192.168.0.11", "node2": "192.168.0.12"}
    both = PODS_ALL | {("pod", "node", False), ("node", "pod", False)}
    assert reached(cni, ends(nodes, "192.168"), **network) == both


def test_a_router_between_the_nodes_is_one_between_their_pods() -> None:
    spec = {"cni": "bash-macvlan.conflist", "underlay": {"name": "racks"}, "nodes": {"controlPlane": 1, "workers": 3}}
    wire = draw(describe(spec)).wire()
    assert wire is not None
    pods = [Vantage(f"pod{n}", "pod", f"node{n}", f"10.244.{n}.2", "") for n in range(1, 5)]
    found = {(a.name, b.name) for a in pods for b in pods if a is not b and wire.expect(a, b).reached}  # type: ignore[union-attr]
    assert found == {("pod1", "pod2"), ("pod2", "pod1"), ("pod3", "pod4"), ("pod4", "pod3")}


def test_pods_behind_a_bridge_are_on_no_wire_of_the_nodes() -> None:
    assert draw(describe({})).wire() is None


def test_reasons_say_what_is_in_the_way() -> None:
    wire = draw(describe({"cni": "bash-macvlan.conflist"})).wire()
    assert wire is not None
    node1, node2, pod, *_ = ends(NODES)
    basis = Basis(connects_nodes=True, wire=wire)
    assert expect(node1, pod, basis).reason == "macvlan: a child and its parent do not meet"
    assert expect(node2, pod, basis).reason == "macvlan: one wire, but not one subnet"
    assert expect(node1, node2, basis).reached
