"""What probes leave through: a raw socket that sends whole IP packets (IPPROTO_RAW) and receives nothing."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

from mininetes.kernel.netns import socket_in
from mininetes.probes import sockopts

_MOST_AT_ONCE = 512


class Outlet:
    """A raw socket in the namespace at ``netns``, for all targets. Raises OSError when it cannot be had."""

    def __init__(self, netns: str) -> None:
        self._sock = socket_in(netns, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._sock.setblocking(False)
        self._sock.setsockopt(socket.IPPROTO_IP, sockopts.IP_RECVERR, 1)  # else the kernel hides ENOBUFS
        self.packets_sent = 0

    def send(self, packet: bytes, address: str) -> int:
        """Send an IP packet; return when (ns since 1970). Raises OSError with what the kernel has against it."""
        where = (address, 0)
        sent_ns = time.time_ns()
        self._sock.sendto(packet, where)
        self.packets_sent += 1
        return sent_ns

    def sent_stamps(self) -> Iterator[tuple[int, int]]:
        """Yield what the kernel has stamped since the last call: (number of the packet, ns since 1970)."""
        yield from ()

    def stamp_in_queue(self) -> None:
        """From now on have packets stamped as they enter the device's queue: for devices that do not stamp."""

    def close(self) -> None:
        """Close the socket. May be called twice."""
        self._sock.close()


class TimedOutlet(Outlet):
    """An outlet to one target, whose packets the kernel stamps.

    Connected, so that as little as possible is left to do between the clock and the kernel.
    """

    def __init__(self, netns: str, address: str) -> None:
        super().__init__(netns)
        self._stamp = sockopts.STAMP_SENT
        try:
            self._sock.connect((address, 0))
            self._number_from_zero()
        except OSError:
            self._sock.close()
            raise

    def send(self, packet: bytes, address: str) -> int:
        """Send an IP packet to this outlet's own target, as `Outlet.send` does."""
        send = self._sock.send
        sent_ns = time.time_ns()
        try:
            send(packet)
        except OSError:
            list(self.sent_stamps())
            self._number_from_zero()
            raise
        self.packets_sent += 1
        return sent_ns

    def _number_from_zero(self) -> None:
        """Make the kernel number the packets that it stamps from 0."""
        self._sock.setsockopt(socket.SOL_SOCKET, sockopts.SO_TIMESTAMPING, 0)
        self._ask_for_stamps()
        self.packets_sent = 0

    def _ask_for_stamps(self) -> None:
        options = sockopts.STAMP_SOFTWARE | sockopts.STAMP_WITH_NUMBER | sockopts.STAMP_WITHOUT_PACKET
        self._sock.setsockopt(socket.SOL_SOCKET, sockopts.SO_TIMESTAMPING, self._stamp | options)

    def sent_stamps(self) -> Iterator[tuple[int, int]]:
        """Yield as `Outlet.sent_stamps`."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(_MOST_AT_ONCE):
                _, control, _, _ = self._sock.recvmsg(0, sockopts.CONTROL_ROOM, sockopts.MSG_ERRQUEUE)
                number = sockopts.stamped_packet_of(control)
                if number is not None:
                    yield number, sockopts.stamp_of(control)

    def stamp_in_queue(self) -> None:
        """Do as `Outlet.stamp_in_queue` says. May be called twice."""
        if self._stamp != sockopts.STAMP_SCHEDULED:
            self._stamp = sockopts.STAMP_SCHEDULED
            self._ask_for_stamps()
