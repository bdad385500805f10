"""bash-ipvlan on a kernel that has ipvlan: state, packets, CHECK, GC, STATUS, and the same as the reference plugin.

+-------------------- sandbox --------------------+
|  the node                          the wire     |
|  eth0 10.5.0.1 ==== veth ==== eth0 10.5.0.2     |
|   +-- ipvlan eth0 of "web"  10.5.0.10           |
|   +-- ipvlan eth0 of "db"   10.5.0.11           |
+-------------------------------------------------+
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sandbox import Sandbox
from test_cni_scripts import Node, merged
from test_cni_scripts_sublinks import (
    IPAM,
    KEY,
    MACVLAN,
    NO_MASTER,
    STORE,
    WIRE,
    all_links,
    link,
    mode,
    normal,
    reaches,
    store,
)

IPVLAN = {**MACVLAN, "type": "bash-ipvlan"}
MODES = ("l2", "l3", "l3s")


@pytest.fixture
def node() -> Iterator[Node]:
    with Sandbox() as sandbox:
        sandbox.sh(WIRE)
        yield Node(sandbox)


@pytest.mark.parametrize("how", MODES)
def test_add_puts_a_pod_on_the_master_and_del_takes_it_back(node: Node, how: str) -> None:
    box = node.sandbox
    box.netns("web", "db")
    # in l3 nobody answers ARP for the pods: the wire has to know where they are
    box.sh("ip -n wire route add 10.5.0.8/29 via 10.5.0.1; echo 1 >/proc/sys/net/ipv4/ip_forward")
    configuration = {**IPVLAN, "mode": how}
    before = box.links()
    web, db = node.ok("ADD", "web", configuration), node.ok("ADD", "db", configuration)
    mac = box.json("ip", "-j", "link", "show", "eth0")[0]["address"]
    assert web["interfaces"] == [{"name": "eth0", "mac": mac, "sandbox": "/run/netns/web"}]
    assert [each["ips"][0]["address"] for each in (web, db)] == ["10.5.0.10/24", "10.5.0.11/24"]
    assert (link(node)["linkinfo"]["info_kind"], mode(node)) == ("ipvlan", how)
    assert reaches(node, "web", "10.5.0.11")
    assert reaches(node, "web", "10.5.0.2")
    assert box.links() == before
    for _ in range(2):
        node.ok("DEL", "web", configuration)
        assert all_links(node, "web", "db") == [{"lo"}, {"lo", "eth0"}]
        assert store(node) == ["10.5.0.11"]
    box.run("ip", "netns", "del", "db")
    node.ok("DEL", "db", configuration)
    assert store(node) == []


SAME: dict[str, dict[str, Any]] = {
    "as it is": {},
    "l3": {"mode": "l3"},
    "l3s": {"mode": "l3s"},
    "mtu": {"mtu": 1400},
    "the default route's interface": NO_MASTER,
    "more routes": {"ipam.routes": [{"dst": "10.96.0.0/12"}, {"dst": "192.0.2.0/24", "gw": "10.5.0.9"}]},
    "after a plugin that gave addresses": {
        "ipam": {},
        "prevResult": {
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "eth0"}],
            "ips": [{"address": "10.5.0.20/24", "gateway": "10.5.0.2", "interface": 0}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.5.0.2"}],
        },
    },
}


@pytest.mark.parametrize("case", SAME)
def test_the_state_left_is_that_of_the_reference_plugin(case: str) -> None:
    found = []
    for name, ipam in (("bash-ipvlan", "bash-host-local"), ("ipvlan", "host-local")):
        with Sandbox() as box:
            box.sh(WIRE)
            box.netns("web")
            node = Node(box)
            base = {**IPVLAN, "cniVersion": "1.0.0", "type": name, "ipam": {**IPAM, "type": ipam}}
            changes = SAME[case]
            if name == "ipvlan" and changes == NO_MASTER:
                changes = {}  # Debian 13's, built with a newer netlink library, finds no default route
            found.append(normal(node, node.ok("ADD", "web", merged(base, changes))))
    assert found[0] == found[1]


TAMPERING = {
    "the address": "ip -n web addr flush dev eth0",
    "the route": "ip -n web route del default",
    "the interface": "ip -n web link del eth0",
    "down": "ip -n web link set eth0 down",
    "the mode": "ip -n web link set eth0 type ipvlan mode l3",
    "the master": "ip link set eth0 down; ip link set eth0 name eth9; ip link set eth9 up",
    "the address in the store": f"rm {STORE}/10.5.0.10",
}


@pytest.mark.parametrize("what", [None, *TAMPERING])
def test_check_finds_what_was_changed(node: Node, what: str | None) -> None:
    node.sandbox.netns("web")
    result = node.ok("ADD", "web", IPVLAN)
    again = {**IPVLAN, "prevResult": result}
    if what is None:
        assert node.ok("CHECK", "web", again) == {}
    else:
        node.sandbox.sh(TAMPERING[what])
        assert node.error("CHECK", "web", again)["code"] == 101


def test_gc_and_status(node: Node) -> None:
    node.sandbox.netns("web", "db")
    for name in ("web", "db"):
        node.ok("ADD", name, IPVLAN)
    unset = {"CNI_CONTAINERID": None, "CNI_NETNS": None, "CNI_IFNAME": None}
    valid = [{"containerID": "db", "ifname": "eth0"}]
    assert node.ok("GC", "x", {**IPVLAN, KEY: valid}, **unset) == {}
    assert store(node) == ["10.5.0.11"]
    assert node.ok("STATUS", "x", IPVLAN, **unset) == {}
    assert node.error("STATUS", "x", {**IPVLAN, "master": "nic9"}, **unset)["code"] == 50


def test_an_add_that_fails_late_takes_everything_back(node: Node) -> None:
    node.sandbox.netns("web")
    routes = {"ipam.routes": [{"dst": "192.0.2.0/24", "gw": "172.16.0.1"}]}
    assert "172.16.0.1" in node.error("ADD", "web", merged(IPVLAN, routes))["msg"]
    assert (all_links(node, "web"), store(node)) == ([{"lo"}], [])
