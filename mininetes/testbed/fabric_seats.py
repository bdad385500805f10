"""Where the fabric's agents sit: one on each node, or one for all, or an outside program on each node."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from pathlib import Path

from mininetes.agents.agent import Placement
from mininetes.agents.klog import AgentLog
from mininetes.agents.outside_program import OutsideProgram
from mininetes.apiserver.client import Client
from mininetes.lab.filesystem import node_path
from mininetes.spec import ClusterSpec
from mininetes.testbed.agent_tasks import Maker, Runs
from mininetes.testbed.fabric_agent import FabricAgent
from mininetes.testbed.fabric_running import Hosts, RunningFabric
from mininetes.testbed.weave_seats import WeaveSeats


class FabricSeats:
    """Says which agents of the fabric a node has, and makes them."""

    def __init__(self, spec: ClusterSpec, fabric: RunningFabric, namespaces: Hosts, executor: Executor) -> None:
        self._spec = spec
        self._fabric = fabric
        self._namespaces = namespaces
        self._executor = executor
        self.weave = WeaveSeats(spec, fabric) if fabric.fabric.is_weave else None

    def follow(self) -> None:
        """The API has all nodes: from now on the fabric follows them."""
        self._fabric.following.set()

    @property
    def _on_each_node(self) -> bool:
        return bool(self._fabric.fabric.agent)

    def names(self, node: str) -> list[str]:
        """The fabric's agents on a node: their names are also those of their logs."""
        fabric = self._fabric.fabric
        if self._on_each_node:
            return [fabric.agent]
        first = bool(self._spec.masters) and node == self._spec.masters[0].name
        return [Path(fabric.name).stem] if first and fabric.connects_nodes else []

    def agent(self, place: Placement, client: Client, log: AgentLog) -> Runs:
        """The agent of a node: for itself, or for all nodes and routers."""
        if self.weave is not None:
            return self.weave.agent(place, client, log)
        return FabricAgent(
            place,
            client,
            log,
            fabric=self._fabric,
            namespaces=self._namespaces,
            only=place.node if self._on_each_node else None,
            repair=self._spec.fabric.repair,
            executor=self._executor,
        )

    def program_maker(self, place: Placement, log: AgentLog, kubeconfig: str) -> Maker:
        """What makes the outside program of a node, with the kubeconfig in a file of the node."""
        path = f"/etc/kubernetes/{self._fabric.fabric.agent}.conf"
        program = OutsideProgram(
            place, log, self._spec.fabric.exec, executor=self._executor, environment={"KUBECONFIG": path}
        )

        @contextlib.asynccontextmanager
        async def made() -> AsyncIterator[Runs]:
            _write_secret(node_path(place.node, path), kubeconfig)
            yield program

        return made


def _write_secret(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(text)
