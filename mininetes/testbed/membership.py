"""Nodes that join a running cluster and leave it: namespaces, link, files, agents, and the way back of each."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mininetes.agents.agent import Placement
from mininetes.agents.cni.runtime import CniRuntime
from mininetes.cluster.net import ClusterNet
from mininetes.errors import MininetesError
from mininetes.lab.engine_side import InitSocket
from mininetes.lab.filesystem import remove_node
from mininetes.testbed.blueprint import Blueprint
from mininetes.testbed.blueprint_changes import Joining, with_node, without_node
from mininetes.testbed.fabric_running import RunningFabric
from mininetes.testbed.networks_running import Networks

if TYPE_CHECKING:
    from mininetes.testbed.control_plane import ControlPlane

log = logging.getLogger("mininetes")

END_WITHIN_S = 10
FOLLOWS_WITHIN_S = 10.0
_LOOK_S = 0.02


class Changing(Protocol):
    """The cluster whose nodes change."""

    blueprint: Blueprint
    control_plane: ControlPlane | None
    networks: Networks | None

    def places(self) -> dict[str, Placement]:
        """Where each node's agents work."""

    async def settle_in(self, joining: Joining) -> None:
        """Without a control plane: start what runs on the new node, and make its pods."""

    async def clear_out(self, node: str) -> list[str]:
        """Without a control plane: end what runs on a node, and its pods, which are returned."""

    def note_hosts(self) -> None:
        """Write down who is there, for all nodes and for those who attach to the cluster. Blocks."""


@dataclass(frozen=True)
class Gone:
    """What went with a node: containers, networks that were on no other, and pods that nobody makes again."""

    containers: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    pods: tuple[str, ...] = ()


class Membership:
    """Adds nodes and takes them away, one at a time."""

    def __init__(
        self,
        cluster: Changing,
        init: InitSocket,
        net: ClusterNet,
        fabric: RunningFabric,
        runtimes: dict[str, CniRuntime],
        executor: Executor,
    ) -> None:
        self._cluster = cluster
        self._init = init
        self._net = net
        self._fabric = fabric
        self._runtimes = runtimes
        self._executor = executor
        self._turn = asyncio.Lock()
        self.changes: list[tuple[str, str]] = []
        """What was done so far: ("join" or "leave", node)."""
        self.holders_before: dict[str, int] = {}
        """The last holders of nodes that have gone."""

    async def add(self, name: str | None) -> str:
        """Have a node join and return its name when it is ready. Raises BadInput, or MininetesError and undoes it."""
        async with self._turn:
            before = self._cluster.blueprint
            joining = with_node(before, name)
            if self._cluster.control_plane is not None:
                await self._cluster.control_plane.require_answers("join")
            node = joining.node.name
            holder = await self._init.hold_node(node)
            try:
                self._net.register(joining.host, joining.cable, holder)
                await self._in_thread(self._make, joining)
                self._cluster.blueprint = joining.blueprint
                self.changes.append(("join", node))
                await self._in_thread(self._cluster.note_hosts)
                await self._start(joining)
                if self._cluster.networks is not None:
                    await self._cluster.networks.welcome_node(node)
                await self._fabric_follows(joining.blueprint)
            except BaseException:
                await self._take_out(node, holder, before, undoing=True)
                raise
            return node

    def _make(self, joining: Joining) -> None:
        """What the node has before its agents start. Blocks."""
        node, blueprint = joining.node.name, joining.blueprint
        self._net.plug_in(joining.host, joining.cable)
        blueprint.install_cni(node)
        self._runtimes[node] = CniRuntime(node, self._net.holders[node])
        self._fabric.set_underlay(blueprint.underlay)
        following = blueprint.states if self._cluster.control_plane is None else [node]
        for host in following:
            self._fabric.bring(host, blueprint.view.nodes)

    async def _start(self, joining: Joining) -> None:
        plane = self._cluster.control_plane
        if plane is None:
            await self._cluster.settle_in(joining)
        else:
            place = self._cluster.places()[joining.node.name]
            await plane.add_node(joining.blueprint, joining.node, place, joining.pods)

    async def remove(self, name: str) -> Gone:
        """Have a node leave; says when nothing of it is left what went with it. Raises BadInput, MininetesError."""
        async with self._turn:
            after = without_node(self._cluster.blueprint, name)
            if self._cluster.control_plane is not None:
                await self._cluster.control_plane.require_answers("leave")  # nothing is taken away by halves
            return await self._take_out(name, self._net.holders.get(name, 0), after)

    async def _take_out(self, name: str, holder: int, after: Blueprint, *, undoing: bool = False) -> Gone:
        networks = self._cluster.networks
        if networks is None:
            return Gone(pods=await self._end_node(name, holder, after, undoing=undoing))
        with networks.leaving(name):
            containers, own = await networks.forget_node(name)
            pods = await self._end_node(name, holder, after, undoing=undoing)
        titles = tuple(f"{each.name} ({each.driver})" for each in own)
        return Gone(tuple(each.name for each in containers), titles, pods)

    async def _end_node(self, name: str, holder: int, after: Blueprint, *, undoing: bool) -> tuple[str, ...]:
        """Take out a node without container networks; returns the pods that nobody makes again."""
        plane = self._cluster.control_plane
        if plane is None:
            pods = await self._cluster.clear_out(name)
        else:
            pods = await plane.remove_node(after, name, whatever_the_api_says=undoing)
        if ("join", name) in self.changes or name in {node.name for node in self._cluster.blueprint.spec.nodes}:
            self.changes.append(("leave", name))
        self._cluster.blueprint = after
        self._fabric.set_underlay(after.underlay)
        await self._in_thread(self._unmake, name, holder, after)
        self._fabric.forget(name)
        if name in self._net.holders:
            self._net.unregister(name)
        self.holders_before[name] = holder
        runtime = self._runtimes.pop(name, None)
        if runtime is not None:
            runtime.close()
        await self._in_thread(self._cluster.note_hosts)
        await self._fabric_follows(after)
        return tuple(pods)

    async def _fabric_follows(self, blueprint: Blueprint) -> None:
        """Wait until the fabric's agents have done their part; one that somebody stopped is not waited for long."""
        loop = asyncio.get_running_loop()
        end = loop.time() + FOLLOWS_WITHIN_S
        members = blueprint.view.nodes
        while waiting := await loop.run_in_executor(self._executor, self._fabric.behind, members):
            if loop.time() > end:
                log.warning("the fabric does not follow on %s", ", ".join(waiting))
                return
            await asyncio.sleep(_LOOK_S)

    def _unmake(self, name: str, holder: int, after: Blueprint) -> None:
        """Take the node's links and namespaces away, and what other hosts have for its sake. Blocks."""
        if self._cluster.control_plane is None:
            for host in after.states:
                self._fabric.bring(host, after.view.nodes)
        self._net.unplug(name)
        end_process(holder)
        remove_node(name)

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)


def end_process(pid: int) -> None:
    """Kill a process and wait until it has gone. Blocks. Does nothing when it has. Raises MininetesError after 10 s."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
        ended, _, _ = select.select([process], [], [], END_WITHIN_S)
    except ProcessLookupError:
        return
    finally:
        os.close(process)
    if not ended:
        raise MininetesError(f"process {pid} has not ended within {END_WITHIN_S} s")
