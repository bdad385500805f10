"""The bash CNI plugins on the kernel's own state, and against the reference plugins.

+------------------------ sandbox ------------------------+
|  the node: cni0 10.244.1.1 ---+--- eth0 of "web"  .2    |
|                               +--- eth0 of "db"   .3    |
+---------------------------------------------------------+
"""

from __future__ import annotations

import copy
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sandbox import Sandbox

SCRIPTS = Path(__file__).resolve().parents[2] / "cni_scripts"
REFERENCE = Path("/usr/lib/cni")
CNI_PATH = f"{SCRIPTS}:{REFERENCE}"
STORE = "/var/lib/cni/networks/pods"
BRIDGE: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "type": "bash-bridge",
    "bridge": "cni0",
    "isGateway": True,
    "isDefaultGateway": True,
    "hairpinMode": True,
    "ipam": {"type": "bash-host-local", "ranges": [[{"subnet": "10.244.1.0/24"}]]},
}


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes``; "ipam.x" changes a key of ipam, None takes a key away."""
    result = copy.deepcopy(base)
    for name, value in changes.items():
        *path, last = name.split(".")
        place = result
        for step in path:
            place = place[step]
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return result


def by_reference(configuration: dict[str, Any]) -> dict[str, Any]:
    """The same configuration for the reference plugins: only the types differ."""
    text = json.dumps(configuration)
    return json.loads(text.replace('"bash-bridge"', '"bridge"').replace('"bash-host-local"', '"host-local"'))


class Node:
    """A sandbox as a node, and calls of plugins in it."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    def environment(self, command: str, container: str, **changes: str | None) -> dict[str, str]:
        env: dict[str, str | None] = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": f"/run/netns/{container}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": CNI_PATH,
        }
        return {name: value for name, value in {**env, **changes}.items() if value is not None}

    def program(self, configuration: dict[str, Any], ipam: bool = False) -> str:
        name = configuration["ipam"]["type"] if ipam else configuration["type"]
        return str((SCRIPTS if name.startswith("bash-") else REFERENCE) / name)

    def call(
        self,
        command: str,
        container: str,
        configuration: dict[str, Any] = BRIDGE,
        ipam: bool = False,
        **env: str | None,
    ) -> subprocess.CompletedProcess[str]:
        return self.sandbox.run(
            self.program(configuration, ipam),
            env=self.environment(command, container, **env),
            stdin=json.dumps(configuration),
            ok=False,
        )

    def ok(self, *arguments: Any, **env: Any) -> dict[str, Any]:
        """A call that succeeds: its result."""
        done = self.call(*arguments, **env)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def error(self, *arguments: Any, **env: Any) -> dict[str, Any]:
        """A call that fails: its error, of which the form is checked."""
        done = self.call(*arguments, **env)
        assert done.returncode != 0, done.stdout
        error = json.loads(done.stdout)
        assert set(error) == {"cniVersion", "code", "msg", "details"}, error
        assert done.stderr == ""
        return error

    def store(self) -> list[str]:
        """The addresses given out."""
        names = self.sandbox.sh(f"ls {STORE} 2>/dev/null || true").split()
        return sorted((n for n in names if n[0].isdigit()), key=lambda n: int(n.rsplit(".", 1)[1]))

    def nat(self) -> list[str]:
        """The rules of the table nat that are ours."""
        rules = self.sandbox.run("iptables-save", "-t", "nat").stdout
        return [line for line in rules.splitlines() if "CNI-" in line]


def address(result: dict[str, Any]) -> str:
    return result["ips"][0]["address"]


@pytest.fixture
def node() -> Iterator[Node]:
    with Sandbox() as sandbox:
        yield Node(sandbox)


# --- ADD and DEL ------------------------------------------------------------------------------------------------------


def test_add_connects_a_pod_and_del_takes_it_all_back(node: Node) -> None:
    box = node.sandbox
    box.netns("web", "db")
    web, db = node.ok("ADD", "web"), node.ok("ADD", "db")
    assert [address(web), address(db)] == ["10.244.1.2/24", "10.244.1.3/24"]
    box.sh("ip netns exec web ping -c 1 -W 2 10.244.1.3")
    box.sh("ip netns exec db ping -c 1 -W 2 10.244.1.1")
    box.sh("ping -c 1 -W 2 10.244.1.2")
    assert box.sh("ip -n web route show default").split() == ["default", "via", "10.244.1.1", "dev", "eth0"]
    assert box.sh("cat /proc/sys/net/ipv4/ip_forward") == "1\n"
    port = web["interfaces"][1]["name"]
    assert box.sh(f"cat /sys/class/net/{port}/brport/hairpin_mode") == "1\n"
    for name in ("web", "db"):
        assert node.ok("DEL", name) == {}
        assert "eth0" not in box.sh(f"ip -n {name} link")
    assert box.links() == {"cni0"}
    assert node.store() == []


def test_the_result_names_what_is_in_the_kernel(node: Node) -> None:
    box = node.sandbox
    box.netns("web")
    result = node.ok("ADD", "web")
    bridge, port, pod = result["interfaces"]
    assert set(result) == {"cniVersion", "interfaces", "ips", "routes", "dns"}
    assert pod == {"name": "eth0", "mac": pod["mac"], "sandbox": "/run/netns/web"}
    assert (bridge["name"], set(bridge), set(port)) == ("cni0", {"name", "mac"}, {"name", "mac"})
    for interface in (bridge, port):
        assert box.json("ip", "-j", "link", "show", interface["name"])[0]["address"] == interface["mac"]
    assert box.json("ip", "-n", "web", "-j", "link", "show", "eth0")[0]["address"] == pod["mac"]
    assert result["ips"] == [{"interface": 2, "address": "10.244.1.2/24", "gateway": "10.244.1.1"}]
    assert result["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.244.1.1"}]
    assert result["dns"] == {}


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_the_result_is_in_the_version_of_the_configuration(node: Node, version: str) -> None:
    node.sandbox.netns("web")
    result = node.ok("ADD", "web", merged(BRIDGE, {"cniVersion": version, "dns": {"nameservers": ["10.96.0.10"]}}))
    assert result["cniVersion"] == version
    assert result["ips"][0].get("version") == ("4" if version == "0.4.0" else None)
    assert result["dns"] == {"nameservers": ["10.96.0.10"]}


def test_the_first_packet_gets_through_and_the_bridge_keeps_its_mac(node: Node) -> None:
    box = node.sandbox
    macs = set()
    for i in range(5):
        box.netns(f"pod{i}")
        macs.add(node.ok("ADD", f"pod{i}")["interfaces"][0]["mac"])
        box.sh(f"ip netns exec pod{i} ping -c 1 -W 1 10.244.1.1")
    for i in range(5):
        node.ok("DEL", f"pod{i}")
        macs.add(box.json("ip", "-j", "link", "show", "cni0")[0]["address"])
    assert len(macs) == 1


def test_del_again_and_without_a_namespace_succeeds_and_frees_the_address(node: Node) -> None:
    box = node.sandbox
    box.netns("a", "b", "c")
    for name in "abc":
        node.ok("ADD", name)
    node.ok("DEL", "a")
    node.ok("DEL", "a")
    node.ok("DEL", "b", CNI_NETNS=None)
    box.run("ip", "netns", "del", "c")
    node.ok("DEL", "c")
    # a path that is left over, but no namespace
    box.run("touch", "/run/netns/d")
    node.ok("DEL", "d")
    assert node.store() == []
    node.ok("DEL", "b")
    assert box.links() == {"cni0"}


def test_add_again_is_an_error_and_changes_nothing(node: Node) -> None:
    box = node.sandbox
    box.netns("web", "other")
    node.ok("ADD", "web")
    before = box.links()
    error = node.error("ADD", "web")
    assert re.search("web has a port veth.* for its interface eth0 in network pods", error["msg"])
    assert error["details"]
    error = node.error("ADD", "other", CNI_NETNS="/run/netns/web")
    assert (error["code"], "eth0 is there already" in error["msg"]) == (100, True)
    assert (box.links(), node.store()) == (before, ["10.244.1.2"])
    box.sh("ip netns exec web ping -c 1 -W 2 10.244.1.1")


def test_a_mac_and_an_address_that_are_asked_for(node: Node) -> None:
    box = node.sandbox
    box.netns("web", "db")
    wanted = "IgnoreUnknown=1;K8S_POD_NAME=web;IP=10.244.1.99;MAC=02:AA:00:00:00:01"
    result = node.ok("ADD", "web", CNI_ARGS=wanted)
    assert (address(result), result["interfaces"][2]["mac"]) == ("10.244.1.99/24", "02:aa:00:00:00:01")
    assert box.json("ip", "-n", "web", "-j", "link", "show", "eth0")[0]["address"] == "02:aa:00:00:00:01"
    assert "MAC" in node.error("ADD", "db", CNI_ARGS="MAC=01:00:00:00:00:01")["msg"]
    assert node.store() == ["10.244.1.99"]


def test_a_second_interface_of_the_same_container(node: Node) -> None:
    node.sandbox.netns("web")
    second = merged(BRIDGE, {"isDefaultGateway": False})
    assert address(node.ok("ADD", "web")) == "10.244.1.2/24"
    assert address(node.ok("ADD", "web", second, CNI_IFNAME="net1")) == "10.244.1.3/24"
    node.ok("DEL", "web", second, CNI_IFNAME="net1")
    assert node.store() == ["10.244.1.2"]


@pytest.mark.parametrize("path", ["/proc/{pid}/ns/net", "/run/a name with blanks", "/run/quote'and#hash"])
def test_namespaces_by_any_path(node: Node, path: str) -> None:
    box = node.sandbox
    box.netns("web")
    pid = box.sh("ip netns exec web sh -c 'sleep 1000 </dev/null >/dev/null 2>&1 & echo $!'").strip()
    path = path.format(pid=pid)
    if not path.startswith("/proc"):
        box.run("touch", path)
        box.run("mount", "--bind", "/run/netns/web", path)
    result = node.ok("ADD", "web", CNI_NETNS=path)
    assert result["interfaces"][2]["sandbox"] == path
    box.sh("ip netns exec web ping -c 1 -W 2 10.244.1.1")
    node.ok("CHECK", "web", {**BRIDGE, "prevResult": result}, CNI_NETNS=path)
    node.ok("DEL", "web", CNI_NETNS=path)
    assert box.links() == {"cni0"}


def test_sys_may_show_another_namespace(node: Node) -> None:
    """As when only the network namespace of a node was entered: what /sys shows must not be believed."""
    box = node.sandbox
    box.sh("ip link add cni0 type bridge; ip link set cni0 up")  # a decoy: /sys shows this one
    box.netns("node", "web")
    environment = node.environment("ADD", "web")
    words = [f"{name}={value}" for name, value in environment.items()]
    run = ["nsenter", "--net=/run/netns/node", "env", *words, node.program(BRIDGE)]
    result = json.loads(box.run(*run, stdin=json.dumps(BRIDGE)).stdout)
    bridge, port, _ = result["interfaces"]
    links = {link["ifname"]: link for link in box.json("ip", "-n", "node", "-j", "-d", "link")}
    assert links["cni0"]["address"] == bridge["mac"]
    assert links[port["name"]]["linkinfo"]["info_slave_data"]["hairpin"] is True
    box.sh("ip netns exec web ping -c 1 -W 2 10.244.1.1")
    assert box.links() == {"cni0"}


@pytest.mark.parametrize("user_namespace", [False, True])
def test_with_and_without_root(user_namespace: bool) -> None:
    with Sandbox(user_namespace) as box:
        node = Node(box)
        box.netns("web", "db")
        node.ok("ADD", "web", merged(BRIDGE, {"ipMasq": True}))
        node.ok("ADD", "db")
        box.sh("ip netns exec web ping -c 1 -W 2 10.244.1.3")
        node.ok("DEL", "web", merged(BRIDGE, {"ipMasq": True}))
        node.ok("DEL", "db")
        assert (box.links(), node.store(), node.nat()) == ({"cni0"}, [], [])


@pytest.mark.parametrize("beside", [True, False])
def test_plugins_may_be_links(node: Node, beside: bool) -> None:
    box = node.sandbox
    box.netns("web")
    names = ["bash-bridge", "bash-host-local", *(["cni-json.bash", "cni-interface.bash"] if beside else [])]
    box.sh("mkdir /run/bin; " + "; ".join(f"ln -s {SCRIPTS / name} /run/bin/{name}" for name in names))
    env = node.environment("ADD", "web", CNI_PATH="/run/bin")
    done = box.run("/run/bin/bash-bridge", env=env, stdin=json.dumps(BRIDGE))
    assert address(json.loads(done.stdout)) == "10.244.1.2/24"
    env = node.environment("ADD", "other", CNI_PATH="/run/bin")
    done = box.run("/run/bin/bash-host-local", env=env, stdin=json.dumps(BRIDGE))
    assert address(json.loads(done.stdout)) == "10.244.1.3/24"


# --- the same as the reference plugins --------------------------------------------------------------------------------


def shape(box: Sandbox, result: dict[str, Any], netns: str = "web") -> dict[str, Any]:
    """The kernel's state and the result, with names and MACs taken out.

    Also out: the queue's length, which reference plugins before 1.5 set to 0 on veths (the kernel's default is 1000),
    counters, and IPv6 addresses, which are made of the MACs.
    """
    port = result["interfaces"][1]["name"]

    def link(*argv: str) -> dict[str, Any]:
        shown = box.json(*argv)[0]
        data = shown.get("linkinfo", {}).get("info_data", {})
        slave = shown.get("linkinfo", {}).get("info_slave_data", {})
        volatile = re.compile("timer|n_learned|_id$|^root_|designated|config_pending|port_?id|^no$|_no$")
        return {
            **{k: shown.get(k) for k in ("flags", "mtu", "qdisc", "operstate", "master", "link_type", "promiscuity")},
            "kind": shown.get("linkinfo", {}).get("info_kind"),
            "data": {k: v for k, v in data.items() if not volatile.search(k)},
            "slave": {k: v for k, v in slave.items() if not volatile.search(k)},
            "addresses": [
                {k: v for k, v in a.items() if k != "label"}
                for a in shown.get("addr_info", [])
                if a["family"] == "inet"
            ],
        }

    text = json.dumps(result).replace(port, "PORT")
    return {
        "bridge": link("ip", "-j", "-d", "addr", "show", "cni0"),
        "port": link("ip", "-j", "-d", "addr", "show", port),
        "pod": link("ip", "-n", netns, "-j", "-d", "addr", "show", "eth0"),
        "pod routes": box.json("ip", "-n", netns, "-j", "-d", "route", "show", "table", "all", "type", "unicast"),
        "node routes": box.json("ip", "-j", "-d", "-4", "route"),
        "forwarding": box.sh("cat /proc/sys/net/ipv4/ip_forward"),
        "result": json.loads(re.sub('"mac": "[^"]*"', '"mac": "MAC"', text)),
        "nat": [re.sub("CNI-[0-9a-f]*", "CNI", rule) for rule in Node(box).nat()],
    }


SAME = {
    "as a node has it": {},
    "0.4.0": {"cniVersion": "0.4.0"},
    "no options": {"isGateway": None, "isDefaultGateway": None, "hairpinMode": None, "bridge": None},
    "gateway only": {"isDefaultGateway": False},
    "mtu": {"mtu": 1400, "hairpinMode": False},
    "ipMasq": {"ipMasq": True},
    "promiscuous": {"hairpinMode": False, "promiscMode": True},
    "layer 2": {"ipam": {}, "isGateway": None, "isDefaultGateway": None},
    "routes": {"ipam.routes": [{"dst": "10.96.0.0/12"}, {"dst": "192.0.2.0/24", "gw": "10.244.1.254"}]},
    "a default route of its own": {"ipam.routes": [{"dst": "0.0.0.0/0", "gw": "10.244.1.254"}]},
    "old style range": {"ipam.ranges": None, "ipam.subnet": "10.1.0.0/16", "ipam.rangeStart": "10.1.5.1"},
    "a gateway of its own": {"ipam.ranges": [[{"subnet": "10.1.0.0/16", "gateway": "10.1.255.254"}]]},
    "dns": {"dns": {"nameservers": ["10.96.0.10"], "domain": "cluster.local", "search": ["a", "b"], "options": ["x"]}},
    "unknown keys": {"whatever": {"x": [1, {"y": None}]}, "ipam.whatever": "é"},
    "null is absent": {"mtu": None, "promiscMode": None, "ipMasq": None},
}


@pytest.mark.parametrize("case", SAME)
def test_the_state_left_is_that_of_the_reference_plugins(case: str) -> None:
    configuration = merged(BRIDGE, SAME[case])
    shapes = []
    for variant in (configuration, by_reference(configuration)):
        with Sandbox() as box:
            node = Node(box)
            box.netns("web")
            shapes.append(shape(box, node.ok("ADD", "web", variant)))
            node.ok("DEL", "web", variant)
            assert (box.links(), node.store(), node.nat()) == ({"cni0"}, [], [])
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("masq", [False, True])
def test_either_takes_back_what_the_other_set_up(node: Node, masq: bool) -> None:
    box = node.sandbox
    bash = merged(BRIDGE, {"ipMasq": masq})
    reference = by_reference(bash)
    box.netns("a", "b")
    assert address(node.ok("ADD", "a", bash)) == "10.244.1.2/24"
    assert address(node.ok("ADD", "b", reference)) == "10.244.1.3/24"
    box.sh("ip netns exec a ping -c 1 -W 2 10.244.1.3")
    assert box.sh(f"cat {STORE}/10.244.1.2 {STORE}/10.244.1.3 | tr '\\r\\n' RN") == "aRNeth0bRNeth0"
    assert box.sh(f"cat {STORE}/last_reserved_ip.0") == "10.244.1.3"
    node.ok("DEL", "a", reference)
    node.ok("DEL", "b", bash)
    assert (box.links(), node.store(), node.nat()) == ({"cni0"}, [], [])


@pytest.mark.parametrize(
    ("plugin", "ipam"), [("bash-bridge", "host-local"), ("bridge", "bash-host-local"), ("bash-bridge", "static")]
)
def test_any_address_plugin_under_any_bridge_plugin(node: Node, plugin: str, ipam: str) -> None:
    box = node.sandbox
    box.netns("web")
    configuration = merged(BRIDGE, {"type": plugin, "ipam.type": ipam})
    if ipam == "static":
        configuration["ipam"] = {"type": "static", "addresses": [{"address": "10.9.0.7/24", "gateway": "10.9.0.1"}]}
    result = node.ok("ADD", "web", configuration)
    assert address(result) == ("10.9.0.7/24" if ipam == "static" else "10.244.1.2/24")
    box.sh(f"ip netns exec web ping -c 1 -W 2 {result['ips'][0]['gateway']}")
    node.ok("CHECK", "web", {**configuration, "prevResult": result})
    node.ok("DEL", "web", configuration)
    assert node.store() == []
    if ipam != "static":
        assert node.error("CHECK", "web", {**configuration, "prevResult": result}) if plugin == "bash-bridge" else True


# Each allocation is done by both plugins in a sandbox of its own: the same addresses, or an error from both.
ALLOCATIONS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "round robin": ({}, ["add a", "add b", "del a", "add c", "del b", "add a"]),
    "around the end": (
        {"ipam.ranges": [[{"subnet": "10.1.0.0/29"}]]},
        ["add a", "add b", "add c", "add d", "add e", "add f", "del b", "add f", "del a", "del c", "add a", "add b"],
    ),
    "start and end": (
        {"ipam.ranges": [[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10", "rangeEnd": "10.1.0.12"}]]},
        ["add a", "add b", "add c", "add d"],
    ),
    "gateway in the middle": (
        {"ipam.ranges": [[{"subnet": "10.1.0.0/29", "gateway": "10.1.0.3"}]]},
        ["add a", "add b", "add c", "add d", "add e", "add f"],
    ),
    "two ranges in a set": (
        {
            "ipam.ranges": [
                [
                    {"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.5", "rangeEnd": "10.1.0.6"},
                    {"subnet": "10.2.0.0/24", "rangeStart": "10.2.0.5", "rangeEnd": "10.2.0.6"},
                ]
            ]
        },
        ["add a", "add b", "add c", "del a", "add d", "add e", "add f", "del c", "add f"],
    ),
    "two sets": (
        {"ipam.ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]]},
        ["add a", "add b", "del a", "add a"],
    ),
    "the second set is full": (
        {"ipam.ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/30"}]]},
        ["add a", "add b", "del a", "add b"],
    ),
    "asked for": ({}, ["add a 10.244.1.77", "add b", "add c 10.244.1.77", "add d 10.244.1.1"]),
    "twice": ({}, ["add a", "add a", "del a", "del a", "add a"]),
}


@pytest.mark.parametrize("case", ALLOCATIONS)
def test_addresses_are_given_out_as_the_reference_plugin_does(case: str) -> None:
    changes, steps = ALLOCATIONS[case]
    configuration = merged(BRIDGE, changes)

    def play(variant: dict[str, Any]) -> tuple[list[Any], str]:
        with Sandbox() as box:
            node = Node(box)
            given = []
            for step in steps:
                command, container, *wanted = step.split()
                args = f"IgnoreUnknown=1;IP={wanted[0]}" if wanted else None
                done = node.call(command.upper(), container, variant, ipam=True, CNI_ARGS=args)
                if done.returncode:
                    given.append("error")
                elif command == "add":
                    result = json.loads(done.stdout)
                    given.append([(ip["address"], ip["gateway"]) for ip in result["ips"]])
            return given, box.sh(f"cd {STORE}; for f in [0-9]* last*; do echo; echo $f; cat $f; done")

    assert play(configuration) == play(by_reference(configuration))


def test_resolv_conf_and_routes_as_the_reference_plugin_gives_them(node: Node) -> None:
    node.sandbox.sh(
        "printf 'nameserver 1.1.1.1\\nnameserver 8.8.8.8\\nsearch a.b c.d\\ndomain x\\noptions o:1 p\\n#c\\n' >/run/r"
    )
    configuration = merged(
        BRIDGE, {"ipam.resolvConf": "/run/r", "ipam.routes": [{"dst": "10.0.0.0/8", "gw": "10.244.1.9"}]}
    )
    bash, reference = (
        node.ok("ADD", n, c, ipam=True) for n, c in (("a", configuration), ("b", by_reference(configuration)))
    )
    assert (bash["dns"], bash["routes"]) == (reference["dns"], reference["routes"])


# --- many at once, and a full pool ------------------------------------------------------------------------------------


def start_adds(node: Node, names: list[str], configuration: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
    running = []
    for i, name in enumerate(names):
        stdin = json.dumps(configuration(i))
        process = node.sandbox.start(
            [node.program(configuration(i))],
            node.environment("ADD", name),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdin is not None
        process.stdin.write(stdin)
        process.stdin.close()
        running.append(process)
    results = []
    for process in running:
        assert process.stdout is not None
        output = process.stdout.read()
        process.stdout.close()
        assert process.wait(timeout=60) == 0, output
        results.append(json.loads(output))
    return results


def test_fifty_parallel_adds_give_fifty_addresses(node: Node) -> None:
    names = [f"pod{i}" for i in range(50)]
    node.sandbox.sh("for i in $(seq 0 49); do ip netns add pod$i; done")
    results = start_adds(node, names, lambda _: BRIDGE)
    assert len({address(r) for r in results}) == 50
    assert len(node.store()) == 50
    assert len({r["interfaces"][0]["mac"] for r in results}) == 1
    for name in names[::10]:
        node.sandbox.sh(f"ip netns exec {name} ping -c 1 -W 2 10.244.1.1")


def test_both_plugins_at_once_on_one_store(node: Node) -> None:
    names = [f"pod{i}" for i in range(30)]
    node.sandbox.sh("for i in $(seq 0 29); do ip netns add pod$i; done")
    node.ok("ADD", "pod0")  # the reference plugin fails when another one makes the bridge at the same moment
    node.ok("DEL", "pod0")
    results = start_adds(node, names, lambda i: BRIDGE if i % 2 else by_reference(BRIDGE))
    assert len({address(r) for r in results}) == 30
    assert len(node.store()) == 30


def test_a_full_pool_is_a_clear_error_and_leaves_nothing(node: Node) -> None:
    box = node.sandbox
    small = merged(BRIDGE, {"ipam.ranges": [[{"subnet": "10.244.1.0/29"}]]})
    box.netns(*"abcdef")
    for name in "abcde":
        node.ok("ADD", name, small)
    before = (box.links(), node.store())
    error = node.error("ADD", "f", small)
    assert error["code"] == 11
    assert "10.244.1.1-10.244.1.6" in error["msg"]
    assert (box.links(), node.store()) == before
    assert "eth0" not in box.sh("ip -n f link")
    node.ok("DEL", "c", small)
    assert address(node.ok("ADD", "f", small)) == "10.244.1.4/29"


def test_both_plugins_take_addresses_from_one_store_at_once(node: Node) -> None:
    names = [f"pod{i}" for i in range(40)]
    node.sandbox.netns(*names)
    node.ok("ADD", names[0])
    configurations = [BRIDGE, by_reference(BRIDGE)]
    results = start_adds(node, names[1:], lambda i: configurations[i % 2])
    assert len({address(r) for r in results}) == 39
    assert len(node.store()) == 40


@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_who_holds_the_lock_of_the_store_holds_up_nobody_but_its_like(node: Node, command: str) -> None:
    box = node.sandbox
    box.netns("web", "db")
    node.ok("ADD", "db")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    holder = box.start(["flock", f"{STORE}/lock", "sh", "-c", "echo held; read line || true"], **pipes)
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    node.ok(command, "web" if command == "ADD" else "db")
    assert node.store() == (["10.244.1.2", "10.244.1.3"] if command == "ADD" else [])
    holder.stdin.close()
    assert holder.wait(timeout=10) == 0
    holder.stdout.close()


def wait_for_child(pid: int, program: str, deadline_s: float = 10.0) -> int:
    """Waits until some descendant of ``pid`` runs ``program``, and gives its process id."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        todo = [pid]
        while todo:
            one = todo.pop()
            try:
                if Path(f"/proc/{one}/comm").read_text().strip() == program:
                    return one
                todo += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
            except (FileNotFoundError, ProcessLookupError):  # it ended before it was read, or meanwhile
                continue
        time.sleep(0.002)
    raise AssertionError(f"no {program} below {pid} within {deadline_s} s")


# --- an ADD that does not get to its end ------------------------------------------------------------------------------


def test_an_add_that_fails_late_takes_everything_back(node: Node) -> None:
    box = node.sandbox
    box.netns("web")
    # this route's gateway cannot be reached, which the kernel says only when all else is done
    wrong = merged(BRIDGE, {"ipam.routes": [{"dst": "192.0.2.0/24", "gw": "203.0.113.1"}], "ipMasq": True})
    error = node.error("ADD", "web", wrong)
    assert error["code"] == 100
    assert "192.0.2.0/24" in error["msg"]
    assert (box.links(), node.store(), node.nat()) == ({"cni0"}, [], [])
    assert "eth0" not in box.sh("ip -n web link")
    node.ok("ADD", "web")


def test_an_add_that_fails_at_nat_takes_everything_back(node: Node) -> None:
    box = node.sandbox
    box.netns("web")
    box.sh(
        "mkdir /run/bin; printf '#!/bin/sh\\necho no table for you >&2; exit 1\\n' >/run/bin/iptables-restore;"
        "chmod +x /run/bin/*"
    )
    error = node.error("ADD", "web", merged(BRIDGE, {"ipMasq": True}), PATH="/run/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    assert "no table for you" in error["msg"]
    assert (box.links(), node.store()) == ({"cni0"}, [])


@pytest.mark.parametrize("ipam", ["bash-host-local", "host-local"])
def test_an_add_ended_by_a_signal_takes_everything_back(node: Node, ipam: str) -> None:
    box = node.sandbox
    box.netns("web")
    # iptables-restore hangs, as late as can be, until the test ends the ADD
    box.sh("mkdir /run/bin; printf '#!/bin/sh\\nexec sleep 1000\\n' >/run/bin/iptables-restore; chmod +x /run/bin/*")
    env = node.environment("ADD", "web", PATH="/run/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    configuration = merged(BRIDGE, {"ipMasq": True, "ipam.type": ipam})
    add = box.start([node.program(BRIDGE)], env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert add.stdin is not None
    assert add.stdout is not None
    add.stdin.write(json.dumps(configuration))
    add.stdin.close()
    sleeping = wait_for_child(add.pid, "sleep")
    assert node.store() == ["10.244.1.2"]
    os.kill(wait_for_child(add.pid, "bash-bridge"), signal.SIGTERM)
    os.kill(sleeping, signal.SIGKILL)
    assert add.wait(timeout=20) != 0
    add.stdout.close()
    assert (box.links(), node.store(), node.nat()) == ({"cni0"}, [], [])


# --- CHECK and VERSION ------------------------------------------------------------------------------------------------

TAMPERING = {
    "the address": "ip -n web addr flush dev eth0",
    "the route": "ip -n web route del default",
    "the pod's interface": "ip -n web link del eth0",
    "the pod's MAC": "ip -n web link set eth0 address 02:00:00:00:00:01",
    "the port's bridge": "ip link set $port nomaster",
    "hairpin": "ip link set $port type bridge_slave hairpin off",
    "the gateway": "ip addr flush dev cni0",
    "the bridge": "ip link del cni0",
    "the address in the store": f"rm {STORE}/10.244.1.2",
    "the rules": "iptables -t nat -F POSTROUTING",
}


@pytest.mark.parametrize("what", [None, *TAMPERING])
def test_check_finds_what_was_changed(node: Node, what: str | None) -> None:
    box = node.sandbox
    box.netns("web")
    configuration = merged(BRIDGE, {"ipMasq": True, "ipam.routes": [{"dst": "10.96.0.0/12"}]})
    result = node.ok("ADD", "web", configuration)
    again = {**configuration, "prevResult": result}
    if what is None:
        assert node.ok("CHECK", "web", again) == {}
    else:
        box.sh(f"port={result['interfaces'][1]['name']}; {TAMPERING[what]}")
        assert node.error("CHECK", "web", again)["code"] == 101


def test_check_needs_the_previous_result(node: Node) -> None:
    node.sandbox.netns("web")
    node.ok("ADD", "web")
    assert "prevResult" in node.error("CHECK", "web")["msg"]


@pytest.mark.parametrize("program", ["bash-bridge", "bash-host-local"])
def test_version(node: Node, program: str) -> None:
    for stdin, version in (("", "1.1.0"), ('{"cniVersion": "1.0.0"}', "1.0.0")):
        done = node.sandbox.run(str(SCRIPTS / program), env={"CNI_COMMAND": "VERSION"}, stdin=stdin)
        assert json.loads(done.stdout) == {"cniVersion": version, "supportedVersions": ["0.4.0", "1.0.0", "1.1.0"]}


# --- bad input --------------------------------------------------------------------------------------------------------

# What is changed, the error's code, and words that it must say: the field, the value, what would be right.
WRONG: dict[str, tuple[dict[str, Any], int, list[str]]] = {
    "no such version": ({"cniVersion": "0.2.0"}, 1, ["cniVersion", "0.2.0", "1.1.0"]),
    "no version": ({"cniVersion": None}, 1, ["cniVersion", "1.0.0"]),
    "no name": ({"name": None}, 7, ["name"]),
    "a name that is a path": ({"name": "../x"}, 7, ["name", "../x", "letters"]),
    "a bridge's name too long": ({"bridge": "x" * 16}, 7, ["bridge", "x" * 16, "15"]),
    "a bridge's name with a blank": ({"bridge": "a b"}, 7, ["bridge", "a b"]),
    "a bridge's name that is none": ({"bridge": 5}, 7, ["bridge", "5", "string"]),
    "a flag that is a string": ({"isGateway": "true"}, 7, ["isGateway", '"true"', "boolean"]),
    "mtu as a string": ({"mtu": "1500"}, 7, ["mtu", '"1500"', "number"]),
    "mtu too small": ({"mtu": 10}, 7, ["mtu", "10", "68"]),
    "mtu negative": ({"mtu": -1}, 7, ["mtu", "-1"]),
    "mtu with a fraction": ({"mtu": 1.5}, 7, ["mtu", "1.5"]),
    "hairpin and promiscuous": ({"promiscMode": True}, 7, ["promiscMode", "hairpinMode"]),
    "vlan": ({"vlan": 5}, 2, ["vlan", "5", "bridge"]),
    "no such IPAM plugin": ({"ipam.type": "none-such"}, 7, ["ipam.type", "none-such", str(REFERENCE)]),
    "an IPAM plugin's path": ({"ipam.type": "../host-local"}, 7, ["ipam.type", "../host-local"]),
    "no ranges": ({"ipam.ranges": None}, 7, ["ipam.ranges", "subnet"]),
    "ranges that are no list": ({"ipam.ranges": "10.1.0.0/24"}, 7, ["ipam.ranges"]),
    "a range set that is no list": ({"ipam.ranges": [{"subnet": "10.1.0.0/24"}]}, 7, ["ipam.ranges.0"]),
    "no network": ({"ipam.ranges": [[{"subnet": "10.1.0.0"}]]}, 7, ["ipam.ranges.0.0.subnet", "10.1.0.0", "/24"]),
    "a prefix too long": ({"ipam.ranges": [[{"subnet": "10.1.0.0/33"}]]}, 7, ["subnet", "10.1.0.0/33"]),
    "no address": ({"ipam.ranges": [[{"subnet": "10.1.0.256/24"}]]}, 7, ["subnet", "10.1.0.256"]),
    "leading zeros": ({"ipam.ranges": [[{"subnet": "010.1.0.0/24"}]]}, 7, ["subnet", "010.1.0.0"]),
    "host bits": ({"ipam.ranges": [[{"subnet": "10.1.0.5/24"}]]}, 7, ["subnet", "10.1.0.5/24", "10.1.0.0/24"]),
    "too small": ({"ipam.ranges": [[{"subnet": "10.1.0.0/31"}]]}, 7, ["subnet", "10.1.0.0/31", "/30"]),
    "IPv6": ({"ipam.ranges": [[{"subnet": "fd00::/64"}]]}, 2, ["subnet", "fd00::/64", "IPv6"]),
    "a placeholder": ({"ipam.ranges": [[{"subnet": "$POD_CIDR"}]]}, 7, ["subnet", "$POD_CIDR", "placeholder"]),
    "a start outside": (
        {"ipam.ranges": [[{"subnet": "10.1.0.0/24", "rangeStart": "10.2.0.1"}]]},
        7,
        ["rangeStart", "10.2.0.1", "10.1.0.0/24"],
    ),
    "an end before the start": (
        {"ipam.ranges": [[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.5"}]]},
        7,
        ["rangeStart", "rangeEnd"],
    ),
    "a gateway that is none": (
        {"ipam.ranges": [[{"subnet": "10.1.0.0/24", "gateway": "x"}]]},
        7,
        ["ipam.ranges.0.0.gateway", "x"],
    ),
    "overlapping sets": (
        {"ipam.ranges": [[{"subnet": "10.1.0.0/16"}], [{"subnet": "10.1.5.0/24"}]]},
        7,
        ["ipam.ranges", "10.1.5.1-10.1.5.254", "overlap"],
    ),
    "a route to nowhere": ({"ipam.routes": [{"dst": "nowhere"}]}, 7, ["ipam.routes.0.dst", "nowhere"]),
    "a route's gateway": ({"ipam.routes": [{"dst": "10.0.0.0/8", "gw": "x"}]}, 7, ["ipam.routes.0.gw", "x"]),
    "a file that is not there": ({"ipam.resolvConf": "/none"}, 5, ["ipam.resolvConf", "/none"]),
    "a store in a file": ({"ipam.dataDir": "/proc/version"}, 5, ["ipam.dataDir", "/proc/version"]),
    "excluded networks": ({"ipMasq": True, "ipMasqExclude": ["x"]}, 7, ["ipMasqExclude.0", "x"]),
    "excluded, no list": ({"ipMasq": True, "ipMasqExclude": "10.0.0.0/8"}, 7, ["ipMasqExclude"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_configuration_is_refused_by_name_before_anything_is_built(node: Node, case: str) -> None:
    changes, code, words = WRONG[case]
    node.sandbox.netns("web")
    error = node.error("ADD", "web", merged(BRIDGE, changes))
    assert error["code"] == code, error
    for word in words:
        assert word in error["msg"] + " " + error["details"], error
    assert error["details"], error
    assert (node.sandbox.links(), node.store()) == (set(), [])


ENVIRONMENT: dict[str, tuple[dict[str, str | None], int, list[str]]] = {
    "no command": ({"CNI_COMMAND": None}, 4, ["CNI_COMMAND", "ADD"]),
    "an unknown command": ({"CNI_COMMAND": "UPDATE"}, 4, ["CNI_COMMAND", "UPDATE", "ADD"]),
    "no container": ({"CNI_CONTAINERID": None}, 4, ["CNI_CONTAINERID"]),
    "a container that is a path": ({"CNI_CONTAINERID": "../x"}, 4, ["CNI_CONTAINERID", "../x"]),
    "no namespace": ({"CNI_NETNS": None}, 4, ["CNI_NETNS"]),
    "a namespace that is not there": ({"CNI_NETNS": "/run/netns/none"}, 4, ["CNI_NETNS", "/run/netns/none"]),
    "a file that is no namespace": ({"CNI_NETNS": "/etc/passwd"}, 4, ["CNI_NETNS", "/etc/passwd"]),
    "the node's own namespace": ({"CNI_NETNS": "/proc/self/ns/net"}, 4, ["CNI_NETNS", "own"]),
    "no interface": ({"CNI_IFNAME": None}, 4, ["CNI_IFNAME"]),
    "an interface's name too long": ({"CNI_IFNAME": "e" * 16}, 4, ["CNI_IFNAME", "e" * 16]),
    "an interface's name with a slash": ({"CNI_IFNAME": "a/b"}, 4, ["CNI_IFNAME", "a/b"]),
    "an unknown argument": ({"CNI_ARGS": "COLOUR=red"}, 4, ["CNI_ARGS", "COLOUR=red", "IgnoreUnknown"]),
    "an address that is none": ({"CNI_ARGS": "IP=10.1"}, 4, ["CNI_ARGS", "10.1"]),
    "an address of no range": ({"CNI_ARGS": "IP=10.9.9.9"}, 4, ["CNI_ARGS", "10.9.9.9"]),
}


@pytest.mark.parametrize("case", ENVIRONMENT)
def test_a_wrong_environment_is_refused_by_name(node: Node, case: str) -> None:
    changes, code, words = ENVIRONMENT[case]
    node.sandbox.netns("web")
    error = node.error("ADD", "web", **changes)
    assert error["code"] == code, error
    for word in words:
        assert word in error["msg"] + " " + error["details"], error
    assert (node.sandbox.links() - {"cni0"}, node.store()) == (set(), [])


@pytest.mark.parametrize(
    ("stdin", "word"), [("", "end of the text"), ("[]", "object"), ('{"a":}', "value"), ("{", "end")]
)
def test_what_is_no_configuration_at_all(node: Node, stdin: str, word: str) -> None:
    for program in ("bash-bridge", "bash-host-local"):
        node.sandbox.run("ip", "netns", "add", program)
        done = node.sandbox.run(str(SCRIPTS / program), env=node.environment("ADD", program), stdin=stdin, ok=False)
        error = json.loads(done.stdout)
        assert (done.returncode, error["code"], word in error["msg"]) == (1, 6, True), error


def test_names_of_ranges_point_to_the_place_not_to_the_shell(node: Node) -> None:
    """Nothing in a configuration is ever expanded or run."""
    box = node.sandbox
    box.netns("web")
    evil = "$(touch /run/evil)`touch /run/evil`"
    node.error("ADD", "web", merged(BRIDGE, {"bridge": evil}))
    node.error("ADD", "web", merged(BRIDGE, {"mtu": {evil: evil}, evil: evil, "a[$(touch /run/evil)]": 1}))
    node.error("ADD", "web", merged(BRIDGE, {"ipam.ranges": [[{"subnet": evil, evil: [evil]}]]}))
    node.error("ADD", "web", CNI_ARGS=f"IP={evil}")
    node.error("ADD", "web", CNI_NETNS=f"/run/netns/{evil}\nlink del cni0")
    node.ok("ADD", "web", merged(BRIDGE, {"x": evil, evil: {"a[$(touch /run/evil)]": [evil]}}))
    assert "evil" not in box.sh("ls /run /")


# --- configurations that come again -----------------------------------------------------------------------------------

KNOWN = "/run/bash-bridge"


@pytest.mark.parametrize("case", SAME)
def test_what_is_known_of_a_configuration_means_the_same_again(case: str) -> None:
    configuration = merged(BRIDGE, SAME[case])
    shapes = []
    for forget in (True, False):
        with Sandbox() as box:
            node = Node(box)
            box.netns("a", "web")
            node.ok("ADD", "a", configuration)
            if forget:
                box.run("rm", "-rf", KNOWN)
            shapes.append(shape(box, node.ok("ADD", "web", configuration)))
            for name in ("a", "web"):
                node.ok("DEL", name, configuration)
            assert (box.links(), node.store(), node.nat()) == ({"cni0"}, [], [])
    assert shapes[0] == shapes[1]


def test_another_configuration_is_not_taken_for_the_known_one(node: Node) -> None:
    """Of the same name and length, so that they meet in one file."""
    box = node.sandbox
    box.netns("a", "b", "c", "d")
    other = merged(BRIDGE, {"ipam.ranges": [[{"subnet": "10.244.9.0/24"}]], "forceAddress": None, "bridge": "cni9"})
    assert address(node.ok("ADD", "a")) == "10.244.1.2/24"
    known = box.sh(f"cat {KNOWN}/*")
    assert address(node.ok("ADD", "b", other)) == "10.244.9.2/24"
    assert box.sh(f"cat {KNOWN}/*") == known
    assert address(node.ok("ADD", "c")) == "10.244.1.3/24"
    # found in another place, the address plugin may be another
    assert node.ok("ADD", "d", CNI_PATH=f"/nowhere:{CNI_PATH}")
    for name, configuration in (("a", BRIDGE), ("b", other), ("c", BRIDGE), ("d", BRIDGE)):
        node.ok("DEL", name, configuration)
    assert (box.links(), node.store()) == ({"cni0", "cni9"}, [])


OF_ANOTHER_USER = ["chown 1 {0}/*"] if os.geteuid() == 0 else []
"""An ordinary user has no other in a namespace."""


@pytest.mark.parametrize("spoil", [*OF_ANOTHER_USER, "touch -d 2001-01-01 {0}/*", "rm -r {0}; touch {0}"])
def test_what_is_known_is_believed_only_when_it_is_ours_and_newer_than_the_scripts(node: Node, spoil: str) -> None:
    box = node.sandbox
    box.netns("a", "b")
    node.ok("ADD", "a")
    box.sh(f"echo 'touch /run/believed' >>$(echo {KNOWN}/*)")
    box.sh(spoil.format(KNOWN))
    assert address(node.ok("ADD", "b")) == "10.244.1.3/24"
    assert "believed" not in box.sh("ls /run")


@pytest.mark.parametrize("case", ["an address of no range", "an interface's name too long", "the node's own namespace"])
def test_errors_where_the_configuration_is_known(node: Node, case: str) -> None:
    node.sandbox.netns("a", "web")
    changes, code, _ = ENVIRONMENT[case]
    unknown = node.error("ADD", "web", **changes)
    node.ok("ADD", "a")
    known = node.error("ADD", "web", **changes)
    assert (known, known["code"]) == (unknown, code)
    assert node.store() == ["10.244.1.2"]


# --- bridges that are there already -----------------------------------------------------------------------------------


def test_a_bridge_made_by_hand_is_used(node: Node) -> None:
    box = node.sandbox
    box.netns("web", "db")
    box.sh("ip link add cni0 type bridge")  # down, and without an address
    result = node.ok("ADD", "web")
    node.ok("ADD", "db")
    assert box.json("ip", "-j", "link", "show", "cni0")[0]["address"] == result["interfaces"][0]["mac"]
    box.sh("ip netns exec web ping -c 1 -W 2 10.244.1.3; ip netns exec web ping -c 1 -W 2 10.244.1.1")


def test_a_bridge_with_another_address_is_an_error_or_changed_by_force(node: Node) -> None:
    box = node.sandbox
    box.netns("web")
    box.sh("ip link add cni0 type bridge; ip link set cni0 up; ip addr add 10.9.9.1/24 dev cni0")
    error = node.error("ADD", "web")
    assert "10.9.9.1/24" in error["msg"]
    assert "forceAddress" in error["details"]
    assert (box.links(), node.store()) == ({"cni0"}, [])
    node.ok("ADD", "web", merged(BRIDGE, {"forceAddress": True}))
    assert [a["local"] for a in box.json("ip", "-4", "-j", "addr", "show", "cni0")[0]["addr_info"]] == ["10.244.1.1"]


def test_what_is_no_bridge_is_refused(node: Node) -> None:
    box = node.sandbox
    box.netns("web")
    box.sh("ip link add cni0 type veth peer name other; ip link set cni0 up")
    error = node.error("ADD", "web")
    assert (error["code"], "no bridge" in error["msg"]) == (7, True)
    assert (box.links(), node.store()) == ({"cni0", "other"}, [])


# --- NAT --------------------------------------------------------------------------------------------------------------

UDP_ECHO = """
import socket
s = socket.socket(type=socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 9))
print("on", flush=True)
while True:
    source = s.recvfrom(99)[1]
    s.sendto(source[0].encode(), source)
"""
UDP_ASK = """
import socket, sys
s = socket.socket(type=socket.SOCK_DGRAM)
s.settimeout(3)
s.sendto(b"?", (sys.argv[1], 9))
print(s.recv(99).decode())
"""


def seen_as(box: Sandbox, netns: str, target: str) -> str:
    """The source address that an echo server sees."""
    return box.run("ip", "netns", "exec", netns, "python3", "-c", UDP_ASK, target).stdout.strip()


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_nat_for_what_leaves_the_pod_network_and_only_for_that(node: Node, backend: str) -> None:
    r"""web --- cni0 (node) --- eth1 --- outside 192.0.2.2, and behind it 10.244.2.2, a pod of another node."""
    box = node.sandbox
    box.netns("web", "db", "outside")
    box.sh(
        "mkdir /run/bin; for t in iptables iptables-restore iptables-save; do"
        f" ln -s $(command -v iptables-{backend}${{t#iptables}}) /run/bin/$t; done;"
        "ip link add eth1 type veth peer name eth1 netns outside;"
        "ip addr add 192.0.2.1/24 dev eth1; ip link set eth1 up;"
        "ip -n outside addr add 192.0.2.2/24 dev eth1; ip -n outside link set eth1 up;"
        "ip -n outside addr add 10.244.2.2/32 dev eth1; ip route add 10.244.2.0/24 via 192.0.2.2;"
        "ip -n outside route add 10.244.1.0/24 via 192.0.2.1"
    )
    env = {"PATH": "/run/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    masq = merged(BRIDGE, {"ipMasq": True, "ipMasqExclude": ["10.244.0.0/16"]})
    servers = []
    for netns in ("outside", "db"):
        server = box.start(["ip", "netns", "exec", netns, "python3", "-c", UDP_ECHO], stdout=subprocess.PIPE)
        assert server.stdout is not None
        assert server.stdout.readline() == "on\n"
        servers.append(server)
    node.ok("ADD", "web", masq, **env)
    node.ok("ADD", "db", masq, **env)
    assert seen_as(box, "web", "192.0.2.2") == "192.0.2.1"  # leaves: NAT
    assert seen_as(box, "web", "10.244.2.2") == "10.244.1.2"  # another node's pod: none
    assert seen_as(box, "web", "10.244.1.3") == "10.244.1.2"  # the same node: none
    rules = box.run("iptables-save", "-t", "nat", env=env).stdout
    assert rules.count(":CNI-") == 2
    other = [line for line in rules.splitlines() if 'id: \\"db\\"' in line]
    node.ok("DEL", "web", masq, **env)
    left = [line for line in box.run("iptables-save", "-t", "nat", env=env).stdout.splitlines() if "CNI-" in line]
    assert [line for line in left if not line.startswith(":")] == other
    # the namespace has gone: the rules go all the same
    box.run("ip", "netns", "del", "db")
    node.ok("DEL", "db", masq, **env)
    node.ok("DEL", "db", masq, **env)
    assert "CNI-" not in box.run("iptables-save", "-t", "nat", env=env).stdout
    for server in servers:
        server.kill()
        assert server.stdout is not None
        server.stdout.close()
        server.wait(timeout=10)


# --- the shipped configurations, and net-script.sh --------------------------------------------------------------------


def conflist(name: str) -> dict[str, Any]:
    text = (SCRIPTS / name).read_text()
    for placeholder, value in (
        ("$POD_CIDR", "10.244.1.0/24"),
        ("$POD_NETWORK", "10.244.0.0/16"),
        ("$NODE_NAME", "node1"),
        ('"$POD_MTU"', "1500"),
    ):
        text = text.replace(placeholder, value)
    return json.loads(text)


def test_the_shipped_configurations_differ_by_type_only() -> None:
    bash, reference = conflist("bash-bridge.conflist"), conflist("bridge.conflist")
    assert by_reference(bash) == reference
    assert bash["plugins"][0]["ipMasqExclude"] == ["10.244.0.0/16"]


@pytest.mark.parametrize("name", ["bash-bridge.conflist", "bridge.conflist"])
def test_net_script(node: Node, name: str) -> None:
    box = node.sandbox
    box.run("mkdir", "-p", "/run/net.d")
    box.run("tee", "/run/net.d/10-pods.conflist", stdin=json.dumps(conflist(name)))
    box.run("tee", "/run/net.d/20-other.conf", stdin="{")
    env = {"NET_CONF_DIR": "/run/net.d", "CNI_PATH": CNI_PATH}
    script = str(SCRIPTS / "net-script.sh")
    box.netns("web")
    out = box.run(script, "add", "web-1", "web", env=env).stdout
    assert "10.244.1.2/24" in out
    assert "via 10.244.1.1" in out
    box.sh("ip netns exec web ping -c 1 -W 2 10.244.1.1; ip netns exec web ping -c 1 -W 2 127.0.0.1")
    again = box.run(script, "add", "web-1", "web", env=env, ok=False)
    assert (again.returncode, "web-1" in again.stderr or "eth0" in again.stderr) == (1, True)
    box.sh("ip netns exec web ping -c 1 -W 2 10.244.1.1")
    for _ in range(2):
        box.run(script, "del", "web-1", "/run/netns/web", env=env)
    assert box.links() == {"cni0"}


def test_net_script_chains_plugins_and_takes_back_what_was_done(node: Node) -> None:
    box = node.sandbox
    chain = conflist("bash-bridge.conflist")
    chain["plugins"].append({"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_notify": "1"}})
    box.run("mkdir", "-p", "/run/net.d")
    box.run("tee", "/run/net.d/10-pods.conflist", stdin=json.dumps(chain))
    env = {"NET_CONF_DIR": "/run/net.d", "CNI_PATH": CNI_PATH}
    script = str(SCRIPTS / "net-script.sh")
    box.netns("web")
    assert "10.244.1.2/24" in box.run(script, "add", "web-1", "web", env=env).stdout
    assert box.sh("ip netns exec web cat /proc/sys/net/ipv4/conf/eth0/arp_notify") == "1\n"
    box.run(script, "del", "web-1", "web", env=env)
    chain["plugins"][1]["sysctl"] = {"net.ipv4.conf.none.such": "1"}
    box.run("tee", "/run/net.d/10-pods.conflist", stdin=json.dumps(chain))
    failed = box.run(script, "add", "web-1", "web", env=env, ok=False)
    assert (failed.returncode, "tuning" in failed.stderr) == (1, True)
    assert box.links() == {"cni0"}


@pytest.mark.parametrize(
    ("arguments", "env", "words"),
    [
        ([], {}, ["usage"]),
        (["add", "web"], {}, ["usage", "2 arguments"]),
        (["put", "web", "web"], {}, ["usage", "put"]),
        (["add", "../web", "web"], {}, ["CONTAINER", "../web"]),
        (["add", "web", "none"], {}, ["NAMESPACE", "none", "ip netns add"]),
        (["add", "web", "web"], {"NET_CONF_DIR": "/none"}, ["NET_CONF_DIR", "/none"]),
        (["add", "web", "web"], {"CNI_PATH": "/none"}, ["CNI_PATH", "/none", "bash-bridge"]),
    ],
)
def test_net_script_used_wrongly(node: Node, arguments: list[str], env: dict[str, str], words: list[str]) -> None:
    box = node.sandbox
    box.netns("web")
    box.run("mkdir", "-p", "/run/net.d")
    box.run("tee", "/run/net.d/10-pods.conflist", stdin=json.dumps(conflist("bash-bridge.conflist")))
    env = {"NET_CONF_DIR": "/run/net.d", "CNI_PATH": CNI_PATH, **env}
    done = box.run(str(SCRIPTS / "net-script.sh"), *arguments, env=env, ok=False)
    assert done.returncode == 2
    for word in words:
        assert word in done.stderr
    assert box.links() == set()


def test_the_file_of_an_add_that_was_killed_before_it_wrote_goes_with_a_del(node: Node) -> None:
    """One that gets its name meanwhile is of an ADD that is at work, and stays."""
    node.sandbox.netns("web")
    node.ok("ADD", "web", BRIDGE)
    node.sandbox.sh(
        f"cd {STORE} && : >10.244.1.77 && : >10.244.1.78 && (sleep 0.3; printf 'other\\r\\neth0' >10.244.1.78) &"
    )
    node.ok("DEL", "web", BRIDGE)
    assert node.store() == ["10.244.1.78"]
