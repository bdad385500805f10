"""The built-in responder: says, at the ports of any number of pods, who answered and which client it saw.

``python -m mininetes.probes.responder --control FD`` is one process with one epoll for all pods; a pod
costs its listening sockets. It imports little, so that it starts at once, and ends when its control
socket is closed, so that it never outlives the engine.

A UDP datagram is answered with one line of JSON (and the cookie of a probe). A TCP client gets the line
when it has sent its first bytes or its end of file, and then the connection is closed; one whose first
bytes are an HTTP method gets HTTP/1.1 with the same JSON, and may keep the connection.

Control: JSON messages on a UNIX seqpacket socket, each answered by ``{"id": ..., "ok": true}`` or
``{"id": ..., "ok": false, "error": ...}``, in order:
``{"id", "op": "serve", "netns", "pod", "node", "ports": [{"port", "protocol"}]}`` (again for the same pod:
in place of what was), ``{"id", "op": "stop", "pod"}``.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import resource
import select
import socket
import time
from typing import Any

from mininetes.kernel.netns import in_netns
from mininetes.probes.answering import IP_PKTINFO, Client, Service, answer_udp

_BACKLOG = 128
_CHECK_S = 0.5
_OTHER_FILES = 32
_MOST_CLIENTS = 4096
_MOST_A_POD = 256
_AT_ONCE = 64
_LONGEST_MESSAGE = 1 << 16


class Refused(Exception):
    """A control message that cannot be done; the text says what failed."""


class Server:
    """All pods' sockets, their clients, and the control socket."""

    def __init__(self, control: socket.socket, most_files: int) -> None:
        self._control = control
        self._most_clients = min(_MOST_CLIENTS, most_files // 4)
        self._most_services = most_files - self._most_clients - _OTHER_FILES
        self._next_check = 0.0
        self._epoll = select.epoll()
        self._services: dict[int, Service] = {}
        self._pods: dict[str, list[Service]] = {}
        self._clients: dict[int, Client] = {}
        self._clients_of: dict[str, int] = {}
        self._epoll.register(control, select.EPOLLIN)

    def run(self) -> None:
        """Serve until the control socket is closed by the other side."""
        while True:
            patience = _CHECK_S if self._clients else -1.0
            for fd, events in self._epoll.poll(patience, 256):
                if fd == self._control.fileno():
                    if not self._obey():
                        return
                elif fd in self._clients:
                    self._serve(self._clients[fd], events)
                elif fd in self._services:
                    self._greet(self._services[fd])
            self._check_silent(time.monotonic())

    def _obey(self) -> bool:
        """Do one control message; False at the end of file."""
        try:
            message = self._control.recv(_LONGEST_MESSAGE)
        except ConnectionError:
            return False
        if not message:
            return False
        number: object = None
        try:
            wanted = json.loads(message)
            number = wanted["id"]
            self._do(wanted)
            reply: dict[str, object] = {"id": number, "ok": True}
        except Refused as refused:
            reply = {"id": number, "ok": False, "error": str(refused)}
        except (ValueError, KeyError, TypeError, AttributeError) as wrong:
            reply = {"id": number, "ok": False, "error": f"not a control message: {type(wrong).__name__}: {wrong}"}
        with contextlib.suppress(ConnectionError):  # the engine has gone; the next recv says so
            self._control.send(json.dumps(reply).encode())
        return True

    def _do(self, wanted: dict[str, Any]) -> None:
        if wanted["op"] == "serve":
            for pod in wanted["pods"]:
                ports = [(int(port), str(protocol).upper()) for port, protocol in pod["ports"]]
                self._start(pod["netns"], pod["pod"], pod["node"], ports)
        elif wanted["op"] == "stop":
            self._stop(wanted["pod"])
        else:
            raise Refused(f"op: {wanted['op']!r} is not valid: serve or stop")

    def _start(self, netns: str, pod: str, node: str, ports: list[tuple[int, str]]) -> None:
        """Open all ports of a pod, or none."""
        self._stop(pod)
        if len(self._services) + len(ports) > self._most_services:
            raise Refused(f"pod {pod}: more ports than the open-files limit allows ({self._most_services} in all)")
        services: list[Service] = []
        port, protocol = 0, ""
        try:
            with in_netns(netns):
                for port, protocol in ports:
                    services.append(Service(pod, node, _open(protocol, port), protocol, port))
        except (OSError, OverflowError) as error:
            for service in services:
                service.sock.close()
            what = f"port {port}/{protocol}" if port else f"network namespace {netns}"
            raise Refused(f"pod {pod}: {what}: {getattr(error, 'strerror', None) or error}") from None
        self._pods[pod] = services
        for service in services:
            self._services[service.sock.fileno()] = service
            self._epoll.register(service.sock, select.EPOLLIN)

    def _stop(self, pod: str) -> None:
        """Close a pod's ports and clients. Does nothing when there are none."""
        for service in self._pods.pop(pod, []):
            del self._services[service.sock.fileno()]
            service.sock.close()
        for client in [one for one in self._clients.values() if one.pod == pod] if pod in self._clients_of else []:
            self._close(client)

    def _greet(self, service: Service) -> None:
        """Answer datagrams, or take new clients, as far as one turn allows."""
        for _ in range(_AT_ONCE):
            if service.protocol == "UDP":
                if not answer_udp(service):
                    return
                continue
            try:
                sock, address = service.sock.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._make_room()
                return
            if self._clients_of.get(service.pod, 0) >= _MOST_A_POD:
                self._make_room(service.pod)
            elif len(self._clients) >= self._most_clients:
                self._make_room()
            client = Client(sock, service, address)
            self._clients[sock.fileno()] = client
            self._clients_of[service.pod] = self._clients_of.get(service.pod, 0) + 1
            self._epoll.register(sock, select.EPOLLIN)

    def _make_room(self, pod: str | None = None) -> None:
        """Close the oldest client (of a pod)."""
        oldest = next((one for one in self._clients.values() if pod in (None, one.pod)), None)
        if oldest is not None:
            self._close(oldest)

    def _serve(self, client: Client, events: int) -> None:
        """Let a client go on (0: its time is up); close it when it is done."""
        before = client.wants_to_write
        if not (client.go_on(events) if events else client.time_is_up()):
            self._close(client)
        elif client.wants_to_write != before:
            # not both: who does not read its answers is not read from
            self._epoll.modify(client.sock, select.EPOLLOUT if client.wants_to_write else select.EPOLLIN)

    def _close(self, client: Client) -> None:
        del self._clients[client.sock.fileno()]
        self._clients_of[client.pod] -= 1
        if not self._clients_of[client.pod]:
            del self._clients_of[client.pod]
        client.sock.close()

    def _check_silent(self, now: float) -> None:
        """Look after clients that were silent for too long."""
        if now < self._next_check:
            return
        self._next_check = now + _CHECK_S
        for client in [one for one in self._clients.values() if one.due <= now]:
            self._serve(client, 0)


def _open(protocol: str, port: int) -> socket.socket:
    """Open a port in the present namespace. Raises OSError, OverflowError, or Refused for a wrong protocol."""
    if protocol not in ("TCP", "UDP", "HTTP"):
        raise Refused(f"protocol: {protocol!r} is not valid: TCP, UDP or HTTP")
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if protocol == "UDP" else socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if protocol == "UDP":
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            sock.bind(("", port))
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("", port))
            sock.listen(_BACKLOG)
    except (OSError, OverflowError):
        sock.close()
        raise
    return sock


def main() -> None:
    """Serve on the control socket whose descriptor is given."""
    parser = argparse.ArgumentParser(prog="python -m mininetes.probes.responder")
    parser.add_argument("--control", type=int, required=True, metavar="FD", help="a UNIX seqpacket socket")
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.set_inheritable(arguments.control, False)
    with socket.socket(fileno=arguments.control) as control:
        Server(control, hard).run()


if __name__ == "__main__":
    main()
