"""What a person sees inside a cluster that is up, and what happens when they change something by hand.

node1 .11    node2 .12    node3 .13     192.168.1.0/24
   |eth0        |eth0        |eth0
   +-----------s1-----------+-- gw .1
"""

from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from running_lab import RunningLab, mininetes, running

NODES = ("node1", "node2", "node3")


def addresses_of(lab: RunningLab, place: str) -> dict[str, list[str]]:
    """The IPv4 addresses with their prefixes, by interface."""
    found: list[dict[str, Any]] = json.loads(lab.exec(place, "ip", "-json", "-4", "address"))
    return {link["ifname"]: [f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]] for link in found}


def sysctl(lab: RunningLab, place: str, key: str) -> str:
    return lab.exec(place, "sysctl", "-n", key).strip()


# --- looking around in a node -------------------------------------------------------------------------------------


def test_a_node_has_a_route_to_every_other_nodes_pods(three_nodes: RunningLab) -> None:
    routes = [line.strip() for line in three_nodes.exec("node1", "ip", "route").splitlines()]
    assert "10.244.2.0/24 via 192.168.1.12 dev eth0" in routes
    assert "10.244.3.0/24 via 192.168.1.13 dev eth0" in routes
    assert "default via 192.168.1.1 dev eth0" in routes


def test_exec_passes_on_output_and_status_of_the_command(three_nodes: RunningLab) -> None:
    done = three_nodes.command("exec", "node1", "--", "ip", "route")
    assert done.status == 0
    assert done.stdout == three_nodes.exec("node1", "ip", "route")
    assert three_nodes.command("exec", "node1", "--", "sh", "-c", "exit 7").status == 7
    assert three_nodes.command("exec", "pod/node2-1", "--", "hostname", "-I").stdout.split() == ["10.244.2.2"]


def test_exec_in_a_place_that_is_not_there_lists_those_that_are(three_nodes: RunningLab) -> None:
    for place in ("node9", "pod/node9-1"):
        done = three_nodes.command("exec", place, "--", "true")
        assert done.status == 2
        assert place in done.stderr
        assert ("node1" if place == "node9" else "pod/node1-1") in done.stderr


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_node_is_called_by_its_name_and_has_one_interface_with_a_mac_of_its_own(
    three_nodes: RunningLab, number: int
) -> None:
    node = f"node{number}"
    assert three_nodes.exec(node, "hostname").strip() == node
    assert three_nodes.exec(node, "cat", "/etc/hostname").strip() == node
    links = {link["ifname"]: link for link in json.loads(three_nodes.exec(node, "ip", "-json", "link"))}
    assert [name for name in links if not name.startswith("veth")] == ["lo", "eth0", "cni0"]
    assert links["eth0"]["address"] == f"02:00:c0:a8:01:{10 + number:02x}"
    assert addresses_of(three_nodes, node)["eth0"] == [f"192.168.1.{10 + number}/24"]


def test_no_mac_is_there_twice(three_nodes: RunningLab) -> None:
    places = [*three_nodes.hosts, *(f"pod/{name}" for name in three_nodes.pods)]
    macs = [
        link["address"]
        for place in places
        for link in json.loads(three_nodes.exec(place, "ip", "-json", "link"))
        if link["ifname"] == "eth0"
    ]
    assert len(macs) == len(places) == len(set(macs))


def test_the_pods_veths_are_ports_of_the_bridge_which_is_their_gateway(three_nodes: RunningLab) -> None:
    assert addresses_of(three_nodes, "node1")["cni0"] == ["10.244.1.1/24"]
    ports = three_nodes.exec("node1", "bridge", "link").splitlines()
    assert len(ports) == 4
    for port in ports:
        assert re.search(r"master cni0 state forwarding", port), port
    in_bridge = {port["ifname"] for port in json.loads(three_nodes.exec("node1", "bridge", "-json", "link"))}
    assert all(name in three_nodes.exec("node1", "brctl", "show", "cni0") for name in in_bridge)


def test_each_pods_veth_ends_in_the_node(three_nodes: RunningLab) -> None:
    peers = {
        json.loads(three_nodes.exec(f"pod/node1-{n}", "ip", "-json", "link", "show", "eth0"))[0]["link_index"]
        for n in (1, 2, 3, 4)
    }
    ports = json.loads(three_nodes.exec("node1", "bridge", "-json", "link"))
    assert peers == {port["ifindex"] for port in ports}


def test_a_pod_leaves_by_its_bridge(three_nodes: RunningLab) -> None:
    routes = [line.strip() for line in three_nodes.exec("pod/node1-1", "ip", "route").splitlines()]
    assert routes == [
        "default via 10.244.1.1 dev eth0",
        "10.244.1.0/24 dev eth0 proto kernel scope link src 10.244.1.2",
    ]
    assert addresses_of(three_nodes, "pod/node1-1")["eth0"] == ["10.244.1.2/24"]


def test_pods_have_addresses_of_their_nodes_subnet_from_2_on(three_nodes: RunningLab) -> None:
    for number in (1, 2, 3):
        found = [addresses_of(three_nodes, f"pod/node{number}-{pod}")["eth0"] for pod in (1, 2, 3, 4)]
        assert found == [[f"10.244.{number}.{host}/24"] for host in (2, 3, 4, 5)]


def test_the_network_configuration_is_where_a_kubelet_looks_for_it(three_nodes: RunningLab) -> None:
    (name,) = three_nodes.exec("node2", "ls", "/etc/cni/net.d").split()
    assert name == "10-bash-bridge.conflist"
    configuration = json.loads(three_nodes.exec("node2", "cat", f"/etc/cni/net.d/{name}"))
    (bridge, *_) = configuration["plugins"]
    assert (bridge["bridge"], bridge["isGateway"]) == ("cni0", True)
    text = json.dumps(configuration)
    assert "10.244.2.0/24" in text
    assert "$" not in text
    for plugin in (bridge["type"], bridge["ipam"]["type"]):
        assert three_nodes.try_exec("node2", "test", "-x", f"/opt/cni/bin/{plugin}").status == 0


def test_a_nodes_namespaces_are_its_own_pods_only(three_nodes: RunningLab) -> None:
    for node in NODES:
        names = {line.split()[0] for line in three_nodes.exec(node, "ip", "netns").splitlines()}
        of_the_cluster = [name for name, pod in three_nodes.system_pods.items() if pod["node"] == node]
        assert names == {f"{node}-{number}" for number in (1, 2, 3, 4)} | {
            name.replace("/", "_") for name in of_the_cluster
        }
    in_pod = three_nodes.exec(
        "node1", "ip", "netns", "exec", "node1-2", "ip", "-brief", "-4", "address", "show", "eth0"
    )
    assert "10.244.1.3/24" in in_pod


def test_what_a_node_writes_into_its_private_folders_other_nodes_do_not_see(three_nodes: RunningLab) -> None:
    for folder in ("/run", "/etc/cni/net.d", "/opt/cni/bin", "/var/lib/cni", "/var/log", "/etc/kubernetes"):
        three_nodes.exec("node3", "touch", f"{folder}/only-here")
        assert three_nodes.try_exec("node1", "test", "-e", f"{folder}/only-here").status == 1
        assert not Path(folder, "only-here").exists()
        three_nodes.exec("node3", "rm", f"{folder}/only-here")


def test_nodes_filter_what_passes_their_bridges_and_the_switch_does_not(three_nodes: RunningLab) -> None:
    for node in NODES:
        assert sysctl(three_nodes, node, "net.bridge.bridge-nf-call-iptables") == "1"
        assert sysctl(three_nodes, node, "net.ipv4.ip_forward") == "1"
    assert sysctl(three_nodes, "", "net.bridge.bridge-nf-call-iptables") == "0"


def test_a_filter_rule_in_a_node_stops_pods_of_one_bridge_from_talking() -> None:
    """That is what bridge-nf-call-iptables is for: not only a value, but what it does."""
    with running("--nodes", "1", "--pods", "2") as lab:
        assert ("pod/node1-1", "pod/node1-2") in lab.probe().reached()
        lab.exec("node1", "iptables", "-I", "FORWARD", "-p", "icmp", "-j", "DROP")
        lost = {(cell.source, cell.target) for cell in lab.probe("--timeout", "0.2").matrix.mismatches}
        assert lost == {("pod/node1-1", "pod/node1-2"), ("pod/node1-2", "pod/node1-1")}


def test_the_older_commands_work_too(three_nodes: RunningLab) -> None:
    three_nodes.exec("node1", "ping", "-c", "1", "-W", "2", "192.168.1.12")
    assert "192.168.1.12" in three_nodes.exec("node1", "arp", "-n")
    assert re.search(r"10\.244\.2\.0\s+192\.168\.1\.12\s+255\.255\.255\.0", three_nodes.exec("node1", "route", "-n"))
    assert re.search(r"cni0\s+8000\.\w+\s+no\s+veth", three_nodes.exec("node1", "brctl", "show"))
    three_nodes.exec("node1", "iptables-save")
    assert three_nodes.exec("node1", "ifconfig", "eth0").count("192.168.1.11") == 1


def test_rules_of_one_node_are_not_those_of_another(three_nodes: RunningLab) -> None:
    three_nodes.exec("node1", "iptables", "-N", "ONLY-HERE")
    try:
        assert "ONLY-HERE" in three_nodes.exec("node1", "iptables-save")
        for place in ("node2", "gw", ""):
            assert "ONLY-HERE" not in three_nodes.exec(place, "iptables-save")
    finally:
        three_nodes.exec("node1", "iptables", "-X", "ONLY-HERE")


# --- who answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["pod/node1-2", "pod/node2-1", "pod/node3-4"])
@pytest.mark.parametrize("source", ["pod/node1-1", "node1"])
@pytest.mark.parametrize("client", ["curl", "nc over TCP", "nc over UDP"])
def test_every_responder_says_who_it_is_and_sees_the_clients_real_address(
    three_nodes: RunningLab, client: str, source: str, target: str
) -> None:
    address = three_nodes.address(target)
    port = str(three_nodes.pods[target.removeprefix("pod/")]["port"])
    if client == "curl":
        text = three_nodes.exec(source, "curl", "--silent", "--max-time", "5", f"http://{address}:{port}/")
    else:
        options = ["-u", "-W", "1"] if client == "nc over UDP" else ["-N"]
        text = three_nodes.exec(source, "nc", *options, "-w", "2", address, port, stdin="hello\n")
    said = json.loads(text)
    assert (said["pod"], said["node"]) == (target.removeprefix("pod/"), three_nodes.pods[said["pod"]]["node"])
    seen, _, _ = said["client"].partition(":")
    own = three_nodes.address(source) if source != "node1" or not target.startswith("pod/node1") else "10.244.1.1"
    assert seen == own


def test_all_default_ports_answer(three_nodes: RunningLab) -> None:
    for protocol in ("tcp", "udp"):
        probed = three_nodes.probe("--protocol", protocol)
        assert probed.status == 0
        assert len(probed.matrix.cells) == (3 + 12) * 12 - 12
        assert probed.matrix.holds


def test_nodes_and_clients_outside_reach_each_other_through_the_gateway(three_nodes: RunningLab) -> None:
    for source, target in (("node1", "client1"), ("client1", "node3"), ("node2", "blocked1")):
        text = three_nodes.exec(source, "ping", "-c", "1", "-W", "2", three_nodes.address(target))
        assert "1 received" in text
        assert "ttl=63" in text, "one router on the way"


# --- ready means ready --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempt", range(4))
@pytest.mark.parametrize("protocol", ["icmp", "udp"])
def test_when_up_returns_the_first_probe_of_every_pair_gets_through(protocol: str, attempt: int) -> None:
    with running() as lab:
        probed = lab.probe("--protocol", protocol, "--attempts", "1")
        assert [str(cell) for cell in probed.matrix.mismatches] == []
        assert {cell.attempts for cell in probed.matrix.cells} == {1}


# --- without a fabric ---------------------------------------------------------------------------------------------


def places_of(lab: RunningLab, node: str) -> list[str]:
    return [node, *(f"pod/{name}" for name, pod in lab.pods.items() if pod["node"] == node)]


def between(lab: RunningLab, first: str, second: str) -> set[tuple[str, str]]:
    """All pairs of one node's places with another's, both ways, but for node with node."""
    there = set(product(places_of(lab, first), places_of(lab, second))) - {(first, second)}
    return there | {(target, source) for source, target in there}


def same_node(lab: RunningLab) -> set[tuple[str, str]]:
    return {(a, b) for node in lab.nodes for a, b in product(places_of(lab, node), repeat=2) if a != b}


def nodes_only(lab: RunningLab) -> set[tuple[str, str]]:
    return {(a, b) for a, b in product(lab.nodes, repeat=2) if a != b}


def test_without_a_fabric_only_pairs_of_one_node_are_reached_and_that_is_as_expected(islands: RunningLab) -> None:
    probed = islands.probe()
    assert probed.status == 0
    assert probed.reached() == same_node(islands) | nodes_only(islands)
    unreached = [cell for cell in probed.matrix.cells if not cell.reached]
    assert len(unreached) == 3 * len(between(islands, "node1", "node2"))
    assert {(cell.expected, cell.verdict.value, cell.reason) for cell in unreached} == {
        (False, "unreached", "no fabric between the nodes")
    }


def test_people_are_told_that_it_was_expected(islands: RunningLab) -> None:
    done = mininetes("probe", "reachability", "--lab", islands.name)
    assert done.status == 0
    assert "not reached, as expected" in done.stdout
    assert "no mismatch" in done.stdout


def add_route(lab: RunningLab, node: str, to: str) -> None:
    done = lab.command("exec", node, "--", "ip", "route", "add", lab.hosts[to]["podSubnet"], "via", lab.address(to))
    assert done.status == 0, done


def test_routes_added_by_hand_make_the_matrix_green_pair_by_pair() -> None:
    with running("--fabric", "none", "--pods", "2") as lab:
        at_first = same_node(lab) | nodes_only(lab)
        add_route(lab, "node1", "node2")
        one_way = lab.probe().reached() - at_first
        # node2 does not know the way back to node1's pods; node1 itself it does
        assert one_way == set(product(["node1"], places_of(lab, "node2")[1:])) | set(
            product(places_of(lab, "node2")[1:], ["node1"])
        )
        add_route(lab, "node2", "node1")
        assert lab.probe().reached() == at_first | between(lab, "node1", "node2")
        add_route(lab, "node1", "node3")
        add_route(lab, "node3", "node1")
        assert lab.probe().reached() == at_first | between(lab, "node1", "node2") | between(lab, "node1", "node3")


def test_routes_added_by_hand_are_no_drift_and_stay() -> None:
    with running("--fabric", "none", "--pods", "1") as lab:
        add_route(lab, "node1", "node2")
        lab.exec("node2", "ip", "route", "add", "10.99.0.0/16", "via", "192.168.1.13")
        status, said = lab.status()
        assert (status, said["drift"]) == (0, {})
        assert "10.244.2.0/24 via 192.168.1.12" in lab.exec("node1", "ip", "route")
        assert "10.99.0.0/16 via 192.168.1.13" in lab.exec("node2", "ip", "route")


def test_what_routes_by_hand_connect_is_green_with_that_as_the_reason() -> None:
    with running("--fabric", "none", "--pods", "1", "--nodes", "2") as lab:
        add_route(lab, "node1", "node2")
        one_way = lab.probe()
        assert one_way.status == 0
        reasons = {(cell.source, cell.target): cell.reason for cell in one_way.matrix.cells}
        assert "none back" in reasons["pod/node1-1", "pod/node2-1"]
        assert reasons["node1", "pod/node2-1"] == "routes added by hand"
        add_route(lab, "node2", "node1")
        both = lab.probe()
        assert both.status == 0
        assert {cell.verdict.value for cell in both.matrix.cells} == {"reached"}


# --- drift and broken links ---------------------------------------------------------------------------------------


def test_a_cluster_as_declared_has_no_drift(three_nodes: RunningLab) -> None:
    status, said = three_nodes.status()
    assert (status, said["drift"]) == (0, {})


DRIFTS = {
    "a route is deleted": (
        ["ip", "route", "del", "10.244.2.0/24"],
        "add route 10.244.2.0/24 via 192.168.1.12 dev eth0",
    ),
    "a route is bent": (
        ["ip", "route", "replace", "10.244.2.0/24", "via", "192.168.1.13"],
        "change route 10.244.2.0/24 via 192.168.1.12 dev eth0",
    ),
    "forwarding is off": (["sysctl", "-w", "net.ipv4.ip_forward=0"], "set sysctl ipv4/ip_forward=1"),
    "the address is gone": (["ip", "address", "flush", "dev", "eth0"], "add address 192.168.1.11/24 dev eth0"),
    "the link is down": (["ip", "link", "set", "eth0", "down"], "up link eth0"),
}


def test_what_somebody_changes_by_hand_is_reported_as_drift_of_that_node() -> None:
    with running("--nodes", "3", "--pods", "0", "--set", "fabric={name: static, repair: false}") as lab:
        for node in lab.nodes:
            assert node not in lab.status()[1]["drift"]
        for what, (command, words) in DRIFTS.items():
            lab.exec("node1", *command)
            status, said = lab.status()
            assert status == 1, what
            assert list(said["drift"]) == ["node1"], what
            assert words in said["drift"]["node1"], (what, said)
        text = lab.command("status").stdout
        assert "drift on node1" in text


def test_a_deleted_route_is_drift_and_the_matrix_names_the_pairs_that_it_lost() -> None:
    with running("--pods", "1", "--set", "fabric={name: static, repair: false}") as lab:
        lab.exec("node1", "ip", "route", "del", "10.244.2.0/24")
        status, said = lab.status()
        assert status == 1
        assert said["drift"] == {"node1": ["add route 10.244.2.0/24 via 192.168.1.12 dev eth0"]}
        probed = lab.probe("--timeout", "0.2")
        assert probed.status == 1
        lost = {(cell.source, cell.target) for cell in probed.matrix.mismatches}
        # node1's pod answers no pod of node2 any more, and asks none; node2 itself it still finds
        assert lost == {
            *product(places_of(lab, "node1"), ["pod/node2-1"]),
            *product(["pod/node2-1"], places_of(lab, "node1")),
        }


def test_a_link_that_is_set_down_in_mininets_cli_loses_exactly_the_pairs_that_the_matrix_names() -> None:
    with running("--pods", "1") as lab:
        done = lab.command("shell", "--mininet", stdin="link node1 s1 down\nexit\n")
        assert done.status == 0, done
        probed = lab.probe("--timeout", "0.2")
        assert probed.status == 1
        cut = {
            (a, b)
            for a, b in product([p for n in lab.nodes for p in places_of(lab, n)], repeat=2)
            if ("node1" in a) != ("node1" in b)
        }
        assert {(cell.source, cell.target) for cell in probed.matrix.mismatches} == cut
        assert {cell.verdict.value for cell in probed.matrix.mismatches} == {"lost"}
        text = mininetes("probe", "reachability", "--lab", lab.name, "--timeout", "0.2")
        assert text.status == 1
        assert "pod/node2-1 -> pod/node1-1 (10.244.1.2 icmp): expected an answer" in text.stdout
        assert lab.status()[0] == 1
