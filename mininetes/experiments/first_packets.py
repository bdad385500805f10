"""How long the first packet of a connection takes through a node: one way, between the kernel's own stamps.

    pod "client" eth0 --+              +-- eth0 pod "server"
        stamp: sent     +--- node -----+       stamp: received
                         PREROUTING: the rules of services, walked once for a new connection

A datagram leaves for a service's address, is stamped by the client's device as it goes out, and by the kernel again
as it comes in at the endpoint. Nothing else is in between: no program is woken on the way, and there is no answer.
Each datagram is from a socket of its own, so that each is the first packet of a connection of its own. Just before it
goes one of a connection that is old, which no rules of services look at: it finds the CPU asleep, if it is.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

from mininetes.kernel.netns import in_netns, socket_in
from mininetes.probes import sockopts

PORT = 18080
"""Where the receiver listens in the pods: not the responder's, which would answer."""
_ROOM = 64
_number = struct.Struct("!Q")
_MOST_OPEN = 256


@dataclass(frozen=True)
class FirstPacket:
    """One datagram to ``target``: how long it took in µs (None: it did not arrive), and which pod got it."""

    target: str
    one_way_us: float | None
    received_by: str


class Receivers:
    """Sockets in pods' namespaces that stamp what arrives at `PORT`. A context manager.

    ``pods``: the path of each namespace, by name.
    """

    def __init__(self, pods: dict[str, str]) -> None:
        self._names: dict[int, str] = {}
        self._sockets: dict[int, socket.socket] = {}
        self._poll = select.poll()
        try:
            for name, netns in pods.items():
                sock = socket_in(netns, socket.AF_INET, socket.SOCK_DGRAM)
                self._sockets[sock.fileno()], self._names[sock.fileno()] = sock, name
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, sockopts.SO_TIMESTAMPNS, 1)
                sock.bind(("", PORT))
                self._poll.register(sock, select.POLLIN)
        except OSError:
            self.close()
            raise

    def wait_for(self, number: int, within_s: float) -> tuple[int, str]:
        """The stamp (ns since 1970) of that datagram and the pod that got it; (0, "") when it does not come."""
        end = time.monotonic() + within_s
        while (left_s := end - time.monotonic()) > 0:
            for fd, _ in self._poll.poll(left_s * 1000):
                with contextlib.suppress(BlockingIOError):
                    while True:
                        data, control, _, _ = self._sockets[fd].recvmsg(_ROOM, sockopts.CONTROL_ROOM)
                        if len(data) == _number.size and _number.unpack(data)[0] == number:
                            return sockopts.stamp_of(control), self._names[fd]
        return 0, ""

    def close(self) -> None:
        """Close the sockets. May be called twice."""
        for sock in self._sockets.values():
            sock.close()

    def __enter__(self) -> Receivers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def measure(
    client: str,
    receivers: Receivers,
    targets: Sequence[tuple[str, int]],
    *,
    interval_s: float,
    wake: tuple[str, int],
    timeout_s: float = 0.5,
) -> list[FirstPacket]:
    """Send one datagram to each target (address, port), one each ``interval_s``; one result each, in their order.

    ``client`` is the path of the sender's network namespace; ``wake`` the receiver to which the old connection goes.
    Blocks. Raises OSError when the namespace is gone.
    """
    with contextlib.closing(_senders(client, 1)[0]) as old:
        return _measure(client, old, receivers, targets, interval_s, wake, timeout_s)


def _measure(
    client: str,
    old: socket.socket,
    receivers: Receivers,
    targets: Sequence[tuple[str, int]],
    interval_s: float,
    wake: tuple[str, int],
    timeout_s: float,
) -> list[FirstPacket]:
    found = []
    due = time.monotonic()
    for start in range(0, len(targets), _MOST_OPEN):
        part = targets[start : start + _MOST_OPEN]
        with contextlib.ExitStack() as sockets:
            senders = [sockets.enter_context(each) for each in _senders(client, len(part))]
            for place, (sender, target) in enumerate(zip(senders, part, strict=True), start=start):
                time.sleep(max(due - time.monotonic(), 0.0))
                due = max(due, time.monotonic() - interval_s) + interval_s
                _one(old, receivers, wake, place, timeout_s)
                found.append(_one(sender, receivers, target, place, timeout_s))
    return found


def _senders(netns: str, count: int) -> list[socket.socket]:
    """Sockets whose datagrams the device stamps. Closed again when one cannot be had."""
    made: list[socket.socket] = []
    wanted = sockopts.STAMP_SENT | sockopts.STAMP_SOFTWARE | sockopts.STAMP_WITH_NUMBER | sockopts.STAMP_WITHOUT_PACKET
    try:
        with in_netns(netns):
            for _ in range(count):
                made.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                made[-1].setblocking(False)
                made[-1].setsockopt(socket.SOL_SOCKET, sockopts.SO_TIMESTAMPING, wanted)
    except OSError:
        for sock in made:
            sock.close()
        raise
    return made


def _one(
    sender: socket.socket, receivers: Receivers, target: tuple[str, int], number: int, timeout_s: float
) -> FirstPacket:
    token = number << 32 | (time.monotonic_ns() & 0xFFFFFFFF)  # what is late from an earlier round has another
    try:
        sender.sendto(_number.pack(token), target)
    except OSError:  # the node's own answer to the packet: no route, prohibited
        return FirstPacket(target[0], None, "")
    received_ns, pod = receivers.wait_for(token, timeout_s)
    sent_ns = _sent_stamp(sender)
    took_us = (received_ns - sent_ns) / 1000 if received_ns and sent_ns else None
    return FirstPacket(target[0], took_us, pod)


def _sent_stamp(sender: socket.socket) -> int:
    """The first stamp of the socket's only datagram, in ns since 1970; 0 when its device gave none."""
    with contextlib.suppress(BlockingIOError):
        while True:
            _, control, _, _ = sender.recvmsg(0, sockopts.CONTROL_ROOM, sockopts.MSG_ERRQUEUE)
            if sockopts.stamped_packet_of(control) is not None:
                return sockopts.stamp_of(control)
    return 0
