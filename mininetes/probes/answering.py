"""What the responder says to one client: a datagram's answer, a line of text, or HTTP."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import time
from typing import TYPE_CHECKING

from mininetes.probes.packet_marks import COOKIE_LENGTH, MAGIC

if TYPE_CHECKING:
    import h11

IP_PKTINFO = 8
IDLE_S = 30.0
"""How long a client may say nothing."""
UNDECIDED_S = 1.0
"""How long a client that began like an HTTP method may take to go on."""
PARTING_S = 2.0
"""How long a client that was answered may take to close."""

_METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ")
_MOST_AT_ONCE = 16384
_MOST_A_TURN = 1 << 12
_OURS = b'{"pod":'
_packet_info = struct.Struct("@i4s4s")


class Service:
    """One port of one pod."""

    __slots__ = ("node", "pod", "port", "protocol", "sock")

    def __init__(self, pod: str, node: str, sock: socket.socket, protocol: str, port: int) -> None:
        self.pod = pod
        self.node = node
        self.sock = sock
        self.protocol = protocol
        self.port = port

    def line(self, client: tuple[str, int], cookie: str = "") -> bytes:
        """Return the line of JSON: who answers, where, and which client it saw."""
        said = {"pod": self.pod, "node": self.node, "client": f"{client[0]}:{client[1]}"}
        where = {"protocol": self.protocol.lower(), "port": self.port}
        return json.dumps({**said, **where, **({"cookie": cookie} if cookie else {})}).encode() + b"\n"


def answer_udp(service: Service) -> bool:
    """Answer one datagram from the address that it came to; False when there is none."""
    try:
        data, control, _, client = service.sock.recvmsg(_MOST_AT_ONCE, 64)
    except OSError:
        return False
    if data.startswith(_OURS):  # another responder's answer: two of them would go on forever
        return True
    cookie = ""
    if data.startswith(MAGIC):
        cookie = data[len(MAGIC) : len(MAGIC) + COOKIE_LENGTH].decode("ascii", "replace")
    reply_from = []
    for level, kind, info in control:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            _, local, _ = _packet_info.unpack(info)
            reply_from = [(level, kind, _packet_info.pack(0, local, bytes(4)))]
    with contextlib.suppress(OSError):  # as if it were lost on the way: UDP promises nothing
        service.sock.sendmsg([service.line(client, cookie)], reply_from, 0, client)
    return True


class Client:
    """One TCP client, from its first bytes to the end.

    ``due`` is the time of the monotonic clock at which it has been silent for too long. The client
    is read only when everything for it was sent, so what it can make us keep is bounded.
    """

    __slots__ = ("_first", "_head_only", "_http", "_line", "_more", "_parting", "_unsent", "due", "pod", "sock")

    def __init__(self, sock: socket.socket, service: Service, address: tuple[str, int]) -> None:
        self.sock = sock
        self.pod = service.pod
        self.due = time.monotonic() + IDLE_S
        self._line = service.line(address)
        self._first = b""
        self._http: h11.Connection | None = None
        self._head_only = False
        self._more = False
        self._unsent = b""
        self._parting = False
        sock.setblocking(False)

    @property
    def wants_to_write(self) -> bool:
        """Whether there is something that the client has not yet taken, or that is still to be answered."""
        return bool(self._unsent) or self._more

    def go_on(self, events: int) -> bool:
        """Read or write what is possible now; False when the connection is to be closed."""
        try:
            if events & select.EPOLLOUT:
                return self._flush() and self._go_on_http()
            data = self.sock.recv(_MOST_AT_ONCE)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return self._hear(data)

    def time_is_up(self) -> bool:
        """Do what is due when the client was silent; False when the connection is to be closed."""
        return bool(self._first) and self._http is None and not self._parting and self._say_line()

    def _hear(self, data: bytes) -> bool:
        if self._parting:  # it was answered, and is only to be read empty, or it would lose the answer to a RST
            return bool(data)
        if self._http is None:
            self._first += data
            head = self._first
            if data and any(method.startswith(head) for method in _METHODS) and head not in _METHODS:
                self.due = time.monotonic() + UNDECIDED_S
                return True
            if not head.startswith(_METHODS):
                return self._say_line()
            import h11  # noqa: PLC0415 - only who gets HTTP pays for it

            self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_AT_ONCE)
            data, self._first = head, b""
        self.due = time.monotonic() + IDLE_S
        try:
            self._http.receive_data(data)
        except RuntimeError:  # more after its end of file
            return False
        return self._go_on_http()

    def _say_line(self) -> bool:
        self._unsent += self._line
        return self._part() and self._flush()

    def _part(self) -> bool:
        """Say that nothing follows; the rest is to wait for the client's end."""
        self._parting = True
        self.due = time.monotonic() + PARTING_S
        return True

    def _go_on_http(self) -> bool:
        """Answer some of the requests that are there, when the client took the answers before: the rest next turn."""
        self._more = False
        if self._http is None or self._unsent or self._parting:
            return True
        if not self._answer_requests(self._http):
            return False
        self._more = len(self._unsent) >= _MOST_A_TURN
        return self._flush()

    def _answer_requests(self, http: h11.Connection) -> bool:
        """Answer until more is needed from the client, or enough is waiting to be sent."""
        import h11  # noqa: PLC0415

        try:
            while len(self._unsent) < _MOST_A_TURN and not self._parting:
                event = http.next_event()
                if isinstance(event, h11.Request):
                    self._head_only = event.method == b"HEAD"
                elif isinstance(event, h11.EndOfMessage):
                    self._answer_http(http, 200)
                elif isinstance(event, h11.ConnectionClosed):
                    self._part()
                elif event is h11.NEED_DATA or event is h11.PAUSED:
                    break
        except h11.ProtocolError as wrong:
            if http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
                return False
            self._answer_http(http, wrong.error_status_hint)
            self._part()
        return True

    def _answer_http(self, http: h11.Connection, status: int) -> None:
        """Answer one request."""
        import h11  # noqa: PLC0415

        headers = [("content-type", "application/json"), ("content-length", str(len(self._line)))]
        self._unsent += http.send(h11.Response(status_code=status, headers=headers)) or b""
        if not self._head_only:
            self._unsent += http.send(h11.Data(data=self._line)) or b""
        self._unsent += http.send(h11.EndOfMessage()) or b""
        if http.our_state is h11.MUST_CLOSE:
            self._part()
        elif http.our_state is h11.DONE and http.their_state is h11.DONE:
            http.start_next_cycle()

    def _flush(self) -> bool:
        """Send what the client takes; False when all is said and it has gone."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self.sock.send(self._unsent) :]
            if self._parting:
                self.sock.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True
