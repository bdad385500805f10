"""Container networks on packets and on the kernel's own state: whom each kind reaches, and what is left afterwards.

node1   front (web 8081:80, api)  back (db)  lan (m1, m2)  secret (p1, p2)  wide (w1)
node2   wide (w2)          node3   wide (w3)         one ready-made pod on each
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packet_capture import captured
from running_lab import Done, RunningLab, fresh_name, is_left, mininetes, run, running
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vxlan import VXLAN
from waiting import wait_until

from mininetes.kernel import features
from mininetes.lab.entering import enter_node
from mininetes.lab.filesystem import netns_path
from mininetes.testbed.networks import Network

NETWORKS: list[dict[str, Any]] = [
    {"name": "front", "node": "node1"},
    {"name": "back", "node": "node1"},
    {"name": "lan", "node": "node1", "driver": "macvlan", "options": {"parent": "eth0"}},
    {"name": "secret", "node": "node1", "driver": "macvlan", "options": {"parent": "eth0", "mode": "private"}},
    {"name": "quiet", "node": "node2", "options": {"icc": "false"}},
    {"name": "wide", "driver": "overlay"},
]
CONTAINERS: list[dict[str, Any]] = [
    {"name": "web", "node": "node1", "networks": ["front"], "port": 80, "publish": ["8081:80"]},
    {"name": "api", "node": "node1", "networks": ["front"]},
    {"name": "db", "node": "node1", "networks": ["back"]},
    *({"name": name, "node": "node1", "networks": ["lan"]} for name in ("m1", "m2")),
    *({"name": name, "node": "node1", "networks": ["secret"]} for name in ("p1", "p2")),
    *({"name": f"w{number}", "node": f"node{number}", "networks": ["wide"]} for number in (1, 2, 3)),
]
NODE_OF = {f"container/{each['name']}": each["node"] for each in CONTAINERS}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    path = tmp_path_factory.mktemp("networks") / "cluster.yaml"
    spec = {"pods": {"perNode": 1}, "networks": NETWORKS, "containers": CONTAINERS}
    path.write_text(yaml.safe_dump({"apiVersion": "mininetes/v1", "kind": "Cluster", "spec": spec}))
    with running(str(path)) as lab:
        yield lab


@pytest.fixture(scope="module")
def address(lab: RunningLab) -> dict[str, str]:
    """The first address of each container."""
    rows = json.loads(ok(lab, "container", "ls", "-o", "json"))
    return {row["name"]: row["networks"][0]["address"] for row in rows}


def command(lab: RunningLab, group: str, verb: str, *arguments: str) -> Done:
    """A command of a group; ``--lab`` goes behind its verb."""
    return mininetes(group, verb, "--lab", lab.name, *arguments)


def ok(lab: RunningLab, group: str, verb: str, *arguments: str) -> str:
    done = command(lab, group, verb, *arguments)
    assert done.status == 0, done
    return done.stdout


def inside(lab: RunningLab, target: str, *argv: str) -> Done:
    """A command in a container (container/NAME) with a namespace of its own, in a pod or in a node."""
    if not target.startswith("container/"):
        return lab.try_exec(target, *argv)
    if not (node := NODE_OF.get(target)):
        rows = json.loads(ok(lab, "container", "ls", "-o", "json"))
        node = next(row["node"] for row in rows if f"container/{row['name']}" == target)
    netns = netns_path(node, target.replace("/", ":"))
    return run(enter_node(lab.pid, lab.hosts[node]["pid"], argv, pod_netns=netns))


def pings(lab: RunningLab, target: str, to: str, *options: str) -> bool:
    done = inside(lab, target, "ping", "-n", "-c", "1", "-W", "1", *options, to)
    assert done.status in (0, 1, 2), done
    return done.status == 0


def kernel_state(lab: RunningLab, node: str) -> dict[str, str]:
    """All that networks may leave in a node, without indexes, counters and what time changes."""
    links = re.findall(r"^\d+: ([^:@]+)[:@].*?\n\s+link/\S+ (\S+)", lab.exec(node, "ip", "link"), re.MULTILINE)
    return {
        "links": str(sorted(links)),
        "addresses": "".join(sorted(re.findall(r"inet \S+.*", lab.exec(node, "ip", "address")))),
        # when a bridge without ports becomes "linkdown" is up to the kernel
        "routes": lab.exec(node, "ip", "route").replace(" linkdown", ""),
        "neighbours": lab.exec(node, "ip", "neigh", "show", "nud", "permanent"),
        "rules": re.sub(r"\[\d+:\d+\]|#.*", "", lab.exec(node, "iptables-save")),
        "namespaces": lab.exec(node, "ip", "netns"),
    }


# --- the table ------------------------------------------------------------------------------------------------------


def rows_of(done: Done) -> list[dict[str, Any]]:
    assert done.stdout, done
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def test_the_table_of_whom_each_kind_reaches_holds_on_packets(lab: RunningLab) -> None:
    before = {node: kernel_state(lab, node) for node in lab.nodes}
    done = command(lab, "probe", "networks", "-o", "json")
    rows = rows_of(done)
    assert [row for row in rows if row["verdict"] not in ("reached", "unreached")] == []
    assert done.status == 0
    met = {(row["kind"], row["destination"], row["reached"]) for row in rows}
    for kind in ("bridge", "macvlan bridge", "macvlan private", "overlay", "none", "host", "bridge, icc false"):
        assert {destination for each, destination, _ in met if each == kind} >= {"host", "other node", "outside"}, kind
    assert {
        ("bridge", "own network", True),
        ("bridge", "other network", False),
        ("bridge, icc false", "own network", False),
        ("macvlan bridge", "own network", True),
        ("macvlan bridge", "host", False),
        ("macvlan bridge", "other node", True),
        ("macvlan private", "own network", False),
        ("overlay", "own network", True),
        ("overlay", "outside", True),
        ("none", "outside", False),
        ("host", "other network", True),
        *((kind, "node's loopback", True) for kind in ("bridge", "bridge, icc false", "overlay")),
        ("bridge", "own port", True),
        ("bridge, icc false", "own port", False),
        ("overlay", "own port", False),
    } <= met
    targets = {row["target"] for row in rows if (row["network"], row["destination"]) == ("wide", "own network")}
    assert targets == {"wide on node1", "wide on node2", "wide on node3"}
    # the kernel takes the guests' links away after their namespaces, on its own time
    wait_until(lambda: {node: kernel_state(lab, node) for node in lab.nodes} == before, "nodes as they were before")


def test_the_table_is_printed_and_a_hole_between_bridges_turns_it_red(lab: RunningLab) -> None:
    good = command(lab, "probe", "networks")
    assert good.status == 0
    assert "all as declared" in good.stdout
    lab.exec("node1", "iptables", "-I", "FORWARD", "-j", "ACCEPT")
    try:
        bad = command(lab, "probe", "networks", "front", "back")
    finally:
        lab.exec("node1", "iptables", "-D", "FORWARD", "-j", "ACCEPT")
    assert bad.status == 1
    assert "front on node1 -> back on node1" in bad.stdout
    assert "declared not reached (networks are kept apart), it answered" in bad.stdout
    assert "lan on node1" not in bad.stdout


# --- bridges --------------------------------------------------------------------------------------------------------


def drops(lab: RunningLab, bridge: str) -> int:
    """How many packets were dropped on their way from another bridge to this one."""
    rules = lab.exec("node1", "iptables", "-vxnL", "DOCKER-ISOLATION-STAGE-2")
    (line,) = [line for line in rules.splitlines() if bridge in line]
    return int(line.split()[0])


def test_members_of_a_bridge_reach_each_other_and_those_of_another_do_not(
    lab: RunningLab, address: dict[str, str]
) -> None:
    back = json.loads(ok(lab, "net", "inspect", "back"))[0]["Bridge"]
    assert pings(lab, "container/api", address["web"])
    before = drops(lab, back)
    assert not pings(lab, "container/api", address["db"])
    assert drops(lab, back) > before
    assert pings(lab, "node1", address["db"])
    assert not pings(lab, "node3", address["db"])


def test_two_bridges_with_one_member_in_common_meet_in_it_alone(lab: RunningLab, address: dict[str, str]) -> None:
    ok(lab, "net", "connect", "back", "web")
    try:
        assert pings(lab, "container/web", address["db"])
        assert pings(lab, "container/web", address["api"])
        assert not pings(lab, "container/api", address["db"])
    finally:
        ok(lab, "net", "disconnect", "back", "web")
    assert not pings(lab, "container/web", address["db"])
    assert "eth1" not in inside(lab, "container/web", "ip", "link").stdout


def ask(lab: RunningLab, place: str, url: str) -> dict[str, Any]:
    done = lab.try_exec(place, "curl", "-s", "-m", "3", url)
    return dict(json.loads(done.stdout)) if done.status == 0 else {}


def test_what_leaves_a_bridge_looks_like_its_node_and_inside_it_does_not(
    lab: RunningLab, address: dict[str, str]
) -> None:
    port = lab.pods["node2-1"]["port"]
    pod = inside(lab, "container/api", "curl", "-s", "-m", "3", f"http://{lab.address('pod/node2-1')}:{port}")
    assert json.loads(pod.stdout)["client"].split(":")[0] == lab.address("node1")
    own = inside(lab, "container/api", "curl", "-s", "-m", "3", f"http://{address['web']}:80")
    assert json.loads(own.stdout)["client"].split(":")[0] == address["api"]


@pytest.mark.parametrize("place", ["client1", "node2", "node1"])
def test_a_published_port_answers_at_the_node(place: str, lab: RunningLab) -> None:
    said = ask(lab, place, f"http://{lab.address('node1')}:8081")
    assert said["pod"] == "container/web"
    if place != "node1":
        assert said["client"].split(":")[0] == lab.address(place)
    assert ask(lab, place, f"http://{lab.address('node1')}:8082") == {}


def asked_inside(lab: RunningLab, target: str, url: str) -> dict[str, Any]:
    """What answers a container, or nothing."""
    done = inside(lab, target, "curl", "-s", "-m", "2", url)
    return dict(json.loads(done.stdout)) if done.status == 0 else {}


def test_a_published_port_answers_at_its_nodes_loopback_and_that_of_no_other(lab: RunningLab) -> None:
    said = ask(lab, "node1", "http://127.0.0.1:8081")
    assert said["pod"] == "container/web"
    gateway = json.loads(ok(lab, "net", "inspect", "front"))[0]["IPAM"]["Config"][0]["Gateway"]
    assert said["client"].split(":")[0] == gateway
    assert ask(lab, "node2", "http://127.0.0.1:8081") == {}
    assert ask(lab, "node1", "http://127.0.0.1:8082") == {}


def test_a_container_reaches_its_own_published_port_and_its_neighbours_do_as_themselves(
    lab: RunningLab, address: dict[str, str]
) -> None:
    url = f"http://{lab.address('node1')}:8081"
    front = json.loads(ok(lab, "net", "inspect", "front"))[0]
    own = asked_inside(lab, "container/web", url)
    assert (own["pod"], own["client"].split(":")[0]) == ("container/web", front["IPAM"]["Config"][0]["Gateway"])
    near = asked_inside(lab, "container/api", url)
    assert (near["pod"], near["client"].split(":")[0]) == ("container/web", address["api"])
    assert asked_inside(lab, "container/db", url) == {}, "networks are kept apart at published ports too"


def hairpins(lab: RunningLab, node: str, bridge: str) -> dict[str, bool]:
    """The ports of a bridge, and whether each sends back."""
    links = json.loads(lab.exec(node, "ip", "-j", "-d", "link", "show", "master", bridge))
    return {each["ifname"]: each["linkinfo"]["info_slave_data"]["hairpin"] for each in links}


@pytest.fixture(scope="module")
def bare() -> Iterator[RunningLab]:
    """A node without kube-proxy, which routes loopback addresses on all links; as on node1 above, web is on front."""
    with running("--nodes", "1", "--pods", "0", "--set", "controlPlane.store=none") as lab:
        ok(lab, "net", "create", "front")
        ok(lab, "container", "run", "web", "--network", "front", "--port", "80", "-p", "8081:80")
        yield lab


@pytest.mark.parametrize("bent", ["hairpin", "route_localnet", "OUTPUT", "POSTROUTING"])
def test_what_leads_to_a_published_port_is_repaired_with_the_nodes_next_change(bent: str, bare: RunningLab) -> None:
    bridge = json.loads(ok(bare, "net", "inspect", "front"))[0]["Bridge"]
    before = kernel_state(bare, "node1")
    bends: dict[str, list[tuple[str, ...]]] = {
        "hairpin": [("ip", "link", "set", port, "type", "bridge_slave", "hairpin", "off")
                    for port in hairpins(bare, "node1", bridge)],
        "route_localnet": [("sh", "-c", f"echo 0 >/proc/sys/net/ipv4/conf/{bridge}/route_localnet")],
        "OUTPUT": [("iptables", "-t", "nat", "-D", "OUTPUT", "-m", "addrtype", "--dst-type", "LOCAL", "-j", "DOCKER")],
        "POSTROUTING": [("sh", "-c", "iptables -t nat -S POSTROUTING | sed -n '/ -s .* -d .* --dport 80 /s/-A/-D/p' |"
                                     " xargs iptables -t nat")],
    }  # fmt: skip
    for each in bends[bent]:
        bare.exec("node1", *each)
    urls = {"node1": "http://127.0.0.1:8081", "container/web": f"http://{bare.address('node1')}:8081"}

    def answers() -> dict[str, bool]:
        return {place: asked_inside(bare, place, url) != {} for place, url in urls.items()}

    loopback_is_cut = bent in ("route_localnet", "OUTPUT")
    assert answers() == {"node1": not loopback_is_cut, "container/web": loopback_is_cut}
    ok(bare, "container", "run", "passer-by", "--network", "front")
    try:
        assert answers() == dict.fromkeys(urls, True)
        assert set(hairpins(bare, "node1", bridge).values()) == {True}
    finally:
        ok(bare, "container", "rm", "passer-by")
    after = kernel_state(bare, "node1")
    assert {key: sorted(text.splitlines()) for key, text in after.items()} == {
        key: sorted(text.splitlines()) for key, text in before.items()
    }


def test_a_container_that_goes_takes_its_published_port_along(lab: RunningLab) -> None:
    before = kernel_state(lab, "node1")
    ok(lab, "container", "run", "shop", "--node", "node1", "--network", "back", "--port", "80", "-p", "8090:80")
    assert ask(lab, "node1", "http://127.0.0.1:8090")["pod"] == "container/shop"
    ok(lab, "container", "rm", "shop")
    assert ask(lab, "node1", "http://127.0.0.1:8090") == {}
    wait_until(lambda: kernel_state(lab, "node1") == before, "node1 as it was before")


def test_a_route_from_elsewhere_leads_to_no_port_that_is_not_published(
    lab: RunningLab, address: dict[str, str]
) -> None:
    routes = [(f"{address[name]}/32", "via", lab.address("node1")) for name in ("web", "api")]
    for route in routes:
        lab.exec("node2", "ip", "route", "add", *route)
    try:
        assert ask(lab, "node2", f"http://{address['web']}:80")["pod"] == "container/web"
        assert ask(lab, "node2", f"http://{address['api']}:8080") == {}
        assert not pings(lab, "node2", address["api"])
    finally:
        for route in routes:
            lab.exec("node2", "ip", "route", "del", *route)


# --- macvlan --------------------------------------------------------------------------------------------------------


def test_macvlan_members_reach_each_other_in_mode_bridge_and_not_in_mode_private(
    lab: RunningLab, address: dict[str, str]
) -> None:
    assert pings(lab, "container/m1", address["m2"])
    assert not pings(lab, "container/p1", address["p2"])
    assert not pings(lab, "container/m1", address["p1"])
    for name, mode in (("m1", "bridge"), ("p1", "private")):
        assert f"macvlan mode {mode}" in inside(lab, f"container/{name}", "ip", "-d", "link", "show", "eth0").stdout


@pytest.mark.parametrize("child", ["m1", "p1"])
def test_a_node_does_not_reach_its_own_macvlan_child_and_others_do(
    child: str, lab: RunningLab, address: dict[str, str]
) -> None:
    assert not pings(lab, "node1", address[child])
    assert not pings(lab, f"container/{child}", lab.address("node1"))
    assert pings(lab, "node2", address[child])
    assert pings(lab, f"container/{child}", lab.address("node2"))
    assert pings(lab, f"container/{child}", lab.address("client1"))


def test_a_macvlan_child_is_on_the_wire_with_its_own_mac(lab: RunningLab, address: dict[str, str]) -> None:
    assert pings(lab, "node2", address["m1"])
    neighbour = lab.exec("node2", "ip", "neigh", "show", address["m1"])
    mac = json.loads(ok(lab, "net", "inspect", "lan"))[0]["Containers"]["container/m1"]["MacAddress"]
    assert f"lladdr {mac}" in neighbour


# --- overlay --------------------------------------------------------------------------------------------------------


def test_an_overlay_crosses_the_underlay_as_vxlan_and_needs_no_broadcast(
    lab: RunningLab, address: dict[str, str]
) -> None:
    with captured(lab, "node2") as frames:
        assert pings(lab, "container/w2", address["w1"])
        assert pings(lab, "container/w2", address["w3"])
    packets = [Ether(frame) for frame in frames]
    tunnelled = [packet for packet in packets if packet.haslayer("UDP") and packet["UDP"].dport == 4789]
    assert {packet[IP].dst for packet in tunnelled} == {lab.address(f"node{number}") for number in (1, 2, 3)}
    inner = [VXLAN(bytes(packet["UDP"].payload)) for packet in tunnelled]
    assert {each.vni for each in inner} == {4097}
    echoes = [each for each in inner if each.haslayer(ICMP)]
    assert {(each[IP].src, each[IP].dst) for each in echoes if each[ICMP].type == 8} == {
        (address["w2"], address["w1"]), (address["w2"], address["w3"])
    }  # fmt: skip
    assert [each for each in inner if each.haslayer(ARP)] == []
    assert [packet for packet in packets if packet.haslayer(IP) and packet[IP].dst == address["w1"]] == []


def test_an_overlays_packets_fit_the_underlay(lab: RunningLab, address: dict[str, str]) -> None:
    assert " mtu 1450 " in inside(lab, "container/w1", "ip", "link", "show", "eth0").stdout
    assert pings(lab, "container/w1", address["w2"], "-M", "do", "-s", "1422")
    assert not pings(lab, "container/w1", address["w2"], "-M", "do", "-s", "1423")


def test_no_node_reaches_into_an_overlay_and_its_members_leave_by_docker_gwbridge(
    lab: RunningLab, address: dict[str, str]
) -> None:
    assert not pings(lab, "node1", address["w1"])
    assert not pings(lab, "node1", address["w2"])
    assert pings(lab, "container/w1", lab.address("client1"))
    assert "default via" in (route := inside(lab, "container/w1", "ip", "route").stdout)
    assert re.search(r"default via \S+ dev eth1", route)
    ends = json.loads(ok(lab, "net", "inspect", "docker_gwbridge", "--node", "node1"))[0]["Containers"]
    assert "container/w1" in ends


# --- pods -----------------------------------------------------------------------------------------------------------


def test_a_pod_that_joins_a_second_network_keeps_its_own(lab: RunningLab, address: dict[str, str]) -> None:
    pod = "pod/node1-1"
    routes = lab.exec(pod, "ip", "route", "show", "default")
    said = ok(lab, "net", "connect", "wide", pod)
    joined = re.search(r"eth1 (\S+)/24", said)
    assert joined is not None, said
    assert pings(lab, "container/w3", joined[1])
    assert pings(lab, pod, address["w2"])
    assert lab.exec(pod, "ip", "route", "show", "default") == routes
    assert pings(lab, "pod/node2-1", lab.address(pod))
    assert pod in json.loads(ok(lab, "net", "inspect", "wide"))[0]["Containers"]
    twice = command(lab, "net", "connect", "wide", pod)
    assert twice.status == 2
    assert "is not on yet" in twice.stderr
    ok(lab, "net", "disconnect", "wide", pod)
    assert "eth1" not in lab.exec(pod, "ip", "link")
    assert not pings(lab, "container/w3", joined[1])
    assert pings(lab, "pod/node2-1", lab.address(pod))


def test_a_pod_that_is_deleted_is_on_no_network_any_more(lab: RunningLab) -> None:
    ok(lab, "net", "create", "brief", "--node", "node3")
    ok(lab, "net", "connect", "brief", "pod/node3-1")
    done = lab.command("delete", "pod", "node3-1")
    assert done.status == 0, done
    wait_until(
        lambda: json.loads(ok(lab, "net", "inspect", "brief"))[0]["Containers"] == {},
        "the pod is no member",
        every_s=0.2,
    )
    ok(lab, "net", "rm", "brief")


# --- coming and going -----------------------------------------------------------------------------------------------


def test_what_goes_leaves_nothing_behind(lab: RunningLab) -> None:
    before = {node: kernel_state(lab, node) for node in lab.nodes}
    ok(lab, "net", "create", "passing", "--node", "node2", "--subnet", "172.30.0.0/24", "-o", "mtu=1400")
    ok(lab, "net", "create", "through", "-d", "overlay", "--node", "node2", "--node", "node3")
    ok(lab, "container", "run", "a", "--node", "node2", "--network", "passing", "--network", "through", "-p", "99:80")
    ok(lab, "container", "run", "b", "--node", "node3", "--network", "through")
    far = json.loads(ok(lab, "net", "inspect", "through"))[0]["Containers"]["container/b"]["IPv4Address"].split("/")[0]
    assert pings(lab, "container/a", far)
    assert " mtu 1400 " in inside(lab, "container/a", "ip", "link", "show", "eth0").stdout
    refused = command(lab, "net", "rm", "passing")
    assert refused.status == 2
    assert "it has container/a" in refused.stderr
    assert kernel_state(lab, "node2") != before["node2"]
    ok(lab, "container", "rm", "a", "b")
    ok(lab, "net", "rm", "passing", "through")
    after = {node: kernel_state(lab, node) for node in lab.nodes}
    for node in lab.nodes:
        for what, found in after[node].items():
            assert found == before[node][what], (node, what)


def test_who_is_on_none_has_loopback_alone_and_who_is_on_host_the_node(lab: RunningLab) -> None:
    ok(lab, "container", "run", "alone", "--node", "node2", "--network", "none")
    ok(lab, "container", "run", "open", "--node", "node2", "--network", "host", "--port", "8088")
    try:
        links = inside(lab, "container/alone", "ip", "-br", "link").stdout.splitlines()
        assert [line.split()[0] for line in links] == ["lo"]
        assert ask(lab, "node3", f"http://{lab.address('node2')}:8088")["pod"] == "container/open"
        assert lab.command("exec", "container/open", "ip", "route").stdout == lab.exec("node2", "ip", "route")
        assert "lo" in lab.command("exec", "container/alone", "ip", "link").stdout
        taken = command(lab, "container", "run", "late", "--node", "node2", "--network", "host", "--port", "8088")
        assert taken.status == 1
        assert "8088" in taken.stderr
        assert "late" not in ok(lab, "container", "ls")
    finally:
        ok(lab, "container", "rm", "alone", "open")
    assert ask(lab, "node3", f"http://{lab.address('node2')}:8088") == {}


def test_a_network_that_cannot_be_made_is_undone(lab: RunningLab) -> None:
    bridge = Network("clash", "bridge", ("node3",)).bridge
    lab.exec("node3", "ip", "link", "add", bridge, "type", "veth", "peer", "name", "n-other")
    before = kernel_state(lab, "node3")
    failed = command(lab, "net", "create", "clash", "--node", "node3")
    assert failed.status == 1
    assert bridge in failed.stderr
    assert kernel_state(lab, "node3") == before
    lab.exec("node3", "ip", "link", "del", bridge)
    ok(lab, "net", "create", "clash", "--node", "node3")
    ok(lab, "net", "rm", "clash")


def test_the_list_has_the_predefined_networks_of_each_node(lab: RunningLab) -> None:
    rows = json.loads(ok(lab, "net", "ls", "-o", "json"))
    assert [(row["name"], row["driver"]) for row in rows if row["nodes"] == ["node3"]][:3] == [
        ("bridge", "bridge"), ("host", "host"), ("none", "null")
    ]  # fmt: skip
    assert [row["name"] for row in rows if row["nodes"] == ["node1"]][:4] == [
        "bridge",
        "host",
        "none",
        "docker_gwbridge",
    ]
    assert [row["driver"] for row in rows if row["name"] == "docker_gwbridge"] == ["bridge"] * 3
    text = ok(lab, "net", "ls", "--node", "node1")
    assert re.search(r"^docker_gwbridge +bridge +local +node1 +172\.\d+\.0\.0/16", text, re.MULTILINE)
    assert re.search(r"^NETWORK +DRIVER +SCOPE +NODE +SUBNET", text)
    assert re.search(r"^wide +overlay +cluster +node1,node2,node3 +10\.0\.1\.0/24", text, re.MULTILINE)
    assert "node2   " not in text


REFUSED = {
    "pods' addresses": (("--node", "node1", "--subnet", "10.244.7.0/24"), "--subnet", "spec.network.pods"),
    "another network's": (("--node", "node1", "--subnet", "172.18.1.0/24"), "--subnet", "network front"),
    "an unknown parent": (("--node", "node1", "-d", "macvlan", "-o", "parent=eth9"), "-o parent", "eth0"),
    "an MTU too small": (("--node", "node1", "-o", "mtu=68"), "-o mtu", "576"),
    "IPv6": (("--node", "node1", "--ipv6"), "--ipv6", "IPv6 is not supported yet"),
    "no node": ((), "--node", "node1, node2, node3"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_in_one_line_before_anything_is_made(case: str, lab: RunningLab) -> None:
    arguments, field, right = REFUSED[case]
    before = kernel_state(lab, "node1")
    done = command(lab, "net", "create", "x", *arguments)
    assert done.status == 2
    assert field in done.stderr
    assert right in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert kernel_state(lab, "node1") == before


def test_a_driver_that_the_kernel_lacks_is_refused_by_name(lab: RunningLab) -> None:
    here = next(each.here for each in features.check_all() if each.name == "ipvlan")
    arguments = ("--node", "node3", "-d", "ipvlan", "-o", "mode=l3")
    done = command(lab, "net", "create", "routed", *arguments)
    assert done.status == (0 if here else 3), done
    if here:
        ok(lab, "net", "rm", "routed")
    else:
        assert "ipvlan is missing" in done.stderr
        assert "routed" not in ok(lab, "net", "ls")


def test_a_cluster_file_with_a_network_that_cannot_be_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    path, name = tmp_path / "cluster.yaml", fresh_name()
    spec = {"networks": [{"name": "n", "node": "node1", "subnet": "10.96.0.0/24"}]}
    path.write_text(yaml.safe_dump({"apiVersion": "mininetes/v1", "kind": "Cluster", "spec": spec}))
    for verb in (("validate",), ("up", "--lab", name)):
        done = mininetes(*verb, str(path))
        assert done.status == 2
        assert "spec.networks[0].subnet" in done.stderr
        assert "spec.network.services" in done.stderr
    assert not is_left(name)


def test_a_node_that_leaves_takes_its_containers_and_networks_along() -> None:
    with running("--pods", "0", "--set", "controlPlane.store=none") as small:
        ok(small, "net", "create", "wide", "-d", "overlay")
        ok(small, "net", "create", "near", "--node", "node3")
        for number in (1, 2, 3):
            ok(small, "container", "run", f"w{number}", "--node", f"node{number}", "--network", "wide")
        ok(small, "net", "create", "deep", "-d", "overlay", "--node", "node3")
        # node2 does not have deep, and yet no overlay of the cluster gets its subnet
        assert "subnet 10.0.3.0/24" in ok(small, "net", "create", "flat", "-d", "overlay", "--node", "node2")
        ok(small, "net", "connect", "near", "w3")
        gone = ok(small, "node", "rm", "node3")
        assert gone == "node3 is gone, and with it container w3; networks near (bridge), deep (overlay)\n"
        rows = json.loads(ok(small, "container", "ls", "-o", "json"))
        assert [row["name"] for row in rows] == ["w1", "w2"]
        near = {row["name"]: row["networks"][0]["address"] for row in rows}
        assert pings(small, "container/w1", near["w2"])
        assert "192.168.1.13" not in small.exec("node1", "bridge", "fdb")
        assert "near" not in ok(small, "net", "ls")
        assert "node3" not in ok(small, "net", "ls")
        done = command(small, "probe", "networks", "wide")
        assert done.status == 0, done
