"""How packets to load balancers' addresses get from outside to the nodes: routes on the gateway and on routers.

A cloud's load balancer hands each connection to one of the nodes, whose kube-proxy does the rest. Here the
gateway does it with a route of several equal ways: one node for each pair of addresses. It asks nobody whether a
node is well. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from mininetes.cluster.underlay import GATEWAY, Underlay, UnderlayHost
from mininetes.kernel.netstate import Hop, Route
from mininetes.testbed.fabric import FabricView


def with_load_balancer_routes(view: FabricView, network: IPv4Network) -> FabricView:
    """The view with routes to ``network`` by way of all nodes; as it is where the underlay has no gateway."""
    underlay = view.underlay
    if GATEWAY not in underlay.hosts:
        return view
    nodes = {node.address for node in view.nodes}
    hops: dict[str, set[Hop]] = {}
    for node in view.nodes:
        for host, way in view.way(GATEWAY, node.address):
            hops.setdefault(host, set()).update(way)
    hosts = dict(underlay.hosts)
    for name, found in hops.items():
        if name not in nodes and hosts[name].role == "router":
            hosts[name] = _with_route(hosts[name], network, _nearest(found, nodes))
    return replace(view, underlay=Underlay(hosts, underlay.switches, underlay.cables))


def _nearest(hops: Iterable[Hop], nodes: set[IPv4Address]) -> tuple[Hop, ...]:
    """The hops that are nodes themselves, else all: routers that send to each other would go in circles."""
    direct = {hop for hop in hops if hop.gateway in nodes}
    return tuple(sorted(direct or set(hops)))


def _with_route(host: UnderlayHost, network: IPv4Network, hops: tuple[Hop, ...]) -> UnderlayHost:
    return replace(host, routes=(*host.routes, Route(network, hops)))
