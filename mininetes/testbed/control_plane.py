"""The control plane of a running cluster: API servers on their store, and the agents of all nodes.

host 127.0.0.1:PORT ──┐
                      ├── kube-apiserver (each control-plane node) ── store: memory, or etcd 2379/2380
node 0.0.0.0:6443   ──┘         ▲        ▲         ▲
                                │        │         │     TLS, from each node's own namespace
                         scheduler, controllers   kubelet, kube-proxy (every node), DNS (in pods)
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import TypeVar

from mininetes.agents import node_files
from mininetes.agents.agent import Agent, Placement
from mininetes.agents.cni.runtime import CniRuntime
from mininetes.agents.controllers import ControllerManager
from mininetes.agents.dns.manifests import IMAGE as DNS_IMAGE
from mininetes.agents.klog import AgentLog
from mininetes.agents.kubelet import PortServer, RunningPod
from mininetes.agents.kubelet.kubelet import Kubelet
from mininetes.agents.kubeproxy.agent import KubeProxy
from mininetes.agents.objects import SYSTEM
from mininetes.agents.scheduler import Scheduler
from mininetes.agents.shim.client import Shim
from mininetes.apiserver.client import Client, Unreachable
from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.resources import by_kind
from mininetes.counting import counted
from mininetes.errors import MininetesError
from mininetes.lab.filesystem import node_path
from mininetes.spec_sections import NodeSpec
from mininetes.testbed import credentials, node_agents
from mininetes.testbed.agent_tasks import AgentTasks, Maker, Runs
from mininetes.testbed.api_servers import ApiServers
from mininetes.testbed.blueprint import Blueprint, PodPlan
from mininetes.testbed.cluster_watch import ClusterWatch
from mininetes.testbed.credentials import Credentials
from mininetes.testbed.fabric_running import Hosts, RunningFabric
from mininetes.testbed.fabric_seats import FabricSeats
from mininetes.testbed.host_api import HostApi
from mininetes.testbed.node_leaving import delete_node, empty_node
from mininetes.testbed.node_setup import cluster_facts, write_node_files, write_packet_filters
from mininetes.testbed.proxy_seats import ProxySeats
from mininetes.testbed.ready_made import create_pods
from mininetes.testbed.reporting import Progress
from mininetes.testbed.system_objects import system_objects

log = logging.getLogger("mininetes")

READY_WITHIN_S = 120.0
_Made = TypeVar("_Made")


class ControlPlane:
    """API servers and agents of one lab. Make one, `start` it once, `close` it."""

    def __init__(
        self,
        blueprint: Blueprint,
        places: Mapping[str, Placement],
        *,
        runtimes: Mapping[str, CniRuntime],
        executor: Executor,
        port_server: PortServer,
        host_api: HostApi | None,
        fabric: RunningFabric,
        namespaces: Hosts,
    ) -> None:
        self.blueprint = blueprint
        self.spec = blueprint.spec
        self.places = dict(places)
        self.credentials = Credentials(self.places, self.spec.name)
        self.tasks = AgentTasks()
        self._runtimes = runtimes
        self._executor = executor
        self._port_server = port_server
        self._host_api = host_api
        self.fabric_seats = FabricSeats(self.spec, fabric, namespaces, executor)
        self.proxy_seats = ProxySeats(self.spec, self.tasks, executor)
        self._pod_subnets = {each.name: each.pod_subnet for each in blueprint.view.nodes}
        self._shim: Shim | None = None
        self._watch: ClusterWatch | None = None
        masters = [self.places[node.name] for node in self.spec.masters]
        self.api_servers = ApiServers(self.spec, masters, self.credentials, host_api)

    async def start(self, progress: Progress) -> None:
        """Start everything and return when it is ready: nodes, ready-made pods, DNS. Raises MininetesError."""
        progress.step("control plane")
        loop = asyncio.get_running_loop()
        preparing = loop.run_in_executor(self._executor, self._prepare_nodes)
        self._shim = await Shim.start()
        await self.api_servers.prepare()
        await preparing
        self._add_servers()
        self.tasks.start_all()
        client = self.client(self.api_servers.masters[0], credentials.ADMIN)
        await self.api_servers.wait_ready(client)
        if self._host_api is not None:
            self._host_api.publish(self.credentials.kubeconfig(self._host_api.server))
        self._watch = ClusterWatch(client, progress.trouble, self.blueprint.never_ready)
        await self._watch.start()
        self._add_agents()
        self.tasks.start_all([each for each in self.tasks.names() if each[1] != self.proxy_seats.name])
        progress.step(counted(len(self.blueprint.pods), "pod"))
        await create_pods(self._watch, self.blueprint.pods, self._attached)
        configuration = node_files.proxy_configuration_text(cluster_facts(self.spec))
        for manifest in system_objects(self.spec.network.services, configuration, self.spec.proxy.exec):
            resource = by_kind(manifest["apiVersion"], manifest["kind"])
            await client.create(resource.resource_name, manifest, SYSTEM)
        progress.step("waiting until all is ready")
        await self._watch.ready(self.places, within_s=READY_WITHIN_S, but=KubeProxy.name)
        # the proxies come last: their first rules then have all there is, and no change waits for minSyncPeriod
        progress.step(f"rules of services, {self.proxy_seats.title}")
        self.tasks.start_all()
        await self.proxy_seats.synced(self.places, within_s=READY_WITHIN_S, trouble=progress.trouble)
        await self._watch.ready(self.places, within_s=READY_WITHIN_S)
        if self.fabric_seats.weave is not None:
            await self.fabric_seats.weave.ready(self.tasks)
        self.fabric_seats.follow()

    async def switch_proxies(self, mode: str) -> None:
        """Have all nodes' kube-proxies work in another mode. Raises BadInput or MininetesError."""
        await self.proxy_seats.switch(mode, self.places, within_s=READY_WITHIN_S)

    def _prepare_nodes(self) -> None:
        write_node_files(self.spec, self.places, self.credentials, self.api_servers)
        write_packet_filters(self.spec, self.places)

    def _add_servers(self) -> None:
        for place in self.api_servers.masters:
            if self.api_servers.etcd is not None:
                self.tasks.add(place.node, "etcd", self.api_servers.etcd_maker(place), self._log(place, "etcd"))
            log = self._log(place, "kube-apiserver")
            self.tasks.add(place.node, "kube-apiserver", self.api_servers.maker(place, log), log)

    def client(self, place: Placement, user: str) -> Client:
        """A client of the API servers at a node, its own first, as one of the users."""
        own = self.api_servers.url(place)
        return Client(
            sorted(self.api_servers.urls, key=lambda url: url != own),
            token=self.credentials.token(user),
            ca_pem=self.credentials.pki.ca_pem,
            netns=place.netns,
            user_agent=user,
        )

    def _attached(self) -> set[str]:
        return {pod.title for pod in self.pods() if pod.address}

    def pods(self) -> list[RunningPod]:
        """The pods of all nodes that have a network namespace of their own, as their kubelets know them."""
        found: list[RunningPod] = []
        for node in self.places:
            kubelet = self.tasks.agent(node, Kubelet.name)
            if isinstance(kubelet, Kubelet):
                found += [pod for pod in kubelet.pods() if not pod.host_network]
        return found

    async def blocking(self, work: Sequence[Callable[[], _Made]]) -> list[_Made]:
        """Do what blocks, side by side, in threads that may enter namespaces; results in order."""
        loop = asyncio.get_running_loop()
        return list(await asyncio.gather(*(loop.run_in_executor(self._executor, each) for each in work)))

    def agent_log(self, place: Placement, name: str) -> AgentLog:
        """A log of that name, where a node has its agents' logs."""
        return self._log(place, name)

    def _log(self, place: Placement, name: str) -> AgentLog:
        wanted = self.spec.logging
        path = node_path(place.node, f"{wanted.directory}/{name}.log")
        return AgentLog(path, verbosity=wanted.levels.get(name, wanted.level))

    def _add(self, place: Placement, name: str, user: str, make: Callable[[Client, AgentLog], Runs]) -> None:
        """Give an agent its place; each instance has a client of its own, which ends with it."""
        agent_log = self._log(place, name)

        @contextlib.asynccontextmanager
        async def made() -> AsyncIterator[Runs]:
            client = self.client(place, user)
            try:
                yield make(client, agent_log)
            finally:
                await client.close()

        maker: Maker = made
        self.tasks.add(place.node, name, maker, agent_log)

    def _add_agents(self) -> None:
        settings = node_agents.controller_settings(self.blueprint, self.credentials.pki.ca_pem)
        settings = dataclasses.replace(settings, pod_subnets=self._pod_subnets)  # the same, as nodes come and go
        for node in self.spec.nodes:
            place = self.places[node.name]
            if node in self.spec.masters:
                tls = self.credentials.pki.issue(node.name, addresses=[place.address]).server_context()
                manager = partial(ControllerManager, place, settings=settings, tls=tls)
                self._add(place, ControllerManager.name, credentials.CONTROLLER_MANAGER, manager)
                self._add(place, Scheduler.name, credentials.SCHEDULER, partial(Scheduler, place, tls=tls))
            self._add_node(node, place)

    def _add_node(self, node: NodeSpec, place: Placement) -> None:
        """The agents that every node has."""
        self._add_kubelet(node, place)
        self._add_proxy(place)
        self._add_fabric(place)

    def _add_proxy(self, place: Placement) -> None:
        seats = self.proxy_seats
        if seats.is_outside:
            log = self._log(place, seats.name)
            self.tasks.add(place.node, seats.name, seats.program_maker(place, log), log)
        else:
            self._add(place, seats.name, credentials.PROXY, partial(seats.agent, place))

    async def add_node(self, blueprint: Blueprint, node: NodeSpec, place: Placement, pods: Sequence[PodPlan]) -> None:
        """Start the agents of a node that joins; returns when it and its ready-made pods are ready.

        Raises MininetesError.
        """
        assert self._watch is not None
        self.blueprint, self.spec = blueprint, blueprint.spec
        self.places[node.name] = place
        self._pod_subnets |= {each.name: each.pod_subnet for each in blueprint.view.nodes}
        self.credentials.add(credentials.kubelet_user(node.name))
        await asyncio.get_running_loop().run_in_executor(self._executor, self._prepare_nodes)
        self._add_node(node, place)
        self.tasks.start_all([each for each in self.tasks.names() if each[0] == node.name])
        await self._watch.ready([node.name], within_s=READY_WITHIN_S, with_all_pods=False)
        await create_pods(self._watch, pods, self._attached)
        await self.proxy_seats.synced(self.places, within_s=READY_WITHIN_S)
        await self._watch.ready([node.name], within_s=READY_WITHIN_S, with_all_pods=False)

    async def require_answers(self, plan: str) -> None:
        """Raises MininetesError when no API server answers; ``plan``: what a node would do, "join" or "leave"."""
        assert self._watch is not None
        try:
            await self._watch.client.get("namespaces", SYSTEM)
        except Unreachable as silent:
            raise MininetesError(f"no node can {plan} while no API server answers: {silent}") from None

    async def remove_node(self, blueprint: Blueprint, name: str, *, whatever_the_api_says: bool = False) -> list[str]:
        """Have a node's pods end, stop its agents, delete its object. Repeatable. Raises MininetesError.

        ``whatever_the_api_says``: where the API does not do its part, that is only logged. Returns the pods that
        nobody makes again.
        """
        assert self._watch is not None
        lost: list[str] = []
        try:
            lost = await empty_node(self._watch, name)
            await self.tasks.remove(name)
            await delete_node(self._watch, name)
        except (ApiError, MininetesError) as failed:
            if not whatever_the_api_says:
                raise
            await self.tasks.remove(name)
            log.warning("%s has not joined, and the API may still have it: %s", name, failed)
        self.places.pop(name, None)
        self._pod_subnets.pop(name, None)
        self.blueprint, self.spec = blueprint, blueprint.spec
        return lost

    def _add_fabric(self, place: Placement) -> None:
        seats = self.fabric_seats
        for name in seats.names(place.node):
            if self.spec.fabric.exec:
                config = self.credentials.kubeconfig(self.api_servers.server_for(place), credentials.FABRIC)
                log = self._log(place, name)
                self.tasks.add(place.node, name, seats.program_maker(place, log, config), log)
            else:
                self._add(place, name, credentials.FABRIC, partial(seats.agent, place))

    def _add_kubelet(self, node: NodeSpec, place: Placement) -> None:
        tls = self.credentials.pki.issue_kubelet(node.name, place.address).server_context()
        programs = {DNS_IMAGE: node_agents.DnsProgram(lambda name: self.client(self.places[name], credentials.DNS))}

        users = self.credentials.users

        def make(client: Client, log: AgentLog) -> Agent:
            assert self._shim is not None
            return Kubelet(
                place,
                client,
                log,
                shim=self._shim,
                executor=self._executor,
                port_server=self._port_server,
                builtins=programs,
                static_pods=node_agents.static_pods(
                    self.spec, node, self.tasks.is_alive, self.fabric_seats.names(node.name)
                ),
                options=node_agents.kubelet_options(self.spec, node),
                tls=tls,
                is_known=lambda token: token in users,
            )

        self._add(place, Kubelet.name, credentials.kubelet_user(node.name), make)

    async def close(self) -> None:
        """Stop everything; pods' processes go with it. May be called twice."""
        if self._watch is not None:
            await self._watch.close()
        await self.tasks.close()
        await self.api_servers.close()
        if self._shim is not None:
            shim, self._shim = self._shim, None
            await shim.close()
