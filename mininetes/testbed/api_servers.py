"""The API servers of a cluster, one for each control-plane node, and the store behind them.

memory   one store in the engine, which all servers share
etcd     a member on each of the nodes; each server asks the member on its own node first
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from mininetes.agents.agent import Placement
from mininetes.agents.klog import AgentLog
from mininetes.agents.serving import listening_socket
from mininetes.apiserver.allocators import ServiceRanges
from mininetes.apiserver.client import Client, Unreachable
from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.etcd import EtcdMember, EtcdProcesses, arguments
from mininetes.apiserver.server import PORT, ApiServer
from mininetes.apiserver.store import EtcdStore, MemoryStore, Store
from mininetes.apiserver.store.gateway import connector_in
from mininetes.errors import MininetesError
from mininetes.spec import ClusterSpec
from mininetes.testbed.agent_tasks import Maker, Runs
from mininetes.testbed.credentials import API_SERVER, Credentials
from mininetes.testbed.host_api import HostApi

READY_WITHIN_S = 30.0
_LOOK_S = 0.01
_MEMBER_LOOK_S = 0.2


class ApiServers:
    """Stores and servers. `prepare` once, then run what the makers make; `close` in the end.

    ``masters`` are the nodes that have an API server (and an etcd member, where etcd is the store).
    """

    def __init__(
        self, spec: ClusterSpec, masters: Sequence[Placement], credentials: Credentials, host_api: HostApi | None
    ) -> None:
        self.masters = list(masters)
        self._spec = spec
        self._credentials = credentials
        self._host_api = host_api
        self._stores: dict[str, Store] = {}
        self.etcd: EtcdProcesses | None = None
        if spec.control_plane.store == "etcd":
            directory = spec.logging.directory
            self.etcd = EtcdProcesses(
                [EtcdMember.on_node(each.node, each.address, each.holder_pid, directory) for each in self.masters]
            )

    @property
    def urls(self) -> list[str]:
        """Where the servers answer on the nodes' network."""
        return [self.url(place) for place in self.masters]

    def url(self, place: Placement) -> str:
        """Where a server on that node answers, if it has one."""
        return f"https://{place.address}:{PORT}"

    def server_for(self, place: Placement) -> str:
        """The server that a program on a node asks: its own node's, else the first."""
        return self.url(place) if place in self.masters else self.urls[0]

    def etcd_servers(self, place: Placement) -> tuple[str, ...]:
        """The etcd members that an API server on that node asks in turn; empty with the store in memory."""
        return tuple(self.etcd.endpoints(place.node)) if self.etcd is not None and place in self.masters else ()

    def etcd_arguments(self, place: Placement) -> tuple[str, ...]:
        """The command line of the etcd member on that node; empty when it has none."""
        if self.etcd is None or place.node not in self.etcd.members:
            return ()
        return tuple(arguments(self.etcd.members[place.node], list(self.etcd.members.values())))

    async def prepare(self) -> None:
        """Have the stores ready; with etcd, start its members. Raises MininetesError or MissingFeature."""
        if self.etcd is None:
            shared = MemoryStore()
            self._stores = {place.node: shared for place in self.masters}
            return
        await self.etcd.start()
        for place in self.masters:
            self._stores[place.node] = EtcdStore(self.etcd.endpoints(place.node), connector_in(place.netns))

    def maker(self, place: Placement, log: AgentLog) -> Maker:
        """What makes the server of a node, each time that one is started there."""

        @contextlib.asynccontextmanager
        async def made() -> AsyncIterator[Runs]:
            server = ApiServer(
                self._stores[place.node],
                network=ServiceRanges(self._spec.network.services, self._spec.node_ports),
                pki=self._credentials.pki,
                tokens=self._credentials.users,
                node=place.node,
                address=place.address,
                servers=[each.address for each in self.masters],
                log=log,
                netns=place.netns,
                kubelet_token=self._credentials.token(API_SERVER),
            )
            serving = _Serving(server, place, self._host_api)
            try:
                yield serving
            finally:
                await server.stop()
                serving.close()

        return made

    def etcd_maker(self, place: Placement) -> Maker:
        """What watches over the etcd member of a node: it starts the process when it is not there, and kills it."""

        @contextlib.asynccontextmanager
        async def made() -> AsyncIterator[Runs]:
            assert self.etcd is not None
            try:
                yield _Member(self.etcd, place.node)
            finally:
                await self.etcd.kill(place.node)

        return made

    async def wait_ready(self, client: Client) -> None:
        """Wait until a server answers, and has made what every cluster has. Raises MininetesError after 30 s."""
        loop = asyncio.get_running_loop()
        end = loop.time() + READY_WITHIN_S
        while True:
            try:
                await client.request("GET", "/readyz")
                return
            except (ApiError, Unreachable) as failed:
                if loop.time() > end:
                    raise MininetesError(f"no API server is ready after {READY_WITHIN_S:g} s: {failed}") from None
            await asyncio.sleep(_LOOK_S)

    async def close(self) -> None:
        """Close the stores and end etcd. May be called twice."""
        for store in {id(each): each for each in self._stores.values()}.values():
            await store.close()
        self._stores = {}
        if self.etcd is not None:
            await self.etcd.stop()


class _Serving:
    """A server as a task: it serves until cancelled, at its node's port and the host's."""

    def __init__(self, server: ApiServer, place: Placement, host_api: HostApi | None) -> None:
        self._server = server
        self._place = place
        self._host_api = host_api
        self._lent = False

    async def run(self) -> None:
        """Serve until cancelled. Raises MininetesError when the node's port is taken."""
        sockets = [listening_socket(self._place.netns, PORT)]
        if self._host_api is not None:
            sockets.append(self._host_api.lend())
            self._lent = True
        await self._server.start(sockets)
        await asyncio.Event().wait()

    def close(self) -> None:
        """The server has stopped."""
        if self._host_api is not None and self._lent:
            self._host_api.give_back()
            self._lent = False


class _Member:
    """An etcd member as a task."""

    def __init__(self, etcd: EtcdProcesses, node: str) -> None:
        self._etcd = etcd
        self._node = node

    async def run(self) -> None:
        """Have the process run until cancelled. Raises MininetesError when it ends by itself."""
        if not self._etcd.running(self._node):
            await self._etcd.start_member(self._node)
        while self._etcd.running(self._node):
            await asyncio.sleep(_MEMBER_LOOK_S)
        raise MininetesError(f"{self._node}: etcd has ended")
