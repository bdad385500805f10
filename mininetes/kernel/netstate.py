"""Desired state of one network namespace, declared as values that can be compared. `applier` carries it out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from mininetes.errors import MininetesError


@dataclass(frozen=True, order=True)
class Hop:
    """A next hop: the link it is behind, and the gateway's address (None: the destination is on the link).

    ``onlink``: the gateway counts as a neighbour on the link, whatever networks the link has.
    """

    device: str
    gateway: IPv4Address | None = None
    onlink: bool = False

    def __str__(self) -> str:
        gateway = f"via {self.gateway} " if self.gateway else ""
        return f"{gateway}dev {self.device}{' onlink' if self.onlink else ''}"


@dataclass(frozen=True, order=True)
class Route:
    """A route of the main table; several hops share the traffic."""

    destination: IPv4Network
    hops: tuple[Hop, ...]

    def __str__(self) -> str:
        text = "default" if self.destination.prefixlen == 0 else str(self.destination)
        return f"{text} {' nexthop '.join(str(hop) for hop in self.hops)}"


@dataclass(frozen=True, order=True)
class Vxlan:
    """A VXLAN device: packets to ``local``'s peers leave by ``device`` as UDP to ``port``.

    ``txqueuelen`` 0 is what a program leaves that never asked for a queue. ``proxy``: it answers ARP itself
    from its permanent neighbours. ``master``: the bridge it is a port of.
    """

    name: str
    vni: int
    local: IPv4Address
    device: str
    port: int
    mac: str
    mtu: int
    learning: bool = False
    txqueuelen: int = 0
    proxy: bool = False
    master: str = ""

    def __str__(self) -> str:
        more = ("" if self.learning else " nolearning") + (" proxy" if self.proxy else "")
        master = f" master {self.master}" if self.master else ""
        return (
            f"{self.name} type vxlan id {self.vni} local {self.local} dev {self.device} dstport {self.port}{more}"
            f" address {self.mac} mtu {self.mtu} txqueuelen {self.txqueuelen}{master}"
        )

    @property
    def made_with(self) -> tuple[object, ...]:
        """What cannot be changed once the device is there."""
        return (self.vni, self.local, self.device, self.port, self.learning, self.proxy)


@dataclass(frozen=True, order=True)
class Bridge:
    """A Linux bridge without spanning tree; its ports are not part of it, and its MTU is theirs."""

    name: str
    mac: str

    def __str__(self) -> str:
        return f"{self.name} type bridge address {self.mac}"


@dataclass(frozen=True, order=True)
class Neighbour:
    """A permanent neighbour: who has the address on the device is known for good."""

    device: str
    address: IPv4Address
    mac: str

    def __str__(self) -> str:
        return f"{self.address} lladdr {self.mac} dev {self.device}"


@dataclass(frozen=True, order=True)
class FdbEntry:
    """A permanent forwarding entry of a VXLAN device: frames to ``mac`` go to the host at ``remote``."""

    device: str
    mac: str
    remote: IPv4Address

    def __str__(self) -> str:
        return f"{self.mac} dev {self.device} dst {self.remote}"


@dataclass(frozen=True, order=True)
class Chain:
    """A chain of iptables that is wholly ours, and the rules of other chains that lead into it.

    ``rules`` and the second part of each of ``jumps`` (the first is the chain it stands in) are what
    iptables-save prints behind ``-A CHAIN``. A jump goes to the end of its chain.
    """

    table: str
    name: str
    rules: tuple[str, ...]
    jumps: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.table} {self.name}"

    def places(self) -> Iterator[tuple[str, str]]:
        """Table and name of the chains that it concerns."""
        yield self.table, self.name
        for place, _ in self.jumps:
            yield self.table, place


@dataclass(frozen=True)
class NetState:
    """What a namespace shall have: links that are up, addresses, routes, sysctls, bridges, and what tunnels need.

    ``links`` and ``bridges`` are made where they are missing, those in ``up`` alone must be there. ``addresses`` are by
    device; ``sysctls`` are paths below /proc/sys/net with their values.
    """

    up: frozenset[str] = frozenset()
    addresses: frozenset[tuple[str, IPv4Interface]] = frozenset()
    routes: frozenset[Route] = frozenset()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    links: frozenset[Vxlan] = frozenset()
    neighbours: frozenset[Neighbour] = frozenset()
    fdb: frozenset[FdbEntry] = frozenset()
    chains: frozenset[Chain] = frozenset()
    bridges: frozenset[Bridge] = frozenset()

    def merged(self, other: NetState) -> NetState:
        """Both states in one. Raises MininetesError where they want different values of one sysctl."""
        for key in self.sysctls.keys() & other.sysctls.keys():
            if self.sysctls[key] != other.sysctls[key]:
                raise MininetesError(f"sysctl {key}: {self.sysctls[key]} and {other.sysctls[key]} are both asked for")
        both: dict[str, Any] = {"sysctls": {**self.sysctls, **other.sysctls}}
        for each in fields(self):
            if each.name not in both:
                both[each.name] = getattr(self, each.name) | getattr(other, each.name)
        return NetState(**both)


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
    """What a namespace has: link indexes by name, the names of those that are up, and the rest as in NetState.

    ``rules`` are those of the chains that were asked for, by table and name; chains that are not there are missing.
    """

    indexes: Mapping[str, int]
    up: frozenset[str]
    addresses: frozenset[tuple[str, IPv4Interface]]
    routes: frozenset[Route]
    sysctls: Mapping[str, str]
    links: frozenset[Vxlan] = frozenset()
    neighbours: frozenset[Neighbour] = frozenset()
    fdb: frozenset[FdbEntry] = frozenset()
    rules: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    bridges: frozenset[Bridge] = frozenset()


def difference(desired: NetState, found: Found, previous: NetState = NetState()) -> list[Change]:
    """What has to change so that ``found`` becomes ``desired``: also called drift. Pure; sorted."""
    changes = [Change("link", "up", name) for name in desired.up - found.up]
    changes += [Change("sysctl", "set", f"{k}={v}") for k, v in desired.sysctls.items() if found.sysctls.get(k) != v]
    changes += [Change("address", "add", f"{a} dev {d}") for d, a in desired.addresses - found.addresses]
    gone = (previous.addresses - desired.addresses) & found.addresses
    changes += [Change("address", "remove", f"{a} dev {d}") for d, a in gone]
    changes += _of_kind("bridge", desired.bridges, found.bridges, previous.bridges, key="name", there=found.indexes)
    changes += _of_kind("link", desired.links, found.links, previous.links, key="name", there=found.indexes)
    changes += _of_kind("route", desired.routes, found.routes, previous.routes, key="destination")
    changes += _of_kind("neighbour", desired.neighbours, found.neighbours, previous.neighbours, key="address")
    changes += _of_kind("fdb", desired.fdb, found.fdb, previous.fdb, key="mac")
    changes += _of_chains(desired.chains, found.rules, previous.chains)
    return sorted(changes, key=lambda each: (each.kind, each.action, each.what))


def _key(entry: Any, key: str) -> object:
    return getattr(entry, key) if key in ("name", "destination") else (entry.device, getattr(entry, key))


def _of_kind(
    kind: str,
    desired: frozenset[Any],
    found: frozenset[Any],
    previous: frozenset[Any],
    *,
    key: str,
    there: Iterable[object] | None = None,
) -> Iterator[Change]:
    """Differences of entries of which there is one for each ``key``; ``there`` has those that are there in any form."""
    missing, gone = desired - found, (previous - desired) & found
    if missing:
        known = set(there) if there is not None else {_key(each, key) for each in found}
        for each in missing:
            yield Change(kind, "change" if _key(each, key) in known else "add", str(each))
    if gone:
        wanted = {_key(each, key) for each in desired}
        yield from (Change(kind, "remove", str(each)) for each in gone if _key(each, key) not in wanted)


def _of_chains(
    desired: frozenset[Chain], rules: Mapping[tuple[str, str], tuple[str, ...]], previous: frozenset[Chain]
) -> Iterator[Change]:
    for chain in desired:
        there = rules.get((chain.table, chain.name))
        if there != chain.rules:
            yield Change("chain", "add" if there is None else "change", str(chain))
        for place, rule in chain.jumps:
            if rule not in rules.get((chain.table, place), ()):
                yield Change("rule", "add", f"{chain.table} {place} {rule}")
    wanted = {(chain.table, chain.name) for chain in desired}
    for chain in previous:
        if (chain.table, chain.name) not in wanted:
            if (chain.table, chain.name) in rules:
                yield Change("chain", "remove", str(chain))
            continue
        for place, rule in jumps_gone(chain, desired):
            if rule in rules.get((chain.table, place), ()):
                yield Change("rule", "remove", f"{chain.table} {place} {rule}")


def jumps_gone(chain: Chain, desired: Iterable[Chain]) -> list[tuple[str, str]]:
    """The jumps of an earlier chain that no chain of its table has any more."""
    kept = {jump for each in desired if each.table == chain.table for jump in each.jumps}
    return [jump for jump in chain.jumps if jump not in kept]
