"""How weave's agents are made: with the API's word on services where there is one, and just as well without."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING

from mininetes.agents.agent import Placement
from mininetes.agents.klog import AgentLog
from mininetes.agents.weave.agent import WeaveAgent, peer_of
from mininetes.errors import MininetesError
from mininetes.lab.filesystem import node_path
from mininetes.spec import ClusterSpec
from mininetes.testbed.agent_tasks import AgentTasks, Runs
from mininetes.testbed.fabric_running import RunningFabric

if TYPE_CHECKING:
    from mininetes.apiserver.client import Client

READY_WITHIN_S = 20.0
_LOOK_S = 0.005


class WeaveSeats:
    """Makes the agents of a cluster whose first nodes, those at this moment, share the pods' network out."""

    def __init__(self, spec: ClusterSpec, fabric: RunningFabric) -> None:
        self._spec = spec
        self._fabric = fabric
        self._first = [peer_of(node.name, str(node.address)) for node in fabric.members]
        self._holders: dict[str, int] = {}
        """The processes that held the nodes when they had their first agent."""

    def agent(self, place: Placement, client: Client | None, log: AgentLog) -> WeaveAgent:
        """The agent of a node. One that joined later, or anew, learns from the others what it may give out."""
        me = peer_of(place.node, place.address)
        is_first = me in self._first and self._holders.setdefault(place.node, place.holder_pid) == place.holder_pid
        return WeaveAgent(
            place,
            client,
            log,
            listed=self._first,
            seed=[each.name for each in self._first] if is_first else [],
            network=self._spec.network.pods,
            mtu=self._fabric.plan(self._fabric.members).pod_mtu,
            repair=self._spec.fabric.repair,
        )

    def add_alone(self, tasks: AgentTasks, places: Iterable[Placement]) -> None:
        """Give the agents their places where there is no control plane."""
        wanted = self._spec.logging
        for place in places:
            self._note_node(tasks, place.node, there=True)
            path = node_path(place.node, f"{wanted.directory}/{WeaveAgent.name}.log")
            log = AgentLog(path, verbosity=wanted.levels.get(WeaveAgent.name, wanted.level))

            @contextlib.asynccontextmanager
            async def made(place: Placement = place, log: AgentLog = log) -> AsyncIterator[Runs]:
                yield self.agent(place, None, log)

            tasks.add(place.node, WeaveAgent.name, made, log)

    def left(self, tasks: AgentTasks, node: str) -> None:
        """A node was taken out where there is no control plane to say so."""
        self._note_node(tasks, node, there=False)

    @staticmethod
    def _note_node(tasks: AgentTasks, node: str, *, there: bool) -> None:
        for each, name in tasks.names():
            agent = tasks.agent(each, name)
            if isinstance(agent, WeaveAgent) and each != node:
                agent.note_node(node, there)

    async def ready(self, tasks: AgentTasks) -> None:
        """Wait until each node's bridge and tunnels are there. Raises MininetesError that names the nodes without."""
        loop = asyncio.get_running_loop()
        end = loop.time() + READY_WITHIN_S
        nodes = [node for node, name in tasks.names() if name == WeaveAgent.name]
        while waiting := [node for node in nodes if not _is_ready(tasks, node)]:
            if loop.time() > end:
                where = f"see {self._spec.logging.directory}/{WeaveAgent.name}.log there"
                raise MininetesError(f"no weave network within {READY_WITHIN_S:g} s on {', '.join(waiting)}: {where}")
            await asyncio.sleep(_LOOK_S)


def _is_ready(tasks: AgentTasks, node: str) -> bool:
    agent = tasks.agent(node, WeaveAgent.name)
    return isinstance(agent, WeaveAgent) and agent.is_ready
