"""The controller manager as an agent."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import ClassVar

from mininetes.agents.agent import Agent, Placement
from mininetes.agents.component_ports import component_ports
from mininetes.agents.controllers.controller import Controller, Shared
from mininetes.agents.controllers.daemonsets import DaemonSets
from mininetes.agents.controllers.deployments import Deployments
from mininetes.agents.controllers.endpoints import Endpoints
from mininetes.agents.controllers.endpointslice_mirroring import EndpointSliceMirroring
from mininetes.agents.controllers.endpointslices import EndpointSlices
from mininetes.agents.controllers.garbage_collector import GarbageCollector
from mininetes.agents.controllers.load_balancers import LoadBalancers
from mininetes.agents.controllers.namespace_furniture import NamespaceFurniture
from mininetes.agents.controllers.node_lifecycle import NodeLifecycle
from mininetes.agents.controllers.node_subnets import NodeSubnets
from mininetes.agents.controllers.pod_garbage import PodGarbage
from mininetes.agents.controllers.replicasets import ReplicaSets
from mininetes.agents.controllers.settings import ControllerSettings
from mininetes.agents.controllers.taint_eviction import TaintEviction
from mininetes.agents.election import ElectionTimes, LeaderElection
from mininetes.agents.events import EventRecorder
from mininetes.agents.klog import AgentLog
from mininetes.agents.running import together
from mininetes.apiserver.client import Client

SECURE_PORT = 10257
INSECURE_PORT = 10252
"""As in releases before 1.23."""

CONTROLLERS: tuple[type[Controller], ...] = (
    NodeSubnets,
    NodeLifecycle,
    TaintEviction,
    PodGarbage,
    NamespaceFurniture,
    Deployments,
    ReplicaSets,
    DaemonSets,
    Endpoints,
    EndpointSlices,
    EndpointSliceMirroring,
    LoadBalancers,
    GarbageCollector,
)


class ControllerManager(Agent):
    """kube-controller-manager of one control-plane node.

    Serves /healthz, /livez, /readyz and /metrics at 10257 (TLS when a context is given) and
    /healthz and /metrics at 10252 without; of several control-plane nodes only the one with the lease works.
    Namespaces that are deleted are emptied by the API server itself.
    """

    name: ClassVar[str] = "kube-controller-manager"

    def __init__(
        self,
        place: Placement,
        client: Client,
        log: AgentLog,
        settings: ControllerSettings,
        *,
        tls: ssl.SSLContext | None = None,
        election: ElectionTimes | None = None,
    ) -> None:
        super().__init__(place, client, log)
        self.settings = settings
        self._tls = tls
        self._events = EventRecorder(client, "controllermanager", "", log)
        self._election = LeaderElection(client, self.name, place.node, log, election)
        self._controllers: list[Controller] = []

    async def run(self) -> None:
        """Run the controllers while leading, until cancelled. Raises MininetesError when a port is taken."""
        self.log.info("Starting", version="v1.30.0")
        async with component_ports(self.place.netns, SECURE_PORT, INSECURE_PORT, self._metrics, self._tls):
            await together([self._events.run(), self._election.lead(self._lead)])

    async def _lead(self) -> None:
        shared = Shared(self.client, self.log, self._events, self.settings)
        self._controllers = [kind(shared) for kind in CONTROLLERS]
        try:
            await together([*(informer.run() for informer in shared.informers), self._work(shared)])
        finally:
            self._controllers = []

    async def _work(self, shared: Shared) -> None:
        """Begin when all is known: half of a picture would have things deleted."""
        await asyncio.gather(*(informer.synced() for informer in shared.informers))
        for controller in self._controllers:
            self.log.info("Started controller", controller=controller.name)
        await together(controller.run() for controller in self._controllers)

    def _metrics(self) -> Mapping[str, float]:
        found: dict[str, float] = {
            f'workqueue_depth{{name="{each.name}"}}': len(each.queue) for each in self._controllers
        }
        found['leader_election_master_status{name="kube-controller-manager"}'] = int(self._election.leading)
        return found
