"""Every fabric on every underlay: who reaches whom, without NAT, with packets that fit; what flannel's users know."""

from __future__ import annotations

import json
import re
from itertools import permutations
from typing import Any

import pytest
from flannel_states import CASES, NODES, left_by_flanneld, sections
from packet_capture import captured
from running_lab import RunningLab, mininetes, running
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN

from mininetes import parts

BARE = ("--pods", "1", "--set", "controlPlane.store=none")
UNDERLAYS: dict[str, list[str]] = {
    "three_node": ["--nodes", "3"],
    "single_switch": ["--nodes", "2"],
    "racks": ["--nodes", "3", "--set", "underlay.parameters.racks=2"],
    "leaf_spine": ["--nodes", "3", "--set", "underlay.parameters={leaves: 2, spines: 2}"],
}
FABRICS: dict[str, dict[str, Any]] = {
    "none": {},
    "static": {},
    "router": {},
    "host-gw": {"flannel": True},
    "vxlan": {"flannel": True, "mtu": 1450},
}
ROUTED = ("racks", "leaf_spine")
"""Underlays on which node3 is behind a router, as seen from node1 and node2."""


def test_every_fabric_and_every_underlay_has_its_row() -> None:
    assert sorted([*FABRICS, "weave"]) == parts.names("fabric"), "weave's are in test_weave_live"
    assert sorted(UNDERLAYS) == parts.names("underlay")


def pods_of(lab: RunningLab) -> list[str]:
    return [f"pod/{name}" for name in lab.pods]


def apart(fabric: str, underlay: str, source: str, target: str) -> bool:
    """Whether these two nodes' pods are not expected to reach each other."""
    behind = (source == "node3") != (target == "node3")
    return fabric == "none" or (fabric == "host-gw" and underlay in ROUTED and behind)


@pytest.mark.parametrize("underlay", UNDERLAYS)
@pytest.mark.parametrize("fabric", FABRICS)
def test_the_matrix_is_as_expected_and_nothing_is_translated(fabric: str, underlay: str) -> None:
    with running("--fabric", fabric, "--underlay", underlay, *UNDERLAYS[underlay], *BARE) as lab:
        check_matrix(lab, fabric, underlay)
        check_own_addresses(lab, fabric, underlay)
        mtu = FABRICS[fabric].get("mtu", 1500)
        assert f"mtu {mtu} " in lab.exec("pod/node1-1", "ip", "link", "show", "eth0")
        assert lab.status() == (0, {**lab.status()[1], "drift": {}})
        if fabric != "none" and underlay in ("three_node", "leaf_spine"):
            check_a_cut(lab, fabric, underlay)


def check_matrix(lab: RunningLab, fabric: str, underlay: str) -> None:
    probed = lab.probe("--timeout", "0.3")
    assert [str(cell) for cell in probed.matrix.mismatches] == []
    assert probed.status == 0
    expected = {
        (a, b)
        for a, b in permutations(pods_of(lab), 2)
        if not apart(fabric, underlay, lab.pods[a[4:]]["node"], lab.pods[b[4:]]["node"])
    }
    assert {pair for pair in probed.reached() if all(place.startswith("pod/") for place in pair)} == expected


def check_own_addresses(lab: RunningLab, fabric: str, underlay: str) -> None:
    """Each pod that is asked sees the asking pod's own address."""
    for source, target in permutations(pods_of(lab), 2):
        nodes = [lab.pods[place[4:]]["node"] for place in (source, target)]
        if not apart(fabric, underlay, *nodes):
            assert seen_by(lab, source, target) == lab.address(source)


def seen_by(lab: RunningLab, source: str, target: str) -> str:
    port = lab.pods[target.removeprefix("pod/")]["port"]
    url = f"http://{lab.address(target)}:{port}/"
    said = json.loads(lab.exec(source, "curl", "--silent", "--max-time", "5", url))
    return str(said["client"]).partition(":")[0]


def check_a_cut(lab: RunningLab, fabric: str, underlay: str) -> None:
    """Node2's port at the switch goes down and up again: its pairs are lost, and come back by themselves."""
    switch_port = port_of(lab, "node2")
    lab.exec("", "ip", "link", "set", switch_port, "down")
    lost = {(cell.source, cell.target) for cell in lab.probe("--timeout", "0.2", "--attempts", "1").matrix.mismatches}
    assert {("node1", "node2"), ("node2", "node1")} <= lost
    assert all(("node2" in a) != ("node2" in b) for a, b in lost)
    lab.exec("", "ip", "link", "set", switch_port, "up")
    check_matrix(lab, fabric, underlay)


def port_of(lab: RunningLab, node: str) -> str:
    """The switch's end of a node's link."""
    index = re.search(r"eth0@if(\d+)", lab.exec(node, "ip", "link", "show", "eth0"))
    assert index is not None
    found = re.search(rf"^{index[1]}: ([^:@]+)@", lab.exec("", "ip", "link"), re.MULTILINE)
    assert found is not None
    return found[1]


# --- what flannel's users know ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_nodes_show_what_a_real_flanneld_left(case: str, tmp_path: Any) -> None:
    cluster = {"apiVersion": "mininetes/v1", "kind": "Cluster", "spec": {"fabric": CASES[case]}}
    (tmp_path / "c.yaml").write_text(json.dumps(cluster))
    with running(str(tmp_path / "c.yaml"), "--pods", "0", "--set", "controlPlane.store=none") as lab:
        for node in NODES:
            theirs, env = left_by_flanneld(case, node)
            assert found_on(lab, node) == {heading: cleaned(heading, lines) for heading, lines in theirs.items()}
            assert lab.exec(node, "cat", "/run/flannel/subnet.env") == env


def found_on(lab: RunningLab, node: str) -> dict[str, list[str]]:
    """A node's state by the commands with which flanneld's was noted."""
    commands = {
        "ip -d link show type vxlan": "ip -d link show type vxlan",
        "ip addr": "ip -o -4 addr",
        "ip route": "ip route",
        "ip neigh (permanent)": "ip neigh show nud permanent",
        "bridge fdb (flannel.1)": "bridge fdb show | grep flannel.1 || true",
        "iptables-save": "iptables-save | grep -v '^#'",
    }
    script = "\n".join(f"echo '# {heading}'; {command}" for heading, command in commands.items())
    ours = sections(lab.exec(node, "sh", "-c", script))
    return {heading: cleaned(heading, lines) for heading, lines in ours.items()}


BY_DEFAULT = {"udpcsum", "noudp6zerocsumtx", "noudp6zerocsumrx"}


def cleaned(heading: str, lines: list[str]) -> list[str]:
    """Without what depends on the kernel's version, on the numbers of links, or on a table that nobody used."""
    if heading == "ip -d link show type vxlan":
        cut = [re.sub(r"^\d+: ", "", line).partition(" numtxqueues")[0] for line in lines]
        bare = (re.sub(r" (allmulti|minmtu|maxmtu) \d+| (addrgenmode|reserved_bits) \S+", "", line) for line in cut)
        # newer iproute2 has another order, and leaves out what is by default
        return sorted(" ".join(sorted({*line.split()} - BY_DEFAULT)) for line in bare)
    if heading == "ip addr":
        bare = (re.sub(r" brd \S+", "", line) for line in lines)  # the underlay's own addresses have one
        return sorted(re.sub(r"^\d+: ", "", line) for line in bare)
    if heading == "iptables-save":
        return sorted(line for line in lines if line.startswith(("-A", ":FLANNEL")))
    return lines


def test_packets_between_nodes_are_vxlan_to_port_8472_with_the_pods_packet_inside() -> None:
    with running("--fabric", "vxlan", "--nodes", "2", *BARE) as lab:
        asks, answers = lab.address("pod/node1-1"), lab.address("pod/node2-1")
        with captured(lab, "node2") as frames:
            lab.exec("pod/node1-1", "ping", "-c", "2", "-i", "0.2", "-W", "2", answers)
        packets = [Ether(frame) for frame in frames]
        assert not [p for p in packets if IP in p and p[IP].dst in (asks, answers) and VXLAN not in inner(p)]
        tunnelled = [p for p in packets if UDP in p and p[UDP].dport == 8472]
        assert len(tunnelled) == 4
        for packet in tunnelled:
            ends = (packet[IP].src, packet[IP].dst)
            tunnel = VXLAN(bytes(packet[UDP].payload))
            inside = tunnel.payload
            there = ends == ("192.168.1.11", "192.168.1.12")
            assert there or ends == ("192.168.1.12", "192.168.1.11")
            assert (tunnel.vni, bool(tunnel.flags.Instance)) == (1, True)
            assert (inside[IP].src, inside[IP].dst) == ((asks, answers) if there else (answers, asks))
            assert inside[Ether].dst == ("02:00:0a:f4:02:00" if there else "02:00:0a:f4:01:00")
            assert inside[ICMP].type == (8 if there else 0)


def inner(packet: Any) -> Any:
    """The tunnel that a packet is, as scapy reads it; the packet itself when it is none."""
    return VXLAN(bytes(packet[UDP].payload)) if UDP in packet and packet[UDP].dport == 8472 else packet


def test_vni_and_port_are_those_that_were_asked_for() -> None:
    chosen = ("--set", "fabric.parameters={vni: 42, port: 4789}")
    with running("--fabric", "vxlan", "--nodes", "2", *BARE, *chosen) as lab:
        with captured(lab, "node2") as frames:
            lab.exec("pod/node1-1", "ping", "-c", "1", "-W", "2", lab.address("pod/node2-1"))
        ports = {
            packet[UDP].dport: VXLAN(bytes(packet[UDP].payload)).vni for packet in map(Ether, frames) if UDP in packet
        }
        assert ports == {4789: 42}
        assert "flannel.42" in lab.exec("node1", "ip", "link")


@pytest.mark.parametrize("fabric", ["static", "host-gw"])
def test_without_a_tunnel_pods_packets_cross_as_they_are(fabric: str) -> None:
    with running("--fabric", fabric, "--nodes", "2", *BARE) as lab:
        asks, answers = lab.address("pod/node1-1"), lab.address("pod/node2-1")
        with captured(lab, "node2") as frames:
            lab.exec("pod/node1-1", "ping", "-c", "1", "-W", "2", answers)
        pings = [(p[IP].src, p[IP].dst) for p in map(Ether, frames) if ICMP in p]
        assert pings == [(asks, answers), (answers, asks)]


# --- MTU and NAT --------------------------------------------------------------------------------------------------


def ping_whole(lab: RunningLab, place: str, target: str, packet_bytes: int) -> tuple[int, str]:
    """Ping with a packet of that size that must not be cut up."""
    payload = str(packet_bytes - 28)
    done = lab.try_exec(place, "ping", "-M", "do", "-c", "2", "-i", "0.2", "-W", "1", "-s", payload, target)
    return done.status, done.stdout + done.stderr


def test_the_largest_packet_of_a_pod_crosses_the_tunnel_and_a_larger_one_is_refused_at_once() -> None:
    with running("--fabric", "vxlan", "--nodes", "2", *BARE) as lab:
        there = lab.address("pod/node2-1")
        assert ping_whole(lab, "pod/node1-1", there, 1450)[0] == 0
        status, said = ping_whole(lab, "pod/node1-1", there, 1451)
        assert status != 0
        assert re.search("local error: message too long, mtu=1450|sendmsg: Message too long", said)
        big = lab.exec("pod/node1-1", "ping", "-c", "1", "-W", "2", "-s", "4000", there)
        assert "1 received" in big


def test_a_packet_too_large_for_the_tunnel_gets_its_icmp_from_the_node() -> None:
    """As for a pod that has another interface's MTU: it learns the tunnel's from its gateway."""
    with running("--fabric", "vxlan", "--nodes", "2", *BARE) as lab:
        lab.exec("pod/node1-1", "ip", "link", "set", "eth0", "mtu", "1500")
        lab.exec("node1", "sh", "-c", "ip link set cni0 mtu 1500; for p in $(ls /sys/class/net/cni0/brif); "
                                      "do ip link set $p mtu 1500; done")  # fmt: skip
        there = lab.address("pod/node2-1")
        status, said = ping_whole(lab, "pod/node1-1", there, 1500)
        assert status != 0
        assert re.search(r"From 10\.244\.1\.1.* Frag needed and DF set \(mtu = 1450\)", said), said
        assert "cache expires" in lab.exec("pod/node1-1", "ip", "route", "get", there)
        assert "mtu 1450" in lab.exec("pod/node1-1", "ip", "route", "get", there)


def test_a_smaller_mtu_of_the_underlay_reaches_tunnel_and_pods() -> None:
    with running("--fabric", "vxlan", "--nodes", "2", *BARE, "--set", "fabric.parameters.mtu=1400") as lab:
        assert "mtu 1350 " in lab.exec("pod/node1-1", "ip", "link", "show", "eth0")
        assert "mtu 1350 " in lab.exec("node1", "ip", "link", "show", "flannel.1")
        assert "FLANNEL_MTU=1350" in lab.exec("node1", "cat", "/run/flannel/subnet.env")


@pytest.mark.parametrize("fabric", ["vxlan", "host-gw"])
@pytest.mark.parametrize("masquerade", [True, False])
def test_ip_masq_translates_what_leaves_the_pod_network_and_nothing_inside(fabric: str, masquerade: bool) -> None:
    wish = f"fabric.parameters.ipMasq={str(masquerade).lower()}"
    with running("--fabric", fabric, "--nodes", "2", *BARE, "--set", wish) as lab:
        assert seen_by(lab, "pod/node1-1", "pod/node2-1") == lab.address("pod/node1-1")
        with captured(lab, "client1") as frames:
            lab.try_exec("pod/node1-1", "ping", "-c", "1", "-W", "1", lab.address("client1"))
        sources = {packet[IP].src for packet in map(Ether, frames) if ICMP in packet and packet[ICMP].type == 8}
        assert sources == {lab.address("node1") if masquerade else lab.address("pod/node1-1")}


def test_a_router_tells_nobody_to_go_round_it() -> None:
    with running("--fabric", "router", "--nodes", "2", *BARE) as lab:
        with captured(lab, "node1") as frames:
            lab.exec("pod/node1-1", "ping", "-c", "3", "-i", "0.2", "-W", "2", lab.address("pod/node2-1"))
        found = [packet[ICMP].type for packet in map(Ether, frames) if ICMP in packet]
        assert sorted(found) == [0, 0, 0, 8, 8, 8]
        assert "10.244.2" not in lab.exec("node1", "ip", "route")
        assert "10.244.2.0/24 via 192.168.1.12" in lab.exec("gw", "ip", "route")


# --- what cannot be -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fabric", "vxlan", "--set", "fabric.parameters.mtu=600"], ["spec.fabric.parameters.mtu: 600", "626"]),
        (["--fabric", "vxlan", "--set", "fabric.parameters.vnl=1"], ["spec.fabric.parameters.vnl", "vni"]),
        (["--fabric", "static", "--set", "fabric.exec=[/bin/true]"], ["spec.fabric", "either a name, or exec"]),
        (
            ["--set", "fabric={exec: [/bin/true]}", "--set", "controlPlane.store=none"],
            ["spec.fabric.exec", "kubeconfig"],
        ),
        (["--set", "fabric={name: '', repair: false}"], ["spec.fabric", "either a name, or exec"]),
    ],
    ids=str,
)
def test_wrong_wishes_are_refused_by_name(arguments: list[str], words: list[str]) -> None:
    done = mininetes("up", "--dry-run", *arguments)
    assert done.status == 2, done
    assert [word for word in words if word not in done.stderr] == [], done.stderr
