"""From a description to what will be built: pods, hashes, plans (golden data), and what is expected to be reached."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from mininetes import parts
from mininetes.errors import BadInput
from mininetes.kernel.netstate import NetState
from mininetes.probes.vantage import Target, Vantage
from mininetes.spec import describe
from mininetes.testbed.blueprint import Blueprint, draw
from mininetes.testbed.expectation import Basis, expect

GOLDEN = Path(__file__).parents[1] / "golden"
CONFLIST = {
    "cniVersion": "1.0.0",
    "name": "mininetes",
    "plugins": [{"type": "a-bridge", "bridge": "cni0", "ipam": {"type": "an-ipam", "subnet": "$POD_CIDR"}}],
}


@pytest.fixture(autouse=True)
def plugins(tmp_path: Path) -> Iterator[Path]:
    """A folder of parts with plugins and a configuration of this test's own."""
    folder = tmp_path / "cni_scripts"
    folder.mkdir()
    for name in ("a-bridge", "an-ipam"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    (folder / "test.conflist").write_text(json.dumps(CONFLIST))
    parts.use([tmp_path])
    yield folder
    parts.use([])


def drawn(**spec: Any) -> Blueprint:
    return draw(describe({"cni": "test.conflist", **spec}))


def refused(**spec: Any) -> str:
    with pytest.raises(BadInput) as caught:
        drawn(**spec)
    assert caught.value.exit_status == 2
    return str(caught.value)


# --- what will be built -------------------------------------------------------------------------------------------


def test_each_node_gets_its_pods_and_their_names_say_so() -> None:
    blueprint = drawn(pods={"perNode": 2, "port": 9000})
    assert [(pod.name, pod.node, pod.port) for pod in blueprint.pods] == [
        (f"node{node}-{number}", f"node{node}", 9000) for node in (1, 2, 3) for number in (1, 2)
    ]


def test_each_nodes_view_has_its_address_interface_and_subnet() -> None:
    view = drawn().view
    assert [(n.name, str(n.address), n.device, str(n.pod_subnet)) for n in view.nodes] == [
        (f"node{n}", f"192.168.1.{10 + n}", "eth0", f"10.244.{n}.0/24") for n in (1, 2, 3)
    ]
    assert view.pod_network == IPv4Network("10.244.0.0/16")


def test_each_node_gets_a_cni_configuration_of_its_own() -> None:
    assert drawn().conf_values("node2") == {
        "POD_CIDR": "10.244.2.0/24",
        "POD_NETWORK": "10.244.0.0/16",
        "NODE_NAME": "node2",
    }


def test_the_hash_of_every_part_goes_along() -> None:
    blueprint = drawn(fabric="none")
    expected = ["cni/test.conflist", "fabric/none.py", "proxy/iptables.py", "underlay/three_node.py"]
    assert sorted(blueprint.hashes) == expected
    text = parts.find("fabric", "none").path.read_bytes()
    assert blueprint.hashes["fabric/none.py"] == hashlib.sha256(text).hexdigest()


def test_drawing_twice_gives_the_same() -> None:
    first, second = drawn(), drawn()
    assert (first.states, first.underlay, first.pods) == (second.states, second.underlay, second.pods)


def test_clients_outside_are_there_unless_there_shall_be_none() -> None:
    assert {"gw", "client1", "client2", "blocked1"} <= set(drawn(outside={"clients": 2}).underlay.hosts)
    assert "client1" not in drawn(outside={"clients": 0}).underlay.hosts


# --- plans as golden data -----------------------------------------------------------------------------------------

UNDERLAYS: dict[str, dict[str, Any]] = {
    "three_node": {"underlay": "three_node"},
    "racks": {"underlay": {"name": "racks", "parameters": {"racks": 2}}, "nodes": {"workers": 3}},
    "leaf_spine": {
        "underlay": {"name": "leaf_spine", "parameters": {"leaves": 2, "spines": 2}},
        "nodes": {"workers": 3},
    },
}
FABRICS = ("none", "static")


def as_json(state: NetState) -> dict[str, Any]:
    return {
        "up": sorted(state.up),
        "addresses": [f"{address} dev {device}" for device, address in sorted(state.addresses)],
        "routes": [str(route) for route in sorted(state.routes)],
        "sysctls": dict(state.sysctls),
    }


@pytest.mark.parametrize("fabric", FABRICS)
@pytest.mark.parametrize("underlay", UNDERLAYS)
def test_plans_are_the_golden_ones(underlay: str, fabric: str, golden: Callable[[str, Any], None]) -> None:
    blueprint = drawn(**UNDERLAYS[underlay], fabric=fabric, outside={"clients": 1})
    golden(f"plan-{fabric}-{underlay}", {host: as_json(state) for host, state in blueprint.states.items()})


def test_every_golden_plan_belongs_to_a_case() -> None:
    cases = {f"plan-{fabric}-{underlay}.json" for fabric in FABRICS for underlay in UNDERLAYS}
    assert {path.name for path in GOLDEN.glob("plan-*.json")} == cases


def test_static_routes_lead_from_every_node_to_every_other_nodes_pods() -> None:
    states = drawn().states
    assert sorted(map(str, states["node1"].routes)) == [
        "10.244.2.0/24 via 192.168.1.12 dev eth0",
        "10.244.3.0/24 via 192.168.1.13 dev eth0",
    ]
    assert states["gw"].routes == frozenset()


@pytest.mark.parametrize("underlay", UNDERLAYS)
def test_with_static_routes_pods_of_every_node_find_all_others(underlay: str) -> None:
    """Walks the routes of underlay and fabric together, from each node to each pod subnet."""
    blueprint = drawn(**UNDERLAYS[underlay])
    states = {h: host.state().merged(blueprint.states[h]) for h, host in blueprint.underlay.hosts.items()}
    for source in blueprint.view.nodes:
        for target in blueprint.view.nodes:
            at, steps = source.name, 0
            while at != target.name:
                fitting = [r for r in states[at].routes if target.pod_subnet.subnet_of(r.destination)]
                best = max(fitting, key=lambda route: route.destination.prefixlen)
                gateway = best.hops[-1].gateway
                assert gateway is not None
                host = blueprint.underlay.at(gateway)
                assert host is not None
                at, steps = host.name, steps + 1
                assert steps < 6, f"a circle from {source.name} to {target.name}"


def test_no_fabric_declares_nothing() -> None:
    assert [state for state in drawn(fabric="none").states.values() if state != NetState()] == []


# --- what is expected ---------------------------------------------------------------------------------------------


def place(kind: Any, node: str) -> Vantage:
    return Vantage(f"{kind}-{node}", kind, node, "10.0.0.1", "")


#        from    to      same node   fabric  masquerade  reached
EXPECTED = [
    ("node", "node", False, True, False, True),
    ("node", "node", False, False, False, True),
    ("node", "node", False, False, True, True),
    ("pod", "pod", True, True, False, True),
    ("pod", "pod", True, False, False, True),
    ("pod", "pod", False, True, False, True),
    ("pod", "pod", False, True, True, True),
    ("pod", "pod", False, False, False, False),
    ("pod", "pod", False, False, True, False),
    ("node", "pod", True, False, False, True),
    ("node", "pod", False, True, False, True),
    ("node", "pod", False, False, False, False),
    ("node", "pod", False, False, True, False),
    ("pod", "node", True, False, False, True),
    ("pod", "node", False, True, False, True),
    ("pod", "node", False, False, False, False),
    ("pod", "node", False, False, True, True),
]


@pytest.mark.parametrize(("source", "target", "same", "fabric", "masquerade", "reached"), EXPECTED)
def test_who_should_reach_whom(
    source: str, target: str, same: bool, fabric: bool, masquerade: bool, reached: bool
) -> None:
    to: Target = place(target, "node1" if same else "node2")
    found = expect(place(source, "node1"), to, Basis(fabric, masquerade))
    assert found.reached is reached
    assert found.reason


def test_no_fabric_is_given_as_the_reason_where_nothing_is_expected() -> None:
    found = expect(place("pod", "node1"), place("pod", "node2"), Basis(False, False))
    assert found.reason == "no fabric between the nodes"


@pytest.mark.parametrize(
    ("options", "masquerades"),
    [
        ({}, False),
        ({"ipMasq": True}, True),
        ({"ipMasq": True, "ipMasqExclude": ["10.244.0.0/16"]}, True),
        ({"ipMasq": True, "ipMasqExclude": ["192.168.0.0/16"]}, False),
        ({"ipMasq": True, "ipMasqExclude": ["$POD_NETWORK"]}, True),
        ({"ipMasq": False, "ipMasqExclude": []}, False),
    ],
)
def test_whether_pods_packets_leave_as_their_nodes(plugins: Path, options: dict[str, Any], masquerades: bool) -> None:
    changed = {**CONFLIST, "plugins": [{**CONFLIST["plugins"][0], **options}]}  # type: ignore[index]
    (plugins / "test.conflist").write_text(json.dumps(changed))
    assert drawn().masquerades_to_nodes is masquerades


# --- what cannot be drawn -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"underlay": "nope"}, ["underlay", "'nope'", "leaf_spine, racks, single_switch, three_node"]),
        ({"fabric": "nope"}, ["fabric", "'nope'", "none, static"]),
        ({"cni": "nope"}, ["cni", "'nope'", "test.conflist"]),
        (
            {"underlay": {"name": "racks", "parameters": {"rcks": 2}}},
            ["spec.underlay.parameters.rcks", "unknown", "racks"],
        ),
        (
            {"underlay": {"name": "racks", "parameters": {"network": "10.0.0.0/24"}}},
            ["spec.underlay.parameters.network", "unknown"],
        ),
        ({"underlay": {"name": "three_node", "parameters": {"bw": 1}}}, ["spec.underlay.parameters.bw", "none"]),
        ({"underlay": {"name": "racks", "parameters": {"racks": 9}}}, ["racks", "9", "number of nodes (3)"]),
        ({"underlay": {"name": "racks", "parameters": {"racks": "two"}}}, ["racks: 'two'"]),
        ({"underlay": {"name": "racks", "parameters": {"bw": "fast"}}}, ["bw", "'fast'", "Mbit/s"]),
        ({"underlay": "three_node", "nodes": {"workers": 3}}, ["three_node", "4", "single_switch"]),
        ({"fabric": {"name": "static", "parameters": {"x": 1}}}, ["spec.fabric.parameters", "x", "none"]),
        ({"nodes": [{"name": "gw"}]}, ["spec.nodes", "'gw'", "name"]),
        ({"nodes": [{"name": "s1"}]}, ["spec.nodes", "'s1'", "name"]),
        ({"nodes": [{"name": "client1"}]}, ["spec.nodes", "'client1'", "name"]),
        ({"nodes": [{"name": "blocked1"}]}, ["spec.nodes", "'blocked1'", "name"]),
        ({"nodes": [{"name": "outside1"}]}, ["spec.nodes", "'outside1'", "name"]),
        (
            {"nodes": {"workers": 11}, "underlay": "racks", "network": {"nodes": "192.168.1.0/27"}},
            ["racks", "192.168.1.0/28", "too small"],
        ),
        (
            {"underlay": "leaf_spine", "network": {"pods": "100.64.0.0/16"}},
            ["underlay", "100.64.0", "spec.network.pods (100.64.0.0/16)"],
        ),
        (
            {"underlay": "leaf_spine", "network": {"services": "100.64.0.0/16"}},
            ["underlay", "100.64.0", "spec.network.services (100.64.0.0/16)"],
        ),
        (
            {"underlay": "leaf_spine", "network": {"loadBalancers": "100.64.0.0/16"}},
            ["underlay", "100.64.0", "spec.network.loadBalancers (100.64.0.0/16)"],
        ),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_is_refused_before_anything_is_built(spec: dict[str, Any], words: list[str]) -> None:
    text = refused(**spec)
    assert [word for word in words if word not in text] == [], text


@pytest.mark.parametrize(
    "body",
    ["", "CONNECTS_NODES = True", "def plan(view): return {}", "CONNECTS_NODES = 1\ndef plan(view): return {}"],
)
def test_a_file_that_is_no_fabric_is_refused(tmp_path: Path, body: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(body)
    text = refused(fabric=str(path))
    assert "fabric" in text
    assert "CONNECTS_NODES" in text


def test_a_plan_for_a_host_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from mininetes.api import NetState\nCONNECTS_NODES = True\ndef plan(view): return {'moon': NetState()}\n"
    )
    text = refused(fabric=str(path))
    assert "moon" in text


def test_a_missing_plugin_is_named_with_those_there_are(plugins: Path) -> None:
    (plugins / "an-ipam").unlink()
    text = refused()
    assert "test.conflist" in text
    assert "'an-ipam'" in text
    assert "a-bridge" in text


def test_an_underlay_that_leaves_nodes_out_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from mininet.topo import Topo\n"
        "class Mine(Topo):\n"
        "    def build(self, nodes=(), network='', gateway=True):\n"
        "        self.addHost('gw', ip='192.168.1.1/24', role='router')\n"
        "        self.addSwitch('s1')\n"
        "        self.addLink('gw', 's1')\n"
        "topos = {'mine': Mine}\n"
    )
    text = refused(underlay=str(path))
    assert "node1" in text
    assert "role='node'" in text


def test_an_underlay_with_nodes_outside_the_node_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from mininet.topo import Topo\n"
        "class Mine(Topo):\n"
        "    def build(self, nodes=(), network='', gateway=True):\n"
        "        self.addHost('gw', ip='10.99.0.254/24', role='router')\n"
        "        self.addSwitch('s1')\n"
        "        self.addLink('gw', 's1')\n"
        "        for n, name in enumerate(nodes, 1):\n"
        "            self.addHost(name, ip=f'10.99.0.{n}/24', role='node')\n"
        "            self.addLink(name, 's1', intfName1='eth0')\n"
        "topos = {'mine': Mine}\n"
    )
    text = refused(underlay=str(path))
    assert "node1" in text
    assert "spec.network.nodes (192.168.1.0/24)" in text
