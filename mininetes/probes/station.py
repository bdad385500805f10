"""The sockets of one namespace for the length of one measurement, and all of them together.

Probes leave through an `Outlet`. What comes back arrives at sockets that are made as they are needed:

- ICMP: a raw socket whose filter passes echo replies with this measurement's identifier;
- TCP: a raw socket whose filter passes SYN/ACK and RST to this measurement's sequence numbers. The
  source port is held by a bound socket, so that no one else's connection gets it; the kernel
  answers the SYN/ACK with a RST by itself, because no connection is there;
- UDP: the bound socket that holds the source port.

ICMP errors are taken from the error queues of these (IP_RECVERR), which the kernel has sorted and,
where there is NAT, translated back.
"""

from __future__ import annotations

import random
import select
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from mininetes.kernel.netns import socket_in
from mininetes.kernel.processes import lift_file_limit
from mininetes.probes import sockopts
from mininetes.probes.outcomes import IcmpError, Seen
from mininetes.probes.outlet import Outlet, TimedOutlet
from mininetes.probes.vantage import Protocol

Key = tuple[str, int] | tuple[str, int, str, int]
"""How an answer finds its probe: ("icmp", sequence), ("tcp", cookie) or ("udp", slot, address, port)."""

_MOST_AT_ONCE = 512
_RECEIVE_BUFFER = 1 << 20
_COOKIE_BITS = 20
_ROOM = 2048
_RST = 0x04

_word = struct.Struct("!H")
_long = struct.Struct("!L")


class Heard(NamedTuple):
    """One thing that came back."""

    key: Key
    seen: Seen
    received_ns: int
    sender: str
    icmp: IcmpError | None
    payload: bytes


class Station:
    """The sockets of the namespace at ``netns``. Made by `Stations`; closed with it.

    ``timed``: each target has an outlet of its own, which stamps what leaves.
    """

    def __init__(self, netns: str, stations: Stations, *, timed: bool) -> None:
        self.netns = netns
        self.identifier = random.randrange(1, 1 << 16)
        self._tag = random.randrange(1 << 12)
        self._sequence = self._cookies = 0
        self._stations = stations
        self._sources: dict[str, bytes] = {}
        self._held: dict[tuple[Protocol, int], tuple[socket.socket, int]] = {}
        self._raw_in: dict[str, socket.socket] = {}
        self._router = socket_in(netns, socket.AF_INET, socket.SOCK_DGRAM)
        self._outlets: dict[str, Outlet] = {}
        self._timed = timed

    def outlet(self, address: str) -> Outlet:
        """Return what probes to ``address`` leave through. Raises OSError when there is no way to have it."""
        which = address if self._timed else ""
        outlet = self._outlets.get(which)
        if outlet is None:
            outlet = self._outlets[which] = TimedOutlet(self.netns, address) if self._timed else Outlet(self.netns)
        return outlet

    def source_towards(self, address: str) -> bytes:
        """Return the source address that this namespace's routing has for ``address``. Raises OSError: no route."""
        known = self._sources.get(address)
        if known is None:
            try:
                self._router.connect((address, 9))
                known = self._sources[address] = socket.inet_aton(self._router.getsockname()[0])
            finally:
                sockopts.disconnect(self._router)
        return known

    def next_sequence(self) -> int:
        """Return a sequence number for an echo request, and listen for the answers."""
        self._listen_raw("icmp")
        self._sequence = (self._sequence + 1) & 0xFFFF
        return self._sequence

    def next_cookie(self) -> int:
        """Return a cookie for a UDP or TCP probe. Its upper bits are this station's tag."""
        self._cookies = (self._cookies + 1) % ((1 << _COOKIE_BITS) - 1)
        return self._tag << _COOKIE_BITS | self._cookies

    def port(self, protocol: Protocol, slot: int) -> int:
        """Return source port number ``slot``, held by a socket of ours, and listen for the answers."""
        held = self._held.get((protocol, slot))
        if held is not None:
            return held[1]
        sock = socket_in(self.netns, socket.AF_INET, socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM)
        try:
            sock.bind(("", 0))
        except OSError:
            sock.close()
            raise
        port = int(sock.getsockname()[1])
        self._held[protocol, slot] = (sock, port)
        if protocol == "udp":
            self._prepare(sock)
            self._stations.listen(sock, self, protocol, slot)
        else:
            self._listen_raw("tcp")
        return port

    def _listen_raw(self, protocol: Protocol) -> None:
        if protocol in self._raw_in:
            return
        number = socket.IPPROTO_ICMP if protocol == "icmp" else socket.IPPROTO_TCP
        self._raw_in[protocol] = sock = socket_in(self.netns, socket.AF_INET, socket.SOCK_RAW, number)
        accepted = sockopts.accept_tcp_replies(self._tag)
        if protocol == "icmp":
            accepted = sockopts.accept_echo_replies(self.identifier)
            only_echo_replies = struct.pack("@I", ~1 & 0xFFFFFFFF)
            sock.setsockopt(sockopts.SOL_RAW, sockopts.ICMP_FILTER, only_echo_replies)
        sockopts.attach_filter(sock, accepted)
        self._prepare(sock)
        self._stations.listen(sock, self, protocol, 0)

    @staticmethod
    def _prepare(sock: socket.socket) -> None:
        """Ask for receive stamps and errors, and for room enough for a burst."""
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IP, sockopts.IP_RECVERR, 1)
        sock.setsockopt(socket.SOL_SOCKET, sockopts.SO_TIMESTAMPNS, 1)
        try:
            sock.setsockopt(socket.SOL_SOCKET, sockopts.SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        except PermissionError:  # in a user namespace: as much as the host allows everyone
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)

    def close(self) -> None:
        """Close every socket. May be called twice."""
        held = [sock for sock, _ in self._held.values()]
        for sock in (self._router, *held, *self._raw_in.values()):
            sock.close()
        for outlet in self._outlets.values():
            outlet.close()


class _Listener(NamedTuple):
    sock: socket.socket
    station: Station
    protocol: Protocol
    slot: int


class Stations:
    """The stations of one measurement, and one epoll for all their sockets. A context manager."""

    def __init__(self, stop_fd: int = -1, *, timed: bool = False) -> None:
        lift_file_limit()  # a station has three or more, and there may be thousands
        self.stopped = False
        self._stop_fd = stop_fd
        self._timed = timed
        self._epoll = select.epoll()
        self._listeners: dict[int, _Listener] = {}
        self._stations: dict[str, Station] = {}
        if stop_fd >= 0:
            self._epoll.register(stop_fd, select.EPOLLIN)

    def at(self, netns: str) -> Station:
        """Return the station at that namespace, made at the first call. Raises OSError when it is gone."""
        station = self._stations.get(netns)
        if station is None:
            station = self._stations[netns] = Station(netns, self, timed=self._timed)
        return station

    def listen(self, sock: socket.socket, station: Station, protocol: Protocol, slot: int) -> None:
        """Have `hear` look at the socket."""
        self._listeners[sock.fileno()] = _Listener(sock, station, protocol, slot)
        self._epoll.register(sock, select.EPOLLIN)

    def wake_on(self, fd: int) -> None:
        """Have `hear` return when ``fd`` is readable; its owner reads it."""
        self._epoll.register(fd, select.EPOLLIN)

    def hear(self, timeout_s: float) -> Iterator[tuple[Station, Heard]]:
        """Wait until something comes back, at most ``timeout_s``, and yield it. Sets ``stopped`` when told to stop."""
        for fd, events in self._epoll.poll(timeout_s, 64):
            listener = self._listeners.get(fd)
            if listener is None:
                self.stopped = self.stopped or fd == self._stop_fd
                continue
            for heard in _answers(listener):
                yield listener.station, heard
            if events & select.EPOLLERR:
                for heard in _errors(listener):
                    yield listener.station, heard

    def close(self) -> None:
        """Close every station. May be called twice."""
        self._epoll.close()
        for station in self._stations.values():
            station.close()

    def __enter__(self) -> Stations:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _answers(listener: _Listener) -> Iterator[Heard]:
    """Read a socket empty, or as far as one turn allows."""
    receive, room = listener.sock.recvmsg, sockopts.CONTROL_ROOM
    for _ in range(_MOST_AT_ONCE):
        try:
            data, control, _, (sender, port) = receive(_ROOM, room)
        except BlockingIOError:
            return
        except OSError:
            continue  # the error of an earlier probe, which lies in the error queue with all that is to be known
        stamp = sockopts.stamp_of(control)
        if listener.protocol == "udp":
            yield Heard(("udp", listener.slot, sender, port), Seen.ANSWERED, stamp, sender, None, data)
            continue
        start = (data[0] & 0x0F) * 4
        if listener.protocol == "icmp":
            key = ("icmp", _word.unpack_from(data, start + 6)[0])
            yield Heard(key, Seen.ANSWERED, stamp, sender, None, b"")
        else:
            seen = Seen.REFUSED if data[start + 13] & _RST else Seen.ANSWERED
            cookie = (_long.unpack_from(data, start + 8)[0] - 1) & 0xFFFFFFFF
            yield Heard(("tcp", cookie), seen, stamp, sender, None, b"")


def _errors(listener: _Listener) -> Iterator[Heard]:
    """Read a socket's error queue empty, or as far as one turn allows."""
    for _ in range(_MOST_AT_ONCE):
        try:
            data, control, _, (address, port) = listener.sock.recvmsg(
                sockopts.ERROR_ROOM, sockopts.CONTROL_ROOM, sockopts.MSG_ERRQUEUE
            )
        except BlockingIOError:
            return
        icmp = sockopts.icmp_error_of(control)
        if icmp is None:
            continue
        key = _key_of_returned(listener, data, address, port)
        if key is not None:
            yield Heard(key, icmp.seen, sockopts.stamp_of(control), icmp.sender, icmp, b"")


def _key_of_returned(listener: _Listener, data: bytes, address: str, port: int) -> Key | None:
    """Return the key of the probe that an ICMP error returned the head of; None when it was not ours."""
    if listener.protocol == "udp":
        return ("udp", listener.slot, address, port)
    if len(data) < 8:
        return None
    if listener.protocol == "icmp":
        identifier, sequence = struct.unpack_from("!HH", data, 4)
        return ("icmp", sequence) if identifier == listener.station.identifier else None
    return ("tcp", _long.unpack_from(data, 4)[0])
