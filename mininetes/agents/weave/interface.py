"""127.0.0.1:6784 of a node, over HTTP: addresses for its CNI plugin, and what `weave status` shows.

POST   /ip/CONTAINER/IFNAME   an address for a container's interface: "ADDRESS/LENGTH GATEWAY/LENGTH"; 409: it has one
GET    /ip/CONTAINER/IFNAME   the same for one that has it; else 404
DELETE /ip/CONTAINER/IFNAME   take it back; may be called twice
GET    /ip                    the holders of addresses
GET    /status[/peers|/connections|/ipam|/services], /ps, /report
DELETE /peer/NAME             declare a peer dead: its range is this one's from now on
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address
from typing import Protocol

from aiohttp import web

from mininetes.agents.serving import Handler, HttpPort
from mininetes.agents.weave import status
from mininetes.agents.weave.addresses import EXPOSE, NoSpace
from mininetes.agents.weave.peer import Peer
from mininetes.agents.weave.status import Link
from mininetes.errors import MininetesError

PORT = 6784


class Asked(Protocol):
    """The agent, as its interface knows it."""

    peer: Peer
    mtu: int

    def links(self) -> list[Link]:
        """Its connections."""

    async def take(self, holder: str, pod: str) -> IPv4Address:
        """An address for a holder. Raises NoSpace when there is none in time."""

    async def gateway(self) -> IPv4Address:
        """The address of the node's bridge. Raises NoSpace when there is none in time."""

    def release(self, holder: str) -> None:
        """Take a holder's address back. May be called twice."""

    def remove(self, name: str) -> None:
        """Declare a peer dead. Raises BadInput."""


class Interface:
    """The handlers of one agent's port."""

    def __init__(self, agent: Asked) -> None:
        self._agent = agent

    def port(self, netns: str) -> HttpPort:
        """The port in a node's namespace."""
        texts: dict[str, Callable[[], str]] = {
            "/status": lambda: status.summary(self._agent.peer, self._agent.links(), self._agent.mtu),
            "/status/peers": lambda: status.peers(self._agent.peer),
            "/status/connections": lambda: status.connections(self._agent.links()),
            "/status/ipam": lambda: status.ipam(self._agent.peer),
            "/status/services": lambda: status.services(self._agent.peer),
            "/ps": lambda: status.addresses(self._agent.peer),
            "/ip": lambda: "".join(f"{holder}\n" for holder in self._agent.peer.addresses.held),
        }
        handlers: dict[str, Handler] = {path: _showing(text) for path, text in texts.items()}
        handlers["/report"] = self._report
        handlers["/ip/{container}/{interface}"] = self._ip
        handlers["/peer/{name}"] = self._peer
        return HttpPort(netns, PORT, handlers, address="127.0.0.1")

    async def _report(self, _: web.Request) -> web.StreamResponse:
        return web.json_response(status.report(self._agent.peer, self._agent.links()))

    async def _peer(self, request: web.Request) -> web.StreamResponse:
        if request.method != "DELETE":
            return _refuse(405, "DELETE alone")
        try:
            self._agent.remove(request.match_info["name"])
        except MininetesError as refused:
            return _refuse(409, str(refused))
        return web.Response(text="removed\n")

    async def _ip(self, request: web.Request) -> web.StreamResponse:
        holder = f"{request.match_info['container']}/{request.match_info['interface']}"
        verbs: dict[str, Callable[[web.Request, str], Awaitable[web.StreamResponse]]] = {
            "POST": self._take,
            "GET": self._look,
            "DELETE": self._release,
        }
        verb = verbs.get(request.method)
        return await verb(request, holder) if verb is not None else _refuse(405, "POST, GET or DELETE")

    async def _take(self, request: web.Request, holder: str) -> web.StreamResponse:
        pod = (await request.text()).strip()
        try:
            gateway = await self._agent.gateway()
            has = self._agent.peer.addresses.of(holder)
            if has is not None:
                return _refuse(409, f"{holder} already has {has}")
            address = await self._agent.take(holder, pod)
        except NoSpace as none:
            return _refuse(503, str(none))
        if request.transport is None or request.transport.is_closing():
            self._agent.release(holder)  # whoever asked has gone, and with it the DEL that would give it back
        return web.Response(text=self._said(address, gateway))

    async def _look(self, _: web.Request, holder: str) -> web.StreamResponse:
        address = self._agent.peer.addresses.of(holder)
        gateway = self._agent.peer.addresses.of(EXPOSE)
        if address is None or gateway is None:
            return _refuse(404, f"{holder} has no address")
        return web.Response(text=self._said(address, gateway))

    async def _release(self, _: web.Request, holder: str) -> web.StreamResponse:
        self._agent.release(holder)
        return web.Response(text="released\n")

    def _said(self, address: IPv4Address, gateway: IPv4Address) -> str:
        length = self._agent.peer.network.prefixlen
        return f"{address}/{length} {gateway}/{length}\n"


def _showing(text: Callable[[], str]) -> Handler:
    async def show(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text())

    return show


def _refuse(code: int, why: str) -> web.Response:
    return web.Response(status=code, text=why + "\n")
