"""The process of mode userspace: accepts connections in the node, dials an endpoint from there, and copies.

TCP: an endpoint that does not accept in time is passed over, after 250 ms, 500 ms, 1 s, 2 s. UDP: a
socket to the endpoint for each client, given up when nothing passes for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable
from typing import Any, cast

from mininetes.agents.klog import AgentLog
from mininetes.agents.kubeproxy.balancing import RoundRobin
from mininetes.agents.kubeproxy.rulesets import Listener
from mininetes.agents.kubeproxy.services import Endpoint
from mininetes.deadline import within
from mininetes.kernel.netns import in_netns, socket_in

DIAL_TIMEOUTS_S = (0.25, 0.5, 1.0, 2.0)
_CHUNK = 1 << 16
Key = tuple[str, str]
"""A service port: name and protocol."""


def _bound(netns: str, kind: int, ports: range) -> socket.socket:
    """A socket of the node that is bound to a free port (of ``ports``, where they are given). Raises OSError."""
    with in_netns(netns):
        sock = socket.socket(socket.AF_INET, kind)
        try:
            for port in ports or (0,):
                try:
                    sock.bind(("0.0.0.0", port))  # noqa: S104 - the node's own
                    break
                except OSError:
                    if port == (ports or (0,))[-1]:
                        raise
            if kind == socket.SOCK_STREAM:
                sock.listen(256)
            sock.setblocking(False)
        except OSError:
            sock.close()
            raise
    return sock


class UserspaceProxy:
    """Listens for service ports in the node at ``netns``. Used in one event loop.

    ``ports`` are those it may listen on (empty: any); ``udp_idle_s`` is how long a UDP client may be silent.
    """

    def __init__(self, netns: str, log: AgentLog, *, ports: range = range(0), udp_idle_s: float = 0.25) -> None:
        self.netns, self.log = netns, log
        self._ports, self._udp_idle_s = ports, udp_idle_s
        self._open: dict[Key, _TcpPort | _UdpPort] = {}

    async def open(self, keys: Iterable[Key]) -> dict[Key, int]:
        """Listen for these service ports, those that are new besides those that are there; returns all port numbers.

        A port that cannot be opened is logged and left out.
        """
        for key in keys:
            if key in self._open:
                continue
            made = _UdpPort(self, key, self._udp_idle_s) if key[1] == "udp" else _TcpPort(self, key)
            try:
                await made.start(self._ports)
            except OSError as failed:
                self.log.error("Failed to start proxy", portName=key[0], err=failed)
            else:
                self._open[key] = made
                self.log.info("Opened local port", v=1, portName=key[0], protocol=key[1], port=made.port)
        return {key: port.port for key, port in self._open.items()}

    def set_listeners(self, listeners: Iterable[Listener]) -> None:
        """Take over endpoints; ports that are in no listener are closed, their connections go on."""
        wanted = {(each.name, each.protocol): each for each in listeners}
        for key, listener in wanted.items():
            if key in self._open:
                self._open[key].balancer.set_endpoints(listener.endpoints, listener.affinity_s)
        for key in [key for key in self._open if key not in wanted]:
            self._open.pop(key).close()

    def stop(self) -> None:
        """Close all ports and end all connections. May be called twice."""
        while self._open:
            _, port = self._open.popitem()
            port.end()


class _TcpPort:
    """One TCP port of the process."""

    def __init__(self, proxy: UserspaceProxy, key: Key) -> None:
        self._proxy, self._key = proxy, key
        self.balancer = RoundRobin()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, ports: range) -> None:
        sock = _bound(self._proxy.netns, socket.SOCK_STREAM, ports)
        self.port = sock.getsockname()[1]
        self._server = await asyncio.start_server(self._accepted, sock=sock)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            client = writer.get_extra_info("peername")[0]
            there = await self._dial(client)
            if there is not None:
                await _copy(reader, writer, *there)
        except asyncio.CancelledError:
            pass  # the proxy ends: its connections with it
        finally:
            self._connections.discard(task)
            writer.close()

    async def _dial(self, client: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """Connect to an endpoint, passing over those that do not answer; None when none does."""
        for attempt, timeout_s in enumerate(DIAL_TIMEOUTS_S):
            endpoint = self.balancer.choose(client, anew=attempt > 0)
            if endpoint is None:
                self._proxy.log.error("Failed to load balance", portName=self._key[0], err="missing endpoints")
                return None
            try:
                async with within(timeout_s):
                    return await self._connected(endpoint)
            except (OSError, asyncio.TimeoutError) as failed:
                self._proxy.log.error("Dial failed", endpoint=endpoint, err=failed or "timeout")
        self._proxy.log.error("Failed to connect to balancer", portName=self._key[0], err="gave up")
        return None

    async def _connected(self, endpoint: Endpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        sock = socket_in(self._proxy.netns, socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (endpoint.address, endpoint.port))
            return await asyncio.open_connection(sock=sock)
        except BaseException:
            sock.close()
            raise

    def close(self) -> None:
        """Accept no more."""
        if self._server is not None:
            self._server.close()

    def end(self) -> None:
        """Accept no more, and end what goes on."""
        self.close()
        for task in self._connections:
            task.cancel()


async def _copy(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    their_reader: asyncio.StreamReader,
    their_writer: asyncio.StreamWriter,
) -> None:
    """Copy both ways until both sides have ended; one that ends is told to the other."""

    async def one_way(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK):
                target.write(data)
                await target.drain()
            if target.can_write_eof():
                target.write_eof()

    ways = [asyncio.ensure_future(one_way(reader, their_writer)), asyncio.ensure_future(one_way(their_reader, writer))]
    try:
        await asyncio.gather(*ways)
    finally:
        for way in ways:
            way.cancel()
        their_writer.close()


class _UdpPort(asyncio.DatagramProtocol):
    """One UDP port of the process."""

    def __init__(self, proxy: UserspaceProxy, key: Key, idle_s: float) -> None:
        self._proxy, self._key, self._idle_s = proxy, key, idle_s
        self.balancer = RoundRobin()
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None
        self._clients: dict[Any, _UdpClient] = {}

    async def start(self, ports: range) -> None:
        sock = _bound(self._proxy.netns, socket.SOCK_DGRAM, ports)
        self.port = sock.getsockname()[1]
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, sock=sock)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        client = self._clients.get(addr)
        if client is None:
            endpoint = self.balancer.choose(addr[0])
            if endpoint is None:
                return
            try:
                client = self._clients[addr] = _UdpClient(self, addr, endpoint)
            except OSError as failed:
                self._proxy.log.error("Connect failed", endpoint=endpoint, err=failed)
                return
        client.send(data)

    def answer(self, data: bytes, addr: Any) -> None:
        """Send what an endpoint said to the client that it is for."""
        if self._transport is not None:
            self._transport.sendto(data, addr)

    def forget(self, addr: Any) -> None:
        """The client has been silent for too long."""
        self._clients.pop(addr, None)

    def endpoint_socket(self, endpoint: Endpoint) -> socket.socket:
        """A socket of the node to that endpoint. Raises OSError."""
        sock = socket_in(self._proxy.netns, socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.connect((endpoint.address, endpoint.port))
        except OSError:
            sock.close()
            raise
        return sock

    @property
    def idle_s(self) -> float:
        return self._idle_s

    def close(self) -> None:
        """Take no more datagrams, and forget all clients."""
        if self._transport is not None:
            self._transport.close()
        for client in list(self._clients.values()):
            client.close()

    end = close


class _UdpClient:
    """One client of a UDP port: its socket to the endpoint."""

    def __init__(self, port: _UdpPort, addr: Any, endpoint: Endpoint) -> None:
        self._port, self._addr = port, addr
        self._loop = asyncio.get_running_loop()
        self._socket = port.endpoint_socket(endpoint)
        self._loop.add_reader(self._socket, self._readable)
        self._idle = self._loop.call_later(port.idle_s, self.close)

    def _busy(self) -> None:
        self._idle.cancel()
        self._idle = self._loop.call_later(self._port.idle_s, self.close)

    def send(self, data: bytes) -> None:
        """Hand a datagram on; what the endpoint refuses is lost, as datagrams are."""
        self._busy()
        with contextlib.suppress(OSError):
            self._socket.send(data)

    def _readable(self) -> None:
        self._busy()
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            return  # the endpoint refused what was sent before: the client hears nothing
        self._port.answer(data, self._addr)

    def close(self) -> None:
        """End it. May be called twice."""
        self._idle.cancel()
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()
        self._port.forget(self._addr)
