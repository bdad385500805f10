"""The sockets of one namespace for the length of one measurement, and all of them together.

Probes leave through one raw socket (IPPROTO_RAW: it sends anything and receives nothing). What
comes back arrives at sockets that are made as they are needed:

- ICMP: a raw socket whose filter passes echo replies with this measurement's identifier;
- TCP: a raw socket whose filter passes SYN/ACK and RST to this measurement's sequence numbers. The
  source port is held by a bound socket, so that no one else's connection gets it; the kernel
  answers the SYN/ACK with a RST by itself, because no connection is there;
- UDP: the bound socket that holds the source port.

ICMP errors are taken from the error queues of these (IP_RECVERR), which the kernel has sorted and,
where there is NAT, translated back.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

from mininetes.kernel.netns import in_netns, socket_in
from mininetes.probes import sockopts
from mininetes.probes.outcomes import IcmpError, Seen
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
    """The sockets of the namespace at ``netns``. Made by `Stations`; closed with it."""

    def __init__(self, netns: str, stations: Stations, *, send_stamps: bool) -> None:
        self.netns = netns
        self.identifier = random.randrange(1, 1 << 16)
        self._tag = random.randrange(1 << 12)
        self._sequence = self._cookies = 0
        self._stations = stations
        self._sources: dict[str, bytes] = {}
        self._held: dict[tuple[Protocol, int], tuple[socket.socket, int]] = {}
        self._raw_in: dict[str, socket.socket] = {}
        with in_netns(netns):
            self._out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            try:
                self._router = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            except OSError:
                self._out.close()
                raise
        self._out.setblocking(False)
        self._out.setsockopt(socket.IPPROTO_IP, sockopts.IP_RECVERR, 1)  # else the kernel hides ENOBUFS
        self.packets_sent = 0
        self._stamp = sockopts.STAMP_SENT if send_stamps else 0
        self._number_from_zero()

    def _number_from_zero(self) -> None:
        """Make the kernel number the packets that it stamps from 0."""
        if self._stamp:
            self._out.setsockopt(socket.SOL_SOCKET, sockopts.SO_TIMESTAMPING, 0)
            self._ask_for_stamps()
        self.packets_sent = 0

    def _ask_for_stamps(self) -> None:
        options = sockopts.STAMP_SOFTWARE | sockopts.STAMP_WITH_NUMBER | sockopts.STAMP_WITHOUT_PACKET
        self._out.setsockopt(socket.SOL_SOCKET, sockopts.SO_TIMESTAMPING, self._stamp | options)

    def stamp_in_queue(self) -> None:
        """From now on have packets stamped as they enter the device's queue: for devices that do not stamp."""
        if self._stamp == sockopts.STAMP_SENT:
            self._stamp = sockopts.STAMP_SCHEDULED
            self._ask_for_stamps()

    def send(self, packet: bytes, address: str) -> int:
        """Send an IP packet; return when (ns since 1970). Raises OSError with what the kernel has against it."""
        where = (address, 0)
        sent_ns = time.time_ns()
        try:
            self._out.sendto(packet, where)
        except OSError:
            list(self.sent_stamps())
            self._number_from_zero()
            raise
        self.packets_sent += 1
        return sent_ns

    def sent_stamps(self) -> Iterator[tuple[int, int]]:
        """Yield what the kernel has stamped since the last call: (number of the packet, ns since 1970)."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(_MOST_AT_ONCE):
                _, control, _, _ = self._out.recvmsg(0, sockopts.CONTROL_ROOM, sockopts.MSG_ERRQUEUE)
                number = sockopts.stamped_packet_of(control)
                if number is not None:
                    yield number, sockopts.stamp_of(control)

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
        for sock in (self._out, self._router, *held, *self._raw_in.values()):
            sock.close()


class _Listener(NamedTuple):
    sock: socket.socket
    station: Station
    protocol: Protocol
    slot: int


class Stations:
    """The stations of one measurement, and one epoll for all their sockets. A context manager."""

    def __init__(self, stop_fd: int = -1, *, send_stamps: bool = False) -> None:
        self.stopped = False
        self._stop_fd = stop_fd
        self._send_stamps = send_stamps
        self._epoll = select.epoll()
        self._listeners: dict[int, _Listener] = {}
        self._stations: dict[str, Station] = {}
        if stop_fd >= 0:
            self._epoll.register(stop_fd, select.EPOLLIN)

    def at(self, netns: str) -> Station:
        """Return the station at that namespace, made at the first call. Raises OSError when it is gone."""
        station = self._stations.get(netns)
        if station is None:
            station = self._stations[netns] = Station(netns, self, send_stamps=self._send_stamps)
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
