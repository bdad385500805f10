"""What a proxy mode is told: one node, its settings, and the service ports with the endpoints chosen for it.

Everything here is frozen. `PortTraffic` objects live as long as the service and its endpoints do not
change, and are shared by all nodes that choose alike: what a mode makes of one, it makes once (`once`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

from mininetes.agents.kubeproxy.endpoint_choice import choose
from mininetes.agents.kubeproxy.services import Endpoint, ServicePort

_Settings = TypeVar("_Settings", bound=Hashable)
_Made = TypeVar("_Made")
_From = TypeVar("_From", bound="Remembering")

LARGE_CLUSTER_ENDPOINTS = 1000
"""With more endpoints than this, mode iptables leaves comments out of the rules of each endpoint."""


class Fate(Enum):
    """What becomes of traffic that no more special rule took."""

    SERVE = "serve"
    REJECT = "reject"
    """There is no endpoint anywhere."""
    DROP = "drop"
    """There are endpoints, but the policy is Local and none is here."""


@dataclass(frozen=True, eq=False)
class Remembering:
    """Something that a mode makes rules from, and keeps them with (`once`). Compared by identity."""

    _made: dict[Any, Any] = field(default_factory=dict, repr=False, init=False)


@dataclass(frozen=True, eq=False)
class PortTraffic(Remembering):
    """Where the traffic to one service port goes, as one or several nodes see it. Compared by identity.

    ``endpoints`` are all there are, whatever their condition; ``cluster``, ``local`` and ``reachable``
    the chosen ones (see endpoint_choice.Choice); ``anywhere``: there is a usable one on some node.
    """

    port: ServicePort
    endpoints: tuple[Endpoint, ...]
    cluster: tuple[Endpoint, ...]
    local: tuple[Endpoint, ...]
    reachable: tuple[Endpoint, ...]
    anywhere: bool

    @property
    def internal(self) -> Fate:
        """The fate of traffic to the cluster IP."""
        return self._fate(self.port.internal_local)

    @property
    def external(self) -> Fate:
        """The fate of traffic from outside to node port, external and load-balancer addresses."""
        return self._fate(self.port.external_local)

    def _fate(self, local_policy: bool) -> Fate:
        if not self.anywhere:
            return Fate.REJECT
        return Fate.DROP if local_policy and not self.local else Fate.SERVE

    def ready_on(self, node: str) -> set[str]:
        """The addresses of that node's ready endpoints: what its health-check node port counts."""
        return {each.address for each in self.endpoints if each.ready and each.node == node}


@dataclass(frozen=True, eq=False)
class PortGroup(Remembering):
    """Some service ports in their order, and how many endpoints they have together."""

    ports: tuple[PortTraffic, ...]
    endpoints: int


def once(function: Callable[[_From, _Settings], _Made]) -> Callable[[_From, _Settings], _Made]:
    """Decorate a pure function of one port's traffic, or a group's, and hashable settings: the result is kept there."""

    def kept(of: _From, settings: _Settings) -> _Made:
        key = (function, settings)
        made = of._made
        if key not in made:
            made[key] = function(of, settings)
        result: _Made = made[key]
        return result

    kept.__doc__ = function.__doc__
    return kept


@dataclass(frozen=True)
class LocalTraffic:
    """How traffic of this node's pods is told: by source network, bridge, interface name prefix, or not at all."""

    by: str = ""
    """``network``, ``bridge``, ``prefix`` or ""."""
    value: str = ""


@dataclass(frozen=True)
class NodeView:
    """All that a proxy mode goes by. ``node_port_ips`` are the node's addresses that take node ports.

    With ``node_ports_everywhere`` any local address takes them; ``local_addresses`` are those of the
    node but for loopback. ``proxy_ports`` (mode userspace) are where the process listens for each port,
    by name and protocol.
    """

    node: str
    address: str
    masquerade_mark: int = 1 << 14
    masquerade_all: bool = False
    local_traffic: LocalTraffic = LocalTraffic()
    node_ports_everywhere: bool = True
    node_port_ips: tuple[str, ...] = ()
    local_addresses: tuple[str, ...] = ()
    localhost_node_ports: bool = True
    drop_invalid: bool = True
    scheduler: str = "rr"
    groups: tuple[PortGroup, ...] = ()
    proxy_ports: tuple[tuple[str, str, int], ...] = ()

    @property
    def ports(self) -> tuple[PortTraffic, ...]:
        """All service ports, in the order of their services' names."""
        return tuple(each for group in self.groups for each in group.ports)

    @property
    def endpoints_in_all(self) -> int:
        """How many endpoints all ports have together."""
        return sum(group.endpoints for group in self.groups)

    @property
    def large_cluster(self) -> bool:
        """Whether there are so many endpoints that comments are left out."""
        return self.endpoints_in_all > LARGE_CLUSTER_ENDPOINTS


def traffic_to(port: ServicePort, endpoints: tuple[Endpoint, ...], node: str, zone: str) -> tuple[PortTraffic, bool]:
    """The traffic to a port as that node sees it, and whether other nodes may see it otherwise."""
    choice = choose(port, endpoints, node, zone)
    traffic = PortTraffic(port, endpoints, choice.cluster, choice.local, choice.reachable, choice.anywhere)
    return traffic, choice.by_node
