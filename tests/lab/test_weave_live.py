"""weave on live packets: one L2 network that agents make by themselves, whole, cut in two, and healed.

pod 10.32.0.2 -- weave -- vxlan-6784 ==== UDP 6784 ==== vxlan-6784 -- weave -- pod 10.37.85.1
                   node1: agent  <------ TCP 6783 ------>  agent :node2
"""

from __future__ import annotations

import json
import re
import sys
import time
import urllib.request
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from cluster_api import ClusterApi, deployment, is_ready, service
from ordinary_user import ordinary_user
from packet_capture import captured
from running_lab import Done, RunningLab, mininetes, running
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vxlan import VXLAN
from waiting import wait_until

NETWORK = IPv4Network("10.32.0.0/12")
WEAVE = "/opt/cni/bin/weave"
ALONE = ("--set", "controlPlane.store=none")

_SHOUT = """
import socket, sys
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind(("eth0", 0))
own = out.getsockname()[4]
for number in range(int(sys.argv[1])):
    out.send(b"\\xff" * 6 + own + b"\\x88\\xb5" + bytes([number]) * 50)
"""
SHOUTED = 0x88B5
"""An Ethernet type for experiments (IEEE 802)."""


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running("--fabric", "weave", "--pods", "2", *ALONE) as up:
        yield up


def report(lab: RunningLab, node: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.exec(node, WEAVE, "report"))
    return found


def view(lab: RunningLab, node: str) -> object:
    """What an agent knows of the whole, without what is its own."""
    said = report(lab, node)
    return said["peers"], said["services"], said["ring"]


def change(lab: RunningLab, verb: str, node: str, agent: str = "weave") -> None:
    done = mininetes("agents", verb, "--lab", lab.name, node, agent)
    assert done.status == 0, done


def pings(lab: RunningLab, place: str, address: str) -> bool:
    return lab.try_exec(place, "ping", "-c", "1", "-W", "1", address).status == 0


class HandMade:
    """A pod that a person makes in a node, with the node's CNI configuration and nothing of the control plane."""

    def __init__(self, lab: RunningLab, node: str, name: str) -> None:
        self.lab, self.node, self.name = lab, node, name
        lab.exec(node, "ip", "netns", "add", name)
        quiet = "net.ipv6.conf.{}.disable_ipv6=1"  # as the kubelet's pods are: they say nothing unasked
        settings = [quiet.format(each) for each in ("all", "default")]
        lab.exec(node, "ip", "netns", "exec", name, "sysctl", "-q", "-w", *settings)
        said = lab.exec(node, "/opt/cni/bin/net-script.sh", "add", name, name)
        found = re.search(r"^address +(\S+)/\d+$", said, re.MULTILINE)
        assert found is not None, said
        self.address = found[1]

    def pings(self, address: str) -> bool:
        argv = ("nsenter", f"--net=/run/netns/{self.name}", "ping", "-c", "1", "-W", "1", address)
        return self.lab.try_exec(self.node, *argv).status == 0

    def end(self) -> None:
        self.lab.exec(self.node, "/opt/cni/bin/net-script.sh", "del", self.name, self.name)
        self.lab.exec(self.node, "ip", "netns", "del", self.name)


def ipam(lab: RunningLab, node: str, command: str, container: str = "c1", **more: str) -> Done:
    """Call the address plugin by hand."""
    given = {"CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_IFNAME": "eth0", "CNI_PATH": "/opt/cni/bin"}
    given |= {"CNI_NETNS": "/proc/self/ns/net", **more}
    configuration = json.dumps(
        {"cniVersion": "1.0.0", "name": "weave", "type": "x", "ipam": {"type": "bash-weave-ipam"}}
    )
    variables = [f"{key}={value}" for key, value in given.items()]
    return lab.try_exec(node, "env", *variables, "/opt/cni/bin/bash-weave-ipam", stdin=configuration)


# --- the network -----------------------------------------------------------------------------------------------------


def test_all_reach_all_in_one_network_of_10_32(lab: RunningLab) -> None:
    probed = lab.probe()
    assert probed.status == 0
    assert len(probed.reached()) == 9 * 8
    addresses = [IPv4Address(pod["address"]) for pod in lab.pods.values()]
    assert all(address in NETWORK for address in addresses)
    assert len({address.packed[:2] for address in addresses}) == 3  # each node has a range of its own
    for name in lab.pods:
        shown = json.loads(lab.exec(f"pod/{name}", "ip", "-json", "address", "show", "eth0"))[0]
        assert shown["mtu"] == 1376
        assert shown["addr_info"][0]["prefixlen"] == 12
    for node in lab.nodes:
        for device in ("weave", "vxlan-6784"):
            assert "mtu 1376 " in lab.exec(node, "ip", "link", "show", device)


def test_nobody_translates_addresses_and_packets_are_vxlan_to_port_6784(lab: RunningLab) -> None:
    asks, answers = lab.address("pod/node1-1"), lab.address("pod/node2-1")
    with captured(lab, "node2") as frames, captured(lab, "pod/node2-1") as inside:
        lab.exec("pod/node1-1", "ping", "-c", "3", "-i", "0.2", "-W", "2", answers)
    assert [(p[IP].src, p[IP].dst) for p in map(Ether, inside) if ICMP in p] == [(asks, answers), (answers, asks)] * 3
    tunnelled = [p for p in map(Ether, frames) if UDP in p and p[UDP].dport == 6784]
    carried = []
    for packet in tunnelled:
        tunnel = VXLAN(bytes(packet[UDP].payload))
        assert (tunnel.vni, bool(tunnel.flags.Instance)) == (6784, True)
        if ICMP in tunnel:
            carried.append((packet[IP].src, packet[IP].dst, tunnel[IP].src, tunnel[IP].dst))
    there = ("192.168.1.11", "192.168.1.12", asks, answers)
    back = ("192.168.1.12", "192.168.1.11", answers, asks)
    assert carried == [there, back] * 3  # each of them once
    assert not [p for p in map(Ether, frames) if IP in p and UDP not in p and asks in (p[IP].src, p[IP].dst)]


def test_what_is_for_everybody_comes_to_everybody_once_and_goes_in_no_circle(lab: RunningLab) -> None:
    with (
        captured(lab, "pod/node1-2") as same_node,
        captured(lab, "pod/node2-1") as second,
        captured(lab, "pod/node3-2") as third,
        captured(lab, "node1", "vxlan-6784") as tunnel,
        captured(lab, "node1") as underlay,
    ):
        lab.exec("pod/node1-1", sys.executable, "-c", _SHOUT, "20")
        assert pings(lab, "pod/node2-1", lab.address("pod/node3-2"))
    for frames in (same_node, second, third, tunnel):
        numbers = [Ether(frame).load[0] for frame in frames if Ether(frame).type == SHOUTED]
        assert numbers == list(range(20))
    outside = [Ether(frame) for frame in underlay]
    copies = [
        (packet[IP].src, packet[IP].dst)
        for packet in outside
        if UDP in packet and packet[UDP].dport == 6784 and VXLAN(bytes(packet[UDP].payload))[Ether].type == SHOUTED
    ]
    assert sorted(copies) == [("192.168.1.11", "192.168.1.12")] * 20 + [("192.168.1.11", "192.168.1.13")] * 20


def test_the_largest_packet_crosses_and_a_larger_one_is_refused_at_once(lab: RunningLab) -> None:
    there = lab.address("pod/node2-1")
    ping = ("ping", "-M", "do", "-c", "1", "-W", "2", "-s")
    assert lab.try_exec("pod/node1-1", *ping, str(1376 - 28), there).status == 0
    refused = lab.try_exec("pod/node1-1", *ping, str(1377 - 28), there)
    assert refused.status != 0
    assert re.search("mtu=1376|sendmsg: Message too long", refused.stdout + refused.stderr)


# --- what the agents say and know ------------------------------------------------------------------------------------


def test_status_shows_peers_connections_and_ranges(lab: RunningLab) -> None:
    for node in lab.nodes:
        said = lab.exec(node, WEAVE, "status")
        assert f"({node})" in said
        assert "Connections: 2 (2 established, 0 pending)" in said
        assert "Peers: 3 (with 6 established connections)" in said
        assert "Range: 10.32.0.0/12" in said
        others = [other for other in lab.nodes if other != node]
        connections = lab.exec(node, WEAVE, "status", "connections")
        assert connections.count(" established ") == 2
        assert all(f"({other})" in connections for other in others)
        assert lab.exec(node, WEAVE, "status", "peers").count("established") == 6
        shares = lab.exec(node, WEAVE, "status", "ipam").splitlines()
        assert len(shares) == 3
        assert all("(33.3% of total)" in line for line in shares)
        holders = lab.exec(node, WEAVE, "ps")
        assert "weave:expose" in holders
        assert f"default/{node}-1" in holders
        owned = report(lab, node)["peers"][node]["ranges"]
        log = lab.exec(node, "cat", "/var/log/weave.log")
        assert f'ipalloc-range="10.32.0.0/12" owned={json.dumps(owned)}' in log
    assert lab.try_exec("node1", WEAVE, "nonsense").status == 2
    assert "weave status" in lab.exec("node1", WEAVE, "--help")
    listening = lab.exec("node1", "ss", "-Hltn")
    assert "0.0.0.0:6783" in listening
    assert "127.0.0.1:6784" in listening
    pairs = lab.exec("node1", "ss", "-Htn", "state", "established", "( sport = :6783 or dport = :6783 )")
    assert len(pairs.splitlines()) == 2  # one to each, although both sides dial


def test_every_agent_knows_every_pod_at_once(lab: RunningLab) -> None:
    hand = HandMade(lab, "node3", "known")

    def known_by(node: str) -> bool:
        return hand.address in report(lab, node)["peers"]["node3"]["pods"]

    try:
        for node in lab.nodes:
            wait_until(lambda node=node: known_by(node), f"{node} knows of it", within_s=2)  # type: ignore[misc]
    finally:
        hand.end()
    for node in lab.nodes:
        wait_until(lambda node=node: not known_by(node), f"{node} knows that it went", within_s=2)  # type: ignore[misc]


# --- addresses by CNI ------------------------------------------------------------------------------------------------


def test_the_address_plugin_keeps_to_the_specification(lab: RunningLab) -> None:
    first = ipam(lab, "node2", "ADD", CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web")
    assert first.status == 0, first
    result = json.loads(first.stdout)
    assert (result["cniVersion"], len(result["ips"])) == ("1.0.0", 1)
    address = result["ips"][0]["address"]
    assert address.endswith("/12")
    gateway = json.loads(lab.exec("node2", "ip", "-json", "-4", "address", "show", "weave"))[0]["addr_info"][0]["local"]
    assert result["ips"][0]["gateway"] == gateway
    assert f"c1/eth0 {address} shop/web" in lab.exec("node2", WEAVE, "ps")
    again = ipam(lab, "node2", "ADD")
    assert (again.status, json.loads(again.stdout)["code"]) == (1, 7)
    assert f"already has {address.partition('/')[0]}" in json.loads(again.stdout)["msg"]
    assert ipam(lab, "node2", "CHECK").status == 0
    assert ipam(lab, "node2", "DEL", CNI_NETNS="").status == 0
    assert ipam(lab, "node2", "DEL").status == 0
    missing = ipam(lab, "node2", "CHECK")
    assert (missing.status, json.loads(missing.stdout)["code"]) == (1, 101)
    following = ipam(lab, "node2", "ADD", "c2")
    assert json.loads(following.stdout)["ips"][0]["address"] != address  # one that was just given back rests
    assert ipam(lab, "node2", "DEL", "c2").status == 0


def test_without_an_agent_the_plugin_says_so_and_with_one_soon_it_waits(lab: RunningLab) -> None:
    change(lab, "stop", "node2")
    try:
        late = ipam(lab, "node2", "ADD", "late")
        assert (late.status, json.loads(late.stdout)["code"]) == (1, 11)
        assert "does not answer at 127.0.0.1:6784" in json.loads(late.stdout)["msg"]
        shown = lab.try_exec("node2", WEAVE, "status")
        assert shown.status == 1
        assert "no agent answers" in shown.stderr
    finally:
        change(lab, "start", "node2")
    assert ipam(lab, "node2", "ADD", "late").status == 0  # at once: the plugin waits for the agent
    assert ipam(lab, "node2", "DEL", "late").status == 0


# --- agents that end, and what people do by hand ---------------------------------------------------------------------


def test_an_agent_that_is_killed_leaves_the_network_as_it_is_and_its_successor_keeps_the_range(lab: RunningLab) -> None:
    hand = HandMade(lab, "node2", "before")
    before = report(lab, "node2")["peers"]["node2"]
    change(lab, "stop", "node2")
    assert pings(lab, "pod/node1-1", hand.address)
    assert pings(lab, "pod/node2-1", lab.address("pod/node3-1"))
    change(lab, "start", "node2")
    wait_until(lambda: "2 established" in lab.try_exec("node2", WEAVE, "status").stdout, "connections", within_s=5)
    after = report(lab, "node2")["peers"]["node2"]
    assert after["ranges"] == before["ranges"]
    assert after["pods"] == before["pods"]
    wait_until(lambda: view(lab, "node1") == view(lab, "node2") == view(lab, "node3"), "one view", within_s=5)
    fresh = HandMade(lab, "node2", "after")
    assert fresh.address not in before["pods"]
    assert fresh.pings(hand.address)
    assert fresh.pings(lab.address("pod/node1-1"))
    for each in (hand, fresh):
        each.end()


def test_what_is_damaged_by_hand_is_repaired_and_said(lab: RunningLab) -> None:
    there = lab.address("pod/node1-1")
    lab.exec("node3", "ip", "link", "del", "vxlan-6784")
    assert not pings(lab, "pod/node3-1", there)
    wait_until(lambda: pings(lab, "pod/node3-1", there), "the tunnel is there again", within_s=20)
    assert '"Drift repaired" change="ip link add name vxlan-6784' in lab.exec("node3", "cat", "/var/log/weave.log")


def test_what_is_damaged_by_hand_may_be_left_and_only_said() -> None:
    with running("--fabric", "weave", "--nodes", "2", "--pods", "1", *ALONE, "--set", "fabric.repair=false") as lab:
        assert pings(lab, "pod/node1-1", lab.address("pod/node2-1"))
        lab.exec("node1", "bridge", "fdb", "del", "00:00:00:00:00:00", "dev", "vxlan-6784", "dst", "192.168.1.12")
        said = '"Drift found" change="bridge fdb append 00:00:00:00:00:00 dev vxlan-6784 dst 192.168.1.12"'
        wait_until(lambda: said in lab.exec("node1", "cat", "/var/log/weave.log"), "it is said", within_s=20)
        assert flooded(lab, "node1") == 0


def test_an_address_that_moves_is_found_where_it_is_now() -> None:
    """With a range so small that nodes give each other what they have: the same address, soon on another node."""
    small = ("--set", "network.pods=10.32.0.0/27", "--set", "network.nodePrefix=29")
    with running("--fabric", "weave", "--nodes", "2", "--pods", "1", *ALONE, *small) as lab:
        first = [HandMade(lab, "node1", f"a{number}") for number in range(20)]
        assert len({each.address for each in first}) == 20
        for each in first:
            assert pings(lab, "pod/node1-1", each.address)
            assert pings(lab, "pod/node2-1", each.address)
        for each in first:
            each.end()
        second = [HandMade(lab, "node2", f"b{number}") for number in range(20)]
        assert len({each.address for each in second}) == 20
        moved = {each.address for each in first} & {each.address for each in second}
        assert len(moved) >= 10  # of 26 addresses that there are for them
        for address in sorted(moved):
            assert pings(lab, "pod/node2-1", address)  # at once, and with what it remembers of before
            assert pings(lab, "pod/node1-1", address)


def flooded(lab: RunningLab, node: str) -> int:
    """To how many nodes a node sends what is for everybody."""
    return lab.exec(node, "bridge", "fdb", "show", "dev", "vxlan-6784").count("00:00:00:00:00:00 dst")


def test_a_dead_peers_range_is_claimed() -> None:
    with running("--fabric", "weave", "--pods", "1", *ALONE) as lab:
        refused = lab.try_exec("node1", WEAVE, "rmpeer", "node3")
        assert refused.status == 1
        assert "one that nobody is connected to any more" in refused.stderr
        change(lab, "stop", "node3")
        wait_until(lambda: "unreachable" in lab.exec("node1", WEAVE, "status", "peers"), "node3 is gone", within_s=5)
        lab.exec("node1", WEAVE, "rmpeer", "node3")
        wait_until(lambda: "node3" not in report(lab, "node2")["peers"], "node2 has heard", within_s=5)
        assert "66.7% of total" in lab.exec("node2", WEAVE, "status", "ipam")
        for node in ("node1", "node2"):
            wait_until(lambda node=node: flooded(lab, node) == 1, f"{node} has one tunnel left", within_s=5)  # type: ignore[misc]
        change(lab, "start", "node3")  # it was not dead for good after all
        wait_until(lambda: "node3" in report(lab, "node1")["peers"], "node3 is back", within_s=5)
        assert report(lab, "node3")["peers"]["node3"]["ranges"] == []
        fresh = HandMade(lab, "node3", "fresh")
        assert fresh.pings(lab.address("pod/node1-1"))
        assert report(lab, "node3")["conflicts"] == []


def test_a_node_joins_without_a_control_plane_and_its_pods_reach_everyone_and_it_may_leave() -> None:
    with running("--fabric", "weave", "--underlay", "single_switch", "--pods", "1", *ALONE) as lab:
        done = mininetes("node", "add", "--lab", lab.name)
        assert done.status == 0, done
        assert "node4 has joined" in done.stdout
        probed = lab.probe()
        assert probed.status == 0
        assert len(probed.reached()) == 8 * 7
        joined = report(lab, "node1")["peers"]["node4"]
        assert joined["links"] == ["node1", "node2", "node3"]
        assert joined["ranges"]
        assert len(joined["pods"]) == 2  # its bridge, and its pod
        for node in lab.nodes:
            assert flooded(lab, node) == 3
        done = mininetes("node", "rm", "--lab", lab.name, "node4")
        assert done.status == 0, done
        wait_until(lambda: "node4" not in report(lab, "node2")["peers"], "node2 has heard", within_s=10)
        ring = report(lab, "node2")["ring"]
        assert joined["name"] not in {owner for _, _, _, owner in ring}  # what it was given is back
        wait_until(lambda: flooded(lab, "node3") == 2, "no tunnel to it any more", within_s=5)
        assert mininetes("node", "add", "--lab", lab.name, "node4").status == 0
        assert lab.probe().status == 0


# --- with the control plane, and without it again --------------------------------------------------------------------


def log_of(api: ClusterApi, pod: str) -> str:
    """What `kubectl logs` prints of a pod in kube-system."""
    path = f"{api.server}/api/v1/namespaces/kube-system/pods/{pod}/log"
    asked = urllib.request.Request(path, headers={"Authorization": f"Bearer {api.token}"})
    with urllib.request.urlopen(asked, timeout=20, context=api.tls) as answer:
        return str(answer.read().decode())


def test_with_a_control_plane_agents_are_pods_services_are_known_and_it_may_go() -> None:
    with running("--fabric", "weave", "--pods", "1") as lab:
        api = ClusterApi(lab)
        assert lab.probe().status == 0
        agents = [name for name in api.ready_pods("kube-system") if name.startswith("weave-net-")]
        assert len(agents) == 3
        assert 'ipalloc-range="10.32.0.0/12" owned=["[10.' in log_of(api, agents[0])
        api.create("/apis/apps/v1/namespaces/default/deployments", deployment("shop", 3))
        made = api.create("/api/v1/namespaces/default/services", service("shop"))
        address = made["spec"]["clusterIP"]
        path = "/api/v1/namespaces/default/pods?labelSelector=app=shop"
        api.wait(path, lambda found: sum(map(is_ready, found["items"])) == 3, "three pods")
        for node in lab.nodes:
            known = lambda node=node: "default/shop" in report(lab, node)["services"]  # noqa: E731
            wait_until(known, f"{node} knows the service", within_s=10)
            assert report(lab, node)["services"]["default/shop"]["address"] == address
        assert "10.32.0.0/12" in lab.exec("node1", "cat", "/var/lib/kube-proxy/config.conf")
        for agent in ("kube-apiserver", "kube-controller-manager", "kube-scheduler"):
            change(lab, "stop", "node1", agent)
        new = [HandMade(lab, node, f"new-{node}") for node in lab.nodes]
        for pod in new:
            assert IPv4Address(pod.address) in NETWORK
            targets = [lab.address(f"pod/{name}") for name in lab.pods] + [each.address for each in new]
            assert all(pod.pings(target) for target in targets)
        asked = lab.try_exec("node3", "nsenter", "--net=/run/netns/new-node3", sys.executable, "-c",
                             f"import socket; socket.create_connection(({address!r}, 80), 3)")  # fmt: skip
        assert asked.status == 0, asked
        for pod in new:
            pod.end()


def test_the_range_of_a_node_that_is_taken_out_of_the_api_goes_to_the_others() -> None:
    with running("--fabric", "weave", "--underlay", "single_switch", "--pods", "1") as lab:
        done = mininetes("node", "rm", "--lab", lab.name, "node3")
        assert done.status == 0, done
        left = ("node1", "node2")
        for node in left:
            wait_until(lambda node=node: "node3" not in report(lab, node)["peers"], f"{node} has heard", within_s=15)  # type: ignore[misc]
        shares = lab.exec("node2", WEAVE, "status", "ipam")
        assert sum(int(line.split()[1]) for line in shares.splitlines()) == NETWORK.num_addresses
        assert lab.probe().status == 0
        done = mininetes("node", "add", "--lab", lab.name, "node3")
        assert done.status == 0, done
        assert lab.probe().status == 0
        assert report(lab, "node1")["conflicts"] == []
        assert "node3" in report(lab, "node1")["peers"]


def cut_port(lab: RunningLab, router: str, device: str) -> str:
    """The switch's port at the other end of a router's interface."""
    peer = json.loads(lab.exec(router, "ip", "-json", "link", "show", device))[0]["link_index"]
    links = json.loads(lab.exec("", "ip", "-json", "link"))
    return str(next(each["ifname"] for each in links if each["ifindex"] == peer))


def test_a_partition_of_two_and_three_nodes_works_on_and_heals_within_five_seconds() -> None:
    with running("--fabric", "weave", "--nodes", "5", "--underlay", "racks", "--pods", "1", *ALONE) as lab:
        assert lab.probe().status == 0
        sides = [["node1", "node2", "node3"], ["node4", "node5"]]
        port = cut_port(lab, "gw", "eth1")

        def is_one_view(nodes: list[str]) -> bool:
            return all(view(lab, node) == view(lab, nodes[0]) for node in nodes[1:])

        def sees_only(node: str, count: int) -> bool:
            return lab.exec(node, WEAVE, "status", "connections").count(" established ") == count

        lab.exec("", "ip", "link", "set", port, "down")
        try:
            for side in sides:
                for node in side:
                    seen = lambda node=node, side=side: sees_only(node, len(side) - 1)  # noqa: E731
                    wait_until(seen, f"{node} sees its side alone", within_s=10)
            pods = {node: HandMade(lab, node, f"apart-{node}") for side in sides for node in side}
            for side in sides:
                for node in side:
                    assert all(pods[node].pings(pods[other].address) for other in side)
                wait_until(lambda side=side: is_one_view(side), f"one view on {side}", within_s=5)  # type: ignore[misc]
            assert not pods["node1"].pings(pods["node4"].address)
            assert not is_one_view([sides[0][0], sides[1][0]])
        finally:
            lab.exec("", "ip", "link", "set", port, "up")
        healed = time.monotonic()
        everybody = [node for side in sides for node in side]
        wait_until(lambda: sees_only("node1", 4) and is_one_view(everybody), "one view of all", within_s=5)
        assert time.monotonic() - healed < 5
        addresses = {pod.address for pod in pods.values()} | {pod["address"] for pod in lab.pods.values()}
        assert len(addresses) == 10
        said = report(lab, "node5")
        assert said["conflicts"] == []
        assert addresses <= {address for peer in said["peers"].values() for address in peer["pods"]}
        wait_until(lambda: pods["node1"].pings(pods["node4"].address), "packets cross again", within_s=5)
        assert lab.probe().status == 0


def test_arp_is_answered_across_nodes_by_the_pod_itself(lab: RunningLab) -> None:
    asks, answers = lab.address("pod/node3-1"), lab.address("pod/node1-2")
    lab.exec("pod/node3-1", "ip", "neigh", "flush", "all")
    with captured(lab, "pod/node3-1") as frames:
        assert pings(lab, "pod/node3-1", answers)
    replies = [p[ARP] for p in map(Ether, frames) if ARP in p and p[ARP].op == 2 and p[ARP].psrc == answers]
    assert len(replies) == 1
    own = json.loads(lab.exec("pod/node1-2", "ip", "-json", "link", "show", "eth0"))[0]["address"]
    assert (replies[0].hwsrc, replies[0].pdst) == (own, asks)


def test_an_ordinary_user_may_do_it_too() -> None:
    with ordinary_user() as user, user.traces() as traces:
        done = traces.run(
            "up", "--lab", "mine", "--fabric", "weave", "--nodes", "2", "--pods", "1", "-o", "json", *ALONE
        )
        try:
            assert done.status == 0, done
            probed = traces.run("probe", "reachability", "--lab", "mine")
            assert probed.status == 0, probed
            said = traces.run("exec", "--lab", "mine", "node2", "--", "weave", "status")
            assert "1 established, 0 pending" in said.stdout, said
        finally:
            traces.run("down", "mine")
