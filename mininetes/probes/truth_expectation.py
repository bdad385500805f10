"""What must happen to a packet for a service's address: from one endpoint choice, in every mode. Pure.

By the behaviour of kube-proxy 1.30 (`pkg/proxy/*/proxier.go`; mode userspace: 1.25). What a mode does
otherwise than iptables, the default, is said with its reason in `Expected.differs`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Literal

from mininetes.agents.kubeproxy.configuration import Mode
from mininetes.agents.kubeproxy.health import checked_services
from mininetes.agents.kubeproxy.services import Endpoint
from mininetes.agents.kubeproxy.view import Fate, NodeView, PortTraffic

LOCALHOST = "127.0.0.1"
AddressKind = Literal["cluster IP", "node port", "localhost", "external IP", "load balancer", "health check node port"]


class Outcome(enum.Enum):
    """What happens to a connection, in the words of the packet flows."""

    DNAT = "DNAT"
    REJECT = "REJECT"
    DROP = "DROP"
    NOMATCH = "NOMATCH"
    """The proxy leaves it alone: no endpoint of the service answers."""
    CLOSED = "CLOSED"
    """Accepted by the proxy itself, and closed without an answer (mode userspace)."""
    HEALTHY = "200"
    """What the proxy itself says over HTTP at a health-check node port: there are ready endpoints on the node."""
    UNHEALTHY = "503"
    """There are none."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who sends, as the node sees it whose rules translate.

    ``address``: the source address there. ``own``: it is that node itself; ``pod``: a pod's packet, unless its
    node put its own address on it; ``here``: it comes from that node or one of its pods.
    """

    address: str
    own: bool = False
    pod: bool = False
    here: bool = False


@dataclass(frozen=True, slots=True)
class Expected:
    """What must happen. ``masquerade``: endpoints see an address of the node; one that asks itself always does.

    ``endpoints`` as ``address:port``; ``sticky``: always the same one of them. ``why`` and ``differs`` are for people.
    """

    outcome: Outcome
    endpoints: tuple[str, ...] = ()
    masquerade: bool = False
    sticky: bool = False
    why: str = ""
    differs: str = ""

    def __str__(self) -> str:
        if self.outcome is not Outcome.DNAT:
            return str(self.outcome.value)
        way = ", ".join(word for word, holds in (("masqueraded", self.masquerade), ("sticky", self.sticky)) if holds)
        return f"DNAT to {' '.join(self.endpoints)}" + (f" ({way})" if way else "")


def expect(
    view: NodeView, traffic: PortTraffic, mode: Mode, asker: Asker, to: AddressKind, address: str = ""
) -> Expected:
    """What the rules of ``view``'s node must do with a packet from ``asker`` to an address of ``traffic``'s port.

    ``address``: of a node port, which of the node's addresses is asked; the node's own one otherwise.
    """
    if to == "health check node port":
        return _health(view, traffic, address or view.address)
    if mode == "userspace":
        return _by_userspace(traffic, asker, to)
    if to == "node port" and not takes_node_ports(view, address or view.address):
        return _where_no_node_ports_are(traffic, mode)
    said = _by_rules(view, traffic, asker, to)
    change = _DIFFERENCES.get(mode)
    return change(view, traffic, asker, to, said) if change is not None else said


def takes_node_ports(view: NodeView, address: str) -> bool:
    """Whether nodePortAddresses has that address of the node."""
    return view.node_ports_everywhere or address in view.node_port_ips


def _health(view: NodeView, traffic: PortTraffic, address: str) -> Expected:
    """What a load balancer hears that asks whether the node has endpoints: counted for the service, not for a port."""
    if not takes_node_ports(view, address):
        return Expected(Outcome.REJECT, why="not in nodePortAddresses: nobody listens")
    ready = checked_services(view)[traffic.port.health_check_node_port].local_endpoints
    why = f"{ready or 'no'} ready endpoint{'' if ready == 1 else 's'} on this node"
    return Expected(Outcome.HEALTHY if ready else Outcome.UNHEALTHY, why=why)


def _where_no_node_ports_are(traffic: PortTraffic, mode: Mode) -> Expected:
    """iptables looks at nodePortAddresses where it translates, but rejects and drops at every address of the node."""
    if mode == "iptables" and traffic.external is not Fate.SERVE:
        return _fate(traffic.external)
    differs = "" if traffic.external is Fate.SERVE else f"{mode} rejects and drops in nodePortAddresses alone"
    return Expected(Outcome.NOMATCH, why="not in nodePortAddresses", differs=differs)


def _by_rules(view: NodeView, traffic: PortTraffic, asker: Asker, to: AddressKind) -> Expected:
    port = traffic.port
    if to == "cluster IP":
        if traffic.internal is not Fate.SERVE:
            return _fate(traffic.internal)
        chosen = traffic.local if port.internal_local else traffic.cluster
        told = bool(view.local_traffic.by)
        masquerade = view.masquerade_all or (told and not _is_local(view, asker))
        why = "policy Local: endpoints of this node" if port.internal_local else "policy Cluster"
        return _serve(traffic, chosen, masquerade=masquerade, why=why)
    if to == "localhost" and (why := _why_not_on_localhost(view)):
        return Expected(Outcome.NOMATCH, why=why)
    if _is_fenced_off(view, traffic, asker, to):
        return Expected(Outcome.DROP, why="not in loadBalancerSourceRanges")
    if not traffic.anywhere and asker.own and to in ("external IP", "load balancer"):
        return Expected(Outcome.NOMATCH, why="filter OUTPUT does not look at external addresses")
    return _external(view, traffic, asker)


def _why_not_on_localhost(view: NodeView) -> str:
    """Why mode iptables has no node ports there; "" where it has."""
    if not view.localhost_node_ports:
        return "localhostNodePorts is off, or no loopback address in nodePortAddresses"
    return "" if takes_node_ports(view, LOCALHOST) else "not in nodePortAddresses"


def _external(view: NodeView, traffic: PortTraffic, asker: Asker) -> Expected:
    """What becomes of traffic to an external address that is let in."""
    if not traffic.anywhere:
        return _fate(Fate.REJECT)
    if not traffic.port.external_local:
        return _serve(traffic, traffic.cluster, masquerade=True, why="policy Cluster")
    if view.local_traffic.by and _is_local(view, asker):
        return _serve(traffic, traffic.cluster, masquerade=False, why="policy Local, but from a pod: any endpoint")
    if asker.own:
        return _serve(traffic, traffic.cluster, masquerade=True, why="policy Local, but from the node: any endpoint")
    if traffic.external is not Fate.SERVE:
        return _fate(traffic.external)
    return _serve(traffic, traffic.local, masquerade=False, why="policy Local: endpoints of this node")


def _serve(traffic: PortTraffic, chosen: tuple[Endpoint, ...], *, masquerade: bool, why: str) -> Expected:
    endpoints = tuple(sorted(map(str, chosen)))
    return Expected(Outcome.DNAT, endpoints, masquerade, sticky=bool(traffic.port.affinity_s), why=why)


def _fate(fate: Fate) -> Expected:
    if fate is Fate.REJECT:
        return Expected(Outcome.REJECT, why="no endpoint anywhere")
    return Expected(Outcome.DROP, why="policy Local, and no endpoint on this node")


def _is_local(view: NodeView, asker: Asker) -> bool:
    """Whether the detect-local mode takes it for traffic of the node's pods."""
    if view.local_traffic.by == "network":
        return IPv4Address(asker.address) in IPv4Network(view.local_traffic.value)
    return asker.pod and asker.here


def _is_fenced_off(view: NodeView, traffic: PortTraffic, asker: Asker, to: AddressKind) -> bool:
    """Whether loadBalancerSourceRanges keep that client out."""
    port = traffic.port
    if to != "load balancer" or not port.source_ranges or not traffic.anywhere:
        return False
    own = asker.address in port.load_balancer_ips and port.allows(view.address)
    return not (port.allows(asker.address) or own)


def _in_nftables(view: NodeView, traffic: PortTraffic, asker: Asker, to: AddressKind, said: Expected) -> Expected:
    if to == "localhost":
        return Expected(Outcome.NOMATCH, differs="nftables has no node ports on localhost")
    if said.outcome is Outcome.NOMATCH and not traffic.anywhere and asker.own:
        differs = "nftables looks at external addresses without endpoints in OUTPUT too"
        return Expected(Outcome.REJECT, why="no endpoint anywhere", differs=differs)
    if asker.own and to in ("external IP", "load balancer") and traffic.external is Fate.DROP:
        differs = "nftables drops in OUTPUT before it translates, also what the node itself sends"
        return Expected(Outcome.DROP, why="policy Local, and no endpoint on this node", differs=differs)
    return said


def _in_ipvs(view: NodeView, traffic: PortTraffic, asker: Asker, to: AddressKind, said: Expected) -> Expected:
    if to == "localhost":
        return Expected(Outcome.NOMATCH, differs="ipvs has no node ports on localhost")
    if to == "cluster IP" and said.outcome is Outcome.DROP:
        if traffic.cluster:  # which the service has for its outside
            masquerade = view.masquerade_all or (bool(view.local_traffic.by) and not _is_local(view, asker))
            fallen_back = _serve(traffic, traffic.cluster, masquerade=masquerade, why="policy Local: none is here")
            return replace(fallen_back, differs=_FALLS_BACK)
        differs = "ipvs refuses where its virtual server is empty, instead of dropping"
        return Expected(Outcome.REJECT, why=said.why, differs=differs)
    if not traffic.anywhere and said.outcome is not Outcome.REJECT:
        return Expected(Outcome.REJECT, why="no endpoint anywhere", differs="ipvs has all addresses on the node itself")
    if to == "cluster IP" or said.outcome is not Outcome.DNAT or not traffic.port.external_local:
        return said
    return _local_in_ipvs(traffic, asker, to, said)


_FALLS_BACK = "ipvs takes other nodes' endpoints under policy Local where none is on the node"


def _local_in_ipvs(traffic: PortTraffic, asker: Asker, to: AddressKind, said: Expected) -> Expected:
    """External policy Local, and somebody is served: the virtual server has the node's endpoints, for pods too."""
    if not traffic.local and asker.own and to != "node port":
        # what the node sends to an address of its own has that address as its source, which every node has
        differs = "ipvs has the address on every node, so that replies of other nodes' endpoints do not find back"
        return Expected(Outcome.DROP, why="policy Local, and no endpoint on this node", differs=differs)
    served = _serve(traffic, traffic.local or traffic.cluster, masquerade=said.masquerade, why=said.why)
    if served.endpoints == said.endpoints:
        return said
    return replace(served, differs="ipvs has one virtual server for all: pods and the node get its own endpoints alone")


_Change = Callable[[NodeView, PortTraffic, Asker, AddressKind, Expected], Expected]
_DIFFERENCES: dict[str, _Change] = {"nftables": _in_nftables, "ipvs": _in_ipvs}


def _by_userspace(traffic: PortTraffic, asker: Asker, to: AddressKind) -> Expected:
    """A process of the node accepts for every ready endpoint; policies and source ranges came later."""
    if to in ("external IP", "load balancer") and (asker.pod or asker.own):
        differs = "userspace takes external addresses only from off the machine"
        return Expected(Outcome.NOMATCH, differs=differs)
    ready = tuple(each for each in traffic.endpoints if each.ready)
    if not ready:
        if traffic.port.protocol == "udp":
            return Expected(
                Outcome.DROP, why="no ready endpoint", differs="userspace takes datagrams, and forgets them"
            )
        differs = "userspace accepts, and closes when there is no endpoint"
        return Expected(Outcome.CLOSED, why="no ready endpoint", differs=differs)
    said = _serve(traffic, ready, masquerade=True, why="every ready endpoint")
    return replace(said, differs="userspace copies every connection, under no policy")
