"""What a fabric is told, and what is expected of it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import ModuleType
from typing import Any

from mininetes import parts
from mininetes.addressing import mac_of
from mininetes.cluster.underlay import ANYWHERE, LINK_MTU, Underlay
from mininetes.errors import BadInput, MininetesError
from mininetes.kernel.netstate import Hop, NetState

_MOST_ROUTERS = 16

UNDERLAY_MTU = LINK_MTU
"""Of the underlay's links, where it says nothing else."""

LEAST_POD_MTU = 576
"""What every host must be able to take (RFC 791)."""


@dataclass(frozen=True)
class FabricNode:
    """A node as a fabric sees it."""

    name: str
    address: IPv4Address
    device: str
    pod_subnet: IPv4Network

    @property
    def tunnel_mac(self) -> str:
        """The MAC of the node's end of a tunnel, whose address is the pod subnet's first."""
        return mac_of(self.pod_subnet.network_address)


@dataclass(frozen=True)
class FabricView:
    """What a fabric's plan is made from: the nodes with their pod subnets, and the underlay between them."""

    nodes: tuple[FabricNode, ...]
    underlay: Underlay
    pod_network: IPv4Network
    mtu: int = UNDERLAY_MTU

    def way(self, source: str, address: IPv4Address) -> list[tuple[str, tuple[Hop, ...]]]:
        """Each host that forwards to ``address`` on the way from ``source``, with its next hops.

        Where several equal ways are there, all of their hosts. Raises MininetesError when the
        underlay has no way, or one in a circle.
        """
        found: dict[str, tuple[Hop, ...]] = {}
        end = self.underlay.at(address)
        waiting = [source]
        while waiting:
            name = waiting.pop(0)
            host = self.underlay.hosts[name]
            if name in found or host is end:
                continue
            hops = host.hops_to(address)
            if not hops or len(found) > _MOST_ROUTERS:
                raise MininetesError(f"the underlay has no way from {source} to {address}: it ends at {name}")
            found[name] = hops
            for hop in hops:
                next_host = self.underlay.at(hop.gateway) if hop.gateway else None
                if next_host is None:
                    raise MininetesError(f"the underlay has no host at {hop.gateway}, the next hop of {name}")
                waiting.append(next_host.name)
        return list(found.items())

    def is_direct(self, source: str, address: IPv4Address) -> bool:
        """Whether ``source`` reaches the address without a router between them."""
        hops = self.underlay.hosts[source].hops_to(address)
        return len(hops) == 1 and hops[0].gateway == address

    def default_router(self, node: str) -> str:
        """The router to which a node sends what it knows no other way for. Raises BadInput when there is none."""
        routes = [route for route in self.underlay.hosts[node].routes if route.destination == ANYWHERE]
        router = self.underlay.at(routes[0].hops[0].gateway) if routes and routes[0].hops[0].gateway else None
        if router is None:
            raise BadInput(f"underlay: {node}", None, "a default route to a router, which this fabric needs")
        return router.name


@dataclass(frozen=True)
class FabricPlan:
    """What a fabric wants for the nodes of one view.

    ``states``: of each host that it has to do with. ``pod_mtu``: the largest packet that pods may send
    without fragments. ``files`` by node and path, and ``annotations`` of each node's object, are what the
    fabric's own program would leave there. ``apart``: pairs of nodes (both ways) that it does not connect.
    ``masquerades``: what pods send to nodes leaves as from their own node.
    """

    states: Mapping[str, NetState]
    pod_mtu: int = UNDERLAY_MTU
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    annotations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    apart: frozenset[tuple[str, str]] = frozenset()
    masquerades: bool = False

    def state(self, host: str) -> NetState:
        """What a host gets; nothing when the fabric has nothing to do with it."""
        return self.states.get(host, NetState())


@dataclass(frozen=True)
class Fabric:
    """A fabric's file with the parameters that were asked for: makes plans. Two of the same are equal."""

    name: str
    module: ModuleType
    parameters: Mapping[str, Any]

    @property
    def connects_nodes(self) -> bool:
        """Whether it carries pods' packets between nodes at all."""
        return bool(self.module.CONNECTS_NODES)

    @property
    def is_flat(self) -> bool:
        """Whether all pods are on one network, of which no node has a subnet."""
        return hasattr(self.module, "POD_NETWORK")

    @property
    def agent(self) -> str:
        """The program that a real node runs for it; empty when there is none, and somebody else writes its plan."""
        return str(getattr(self.module, "AGENT", ""))

    @property
    def is_weave(self) -> bool:
        """Whether that program is the engine's own weave."""
        return self.agent == "weave"

    def plan(self, view: FabricView) -> FabricPlan:
        """The plan for a view. Raises BadInput, also where parameters do not fit the view."""
        try:
            made = self.module.plan(view, **self.parameters)
        except MininetesError:
            raise
        except Exception as failed:
            file = Path(str(self.module.__file__))
            raise MininetesError(f"fabric {self.name}: plan: {parts.told(file, failed)}") from failed
        if not isinstance(made, (FabricPlan, Mapping)):
            right = "returning the hosts' NetState by their names, or a FabricPlan"
            raise BadInput(f"fabric {self.name}: plan", type(made).__name__, right)
        plan = made if isinstance(made, FabricPlan) else FabricPlan(made, view.mtu)
        unknown = sorted(set(plan.states) - set(view.underlay.hosts))
        if unknown:
            raise BadInput(f"fabric {self.name}: plan", unknown[0], "a host of the underlay")
        if not LEAST_POD_MTU <= plan.pod_mtu <= view.mtu:
            right = f"such that pods' packets have {LEAST_POD_MTU} to {view.mtu} bytes"
            raise BadInput(f"fabric {self.name}: MTU of pods", plan.pod_mtu, right)
        return plan


def kind_like(default: object) -> str:
    """What kind of value a parameter takes, going by its default."""
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}
    kind = kinds.get(type(default))
    if kind is None:
        return f"like {default!r}"
    return kind if isinstance(default, bool) or default == "" else f"{kind}, such as {default!r}"


def fabric_of(module: ModuleType, name: str, parameters: Mapping[str, Any]) -> Fabric:
    """Check that a file is a fabric that takes these parameters. Raises BadInput."""
    plan = getattr(module, "plan", None)
    if not callable(plan) or not isinstance(getattr(module, "CONNECTS_NODES", None), bool):
        raise BadInput("spec.fabric.name", name, "a file with CONNECTS_NODES (True or False) and plan(view)")
    known = dict(list(inspect.signature(plan).parameters.items())[1:])
    for key, value in parameters.items():
        place = f"spec.fabric.parameters.{key}"
        if key not in known:
            raise BadInput(place, None, f"unknown parameter of {name}; known: {', '.join(known) or 'none'}")
        default = known[key].default
        if default is not inspect.Parameter.empty and type(value) is not type(default):
            raise BadInput(place, value, kind_like(default))
    return Fabric(name, module, dict(parameters))
