"""The container networks of a running cluster: made, joined, left and taken away, one change at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any, Protocol

from mininetes.agents.kubelet import RunningPod
from mininetes.agents.kubelet.sandbox import make_sandbox
from mininetes.agents.running import in_thread
from mininetes.cluster.net import ClusterNet
from mininetes.errors import BadInput, MininetesError, one_of
from mininetes.kernel import applier, features, rtnl
from mininetes.kernel.netns import delete_named, in_netns
from mininetes.kernel.netstate import NetState
from mininetes.kernel.packet_rules import Iptables
from mininetes.kernel.processes import Namespaces
from mininetes.lab.filesystem import netns_path
from mininetes.spec_sections import ContainerNetworkSpec, ContainerSpec
from mininetes.testbed import networks_ports
from mininetes.testbed.blueprint import Blueprint
from mininetes.testbed.networks import GATEWAY_BRIDGE, NEEDED, Endpoint, Ground, Network, ground_of
from mininetes.testbed.networks_catalogue import Catalogue, Container, declared
from mininetes.testbed.networks_choice import Place
from mininetes.testbed.networks_plan import LinkSettings, link_settings, member_state, node_state, plug_request
from mininetes.testbed.responder_ports import ResponderPorts

log = logging.getLogger("mininetes")

COMMAND_LINE = Place()


class Cluster(Protocol):
    """The cluster that has the networks."""

    blueprint: Blueprint

    def pods(self) -> list[RunningPod]:
        """The pods with a network namespace."""


class Networks:
    """All container networks of a lab, and its plain containers. Changes queue; a change that fails is undone."""

    def __init__(self, cluster: Cluster, net: ClusterNet, ports: ResponderPorts, executor: Executor) -> None:
        self._cluster = cluster
        self._net = net
        self._ports = ports
        self._executor = executor
        self._turn = asyncio.Lock()
        self.catalogue = Catalogue()
        self._leaving: set[str] = set()
        self._nodes: dict[str, NetState] = {}
        """By node: what it was given last."""
        self._links: dict[str, LinkSettings] = {}
        """By node: what its links were given last."""
        self._members: dict[str, tuple[str, NetState, tuple[Endpoint, ...]]] = {}
        """By owner: its namespace, what that was given last, and for which memberships."""

    # --- what commands ask for ----------------------------------------------------------------------------------

    async def bring_up(self, networks: Sequence[ContainerNetworkSpec], containers: Sequence[ContainerSpec]) -> None:
        """Make what a cluster file declares, which was checked for what the kernel lacks. Raises MininetesError."""
        async with self._change() as (catalogue, ground):
            made = declared(networks, containers, ground)
            catalogue.networks, catalogue.containers, catalogue.endpoints = (
                made.networks, made.containers, made.endpoints
            )  # fmt: skip
        for container in made.containers.values():
            await self._serve(container)

    async def create(self, wanted: ContainerNetworkSpec) -> Network:
        """Make a network on its nodes. Raises BadInput, MissingFeature or MininetesError."""
        async with self._change() as (catalogue, ground):
            network = catalogue.create(wanted, ground, COMMAND_LINE)
            if network.driver in NEEDED:
                await self._in_thread(features.require, [NEEDED[network.driver]])
        return network

    async def remove(self, names: Sequence[str], node: str | None) -> None:
        """Take networks away that nobody is on: all of them or none. Raises BadInput or MininetesError."""
        async with self._change() as (catalogue, _):
            for name in names:
                catalogue.remove(catalogue.find(name, node, COMMAND_LINE), COMMAND_LINE)

    async def run(self, wanted: ContainerSpec) -> Container:
        """Start a container on its networks. Raises BadInput, or MininetesError when its port is taken."""
        async with self._change() as (catalogue, ground):
            container = catalogue.enter(wanted, ground, COMMAND_LINE)
        try:
            await self._serve(container)
        except BaseException:
            await self._end(container)
            raise
        return container

    async def _serve(self, container: Container) -> None:
        """Have the responder answer at the container's port, and at those that are published. Raises MininetesError."""
        ports = [(container.port, "TCP"), (container.port, "UDP")]
        ports += sorted({(each.port, each.protocol.upper()) for each in container.publish} - set(ports))
        netns = self._netns(container, self.catalogue)
        try:
            await self._ports.serve(container.title, node=container.node, netns=netns, ports=ports)
        except MininetesError:
            self._require_there(container)
            raise
        self._require_there(container)

    def _require_there(self, container: Container) -> None:
        if self.catalogue.containers.get(container.name) is not container:
            if container.node in self._leaving:
                raise MininetesError(f"{container.node} is leaving")
            raise MininetesError(f"{container.title} was removed as it started")

    async def stop(self, name: str) -> None:
        """End a container and all its memberships. Raises BadInput when there is none of that name."""
        await self._end(self.catalogue.find_container(name, COMMAND_LINE))

    async def _end(self, container: Container) -> None:
        """End a container that may have gone meanwhile, and never another that came and has its name."""
        async with self._change() as (catalogue, _):
            if catalogue.containers.get(container.name, container) is container:
                await self._ports.stop(container.title)
                catalogue.leave(container.title)

    async def connect(self, name: str, owner: str) -> Endpoint:
        """Have a container or a pod (pod/NAME) join one network more. Raises BadInput or MininetesError."""
        async with self._change() as (catalogue, ground):
            owner, node, netns, uid = self._find_owner(owner)
            with in_netns(netns):
                devices = [device for _, device in socket.if_nameindex()]
            endpoint = catalogue.join_by_name(name, owner, node, devices, ground, COMMAND_LINE, uid)
            if catalogue.needs_gateway_bridge(owner):
                way_out = catalogue.predefined(GATEWAY_BRIDGE, node, ground, COMMAND_LINE)
                catalogue.join(way_out, owner, node, [*devices, endpoint.device], ground, COMMAND_LINE, uid)
        return endpoint

    async def disconnect(self, name: str, owner: str) -> None:
        """Have a container or a pod leave a network. Raises BadInput or MininetesError."""
        async with self._change() as (catalogue, _):
            owner = self._find_owner(owner)[0]
            mine = [each for each in catalogue.endpoints_of(owner) if each.network.name == name]
            if not mine:
                names = ", ".join(each.network.name for each in catalogue.endpoints_of(owner)) or "none"
                raise BadInput("NETWORK", name, f"a network that {owner} is on: {names}")
            if mine[0].network.driver == "host":
                raise BadInput("NETWORK", name, "another network: who is on host has no namespace of its own")
            catalogue.endpoints.remove(mine[0])
            left = [each for each in catalogue.endpoints_of(owner) if each.network.driver == "overlay"]
            if not left:  # the way out that came with overlays goes with them
                catalogue.endpoints = [
                    each for each in catalogue.endpoints if (each.owner, each.network.name) != (owner, GATEWAY_BRIDGE)
                ]

    async def welcome_node(self, node: str) -> None:
        """Give a node that has joined the overlays that are of all nodes. Raises MininetesError."""
        async with self._change() as (catalogue, _):
            catalogue.welcome_node(node)

    @contextlib.contextmanager
    def leaving(self, node: str) -> Iterator[None]:
        """While it lasts, nothing new comes to this node: what is asked for there raises MininetesError."""
        self._leaving.add(node)
        try:
            yield
        finally:
            self._leaving.discard(node)

    async def forget_node(self, node: str) -> tuple[list[Container], list[Network]]:
        """End what containers and networks a node has, as it leaves, and say which. Raises MininetesError."""
        async with self._change() as (catalogue, _):
            containers = [each for each in catalogue.containers.values() if each.node == node]
            networks = catalogue.only_on(node)
            catalogue.forget_node(node)
            for container in containers:
                await self._ports.stop(container.title)
        self._nodes.pop(node, None)
        self._links.pop(node, None)
        return containers, networks

    @contextlib.asynccontextmanager
    async def guests(self, wanted: Sequence[ContainerSpec]) -> AsyncIterator[list[tuple[Endpoint, str]]]:
        """Containers, each with its first membership and its namespace; those that publish a port answer there.

        At the block's end they go, with the predefined networks that were made for them. Raises as `run`.
        """
        found, names = [], []
        before = list(self.catalogue.networks)
        async with self._change() as (catalogue, ground):
            for each in wanted:
                name = each.name
                while name in catalogue.containers:
                    name += "-"
                container = catalogue.enter(each.model_copy(update={"name": name}), ground, COMMAND_LINE)
                first = catalogue.endpoints_of(container.title)[0]
                found.append((first, self._netns(container, catalogue)))
                names.append(name)
        publishing = [guest for name in names if (guest := self.catalogue.containers[name]).publish]
        try:
            for guest in publishing:
                await self._serve(guest)
            yield found
        finally:
            for guest in publishing:
                await self._ports.stop(guest.title)
            async with self._change() as (catalogue, _):
                for name in names:
                    catalogue.leave(f"container/{name}")
                catalogue.networks = [
                    each
                    for each in catalogue.networks
                    if each in before or not each.is_predefined or catalogue.members(each)
                ]

    async def ground(self) -> Ground:
        """What networks can be made on now, with the links that the nodes have."""
        blueprint = self._cluster.blueprint
        nodes = [node.name for node in blueprint.spec.nodes if self._is_alive(node.name)]
        found = await self._in_thread(lambda: {node: networks_ports.parents(self._net.netns(node)) for node in nodes})
        return ground_of(blueprint, found)

    def _is_alive(self, node: str) -> bool:
        """Whether a node's namespace is still there: of one that died, nothing is to be done."""
        return os.path.exists(self._net.netns(node))

    async def complete(self) -> Catalogue:
        """All networks there are, with the predefined ones of each node, made or not."""
        async with self._turn:
            self._drop_gone_pods()
            return self.catalogue.complete(await self.ground())

    def netns_of(self, container: Container) -> str:
        """A container's namespace, as the engine opens it."""
        return self._netns(container, self.catalogue)

    # --- a change -----------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _change(self) -> AsyncIterator[tuple[Catalogue, Ground]]:
        """Work on a copy of the catalogue; at the block's end the kernel follows, or else all is as it was."""
        async with self._turn:
            self._drop_gone_pods()
            ground = await self.ground()
            before = self.catalogue
            after = before.copy()
            yield after, ground
            for node in sorted(self._leaving & after.nodes_with_more(before)):
                raise MininetesError(f"{node} is leaving")
            try:
                await self._in_thread(self._bring, after, ground)
            except BaseException:
                try:
                    await self._in_thread(self._bring, before, ground)
                except (MininetesError, OSError) as failed:
                    log.error("a change of container networks could not be undone: %s", failed)
                raise
            self.catalogue = after

    def _drop_gone_pods(self) -> None:
        there = {(f"pod/{pod.title}", _incarnation(pod)) for pod in self._cluster.pods()}
        kept = [
            each
            for each in self.catalogue.endpoints
            if each.owner.startswith("container/") or (each.owner, each.incarnation) in there
        ]
        for each in self.catalogue.endpoints:
            if each not in kept:
                self._members.pop(each.owner, None)
        self.catalogue.endpoints = kept

    def _bring(self, wanted: Catalogue, ground: Ground) -> None:
        """Make nodes and namespaces as the catalogue has it. Blocks; finishes the work when called again."""
        owners = {container.title: self._netns(container, wanted) for container in wanted.containers.values()}
        pods = {f"pod/{pod.title}": pod.netns for pod in self._cluster.pods()}
        owners |= {each.owner: pods[each.owner] for each in wanted.endpoints if each.owner in pods}
        for owner in [owner for owner in self._members if owner not in owners]:
            self._end_member(owner)
        for _, _, had in list(self._members.values()):
            for each in had:
                if each not in wanted.endpoints:
                    self._unplug(each)
        nodes = {*self._nodes, *(node for network in wanted.networks for node in network.nodes)}
        changed = self._apply_nodes(sorted(nodes & set(ground.nodes)), wanted, ground)
        for owner, netns in owners.items():
            self._bring_member(owner, netns, tuple(wanted.endpoints_of(owner)))
        for node, settings in changed.items():
            for change in networks_ports.apply(self._net.netns(node), settings):
                log.info("%s: %s", node, change)
            self._links[node] = settings

    def _apply_nodes(self, nodes: Sequence[str], wanted: Catalogue, ground: Ground) -> dict[str, LinkSettings]:
        """Bring the nodes that get anything else than they had, drift included; what their links are to get then."""
        changed = {}
        for node in nodes:
            before, after = self._nodes.get(node, NetState()), node_state(node, wanted, ground)
            settings = link_settings(node, wanted)
            if (before, self._links.get(node, LinkSettings())) == (after, settings) or not self._is_alive(node):
                continue
            self._links.pop(node, None)  # until it is done, they may have either
            changed[node] = settings
            place = self._net.holders[node]
            iptables = Iptables(Namespaces(of_pid=place), self._cluster.blueprint.spec.proxy.backend)
            # until it is done, both may be there: what is asked for next takes either away
            self._nodes[node] = before.merged(after)
            for change in applier.apply(self._net.netns(node), after, before, iptables=iptables):
                log.info("%s: %s", node, change)
            self._nodes[node] = after
        return changed

    def _bring_member(self, owner: str, netns: str, endpoints: tuple[Endpoint, ...]) -> None:
        known = self._members.get(owner)
        if known is not None and known[2] == endpoints:
            return
        before = known[1] if known is not None else NetState()
        if any(each.network.driver == "host" for each in endpoints):
            self._members[owner] = netns, NetState(), endpoints
            return
        if owner.startswith("container/") and not os.path.exists(netns):
            make_sandbox(netns)
        self._members[owner] = netns, before, endpoints
        for each in endpoints:
            if each.device and (known is None or each not in known[2]):
                self._plug(each, netns)
        after = member_state(owner, endpoints)
        applier.apply(netns, after, before)
        self._members[owner] = netns, after, endpoints

    def _end_member(self, owner: str) -> None:
        netns, _, endpoints = self._members.pop(owner)
        for each in endpoints:
            self._unplug(each, netns)
        if owner.startswith("container/") and not any(each.network.driver == "host" for each in endpoints):
            delete_named(netns)

    def _plug(self, endpoint: Endpoint, netns: str) -> None:
        """Put a member's device into its namespace."""
        network, node = endpoint.network, self._net.netns(endpoint.node)
        with in_netns(node):
            lower = socket.if_nametoindex(network.bridge or network.parent)
        inside = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with rtnl.Rtnl(node) as kernel:
                kernel.batch([plug_request(endpoint, lower, inside)])
        finally:
            os.close(inside)
        if not network.bridge:
            with in_netns(netns):
                index = socket.if_nametoindex(endpoint.port)
            with rtnl.Rtnl(netns) as kernel:
                kernel.batch([rtnl.rename(index, endpoint.device)])

    def _unplug(self, endpoint: Endpoint, netns: str | None = None) -> None:
        """Take a member's device away; does nothing when it has gone."""
        if not endpoint.device:
            return
        path = netns or self._members[endpoint.owner][0]
        if not os.path.exists(path):
            return
        with in_netns(path):
            indexes = {name: index for index, name in socket.if_nameindex()}
        if endpoint.device in indexes:
            with rtnl.Rtnl(path) as kernel:
                kernel.batch([rtnl.delete_link(indexes[endpoint.device], endpoint.device)])

    # --- where things are ---------------------------------------------------------------------------------------

    def _netns(self, container: Container, catalogue: Catalogue) -> str:
        """A container's namespace: its own (a name that no pod can have), or the node's."""
        networks = [each.network.driver for each in catalogue.endpoints_of(container.title)]
        if "host" in networks:
            return self._net.netns(container.node)
        return netns_path(container.node, f"container:{container.name}")

    def _find_owner(self, name: str) -> tuple[str, str, str, str]:
        """Title, node, namespace and incarnation of a container (NAME or container/NAME) or pod (pod/NAME)."""
        if name.startswith("pod/"):
            pods = {f"pod/{pod.title}": pod for pod in self._cluster.pods()}
            if name not in pods:
                raise BadInput("pod", name, one_of(pods, name, "none: there are no pods"))
            pod = pods[name]
            if pod.host_network:
                raise BadInput("pod", name, "a pod with a network namespace of its own")
            return name, pod.node, pod.netns, _incarnation(pod)
        container = self.catalogue.find_container(name.removeprefix("container/"), COMMAND_LINE)
        return container.title, container.node, self._netns(container, self.catalogue), ""

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await in_thread(self._executor, work, *arguments)


def _incarnation(pod: RunningPod) -> str:
    return f"{pod.uid}/{pod.address}"
