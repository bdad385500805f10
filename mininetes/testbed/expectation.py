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
from mininetes.testbed.wire import Wire

MOST_HOPS = 16


@dataclass(frozen=True)
class Basis:
    """What expectations rest on.

    ``connects_nodes``: the fabric carries pods' packets between nodes. ``masquerades_to_nodes``:
    the CNI configuration translates what pods send to nodes, so that answers find back without it.
    ``hosts`` by address, and ``routes`` by host: nodes and routers with what their main tables hold,
    when there is no fabric, or pairs of nodes (both ways) are ``apart`` in spite of it. Rules, and routes
    that forbid, are not looked at. ``wire``: where pods' links are on the nodes' own wire.
    """

    connects_nodes: bool
    masquerades_to_nodes: bool = False
    apart: frozenset[tuple[str, str]] = frozenset()
    hosts: Mapping[str, str] = field(default_factory=dict)
    routes: Mapping[str, Iterable[Route]] = field(default_factory=dict)
    wire: Wire | None = None

    def leads(self, node: str, target: Target) -> bool:
        """Whether routes lead from ``node`` to the target's address by way of the target's node, over any others."""
        address, here = IPv4Address(target.address), node
        for _ in range(MOST_HOPS):
            if here == target.node:
                return True
            fitting = [route for route in self.routes.get(here, ()) if address in route.destination]
            best = max(fitting, key=lambda route: route.destination.prefixlen, default=None)
            following = self.hosts.get(str(best.hops[0].gateway)) if best is not None else None
            if following is None:
                return False
            here = following
        return False


def expect(source: Vantage, target: Target, basis: Basis) -> Expectation:
    """Say whether ``target`` should answer ``source``, and why."""
    if source.kind == "node" and target.kind == "node":
        return Expectation(True, "nodes share the underlay")
    if basis.wire is not None and (said := basis.wire.expect(source, target)) is not None:
        return said
    if source.node == target.node:
        return Expectation(True, "same node")
    if basis.connects_nodes and (source.node, target.node) not in basis.apart:
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
    if basis.connects_nodes:
        return Expectation(False, "the fabric does not connect these nodes")
    return Expectation(False, "no fabric between the nodes")
