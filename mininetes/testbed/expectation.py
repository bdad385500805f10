"""Who should reach whom, from the cluster's description (the Kubernetes network model).

Without a fabric, routes are for people to add: where the nodes have routes by hand that lead to each
other's pods, these pairs are expected to be reached too. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from mininetes.kernel.netstate import Route
from mininetes.probes.matrix import Expectation
from mininetes.probes.vantage import Target, Vantage


@dataclass(frozen=True)
class Basis:
    """What expectations rest on.

    ``connects_nodes``: the fabric carries pods' packets between nodes. ``masquerades_to_nodes``:
    the CNI configuration translates what pods send to nodes, so that answers find back without it.
    ``node_addresses`` and ``routes``, by node: what the nodes' main tables hold, when there is no fabric.
    """

    connects_nodes: bool
    masquerades_to_nodes: bool = False
    node_addresses: Mapping[str, str] = field(default_factory=dict)
    routes: Mapping[str, Iterable[Route]] = field(default_factory=dict)

    def leads(self, node: str, target: Target) -> bool:
        """Whether ``node`` has a route by hand that leads to the target's address by way of the target's node."""
        address = IPv4Address(target.address)
        fitting = [route for route in self.routes.get(node, ()) if address in route.destination]
        if not fitting:
            return False
        best = max(fitting, key=lambda route: route.destination.prefixlen)
        return any(str(hop.gateway) == self.node_addresses.get(target.node) for hop in best.hops)


def expect(source: Vantage, target: Target, basis: Basis) -> Expectation:
    """Say whether ``target`` should answer ``source``, and why."""
    if source.kind == "node" and target.kind == "node":
        return Expectation(True, "nodes share the underlay")
    if source.node == target.node:
        return Expectation(True, "same node")
    if basis.connects_nodes:
        return Expectation(True, "the fabric connects the nodes")
    if source.kind == "pod" and target.kind == "node" and basis.masquerades_to_nodes:
        return Expectation(True, "leaves as its node")
    return _without_fabric(source, target, basis)


def _without_fabric(source: Vantage, target: Target, basis: Basis) -> Expectation:
    # a node's own address needs no route; a pod's needs one on the other side's node
    there = target.kind == "node" or basis.leads(source.node, target)
    back = source.kind == "node" or basis.leads(target.node, source)
    if there and back:
        return Expectation(True, "routes added by hand")
    if there and target.kind == "pod":
        return Expectation(False, "a route by hand leads there, but none back")
    if back and source.kind == "pod":
        return Expectation(False, "a route by hand leads back, but none there")
    return Expectation(False, "no fabric between the nodes")
