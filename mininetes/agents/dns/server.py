"""The DNS server: its sockets in a pod's namespace, and its view of the API."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, cast

from aiohttp import web

from mininetes.agents.component_ports import metrics_page
from mininetes.agents.dns.manifests import DNS_PORT, HEALTH_PORT, METRICS_PORT, READY_PORT
from mininetes.agents.dns.messages import Outside, reply
from mininetes.agents.dns.zone import Zone, service_of
from mininetes.agents.objects import Object, key_of, service_of_slice
from mininetes.agents.running import together
from mininetes.agents.serving import Handler, HttpPort, healthy, listening_socket
from mininetes.apiserver.client import Client
from mininetes.apiserver.informer import Informer
from mininetes.deadline import within
from mininetes.errors import MininetesError
from mininetes.kernel.netns import in_netns

SLICES = "endpointslices.discovery.k8s.io"
IDLE_S = 10.0
FIRST_SYNC_S = 1.0
"""A TCP connection without a query for this long is closed."""

LogLine = Callable[[str], None]


class DnsServer:
    """Answers for the cluster's names at port 53, UDP and TCP, in the network namespace at ``netns``.

    Authoritative for ``domain`` and for the addresses of services and endpoints. Names elsewhere
    get ``outside`` (REFUSED or SERVFAIL): no upstream server is asked, nothing leaves the lab.
    While the API server is away it answers from what it knows; before it knows anything, SERVFAIL.
    /health at 8080, /ready at 8181 and /metrics at 9153, as CoreDNS has them. ``log`` takes lines.
    """

    def __init__(
        self, client: Client, netns: str, log: LogLine, *, domain: str = "cluster.local", outside: Outside = "REFUSED"
    ) -> None:
        self._netns, self._log, self._outside = netns, log, outside
        self._zone = Zone(domain)
        self._services = Informer(client, "services")
        self._slices = Informer(client, SLICES)
        self._namespaces = Informer(client, "namespaces")
        self._slices_of: dict[str, dict[str, Object]] = {}
        self._ready = False
        self._synced = asyncio.Event()
        self._counts: Counter[str] = Counter()
        self._watching: asyncio.Task[None] | None = None
        self._open = contextlib.AsyncExitStack()
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def start(self) -> None:
        """Open the ports and begin to watch; returns when all names are known, or after a second.

        Raises MininetesError when a port is taken; then nothing is left open.
        """
        async with contextlib.AsyncExitStack() as stack:
            await self._open_dns(stack)
            pages: dict[int, dict[str, Handler]] = {
                HEALTH_PORT: {"/health": healthy},
                READY_PORT: {"/ready": self._ready_page},
                METRICS_PORT: {"/metrics": metrics_page(self._metrics)},
            }
            for port, handlers in pages.items():
                await stack.enter_async_context(HttpPort(self._netns, port, handlers))
            self._open = stack.pop_all()
        self._namespaces.on_change(self._namespace_changed)
        self._slices.on_change(self._slice_changed)
        self._services.on_change(self._service_changed)
        self._watching = asyncio.ensure_future(self._watch())
        self._log(f".:{DNS_PORT} on {self._zone.domain}")
        # a kubelet probes right after the start, and then not for a second: let it find all ready
        with contextlib.suppress(asyncio.TimeoutError):
            async with within(FIRST_SYNC_S):
                await self._synced.wait()

    async def stop(self) -> None:
        """Close all. May be called twice."""
        tasks = [*self._connections, *([self._watching] if self._watching is not None else [])]
        self._watching = None
        for task in tasks:
            task.cancel()
        for writer in self._connections.values():
            writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._open.aclose()

    def reply(self, wire: bytes, *, udp: bool) -> bytes | None:
        """Answer one message."""
        answer = reply(self._zone if self._ready else None, wire, udp=udp, outside=self._outside)
        self._counts["udp" if udp else "tcp"] += 1
        if answer is not None:
            self._counts[f"rcode {answer[3] & 15}"] += 1
        return answer

    async def _open_dns(self, stack: contextlib.AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        udp = _udp_socket(self._netns)
        try:
            _, datagrams = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=udp)
        except BaseException:
            udp.close()
            raise
        stack.push_async_callback(datagrams.close)
        server = await asyncio.start_server(self._connected, sock=listening_socket(self._netns, DNS_PORT))
        stack.callback(server.close)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A TCP connection: queries, each with its length before it (RFC 1035 section 4.2.2)."""
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, asyncio.TimeoutError, OSError):
                while True:
                    async with within(IDLE_S):
                        length = int.from_bytes(await reader.readexactly(2), "big")
                    async with within(IDLE_S):
                        wire = await reader.readexactly(length)
                    answer = self.reply(wire, udp=False)
                    if answer is None:
                        return
                    writer.write(len(answer).to_bytes(2, "big") + answer)
                    async with within(IDLE_S):
                        await writer.drain()
        finally:
            self._connections.pop(task, None)
            writer.close()

    async def _watch(self) -> None:
        await together(
            [self._namespaces.run(), self._slices.run(), self._services.run(), self._become_ready()],
        )

    async def _become_ready(self) -> None:
        for informer in (self._namespaces, self._slices, self._services):
            await informer.synced()
        self._ready = True
        self._synced.set()
        self._log("[INFO] plugin/ready: kubernetes is ready")

    async def _ready_page(self, _: web.Request) -> web.Response:
        return web.Response(text="OK") if self._ready else web.Response(text="kubernetes", status=503)

    def _metrics(self) -> Mapping[str, float]:
        found: dict[str, float] = {
            f'coredns_dns_requests_total{{proto="{proto}"}}': self._counts[proto] for proto in ("tcp", "udp")
        }
        for name, count in sorted(self._counts.items()):
            if name.startswith("rcode "):
                found[f'coredns_dns_responses_total{{rcode="{name[6:]}"}}'] = count
        return found

    def _namespace_changed(self, kind: str, _: Object | None, new: Object | None) -> None:
        if new is not None and kind == "ADDED":
            self._zone.put_namespace(new["metadata"]["name"])
        elif new is not None and kind == "DELETED":
            self._zone.remove_namespace(new["metadata"]["name"])

    def _slice_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        for each in (old, new):
            if each is None:
                continue
            service = service_of_slice(each)
            slices = self._slices_of.setdefault(service, {})
            if each is new and kind != "DELETED":
                slices[key_of(each)] = each
            else:
                slices.pop(key_of(each), None)
            if not slices:
                del self._slices_of[service]
            if service in self._services.items:
                self._put(self._services.items[service])

    def _service_changed(self, kind: str, _: Object | None, new: Object | None) -> None:
        if new is None:
            return
        if kind == "DELETED":
            self._zone.remove(new["metadata"]["namespace"], new["metadata"]["name"])
        else:
            self._put(new)

    def _put(self, service: Mapping[str, Any]) -> None:
        self._zone.put(service_of(service, self._slices_of.get(key_of(service), {}).values()))


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None
        self._closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        answer = self._server.reply(data, udp=True)
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed.set()

    async def close(self) -> None:
        """Close the socket; when this returns, the port is free."""
        if self._transport is not None:
            self._transport.close()
            await self._closed.wait()


def _udp_socket(netns: str) -> socket.socket:
    """A UDP socket at port 53 in the namespace. Raises MininetesError that says why not."""
    try:
        with in_netns(netns):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                sock.setblocking(False)
                sock.bind(("0.0.0.0", DNS_PORT))  # noqa: S104 - a pod's own
            except OSError:
                sock.close()
                raise
    except OSError as failed:
        raise MininetesError(f"{netns}: cannot listen on UDP port {DNS_PORT}: {failed.strerror}") from None
    return sock
