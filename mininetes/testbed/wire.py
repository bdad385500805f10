"""Pods whose own links lie on the nodes' wire, by macvlan or ipvlan: whom such a pod reaches.

    pod 10.244.1.2/16                     pod 10.244.2.2/16
         | macvlan on eth0                     | macvlan on eth0        a child and its parent do not meet
    node1: eth0 192.168.1.11/24           node2: eth0 192.168.1.12/24   (the kernel's rule for both kinds)
         +--------------- switch ---------------+

Two ends meet that are on one wire and in one subnet: no fabric carries such pods' packets, and no bridge of the node
routes them. ipvlan in modes l3 and l3s is routed by the node, so that only what lies on the node itself is said here.
A pod's subnet is what its ADD returned: address plugins of any kind give it. Pure.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from mininetes.agents.cni.configuration import NetworkConfiguration
from mininetes.agents.cni.plugin_values import kind_on_the_wire
from mininetes.cluster.underlay import Underlay
from mininetes.probes.matrix import Expectation
from mininetes.probes.vantage import Target, Vantage

ALONE = ("private", "vepa")
"""Modes of macvlan in which pods of one node do not meet: private by intent, vepa as no switch here sends back."""
ROUTED = ("l3", "l3s")
DEFAULT_MODE = {"macvlan": "bridge", "ipvlan": "l2"}


@dataclass(frozen=True)
class Place:
    """A node that has such pods: on which wire their parent is, and the node's own network."""

    wire: int
    network: IPv4Network


@dataclass(frozen=True)
class Wire:
    """How pods lie on it: the kind of their links, its mode, each node's place, and the subnets of each pod."""

    kind: str
    mode: str
    places: Mapping[str, Place]
    subnets: Mapping[str, tuple[IPv4Network, ...]]

    def expect(self, source: Vantage, target: Target) -> Expectation | None:
        """Whether two ends meet of which one at least is a pod; None: that is up to who routes."""
        if source.node == target.node:
            return self._on_one_node(source, target)
        if self.mode in ROUTED:
            return None
        if self.places[source.node].wire != self.places[target.node].wire:
            return Expectation(False, f"{self.kind}: a router is between the pods' wires")
        return self._on_one_wire(source, target, f"{self.kind}: one wire")

    def _on_one_node(self, source: Vantage, target: Target) -> Expectation | None:
        if "node" in (source.kind, target.kind):
            return Expectation(False, f"{self.kind}: a child and its parent do not meet")
        if self.mode in ALONE:
            return Expectation(False, f"{self.kind}: mode {self.mode} keeps a node's pods apart")
        if self.mode in ROUTED:
            return Expectation(True, "same node")
        return self._on_one_wire(source, target, "same node")

    def _on_one_wire(self, source: Target, target: Target, why: str) -> Expectation | None:
        there, back = self._networks(source), self._networks(target)
        if not there or not back:
            return None
        if _is_in(target, there) and _is_in(source, back):  # then each asks the wire for the other's MAC
            return Expectation(True, why)
        return Expectation(False, f"{self.kind}: one wire, but not one subnet")

    def _networks(self, end: Target) -> tuple[IPv4Network, ...]:
        return (self.places[end.node].network,) if end.kind == "node" else self.subnets.get(end.name, ())


def _is_in(end: Target, networks: tuple[IPv4Network, ...]) -> bool:
    return any(IPv4Address(end.address) in each for each in networks)


def wire_of(
    configurations: Mapping[str, NetworkConfiguration], underlay: Underlay, results: Mapping[str, Mapping[str, Any]]
) -> Wire | None:
    """The wire of clusters whose nodes have these CNI configurations; None where pods' links are of another kind.

    ``results``: of each pod, by its name as a target; nothing is said of those without addresses.
    """
    one = next(iter(configurations.values()))
    kind = kind_on_the_wire(one)
    if not kind:
        return None
    wires = _wires(underlay)
    places = {}
    for node, each in configurations.items():
        interfaces = underlay.hosts[node].interfaces
        devices = [interface.device for interface in interfaces]
        master = each.plugins[0].get("master")
        device = master if master in devices else devices[0]  # the default route's, or a VLAN that is on it
        assert interfaces[0].address is not None
        places[node] = Place(wires[node, device], interfaces[0].address.network)
    subnets = {name: _subnets(result) for name, result in results.items()}
    return Wire(kind, str(one.plugins[0].get("mode") or DEFAULT_MODE[kind]), places, subnets)


def _subnets(result: Mapping[str, Any]) -> tuple[IPv4Network, ...]:
    """Those of a CNI result's IPv4 addresses; one without a prefix, which no plugin may return, has none."""
    found = []
    for address in (str(each.get("address")) for each in result.get("ips") or []):
        with contextlib.suppress(ValueError):  # IPv6
            if "/" in address:
                found.append(IPv4Interface(address).network)
    return tuple(found)


def _wires(underlay: Underlay) -> dict[tuple[str, str], int]:
    """By host and device, the number of the wire that it is on: switches that are joined are one."""
    wire = {name: number for number, name in enumerate(underlay.switches)}
    ends = [cable.ends for cable in underlay.cables]
    for one, other in ends:
        if one.owner in wire and other.owner in wire:
            joined, gone = wire[one.owner], wire[other.owner]
            wire = {name: joined if number == gone else number for name, number in wire.items()}
    found: dict[tuple[str, str], int] = {}
    for number, (one, other) in enumerate(ends, start=len(wire)):
        here = wire.get(one.owner, wire.get(other.owner, number))
        found |= {(each.owner, each.device): here for each in (one, other) if each.owner not in wire}
    return found
