"""Socket options and control messages that Python's socket module has no names for (Linux's include/uapi)."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterable, Sequence

from mininetes.probes.outcomes import IcmpError

IP_RECVERR = 11
SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35
SO_TIMESTAMPING = 37
MSG_ERRQUEUE = 0x2000
SOL_RAW = 255
ICMP_FILTER = 1

STAMP_SENT = 1 << 1
STAMP_SOFTWARE = 1 << 4
STAMP_WITH_NUMBER = 1 << 7
STAMP_SCHEDULED = 1 << 8
STAMP_WITHOUT_PACKET = 1 << 11

_ORIGIN_ICMP = 2
_ORIGIN_STAMP = 4

Instruction = tuple[int, int, int, int]

_timespec = struct.Struct("@ll")
_extended_error = struct.Struct("@IBBBBII")
CONTROL_ROOM = 256
"""How much room recvmsg needs for control messages."""
ERROR_ROOM = 512
"""As much of a packet as the kernel returns with an ICMP error."""

_libc = ctypes.CDLL(None, use_errno=True)


def attach_filter(sock: socket.socket, program: Sequence[Instruction]) -> None:
    """Let the kernel pass to the socket only packets that this classic BPF program accepts."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("@HBBI", *one) for one in program))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(code)))


def accept_echo_replies(identifier: int) -> list[Instruction]:
    """Return a filter for raw ICMP sockets: echo replies with this identifier."""
    return [
        (0xB1, 0, 0, 0),  # X = length of the IP header
        (0x48, 0, 0, 0),  # A = type and code
        (0x15, 0, 3, 0),
        (0x48, 0, 0, 4),  # A = identifier
        (0x15, 0, 1, identifier),
        (0x06, 0, 0, 0xFFFF),
        (0x06, 0, 0, 0),
    ]


def accept_tcp_replies(tag: int) -> list[Instruction]:
    """Return a filter for raw TCP sockets: SYN/ACK or RST whose acknowledgement starts with this 12-bit tag."""
    return [
        (0xB1, 0, 0, 0),  # X = length of the IP header
        (0x50, 0, 0, 13),  # A = flags
        (0x45, 2, 0, 0x04),  # RST: on to the tag
        (0x54, 0, 0, 0x12),
        (0x15, 0, 4, 0x12),
        (0x40, 0, 0, 8),  # A = acknowledgement
        (0x74, 0, 0, 20),
        (0x15, 0, 1, tag),
        (0x06, 0, 0, 0xFFFF),
        (0x06, 0, 0, 0),
    ]


def stamp_of(control: Iterable[tuple[int, int, bytes]]) -> int:
    """Return the kernel's time stamp, in ns since 1970; 0 when there is none."""
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind in (SO_TIMESTAMPNS, SO_TIMESTAMPING):
            seconds, ns = _timespec.unpack_from(data)
            return int(seconds * 1_000_000_000 + ns)
    return 0


def icmp_error_of(control: Iterable[tuple[int, int, bytes]]) -> IcmpError | None:
    """Return the ICMP error that an error queue's message tells of; None when it tells of something else."""
    for level, kind, data in control:
        if level == socket.IPPROTO_IP and kind == IP_RECVERR:
            _, origin, icmp_type, code, _, _, _ = _extended_error.unpack_from(data)
            if origin != _ORIGIN_ICMP:
                return None
            offender = data[_extended_error.size + 4 : _extended_error.size + 8]
            return IcmpError(icmp_type, code, socket.inet_ntoa(offender) if len(offender) == 4 else "unknown")
    return None


def stamped_packet_of(control: Iterable[tuple[int, int, bytes]]) -> int | None:
    """Return the number of the sent packet that this error queue's message stamps; None for another message."""
    for level, kind, data in control:
        if level == socket.IPPROTO_IP and kind == IP_RECVERR:
            _, origin, _, _, _, _, number = _extended_error.unpack_from(data)
            return number if origin == _ORIGIN_STAMP else None
    return None


def disconnect(sock: socket.socket) -> None:
    """Undo a datagram socket's connect, so that the next one chooses the source address anew."""
    if _libc.connect(sock.fileno(), bytes(16), 16) != 0:
        raise OSError(ctypes.get_errno(), "connect(AF_UNSPEC)")
