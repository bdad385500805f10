"""Probes on live packets: what they say agrees with ping, nc and captures, and they leave others' traffic alone."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
import time
from pathlib import Path
from typing import Any

import netbox
import pytest

from mininetes.errors import BadInput
from mininetes.kernel.netns import socket_in
from mininetes.probes.connections import ConnectOptions, connect
from mininetes.probes.outcomes import Outcome, Seen
from mininetes.probes.pacing import Pacing
from mininetes.probes.reachability import SweepOptions, sweep
from mininetes.probes.sender import Prober
from mininetes.probes.vantage import Flow, Target, Vantage, all_pairs

ETH_P_IP = 0x0800


def as_rows(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    return [
        {
            "source": one.flow.source.name,
            "target": one.flow.target.name,
            "protocol": one.flow.protocol,
            "seen": one.seen.value,
            "attempts": one.attempts,
            "answers": one.answers,
            "rtt_us": one.rtt_us,
            "icmp": [one.icmp.type, one.icmp.code, one.icmp.sender] if one.icmp else None,
            "pod": one.answer.pod if one.answer else None,
            "client": one.answer.client_address if one.answer else None,
            "client_port": one.answer.client_port if one.answer else None,
            "detail": one.detail,
        }
        for one in outcomes
    ]


class Capture:
    """Counts what passes a host's eth0, by a function of the IP packet, while the block runs."""

    def __init__(self, host: Vantage) -> None:
        self._sock = socket_in(host.netns, socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._sock.bind(("eth0", 0x0003))
        self.packets: list[bytes] = []

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.setblocking(False)
        while select.select([self._sock], [], [], 0.05)[0]:
            data, (_, protocol, *_) = self._sock.recvfrom(2048)
            if protocol == ETH_P_IP:
                self.packets.append(data)
        self._sock.close()

    def count(self, source: Vantage, target: Vantage, protocol: int, first_byte: int | None = None) -> int:
        ends = socket.inet_aton(source.address) + socket.inet_aton(target.address)
        return sum(p[12:20] == ends and p[9] == protocol and first_byte in (None, p[20]) for p in self.packets)


# --- reachability -------------------------------------------------------------------------------------------------


def all_protocols_with_one_host_cut() -> list[dict[str, Any]]:
    lan = netbox.Lan(4)
    netbox.cut(lan.hosts[2])
    with netbox.Served(lan.hosts):
        flows = [
            *all_pairs(lan.hosts),
            *all_pairs(lan.hosts, protocol="udp", port=8080),
            *all_pairs(lan.hosts, protocol="tcp", port=8080),
        ]
        return as_rows(sweep(flows, SweepOptions(attempts=2, timeout_s=0.3)))


@pytest.mark.parametrize("user_namespace", [False, True], ids=["as the caller", "in a user namespace"])
def test_pairs_without_the_cut_host_answer_and_those_with_it_are_loss(user_namespace: bool) -> None:
    rows = netbox.run(all_protocols_with_one_host_cut, user_namespace=user_namespace)
    assert len(rows) == 3 * 12
    lost = [row for row in rows if "h3" in (row["source"], row["target"])]
    answered = [row for row in rows if row not in lost]
    assert len(lost) == 3 * 6
    assert {(row["seen"], row["attempts"], row["answers"], row["rtt_us"]) for row in lost} == {
        ("no answer", 2, 0, None)
    }
    assert {(row["seen"], row["attempts"], row["answers"]) for row in answered} == {("answered", 1, 1)}
    assert all(0 < row["rtt_us"] < 300_000 for row in answered)
    for row in answered:
        if row["protocol"] == "udp":
            number = int(row["source"][1:])
            assert (row["pod"], row["client"]) == (row["target"], f"10.9.0.{number}")


def sweep_and_ping_and_capture() -> dict[str, Any]:
    lan = netbox.Lan(4)
    netbox.cut(lan.hosts[3])
    first, second = lan.hosts[:2]
    with Capture(second) as capture:
        rows = as_rows(sweep(all_pairs(lan.hosts), SweepOptions(attempts=3, timeout_s=0.2)))
    pings = []
    for flow in all_pairs(lan.hosts):
        said = netbox.inside(flow.source, "ping", "-c1", "-W1", "-n", flow.target.address, check=False)
        pings.append(" 0% packet loss" in said)
    requests = capture.count(first, second, socket.IPPROTO_ICMP, 8)
    replies = capture.count(second, first, socket.IPPROTO_ICMP, 0)
    return {"rows": rows, "pings": pings, "requests": requests, "replies": replies}


def test_a_sweep_agrees_with_ping_and_with_a_capture() -> None:
    found = netbox.run(sweep_and_ping_and_capture)
    assert [row["seen"] == "answered" for row in found["rows"]] == found["pings"]
    assert (found["requests"], found["replies"]) == (1, 1)


def tcp_and_udp_beside_nc() -> dict[str, Any]:
    lan = netbox.Lan(3)
    first, second, third = lan.hosts
    netbox.cut(third)
    flows = [
        Flow(first, host, protocol, port)
        for protocol in ("tcp", "udp")
        for host, port in ((second, 8080), (second, 9), (third, 8080))
    ]
    with netbox.Served([second]):
        with Capture(second) as capture:
            rows = as_rows(sweep(flows, SweepOptions(attempts=1, timeout_s=0.3)))
        tcp = [
            netbox.run_process(
                ["nc", "-z", "-w1", flow.target.address, str(flow.port)],
                namespaces=netbox.Namespaces(net=first.netns),
                check=False,
            )
            for flow in flows[:3]
        ]
        said = netbox.inside(first, "nc", "-u", "-w1", second.address, "8080", stdin="hello\n")
        connected = as_rows(connect(flows[:3], ConnectOptions(timeout_s=0.3)))
    return {
        "rows": rows,
        "nc": [done.status for done in tcp],
        "nc_udp": said,
        "connected": connected,
        "syns": capture.count(first, second, socket.IPPROTO_TCP),
        "datagrams": capture.count(first, second, socket.IPPROTO_UDP),
    }


def test_refused_is_seen_and_agrees_with_nc() -> None:
    found = netbox.run(tcp_and_udp_beside_nc)
    tcp, udp = found["rows"][:3], found["rows"][3:]
    assert [row["seen"] for row in tcp] == ["answered", "refused", "no answer"]
    assert [row["seen"] for row in udp] == ["answered", "refused", "no answer"]
    assert udp[1]["icmp"] == [3, 3, "10.9.0.2"]
    assert [status == 0 for status in found["nc"]] == [True, False, False]
    assert '"pod": "h2"' in found["nc_udp"]
    connected = found["connected"]
    assert [row["seen"] for row in connected] == ["answered", "refused", "no answer"]
    assert (connected[0]["pod"], connected[0]["client"]) == ("h2", "10.9.0.1")
    # to the open port a SYN and, from the kernel, a RST that closes it again; to the closed one a SYN
    assert found["syns"] == 3
    assert found["datagrams"] == 2


def errors_from_routers_and_from_the_source(protocol: str) -> list[dict[str, Any]]:
    lan = netbox.Lan(2)
    first, second = lan.hosts
    netbox.ip_batch("h1", ["route add 10.20.0.0/16 via 10.9.0.2", "route add prohibit 10.30.0.0/16"])
    netbox.inside(second, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    netbox.ip_batch("h2", ["route add prohibit 10.20.1.0/24"])
    places = [Target(place, "pod", "", place) for place in ("10.20.0.1", "10.20.1.1", "10.30.0.1", "10.40.0.1")]
    flows = [Flow(first, place, protocol, 80 * (protocol != "icmp")) for place in places]
    return as_rows(sweep(flows, SweepOptions(attempts=2, timeout_s=0.5)))


@pytest.mark.parametrize("protocol", ["icmp", "udp", "tcp"])  # apart: the kernel sends one host few errors a second
def test_icmp_errors_are_named_with_who_sent_them(protocol: str) -> None:
    rows = netbox.run(errors_from_routers_and_from_the_source, protocol)
    no_route, filtered, prohibited, none = rows
    assert {row["seen"] for row in rows} == {"unreachable"}
    assert no_route["icmp"] == [3, 0, "10.9.0.2"]
    assert filtered["icmp"] == [3, 13, "10.9.0.2"]
    assert prohibited["detail"] == "the source's routing prohibits it"
    assert none["detail"] == "the source has no route"


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def the_same_flow_many_times() -> dict[str, Any]:
    lan = netbox.Lan(2)
    files = open_files()
    with netbox.Served(lan.hosts):
        udp = sweep([Flow(lan.hosts[0], lan.hosts[1], "udp", 8080)] * 50)
        tcp = connect([Flow(lan.hosts[0], lan.hosts[1], "tcp", 8080)] * 200)
    return {"udp": as_rows(udp), "tcp": as_rows(tcp), "files": open_files() - files}


def test_every_probe_of_a_sweep_has_a_source_port_of_its_own_and_all_sockets_are_closed() -> None:
    found = netbox.run(the_same_flow_many_times)
    assert len({row["client_port"] for row in found["udp"]}) == 50
    assert len({row["client_port"] for row in found["tcp"]}) == 200
    assert {row["pod"] for row in found["udp"] + found["tcp"]} == {"h2"}
    assert found["files"] == 0


def own_traffic_during_sweeps() -> dict[str, Any]:
    lan = netbox.Lan(2)
    first, second = lan.hosts
    listener = socket_in(second.netns, socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("", 7000))
    listener.listen()
    client = socket_in(first.netns, socket.AF_INET, socket.SOCK_STREAM)
    client.connect((second.address, 7000))
    server, _ = listener.accept()
    ping = threading.Thread(
        target=lambda: said.append(netbox.inside(first, "ping", "-q", "-i0.01", "-c50", "-n", second.address))
    )
    said: list[str] = []
    ping.start()
    flows = [Flow(first, second, "tcp", 7000), Flow(first, second, "udp", 7000), Flow(first, second)] * 30
    seen: list[str] = []
    received = b""
    while ping.is_alive():
        seen += [one.seen.value for one in sweep(flows, SweepOptions(attempts=2))]
        client.sendall(b"x" * 1000)
        received += server.recv(4096)
    ping.join()
    listener.setblocking(False)
    try:
        listener.accept()
        accepted = True
    except BlockingIOError:
        accepted = False
    return {
        "ping": said[0],
        "answered": seen.count("answered"),
        "of": len(seen) * 2 // 3,
        "accepted": accepted,
        "connection": set(received) == {ord("x")},
    }


def test_others_connections_and_pings_go_on_during_sweeps() -> None:
    found = netbox.run(own_traffic_during_sweeps)
    assert "50 received, 0% packet loss" in found["ping"]
    assert found["connection"]
    assert not found["accepted"], "a SYN probe must not become a connection"
    assert found["answered"] == found["of"], "TCP and ICMP answer; UDP is refused, or loss when ICMP is rate limited"


def sweep_that_mostly_waits() -> dict[str, float]:
    lan = netbox.Lan(12)
    for host in lan.hosts[1:]:
        netbox.cut(host)
    flows = all_pairs(lan.hosts)
    sweep(flows[:1], SweepOptions(attempts=1, timeout_s=0.1))
    began, cpu = time.monotonic(), time.process_time()
    outcomes = sweep(flows, SweepOptions(attempts=2, timeout_s=1.0))
    return {
        "lost": sum(one.seen is Seen.NO_ANSWER for one in outcomes),
        "of": len(flows),
        "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time() - cpu,
    }


def test_waiting_costs_no_cpu_and_ends_after_the_attempts() -> None:
    found = netbox.run(sweep_that_mostly_waits)
    assert found["lost"] == found["of"]
    assert 2.0 <= found["seconds"] < 4.0
    assert found["cpu_seconds"] < 0.3


def cancelled_and_used_again() -> dict[str, Any]:
    lan = netbox.Lan(3)
    netbox.cut(lan.hosts[2])

    async def main() -> dict[str, Any]:
        async with Prober() as prober:
            await prober.prepare()
            long = asyncio.create_task(
                prober.sweep([Flow(lan.hosts[0], lan.hosts[2])], SweepOptions(attempts=10, timeout_s=5.0))
            )
            await asyncio.sleep(0.2)
            began = time.monotonic()
            long.cancel()
            await asyncio.wait([long])
            again = await prober.sweep([Flow(lan.hosts[0], lan.hosts[1])])
            return {"cancelled": long.cancelled(), "seconds": time.monotonic() - began, "again": as_rows(again)}

    return asyncio.run(main())


def test_a_cancelled_sweep_ends_at_once_and_the_next_one_works() -> None:
    found = netbox.run(cancelled_and_used_again)
    assert found["cancelled"]
    assert found["seconds"] < 1.0
    assert found["again"][0]["seen"] == "answered"


def namespace_gone() -> str:
    lan = netbox.Lan(1)
    gone = Vantage("gone", "pod", "node1", "10.9.0.9", "/run/netns/gone")
    try:
        sweep([Flow(gone, lan.hosts[0])])
    except FileNotFoundError as error:
        return str(error)
    return ""


def test_a_namespace_that_is_gone_is_an_error_that_names_it() -> None:
    assert "/run/netns/gone" in netbox.run(namespace_gone)


def test_bad_options_are_refused_by_name() -> None:
    for wrong in (lambda: SweepOptions(attempts=0), lambda: Pacing(interval_s=0), lambda: ConnectOptions(at_once=0)):
        with pytest.raises(BadInput):
            wrong()
