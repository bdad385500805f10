"""Container networks as Docker has them, and who is on them, as plain values.

    bridge   docker0, br-ID: own subnet behind the node's address, kept apart from each other
    host     the node's own namespace            none   loopback and nothing else
    macvlan  a MAC of its own on the parent's wire; never reaches the parent's node
    ipvlan   the parent's MAC; mode l2 as macvlan, mode l3 routed by the node
    overlay  one bridge on each node, joined by VXLAN (UDP 4789) between them

Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from mininetes.cluster.underlay import ANYWHERE
from mininetes.errors import BadInput, one_of
from mininetes.testbed.blueprint import Blueprint

PREDEFINED = {"bridge": "bridge", "host": "host", "none": "null"}
"""The networks that every node has, with their drivers."""

NEEDED = {"macvlan": "macvlan", "ipvlan": "ipvlan", "overlay": "vxlan"}
"""The kernel feature that a driver needs, where it is not one that every lab needs."""

GATEWAY_BRIDGE = "docker_gwbridge"
"""The bridge by which members of overlays reach what is outside; its members do not reach each other."""

MODES = {"macvlan": ("bridge", "private"), "ipvlan": ("l2", "l3")}
DEFAULT_BRIDGE = IPv4Network("172.17.0.0/16")
VXLAN_PORT = 4789
VXLAN_BYTES = 50
FIRST_VNI = 4097
LEAST_MTU = 576
"""What every host must be able to take (RFC 791)."""


@dataclass(frozen=True, eq=False)
class Network:
    """A network: of one node, or an overlay of several. ``on_lan``: its subnet is that of its parent's link.

    ``ip_range``: the part of the subnet that addresses are taken from. ``icc``: whether its members reach each other.
    ``grows``: it is of all nodes, also of those that join. It stays the same (to ``==``) when nodes join and leave.
    """

    name: str
    driver: str
    nodes: tuple[str, ...]
    subnet: IPv4Network | None = None
    gateway: IPv4Address | None = None
    ip_range: IPv4Network | None = None
    parent: str = ""
    mode: str = ""
    mtu: int = 1500
    vni: int = 0
    icc: bool = True
    on_lan: bool = False
    grows: bool = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Network) and (self.name, self.node) == (other.name, other.node)

    def __hash__(self) -> int:
        return hash((self.name, self.node))

    @property
    def node(self) -> str:
        """The node of a network that has one; "" for an overlay."""
        return "" if self.driver == "overlay" else self.nodes[0]

    @property
    def scope(self) -> str:
        """``local`` to a node, or of the whole ``cluster``."""
        return "cluster" if self.driver == "overlay" else "local"

    @property
    def id(self) -> str:
        """As long as Docker's; its first 12 digits are in device names."""
        return hashlib.sha256(f"{self.node}/{self.name}".encode()).hexdigest()

    @property
    def bridge(self) -> str:
        """The name of its bridge on each of its nodes; "" when it has none."""
        if self.driver not in ("bridge", "overlay"):
            return ""
        return {"bridge": "docker0", GATEWAY_BRIDGE: GATEWAY_BRIDGE}.get(self.name, f"br-{self.id[:12]}")

    @property
    def tunnel(self) -> str:
        """The name of an overlay's VXLAN device on each of its nodes."""
        return f"vx-{self.id[:12]}"

    @property
    def is_predefined(self) -> bool:
        """Whether the engine makes it by itself."""
        return self.name in PREDEFINED or self.name == GATEWAY_BRIDGE

    @property
    def kind(self) -> str:
        """What decides whom its members reach: the driver, and for macvlan and ipvlan the mode and whose subnet."""
        if not self.icc:
            return f"{self.driver}, icc false"
        if self.driver not in MODES:
            return "none" if self.driver == "null" else self.driver
        return f"{self.driver} {self.mode}" + ("" if self.on_lan or self.mode == "l3" else ", own subnet")

    def addresses(self) -> Iterator[IPv4Address]:
        """Those that members can have, in the order in which they are given out."""
        assert self.subnet is not None
        taken = {self.subnet.network_address, self.subnet.broadcast_address, self.gateway}
        for number in range(*_numbers(self.ip_range or self.subnet)):
            address = IPv4Address(number)
            if address not in taken:
                yield address


def _numbers(network: IPv4Network) -> tuple[int, int]:
    return int(network.network_address), int(network.broadcast_address) + 1


@dataclass(frozen=True)
class Publish:
    """A port of the node that leads to a container's, as Docker's -p."""

    host_port: int
    port: int
    protocol: str = "tcp"

    def __str__(self) -> str:
        return f"{self.host_port}:{self.port}/{self.protocol}"


@dataclass(frozen=True)
class Endpoint:
    """One membership: ``owner`` (container/NAME or pod/NAME) on ``node`` has ``device`` in its namespace.

    On host and none there is neither device nor address. ``incarnation`` tells a pod from a later one of its name.
    """

    network: Network
    owner: str
    node: str
    device: str = ""
    address: IPv4Address | None = None
    mac: str = ""
    incarnation: str = ""

    @property
    def port(self) -> str:
        """The name of the node's end of its veth pair."""
        return "veth" + hashlib.sha256(f"{self.owner}/{self.network.id}".encode()).hexdigest()[:7]


def mac_of(address: IPv4Address) -> str:
    """The MAC of a member, which Docker makes of its address too."""
    return "02:42:" + address.packed.hex(":")


@dataclass(frozen=True)
class NodeGround:
    """A node as networks find it: its address and device, its links that can be parents, and its LAN's router."""

    address: IPv4Address
    device: str
    links: Mapping[str, IPv4Interface | None]
    gateway: IPv4Address | None = None


@dataclass(frozen=True)
class Ground:
    """What networks are made on: the nodes, the ranges that are taken (by what they are), and addresses in use."""

    nodes: Mapping[str, NodeGround]
    ranges: Mapping[str, IPv4Network]
    used: frozenset[IPv4Address] = field(default_factory=frozenset)

    def node(self, name: str, place: str) -> NodeGround:
        """A node by its name. Raises BadInput."""
        if name not in self.nodes:
            raise BadInput(place, name, one_of(self.nodes, name))
        return self.nodes[name]


def ground_of(blueprint: Blueprint, links: Mapping[str, Mapping[str, IPv4Interface | None]] | None = None) -> Ground:
    """The ground of a cluster; ``links`` by node are those found in the kernel, else those of the description."""
    nodes, used = {}, set()
    ranges = dict(blueprint.spec.plan.ranges())
    for host in blueprint.underlay.hosts.values():
        for each in host.interfaces:
            if each.address is not None:
                used.add(each.address.ip)
                if not any(each.address.network.subnet_of(known) for known in ranges.values()):
                    ranges[f"the network of {host.name}'s {each.device}"] = each.address.network
        if host.role != "node":
            continue
        described = {each.device: each.address for each in host.interfaces}
        gateways = [route.hops[0].gateway for route in host.routes if route.destination == ANYWHERE]
        nodes[host.name] = NodeGround(
            host.address,
            host.interfaces[0].device,
            links[host.name] if links is not None and host.name in links else described,
            gateways[0] if gateways else None,
        )
    return Ground(nodes, ranges, frozenset(used))
