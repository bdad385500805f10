"""How the end of a long-lived connection finds that the other end is gone without a word."""

from __future__ import annotations

import socket

PATIENCE_S = 3600.0
"""How long a client may take to read what a stream said until its end: there are those that pause."""

# A peer that is silent and cannot be reached any more is given up after 15 s. One that is there but reads slowly is
# not: TCP_USER_TIMEOUT would end it too.
_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2),
)


def keep_alive(sock: socket.socket) -> None:
    """Have the kernel look after a TCP connection; of a socket that listens, connections inherit this."""
    for level, option, value in _OPTIONS:
        sock.setsockopt(level, option, value)
