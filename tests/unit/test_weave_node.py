"""What a weave agent does to its node, says of itself, and accepts of others: the parts that need no kernel."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from weave_network import NETWORK, Network, address_of

from mininetes.agents.klog import AgentLog
from mininetes.agents.weave import status
from mininetes.agents.weave.connections import Connection, Connections, in_words
from mininetes.agents.weave.data_plane import DataPlane, There, Wanted, changes, mac_of
from mininetes.agents.weave.knowledge import Malformed
from mininetes.agents.weave.status import Link
from mininetes.agents.weave.wire import LONGEST, Hello, frame, read_frame
from mininetes.errors import MininetesError
from mininetes.kernel.processes import HERE, Completed

WANTED = Wanted("06:00:c0:a8:01:0b", "192.168.1.11", "10.32.0.1/12", frozenset({"192.168.1.12", "192.168.1.13"}))
BRIDGE: dict[str, Any] = {
    "ifname": "weave",
    "address": "06:00:c0:a8:01:0b",
    "mtu": 1376,
    "flags": ["BROADCAST", "UP"],
    "addr_info": [{"family": "inet", "local": "10.32.0.1", "prefixlen": 12}],
}
DEVICE: dict[str, Any] = {
    "ifname": "vxlan-6784",
    "mtu": 1376,
    "flags": ["UP"],
    "master": "weave",
    "linkinfo": {"info_kind": "vxlan", "info_data": {"id": 6784, "port": 6784, "local": "192.168.1.11"}},
}
FLOOD = "00:00:00:00:00:00 dev vxlan-6784 dst"
ALL = There(BRIDGE, DEVICE, WANTED.remotes)


def lines(wanted: Wanted, there: There) -> list[str]:
    return [f"{each.program} {each.line}" for each in changes(wanted, there)]


def test_an_empty_node_gets_bridge_tunnels_and_an_entry_for_each_peer() -> None:
    assert lines(WANTED, There()) == [
        "ip link add name weave mtu 1376 address 06:00:c0:a8:01:0b type bridge forward_delay 0",
        "ip link set dev weave up",
        "ip address add 10.32.0.1/12 broadcast + dev weave",
        "ip link add name vxlan-6784 mtu 1376 type vxlan id 6784 local 192.168.1.11 dstport 6784 learning",
        "ip link set dev vxlan-6784 master weave",
        "ip link set dev vxlan-6784 up",
        f"bridge fdb append {FLOOD} 192.168.1.12",
        f"bridge fdb append {FLOOD} 192.168.1.13",
    ]


def test_what_ubuntus_ip_writes_besides_json_is_passed_over() -> None:
    def said(argv: list[str], **_: Any) -> Completed:
        text = json.dumps([BRIDGE, DEVICE], separators=(",", ":")) if argv[0] == "ip" else "[]"
        return Completed(argv, HERE, 0, text.replace('"id":6784', '"id":6784fan-map '), "")

    assert DataPlane("/run/netns/node1", said).read() == There(BRIDGE, DEVICE)


def test_a_node_that_is_as_it_should_be_is_left_alone() -> None:
    assert lines(WANTED, ALL) == []
    more = {**BRIDGE, "addr_info": [*BRIDGE["addr_info"], {"family": "inet6", "local": "fe80::1", "prefixlen": 64}]}
    assert lines(WANTED, There(more, DEVICE, WANTED.remotes)) == []


@pytest.mark.parametrize(
    ("there", "done"),
    [
        (There({**BRIDGE, "flags": []}, DEVICE, WANTED.remotes), ["ip link set dev weave up"]),
        (
            There({**BRIDGE, "mtu": 1500}, DEVICE, WANTED.remotes),
            ["ip link set dev weave mtu 1376 address 06:00:c0:a8:01:0b"],
        ),
        (
            There({**BRIDGE, "address": "0a:00:00:00:00:01"}, DEVICE, WANTED.remotes),
            ["ip link set dev weave mtu 1376 address 06:00:c0:a8:01:0b"],
        ),
        (
            There({**BRIDGE, "addr_info": []}, DEVICE, WANTED.remotes),
            ["ip address add 10.32.0.1/12 broadcast + dev weave"],
        ),
        (There(BRIDGE, {**DEVICE, "master": "br0"}, WANTED.remotes), ["ip link set dev vxlan-6784 master weave"]),
        (There(BRIDGE, {**DEVICE, "mtu": 1450}, WANTED.remotes), ["ip link set dev vxlan-6784 mtu 1376"]),
        (There(BRIDGE, {**DEVICE, "flags": []}, WANTED.remotes), ["ip link set dev vxlan-6784 up"]),
        (There(BRIDGE, DEVICE, frozenset({"192.168.1.12"})), [f"bridge fdb append {FLOOD} 192.168.1.13"]),
        (
            There(BRIDGE, DEVICE, WANTED.remotes | {"192.168.1.19"}),
            [f"bridge fdb delete {FLOOD} 192.168.1.19"],
        ),
    ],
)
def test_what_somebody_changed_is_put_right_and_nothing_else(there: There, done: list[str]) -> None:
    assert lines(WANTED, there) == done


@pytest.mark.parametrize("wrong", [{"id": 1}, {"port": 4789}, {"local": "192.168.1.99"}])
def test_a_tunnel_device_of_another_making_is_made_anew(wrong: dict[str, Any]) -> None:
    data = {**DEVICE["linkinfo"]["info_data"], **wrong}
    other = {**DEVICE, "linkinfo": {"info_kind": "vxlan", "info_data": data}}
    done = lines(WANTED, There(BRIDGE, other, WANTED.remotes))
    assert done[0] == "ip link delete dev vxlan-6784"
    assert done[1].startswith("ip link add name vxlan-6784 ")
    assert done[-2:] == [f"bridge fdb append {FLOOD} 192.168.1.12", f"bridge fdb append {FLOOD} 192.168.1.13"]


def test_without_an_address_yet_the_bridge_has_none() -> None:
    assert not [line for line in lines(Wanted(WANTED.mac, WANTED.local), There()) if "address add" in line]


def test_the_macs_of_pods_are_those_that_the_plugin_gives() -> None:
    assert mac_of("10.32.0.2") == "0a:58:0a:20:00:02"
    assert mac_of("10.47.255.254") == "0a:58:0a:2f:ff:fe"


# --- the wire


def hello(number: int, network: str = "10.32.0.0/12") -> Hello:
    return Hello(address_of(number), network, 7)


def test_a_greeting_is_understood() -> None:
    assert hello(1).accept(hello(2).to_json()) == hello(2)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"protocol": "weave"}, "speaks weave 1, not mininetes-weave 1"),
        ({"version": 2}, "speaks mininetes-weave 2, not mininetes-weave 1"),
        ({"network": "10.0.0.0/8"}, r"network is 10.0.0.0/8, not 10.32.0.0/12"),
        ({"name": address_of(1).name}, "this peer's own name"),
        ({"address": "here"}, "greeting"),
        ({"incarnation": None}, "greeting"),
    ],
)
def test_a_greeting_that_cannot_be_is_refused_with_the_reason(change: dict[str, Any], why: str) -> None:
    with pytest.raises(Malformed, match=why):
        hello(1).accept({**hello(2).to_json(), **change})


def read(data: bytes) -> dict[str, Any]:
    async def from_stream() -> dict[str, Any]:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return await read_frame(reader)

    return asyncio.run(from_stream())


def test_frames_are_read_whole_and_nonsense_is_refused() -> None:
    assert read(frame({"type": "news"})) == {"type": "news"}
    with pytest.raises(asyncio.IncompleteReadError):
        read(frame({"type": "news"})[:-1])
    for data, why in (
        (b"GET / HTTP/1.1\r\n", f"at most {LONGEST} are read"),
        (b"\0\0\0\2[]", "no JSON object"),
        (b"\0\0\0\2{]", "not JSON"),
    ):
        with pytest.raises(Malformed, match=why):
            read(data)


# --- connections


class Writer:
    """Stands for a connection's stream: says whether it was ended."""

    def __init__(self) -> None:
        self.transport = self
        self.ended = False

    def abort(self) -> None:
        self.ended = True


def side(number: int, tmp_path: Path) -> Connections:
    log = AgentLog(str(tmp_path / f"{number}.log"))
    ignore: Any = lambda *_: None  # noqa: E731
    return Connections("", log, lambda: hello(number), dict, up=ignore, down=ignore, heard=ignore)


@pytest.mark.parametrize("outbound", [True, False])
@pytest.mark.parametrize("me", [1, 2])
def test_the_connection_of_a_later_life_replaces_any_of_an_earlier_one(tmp_path: Path, me: int, outbound: bool) -> None:
    connections, other = side(me, tmp_path), 3 - me
    writers: list[Any] = [Writer(), Writer(), Writer()]
    later = dataclasses.replace(hello(other), incarnation=8)
    assert connections._register(Connection(hello(other), not outbound, "before", writers[0]))
    assert connections._register(Connection(later, outbound, "after", writers[1]))
    assert not connections._register(Connection(hello(other), not outbound, "too late", writers[2]))
    assert connections.open[address_of(other).name].address == "after"
    assert writers[0].ended
    assert not writers[1].ended


@pytest.mark.parametrize("order", ["xy", "yx"])
def test_of_two_that_dialled_at_the_same_time_the_lower_names_connection_stays(tmp_path: Path, order: str) -> None:
    for me, other in ((1, 2), (2, 1)):
        connections = side(me, tmp_path)
        for name in order:
            writer: Any = Writer()
            outbound = (me == 1) == (name == "x")
            connections._register(Connection(hello(other), outbound, name, writer))
        assert connections.open[address_of(other).name].address == "x"


# --- status


def test_status_says_who_there_is_and_what_is_whose() -> None:
    network = Network(3)
    network.settle()
    one = network.peer(1)
    one.take("weave:expose", {"name": "weave:expose"})
    one.take("abc/eth0", {"pod": "default/web"})
    one.knowledge.note_services(
        {"default/x": (3, {"type": "ClusterIP", "address": "10.96.0.5", "ports": ["80/TCP"]})}, 3
    )
    network.settle()
    links = [
        Link(address_of(2), True, True, "192.168.1.12:6783"),
        Link(address_of(3), False, True, "192.168.1.13:6783", "no answer"),
    ]
    said = status.summary(one, links, 1376)
    for row in (
        "Name: 06:00:c0:a8:01:0b(node1)",
        "Connections: 2 (1 established, 1 pending)",
        "Peers: 3 (with 6 established connections)",
        "Status: ready",
        f"Range: {NETWORK}",
        "Owned: [10.32.0.0-10.37.84.255]",
        "Conflicts: none",
        "Services: 1 known",
    ):
        assert f" {row}\n" in said
    assert status.connections(links) == (
        "-> 192.168.1.12:6783     established 06:00:c0:a8:01:0c(node2)\n"
        "-> 192.168.1.13:6783     pending     06:00:c0:a8:01:0d(node3) no answer\n"
    )
    assert status.peers(one).splitlines()[:3] == [
        "06:00:c0:a8:01:0b(node1)",
        "   -- 06:00:c0:a8:01:0c(node2) established",
        "   -- 06:00:c0:a8:01:0d(node3) established",
    ]
    assert status.ipam(one).splitlines()[0].endswith("349440 IPs (33.3% of total) (2 active)")
    assert status.addresses(one) == "weave:expose 10.32.0.1/12\nabc/eth0 10.32.0.2/12 default/web\n"
    assert status.services(one).split() == ["default/x", "ClusterIP", "10.96.0.5", "80/TCP"]
    reports = [status.report(network.peer(number), []) for number in (1, 2, 3)]
    for report in reports:
        assert report.pop("self")["network"] == str(NETWORK)
    assert reports[0] == reports[1] == reports[2]
    assert reports[0]["peers"]["node1"]["pods"]["10.32.0.2"] == {"pod": "default/web"}


def test_connections_of_peers_that_cannot_be_reached_are_not_counted() -> None:
    network = Network(4)
    network.settle()
    network.partition([1, 2], [3, 4])
    for _ in range(6):
        network.connect()
        network.deliver()
    one = network.peer(1)
    assert " Peers: 4 (with 2 established connections)\n" in status.summary(one, [], 1376)
    lines = status.peers(one).splitlines()
    assert [line for line in lines if line.endswith(" unreachable")] == [f"{address_of(n)} unreachable" for n in (3, 4)]
    assert [line for line in lines if "established" in line] == [
        f"   -- {address_of(number)} established" for number in (2, 1)
    ]
    links = {name: each["links"] for name, each in status.report(one, [])["peers"].items()}
    assert links == {"node1": ["node2"], "node2": ["node1"], "node3": [], "node4": []}


@pytest.mark.parametrize(
    ("failed", "words"),
    [(ConnectionRefusedError(111, "Connect call failed ('192.168.1.12', 6783)"), "Connection refused"),
     (OSError(113, "Connect call failed"), "No route to host"), (TimeoutError(), "no answer"),
     (MininetesError("another network"), "another network")],
)  # fmt: skip
def test_why_a_peer_cannot_be_reached_is_said_in_words(failed: Exception, words: str) -> None:
    assert in_words(failed) == words


def test_status_of_a_peer_that_waits_for_a_range_says_so() -> None:
    network = Network(2)
    late = network.start(address_of(3), seed=False)
    assert " Status: waiting for a range\n" in status.summary(late, [], 1376)
    assert " Owned: none\n" in status.summary(late, [], 1376)
