"""Real TCP connections: who answers at an address and port, and which client address it saw."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from mininetes.errors import BadInput
from mininetes.kernel.netns import socket_in
from mininetes.probes.outcomes import Answer, Outcome, Seen
from mininetes.probes.vantage import Flow

_QUESTION = b"mn8s\n"
_LONGEST_LINE = 4096
_IN_PROGRESS = (0, errno.EINPROGRESS)


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """How connections are tried: each once, ``timeout_s`` for the connection and the answer together.

    At most ``at_once`` are open at a time. Raises BadInput for what cannot be.
    """

    timeout_s: float = 1.0
    at_once: int = 64

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s <= 60:
            raise BadInput("timeout_s", self.timeout_s, "more than 0 and at most 60 seconds")
        if not 1 <= self.at_once <= 1024:
            raise BadInput("at_once", self.at_once, "1 to 1024")


@dataclass(slots=True, eq=False)
class _Connection:
    index: int
    sock: socket.socket
    began: float
    due: float
    rtt_us: float | None = None
    line: bytes = b""


def connect(flows: Sequence[Flow], options: ConnectOptions | None = None, *, stop_fd: int = -1) -> list[Outcome]:
    """Open a TCP connection along every flow, say a line, read the answer's; one outcome each, in order.

    ``rtt_us`` is the time until the connection stood, by the process's clock: it is for orientation,
    not for comparison with stamps. Blocks; ends early when ``stop_fd`` becomes readable. Raises
    BadInput for a flow that is not TCP, OSError when a source's namespace is gone.
    """
    for flow in flows:
        if flow.protocol != "tcp":
            raise BadInput("protocol", flow.protocol, "tcp, for a connection")
    with contextlib.closing(_Connecting(list(flows), options or ConnectOptions(), stop_fd)) as work:
        return work.run()


class _Connecting:
    """The state of one round of connections."""

    def __init__(self, flows: list[Flow], options: ConnectOptions, stop_fd: int) -> None:
        self._flows = flows
        self._options = options
        self._stop_fd = stop_fd
        self._epoll = select.epoll()
        self._open: dict[int, _Connection] = {}
        self._by_age: deque[_Connection] = deque()
        self._outcomes: dict[int, Outcome] = {}
        if stop_fd >= 0:
            self._epoll.register(stop_fd, select.EPOLLIN)

    def run(self) -> list[Outcome]:
        """Keep as many connections open as allowed until every flow has its outcome."""
        following = 0
        while len(self._outcomes) < len(self._flows):
            while following < len(self._flows) and len(self._open) < self._options.at_once:
                self._begin(following)
                following += 1
            if not self._open:
                continue
            for fd, events in self._epoll.poll(max(self._by_age[0].due - time.monotonic(), 0)):
                if fd == self._stop_fd:
                    return [self._outcomes.get(i) or self._lost(i, "not asked") for i in range(len(self._flows))]
                if fd in self._open:
                    self._serve(self._open[fd], events)
            self._give_up(time.monotonic())
        return [self._outcomes[index] for index in range(len(self._flows))]

    def _begin(self, index: int) -> None:
        flow, began = self._flows[index], time.monotonic()
        sock = socket_in(flow.source.netns, socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        connection = _Connection(index, sock, began, began + self._options.timeout_s)
        self._open[sock.fileno()] = connection
        self._by_age.append(connection)
        self._epoll.register(sock, select.EPOLLOUT)
        error = sock.connect_ex((flow.target.address, flow.port))
        if error not in _IN_PROGRESS:
            self._end(connection, _meaning(flow, error))

    def _serve(self, connection: _Connection, events: int) -> None:
        """Go one step on: ask once it stands, then read until there is a line or no more."""
        flow, sock = self._flows[connection.index], connection.sock
        try:
            if connection.rtt_us is None:
                error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error:
                    self._end(connection, _meaning(flow, error))
                    return
                connection.rtt_us = (time.monotonic() - connection.began) * 1e6
                self._epoll.modify(sock, select.EPOLLIN)
                sock.send(_QUESTION)
                return
            data = sock.recv(_LONGEST_LINE)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # it stood and was reset: answered, without a line
        connection.line += data
        if not data or b"\n" in connection.line or len(connection.line) >= _LONGEST_LINE:
            self._end(connection, self._answered(connection))

    def _answered(self, connection: _Connection) -> Outcome:
        flow, answer = self._flows[connection.index], Answer.parse(connection.line)
        detail = "" if answer else "connected, and no responder's line came"
        return Outcome(flow, Seen.ANSWERED, 1, 1, connection.rtt_us, answer, detail=detail)

    def _lost(self, index: int, detail: str = "") -> Outcome:
        return Outcome(self._flows[index], Seen.NO_ANSWER, 1, 0, detail=detail)

    def _give_up(self, now: float) -> None:
        while self._by_age and (self._by_age[0].index in self._outcomes or self._by_age[0].due <= now):
            late = self._by_age.popleft()
            if late.index not in self._outcomes:
                self._end(late, self._lost(late.index) if late.rtt_us is None else self._answered(late))

    def _end(self, connection: _Connection, outcome: Outcome) -> None:
        self._outcomes[connection.index] = outcome
        del self._open[connection.sock.fileno()]
        connection.sock.close()

    def close(self) -> None:
        """Close everything that is still open."""
        for connection in self._open.values():
            connection.sock.close()
        self._epoll.close()


def _meaning(flow: Flow, error: int) -> Outcome:
    """Return the outcome of a connection that failed with this errno."""
    if error == errno.ETIMEDOUT:
        return Outcome(flow, Seen.NO_ANSWER, 1, 0)
    if error == errno.ECONNREFUSED:
        return Outcome(flow, Seen.REFUSED, 1, 1)
    return Outcome(flow, Seen.UNREACHABLE, 1, 0, detail=os.strerror(error))
