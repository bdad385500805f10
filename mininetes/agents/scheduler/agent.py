"""The scheduler as an agent: watches, decides one pod after the other, binds."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, ClassVar

from mininetes.agents.agent import Agent, Placement
from mininetes.agents.component_ports import component_ports
from mininetes.agents.election import ElectionTimes, LeaderElection
from mininetes.agents.events import EventRecorder
from mininetes.agents.klog import AgentLog
from mininetes.agents.running import together
from mininetes.agents.scheduler.queue import SchedulingQueue
from mininetes.apiserver.client import Client
from mininetes.apiserver.informer import Informer

SECURE_PORT = 10259
INSECURE_PORT = 10251
"""As in releases before 1.23."""


class Scheduler(Agent):
    """kube-scheduler of one control-plane node.

    Serves /healthz, /livez, /readyz and /metrics at 10259 (TLS when a context is given) and /healthz and
    /metrics at 10251 without; of several control-plane nodes only the one with the lease schedules.
    """

    name: ClassVar[str] = "kube-scheduler"

    def __init__(
        self,
        place: Placement,
        client: Client,
        log: AgentLog,
        *,
        tls: ssl.SSLContext | None = None,
        election: ElectionTimes | None = None,
    ) -> None:
        super().__init__(place, client, log)
        self._tls = tls
        self._events = EventRecorder(client, "default-scheduler", "", log)
        self._election = LeaderElection(client, self.name, place.node, log, election)
        self._queue: SchedulingQueue | None = None
        self._counts: dict[str, int] = {"scheduled": 0, "unschedulable": 0, "error": 0}

    async def run(self) -> None:
        """Schedule while leading, until cancelled. Raises MininetesError when a port is taken."""
        self.log.info("Starting Kubernetes Scheduler", version="v1.30.0")
        async with component_ports(self.place.netns, SECURE_PORT, INSECURE_PORT, self._metrics, self._tls):
            await together([self._events.run(), self._election.lead(self._lead)])

    async def _lead(self) -> None:
        pods, nodes = Informer(self.client, "pods"), Informer(self.client, "nodes")
        self._queue = SchedulingQueue(self.client, self.log, self._events, pods, nodes, self._counts)
        try:
            await together([pods.run(), nodes.run(), self._queue.run()])
        finally:
            self._queue = None

    def _metrics(self) -> Mapping[str, Any]:
        found: dict[str, Any] = {
            f'scheduler_schedule_attempts_total{{result="{result}"}}': count for result, count in self._counts.items()
        }
        found['leader_election_master_status{name="kube-scheduler"}'] = int(self._election.leading)
        if self._queue is not None:
            found["scheduler_pending_pods"] = self._queue.pending
        return found
