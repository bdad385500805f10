"""Desired state of one network namespace, declared as values that can be compared. `applier` carries it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from mininetes.errors import MininetesError


@dataclass(frozen=True, order=True)
class Hop:
    """A next hop: the link it is behind, and the gateway's address (None: the destination is on the link)."""

    device: str
    gateway: IPv4Address | None = None

    def __str__(self) -> str:
        return (f"via {self.gateway} " if self.gateway else "") + f"dev {self.device}"


@dataclass(frozen=True, order=True)
class Route:
    """A route of the main table; several hops share the traffic."""

    destination: IPv4Network
    hops: tuple[Hop, ...]

    def __str__(self) -> str:
        text = "default" if self.destination.prefixlen == 0 else str(self.destination)
        return f"{text} {' nexthop '.join(str(hop) for hop in self.hops)}"


@dataclass(frozen=True)
class NetState:
    """What a namespace shall have: links that are up, addresses, routes, sysctls.

    ``addresses`` are by device; ``sysctls`` are paths below /proc/sys/net with their values.
    """

    up: frozenset[str] = frozenset()
    addresses: frozenset[tuple[str, IPv4Interface]] = frozenset()
    routes: frozenset[Route] = frozenset()
    sysctls: Mapping[str, str] = field(default_factory=dict)

    def merged(self, other: NetState) -> NetState:
        """Both states in one. Raises MininetesError where they want different values of one sysctl."""
        for key in self.sysctls.keys() & other.sysctls.keys():
            if self.sysctls[key] != other.sysctls[key]:
                raise MininetesError(f"sysctl {key}: {self.sysctls[key]} and {other.sysctls[key]} are both asked for")
        return NetState(
            self.up | other.up,
            self.addresses | other.addresses,
            self.routes | other.routes,
            {**self.sysctls, **other.sysctls},
        )


@dataclass(frozen=True, order=True)
class Change:
    """One difference: ``kind`` is what it concerns, ``action`` add, change or remove, ``what`` in words of ip(8)."""

    kind: str
    action: str
    what: str

    def __str__(self) -> str:
        return f"{self.action} {self.kind} {self.what}"


@dataclass(frozen=True)
class Found:
    """What a namespace has: link indexes by name, the names of those that are up, and the rest as in NetState."""

    indexes: Mapping[str, int]
    up: frozenset[str]
    addresses: frozenset[tuple[str, IPv4Interface]]
    routes: frozenset[Route]
    sysctls: Mapping[str, str]


def difference(desired: NetState, found: Found, previous: NetState = NetState()) -> list[Change]:
    """What has to change so that ``found`` becomes ``desired``: also called drift. Pure; sorted."""
    changes = [Change("link", "up", name) for name in desired.up - found.up]
    changes += [Change("sysctl", "set", f"{k}={v}") for k, v in desired.sysctls.items() if found.sysctls.get(k) != v]
    changes += [Change("address", "add", f"{a} dev {d}") for d, a in desired.addresses - found.addresses]
    gone = (previous.addresses - desired.addresses) & found.addresses
    changes += [Change("address", "remove", f"{a} dev {d}") for d, a in gone]
    there = {route.destination for route in found.routes}
    for route in desired.routes - found.routes:
        changes.append(Change("route", "change" if route.destination in there else "add", str(route)))
    wanted = {route.destination for route in desired.routes}
    for route in (previous.routes - desired.routes) & found.routes:
        if route.destination not in wanted:
            changes.append(Change("route", "remove", str(route)))
    return sorted(changes)
