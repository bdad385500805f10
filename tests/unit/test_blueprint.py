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
from mininetes.errors import BadInput, MininetesError
from mininetes.kernel.netstate import Hop, NetState
from mininetes.probes.vantage import Target, Vantage
from mininetes.spec import describe
from mininetes.testbed.blueprint import Blueprint, draw
from mininetes.testbed.expectation import Basis, expect
from mininetes.testbed.fabric import FabricView

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
        (folder / name).write_text('#!/bin/sh\necho \'{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}\'\n')
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
        "POD_FIRST": "10.244.2.2",
        "POD_LAST": "10.244.2.254",
        "POD_NETWORK": "10.244.0.0/16",
        "POD_MTU": 1500,
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
    "single_switch": {"underlay": "single_switch", "nodes": {"workers": 1}},
    "racks": {"underlay": {"name": "racks", "parameters": {"racks": 2}}, "nodes": {"workers": 3}},
    "leaf_spine": {
        "underlay": {"name": "leaf_spine", "parameters": {"leaves": 2, "spines": 2}},
        "nodes": {"workers": 3},
    },
}
FABRICS: dict[str, Any] = {
    "none": "none",
    "static": "static",
    "router": "router",
    "host-gw": "host-gw",
    "vxlan": "vxlan",
    "vxlan-direct": {"name": "vxlan", "parameters": {"directRouting": True, "ipMasq": True, "mtu": 1400, "vni": 42}},
}


def as_json(state: NetState) -> dict[str, Any]:
    tunnels = {
        "links": [str(each) for each in sorted(state.links)],
        "neighbours": [str(each) for each in sorted(state.neighbours)],
        "fdb": [str(each) for each in sorted(state.fdb)],
        "rules": [
            f"{each.table}: {where} {rule}"
            for each in sorted(state.chains)
            for where, rule in (*each.jumps, *((each.name, rule) for rule in each.rules))
        ],
    }
    return {
        **{kind: entries for kind, entries in tunnels.items() if entries},
        "up": sorted(state.up),
        "addresses": [f"{address} dev {device}" for device, address in sorted(state.addresses)],
        "routes": [str(route) for route in sorted(state.routes)],
        "sysctls": dict(state.sysctls),
    }


@pytest.mark.parametrize("fabric", FABRICS)
@pytest.mark.parametrize("underlay", UNDERLAYS)
def test_plans_are_the_golden_ones(underlay: str, fabric: str, golden: Callable[[str, Any], None]) -> None:
    plan = drawn(**UNDERLAYS[underlay], fabric=FABRICS[fabric], outside={"clients": 1}).plan
    found: dict[str, Any] = {host: as_json(state) for host, state in sorted(plan.states.items())}
    if plan.pod_mtu != 1500 or plan.annotations:
        found = {"": {"pod_mtu": plan.pod_mtu, "apart": sorted(plan.apart)}, **found}
    for node, files in plan.files.items():
        found[node] |= {"files": dict(files), "annotations": dict(plan.annotations[node])}
    golden(f"plan-{fabric}-{underlay}", found)


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


@pytest.mark.parametrize("fabric", ["static", "router", "host-gw", "vxlan", "vxlan-direct"])
@pytest.mark.parametrize("underlay", UNDERLAYS)
def test_pods_of_every_node_find_all_others_but_those_that_the_plan_sets_apart(underlay: str, fabric: str) -> None:
    """Walks the routes of underlay and fabric together, from each node to each pod subnet, through tunnels too."""
    blueprint = drawn(**UNDERLAYS[underlay], fabric=FABRICS[fabric])
    plan, view = blueprint.plan, blueprint.view
    states = {h: host.state().merged(plan.state(h)) for h, host in blueprint.underlay.hosts.items()}
    apart = set()
    for source in view.nodes:
        for target in view.nodes:
            at, steps = source.name, 0
            while at != target.name and steps < 6:
                fitting = [r for r in states[at].routes if target.pod_subnet.subnet_of(r.destination)]
                if not fitting:
                    break
                hop = max(fitting, key=lambda route: route.destination.prefixlen).hops[-1]
                if hop.onlink:
                    at = tunnel_end(states[at], hop, view)
                    continue
                assert hop.gateway is not None
                host = blueprint.underlay.at(hop.gateway)
                if host is None or host.role == "client":
                    break
                at, steps = host.name, steps + 1
            if at != target.name:
                apart.add((source.name, target.name))
    assert apart == plan.apart
    assert bool(apart) == (fabric == "host-gw" and underlay in ("racks", "leaf_spine"))


def tunnel_end(state: NetState, hop: Hop, view: FabricView) -> str:
    """The node to which a frame for this hop is sent: by its MAC, and where that is said to be."""
    (mac,) = [each.mac for each in state.neighbours if (each.device, each.address) == (hop.device, hop.gateway)]
    (remote,) = [each.remote for each in state.fdb if (each.device, each.mac) == (hop.device, mac)]
    return next(node.name for node in view.nodes if node.address == remote)


def test_a_router_sends_no_redirects_where_it_has_routes() -> None:
    states = drawn(fabric="router").states
    assert states["gw"].sysctls == {f"ipv4/conf/{each}/send_redirects": "0" for each in ("all", "eth0", "outside1",
                                                                                          "outside2")}  # fmt: skip
    assert "node1" not in states


def test_a_fabrics_mtu_is_that_of_its_pods_configuration() -> None:
    assert drawn(fabric="vxlan").conf_values("node1")["POD_MTU"] == 1450
    blueprint = drawn(fabric={"name": "vxlan", "parameters": {"mtu": 1400}})
    assert blueprint.conf_values("node1")["POD_MTU"] == 1350
    assert {link.mtu for link in blueprint.states["node1"].links} == {1350}


def test_an_outside_program_is_given_the_mtu_and_plans_nothing() -> None:
    blueprint = drawn(fabric={"exec": ["/bin/true", "--flag"], "parameters": {"mtu": 1400}})
    assert blueprint.conf_values("node1")["POD_MTU"] == 1400
    assert [state for state in blueprint.states.values() if state != NetState()] == []
    assert (blueprint.connects_nodes, blueprint.fabric.agent) == (True, "true")


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


def test_nodes_that_a_fabric_sets_apart_are_not_expected_to_reach_each_others_pods() -> None:
    basis = Basis(True, apart=frozenset({("node1", "node2"), ("node2", "node1")}))
    found = expect(place("pod", "node1"), place("pod", "node2"), basis)
    assert (found.reached, found.reason) == (False, "the fabric does not connect these nodes")
    assert expect(place("pod", "node1"), place("pod", "node3"), basis).reached
    assert expect(place("node", "node1"), place("node", "node2"), basis).reached


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
        ({"fabric": "nope"}, ["fabric", "'nope'", "host-gw, none, router, static, vxlan"]),
        ({"cni": "nope"}, ["cni", "'nope'", "test.conflist"]),
        (
            {"underlay": {"name": "racks", "parameters": {"rcks": 2}}},
            ["spec.underlay.parameters.rcks", "unknown", "racks"],
        ),
        (
            {"underlay": {"name": "racks", "parameters": {"network": "10.0.0.0/24"}}},
            ["spec.underlay.parameters.network", "unknown"],
        ),
        ({"underlay": {"name": "three_node", "parameters": {"bw": 1}}}, ["spec.underlay.parameters.bw", "known: mtu"]),
        ({"underlay": {"name": "racks", "parameters": {"racks": 9}}}, ["racks", "9", "number of nodes (3)"]),
        ({"underlay": {"name": "racks", "parameters": {"racks": "two"}}}, ["racks: 'two'", "whole number, such as 2"]),
        ({"underlay": {"name": "racks", "parameters": {"bw": "fast"}}}, ["bw", "'fast'", "Mbit/s"]),
        ({"underlay": "three_node", "nodes": {"workers": 3}}, ["three_node", "4", "single_switch"]),
        ({"fabric": {"name": "static", "parameters": {"x": 1}}}, ["spec.fabric.parameters", "x", "none"]),
        ({"fabric": {"name": "vxlan", "parameters": {"vnii": 1}}}, ["spec.fabric.parameters.vnii", "unknown", "vni"]),
        ({"fabric": {"name": "vxlan", "parameters": {"vni": "1"}}}, ["parameters.vni: '1'", "whole number"]),
        ({"fabric": {"name": "vxlan", "parameters": {"vni": True}}}, ["parameters.vni: True", "whole number"]),
        ({"fabric": {"name": "vxlan", "parameters": {"vni": 0}}}, ["parameters.vni: 0", "from 1 to 9999999"]),
        ({"fabric": {"name": "vxlan", "parameters": {"vni": 16777215}}}, ["parameters.vni: 16777215", "9999999"]),
        ({"fabric": {"name": "vxlan", "parameters": {"port": 65536}}}, ["parameters.port: 65536", "65535"]),
        ({"fabric": {"name": "vxlan", "parameters": {"mtu": 625}}}, ["parameters.mtu: 625", "from 626 to 1500"]),
        ({"fabric": {"name": "vxlan", "parameters": {"mtu": 1501}}}, ["parameters.mtu: 1501", "from 626 to 1500"]),
        ({"fabric": {"name": "vxlan", "parameters": {"ipMasq": "yes"}}}, ["parameters.ipMasq: 'yes'", "true or false"]),
        ({"fabric": {"exec": ["/bin/true"], "parameters": {"mtu": 500}}}, ["MTU of pods", "500", "576 to 1500"]),
        ({"fabric": {"exec": ["/bin/true"], "parameters": {"vni": 5}}}, ["parameters.vni", "unknown", "mtu"]),
        ({"fabric": {"exec": ["/no/such/program"]}}, ["spec.fabric.exec: '/no/such/program'", "executed"]),
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


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("    raise KeyError('q')", r"fabric .*mine\.py: plan: KeyError: 'q' \(mine\.py:3\)"),
        ("    return 3", r"fabric .*: plan: 'int' is not valid: returning the hosts' NetState"),
    ],
)
def test_a_plan_with_a_mistake_is_said_in_a_line(tmp_path: Path, body: str, words: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"CONNECTS_NODES = True\ndef plan(view):\n{body}\n")
    with pytest.raises(MininetesError, match=words):
        drawn(fabric=str(path))


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


LARGE = {"nodes": "172.16.0.0/16", "pods": "10.0.0.0/8", "services": "11.0.0.0/16", "nodePrefix": 20}


def test_what_a_bridge_has_no_ports_for_is_refused() -> None:
    few = refused(nodes={"workers": 1}, pods={"perNode": 1024}, network=LARGE)
    assert few.startswith("spec.pods.perNode: 1024 is not valid: at most 1023")
    many = refused(nodes={"workers": 1100}, pods={"perNode": 1}, network=LARGE)
    assert many.startswith("spec.nodes: 1101 is not valid: fewer: ")
    assert "1023" in many


def test_as_many_as_a_bridge_has_ports_for_are_fine() -> None:
    assert len(drawn(nodes={"workers": 1}, pods={"perNode": 1023}, network=LARGE).pods) == 2 * 1023
