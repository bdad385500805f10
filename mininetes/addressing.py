"""The address plan, written once.

    nodes     192.168.1.0/24     gateway .1, node N at .(10+N)        MAC 02:00 + the address
    pods      10.244.0.0/16      node N has 10.244.N.0/24: bridge cni0 at .1, pods from .2
    services  10.96.0.0/12       .1 is kubernetes, .10 is DNS
    outside   203.0.113.0/25     gateway .1, client N at .(1+N)
    blocked   203.0.113.128/25   gateway .129, client N at .(129+N)

Pure: no state, no kernel. IPv4 only for now; every type is ipaddress's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from itertools import combinations

from mininetes.counting import counted
from mininetes.errors import BadInput

NODES = IPv4Network("192.168.1.0/24")
PODS = IPv4Network("10.244.0.0/16")
SERVICES = IPv4Network("10.96.0.0/12")
LOAD_BALANCERS = IPv4Network("198.51.100.0/24")
NODE_PREFIX = 24
NODE_OFFSET = 10
"""Node N's address is this far plus N into its network: room for routers and load balancers before it."""

OUTSIDE = IPv4Network("203.0.113.0/25")
BLOCKED = IPv4Network("203.0.113.128/25")

_NOT_FOR_HOSTS = {
    "this network": IPv4Network("0.0.0.0/8"),
    "loopback": IPv4Network("127.0.0.0/8"),
    "link-local": IPv4Network("169.254.0.0/16"),
    "multicast": IPv4Network("224.0.0.0/4"),
    "reserved": IPv4Network("240.0.0.0/4"),
}

LEAST_SERVICES = 16
"""So many addresses services need at least: the tenth is the cluster's DNS."""

RESERVED_IN_POD_SUBNET = 3
"""Network, bridge and broadcast address."""


def mac_of(address: IPv4Address) -> str:
    """The MAC of the interface with this address: locally administered, unique as the address is."""
    return "02:00:" + ":".join(f"{octet:02x}" for octet in address.packed)


@dataclass(frozen=True)
class AddressPlan:
    """The networks of one cluster, and what each node gets of them."""

    nodes: IPv4Network = NODES
    pods: IPv4Network = PODS
    services: IPv4Network = SERVICES
    load_balancers: IPv4Network = LOAD_BALANCERS
    node_prefix: int = NODE_PREFIX

    def pod_subnet(self, number: int) -> IPv4Network:
        """The pods' network of node ``number`` (from 1). Raises BadInput when the pod network has no more."""
        shift = 32 - self.node_prefix
        if number >= self.pod_subnets:
            raise BadInput(
                "spec.network.pods",
                str(self.pods),
                f"room for node {number}: it has {self.pod_subnets - 1} node subnets",
            )
        return IPv4Network((int(self.pods.network_address) + (number << shift), self.node_prefix))

    @property
    def pod_subnets(self) -> int:
        """How many node subnets the pod network holds; number 0 is never given out."""
        return 1 << (self.node_prefix - self.pods.prefixlen)

    @property
    def pods_per_node(self) -> int:
        """How many pod addresses a node has."""
        return max(0, (1 << (32 - self.node_prefix)) - RESERVED_IN_POD_SUBNET)

    def ranges(self) -> Mapping[str, IPv4Network]:
        """Every range that must not overlap another, by the field that sets it."""
        return {
            "spec.network.nodes": self.nodes,
            "spec.network.pods": self.pods,
            "spec.network.services": self.services,
            "spec.network.loadBalancers": self.load_balancers,
            "the outside network": OUTSIDE,
            "the blocked outside network": BLOCKED,
        }

    def check(self, nodes: int, pods_per_node: int) -> None:
        """Raise BadInput, naming both ranges, where two overlap, or where one is too small for what is asked."""
        for (first, a), (second, b) in combinations(self.ranges().items(), 2):
            if a.overlaps(b):
                raise BadInput(first, str(a), f"a range that does not overlap {second} ({b})")
        for field, network in self.ranges().items():
            for what, special in _NOT_FOR_HOSTS.items():
                if network.overlaps(special):
                    raise BadInput(field, str(network), f"a range outside {special} ({what})")
        if not self.pods.prefixlen < self.node_prefix <= 30:
            raise BadInput(
                "spec.network.nodePrefix", self.node_prefix, f"between {self.pods.prefixlen + 1} and 30 for {self.pods}"
            )
        room, wanted = self.nodes.num_addresses - 2 - NODE_OFFSET, counted(nodes, "node")
        if nodes >= self.pod_subnets:
            raise BadInput(
                "spec.network.pods",
                str(self.pods),
                f"large enough for {wanted} with a /{self.node_prefix} each: it holds {self.pod_subnets - 1}",
            )
        if nodes > room:
            raise BadInput(
                "spec.network.nodes", str(self.nodes), f"large enough for {wanted}: from .{NODE_OFFSET + 1} on "
                f"it holds {max(0, room)}"
            )  # fmt: skip
        if pods_per_node > self.pods_per_node:
            raise BadInput(
                "spec.pods.perNode",
                pods_per_node,
                f"at most {self.pods_per_node}, the addresses that a /{self.node_prefix} has for pods",
            )
