"""The shipped underlays as plain values, what Topos may not say, and that stock Mininet can load their files."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from mininet.topo import Topo

from mininetes import parts
from mininetes.addressing import BLOCKED, OUTSIDE, mac_of
from mininetes.cluster.underlay import Underlay, UnderlayHost, add_outside, read_topo, topo_class
from mininetes.errors import BadInput
from mininetes.kernel.netstate import Hop, Route

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "topologies" / "underlays").glob("*.py"))
NAMES = [path.stem for path in SHIPPED]

# for each shipped underlay: parameters, and how many nodes it then has
CASES: dict[str, list[dict[str, Any]]] = {
    "three_node": [{}, {"gateway": True}, {"network": "10.1.0.0/16"}],
    "single_switch": [{}, {"nodes": 1}, {"nodes": 200, "gateway": True}, {"bw": 10, "delay": "5ms", "loss": 1}],
    "racks": [{}, {"nodes": 7, "racks": 3}, {"nodes": 2, "racks": 2, "network": "10.1.0.0/16"}, {"bw": 100}],
    "leaf_spine": [{}, {"nodes": 9, "leaves": 3, "spines": 4}, {"gateway": False}, {"nodes": 1, "leaves": 1}],
}


def topo(name: str, **parameters: Any) -> Topo:
    return topo_class(parts.load("underlay", name), name)(**parameters)


def underlay(name: str, **parameters: Any) -> Underlay:
    return read_topo(topo(name, **parameters))


def every_case() -> list[Any]:
    return [pytest.param(name, case, id=f"{name}-{case}") for name, cases in CASES.items() for case in cases]


def test_every_shipped_underlay_has_cases() -> None:
    assert sorted(CASES) == NAMES


# --- what all of them keep ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "case"), every_case())
def test_nodes_are_as_many_as_asked_and_have_one_interface_called_eth0(name: str, case: dict[str, Any]) -> None:
    found = underlay(name, **case).with_role("node")
    default = inspect.signature(topo_class(parts.load("underlay", name), name).build).parameters["nodes"].default
    wanted = case.get("nodes", default)
    assert len(found) == (wanted if isinstance(wanted, int) else len(wanted))
    assert {tuple(each.device for each in node.interfaces) for node in found} == {("eth0",)}


@pytest.mark.parametrize(("name", "case"), every_case())
def test_no_address_and_no_mac_is_given_twice_and_macs_follow_addresses(name: str, case: dict[str, Any]) -> None:
    ends = [each for host in underlay(name, **case).hosts.values() for each in host.interfaces]
    addresses = [each.address.ip for each in ends if each.address is not None]
    assert len(addresses) == len(ends) == len(set(addresses))
    assert [each.mac for each in ends] == [mac_of(address) for address in addresses]


@pytest.mark.parametrize(("name", "case"), every_case())
def test_links_that_are_not_joined_have_networks_of_their_own(name: str, case: dict[str, Any]) -> None:
    networks = {each.address.network for h in underlay(name, **case).hosts.values() for each in h.interfaces
                if each.address is not None}  # fmt: skip
    assert [(a, b) for a, b in combinations(sorted(networks), 2) if a.overlaps(b)] == []


@pytest.mark.parametrize(("name", "case"), every_case())
def test_every_node_finds_every_other_and_back_through_the_routes_alone(name: str, case: dict[str, Any]) -> None:
    net = underlay(name, **case)
    nodes = net.with_role("node")
    for source in nodes[:4] + nodes[-2:]:
        for target in nodes[:4] + nodes[-2:]:
            if source is not target:
                assert walk(net, source, target.address)[-1] == target.name


def walk(net: Underlay, source: UnderlayHost, address: IPv4Address) -> list[str]:
    """The hosts that a packet passes when each takes its last next hop (so that ECMP's other ways are tried too)."""
    passed, host = [source.name], source
    while all(each.address is None or each.address.ip != address for each in host.interfaces):
        hops = host.hops_to(address)
        assert hops, f"{host.name} has no route to {address}"
        gateway = hops[-1].gateway
        assert gateway is not None
        next_host = net.at(gateway)
        assert next_host is not None, f"nobody has {gateway}"
        host = next_host
        assert host.name not in passed, f"a circle: {passed}"
        passed.append(host.name)
    return passed


@pytest.mark.parametrize("name", NAMES)
def test_with_a_gateway_every_node_finds_the_outside_and_the_outside_every_node(name: str) -> None:
    described = topo(name, gateway=True)
    add_outside(described, 2)
    net = read_topo(described)
    assert {str(client.address): client.name for client in net.with_role("client")} == {
        str(OUTSIDE[2]): "client1",
        str(OUTSIDE[3]): "client2",
        str(BLOCKED[2]): "blocked1",
    }
    for node in net.with_role("node"):
        for client in net.with_role("client"):
            assert walk(net, node, client.address)[-1] == client.name
            assert walk(net, client, node.address)[-1] == node.name
            assert "gw" in walk(net, node, client.address)


@pytest.mark.parametrize("name", NAMES)
def test_the_description_is_the_same_each_time(name: str) -> None:
    assert underlay(name, gateway=True) == underlay(name, gateway=True)


# --- each of them -------------------------------------------------------------------------------------------------


def test_three_nodes_are_at_11_12_and_13_behind_one_switch() -> None:
    net = underlay("three_node")
    assert {name: str(host.interfaces[0].address) for name, host in net.hosts.items()} == {
        "node1": "192.168.1.11/24",
        "node2": "192.168.1.12/24",
        "node3": "192.168.1.13/24",
    }
    assert net.switches == ("s1",)
    assert [host.routes for host in net.hosts.values()] == [(), (), ()]
    assert net.hosts["node1"].interfaces[0].mac == "02:00:c0:a8:01:0b"


def test_three_nodes_with_a_gateway_route_everything_else_to_it() -> None:
    net = underlay("three_node", gateway=True)
    assert str(net.hosts["gw"].interfaces[0].address) == "192.168.1.1/24"
    assert net.hosts["gw"].role == "router"
    default = Route(IPv4Network("0.0.0.0/0"), (Hop("eth0", IPv4Address("192.168.1.1")),))
    assert [net.hosts[f"node{n}"].routes for n in (1, 2, 3)] == [(default,)] * 3


def test_racks_divide_nodes_and_network_among_them() -> None:
    net = underlay("racks", nodes=5, racks=2)
    assert {node.name: str(node.interfaces[0].address) for node in net.with_role("node")} == {
        "node1": "192.168.1.11/25",
        "node2": "192.168.1.12/25",
        "node3": "192.168.1.13/25",
        "node4": "192.168.1.139/25",
        "node5": "192.168.1.140/25",
    }
    assert [(each.device, str(each.address)) for each in net.hosts["gw"].interfaces] == [
        ("eth0", "192.168.1.1/25"),
        ("eth1", "192.168.1.129/25"),
    ]
    assert net.switches == ("s1", "s2")
    assert walk(net, net.hosts["node1"], IPv4Address("192.168.1.139")) == ["node1", "gw", "node4"]


def test_between_leaves_there_are_as_many_equal_ways_as_spines() -> None:
    net = underlay("leaf_spine", nodes=4, leaves=2, spines=3, gateway=False)
    to_the_other_rack = net.hosts["leaf1"].hops_to(net.hosts["node4"].address)
    assert len(to_the_other_rack) == 3
    behind = [net.at(hop.gateway) for hop in to_the_other_rack if hop.gateway]
    assert [host.name for host in behind if host] == ["spine1", "spine2", "spine3"]
    assert net.hosts["node1"].hops_to(net.hosts["node2"].address) == (Hop("eth0", IPv4Address("192.168.1.12")),)


def test_shapes_are_those_of_the_links_that_the_file_says() -> None:
    star = underlay("single_switch", nodes=2, bw=10, delay="5ms", loss=1.5, gateway=True)
    shaped = [cable for cable in star.cables if cable.shape.bw]
    assert len(shaped) == 2
    assert {(cable.shape.bw, cable.shape.delay, cable.shape.loss) for cable in shaped} == {(10, "5ms", 1.5)}
    assert star.needs_netem
    racks = underlay("racks", bw=100)
    assert [sorted(end.owner for end in cable.ends) for cable in racks.cables if cable.shape.bw] == [
        ["gw", "s1"],
        ["gw", "s2"],
    ]
    assert not racks.needs_netem


# --- parameters that are wrong ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("three_node", {"nodes": ["a", "b"]}, "three nodes, not 2"),
        ("racks", {"racks": 9}, "racks: 9 is not valid: between 1 and the number of nodes"),
        ("racks", {"racks": 0}, "racks: 0 is not valid"),
        ("racks", {"nodes": 20, "racks": 2, "network": "192.168.1.0/27"}, "too small"),
        ("leaf_spine", {"leaves": 0}, "leaves: 0 is not valid"),
        ("leaf_spine", {"spines": 17}, "spines: 17 is not valid: between 1 and 16"),
        ("leaf_spine", {"nodes": 30, "network": "192.168.1.0/27"}, "too small"),
    ],
)
def test_parameters_that_cannot_be_are_refused_by_the_file_itself(
    name: str, parameters: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        topo(name, **parameters)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"bw": 0}, "bw: 0"),
        ({"bw": -5}, "bw: -5"),
        ({"bw": 1001}, "bw: 1001 .* at most 1000"),
        ({"bw": "fast"}, "bw: 'fast'"),
        ({"bw": True}, "bw: True"),
        ({"loss": 101}, "loss: 101 .* 0 to 100"),
        ({"loss": -1}, "loss: -1"),
        ({"loss": "much"}, "loss: 'much'"),
        ({"delay": 5}, "delay: 5 .* unit"),
        ({"delay": "5"}, "delay: '5' .* unit"),
        ({"delay": "5 ms"}, "delay: '5 ms'"),
        ({"delay": "5mmm"}, "delay: '5mmm'"),
        ({"delay": "ms"}, "delay: 'ms'"),
        ({"delay": "-5ms"}, "delay: '-5ms'"),
        ({"delay": "5ms; reboot"}, "delay: '5ms; reboot'"),
        ({"delay": "5ms\nqdisc"}, "delay: "),
    ],
    ids=str,
)
def test_shapes_that_tc_would_not_take_are_refused_naming_link_and_value(
    parameters: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInput, match=r"underlay: link node1 - s1: " + words):
        underlay("single_switch", nodes=1, **parameters)


@pytest.mark.parametrize("delay", ["5ms", "2.5ms", "300us", "1s"])
def test_delays_that_tc_takes_are_taken(delay: str) -> None:
    assert underlay("single_switch", nodes=1, delay=delay).cables[0].shape.delay == delay


# --- Topos that contradict themselves -----------------------------------------------------------------------------


def same_address(topo: Topo) -> None:
    for name in ("a", "b"):
        topo.addHost(name, ip="10.0.0.1/24")
        topo.addLink(name, "s1")


def same_interface(topo: Topo) -> None:
    topo.addHost("a", ip="10.0.0.1/24")
    topo.addLink("a", "s1", intfName1="eth0")
    topo.addLink("a", "s1", intfName1="eth0", params1={"ip": "10.0.1.1/24"})


def long_interface(topo: Topo) -> None:
    topo.addHost("a", ip="10.0.0.1/24")
    topo.addLink("a", "s1", intfName1="an-interface-too-long")


def no_address(topo: Topo) -> None:
    topo.addHost("a")
    topo.addLink("a", "s1")


def no_link(topo: Topo) -> None:
    topo.addHost("a", ip="10.0.0.1/24")


def address_that_is_none(topo: Topo) -> None:
    topo.addHost("a", ip="10.0.0.256/24")
    topo.addLink("a", "s1")


def gateway_elsewhere(topo: Topo) -> None:
    topo.addHost("a", ip="10.0.0.1/24", routes=[("10.9.0.0/16", ["10.1.0.1"])])
    topo.addLink("a", "s1")


def gateway_that_is_none(topo: Topo) -> None:
    topo.addHost("a", ip="10.0.0.1/24", routes=[("10.9.0.0/16", ["nobody"])])
    topo.addLink("a", "s1")


def destination_that_is_none(topo: Topo) -> None:
    topo.addHost("a", ip="10.0.0.1/24", routes=[("nowhere", ["10.0.0.2"])])
    topo.addLink("a", "s1")


def default_route_that_is_none(topo: Topo) -> None:
    topo.addHost("a", ip="10.0.0.1/24", defaultRoute="via nobody")
    topo.addLink("a", "s1")


def role_that_is_none(topo: Topo) -> None:
    topo.addHost("a", ip="10.0.0.1/24", role="pony")
    topo.addLink("a", "s1")


CONTRADICTIONS: list[tuple[Callable[[Topo], None], list[str]]] = [
    (same_address, ["10.0.0.1", "a", "b"]),
    (same_interface, ["underlay: a", "eth0"]),
    (long_interface, ["underlay: a", "an-interface-too-long", "15"]),
    (no_address, ["underlay: a: ip", "address"]),
    (no_link, ["underlay: a: ip"]),
    (address_that_is_none, ["underlay: a: ip", "10.0.0.256/24"]),
    (gateway_elsewhere, ["underlay: a: route to 10.9.0.0/16", "10.1.0.1"]),
    (gateway_that_is_none, ["underlay: a: route to 10.9.0.0/16", "nobody"]),
    (destination_that_is_none, ["underlay: a: route", "nowhere"]),
    (default_route_that_is_none, ["underlay: a", "nobody"]),
    (role_that_is_none, ["underlay: a: role", "pony", "node"]),
]


@pytest.mark.parametrize(("build", "words"), CONTRADICTIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_topo_that_contradicts_itself_is_refused(build: Callable[[Topo], None], words: list[str]) -> None:
    described = Topo()
    described.addSwitch("s1")
    build(described)
    with pytest.raises(BadInput) as caught:
        read_topo(described)
    assert [word for word in words if word not in str(caught.value)] == []


def test_clients_outside_need_a_gateway() -> None:
    with pytest.raises(BadInput, match=r"spec\.outside\.clients: 1 .* gw"):
        add_outside(topo("three_node"), 1)


def test_addresses_of_parameters_count_before_those_of_the_host() -> None:
    described = Topo()
    described.addSwitch("s1")
    described.addHost("a", ip="10.0.0.1/24")
    described.addLink("a", "s1", params1={"ip": "10.0.7.1/24"})
    assert read_topo(described).hosts["a"].interfaces[0].address == IPv4Interface("10.0.7.1/24")


# --- files that stock Mininet loads -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_file_imports_only_mininet_and_the_standard_library(path: Path) -> None:
    imported = set()
    for statement in ast.walk(ast.parse(path.read_text())):
        if isinstance(statement, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            imported.add((statement.module or "").split(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"mininet"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_files_table_of_topos_names_it_after_the_file(path: Path) -> None:
    module = parts.load("underlay", path.stem)
    assert list(module.topos) == [path.stem]
    assert issubclass(module.topos[path.stem], Topo)
    assert {"nodes", "network", "gateway"} <= set(inspect.signature(module.topos[path.stem].build).parameters)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_file_can_be_executed(path: Path) -> None:
    assert path.read_text().startswith("#!/usr/bin/env python3\n")
    assert path.stat().st_mode & 0o111


@pytest.mark.parametrize("text", ["", "topos = {'other': object}", "topos = {'mine': int}", "topos = [1]"])
def test_a_file_without_its_topo_is_no_underlay(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    part = parts.find("underlay", str(path))
    with pytest.raises(BadInput, match=r"underlay.*mine"):
        topo_class(part.module(), part.name)
