"""bash-macvlan on the kernel's own state and on packets, and against the reference plugin; what bash-ipvlan refuses.

+-------------------- sandbox --------------------+
|  the node                          the wire     |
|  eth0 10.5.0.1 ==== veth ==== eth0 10.5.0.2     |
|   +-- macvlan eth0 of "web"  10.5.0.10          |
|   +-- macvlan eth0 of "db"   10.5.0.11          |
+-------------------------------------------------+

bash-ipvlan's own tests need a kernel that has ipvlan: tests/vm/inside/test_vm_ipvlan.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from sandbox import Sandbox
from test_cni_scripts import Node, merged

IPAM = {
    "type": "bash-host-local",
    "ranges": [[{"subnet": "10.5.0.0/24", "rangeStart": "10.5.0.10", "gateway": "10.5.0.2"}]],
    "routes": [{"dst": "0.0.0.0/0"}],
}
MACVLAN: dict[str, Any] = {
    "cniVersion": "1.1.0",
    "name": "flat",
    "type": "bash-macvlan",
    "master": "eth0",
    "ipam": IPAM,
}
REFERENCE = {**MACVLAN, "cniVersion": "1.0.0", "type": "macvlan", "ipam": {**IPAM, "type": "host-local"}}
STORE = "/var/lib/cni/networks/flat"
KEY = "cni.dev/valid-attachments"
WIRE = """
ip netns add wire
ip link add eth0 type veth peer name eth0 netns wire
ip addr add 10.5.0.1/24 dev eth0; ip link set eth0 up
ip -n wire addr add 10.5.0.2/24 dev eth0; ip -n wire link set eth0 up
ip route add default via 10.5.0.2
"""


@pytest.fixture
def node() -> Iterator[Node]:
    with Sandbox() as sandbox:
        sandbox.sh(WIRE)
        yield Node(sandbox)


def store(node: Node) -> list[str]:
    names = node.sandbox.sh(f"ls {STORE} 2>/dev/null || true").split()
    return sorted(name for name in names if name[0].isdigit())


def link(node: Node, netns: str = "web", name: str = "eth0") -> dict[str, Any]:
    return dict(node.sandbox.json("ip", "-n", netns, "-j", "-d", "addr", "show", "dev", name)[0])


def mode(node: Node) -> str:
    return str(link(node)["linkinfo"]["info_data"]["mode"])


def reaches(node: Node, netns: str, address: str) -> bool:
    argv = ("ip", "netns", "exec", netns, "ping", "-c1", "-W1", address)
    return node.sandbox.run(*argv, ok=False).returncode == 0


def all_links(node: Node, *places: str) -> list[set[str]]:
    return [{each["ifname"] for each in node.sandbox.json("ip", "-n", place, "-j", "link")} for place in places]


# --- what it makes ----------------------------------------------------------------------------------------------------


def test_add_puts_a_pod_on_the_masters_wire_and_del_takes_it_back(node: Node) -> None:
    box = node.sandbox
    box.netns("web", "db")
    before = box.links()
    web, db = node.ok("ADD", "web", MACVLAN), node.ok("ADD", "db", MACVLAN)
    assert web["ips"] == [{"interface": 0, "address": "10.5.0.10/24", "gateway": "10.5.0.2"}]
    assert web["interfaces"] == [{"name": "eth0", "mac": link(node)["address"], "sandbox": "/run/netns/web"}]
    assert db["ips"][0]["address"] == "10.5.0.11/24"
    assert (link(node)["linkinfo"]["info_kind"], mode(node)) == ("macvlan", "bridge")
    assert reaches(node, "web", "10.5.0.2")
    assert reaches(node, "web", "10.5.0.11")
    # the kernel keeps the node from the pods on its own interface
    assert not reaches(node, "web", "10.5.0.1")
    assert box.links() == before
    for _ in range(2):
        node.ok("DEL", "web", MACVLAN)
        assert all_links(node, "web", "db") == [{"lo"}, {"lo", "eth0"}]
        assert store(node) == ["10.5.0.11"]
    box.run("ip", "netns", "del", "db")
    node.ok("DEL", "db", MACVLAN)
    node.ok("DEL", "db", MACVLAN, CNI_NETNS=None)
    assert store(node) == []


def test_private_keeps_the_pods_of_a_node_apart(node: Node) -> None:
    node.sandbox.netns("web", "db")
    for name in ("web", "db"):
        node.ok("ADD", name, {**MACVLAN, "mode": "private"})
    assert mode(node) == "private"
    assert reaches(node, "web", "10.5.0.2")
    assert not reaches(node, "web", "10.5.0.11")


def test_passthru_has_the_masters_mac_and_one_pod(node: Node) -> None:
    box = node.sandbox
    box.netns("web", "db")
    mac = box.json("ip", "-j", "link", "show", "eth0")[0]["address"]
    result = node.ok("ADD", "web", {**MACVLAN, "mode": "passthru"})
    assert (mode(node), result["interfaces"][0]["mac"]) == ("passthru", mac)
    assert node.error("ADD", "db", {**MACVLAN, "mode": "passthru"})["code"] == 100
    assert (all_links(node, "db"), store(node)) == ([{"lo"}], ["10.5.0.10"])


def normal(node: Node, result: dict[str, Any]) -> dict[str, Any]:
    """State and result without MACs, numbers and what follows from them."""
    shown = link(node)
    routes = node.sandbox.json("ip", "-n", "web", "-j", "-4", "route", "show", "table", "all", "type", "unicast")
    return {
        **{key: shown.get(key) for key in ("flags", "mtu", "qdisc", "operstate", "link_type", "group")},
        "info": {k: v for k, v in shown["linkinfo"]["info_data"].items() if not k.startswith("bcqueue")},
        "addresses": [[a["local"], a["prefixlen"], a["scope"]] for a in shown["addr_info"] if a["family"] == "inet"],
        "routes": routes,
        "result": json.loads(re.sub('"mac": "[^"]*"', '"mac": ""', json.dumps(result))),
    }


NO_MASTER: dict[str, Any] = {"master": None}
SAME: dict[str, dict[str, Any]] = {
    "as it is": {},
    "0.4.0": {"cniVersion": "0.4.0"},
    "vepa": {"mode": "vepa"},
    "private": {"mode": "private"},
    "passthru": {"mode": "passthru"},
    "mtu": {"mtu": 1400},
    "the default route's interface": NO_MASTER,
    "layer 2": {"ipam": {}},
    "two addresses": {"ipam.ranges": [*IPAM["ranges"], [{"subnet": "10.6.0.0/24"}]]},
    "more routes": {"ipam.routes": [{"dst": "10.96.0.0/12"}, {"dst": "192.0.2.0/24", "gw": "10.5.0.9"}]},
    "dns": {"dns": {"nameservers": ["10.96.0.10"], "search": ["a"]}},
}


@pytest.mark.parametrize("case", SAME)
def test_the_state_left_is_that_of_the_reference_plugin(case: str) -> None:
    found = []
    for name in ("bash-macvlan", "macvlan"):
        with Sandbox() as box:
            box.sh(WIRE)
            box.netns("web")
            node = Node(box)
            base = REFERENCE if name == "macvlan" else {**MACVLAN, "cniVersion": "1.0.0"}
            changes = SAME[case]
            if name == "macvlan" and changes == NO_MASTER:
                changes = {}  # Debian 13's, built with a newer netlink library, finds no default route
            found.append(normal(node, node.ok("ADD", "web", merged(base, changes))))
    assert found[0] == found[1]


def test_either_takes_back_what_the_other_set_up(node: Node) -> None:
    node.sandbox.netns("web")
    one, other = {**MACVLAN, "cniVersion": "1.0.0"}, REFERENCE
    for first, second in ((one, other), (other, one)):
        result = node.ok("ADD", "web", first)
        node.ok("CHECK", "web", {**second, "prevResult": result})
        node.ok("DEL", "web", second)
        assert (all_links(node, "web"), store(node)) == ([{"lo"}], [])


def test_the_mac_is_asked_for_or_made_of_the_address(node: Node) -> None:
    box = node.sandbox
    box.netns("web")
    asked = (
        ({}, {}, "0a:58:0a:05:00:0a"),
        ({"mac": "02:00:00:00:00:01"}, {}, "02:00:00:00:00:01"),
        ({"mac": "02:00:00:00:00:01"}, {"CNI_ARGS": "MAC=02:00:00:00:00:02"}, "02:00:00:00:00:02"),
        ({"runtimeConfig": {"mac": "02:00:00:00:00:03"}}, {"CNI_ARGS": "MAC=02:00:00:00:00:02"}, "02:00:00:00:00:03"),
    )
    for changes, env, mac in asked:
        result = node.ok("ADD", "web", {**MACVLAN, **changes}, **env)
        assert (link(node)["address"], result["interfaces"][0]["mac"]) == (mac, mac)
        node.ok("DEL", "web", {**MACVLAN, **changes}, **env)
        box.sh(f"rm -f {STORE}/last_reserved_ip.0")


def test_an_interface_of_the_pod_can_be_the_master(node: Node) -> None:
    box = node.sandbox
    box.sh(
        "ip netns add web; ip link add p type veth peer name up0 netns web; ip -n web link set up0 up; ip link set p up"
    )
    configuration = merged(MACVLAN, {"master": "up0", "linkInContainer": True})
    result = node.ok("ADD", "web", configuration)
    assert link(node)["link"] == "up0"
    node.ok("CHECK", "web", {**configuration, "prevResult": result})
    node.ok("DEL", "web", configuration)
    assert all_links(node, "web") == [{"lo", "up0"}]


# --- CHECK, GC, STATUS ------------------------------------------------------------------------------------------------

TAMPERING = {
    "the address": "ip -n web addr flush dev eth0",
    "the route": "ip -n web route del default",
    "the interface": "ip -n web link del eth0",
    "down": "ip -n web link set eth0 down",
    "the MAC": "ip -n web link set eth0 address 02:00:00:00:00:01",
    "the mode": "ip -n web link set eth0 type macvlan mode vepa",
    "the master": "ip link set eth0 down; ip link set eth0 name eth9; ip link set eth9 up",
    "another master": "ip -n web link del eth0; ip link add m9 type veth peer name m8; "
    "ip link add link m9 name e netns web address $mac type macvlan mode bridge; ip -n web link set e name eth0; "
    "ip -n web link set eth0 up; ip -n web addr add 10.5.0.10/24 dev eth0; ip -n web route add default via 10.5.0.2",
    "the kind": "ip -n web link del eth0; ip link add e netns web address $mac type veth peer name x; "
    "ip link set x up; ip -n web link set e name eth0; ip -n web link set eth0 up; "
    "ip -n web addr add 10.5.0.10/24 dev eth0; ip -n web route add default via 10.5.0.2",
    "the address in the store": f"rm {STORE}/10.5.0.10",
}


@pytest.mark.parametrize("what", [None, *TAMPERING])
def test_check_finds_what_was_changed(node: Node, what: str | None) -> None:
    box = node.sandbox
    box.netns("web")
    result = node.ok("ADD", "web", MACVLAN)
    again = {**MACVLAN, "prevResult": result}
    if what is None:
        assert node.ok("CHECK", "web", again) == {}
    else:
        box.sh(f"mac={result['interfaces'][0]['mac']}; {TAMPERING[what]}")
        assert node.error("CHECK", "web", again)["code"] == 101


def test_gc_frees_the_addresses_of_attachments_that_are_not_known(node: Node) -> None:
    node.sandbox.netns("web", "db")
    for name in ("web", "db"):
        node.ok("ADD", name, MACVLAN)
    valid = [{"containerID": "db", "ifname": "eth0"}]
    unset = {"CNI_CONTAINERID": None, "CNI_NETNS": None, "CNI_IFNAME": None}
    assert node.ok("GC", "x", {**MACVLAN, KEY: valid}, **unset) == {}
    assert store(node) == ["10.5.0.11"]
    assert node.error("GC", "x", MACVLAN, **unset)["code"] == 7


def test_status(node: Node) -> None:
    unset = {"CNI_CONTAINERID": None, "CNI_NETNS": None, "CNI_IFNAME": None}
    assert node.ok("STATUS", "x", MACVLAN, **unset) == {}
    for changes, word in (({"master": "nic9"}, "nic9"), ({"ipam": {"type": "nonsense"}}, "nonsense")):
        error = node.error("STATUS", "x", {**MACVLAN, **changes}, **unset)
        assert (error["code"], word in error["msg"]) == (50, True)
    node.sandbox.run("ip", "route", "del", "default")
    error = node.error("STATUS", "x", merged(MACVLAN, {"master": None}), **unset)
    assert (error["code"], "default route" in error["msg"]) == (50, True)


@pytest.mark.parametrize("kind", ["macvlan", "ipvlan"])
def test_version(node: Node, kind: str) -> None:
    done = node.call("VERSION", "x", {"type": f"bash-{kind}", "cniVersion": "1.1.0"})
    assert json.loads(done.stdout) == {"cniVersion": "1.1.0", "supportedVersions": ["0.4.0", "1.0.0", "1.1.0"]}


# --- bad input, and failures half-way ---------------------------------------------------------------------------------

# What is changed, the error's code, and words that it must say.
WRONG: dict[str, tuple[dict[str, Any], int, list[str]]] = {
    "a mode there is not": ({"mode": "source"}, 7, ["mode", "source"]),
    "no such master": ({"master": "nic9"}, 7, ["master", "nic9"]),
    "a master that is no name": ({"master": "a b"}, 7, ["master"]),
    "an MTU too small": ({"mtu": 60}, 7, ["mtu", "60"]),
    "an MTU above the master's": ({"mtu": 9000}, 7, ["mtu", "9000"]),
    "an MTU that is none": ({"mtu": "big"}, 7, ["mtu", "big"]),
    "a MAC that is none": ({"mac": "zz"}, 7, ["mac", "zz"]),
    "linkInContainer": ({"linkInContainer": "yes"}, 7, ["linkInContainer", "yes"]),
    "no such address plugin": ({"ipam": {"type": "nonsense"}}, 7, ["ipam.type", "nonsense"]),
    "a version of the future": ({"cniVersion": "2.0.0"}, 1, ["cniVersion", "2.0.0"]),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("kind", ["macvlan", "ipvlan"])
def test_a_wrong_configuration_is_refused_by_name_before_anything_is_built(node: Node, case: str, kind: str) -> None:
    changes, code, words = WRONG[case]
    if kind == "ipvlan" and "mac" in changes:
        changes, code, words = {"mode": "bridge"}, 7, ["mode", "bridge"]
    node.sandbox.netns("web")
    error = node.error("ADD", "web", {**MACVLAN, "type": f"bash-{kind}", **changes})
    assert error["code"] == code
    assert [word for word in words if word not in error["msg"]] == []
    assert error["details"]
    assert (all_links(node, "web"), store(node)) == ([{"lo"}], [])


def test_add_again_is_an_error_and_changes_nothing(node: Node) -> None:
    node.sandbox.netns("web")
    result = node.ok("ADD", "web", MACVLAN)
    assert "eth0" in node.error("ADD", "web", MACVLAN)["msg"]
    assert "eth0" in node.error("ADD", "other", MACVLAN, CNI_NETNS="/run/netns/web")["msg"]
    assert node.ok("CHECK", "web", {**MACVLAN, "prevResult": result}) == {}
    assert store(node) == ["10.5.0.10"]


def test_an_add_that_fails_late_takes_everything_back(node: Node) -> None:
    node.sandbox.netns("web")
    routes = {"ipam.routes": [{"dst": "192.0.2.0/24", "gw": "172.16.0.1"}]}
    error = node.error("ADD", "web", merged(MACVLAN, routes))
    assert "172.16.0.1" in error["msg"]
    assert (all_links(node, "web"), store(node)) == ([{"lo"}], [])


def test_ipvlan_without_a_kernel_that_has_it_or_addresses_leaves_nothing(node: Node) -> None:
    node.sandbox.netns("web")
    error = node.error("ADD", "web", {**MACVLAN, "type": "bash-ipvlan", "ipam": {}})
    assert (error["code"], "prevResult" in error["msg"]) == (7, True)
    assert (all_links(node, "web"), store(node)) == ([{"lo"}], [])


def test_status_says_when_the_kernel_has_no_such_interface(node: Node) -> None:
    box = node.sandbox
    unset = {"CNI_CONTAINERID": None, "CNI_NETNS": None, "CNI_IFNAME": None}
    # a stand-in for ip on such a kernel
    box.sh("mkdir /run/bin; cat >/run/bin/ip <<'E'\n#!/bin/sh\ncase $* in *type\\ ipvlan*)\n"
           "echo 'Error: Unknown device type.' >&2; exit 2;; esac\nexec /sbin/ip \"$@\"\nE\n"
           "chmod +x /run/bin/ip")  # fmt: skip
    path = {"PATH": "/run/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    error = node.error("STATUS", "x", {**MACVLAN, "type": "bash-ipvlan"}, **unset, **path)
    assert (error["code"], "ipvlan" in error["msg"]) == (50, True)
