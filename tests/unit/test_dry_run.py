"""What a dry run prints: byte for byte as in golden data, from the same messages and states that are sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mininetes.cli.main import cli
from mininetes.kernel import rtnl
from mininetes.kernel.commands import command
from mininetes.kernel.netstate import Chain, Hop, NetState, Route, Vxlan
from mininetes.kernel.rehearsal import Rehearsal, Step, sysctl
from mininetes.spec import describe
from mininetes.testbed import dry_run
from mininetes.testbed.blueprint import draw

ROOT = Path(__file__).parents[2]
BARE = {"controlPlane": {"store": "none"}}
CLUSTERS: dict[str, dict[str, Any]] = {
    "three-nodes": {"pods": {"perNode": 1}},
    "racks-vxlan": {
        **BARE, "nodes": {"workers": 2}, "pods": {"perNode": 0}, "fabric": "vxlan", "outside": {"clients": 0},
        "underlay": {"name": "leaf_spine", "parameters": {"bw": 100, "delay": "5ms", "loss": 1.0}},
    },
    "container-networks": {
        **BARE, "nodes": {"workers": 1}, "pods": {"perNode": 0}, "outside": {"clients": 0}, "fabric": "none",
        "networks": [{"name": "lan", "node": "node1", "driver": "macvlan", "options": {"parent": "eth0"}},
                     {"name": "wide", "driver": "overlay"}],
        "containers": [{"name": "web", "node": "node1", "networks": ["bridge", "wide"], "publish": ["8080:80"]},
                       {"name": "printer", "node": "node1", "networks": ["lan"]},
                       {"name": "far", "node": "node2", "networks": ["wide"]}],
    },
    "chained-plugins": {
        **BARE, "nodes": {"workers": 0}, "pods": {"perNode": 1}, "cni": "chained.conflist", "outside": {"clients": 0},
    },
    "nftables-and-filter": {
        "nodes": {"workers": 0}, "pods": {"perNode": 0}, "proxy": "nftables", "firewall": "kubernetes",
        "outside": {"clients": 0},
    },
    "ipvs": {"nodes": {"workers": 0}, "pods": {"perNode": 0}, "proxy": "ipvs", "outside": {"clients": 0}},
}  # fmt: skip


def steps(spec: dict[str, Any]) -> list[Step]:
    return dry_run.steps(draw(describe(spec, "lab1")))


def text(spec: dict[str, Any]) -> list[str]:
    lines = dry_run.text(steps(spec)).replace(str(ROOT), "REPOSITORY").splitlines()
    return [_without_machine(line) for line in lines]


def _without_machine(line: str) -> str:
    """Reference plugins are where the distribution puts them, and older ones do not speak CNI 1.0.0."""
    for folder in ("/usr/lib/cni", "/usr/libexec/cni"):
        line = line.replace(f" {folder}/", " REFERENCE/")
    return line.replace('"cniVersion": "0.4.0"', '"cniVersion": "1.0.0"')


@pytest.mark.parametrize("name", CLUSTERS)
def test_it_is_as_before(name: str, golden: Callable[[str, Any], None]) -> None:
    golden(f"dry-run-{name}", text(CLUSTERS[name]))


def test_it_is_the_same_every_time() -> None:
    assert len({dry_run.text(steps(CLUSTERS["racks-vxlan"])) for _ in range(3)}) == 1


def test_every_state_of_every_host_is_in_it() -> None:
    blueprint = draw(describe(CLUSTERS["racks-vxlan"], "lab1"))
    said = {(step.place, step.command) for step in dry_run.steps(blueprint)}
    compared = 0
    for host in blueprint.underlay.hosts.values():
        state = host.state().merged(blueprint.plan.state(host.name))
        for route in state.routes:
            words = f"ip route replace {route}" if len(route.hops) == 1 else f"ip route replace {route.destination} "
            assert [
                c for place, c in said if place == host.name and c.startswith(words.replace("0.0.0.0/0", "default"))
            ]
        for device, address in state.addresses:
            assert [c for place, c in said if place == host.name and c.startswith(f"ip address add {address} ")
                    and c.endswith(f" dev {device}")]  # fmt: skip
        for key, value in state.sysctls.items():
            assert (host.name, sysctl(key, value)) in said
        for device in state.up:
            assert (host.name, f"ip link set {device} up") in said
        compared += len(state.routes) + len(state.addresses) + len(state.sysctls) + len(state.up)
    assert compared > 100


# --- messages as commands

LINKS = {1: "lo", 2: "eth0", 3: "br0", 4: "vx0"}
SPACES = {7: "pod1"}
TUNNEL = Vxlan("vx0", 9, IPv4Address("10.0.0.1"), "eth0", 4789, "02:00:00:00:00:09", 1450)
MESSAGES: dict[str, rtnl.Request] = {
    "ip link set eth0 up": rtnl.set_up(2, "eth0"),
    "ip link delete br0": rtnl.delete_link(3, "br0"),
    "ip link set eth0 name eth1": rtnl.rename(2, "eth1"),
    "ip link set br0 address 02:00:00:00:00:01": rtnl.tune_bridge(3, "br0", "02:00:00:00:00:01"),
    "ip link add br0 address 02:00:00:00:00:01 up type bridge forward_delay 0": rtnl.add_bridge(
        "br0", 0, "02:00:00:00:00:01"
    ),
    "ip link set vx0 address 02:00:00:00:00:09 mtu 1450 txqueuelen 0 master br0": rtnl.tune_vxlan(TUNNEL, 4, 3),
    "ip link set vx0 address 02:00:00:00:00:09 mtu 1450 txqueuelen 0 nomaster": rtnl.tune_vxlan(TUNNEL, 4),
    "ip link add vx0 address 02:00:00:00:00:09 mtu 1450 txqueuelen 0 type vxlan id 9 local 10.0.0.1 dev eth0"
    " dstport 4789 nolearning": rtnl.add_vxlan(TUNNEL, 2),
    "ip link add p link eth0 address 02:00:00:00:00:02 mtu 1500 netns pod1 type macvlan mode private": (
        rtnl.add_macvlan("p", 2, "private", mac="02:00:00:00:00:02", mtu=1500, netns_fd=7)
    ),
    "ip link add p link eth0 mtu 1500 netns pod1 type ipvlan mode l3": (
        rtnl.add_ipvlan("p", 2, "l3", mtu=1500, netns_fd=7)
    ),
    "ip link add v0 mtu 1400 master br0 up type veth peer name eth0 mtu 1400 netns pod1": rtnl.add_veth(
        rtnl.VethEnd("v0", master=3, mtu=1400, up=True), rtnl.VethEnd("eth0", mtu=1400), 7
    ),
    "ip address add 10.0.0.1/24 broadcast 10.0.0.255 dev eth0": rtnl.address(2, "10.0.0.1/24"),
    "ip address add 10.0.0.1/32 dev eth0": rtnl.address(2, "10.0.0.1/32"),
    "ip address delete 10.0.0.1/24 dev eth0": rtnl.address(2, "10.0.0.1/24", delete=True),
    "ip route replace default via 10.0.0.2 dev eth0": rtnl.route("0.0.0.0/0", [("10.0.0.2", 2)]),
    "ip route replace 10.1.0.0/16 dev eth0": rtnl.route("10.1.0.0/16", [(None, 2)]),
    "ip route delete 10.1.0.0/16 via 10.0.0.2 dev eth0": rtnl.route("10.1.0.0/16", [("10.0.0.2", 2)], delete=True),
    "ip route replace 10.1.0.0/16 via 10.0.0.2 dev vx0 onlink": rtnl.gateway_route(
        IPv4Network("10.1.0.0/16"), IPv4Address("10.0.0.2"), 4, onlink=True
    ),
    "ip route replace 10.1.0.0/16 nexthop via 10.0.0.2 dev eth0 nexthop via 10.0.0.3 dev br0": rtnl.route(
        "10.1.0.0/16", [("10.0.0.2", 2), ("10.0.0.3", 3)]
    ),
    "ip neighbour replace 10.0.0.2 lladdr 02:00:00:00:00:02 dev vx0 nud permanent": rtnl.neighbour(
        IPv4Address("10.0.0.2"), "02:00:00:00:00:02", 4
    ),
    "bridge fdb delete 02:00:00:00:00:02 dev vx0 dst 10.0.0.2 self permanent": rtnl.fdb(
        "02:00:00:00:00:02", IPv4Address("10.0.0.2"), 4, delete=True
    ),
}


@pytest.mark.parametrize("words", MESSAGES)
def test_messages_are_told_as_commands(words: str) -> None:
    assert command(MESSAGES[words], LINKS, SPACES) == words


def test_every_kind_of_message_has_its_words() -> None:
    made = {name for name in vars(rtnl) if name.startswith(("RTM_NEW", "RTM_DEL"))}
    told = {request.type for request in MESSAGES.values()}
    assert {getattr(rtnl, name) for name in made} == told


# --- a kernel on paper


def commands(rehearsal: Rehearsal) -> Sequence[str]:
    return [step.text() for step in rehearsal.steps]


def test_what_is_there_is_not_asked_for_again() -> None:
    rehearsal = Rehearsal()
    rehearsal.add_namespace("a")
    state = NetState(
        up=frozenset(["lo"]),
        addresses=frozenset([("lo", IPv4Interface("10.0.0.1/32"))]),
        sysctls={"ipv4/ip_forward": "1"},
        chains=frozenset([Chain("filter", "MINE", ("-j ACCEPT",), (("FORWARD", "-j MINE"),))]),
    )
    rehearsal.apply("a", state, backend="nft")
    assert commands(rehearsal) == [
        "ip netns add a",
        "ip netns exec a sysctl -q -w net.ipv4.ip_forward=1",
        "ip -n a link set lo up",
        "ip -n a address add 10.0.0.1/32 dev lo",
        "ip netns exec a iptables-nft-restore -w 5 --noflush <<'END'\n*filter\n:MINE - [0:0]\n-A MINE -j ACCEPT\n"
        "-A FORWARD -j MINE\nCOMMIT\nEND",
    ]
    before = len(rehearsal.steps)
    rehearsal.apply("a", state, state)
    assert len(rehearsal.steps) == before


def test_links_can_be_used_once_they_are_there() -> None:
    rehearsal = Rehearsal()
    route = Route(IPv4Network("10.1.0.0/16"), (Hop("vx0", IPv4Address("10.1.0.0"), onlink=True),))
    with pytest.raises(Exception, match="eth0"):
        rehearsal.apply("", NetState(links=frozenset([TUNNEL])))
    rehearsal.batch("", [rtnl.add_bridge("eth0", 0, "02:00:00:00:00:01")])
    rehearsal.apply("", NetState(up=frozenset(["vx0"]), links=frozenset([TUNNEL]), routes=frozenset([route])))
    assert commands(rehearsal)[-1] == "ip route replace 10.1.0.0/16 via 10.1.0.0 dev vx0 onlink"


def test_names_with_dots_are_told_in_a_way_that_sysctl_understands() -> None:
    assert sysctl("ipv4/conf/flannel.1/rp_filter", "0") == "sysctl -q -w net/ipv4/conf/flannel.1/rp_filter=0"


# --- the commands


def call(*arguments: str) -> str:
    done = CliRunner().invoke(cli, list(arguments), standalone_mode=False)
    assert done.exception is None, done.exception
    return done.stdout


def test_up_tells_programs_the_same() -> None:
    options = ("up", "--dry-run", "--nodes", "1", "--pods", "1", "--set", "controlPlane.store=none")
    rows = json.loads(call(*options, "-o", "json"))
    script = call(*options)
    assert {"section", "namespace", "command", "stdin"} == set(rows[0])
    assert rows[0] == {**rows[0], "namespace": "", "command": "ip netns add blocked1"}
    for row in rows:
        assert (row["stdin"].strip() or row["command"].partition(" ")[2]) in script


def test_run_tells_cells_in_the_order_of_the_seed_and_their_clusters() -> None:
    options = ("run", "quickstart", "--set", "fabric=static,none,vxlan", "--dry-run")
    labs = json.loads(call(*options, "-o", "json"))
    assert sorted(lab["cluster"]["fabric"] for lab in labs) == ["none", "static", "vxlan"]
    assert [lab["runs"][0]["cell"]["fabric"] for lab in labs] == [lab["cluster"]["fabric"] for lab in labs]
    assert call(*options, "-o", "json") == json.dumps(labs, indent=2) + "\n"
    others = [json.loads(call(*options, "-o", "json", "--seed", str(seed))) for seed in range(2, 8)]
    assert any(other != labs for other in others)
    said = call(*options)
    assert "3 runs in 3 labs; seed 1" in said
    places = [said.index(f"fabric: {lab['cluster']['fabric']}") for lab in labs]
    assert places == sorted(places)
    assert "ip netns add node1" not in said
    assert call(*options, "--verbose").count("ip netns add node1\n") == 3
