"""A running cluster, inside its lab: bring-up, what is there, probes, and the look for drift."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mininetes import parts
from mininetes.agents.agent import Placement
from mininetes.agents.cni.runtime import CniRuntime
from mininetes.agents.kubelet import RunningPod
from mininetes.agents.objects import SYSTEM
from mininetes.cluster.net import ClusterNet
from mininetes.cluster.underlay import GATEWAY
from mininetes.counting import counted
from mininetes.errors import MininetesError
from mininetes.kernel import applier
from mininetes.kernel.netstate import Change
from mininetes.kernel.processes import let_thread_enter
from mininetes.lab.engine_side import InitSocket
from mininetes.lab.filesystem import node_path
from mininetes.probes.responder_client import Responder
from mininetes.probes.sender import Prober
from mininetes.probes.vantage import Vantage
from mininetes.spec import ClusterSpec
from mininetes.testbed import neighbours, pods
from mininetes.testbed.agent_tasks import AgentTasks
from mininetes.testbed.blueprint import Blueprint
from mininetes.testbed.blueprint_changes import Joining
from mininetes.testbed.expectation import Basis
from mininetes.testbed.fabric_running import RunningFabric
from mininetes.testbed.host_api import HostApi
from mininetes.testbed.membership import Membership
from mininetes.testbed.networks_running import Networks
from mininetes.testbed.reporting import Progress
from mininetes.testbed.responder_ports import ResponderPorts

if TYPE_CHECKING:
    from mininetes.testbed.control_plane import ControlPlane
    from mininetes.testbed.weave_seats import WeaveSeats

log = logging.getLogger("mininetes")

POD_WORKERS = 4
"""Pods that are made at the same time: the kernel makes links one by one in any case."""
_FEW_PODS = 50
"""With more of them both processors have enough to do until they are there."""
_PODS_AT_ONCE = 5
"""So many are made between two looks at the event loop."""

ATTACH_FILE = "/run/mininetes/cluster.json"
"""In the lab: what a second process needs to work with the running network (the Mininet command line)."""


class Testbed:
    """A cluster in this lab. Make one, `bring_up` once, use it, `close`.

    Everything it makes is owned by the lab's namespaces: closing stops its helpers, and the kernel
    takes away the rest with the lab.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        init: InitSocket,
        neighbour_limit: int = 1024,
        host_api: HostApi | None = None,
    ) -> None:
        self.blueprint = blueprint
        self._host_api = host_api
        self.neighbour_limit = neighbour_limit
        """The kernel's gc_thresh3: one table for all namespaces of the machine, which only the host can read."""
        self._init = init
        self._workers = ThreadPoolExecutor(POD_WORKERS, thread_name_prefix="pods", initializer=let_thread_enter)
        self.net: ClusterNet | None = None
        self.fabric: RunningFabric | None = None
        self.control_plane: ControlPlane | None = None
        self.membership: Membership | None = None
        """Adds nodes and takes them away, once the cluster is up."""
        self.networks: Networks | None = None
        self._first = blueprint.spec
        self._tasks = AgentTasks()
        self._weave: WeaveSeats | None = None
        self._pods: dict[str, RunningPod] = {}
        self.prober = Prober()
        self._responder: Responder | None = None
        self._runtimes: dict[str, CniRuntime] = {}
        self._settled: tuple[frozenset[str], int] = (frozenset(), 0)
        self._preparing: asyncio.Task[None] | None = None
        self.ready_s: float | None = None
        """How long `bring_up` took."""

    @property
    def spec(self) -> ClusterSpec:
        """The description, with the nodes that there are now."""
        return self.blueprint.spec

    async def bring_up(self, progress: Progress | None = None, nodes_held: Callable[[], None] = lambda: None) -> None:
        """Build all of it and return when it is ready: the first probe of every pair gets through.

        ``progress`` hears how it goes; ``nodes_held`` is called once PID 1 is no longer asked for
        anything, so that its socket is free for other messages. Raises MininetesError that names the step which failed.
        """
        start = time.monotonic()
        progress = progress or Progress()
        progress.step("nodes and links")
        loop = asyncio.get_running_loop()
        if len(self.blueprint.pods) <= _FEW_PODS:
            self._prepare()
        await loop.run_in_executor(self._workers, self._make_network)
        nodes_held()
        progress.step(f"fabric {self.spec.fabric.title}")
        await loop.run_in_executor(self._workers, self._apply_fabric)
        self._responder = await Responder.start()
        if self.spec.masters:
            # its libraries take half a second, for which a lab without it need not wait
            from mininetes.testbed.control_plane import ControlPlane  # noqa: PLC0415

            self.control_plane = ControlPlane(
                self.blueprint,
                self.places(),
                runtimes=self._runtimes,
                executor=self._workers,
                port_server=ResponderPorts(self._responder),
                host_api=self._host_api,
                fabric=self._running_fabric(),
                namespaces=self._network(),
            )
            await self.control_plane.start(progress)
        else:
            await self._start_agents_alone()
            progress.step(counted(len(self.blueprint.pods), "pod"))
            await self._make_pods()
        self.membership = Membership(
            self, self._init, self._network(), self._running_fabric(), self._runtimes, self._workers
        )
        self.networks = Networks(self, self._network(), ResponderPorts(self._responder), self._workers)
        if self.spec.networks or self.spec.containers:
            progress.step("container networks")
            await self.networks.bring_up(self.spec.networks, self.spec.containers)
        self.ready_s = time.monotonic() - start
        if self._preparing is None:
            self._prepare()
        log.info("ready after %.2f s", self.ready_s)

    def _prepare(self) -> None:
        """The first probe would else wait for scapy: half a second of a processor."""
        self._preparing = asyncio.get_running_loop().create_task(self.prober.prepare())

    def _make_network(self) -> None:
        underlay = self.blueprint.underlay
        names = list(underlay.hosts)
        holders = dict(zip(names, self._init.hold_nodes(names), strict=True))
        self.net = ClusterNet(self.blueprint.topo, underlay, holders)
        self.net.realize()
        self.note_hosts()
        for node in self.spec.nodes:
            self.blueprint.install_cni(node.name)
            self._runtimes[node.name] = CniRuntime(node.name, holders[node.name])

    def note_hosts(self) -> None:
        """Write /etc/hosts of all hosts, and what a second process needs to attach. Blocks."""
        net = self._network()
        hosts = self.blueprint.underlay.hosts
        text = "".join(f"{host.address}\t{host.name}\n" for host in hosts.values())
        for name in hosts:
            with open(node_path(name, "/etc/hosts"), "w") as file:
                file.write(f"127.0.0.1\tlocalhost\n{text}")
        facts: dict[str, Any] = {"spec": self._first.model_dump(mode="json", by_alias=True), "changes": []}
        facts |= {"holders": net.holders, "parts": [str(folder) for folder in parts.used()]}
        facts["files"] = list(self.blueprint.files.values())
        if self.membership is not None:
            facts["changes"] = self.membership.changes
            facts["holders"] = {**self.membership.holders_before, **net.holders}
        with open(ATTACH_FILE, "w") as file:
            json.dump(facts, file)

    async def settle_in(self, joining: Joining) -> None:
        """Without a control plane: start what runs on a node that joins, and make its pods."""
        node = joining.node.name
        if self._weave is not None:
            self._weave.add_alone(self._tasks, [self.places()[node]])
            self._tasks.start_all()
            await self._weave.ready(self._tasks)
        await self._make_pods_of(node, asyncio.Semaphore(1))

    async def clear_out(self, node: str) -> list[str]:
        """Without a control plane: end what runs on a node, and its pods, which are returned."""
        assert self._responder is not None
        loop = asyncio.get_running_loop()
        plans = [plan for plan in self.blueprint.pods if plan.node == node and plan.name in self._pods]
        for plan in plans:
            await ResponderPorts(self._responder).stop(self._pods[plan.name].title)
            await loop.run_in_executor(self._workers, pods.delete, plan, self._runtimes[node])
            del self._pods[plan.name]
        await self._tasks.remove(node)
        if self._weave is not None:
            self._weave.left(self._tasks, node)
        return [plan.name for plan in plans]

    def container_networks(self) -> Networks:
        """The container networks of the nodes. Raises MininetesError before the cluster is up."""
        if self.networks is None:
            raise MininetesError(f"lab {self.spec.name} is not up yet")
        return self.networks

    def _network(self) -> ClusterNet:
        if self.net is None:
            raise MininetesError("the cluster is not up")
        return self.net

    def places(self) -> dict[str, Placement]:
        """Where each node's agents work."""
        net = self._network()
        return {
            each.name: Placement(each.name, str(each.address), net.netns(each.name), net.holders[each.name])
            for each in self.blueprint.view.nodes
        }

    def _apply_fabric(self) -> None:
        blueprint = self.blueprint
        fabric = RunningFabric(blueprint.fabric, blueprint.view, self._network(), self.spec.proxy.backend)
        for host in blueprint.states:
            for change in fabric.bring(host, blueprint.view.nodes).changes:
                log.info("%s: %s", host, change)
        self.fabric = fabric

    def _running_fabric(self) -> RunningFabric:
        if self.fabric is None:
            raise MininetesError("the fabric is not up")
        return self.fabric

    async def _start_agents_alone(self) -> None:
        """Of the agents, those that need no control plane."""
        if self.blueprint.fabric.is_weave:
            from mininetes.testbed.weave_seats import WeaveSeats  # noqa: PLC0415 - with libraries that few labs need

            seats = self._weave = WeaveSeats(self.spec, self._running_fabric())
            seats.add_alone(self._tasks, self.places().values())
            self._tasks.start_all()
            await seats.ready(self._tasks)

    @property
    def tasks(self) -> AgentTasks:
        """The agents of all nodes."""
        return self.control_plane.tasks if self.control_plane is not None else self._tasks

    async def _make_pods(self) -> None:
        # One node's pods one after the other, so that addresses follow names; nodes side by side.
        turn = asyncio.Semaphore(POD_WORKERS)
        await asyncio.gather(*(self._make_pods_of(node.name, turn) for node in self.spec.nodes))

    async def _make_pods_of(self, node: str, turn: asyncio.Semaphore) -> None:
        loop, runtime = asyncio.get_running_loop(), self._runtimes[node]
        plans = [plan for plan in self.blueprint.pods if plan.node == node]
        for begin in range(0, len(plans), _PODS_AT_ONCE):
            some = plans[begin : begin + _PODS_AT_ONCE]
            async with turn:
                made = await loop.run_in_executor(self._workers, pods.create_some, some, runtime, self._pods)
            await self.port_server.serve_all(made)

    @property
    def port_server(self) -> ResponderPorts:
        """The lab's responder, for whatever is to answer in a pod. The lab must be up."""
        assert self._responder is not None
        return ResponderPorts(self._responder)

    async def settle_neighbours(self) -> int:
        """Have pods and nodes know each other's MACs for good when a full matrix would overflow the kernel's table.

        Permanent entries do not count against its limit. Returns how many there are; does its work
        again when the pods are others. Raises MininetesError when the CNI plugins did not say which MACs they gave.
        """
        running = self._measured_pods()
        known = frozenset(f"{pod.title} {pod.uid} {pod.address}" for pod in running)
        if self._settled[0] != known:
            flat = self.blueprint.fabric.is_flat
            count = neighbours.number(self.blueprint.view, running, flat=flat)
            if count <= self.neighbour_limit // 2:
                return 0
            entries = neighbours.permanent_entries(self.blueprint.view, running, flat=flat)
            loop = asyncio.get_running_loop()
            places = {host: self._network().netns(host) for host in self.blueprint.underlay.hosts}
            places |= {f"pod/{pod.title}": pod.netns for pod in running}
            work = [
                loop.run_in_executor(self._workers, neighbours.install, places[owner], lines)
                for owner, lines in entries.items()
            ]
            await asyncio.gather(*work)
            self._settled = (known, count)
        return self._settled[1]

    def drift(self) -> Mapping[str, list[Change]]:
        """What differs between the kernel and what underlay and fabric declared; hosts without drift are left out."""
        fabric = self._running_fabric()
        found = {}
        for host, description in fabric.underlay.hosts.items():
            changes = fabric.drift(host, description.state())
            if changes:
                found[host] = changes
        return found

    def pods(self) -> list[RunningPod]:
        """The pods with a network namespace of their own: ready-made ones in their order, then the others by name."""
        found = self.control_plane.pods() if self.control_plane is not None else list(self._pods.values())
        order = {plan.name: number for number, plan in enumerate(self.blueprint.pods)}
        return sorted(found, key=lambda pod: (order.get(pod.title, len(order)), pod.title))

    def _measured_pods(self) -> list[RunningPod]:
        """The pods that measurements ask: those that are ready, without the cluster's own."""
        return [pod for pod in self.pods() if pod.ready and pod.namespace != SYSTEM]

    def vantages(self, *kinds: str) -> list[Vantage]:
        """Where probes can start and end, nodes first: of these kinds, or all ("node", "pod", "outside")."""
        net = self._network()
        underlay = self.blueprint.underlay
        found = [Vantage(n.name, "node", n.name, str(n.address), net.netns(n.name)) for n in self.blueprint.view.nodes]
        found += [Vantage(f"pod/{p.title}", "pod", p.node, p.address, p.netns) for p in self._measured_pods()]
        found += [
            Vantage(host.name, "outside", "", str(host.address), net.netns(host.name))
            for host in underlay.with_role("client")
        ]
        return [each for each in found if not kinds or each.kind in kinds]

    def basis(self) -> Basis:
        """What is to be expected of pairs: the description, and without a fabric the routes that people added."""
        blueprint, net = self.blueprint, self._network()
        fabric = self._running_fabric()
        plan = fabric.plan(fabric.members)
        masquerades = blueprint.masquerades_to_nodes or plan.masquerades
        wire = blueprint.wire({f"pod/{pod.title}": pod.result for pod in self.pods()})
        declared = Basis(blueprint.connects_nodes, masquerades, plan.apart, wire=wire)
        if declared.connects_nodes and not declared.apart:
            return declared
        forwarding = [host for host in blueprint.underlay.hosts.values() if host.role in ("node", "router")]
        hosts = {str(each.address.ip): host.name for host in forwarding for each in host.interfaces if each.address}
        routes = {host.name: applier.read(net.netns(host.name), {}).routes for host in forwarding}
        return replace(declared, hosts=hosts, routes=routes)

    def status(self) -> dict[str, Any]:
        """What is there, as plain JSON: nodes with their addresses, pods with theirs, the rest of the underlay."""
        net = self._network()
        flat = self.blueprint.fabric.is_flat
        nodes = self.blueprint.view.nodes
        subnets = {each.name: str(self.spec.network.pods if flat else each.pod_subnet) for each in nodes}
        roles = {node.name: node.role for node in self.spec.nodes}
        hosts = [
            {
                "name": host.name,
                "role": roles.get(host.name, host.role),
                "address": str(host.address),
                "mac": host.interfaces[0].mac,
                "podSubnet": subnets.get(host.name),
                "pid": net.holders[host.name],
            }
            for host in self.blueprint.underlay.hosts.values()
        ]
        return {
            "name": self.spec.name,
            "underlay": self.spec.underlay_name,
            "fabric": self.spec.fabric.title,
            "cni": self.spec.cni,
            "readySeconds": self.ready_s,
            "hosts": hosts,
            "pods": [
                {
                    "name": pod.title,
                    "node": pod.node,
                    "address": pod.address,
                    "port": pod.ports[0][0] if pod.ports else None,
                    "netns": pod.netns,
                    "pid": pod.pause_pid,
                    "ready": pod.ready,
                }
                for pod in self.pods()
            ],
            "gateway": GATEWAY if GATEWAY in self.blueprint.underlay.hosts else None,
        }

    async def close(self) -> None:
        """Stop the control plane, prober and responder. May be called twice."""
        if self._preparing is not None:
            await asyncio.gather(self._preparing, return_exceptions=True)
        if self.control_plane is not None:
            await self.control_plane.close()
        await self._tasks.close()
        await self.prober.close()
        if self._responder is not None:
            await self._responder.close()
            self._responder = None
        self._workers.shutdown(wait=False, cancel_futures=True)
