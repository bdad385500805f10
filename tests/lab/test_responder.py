"""The built-in responder: what nc, HTTP clients and probes get from it, and what bad clients do not get."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import netbox
import pytest

from mininetes.kernel.netns import in_netns, socket_in
from mininetes.probes.reachability import sweep
from mininetes.probes.responder_client import Responder, ResponderError, ServedPort
from mininetes.probes.vantage import Flow, Vantage

PORTS = [ServedPort(8080, "TCP"), ServedPort(8080, "UDP"), ServedPort(80, "HTTP")]


def with_two_pods(work: Callable[[Vantage, Vantage], Any]) -> Any:
    """Serve h1 and h2 while ``work(h1, h2)`` runs on another thread."""

    async def main() -> Any:
        first, second = netbox.Lan(2).hosts
        async with await Responder.start() as responder:
            for host in (first, second):
                await responder.serve(host.name, node=host.node, netns=host.netns, ports=PORTS)
            return await asyncio.to_thread(work, first, second)

    return asyncio.run(main())


def open_connection(source: Vantage, target: Vantage, port: int = 8080) -> socket.socket:
    sock = socket_in(source.netns, socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(5)
    sock.connect((target.address, port))
    return sock


def read_all(sock: socket.socket) -> bytes:
    found = b""
    while data := sock.recv(65536):
        found += data
    return found


def web(source: Vantage, target: Vantage) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(target.address, 80, timeout=5)
    with in_netns(source.netns):
        connection.connect()
    return connection


# --- who asks properly --------------------------------------------------------------------------------------------


def ask_with_nc() -> dict[str, Any]:
    def work(first: Vantage, second: Vantage) -> dict[str, Any]:
        return {
            "line": netbox.inside(first, "nc", "-w5", second.address, "8080", stdin="hello\n"),
            "end of file": netbox.inside(first, "nc", "-N", "-w5", second.address, "8080"),
            "udp": netbox.inside(first, "nc", "-u", "-w1", second.address, "8080", stdin="\n"),
        }

    return with_two_pods(work)


def test_nc_gets_one_line_of_json_that_says_who_answered_and_whom_it_saw() -> None:
    found = netbox.run(ask_with_nc)
    for how, said in found.items():
        assert said.count("\n") == 1
        answer = json.loads(said)
        assert (answer["pod"], answer["node"], answer["port"]) == ("h2", "node0", 8080)
        assert answer["protocol"] == ("udp" if how == "udp" else "tcp")
        assert answer["client"].startswith("10.9.0.1:")


def ask_over_http() -> list[Any]:
    def work(first: Vantage, second: Vantage) -> list[Any]:
        found: list[Any] = []
        connection = web(first, second)
        port = connection.sock.getsockname()[1]
        for method, body in (("GET", None), ("POST", b"x" * 100_000), ("HEAD", None), ("DELETE", None)):
            connection.request(method, "/any/path", body=body)
            response = connection.getresponse()
            text = response.read()
            same = connection.sock is not None and connection.sock.getsockname()[1] == port
            found.append([response.status, response.version, same, json.loads(text) if text else None])
        connection.request("GET", "/", headers={"Connection": "close"})
        found.append([connection.getresponse().getheader("connection"), port])
        return found

    return with_two_pods(work)


def test_http_clients_get_json_and_may_keep_the_connection() -> None:
    *answers, (closing, port) = netbox.run(ask_over_http)
    for status, version, same_connection, answer in answers:
        assert (status, version, same_connection) == (200, 11, True)
        if answer is not None:
            assert (answer["pod"], answer["client"]) == ("h2", f"10.9.0.1:{port}")
    assert [answer is None for *_, answer in answers] == [False, False, True, False], "HEAD has no body"
    assert closing == "close"


def ask_in_odd_ways() -> dict[str, str]:
    def work(first: Vantage, second: Vantage) -> dict[str, str]:
        found = {}
        for name, parts in {
            "method in pieces": [b"G", b"ET / HT", b"TP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"],
            "only the start of a method": [b"GE"],
            "not HTTP after all": [b"GEORGE\n"],
            "no HTTP": [b"GET nonsense\r\n\r\n"],
            "a line that never ends": [b"GET /" + b"a" * 60_000],
            "HTTP/1.0": [b"GET / HTTP/1.0\r\n\r\n"],
        }.items():
            with open_connection(first, second) as sock:
                for part in parts:
                    sock.sendall(part)
                    time.sleep(0.05)
                found[name] = read_all(sock).decode()
        return found

    return with_two_pods(work)


def test_odd_clients_get_an_answer_too() -> None:
    found = netbox.run(ask_in_odd_ways)
    assert found["method in pieces"].startswith("HTTP/1.1 200")
    assert found["HTTP/1.0"].startswith("HTTP/1.1 200")
    assert found["no HTTP"].startswith("HTTP/1.1 400")
    assert found["a line that never ends"].startswith("HTTP/1.1 431")
    for name in ("only the start of a method", "not HTTP after all"):
        assert json.loads(found[name])["pod"] == "h2"


def udp_from_another_address() -> dict[str, Any]:
    def work(first: Vantage, second: Vantage) -> dict[str, Any]:
        netbox.ip_batch("h2", ["address add 10.9.9.9/16 dev eth0"])
        with socket_in(first.netns, socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.sendto(b"hello", ("10.9.9.9", 8080))
            answer, sender = sock.recvfrom(2048)
            # as if h1's responder had asked: an answer must not be answered
            sock.sendto(answer, ("10.9.9.9", 8080))
            sock.settimeout(0.3)
            with contextlib.suppress(TimeoutError):
                return {"looped": sock.recv(2048).decode(), "sender": sender}
        return {"looped": "", "sender": sender}

    return with_two_pods(work)


def test_udp_answers_come_from_the_address_asked_and_are_not_answered_themselves() -> None:
    found = netbox.run(udp_from_another_address)
    assert found["sender"] == ["10.9.9.9", 8080]
    assert found["looped"] == ""


# --- who does not -------------------------------------------------------------------------------------------------


def crowd_of_bad_clients() -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        first, second = netbox.Lan(2).hosts
        async with await Responder.start() as responder:
            for host in (first, second):
                await responder.serve(host.name, node=host.node, netns=host.netns, ports=PORTS)
            return await asyncio.to_thread(work, first, second, responder.pid)

    def work(first: Vantage, second: Vantage, pid: int) -> dict[str, Any]:
        before_kb = resident_kb(pid)
        crowd = [open_connection(first, second) for _ in range(400)]  # silent
        for sock in crowd[::2]:
            with contextlib.suppress(ConnectionError):  # the oldest were closed to make room
                sock.sendall(b"GET / HTTP/1.1\r\nX: ")  # slow
        greedy = [open_connection(first, second) for _ in range(4)]  # ask on and on, and never read
        for sock in greedy:
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(10_000):
                    sock.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        waits = []
        for target, port in ((first, 8080), (second, 8080), (second, 80)) * 5:
            began = time.monotonic()
            with open_connection(first, target, port) as sock:
                sock.sendall(b"\n")
                answer = read_all(sock)
            waits.append(time.monotonic() - began)
            assert b'"pod"' in answer
        grown_kb = resident_kb(pid) - before_kb
        deadline, ticks = time.monotonic() + 60, -100
        while cpu_ticks(pid) - ticks > 3 and time.monotonic() < deadline:  # until the greedy ones' buffers are full
            ticks = cpu_ticks(pid)
            time.sleep(0.5)
        return {"longest": max(waits), "grown_kb": grown_kb, "idle": cpu_ticks(pid) - ticks <= 3}

    return asyncio.run(main())


def resident_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def test_slow_and_greedy_clients_do_not_hold_up_the_others() -> None:
    found = netbox.run(crowd_of_bad_clients)
    assert found["longest"] < 1.0
    assert found["grown_kb"] < 40_000
    assert found["idle"], "it must not spin on clients that do not read"


def silent_client_of_a_stopped_pod() -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        first, second = netbox.Lan(2).hosts
        async with await Responder.start() as responder:
            await responder.serve("h2", node="node0", netns=second.netns, ports=PORTS)
            silent = open_connection(first, second)
            flows = [Flow(first, second, "tcp", 8080), Flow(first, second, "udp", 8080)]
            before = [one.seen.value for one in await asyncio.to_thread(sweep, flows)]
            await responder.stop("h2")
            await responder.stop("h2")
            try:
                told = await asyncio.to_thread(silent.recv, 1) == b""
            except ConnectionResetError:
                told = True
            after = [one.seen.value for one in await asyncio.to_thread(sweep, flows)]
            await responder.serve("h2", node="node0", netns=second.netns, ports=PORTS[:1])
            await responder.serve("h2", node="other", netns=second.netns, ports=PORTS[:1])
            again = await asyncio.to_thread(netbox.inside, first, "nc", "-w5", second.address, "8080", stdin="\n")
            return {"before": before, "told": told, "after": after, "node": json.loads(again)["node"]}

    return asyncio.run(main())


def test_stop_closes_ports_and_clients_and_serving_again_replaces() -> None:
    found = netbox.run(silent_client_of_a_stopped_pod)
    assert found["before"] == ["answered", "answered"]
    assert found["told"]
    assert found["after"] == ["refused", "refused"]
    assert found["node"] == "other"


# --- control ------------------------------------------------------------------------------------------------------


def refused_requests() -> dict[str, str]:
    async def main() -> dict[str, str]:
        (host,) = netbox.Lan(1).hosts
        taken = socket_in(host.netns, socket.AF_INET, socket.SOCK_STREAM)
        taken.bind(("", 81))
        taken.listen()
        errors = {}
        async with await Responder.start() as responder:
            for name, netns, ports in (
                ("taken", host.netns, [ServedPort(80), ServedPort(81)]),
                ("namespace", "/run/netns/none", [ServedPort(80)]),
                ("number", host.netns, [ServedPort(80), ServedPort(70000)]),
                ("protocol", host.netns, [ServedPort(80), ServedPort(82, "SCTP")]),  # type: ignore[arg-type]
            ):
                with pytest.raises(ResponderError) as refused:
                    await responder.serve(name, node="node1", netns=netns, ports=ports)
                errors[name] = str(refused.value)
                # all or nothing: port 80 is free again
                await responder.serve("check", node="node1", netns=host.netns, ports=[ServedPort(80)])
                await responder.stop("check")
        return errors

    return asyncio.run(main())


def test_what_cannot_be_served_is_named_and_nothing_of_it_stays() -> None:
    errors = netbox.run(refused_requests)
    assert errors["taken"] == "pod taken: port 81/TCP: Address already in use"
    assert errors["namespace"] == "pod namespace: network namespace /run/netns/none: No such file or directory"
    assert "70000" in errors["number"]
    assert "SCTP" in errors["protocol"]


def responder_of_a_killed_engine() -> bool:
    """Whether a responder is still there after its engine was killed."""
    engine = subprocess.Popen(
        [sys.executable, "-c", "import asyncio\nfrom mininetes.probes.responder_client import Responder\n"
         "async def main():\n    r = await Responder.start()\n    await r.stop('x')\n    print(r.pid, flush=True)\n"
         "    await asyncio.Event().wait()\nasyncio.run(main())"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert engine.stdout is not None
    pid = int(engine.stdout.readline())
    responder = os.pidfd_open(pid)
    engine.send_signal(signal.SIGKILL)
    engine.wait()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(responder, 0)
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            if state != "Z":
                time.sleep(0.01)
                continue
        return False
    return True


def test_it_ends_with_the_engine_even_when_that_is_killed() -> None:
    assert netbox.run(responder_of_a_killed_engine) is False


def gone_responder() -> str:
    async def main() -> str:
        async with await Responder.start() as responder:
            await responder.stop("none")
            os.kill(responder.pid, signal.SIGKILL)
            try:
                while True:
                    await responder.stop("none")
            except ResponderError as error:
                return str(error)

    return asyncio.run(main())


def test_a_responder_that_died_is_an_error_and_no_hanging() -> None:
    assert "gone" in netbox.run(gone_responder)


def cost() -> dict[str, float]:
    async def main() -> dict[str, float]:
        starts = []
        for _ in range(5):
            began = time.monotonic()
            async with await Responder.start() as responder:
                await responder.stop("none")
                starts.append(time.monotonic() - began)
        pods = 100
        hosts = netbox.Lan(pods).hosts
        async with await Responder.start() as responder:
            await responder.stop("none")
            empty_kb = resident_kb(responder.pid)
            began = time.monotonic()
            await asyncio.gather(*(responder.serve(h.name, node=h.node, netns=h.netns, ports=PORTS[:2]) for h in hosts))
            seconds = time.monotonic() - began
            grown_kb = resident_kb(responder.pid) - empty_kb
        return {"start_s": min(starts), "empty_kb": empty_kb, "kb_per_pod": grown_kb / pods, "serve_s": seconds / pods}

    return asyncio.run(main())


def test_it_starts_at_once_and_a_pod_costs_little() -> None:
    found = netbox.run(cost)
    assert found["start_s"] < 0.1
    assert found["empty_kb"] < 20_000
    assert found["kb_per_pod"] < 10
    assert found["serve_s"] < 0.005
