"""The weave agent of a node: it knows all peers, pods and services, and makes one L2 network with the others.

It does not need the API server: what that has to say is taken over where one answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import time
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, Any, ClassVar

from mininetes.agents.agent import Placement
from mininetes.agents.klog import AgentLog
from mininetes.agents.running import changed_within, together
from mininetes.agents.weave import status
from mininetes.agents.weave.addresses import EXPOSE, NoSpace
from mininetes.agents.weave.connections import Connections
from mininetes.agents.weave.data_plane import DataPlane, Wanted
from mininetes.agents.weave.interface import Interface
from mininetes.agents.weave.knowledge import Malformed
from mininetes.agents.weave.peer import Message, Peer, PeerAddress
from mininetes.agents.weave.status import Link
from mininetes.agents.weave.wire import Hello
from mininetes.deadline import within
from mininetes.errors import MininetesError
from mininetes.lab.filesystem import node_path

if TYPE_CHECKING:
    from mininetes.agents.weave.api_news import ApiNews
    from mininetes.apiserver.client import Client

STATE_FILE = "/var/lib/cni/weave/state.json"

EXCHANGE_S = 10.0
"""How often all that is known is compared with some neighbours."""

LOOK_S = 10.0
"""How often bridge and tunnels are looked at although nothing is to change."""

RETRY_S = 0.5
PODS_WITHIN_S = 0.01
LINKS_WITHIN_S = 0.3
"""How long news wait for more of their kind: when a cluster starts, connections come by the hundred."""

SPACE_WITHIN_S = 8.0
"""How long an address is waited for. A CNI plugin's caller waits longer."""

ASK_AGAIN_S = 1.0


def peer_of(node: str, address: str) -> PeerAddress:
    """How a node's peer is known: by a MAC made of its address, which is also its bridge's."""
    octets = ":".join(f"{octet:02x}" for octet in IPv4Address(address).packed)
    return PeerAddress(f"06:00:{octets}", node, address)


class WeaveAgent:
    """The agent of one node, as a task of the engine. Ended, it leaves the data plane as it is; a new one goes on.

    ``listed``: the peers known from the start. ``seed``: the names of those among which the network is
    shared out at first; empty for a node that joins later. Without a ``client`` it knows nothing of services.
    Without ``repair``, what somebody changes by hand of bridge and tunnels is only reported.
    """

    name: ClassVar[str] = "weave"

    def __init__(
        self,
        place: Placement,
        client: Client | None,
        log: AgentLog,
        *,
        listed: Iterable[PeerAddress],
        seed: Sequence[str],
        network: IPv4Network,
        mtu: int,
        repair: bool = True,
    ) -> None:
        self.place = place
        self._repair = repair
        self.log = log
        self.mtu = mtu
        self.me = peer_of(place.node, place.address)
        self._state_path = node_path(place.node, STATE_FILE)
        state = self._read_state()
        self.incarnation = max(time.time_ns() // 1_000_000, int(state.get("incarnation", 0)) + 1)
        self.peer = Peer(self.me, listed, network, incarnation=self.incarnation, seed=seed)
        if "ring" in state:
            self.peer.resume(state)
        self._plane = DataPlane(place.netns)
        self._connections = Connections(
            place.netns,
            log,
            lambda: Hello(self.me, str(network), self.incarnation),
            self.peer.members,
            up=self._up,
            down=self._down,
            heard=self._heard,
        )
        self._news = self._api_news(client) if client is not None else None
        self._gone: set[str] = set()
        """Nodes that were taken out of the cluster."""
        self._ready = asyncio.Event()
        self._ring_changed = asyncio.Event()
        self._look = asyncio.Event()
        self._known = (self.peer.ring.changes, self.peer.members())
        self._saved = ""
        self._publishing: asyncio.TimerHandle | None = None
        self._chance = random.Random()

    def _api_news(self, client: Client) -> ApiNews:
        from mininetes.agents.weave.api_news import ApiNews  # noqa: PLC0415 - the API's libraries, where there is one

        return ApiNews(client, self._note_services, self.note_node)

    # --- life

    async def run(self) -> None:
        """Work until cancelled. Raises MininetesError when a port is taken."""
        self.log.info("Starting", name=self.me, network=self.peer.network, peers=len(self.peer.members()))
        self._say_ranges()
        works = [self._connections.run(), self._serve(), self._keep_plane(), self._expose(), self._exchange()]
        if self._news is not None:
            works.append(self._news.run())
        try:
            await together(works)
        finally:
            if self._publishing is not None:
                self._publishing.cancel()

    @property
    def is_ready(self) -> bool:
        """Whether the node's bridge has its address and its tunnels."""
        return self._ready.is_set()

    async def _serve(self) -> None:
        async with Interface(self).port(self.place.netns):
            await asyncio.Event().wait()

    async def _exchange(self) -> None:
        while True:
            await asyncio.sleep(EXCHANGE_S * self._chance.uniform(0.75, 1.25))
            self.peer.exchange(self._chance)
            self._settle()

    async def _expose(self) -> None:
        """Give the node's bridge an address, as soon as there is one."""
        while self.peer.addresses.of(EXPOSE) is None:
            with contextlib.suppress(NoSpace):
                await self._take(EXPOSE, {"name": EXPOSE})
        self._look.set()

    # --- what happens

    def _up(self, name: str) -> None:
        self.peer.connected(name)
        self._publish_within(LINKS_WITHIN_S)
        self._settle()

    def _down(self, name: str) -> None:
        self.peer.disconnected(name)
        self._publish_within(LINKS_WITHIN_S)
        self._settle()
        self._see_to_gone()

    def _heard(self, name: str, message: Message) -> None:
        self.peer.receive(name, message)
        self._settle()
        self._see_to_gone()

    def _publish_within(self, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        if self._publishing is not None:
            if self._publishing.when() <= loop.time() + delay_s:
                return
            self._publishing.cancel()
        self._publishing = loop.call_later(delay_s, self._publish)

    def _publish(self) -> None:
        self._publishing = None
        self.peer.publish()
        self._settle()

    def _settle(self) -> None:
        """See to what an event has brought about: first the file, then the others."""
        changes, members = self._known
        if self.peer.ring.changes != changes:
            self._say_ranges()
            self._ring_changed.set()
            self._write_state()
        now = self.peer.members()
        if now != members:
            self._connections.look_again()
            self._look.set()
        self._known = (self.peer.ring.changes, now)
        if self.peer.moved:
            self._look.set()
        outbox, self.peer.outbox = self.peer.outbox, []
        for name, message in outbox:
            self._connections.send(name, message)

    def _say_ranges(self) -> None:
        owned = [str(part) for part in self.peer.ring.ranges(self.me.name)]
        values: dict[str, Any] = {"ipalloc-range": self.peer.network, "owned": owned}
        self.log.info("Address range of this peer", **values)

    def _note_services(self, services: dict[str, tuple[int, Any]], revision: int) -> None:
        if self.peer.knowledge.note_services(services, revision):
            self.peer.exchange(self._chance)
            self._settle()

    def note_node(self, name: str, there: bool) -> None:
        """Take notice of a node that was taken out of the cluster, or is there. May be called at any time.

        Once the agent of one that was taken out is dead, its range is claimed.
        """
        (self._gone.discard if there else self._gone.add)(name)
        self._see_to_gone()

    def _see_to_gone(self) -> None:
        # one does it for all: the first by name of those that hear each other
        if not self._gone or self.me.name != min(self.peer.reachable()):
            return
        for each in list(self.peer.members().values()):
            if each.nickname in self._gone and each.name not in self.peer.reachable():
                self.remove(each.name)

    # --- addresses (see Interface)

    def links(self) -> list[Link]:
        """The connections there are, and those that are tried."""
        return status.links_of(self._connections, self.peer.members())

    async def take(self, holder: str, pod: str) -> IPv4Address:
        """An address for a holder, noted as that pod's. Raises NoSpace when there is none in time."""
        address = await self._take(holder, {"pod": pod, "holder": holder})
        self.log.info("Address given", v=4, address=address, holder=holder, pod=pod)
        return address

    async def _take(self, holder: str, about: dict[str, str]) -> IPv4Address:
        loop = asyncio.get_running_loop()
        end = loop.time() + SPACE_WITHIN_S
        while True:
            try:
                address = self.peer.take(holder, about)
                break
            except NoSpace:
                if loop.time() > end:
                    raise
                self.peer.ask_for_space()
                self._settle()
                await changed_within(self._ring_changed, ASK_AGAIN_S)
        self._write_state()
        self._publish_within(PODS_WITHIN_S)
        self._settle()
        return address

    async def gateway(self) -> IPv4Address:
        """The address of the node's bridge, once that has it. Raises NoSpace when it has none in time."""
        with contextlib.suppress(asyncio.TimeoutError):
            async with within(SPACE_WITHIN_S):
                await self._ready.wait()
        address = self.peer.addresses.of(EXPOSE)
        if address is None or not self._ready.is_set():
            raise NoSpace("the node's own bridge has no address yet")
        return address

    def release(self, holder: str) -> None:
        """Take a holder's address back. May be called twice."""
        address = self.peer.release(holder)
        if address is not None:
            self.log.info("Address taken back", v=4, address=address, holder=holder)
            self._write_state()
            self._publish_within(PODS_WITHIN_S)
            self._settle()

    def remove(self, name: str) -> None:
        """Declare a peer dead and claim its range. Raises BadInput."""
        self.peer.remove(name)
        self.log.warning("Peer removed, its range claimed", peer=name)
        self._publish_within(PODS_WITHIN_S)
        self._settle()

    # --- the node

    def _wanted(self) -> Wanted:
        address = self.peer.addresses.of(EXPOSE)
        others = (each.address for name, each in self.peer.members().items() if name != self.me.name)
        exposed = f"{address}/{self.peer.network.prefixlen}" if address is not None else None
        return Wanted(self.me.name, self.place.address, exposed, frozenset(others), self.mtu)

    async def _keep_plane(self) -> None:
        """Keep bridge and tunnels as they should be: at once when that changes, else from time to time."""
        last: Wanted | None = None
        while True:
            wanted = self._wanted()
            moved, self.peer.moved = self.peer.moved, []
            drifted = wanted == last
            try:
                done = await asyncio.to_thread(self._plane.apply, wanted, leave=drifted and not self._repair)
                await asyncio.to_thread(self._plane.forget, [str(each) for each in moved])
            except (MininetesError, OSError) as failed:
                self.log.error("Bringing up the data plane failed", err=failed)
                self.peer.moved += moved
                await asyncio.sleep(RETRY_S)
                continue
            for line in done:
                if drifted:
                    self.log.warning("Drift repaired" if self._repair else "Drift found", change=line)
                else:
                    self.log.info("Data plane changed", v=2, change=line)
            last = wanted
            if wanted.address is not None:
                self._ready.set()
            await changed_within(self._look, LOOK_S * self._chance.uniform(0.75, 1.25))

    # --- what the next life needs

    def _read_state(self) -> dict[str, Any]:
        try:
            with open(self._state_path) as file:
                found = json.load(file)
        except FileNotFoundError:
            return {}
        except ValueError as wrong:
            raise Malformed(f"{STATE_FILE}: not JSON: {wrong}") from None
        return found if isinstance(found, dict) else {}

    def _write_state(self) -> None:
        text = json.dumps({**self.peer.to_json(), "incarnation": self.incarnation})
        if text == self._saved:
            return
        os.makedirs(os.path.dirname(self._state_path), exist_ok=True)
        with open(self._state_path + ".new", "w") as file:
            file.write(text)
        os.rename(self._state_path + ".new", self._state_path)
        self._saved = text
