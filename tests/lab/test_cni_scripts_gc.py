"""GC and STATUS (CNI 1.1.0) of the bash plugins, on what is left in the kernel and in the store of addresses."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sandbox import Sandbox
from test_cni_scripts import BRIDGE, STORE, Node, merged

NEWEST = merged(BRIDGE, {"cniVersion": "1.1.0", "ipMasq": True})
KEY = "cni.dev/valid-attachments"
FAILING = """#!/bin/sh
[ "$CNI_COMMAND" = VERSION ] && echo '{"cniVersion": "1.0.0", "supportedVersions": ["1.1.0"]}' && exit
echo '{"cniVersion": "1.1.0", "code": 117, "msg": "the store is locked"}'
exit 1
"""
UNSET = {"CNI_CONTAINERID": None, "CNI_NETNS": None, "CNI_IFNAME": None}


@pytest.fixture
def node() -> Iterator[Node]:
    with Sandbox() as sandbox:
        yield Node(sandbox)


def attachment(container: str, interface: str = "eth0") -> dict[str, str]:
    return {"containerID": container, "ifname": interface}


def runtime(node: Node, command: str, configuration: dict[str, Any], **env: str | None) -> Any:
    """GC or STATUS as a runtime calls them: without a container, its namespace and its interface."""
    return node.call(command, "web", configuration, **{**UNSET, **env})


def gc(node: Node, configuration: dict[str, Any], *valid: dict[str, str]) -> None:
    done = runtime(node, "GC", {**configuration, KEY: list(valid)})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done


def refusal(node: Node, command: str, configuration: dict[str, Any], **env: str | None) -> dict[str, Any]:
    return node.error(command, "web", configuration, **{**UNSET, **env})


def ports(node: Node) -> set[str]:
    return {name for name in node.sandbox.links() if name.startswith("veth")}


# --- GC ---------------------------------------------------------------------------------------------------------------


def test_gc_takes_back_what_no_valid_attachment_has(node: Node) -> None:
    box = node.sandbox
    box.netns("web", "db", "old")
    results = {name: node.ok("ADD", name, NEWEST) for name in ("web", "db", "old")}
    second = node.ok("ADD", "web", merged(NEWEST, {"isDefaultGateway": False}), CNI_IFNAME="eth1")
    gc(node, NEWEST, attachment("web"), attachment("db"))
    assert ports(node) == {results[name]["interfaces"][1]["name"] for name in ("web", "db")}
    assert second["interfaces"][1]["name"] not in ports(node)
    assert node.store() == ["10.244.1.2", "10.244.1.3"]
    assert not any('id: \\"old\\"' in rule for rule in node.nat())
    for name in ("web", "db"):
        assert node.ok("CHECK", name, {**NEWEST, "prevResult": results[name]}) == {}
    gc(node, NEWEST, attachment("web"), attachment("db"))
    gc(node, NEWEST)
    assert (ports(node), node.store(), node.nat()) == (set(), [], [])


def test_gc_frees_what_a_namespace_that_has_gone_left(node: Node) -> None:
    node.sandbox.netns("web")
    node.ok("ADD", "web", NEWEST)
    node.sandbox.run("ip", "netns", "del", "web")
    gc(node, NEWEST)
    assert (node.store(), node.nat()) == ([], [])


def test_gc_leaves_alone_what_is_another_networks_or_nobodys(node: Node) -> None:
    box = node.sandbox
    box.netns("web", "other", "reference")
    other = merged(
        NEWEST, {"name": "others", "ipam.ranges": [[{"subnet": "10.244.1.0/25", "rangeStart": "10.244.1.50"}]]}
    )
    reference = merged(
        BRIDGE, {"type": "bridge", "name": "third", "ipam": {}, "isGateway": None, "isDefaultGateway": None}
    )
    node.ok("ADD", "web", NEWEST)
    kept = [node.ok("ADD", "other", merged(other, {"isGateway": False, "isDefaultGateway": False}))]
    kept.append(node.ok("ADD", "reference", reference))
    box.sh("ip link add veth00000000001 type veth peer name p1; ip link set veth00000000001 master cni0")
    gc(node, NEWEST)
    assert ports(node) == {*(each["interfaces"][1]["name"] for each in kept), "veth00000000001"}
    assert node.store() == []
    assert box.sh("ls /var/lib/cni/networks/others").split().count("10.244.1.50") == 1
    assert any('name: \\"others\\"' in rule for rule in node.nat())


def test_gc_by_the_address_plugin_alone(node: Node) -> None:
    box = node.sandbox
    box.netns("web", "db")
    node.ok("ADD", "web", NEWEST, True)
    node.ok("ADD", "db", NEWEST, True)
    # as an old reference plugin wrote it
    box.sh(f"printf old >{STORE}/10.244.1.9; printf db >{STORE}/10.244.1.10")
    done = node.call("GC", "x", {**NEWEST, KEY: [attachment("db")]}, True, CNI_CONTAINERID=None, CNI_NETNS=None)
    assert (done.returncode, done.stdout) == (0, "")
    assert node.store() == ["10.244.1.3", "10.244.1.10"]


def test_gc_where_nothing_was_ever_added(node: Node) -> None:
    gc(node, NEWEST)
    assert node.sandbox.links() == set()
    assert node.sandbox.sh("ls /var/lib/cni 2>/dev/null || true") == ""


WRONG_LISTS: dict[str, Any] = {"absent": None, "no list": "x", "no name": [{"containerID": "web"}], "empty": [{}]}


@pytest.mark.parametrize("case", WRONG_LISTS)
def test_without_a_list_that_is_one_nothing_goes(node: Node, case: str) -> None:
    node.sandbox.netns("web")
    node.ok("ADD", "web", NEWEST)
    error = refusal(node, "GC", merged(NEWEST, {}) | ({} if case == "absent" else {KEY: WRONG_LISTS[case]}))
    assert error["code"] == 7
    assert KEY in error["msg"]
    assert (len(ports(node)), node.store()) == (1, ["10.244.1.2"])


@pytest.mark.parametrize("command", ["GC", "STATUS"])
def test_an_address_plugin_that_is_too_old_is_named(node: Node, command: str) -> None:
    # Debian's reference plugin does not speak 1.1.0, and what it says to a command that it does not know is no help
    error = refusal(node, command, {**merged(NEWEST, {"ipam.type": "host-local"}), KEY: []})
    assert error["code"] == 1
    assert error["msg"] == "cniVersion: host-local does not speak 1.1.0"


def test_an_address_plugin_that_fails_is_passed_on_after_the_rest_was_done(node: Node, tmp_path: Path) -> None:
    node.sandbox.netns("web")
    node.ok("ADD", "web", NEWEST)
    plugin = tmp_path / "failing"
    plugin.write_text(FAILING)
    plugin.chmod(0o755)
    configuration = {**merged(NEWEST, {"ipam.type": "failing"}), KEY: []}
    error = refusal(node, "GC", configuration, CNI_PATH=str(tmp_path))
    assert (error["code"], error["msg"]) == (117, "ipam.type: failing: the store is locked")
    assert (ports(node), node.nat()) == (set(), [])


@pytest.mark.parametrize("command", ["GC", "STATUS"])
@pytest.mark.parametrize("version", ["0.4.0", "1.0.0"])
def test_older_versions_have_neither(node: Node, command: str, version: str) -> None:
    error = refusal(node, command, {**NEWEST, "cniVersion": version, KEY: []})
    assert (error["code"], error["cniVersion"]) == (1, version)


# --- names of ports ---------------------------------------------------------------------------------------------------


def test_a_ports_name_is_its_attachments_and_no_other_has_it(node: Node) -> None:
    box = node.sandbox
    names = ["a.b", "a-b", "a_b", "ab", "b", "0b", "00b", *(f"pod-{n}" for n in range(40))]
    made = set()
    for name in names:
        box.netns(name)
        made.add(node.ok("ADD", name, NEWEST)["interfaces"][1]["name"])
    assert len(made) == len(names)
    again = node.ok("ADD", "a.b", merged(NEWEST, {"isDefaultGateway": False}), CNI_IFNAME="eth1")["interfaces"][1][
        "name"
    ]
    assert again not in made
    node.ok("DEL", "a.b", NEWEST)
    assert node.ok("ADD", "a.b", NEWEST)["interfaces"][1]["name"] in made


def test_del_without_a_namespaces_path_takes_the_port_by_its_name(node: Node) -> None:
    box = node.sandbox
    box.netns("web", "db")
    node.ok("ADD", "web", NEWEST)
    kept = node.ok("ADD", "db", NEWEST)["interfaces"][1]["name"]
    node.ok("DEL", "web", NEWEST, CNI_NETNS=None)
    assert ports(node) == {kept}
    assert "eth0" not in box.run("ip", "-n", "web", "-o", "link").stdout
    assert node.store() == ["10.244.1.3"]


def test_add_again_by_any_way_leaves_the_first_as_it_was(node: Node) -> None:
    box = node.sandbox
    box.netns("web", "elsewhere")
    result = node.ok("ADD", "web", NEWEST)
    for configuration in (NEWEST, merged(NEWEST, {"ipam": {}, "isGateway": False, "isDefaultGateway": False})):
        for netns in ("web", "elsewhere"):
            assert node.error("ADD", "web", configuration, CNI_NETNS=f"/run/netns/{netns}")["code"] in {7, 100}
            assert node.ok("CHECK", "web", {**NEWEST, "prevResult": result}) == {}
    assert "eth0" not in box.run("ip", "-n", "elsewhere", "-o", "link").stdout


# --- STATUS -----------------------------------------------------------------------------------------------------------

FULL = [[{"subnet": "10.244.1.0/30"}], [{"subnet": "10.244.2.0/30", "rangeStart": "10.244.2.2"}]]
# What is done first, what is changed in the configuration, and a word of the error.
UNAVAILABLE: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "no address plugin": ("", {"ipam.type": "nonsense"}, 50, "nonsense"),
    "no bridge": ("ip link add cni0 type veth peer name x", {}, 50, "cni0"),
    "a bridge that is down": ("ip link add cni0 type bridge", {}, 51, "cni0"),
    "no iptables": ("", {"ipMasq": True}, 50, "ipMasq"),
    "the store is no folder": ("mkdir -p /var/lib/cni; touch /var/lib/cni/networks", {}, 50, "networks"),
    "a pool that is full": (f"mkdir -p {STORE}; touch {STORE}/10.244.2.2", {"ipam.ranges": FULL}, 50, "ipam.ranges.1"),
    "a wrong configuration": ("", {"ipam.ranges": [[{"subnet": "x"}]]}, 7, "subnet"),
}


@pytest.mark.parametrize("case", UNAVAILABLE)
def test_status_says_why_no_pod_can_be_added(node: Node, case: str) -> None:
    before, changes, code, word = UNAVAILABLE[case]
    box = node.sandbox
    box.sh(before or "true")
    box.sh("mkdir /run/bin; ln -s $(command -v bash cat ip readlink env) /run/bin")
    env = {"PATH": "/run/bin"} if case == "no iptables" else {}
    plain = merged(NEWEST, {"ipMasq": False})
    links = box.links()
    error = refusal(node, "STATUS", merged(plain, changes), **env)
    assert error["code"] == code, error
    assert word in error["msg"]
    assert box.links() == links


def test_status_of_a_node_that_can_is_silent_and_changes_nothing(node: Node) -> None:
    box = node.sandbox
    for ranges in (BRIDGE["ipam"]["ranges"], FULL):
        configuration = merged(NEWEST, {"ipam.ranges": copy.deepcopy(ranges)})
        done = runtime(node, "STATUS", configuration)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert box.links() == set()
    box.netns("web")
    node.ok("ADD", "web", NEWEST)
    assert runtime(node, "STATUS", NEWEST).returncode == 0


def test_status_passes_on_what_another_address_plugin_says(node: Node) -> None:
    box = node.sandbox
    box.sh("mkdir /run/bin; cat >/run/bin/mine <<'E'\n#!/bin/sh\n"
           """echo '{"cniVersion": "1.1.0", "code": 51, "msg": "no quorum", "details": ""}'; exit 1\nE\n"""
           "chmod +x /run/bin/mine")  # fmt: skip
    error = refusal(node, "STATUS", merged(NEWEST, {"ipam": {"type": "mine"}}), CNI_PATH="/run/bin")
    assert (error["code"], "no quorum" in error["msg"]) == (51, True)


# --- capabilities -----------------------------------------------------------------------------------------------------


def test_the_capabilities_mac_ips_and_ip_ranges(node: Node) -> None:
    box = node.sandbox
    box.netns("web", "db", "third")
    wanted = {"mac": "02:AA:00:00:00:02", "ips": ["10.244.1.77/24"]}
    result = node.ok("ADD", "web", {**NEWEST, "runtimeConfig": wanted})
    assert result["ips"][0]["address"] == "10.244.1.77/24"
    assert result["interfaces"][2]["mac"] == "02:aa:00:00:00:02"
    # the same configuration for another pod is not taken for the first one's
    assert node.ok("ADD", "db", NEWEST)["ips"][0]["address"] == "10.244.1.78/24"
    more = {"ipRanges": [[{"subnet": "10.9.0.0/24", "rangeStart": "10.9.0.9"}]]}
    result = node.ok("ADD", "third", {**NEWEST, "isGateway": False, "isDefaultGateway": False, "runtimeConfig": more})
    assert [each["address"] for each in result["ips"]] == ["10.9.0.9/24", "10.244.1.2/24"]


REFUSED_CAPABILITIES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no MAC": ({"mac": "x"}, ["runtimeConfig.mac", "x"]),
    "a group's MAC": ({"mac": "01:00:5e:00:00:01"}, ["runtimeConfig.mac"]),
    "an address of no range": ({"ips": ["10.9.0.1"]}, ["runtimeConfig.ips.0", "10.9.0.1"]),
    "two of one set": ({"ips": ["10.244.1.5", "10.244.1.6"]}, ["runtimeConfig.ips.1", "10.244.1.6"]),
    "no list": ({"ips": "10.244.1.5"}, ["runtimeConfig.ips"]),
    "no ranges": ({"ipRanges": [[]]}, ["runtimeConfig.ipRanges.0"]),
}


@pytest.mark.parametrize("case", REFUSED_CAPABILITIES)
def test_capabilities_that_cannot_be(node: Node, case: str) -> None:
    node.sandbox.netns("web")
    given, words = REFUSED_CAPABILITIES[case]
    error = node.error("ADD", "web", {**NEWEST, "runtimeConfig": given})
    assert [word for word in words if word not in error["msg"]] == []
    assert (node.store(), ports(node)) == ([], set())


def test_check_in_a_chain_whose_later_plugins_made_links_of_their_own(node: Node) -> None:
    box = node.sandbox
    box.netns("web")
    result = node.ok("ADD", "web", NEWEST)
    box.sh("ip link add bwp1 type veth peer name veth0; ip link set bwp1 up")
    macs = {name: box.json("ip", "-j", "link", "show", name)[0]["address"] for name in ("bwp1", "veth0")}
    others = [{"name": name, "mac": mac} for name, mac in macs.items()]
    again = {**NEWEST, "prevResult": {**result, "interfaces": [*result["interfaces"], *others]}}
    assert node.ok("CHECK", "web", again) == {}
    box.run("ip", "link", "set", result["interfaces"][1]["name"], "nomaster")
    assert node.error("CHECK", "web", again)["code"] == 101


@pytest.mark.parametrize("command", ["GC", "STATUS"])
def test_an_address_plugin_that_is_older_than_the_configuration_is_named(node: Node, command: str) -> None:
    old = merged(NEWEST, {"ipam": {"type": "host-local", "subnet": "10.244.1.0/24", "ranges": None}})
    error = refusal(node, command, {**old, KEY: []})
    assert (error["code"], error["msg"]) == (1, "cniVersion: host-local does not speak 1.1.0")
