"""The fabric's agent: has hosts keep to the plan as nodes come and go in the API, and as somebody meddles with them.

Of a fabric that has a program of its own (flanneld), each node runs one, for itself. The others are the
work of one hand: one agent, on a control-plane node, sees to all nodes and routers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from concurrent.futures import Executor
from ipaddress import IPv4Address
from typing import Any, ClassVar

from mininetes.agents.agent import Agent, Placement
from mininetes.agents.controllers.node_subnets import subnets_of
from mininetes.agents.klog import AgentLog
from mininetes.agents.objects import now_time
from mininetes.agents.running import changed_within, together
from mininetes.apiserver.client import Client
from mininetes.apiserver.informer import Backoff, Informer
from mininetes.errors import MininetesError
from mininetes.kernel.netstate import Change
from mininetes.kernel.rtnl_events import RtnlEvents
from mininetes.testbed.fabric import FabricNode
from mininetes.testbed.fabric_running import Hosts, RunningFabric

RESYNC_S = 5.0
"""How often a host is looked at although nothing was heard (flanneld's --iptables-resync)."""

RESYNC_A_NODE_S = 0.2
"""In large clusters less often, by their number of nodes."""

COLLECT_S = 0.05
"""How long to wait for more nodes after one."""

REPAIR_AFTER_S = 2.0
"""How long what somebody changed stays as it is: for those who look, and so that changes come together."""

MOST_LOGGED = 64


class FabricAgent(Agent):
    """Keeps a node to the plan and its object annotated, or without ``only`` all nodes and routers to the plan.

    While the API cannot be reached it keeps to the nodes that it knows. Ending it leaves all as it is.
    """

    name: ClassVar[str] = "fabric"

    def __init__(
        self,
        place: Placement,
        client: Client,
        log: AgentLog,
        *,
        fabric: RunningFabric,
        namespaces: Hosts,
        only: str | None,
        repair: bool,
        executor: Executor,
    ) -> None:
        super().__init__(place, client, log)
        self._fabric = fabric
        self._namespaces = namespaces
        self._only = only
        self._repair = repair
        self._executor = executor
        self._nodes = Informer(client, "nodes")
        self._nodes.on_change(self._on_node)
        self._wake = asyncio.Event()
        self._announce_now = asyncio.Event()
        self._new_nodes = False
        self._known = False
        self._events: dict[str, RtnlEvents] = {}
        self._reported: dict[str, list[Change]] = {}
        self._unserved: set[FabricNode] = set()

    async def run(self) -> None:
        """Work until cancelled."""
        self.log.info("Starting", fabric=self._fabric.fabric.name, hosts=self._hosts())
        works = [self._nodes.run(), self._first_list(), self._keep()]
        try:
            await together([*works, self._announce()] if self._only else works)
        finally:
            self._hear_no_more()

    def _hear(self, host: str) -> RtnlEvents:
        """The events of a host's namespace."""
        if host not in self._events:
            events = self._events[host] = RtnlEvents(self._namespaces.netns(host))
            asyncio.get_running_loop().add_reader(events.fileno(), self._heard, events)
        return self._events[host]

    def _hear_no_more(self, hosts: Collection[str] | None = None) -> None:
        for host in list(hosts if hosts is not None else self._events):
            events = self._events.pop(host)
            asyncio.get_running_loop().remove_reader(events.fileno())
            events.close()

    def _hosts(self) -> list[str]:
        """Whom it sees to: itself, or all that forwards pods' packets."""
        if self._only is not None:
            return [self._only]
        return [host.name for host in self._fabric.underlay.hosts.values() if host.role != "client"]

    def _heard(self, events: RtnlEvents) -> None:
        if events.concerns():
            self._wake.set()

    def _on_node(self, *_: Any) -> None:
        self._new_nodes = True
        self._announce_now.set()
        self._wake.set()

    async def _first_list(self) -> None:
        await self._nodes.synced()
        self._known = True
        self._on_node()

    # --- the plan -------------------------------------------------------------------------------------------------

    def _members(self) -> tuple[FabricNode, ...]:
        """The nodes that the API has, with address and subnet, in the underlay's order."""
        if not self._known:
            return self._fabric.members
        found = []
        for host in self._fabric.underlay.with_role("node"):
            node = self._nodes.items.get(host.name)
            address, subnets = address_of(node), subnets_of(node or {})
            if address is not None and subnets:
                found.append(FabricNode(host.name, address, host.interfaces[0].device, subnets[0]))
        return tuple(found)

    async def _keep(self) -> None:
        await self._fabric.following.wait()
        current = self._fabric.members
        backoff = Backoff()
        while True:
            self._new_nodes = False
            members = self._members()
            self._tell(current, members)
            current = members
            try:
                await self._tell_unserved(members)
                hosts = self._hosts()
                self._hear_no_more(self._events.keys() - set(hosts))
                for host in hosts:
                    await self._bring(host, members)
                backoff = Backoff()
            except (MininetesError, OSError) as failed:
                self.log.error("Failed to bring the network up to date, will retry", err=failed)
                self._new_nodes = True
                await backoff.pause()
                continue
            await changed_within(self._wake, max(RESYNC_S, RESYNC_A_NODE_S * len(members)))
            await asyncio.sleep(COLLECT_S if self._new_nodes else REPAIR_AFTER_S)

    def _tell(self, before: Sequence[FabricNode], now: Sequence[FabricNode]) -> None:
        for node in now:
            if node not in before and node.name != self.place.node:
                self.log.info("Subnet added", subnet=node.pod_subnet, via=node.address, node=node.name)
        for node in before:
            if node not in now:
                self.log.info("Subnet removed", subnet=node.pod_subnet, via=node.address, node=node.name)

    async def _tell_unserved(self, members: tuple[FabricNode, ...]) -> None:
        """Name the subnets to which the fabric has no way from this node, each once."""
        if self._only is None:
            return
        plan = await asyncio.get_running_loop().run_in_executor(self._executor, self._fabric.plan, members)
        unserved = {node for node in members if (self._only, node.name) in plan.apart}
        for node in sorted(unserved - self._unserved, key=lambda node: node.pod_subnet):
            why = "not on a network of this node, and the fabric has no way through routers"
            self.log.error("No route to a subnet", subnet=node.pod_subnet, via=node.address, node=node.name, err=why)
        self._unserved = unserved

    async def _bring(self, host: str, members: tuple[FabricNode, ...]) -> None:
        is_node = self._fabric.underlay.hosts[host].role == "node"
        if is_node and host not in {node.name for node in members}:
            return  # its object has gone: what it had stays until it is back
        work = lambda: self._fabric.bring(host, members, repair=self._repair)  # noqa: E731
        brought = await asyncio.get_running_loop().run_in_executor(self._executor, work)
        declared = self._fabric.declared(host)
        links = declared.up | {device for device, _ in declared.addresses}
        self._hear(host).heed(links, [link.name for link in declared.links])
        if brought.drifted and not self._repair:
            self._report(host, list(brought.changes))
            return
        for change in brought.changes[:MOST_LOGGED]:
            if brought.drifted:
                self.log.warning("Drift repaired", host=host, change=change)
            else:
                self.log.info("Changed", v=1, host=host, change=change)

    def _report(self, host: str, drift: list[Change]) -> None:
        for change in drift:
            if change not in self._reported.get(host, []):
                self.log.warning("Drift found", host=host, change=change)
        self._reported[host] = drift

    # --- the node's object ------------------------------------------------------------------------------------------

    async def _announce(self) -> None:
        """Have the node's object say how its pods are reached, for as long as it does not."""
        await self._fabric.following.wait()
        backoff, loop = Backoff(), asyncio.get_running_loop()
        while True:
            await self._announce_now.wait()
            self._announce_now.clear()
            node = self._nodes.items.get(self.place.node)
            there = (node or {}).get("metadata", {}).get("annotations") or {}
            try:
                wanted = await loop.run_in_executor(self._executor, self._fabric.annotations, self.place.node)
                if node is None or all(there.get(key) == value for key, value in wanted.items()):
                    continue
                await self.client.patch("nodes", self.place.node, {"metadata": {"annotations": dict(wanted)}})
                condition = {"status": {"conditions": [network_condition(self._fabric.fabric.agent)]}}
                await self.client.patch("nodes", self.place.node, condition, kind="strategic", subresource="status")
                backoff = Backoff()
            except MininetesError as failed:
                self.log.error("Failed to annotate the node, will retry", err=failed)
                self._announce_now.set()
                await backoff.pause()


def address_of(node: Any) -> IPv4Address | None:
    """The internal address that a node's object has."""
    for each in ((node or {}).get("status") or {}).get("addresses", []):
        if each.get("type") == "InternalIP" and ":" not in each["address"]:
            return IPv4Address(each["address"])
    return None


def network_condition(agent: str) -> dict[str, str]:
    """The condition by which a fabric's program says that the node's network is there, as flanneld words it."""
    name = {"flanneld": "Flannel"}.get(agent, agent)
    now = now_time()
    return {
        "type": "NetworkUnavailable",
        "status": "False",
        "reason": f"{name}IsUp",
        "message": f"{name} is running on this node",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }
