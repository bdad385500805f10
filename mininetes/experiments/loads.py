"""Bounded traffic loads between places of a running lab: streams by iperf3, and small messages to and fro.

    stream = await loads.tcp_stream(pod, other, labels={"path": "cross node"})
    times = await loads.request_response(pod, other, at=(service_address, 80), labels=...)

``source`` and ``server`` are where the two programs run; ``at`` is where the client connects when that is not the
server's own address, as with a service. A load never lasts much longer than asked, and nothing of it is left.

On a small machine the place of the two programs decides more than the network does. Unless told otherwise both share
one CPU. There the kernel does the whole way of every packet, so that a longer way shows in time and throughput alike;
no CPU sleeps and has to be woken, which on a virtual machine costs more than the way that is to be measured, and which
comes and goes with what else runs (a TCP stream over a veth pair: 20 to 33 Gbit/s on one CPU of a busy machine, 0.3 to
2 on two). The CPU is the limit then: a UDP stream without a rate loses what the receiver has no time for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mininetes.deadline import within
from mininetes.errors import BadInput, MininetesError
from mininetes.experiments.loads_cpu import Meter
from mininetes.experiments.results import Measurement
from mininetes.kernel.processes import Namespaces
from mininetes.probes.vantage import Target, Vantage

STREAM_PORT = 5201
"""iperf3's own."""

MESSAGE_PORT = 5301
LOOPBACK = ("127.0.0.1", MESSAGE_PORT)
"""Where a client reaches a server in its own namespace: what the two programs cost, without a network."""

_MOST_S = 600
_MOST_MBIT = 1_000_000
_HEADERS = {"ip": 20, "udp": 8}
_MOST_DATAGRAM = 65507
_START_S = 10.0
_GRACE_S = 20.0
_PINGPONG = Path(__file__).with_name("loads_pingpong.py")

Labels = Mapping[str, Any]


class LoadFailed(MininetesError):
    """A load could not be measured; the text names the program, both ends, and what it said."""


@dataclass(frozen=True)
class Cpus:
    """On which CPU the client runs and on which the server; None: wherever the kernel likes."""

    client: int | None = None
    server: int | None = None

    @classmethod
    def apart(cls) -> Cpus:
        """One each, where there are two."""
        allowed = sorted(os.sched_getaffinity(0))
        return cls(allowed[-1], allowed[0])

    @classmethod
    def together(cls) -> Cpus:
        """The same for both."""
        last = max(os.sched_getaffinity(0))
        return cls(last, last)


def _within(field: str, value: float, least: float, most: float, unit: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise BadInput(field, value, f"{least:g} to {most:g} {unit}")


def check_stream(duration_s: int, rate_mbit: float = 0) -> None:
    """Refuse what no stream may have: iperf3 counts whole seconds; a rate of 0 has no limit. Raises BadInput."""
    _within("duration_s", duration_s, 1, _MOST_S, "seconds")
    if duration_s != int(duration_s):
        raise BadInput("duration_s", duration_s, "whole seconds, as iperf3 takes them")
    _within("rate_mbit", rate_mbit, 0, _MOST_MBIT, "Mbit/s")


def check_messages(duration_s: float, message_bytes: int = 1, most: int = 1) -> None:
    """Refuse what no request/response load may have. Raises BadInput."""
    _within("duration_s", duration_s, 0.01, _MOST_S, "seconds")
    _within("message_bytes", message_bytes, 1, 65536, "bytes")
    _within("most", most, 1, 100_000_000, "transactions")


def datagram_bytes(mtu: int) -> int:
    """The payload of a UDP datagram that fills an IPv4 packet of ``mtu`` bytes."""
    return mtu - _HEADERS["ip"] - _HEADERS["udp"]


async def tcp_stream(
    source: Vantage,
    server: Vantage,
    *,
    labels: Labels,
    at: tuple[str, int] | None = None,
    duration_s: int = 1,
    rate_mbit: float = 0,
    port: int = STREAM_PORT,
    cpus: Cpus | None = None,
) -> list[Measurement]:
    """One TCP stream from source to server: what arrived in Gbit/s (``tcp_gbps``), and segments sent again.

    ``tcp_gbps_of_cpu``: the same for each second that the load had of its CPU, where that can be told (see
    `loads_cpu`): what else runs on the machine matters little to it.

    Raises BadInput for bounds that cannot be, LoadFailed when the two do not talk.
    """
    check_stream(duration_s, rate_mbit)
    wanted = _Stream(at, duration_s, rate_mbit, port, cpus or Cpus.together())
    end, busy = await _iperf3(source, server, wanted)
    arrived = end["sum_received"]["bits_per_second"] / 1e9
    return [
        Measurement("tcp_gbps", arrived, "Gbit/s", labels),
        *([Measurement("tcp_gbps_of_cpu", arrived / busy, "Gbit/s", labels)] if busy else []),
        Measurement("tcp_retransmits", float(end["sum_sent"].get("retransmits", 0)), "1", labels),
    ]


async def udp_stream(
    source: Vantage,
    server: Vantage,
    *,
    labels: Labels,
    payload_bytes: int,
    at: tuple[str, int] | None = None,
    duration_s: int = 1,
    rate_mbit: float = 0,
    port: int = STREAM_PORT,
    cpus: Cpus | None = None,
) -> list[Measurement]:
    """One UDP stream: what arrived in Mbit/s of payload (``udp_mbps``), what was sent, and the part that was lost.

    ``udp_mbps_of_cpu`` is as with `tcp_stream`.

    Raises BadInput for bounds that cannot be, LoadFailed when the two do not talk.
    """
    check_stream(duration_s, rate_mbit)
    _within("payload_bytes", payload_bytes, 16, _MOST_DATAGRAM, "bytes")
    wanted = _Stream(at, duration_s, rate_mbit, port, cpus or Cpus.together(), payload_bytes)
    end, busy = await _iperf3(source, server, wanted)
    sent, lost = end["sum"]["packets"], end["sum"]["lost_packets"]
    seconds = end["sum"]["seconds"]
    megabits = payload_bytes * 8 / 1e6 / seconds
    arrived = max(sent - lost, 0) * megabits
    return [
        Measurement("udp_mbps", arrived, "Mbit/s", labels),
        *([Measurement("udp_mbps_of_cpu", arrived / busy, "Mbit/s", labels)] if busy else []),
        Measurement("udp_sent_mbps", sent * megabits, "Mbit/s", labels),
        Measurement("udp_lost", lost / sent if sent else None, "1", labels),
    ]


async def request_response(
    source: Vantage,
    server: Vantage,
    *,
    labels: Labels,
    at: tuple[str, int] | None = None,
    duration_s: float = 0.3,
    message_bytes: int = 1,
    most: int = 1_000_000,
    port: int = MESSAGE_PORT,
    cpus: Cpus | None = None,
) -> list[Measurement]:
    """Small messages to and fro over one TCP connection (netperf's TCP_RR).

    ``rr_us``: the time of a transaction, one value each for its median and tails (label ``percentile``);
    ``rr_per_s``: how many there were in a second. Ends after ``duration_s`` or ``most`` transactions.
    Raises BadInput for bounds that cannot be, LoadFailed when the two do not talk.
    """
    check_messages(duration_s, message_bytes, most)
    wanted = _Messages("rr", at, duration_s, message_bytes, most, port, cpus or Cpus.together())
    return await _messages(source, server, wanted, labels)


async def connect_request_response(
    source: Vantage,
    server: Vantage,
    *,
    labels: Labels,
    at: tuple[str, int] | None = None,
    duration_s: float = 0.3,
    message_bytes: int = 1,
    most: int = 1_000_000,
    port: int = MESSAGE_PORT,
    cpus: Cpus | None = None,
) -> list[Measurement]:
    """As `request_response`, with a new connection for each message (netperf's TCP_CRR): ``crr_us``, ``crr_per_s``."""
    check_messages(duration_s, message_bytes, most)
    wanted = _Messages("crr", at, duration_s, message_bytes, most, port, cpus or Cpus.together())
    return await _messages(source, server, wanted, labels)


@dataclass(frozen=True)
class _Stream:
    at: tuple[str, int] | None
    duration_s: int
    rate_mbit: float
    port: int
    cpus: Cpus
    payload_bytes: int = 0
    """Of a datagram; 0: TCP."""

    def argv(self, server: Target) -> list[str]:
        address, port = self.at or (server.address, self.port)
        argv = ["iperf3", "--client", address, "--port", str(port), "--time", str(self.duration_s), "--json"]
        argv += ["--connect-timeout", str(int(_START_S * 1000)), "--interval", "0"]
        if self.payload_bytes:
            argv += ["--udp", "--length", str(self.payload_bytes)]
        if self.payload_bytes or self.rate_mbit:
            argv += ["--bitrate", f"{self.rate_mbit}M" if self.rate_mbit else "0"]
        if self.cpus.client is not None and self.cpus.server is not None:
            argv += ["--affinity", f"{self.cpus.client},{self.cpus.server}"]
        return argv


@dataclass(frozen=True)
class _Messages:
    kind: Literal["rr", "crr"]
    at: tuple[str, int] | None
    duration_s: float
    message_bytes: int
    most: int
    port: int
    cpus: Cpus

    def argv(self, server: Target) -> list[str]:
        address, port = self.at or (server.address, self.port)
        numbers = {"seconds": self.duration_s, "bytes": self.message_bytes, "most": self.most}
        argv = [*_python("client", self.cpus.client), "--kind", self.kind, "--address", address, "--port", str(port)]
        return argv + [word for name, value in numbers.items() for word in (f"--{name}", str(value))]


def _python(role: str, cpu: int | None) -> list[str]:
    # isolated and without site packages: it starts in a third of the time
    argv = [sys.executable, "-I", "-S", str(_PINGPONG), role]
    return argv + (["--cpu", str(cpu)] if cpu is not None else [])


async def _iperf3(source: Vantage, server: Vantage, wanted: _Stream) -> tuple[dict[str, Any], float | None]:
    """What iperf3 says in the end, and the part of the time for which its CPU was busy with it (None: unknown)."""
    listening = ["iperf3", "--server", "--one-off", "--forceflush", "--port", str(wanted.port)]
    async with _running(listening, server, "listening"):
        meter = Meter(wanted.cpus.client, wanted.cpus.server)
        said = await _run(wanted.argv(server), source, wanted.duration_s)
        if "error" in said:
            raise LoadFailed(f"iperf3 from {source.name} to {server.name}: {said['error']}")
        end: dict[str, Any] = said["end"]
        percent = end["cpu_utilization_percent"]
        seconds = (end["sum"] if wanted.payload_bytes else end["sum_received"])["seconds"]
        busy_s = meter.busy_s((percent["host_total"] + percent["remote_total"]) / 100 * seconds)
    return end, busy_s / seconds if busy_s and seconds else None


async def _messages(source: Vantage, server: Vantage, wanted: _Messages, labels: Labels) -> list[Measurement]:
    serving = [*_python("server", wanted.cpus.server), "--port", str(wanted.port)]
    async with _running(serving, server, "ready"):
        said = await _run(wanted.argv(server), source, wanted.duration_s)
    found = [
        Measurement(f"{wanted.kind}_us", value, "us", {**labels, "percentile": name})
        for name, value in said["us"].items()
    ]
    rate = said["transactions"] / said["seconds"] if said["seconds"] else None
    return [*found, Measurement(f"{wanted.kind}_per_s", rate, "1/s", labels)]


async def _start(argv: Sequence[str], place: Vantage) -> asyncio.subprocess.Process:
    full = [*Namespaces(net=place.netns).prefix(), *argv]
    try:
        return await asyncio.create_subprocess_exec(
            *full, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except FileNotFoundError as missing:
        raise LoadFailed(f"{argv[0]}: no such program ({missing})") from None


@contextlib.asynccontextmanager
async def _running(argv: Sequence[str], place: Vantage, sign: str) -> AsyncIterator[None]:
    """Have a server run for the block; the block starts when it has said ``sign``. Raises LoadFailed."""
    process = await _start(argv, place)
    try:
        assert process.stdout is not None
        try:
            async with within(_START_S):
                is_ready = await _says(process.stdout, sign)
        except asyncio.TimeoutError:
            raise LoadFailed(f"{_title(argv)} in {place.name}: not ready within {_START_S:g} s") from None
        if not is_ready:
            raise LoadFailed(f"{_title(argv)} in {place.name} ended: {await _last_words(process)}")
        yield
    finally:
        await _end(process)


async def _says(output: asyncio.StreamReader, sign: str) -> bool:
    """Wait for a line with this word; False when the output ends before it."""
    while line := await output.readline():
        if sign in line.decode(errors="replace"):
            return True
    return False


async def _run(argv: Sequence[str], place: Vantage, duration_s: float) -> dict[str, Any]:
    """Run a client to its end and read its JSON. Raises LoadFailed."""
    process = await _start(argv, place)
    try:
        async with within(duration_s + _GRACE_S):
            stdout, stderr = await process.communicate()
    except asyncio.TimeoutError:
        raise LoadFailed(f"{_title(argv)} in {place.name}: not done {_GRACE_S:g} s after its time") from None
    finally:
        await _end(process)
    try:
        found: dict[str, Any] = json.loads(stdout)
    except ValueError:
        words = (stderr.decode(errors="replace").strip() or stdout.decode(errors="replace").strip() or "no output")[
            :500
        ]
        raise LoadFailed(f"{_title(argv)} in {place.name}: status {process.returncode}: {words}") from None
    return found


def _title(argv: Sequence[str]) -> str:
    return " ".join(Path(word).name if "/" in word else word for word in argv if word not in ("-I", "-S"))


async def _last_words(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    said = (await process.stderr.read()).decode(errors="replace").strip()
    return said[-500:] or f"status {await process.wait()}"


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await process.wait()
