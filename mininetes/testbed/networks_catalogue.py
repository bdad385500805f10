"""Which container networks, containers and members there are: all checks and all choices. Pure."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Any

from pydantic import ValidationError

from mininetes.errors import BadInput, one_of
from mininetes.spec_sections import DRIVERS, ContainerNetworkSpec, ContainerSpec, Described
from mininetes.testbed.networks import (
    DEFAULT_BRIDGE,
    FIRST_VNI,
    GATEWAY_BRIDGE,
    MODES,
    PREDEFINED,
    Endpoint,
    Ground,
    Network,
    Publish,
    mac_of,
)
from mininetes.testbed.networks_choice import Place, pool, settings_of, subnet_of

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
_PUBLISH = re.compile(r"(\d{1,5}):(\d{1,5})(?:/(tcp|udp))?")


@dataclass(frozen=True)
class Container:
    """A plain container: where it is, the port at which its responder answers, and what is published of it."""

    name: str
    node: str
    port: int
    publish: tuple[Publish, ...] = ()

    @property
    def title(self) -> str:
        """Its name as a member of networks and as a target of `exec`."""
        return f"container/{self.name}"


def parsed(model: type[Described], values: Mapping[str, Any], place: Place) -> Any:
    """A section of these values. Raises BadInput that names the field as ``place`` has it."""
    try:
        return model.model_validate(values)
    except ValidationError as wrong:
        problem = wrong.errors()[0]
        name = ".".join(str(part) for part in problem["loc"])
        right = str(problem["msg"]).removeprefix("Value error, ")
        raise BadInput(place.field(name), problem["input"], right[0].lower() + right[1:]) from None


@dataclass
class Catalogue:
    """What there is on a ground. Every method either does all that it says or raises BadInput and changes nothing."""

    networks: list[Network] = field(default_factory=list)
    containers: dict[str, Container] = field(default_factory=dict)
    endpoints: list[Endpoint] = field(default_factory=list)

    def copy(self) -> Catalogue:
        """One that can be changed without this one."""
        return Catalogue(list(self.networks), dict(self.containers), list(self.endpoints))

    def complete(self, ground: Ground) -> Catalogue:
        """A copy in which each node has its predefined networks, but for a docker0 whose range is taken."""
        found = self.copy()
        for node in ground.nodes:
            for name in PREDEFINED:
                with contextlib.suppress(BadInput):
                    found.predefined(name, node, ground, Place())
        return found

    # --- networks -----------------------------------------------------------------------------------------------

    def on(self, node: str) -> list[Network]:
        """The networks that a node has."""
        return [each for each in self.networks if node in each.nodes]

    def create(self, wanted: ContainerNetworkSpec, ground: Ground, place: Place) -> Network:
        """Add a network and return it with all that was chosen."""
        if not NAME.fullmatch(wanted.name):
            raise BadInput(place.field("name"), wanted.name, "up to 63 letters, digits, '_', '.' and '-'")
        if wanted.name in PREDEFINED:
            return self._declare(wanted, ground, place)
        if wanted.driver not in DRIVERS:
            right = f"one of {', '.join(DRIVERS)}; networks bridge, host and none are on every node already"
            raise BadInput(place.field("driver"), wanted.driver, right)
        nodes = self._nodes(wanted, ground, place)
        self._check_name(wanted, nodes, place)
        settings = settings_of(wanted, nodes, ground, self.networks, place)
        subnet, on_lan = subnet_of(wanted, nodes, settings, ground, self.networks, place)
        network = Network(
            name=wanted.name,
            driver=wanted.driver,
            nodes=nodes,
            subnet=subnet.network,
            gateway=subnet.gateway,
            ip_range=subnet.ip_range,
            on_lan=on_lan,
            grows=wanted.driver == "overlay" and not (wanted.nodes or wanted.node),
            vni=self._free_vni() if wanted.driver == "overlay" else 0,
            **settings,
        )
        if self._free_address(network, ground) is None:
            raise BadInput(place.field("subnet"), str(network.subnet), "a network with an address that is free")
        self.networks.append(network)
        return network

    def _declare(self, wanted: ContainerNetworkSpec, ground: Ground, place: Place) -> Network:
        """A predefined network that a cluster file wants from the start."""
        if not place.may_declare:
            right = "a name that is not predefined: bridge, host and none are on every node already"
            raise BadInput(place.field("name"), wanted.name, right)
        for name in ("subnet", "ip_range", "gateway", "options", "nodes"):
            if getattr(wanted, name):
                raise BadInput(place.field(name), None, f"left out: network {wanted.name} is predefined")
        (node,) = self._nodes(wanted, ground, place)
        return self.predefined(wanted.name, node, ground, place)

    def predefined(self, name: str, node: str, ground: Ground, place: Place) -> Network:
        """A node's predefined network, which is made now if it was not."""
        for each in self.on(node):
            if each.name == name:
                return each
        if name in ("host", "none"):
            network = Network(name, PREDEFINED[name], (node,))
        elif name == "bridge":
            bare = ContainerNetworkSpec(name=name, subnet=DEFAULT_BRIDGE)
            subnet, _ = subnet_of(bare, (node,), {}, ground, self.networks, place)
            network = Network(name, "bridge", (node,), subnet.network, subnet.gateway)
        else:
            free = pool(ground, self.on(node), "bridge", place)
            network = Network(GATEWAY_BRIDGE, "bridge", (node,), free, free.network_address + 1, icc=False)
        self.networks.append(network)
        return network

    def _nodes(self, wanted: ContainerNetworkSpec, ground: Ground, place: Place) -> tuple[str, ...]:
        if wanted.driver == "overlay" and wanted.name not in PREDEFINED:
            names = wanted.nodes or ((wanted.node,) if wanted.node else tuple(ground.nodes))
            for name in names:
                ground.node(name, place.field("nodes"))
                if names.count(name) > 1:
                    raise BadInput(place.field("nodes"), name, "each node once")
            return names
        if len(wanted.nodes) > 1 or (wanted.nodes and wanted.node):
            raise BadInput(place.field("nodes"), ", ".join(wanted.nodes), "one node, as it is no overlay")
        name = wanted.node or "".join(wanted.nodes)
        if not name:
            if len(ground.nodes) > 1:
                right = f"the network's node, one of {', '.join(ground.nodes)}: only overlays are on several"
                raise BadInput(place.field("node"), None, right)
            name = next(iter(ground.nodes))
        ground.node(name, place.field("node"))
        return (name,)

    def _check_name(self, wanted: ContainerNetworkSpec, nodes: tuple[str, ...], place: Place) -> None:
        if wanted.name == GATEWAY_BRIDGE:
            raise BadInput(
                place.field("name"), wanted.name, "another name: overlays make this network when they need it"
            )
        for each in self.networks:
            common = sorted(set(each.nodes) & set(nodes))
            if each.name == wanted.name and common:
                right = f"a name that no network of {common[0]} has"
                raise BadInput(place.field("name"), wanted.name, right)
            if each.name == wanted.name and wanted.driver == each.driver == "overlay":
                right = f"a name that no other overlay of the cluster has: one is on {', '.join(each.nodes)}"
                raise BadInput(place.field("name"), wanted.name, right)

    def _free_vni(self) -> int:
        taken = {each.vni for each in self.networks}
        return next(vni for vni in range(FIRST_VNI, FIRST_VNI + len(taken) + 1) if vni not in taken)

    def find(self, name: str, node: str | None, place: Place) -> Network:
        """A network by its name, and its node where several nodes have one of that name."""
        named = [each for each in self.networks if each.name == name]
        fitting = [each for each in named if node is None or node in each.nodes]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            nodes = ", ".join(dict.fromkeys(name for each in fitting for name in each.nodes))
            raise BadInput(place.field("node"), node, f"one of {nodes}: each has a network {name}")
        if named:
            nodes = ", ".join(dict.fromkeys(name for each in named for name in each.nodes))
            raise BadInput(place.field("network"), name, f"a network of {node}: this one is on {nodes}")
        known = ", ".join(sorted({each.name for each in self.networks} | set(PREDEFINED)))
        raise BadInput(place.field("network"), name, f"a network that there is: {known}")

    def remove(self, network: Network, place: Place) -> None:
        """Take a network away that nobody is on."""
        members = [each.owner for each in self.members(network)]
        if members:
            right = f"a network that nobody is on: it has {', '.join(members)}"
            raise BadInput(place.field("network"), network.name, right)
        if network.is_predefined:
            raise BadInput(place.field("network"), network.name, "a network that is not predefined")
        self.networks.remove(network)

    def welcome_node(self, node: str) -> None:
        """Extend to a node that joins the networks that are of all nodes. May be called twice."""
        self.networks = [
            replace(each, nodes=(*each.nodes, node)) if each.grows and node not in each.nodes else each
            for each in self.networks
        ]

    def only_on(self, node: str) -> list[Network]:
        """The networks that go with a node when it leaves, without those that every node has."""
        return [each for each in self.networks if each.nodes == (node,) and not each.is_predefined]

    def forget_node(self, node: str) -> None:
        """Take a node that leaves off its networks, and away its containers and the networks that are of no other.

        May be called twice.
        """
        self.containers = {name: each for name, each in self.containers.items() if each.node != node}
        self.endpoints = [each for each in self.endpoints if each.node != node]
        self.networks = [
            replace(each, nodes=tuple(name for name in each.nodes if name != node))
            for each in self.networks
            if each.nodes != (node,)
        ]

    def nodes_with_more(self, before: Catalogue) -> set[str]:
        """The nodes that have a network, a container or a member that they did not have."""
        return {node for node, *_ in self._whereabouts() - before._whereabouts()}

    def _whereabouts(self) -> set[tuple[str, str, str]]:
        found = {(node, each.id, "") for each in self.networks for node in each.nodes}
        found |= {(each.node, each.network.id, each.owner) for each in self.endpoints}
        return found | {(each.node, "", each.title) for each in self.containers.values()}

    # --- members ------------------------------------------------------------------------------------------------

    def members(self, network: Network) -> list[Endpoint]:
        """Who is on a network, in the order in which they came."""
        return [each for each in self.endpoints if each.network == network]

    def endpoints_of(self, owner: str) -> list[Endpoint]:
        """What a container or pod is on, in the order in which it came to be."""
        return [each for each in self.endpoints if each.owner == owner]

    def _free_address(self, network: Network, ground: Ground) -> IPv4Address | None:
        # on one wire with the networks of others: those of the underlay, and of other nodes
        others = self.endpoints if network.driver in MODES else self.members(network)
        taken = {*ground.used, *(each.address for each in others)}
        return next((each for each in network.addresses() if each not in taken), None)

    def join(
        self,
        network: Network,
        owner: str,
        node: str,
        devices: Iterable[str],
        ground: Ground,
        place: Place,
        uid: str = "",
    ) -> Endpoint:
        """Have an owner on ``node`` join; ``devices`` are those that its namespace has already."""
        mine = self.endpoints_of(owner)
        if node not in network.nodes:
            right = f"a network of {node}, where {owner} is: this one is on {', '.join(network.nodes)}"
            raise BadInput(place.field("network"), network.name, right)
        if any(each.network == network for each in mine):
            raise BadInput(place.field("network"), network.name, f"a network that {owner} is not on yet")
        alone = next(
            (each.name for each in [network, *(e.network for e in mine)] if each.driver in ("host", "null")), ""
        )
        if alone and (mine or owner.startswith("pod/")):
            right = f"no other network: who is on {alone} is on that alone" if mine else "a network that pods can join"
            raise BadInput(place.field("network"), network.name, right)
        if alone:
            endpoint = Endpoint(network, owner, node, incarnation=uid)
        else:
            address = self._free_address(network, ground)
            if address is None:
                right = f"a network with a free address: all of {network.ip_range or network.subnet} are taken"
                raise BadInput(place.field("network"), network.name, right)
            taken = {*devices, *(each.device for each in mine)}
            device = next(f"eth{n}" for n in range(len(taken) + 1) if f"eth{n}" not in taken)
            mac = "" if network.driver == "ipvlan" else mac_of(address)
            endpoint = Endpoint(network, owner, node, device, address, mac, uid)
        self.endpoints.append(endpoint)
        return endpoint

    def needs_gateway_bridge(self, owner: str) -> bool:
        """Whether all networks of an owner are overlays, so that it has no way out; a pod has its own."""
        mine = [each.network for each in self.endpoints_of(owner)]
        return owner.startswith("container/") and bool(mine) and all(each.driver == "overlay" for each in mine)

    def run(self, wanted: ContainerSpec, ground: Ground, place: Place) -> Container:
        """Add a container, which is on no network yet."""
        if not NAME.fullmatch(wanted.name):
            raise BadInput(place.field("name"), wanted.name, "up to 63 letters, digits, '_', '.' and '-'")
        if wanted.name in self.containers:
            raise BadInput(place.field("name"), wanted.name, "a name that no other container has")
        node = wanted.node or (next(iter(ground.nodes)) if len(ground.nodes) == 1 else None)
        if node is None:
            raise BadInput(place.field("node"), None, f"the container's node, one of {', '.join(ground.nodes)}")
        ground.node(node, place.field("node"))
        publish = tuple(self._publish(text, node, place) for text in wanted.publish)
        if len({(each.host_port, each.protocol) for each in publish}) < len(publish):
            raise BadInput(place.field("publish"), ", ".join(map(str, publish)), "each port of the node once")
        container = Container(wanted.name, node, wanted.port, publish)
        self.containers[wanted.name] = container
        return container

    def _publish(self, text: str, node: str, place: Place) -> Publish:
        found = _PUBLISH.fullmatch(text)
        if found is None or not all(0 < int(port) < 65536 for port in found.groups()[:2]):
            raise BadInput(place.field("publish"), text, "HOST_PORT:PORT or HOST_PORT:PORT/udp, such as 8080:80")
        made = Publish(int(found[1]), int(found[2]), found[3] or "tcp")
        for other in self.containers.values():
            for each in other.publish:
                if other.node == node and (each.host_port, each.protocol) == (made.host_port, made.protocol):
                    raise BadInput(place.field("publish"), text, f"a port that {other.title} does not have on {node}")
        return made

    def find_container(self, name: str, place: Place) -> Container:
        """A container by its name."""
        if name not in self.containers:
            known = one_of(self.containers, name, "none: there are no containers")
            raise BadInput(place.field("container"), name, known)
        return self.containers[name]

    def leave(self, owner: str) -> None:
        """Take a container or pod off all networks, and a container away. May be called twice."""
        self.containers.pop(owner.removeprefix("container/"), None)
        self.endpoints = [each for each in self.endpoints if each.owner != owner]

    # --- a whole cluster file -----------------------------------------------------------------------------------

    def enter(self, wanted: ContainerSpec, ground: Ground, place: Place) -> Container:
        """Add a container with all its networks, predefined ones among them; all or nothing."""
        before = self.copy()
        try:
            container = self.run(wanted, ground, place)
            if not wanted.networks:
                raise BadInput(place.field("networks"), None, "at least one network, such as bridge or none")
            for name in wanted.networks:
                self.join_by_name(name, container.title, container.node, (), ground, place)
            mine = [each.network for each in self.endpoints_of(container.title)]
            if self.needs_gateway_bridge(container.title):
                way_out = self.predefined(GATEWAY_BRIDGE, container.node, ground, place)
                mine.append(self.join(way_out, container.title, container.node, (), ground, place).network)
            if container.publish and not any(each.driver == "bridge" for each in mine):
                right = "left out: only of a container on a bridge network ports can be published"
                raise BadInput(place.field("publish"), ", ".join(map(str, container.publish)), right)
        except BadInput:
            self.networks, self.containers, self.endpoints = before.networks, before.containers, before.endpoints
            raise
        return container

    def join_by_name(
        self, name: str, owner: str, node: str, devices: Iterable[str], ground: Ground, place: Place, uid: str = ""
    ) -> Endpoint:
        """As `join`, by a network's name."""
        network = self.predefined(name, node, ground, place) if name in PREDEFINED else self.find(name, node, place)
        return self.join(network, owner, node, devices, ground, place, uid)


def declared(
    networks: Iterable[ContainerNetworkSpec], containers: Iterable[ContainerSpec], ground: Ground
) -> Catalogue:
    """All that a cluster file declares. Raises BadInput that names the field."""
    catalogue = Catalogue()
    for number, wanted in enumerate(networks):
        catalogue.create(wanted, ground, Place(f"spec.networks[{number}]", may_declare=True))
    for number, each in enumerate(containers):
        catalogue.enter(each, ground, Place(f"spec.containers[{number}]", may_declare=True))
    return catalogue
