"""Whom pods reach whose links are on the nodes' own wire, as their CNI configuration and its results have it.

The matrices are those that packets had on live clusters, of macvlan; in modes of ipvlan the kernel has the same rules.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mininet.topo import Topo

from mininetes.agents.cni.configuration import NetworkConfiguration
from mininetes.cluster.underlay import read_topo
from mininetes.probes.matrix import Expectation
from mininetes.probes.vantage import Vantage
from mininetes.spec import describe
from mininetes.testbed.blueprint import draw
from mininetes.testbed.expectation import Basis, expect
from mininetes.testbed.wire import wire_of


def conflist(folder: Path, kind: str = "bash-macvlan", **more: Any) -> str:
    plugin = {"type": kind, "master": "eth0", "ipam": {"type": "bash-host-local"}, **more}
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


def results(places: list[Vantage], length: int = 16) -> dict[str, dict[str, Any]]:
    """What address plugins of any kind gave the pods."""
    return {each.name: {"ips": [{"address": f"{each.address}/{length}"}]} for each in places if each.kind == "pod"}


NODES = {"node1": "192.168.1.11", "node2": "192.168.1.12"}
PODS_ALL = {("pod", "pod", True), ("pod", "pod", False)}


def reached(
    cni: str, places: list[Vantage], *, connects: bool = True, length: int = 16, **spec: Any
) -> set[tuple[str, str, bool]]:
    """Which kinds of pairs are expected: from, to, and whether on one node; nodes among themselves left out."""
    count = len({each.node for each in places})
    blueprint = draw(describe({"nodes": {"controlPlane": 1, "workers": count - 1}, "cni": cni, **spec}))
    wire = blueprint.wire(results(places, length))
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
    "mode private": ({"mode": "private"}, {("pod", "pod", False)}),
    "mode vepa": ({"mode": "vepa"}, {("pod", "pod", False)}),
    "a subnet for each node": ({"length": 24}, {("pod", "pod", True)}),
    "a subnet for each pod": ({"length": 32}, set()),
    "a subnet for each pod, which the node routes": (
        {"kind": "bash-ipvlan", "mode": "l3", "length": 32}, {("pod", "pod", True)}
    ),
    "a VLAN of its own": ({"master": "eth0.7"}, PODS_ALL),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_a_configuration_declares_decides(case: str, tmp_path: Path) -> None:
    values, kinds = CASES[case]
    length = values.get("length", 16)
    cni = conflist(tmp_path, **{key: value for key, value in values.items() if key != "length"})
    assert reached(cni, ends(NODES), length=length, connects=False) == kinds


def test_a_plugin_of_ones_own_gives_addresses_that_no_configuration_has(tmp_path: Path) -> None:
    places = [each for each in ends(NODES) if each.kind == "node"]
    for last in range(101, 105):
        name = "node1" if last < 103 else "node2"
        places.append(Vantage(f"pod/p{last}", "pod", name, f"192.168.1.{last}", ""))
    both = PODS_ALL | {("pod", "node", False), ("node", "pod", False)}
    cni = conflist(tmp_path, ipam={"type": "bash-host-local", "subnet": "10.9.0.0/16"})
    assert reached(cni, places, length=24, connects=False) == both


@pytest.mark.parametrize("ips", [[], [{"address": "10.244.1.2"}], [{"address": "fd00::2/64"}]])
def test_of_pods_without_a_known_subnet_nothing_is_said_but_what_holds_of_all(ips: Any, tmp_path: Path) -> None:
    node1, node2, one, other, far, _ = ends(NODES)
    spec = {"nodes": {"controlPlane": 1, "workers": 1}}
    wire = draw(describe({**spec, "cni": conflist(tmp_path)})).wire({one.name: {"ips": ips}, far.name: {}})
    assert wire is not None
    assert [wire.expect(one, each) for each in (other, far, node2)] == [None] * 3
    assert [wire.expect(each, one) for each in (other, far, node2)] == [None] * 3
    assert wire.expect(node1, one) == Expectation(False, "macvlan: a child and its parent do not meet")
    private = draw(describe({**spec, "cni": conflist(tmp_path, mode="private")})).wire({})
    assert private is not None
    assert private.expect(one, other) == Expectation(False, "macvlan: mode private keeps a node's pods apart")


def test_a_file_that_changes_afterwards_changes_neither_what_is_expected_nor_what_joining_nodes_get(
    tmp_path: Path,
) -> None:
    blueprint = draw(describe({"nodes": {"controlPlane": 1, "workers": 1}, "cni": conflist(tmp_path)}))
    conflist(tmp_path, mode="private")
    wire = blueprint.wire(results(ends(NODES)))
    assert wire is not None
    assert wire.mode == "bridge"
    assert "mode" not in blueprint.configuration_of("node2").plugins[0]
    (tmp_path / "wire.conflist").unlink()
    assert blueprint.wire({}) is not None


@pytest.mark.parametrize(
    ("master", "reason"),
    [
        ("eth0", "macvlan: one wire"),
        ("eth0.7", "macvlan: one wire"),
        ("eth1", "macvlan: a router is between the pods' wires"),
    ],
)
def test_pods_are_on_the_wire_of_their_parent(master: str, reason: str) -> None:
    """Each node has a first link to the switch of all, and a second one to a switch of its own."""
    topo = Topo()
    for switch in ("s1", "s2", "s3"):
        topo.addSwitch(switch)
    for name, address, own in (("node1", "192.168.1.11/24", "s2"), ("node2", "192.168.1.12/24", "s3")):
        topo.addHost(name, role="node", ip=address)
        for device, switch in (("eth0", "s1"), ("eth1", own)):
            topo.addLink(name, switch, intfName1=device)
    content = {"cniVersion": "0.4.0", "name": "wire", "plugins": [{"type": "macvlan", "master": master}]}
    configuration = NetworkConfiguration.parse(json.dumps(content), "wire.conflist")
    wire = wire_of(dict.fromkeys(NODES, configuration), read_topo(topo), results(places := ends(NODES)))
    assert wire is not None
    said = wire.expect(places[2], places[4])
    assert said == Expectation(reason.endswith("one wire"), reason)


@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_where_the_node_routes_only_its_own_pods_are_decided_on(mode: str, tmp_path: Path) -> None:
    spec = describe({"nodes": {"controlPlane": 1, "workers": 1}, "cni": conflist(tmp_path, "bash-ipvlan", mode=mode)})
    wire = draw(spec).wire(results(ends(NODES)))
    assert wire is not None
    for source in (places := ends(NODES)):
        for target in places:
            if source is target or "pod" not in (source.kind, target.kind):
                continue
            said = wire.expect(source, target)
            assert (said is None) == (source.node != target.node)
            assert said is None or said.reached == ("node" not in (source.kind, target.kind))


def test_pods_with_addresses_of_the_nodes_network_reach_the_other_nodes_and_never_their_own(tmp_path: Path) -> None:
    cni = conflist(tmp_path)
    network = {"network": {"nodes": "192.168.0.0/16"}}
    nodes = {"node1": "192.168.0.11", "node2": "192.168.0.12"}
    both = PODS_ALL | {("pod", "node", False), ("node", "pod", False)}
    assert reached(cni, ends(nodes, "192.168"), **network) == both


def test_a_router_between_the_nodes_is_one_between_their_pods() -> None:
    spec = {"cni": "bash-macvlan.conflist", "underlay": {"name": "racks"}, "nodes": {"controlPlane": 1, "workers": 3}}
    pods = [Vantage(f"pod{n}", "pod", f"node{n}", f"10.244.{n}.2", "") for n in range(1, 5)]
    wire = draw(describe(spec)).wire(results(pods))
    assert wire is not None
    found = {(a.name, b.name) for a in pods for b in pods if a is not b and wire.expect(a, b).reached}  # type: ignore[union-attr]
    assert found == {("pod1", "pod2"), ("pod2", "pod1"), ("pod3", "pod4"), ("pod4", "pod3")}


def test_pods_behind_a_bridge_are_on_no_wire_of_the_nodes() -> None:
    assert draw(describe({})).wire({}) is None


def test_reasons_say_what_is_in_the_way() -> None:
    wire = draw(describe({"cni": "bash-macvlan.conflist"})).wire(results(ends(NODES)))
    assert wire is not None
    node1, node2, pod, *_ = ends(NODES)
    basis = Basis(connects_nodes=True, wire=wire)
    assert expect(node1, pod, basis).reason == "macvlan: a child and its parent do not meet"
    assert expect(node2, pod, basis).reason == "macvlan: one wire, but not one subnet"
    assert expect(node1, node2, basis).reached
