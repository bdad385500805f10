"""Turning a flow into a packet and sending it: what the sweep and the paced measurement share."""

from __future__ import annotations

import errno
import re
import socket
import time
from dataclasses import dataclass, field

from mininetes.probes.outlet import Outlet
from mininetes.probes.packets import DEFAULT_PAYLOAD, EchoTemplate, SynTemplate, UdpTemplate, prepare
from mininetes.probes.station import Key, Station, Stations
from mininetes.probes.vantage import Flow, Protocol

OVERLOAD = frozenset({errno.ENOBUFS, errno.EAGAIN, errno.ENOMEM})
"""What the kernel says when our own sending is the trouble: try again later."""


class NotSent(Exception):
    """The source's own kernel did not send a probe. Says what that means for the flow."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.overload = error.errno in OVERLOAD
        self.detail = _WORDS.get(error.errno or 0, f"the source's kernel: {error.strerror}")


_WORDS = {
    errno.EPERM: "the source's packet filter dropped it",
    errno.EACCES: "the source's routing prohibits it",
    errno.ENETUNREACH: "the source has no route",
    errno.EINVAL: "the source's routing drops it (blackhole)",
    errno.EMSGSIZE: "larger than the source's MTU",
    errno.ENOBUFS: "no room in the source's queue or the neighbour table",
}
_NOT_ABOUT_THE_FLOW = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOENT, errno.ENOTDIR})
_COOKIE = re.compile(rb'"cookie": ?"([0-9a-f]{8})"')


@dataclass(slots=True, eq=False)
class Probe:
    """One packet that was sent: which flow (by number) it belongs to, and when it left and is given up."""

    flow: int
    number: int
    station: Station
    outlet: Outlet
    key: Key
    cookie: int
    sent_ns: int
    due: float
    answered: bool = False
    aged: bool = False
    packet_number: int = 0
    slot: int = 0

    def rtt_us(self, received_ns: int) -> float:
        """Return the time from the send call to the kernel's stamp (or to now, when it gave none)."""
        return max((received_ns or time.time_ns()) - self.sent_ns, 0) / 1000


@dataclass
class Launcher:
    """Sends probes of one measurement and knows those that are still open, by the key of their answer."""

    stations: Stations
    payload_bytes: int = DEFAULT_PAYLOAD
    open: dict[tuple[Station, Key], Probe] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._addresses: dict[str, bytes] = {}
        self._echo: EchoTemplate | None = None
        self._udp: UdpTemplate | None = None
        self._syn: SynTemplate | None = None

    def prepare(self, flows: list[Flow]) -> None:
        """Have the templates ready that these flows need. Raises BadInput when the payload's size is wrong."""
        needed: set[Protocol] = {flow.protocol for flow in flows}
        prepare([(kind, 0 if kind == "tcp" else self.payload_bytes) for kind in sorted(needed)])
        if "icmp" in needed:
            self._echo = EchoTemplate(self.payload_bytes)
        if "udp" in needed:
            self._udp = UdpTemplate(self.payload_bytes)
        if "tcp" in needed:
            self._syn = SynTemplate()

    def launch(self, flow: Flow, index: int, number: int, slot: int, timeout_s: float) -> Probe:
        """Send a probe for ``flow`` from source port number ``slot``.

        Raises NotSent when the source's kernel refuses the packet, OSError when there is no such
        namespace or no more room for sockets.
        """
        station = self.stations.at(flow.source.netns)
        target = self._addresses.get(flow.target.address)
        if target is None:
            target = self._addresses[flow.target.address] = socket.inet_aton(flow.target.address)
        cookie = 0
        if self._echo is not None and flow.protocol == "icmp":
            sequence = station.next_sequence()
            key: Key = ("icmp", sequence)
            packet = self._echo.probe(target, station.identifier, sequence)
        else:
            cookie = station.next_cookie()
            ports = station.port(flow.protocol, slot), flow.port
            try:
                source = station.source_towards(flow.target.address)
            except OSError as error:
                raise _meaning(error) from None
            template = self._udp if flow.protocol == "udp" else self._syn
            assert template is not None, "prepare() was not called with this flow"
            packet = template.probe(source, target, ports, cookie)
            key = ("udp", slot, flow.target.address, flow.port) if flow.protocol == "udp" else ("tcp", cookie)
        try:
            outlet = station.outlet(flow.target.address)
            sent_ns = outlet.send(packet, flow.target.address)
        except OSError as error:
            raise _meaning(error) from None
        due = time.monotonic() + timeout_s
        probe = Probe(index, number, station, outlet, key, cookie, sent_ns, due, packet_number=outlet.packets_sent - 1)
        self.open[station, key] = probe
        return probe

    def give_up(self, probe: Probe) -> None:
        """Forget a probe: what comes back for it from now on is too late."""
        if self.open.get((probe.station, probe.key)) is probe:
            del self.open[probe.station, probe.key]


def _meaning(error: OSError) -> Exception:
    """Return NotSent when the error tells of the flow; the error itself when files or namespaces are the trouble."""
    return error if error.errno in _NOT_ABOUT_THE_FLOW else NotSent(error)


def returned_cookie(payload: bytes) -> int | None:
    """Return the cookie in a UDP answer of the built-in responder; None in anyone else's."""
    found = _COOKIE.search(payload)
    return int(found[1], 16) if found else None
