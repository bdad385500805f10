"""Which ports answer whom: the ports table, asked with real TCP connections from every kind of origin.

`questions` says what to ask and what to expect (pure), `ask` asks, `PortsReport` puts both beside each other.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mininetes.agents.ports_table import Origin, PortsView, Row, table, who
from mininetes.counting import counted
from mininetes.deadline import within
from mininetes.errors import BadInput
from mininetes.kernel.netns import in_netns, socket_in
from mininetes.probes.outcomes import Seen
from mininetes.probes.vantage import Target, Vantage

LOOPBACK = "127.0.0.1"
_LISTEN = "0A"
_ONE = socket.htonl(1)
"""The last word of ::1, IPv6's loopback address."""

Expected = Literal["open", "closed", "let through"]
"""A connection; none; or either of a connection and a refusal by the node itself, as where nothing listens."""


@dataclass(frozen=True, slots=True)
class PortOptions:
    """How ports are asked: once each, ``timeout_s`` long (1 s and more has the kernel repeat a lost SYN).

    At most ``at_once`` connections are tried at a time. Raises BadInput for what cannot be.
    """

    timeout_s: float = 1.5
    at_once: int = 128

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s <= 60:
            raise BadInput("timeout", self.timeout_s, "more than 0 and at most 60 seconds")
        if not 1 <= self.at_once <= 1024:
            raise BadInput("at_once", self.at_once, "1 to 1024")


@dataclass(frozen=True, slots=True)
class Question:
    """One connection to try: from where to where, who asks in the table's terms, and what is expected."""

    row: Row
    node: str
    source: Vantage
    origin: Origin
    address: str
    port: int
    expected: Expected


@dataclass(frozen=True, slots=True)
class PortCheck:
    """One connection that was tried. Plain values: ``PortCheck(**row)`` undoes ``asdict``."""

    source: str
    origin: str
    address: str
    port: int
    expected: str
    seen: str
    saw: str

    @property
    def reached(self) -> bool:
        """Whether a connection stood."""
        return self.seen == Seen.ANSWERED.value

    @property
    def holds(self) -> bool:
        """Whether what was expected is what was seen."""
        if self.expected == "let through":
            return self.seen in (Seen.ANSWERED.value, Seen.REFUSED.value)
        return self.reached == (self.expected == "open")

    def __str__(self) -> str:
        return f"{self.source} ({self.origin}) -> {self.address}:{self.port}: expected {self.expected}, saw {self.saw}"


@dataclass(frozen=True, slots=True)
class PortRow:
    """One port of one node: who is to reach it, and who did.

    ``listening``: the node's addresses at which something listens there, as its kernel says.
    """

    component: str
    port: str
    protocol: str
    node: str
    listening: tuple[str, ...]
    may_reach: str
    checks: tuple[PortCheck, ...]

    @property
    def holds(self) -> bool:
        """Whether every connection went as expected."""
        return all(check.holds for check in self.checks)

    @property
    def expected(self) -> str:
        """From whom it is expected to be open, in words (or let through, where nothing has to listen)."""
        return self._who(check for check in self.checks if check.expected != "closed")

    @property
    def measured(self) -> str:
        """Whom it answered, in words. Where a refusal by the node itself is as good, that counts."""
        return self._who(c for c in self.checks if c.reached or (c.expected == "let through" and c.holds))

    def _who(self, checks: Iterable[PortCheck]) -> str:
        return who({Origin(check.origin) for check in checks}, {Origin(check.origin) for check in self.checks})

    @property
    def mismatches(self) -> tuple[PortCheck, ...]:
        """The connections that did not go as expected; ``str`` says it in words."""
        return tuple(check for check in self.checks if not check.holds)


@dataclass(frozen=True)
class PortsReport:
    """The whole table as measured, one row for each port of each node."""

    lines: tuple[PortRow, ...]

    @classmethod
    def compare(
        cls, answered: Iterable[tuple[Question, Seen, str]], listening: Mapping[str, Mapping[int, Sequence[str]]]
    ) -> PortsReport:
        """Put what was seen beside what was expected; ``listening`` is by node and port (`listeners`)."""
        groups: dict[tuple[Row, int, str], list[PortCheck]] = {}
        for question, seen, why in answered:
            check = PortCheck(
                source=question.source.name,
                origin=question.origin.value,
                address=question.address,
                port=question.port,
                expected=question.expected,
                seen=seen.value,
                saw=f"{seen.value}: {why}" if why else seen.value,
            )
            groups.setdefault((question.row, question.port, question.node), []).append(check)
        lines = []
        for (row, port, node), checks in groups.items():
            found = tuple(listening.get(node, {}).get(port, ()))
            shown = row.port if checks[0].expected == "let through" or row.first == row.last else str(port)
            lines.append(PortRow(row.component, shown, row.protocol, node, found, who(row.may_reach), tuple(checks)))
        return cls(tuple(lines))

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]]) -> PortsReport:
        """Undo `rows`. Raises KeyError or TypeError for a row with missing or unknown keys."""
        fields = ("component", "port", "protocol", "node", "may_reach")
        return cls(
            tuple(
                PortRow(
                    **{key: row[key] for key in fields},
                    listening=tuple(row["listening"]),
                    checks=tuple(
                        PortCheck(**{k: v for k, v in check.items() if k != "holds"}) for check in row["checks"]
                    ),
                )
                for row in rows
            )
        )

    def rows(self) -> list[dict[str, Any]]:
        """A JSON object for each row: its fields, ``expected``, ``measured``, ``holds``, and every connection."""
        return [
            {
                **{key: value for key, value in asdict(line).items() if key != "checks"},
                "expected": line.expected,
                "measured": line.measured,
                "holds": line.holds,
                "checks": [{**asdict(check), "holds": check.holds} for check in line.checks],
            }
            for line in self.lines
        ]

    @property
    def wrong(self) -> tuple[PortRow, ...]:
        """The rows that are not as expected."""
        return tuple(line for line in self.lines if not line.holds)

    @property
    def holds(self) -> bool:
        """Whether all rows are as expected."""
        return not self.wrong

    def summary(self) -> str:
        """The result in one line."""
        connections = sum(len(line.checks) for line in self.lines)
        line = f"{counted(len(self.lines), 'port')}, {counted(connections, 'connection')}"
        return (
            f"{line}, all as the table has it"
            if self.holds
            else f"{line}, {counted(len(self.wrong), 'port')} not as the table has it"
        )


def _sources(view: PortsView, node: str, vantages: Sequence[Vantage]) -> list[Vantage]:
    """Who is to connect to a node: itself, and the first of each other kind there is; pods on it and elsewhere."""
    wanted: list[Callable[[Vantage], bool]] = [
        lambda each: each.kind == "node" and each.name == node,
        lambda each: each.kind == "node" and each.name != node and view.origin(each.name) is Origin.CONTROL_PLANE,
        lambda each: each.kind == "node" and each.name != node and view.origin(each.name) is Origin.WORKER,
        lambda each: each.kind == "pod" and each.node == node,
        lambda each: each.kind == "pod" and each.node != node,
        lambda each: each.kind == "outside",
    ]
    found = (next((each for each in vantages if fits(each)), None) for fits in wanted)
    return [each for each in found if each is not None]


def questions(
    view: PortsView,
    vantages: Sequence[Vantage],
    *,
    services: Sequence[int] = (),
    connects: Callable[[Vantage, Target], bool] = lambda *_: True,
    masquerades: bool = False,
) -> list[Question]:
    """Every connection to try, with what is to be expected of it.

    ``services`` are the node ports that services have, expected open at every node; besides them one
    free node port is tried, which must be let through. ``connects`` says whether the network leads
    from a source to a node and back; with ``masquerades`` other nodes see a pod's packets as its node's.
    Raises BadInput for a service's port that is not in the range.
    """
    for port in services:
        if port not in view.node_ports:
            raise BadInput("node port", port, f"within {view.node_ports.start}-{view.node_ports.stop - 1}")
    nodes = {each.name: each for each in vantages if each.kind == "node"}
    asked = []
    for row in table(view):
        for node in row.nodes:
            for source in _sources(view, node, vantages):
                origin = _origin(view, node, source, masquerades=masquerades)
                leads = source.name == node or connects(source, nodes[node])
                here = row.listening == "loopback" and source.name == node
                address = LOOPBACK if here else nodes[node].address
                for port, expected in _wanted(row, origin, view, services):
                    asked.append(Question(row, node, source, origin, address, port, expected if leads else "closed"))
    return asked


def _origin(view: PortsView, node: str, source: Vantage, *, masquerades: bool) -> Origin:
    """What the node that is asked takes the source for."""
    if source.name == node:
        return Origin.ITSELF
    if source.kind == "node":
        return view.origin(source.name)
    if source.kind == "pod":
        return view.origin(source.node) if masquerades and source.node != node else Origin.POD
    return Origin.OUTSIDE


def _wanted(row: Row, origin: Origin, view: PortsView, services: Sequence[int]) -> Iterable[tuple[int, Expected]]:
    """The ports of a row that are tried, and what is expected of each."""
    admitted = row.admits(origin, firewall=view.firewall)
    if row.listening == "services":
        free = next((port for port in range(row.last, row.first - 1, -1) if port not in services), None)
        yield from ((port, "open" if admitted else "closed") for port in services)
        if free is not None:
            yield free, "let through" if admitted else "closed"
    else:
        yield row.first, "open" if admitted and row.listening != "nobody" else "closed"


async def ask(asked: Sequence[Question], options: PortOptions | None = None) -> list[tuple[Question, Seen, str]]:
    """Try every connection; what was seen of each, in order, with the reason in words where there is one.

    Sends nothing on a connection that stands, and closes it. Raises OSError when a source's namespace is gone.
    """
    options = options or PortOptions()
    turn = asyncio.Semaphore(options.at_once)

    async def one(question: Question) -> tuple[Question, Seen, str]:
        async with turn:
            seen, why = await _connect(question, options.timeout_s)
        return question, seen, why

    tasks = [asyncio.ensure_future(one(question)) for question in asked]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


async def _connect(question: Question, timeout_s: float) -> tuple[Seen, str]:
    with socket_in(question.source.netns, socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            async with within(timeout_s):
                await loop.sock_connect(sock, (question.address, question.port))
        except ConnectionRefusedError:
            return Seen.REFUSED, ""
        except (asyncio.TimeoutError, TimeoutError):
            return Seen.NO_ANSWER, ""
        except OSError as failed:
            return Seen.UNREACHABLE, os.strerror(failed.errno) if failed.errno else str(failed)
        return Seen.ANSWERED, ""


def listeners(netns: str) -> dict[int, list[str]]:
    """The TCP ports at which something listens in a namespace, with the addresses, from the kernel's own table.

    Blocks for a moment. A socket that takes IPv6 and IPv4 (``::``) counts as 0.0.0.0.
    """
    found: dict[int, list[str]] = {}
    with in_netns(netns):
        for name in ("tcp", "tcp6"):
            try:
                with open(f"/proc/thread-self/net/{name}") as file:
                    lines = file.readlines()[1:]
            except FileNotFoundError:  # a kernel without IPv6
                continue
            for line in lines:
                local, _, state = line.split()[1:4]
                address, port = local.split(":")
                shown = _ipv4(address)
                if state == _LISTEN and shown is not None and shown not in found.setdefault(int(port, 16), []):
                    found[int(port, 16)].append(shown)
    return {port: sorted(addresses) for port, addresses in found.items()}


def _ipv4(text: str) -> str | None:
    """An address of /proc/net/tcp or tcp6 (words in the machine's byte order); None for one of IPv6 alone."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    if len(words) == 4 and (words[:2] != [0, 0] or words[2] not in (0, socket.htonl(0xFFFF)) or words[2:] == [0, _ONE]):
        return None
    return socket.inet_ntoa(struct.pack("=I", words[-1]))
