"""Desired state of one network namespace, and the one applier that puts it into the kernel.

What is desired is declared as a `NetState`: values that can be compared. The applier reads the
kernel, works out the difference, and applies only that; applied twice, the second time does
nothing. It removes only what an earlier state of ours declared and the new one no longer does:
what a person added by hand is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from mininetes.errors import MininetesError
from mininetes.kernel import rtnl
from mininetes.kernel.netns import in_netns


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


def _attributes(message: object) -> dict[str, object]:
    return dict(message["attrs"])  # type: ignore[index]


def read(netns: str, sysctls: Mapping[str, str]) -> Found:
    """Read links, addresses, routes and the named sysctls from the kernel. A sysctl that is not there reads as ""."""
    with rtnl.Rtnl(netns) as kernel:
        names: dict[int, str] = {}
        up = set()
        for link in kernel.links():
            name = str(_attributes(link)["IFLA_IFNAME"])
            names[link["index"]] = name
            if link["flags"] & rtnl.IFF_UP:
                up.add(name)
        addresses = {
            (names[found["index"]], IPv4Interface(f"{_attributes(found)['IFA_LOCAL']}/{found['prefixlen']}"))
            for found in kernel.addresses()
        }
        routes = {_route(found, names) for found in kernel.routes() if found["type"] == rtnl.RTN_UNICAST}
    values = {}
    with in_netns(netns):
        for key in sysctls:
            try:
                with open(f"/proc/sys/net/{key}") as file:
                    values[key] = " ".join(file.read().split())
            except FileNotFoundError:
                values[key] = ""
    indexes = {name: index for index, name in names.items()}
    return Found(indexes, frozenset(up), frozenset(addresses), frozenset(routes), values)


def _route(message: object, names: Mapping[int, str]) -> Route:
    attributes = _attributes(message)
    prefix = message["dst_len"]  # type: ignore[index]
    parts = attributes.get("RTA_MULTIPATH")
    if parts is None:
        found = [(attributes.get("RTA_OIF"), attributes.get("RTA_GATEWAY"))]
    else:
        found = [(part["oif"], _attributes(part).get("RTA_GATEWAY")) for part in parts]  # type: ignore[attr-defined]
    hops = sorted(Hop(names.get(oif, "?"), IPv4Address(gw) if gw else None) for oif, gw in found)  # type: ignore[call-overload]
    return Route(IPv4Network((str(attributes.get("RTA_DST", "0.0.0.0")), prefix)), tuple(hops))  # noqa: S104


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


def apply(netns: str, desired: NetState, previous: NetState = NetState()) -> list[Change]:
    """Make the namespace as desired and return what was changed; an empty list when nothing had to be.

    ``previous`` is the state of ours that ``desired`` replaces. May be called again at any time.
    Raises MininetesError that names the step which the kernel refused.
    """
    found = read(netns, desired.sysctls)
    changes = difference(desired, found, previous)
    if not changes:
        return changes
    _write_sysctls(netns, {k: v for k, v in desired.sysctls.items() if found.sysctls.get(k) != v})
    missing = {name for name in desired.up if name not in found.indexes}
    missing |= {hop.device for route in desired.routes for hop in route.hops if hop.device not in found.indexes}
    if missing:
        raise MininetesError(
            f"{netns}: no link {', '.join(sorted(missing))}: it has {', '.join(sorted(found.indexes))}"
        )
    index = found.indexes
    requests = [rtnl.set_up(index[name], name) for name in sorted(desired.up - found.up)]
    for device, address in sorted((previous.addresses - desired.addresses) & found.addresses):
        requests.append(rtnl.address(index[device], str(address), delete=True))
    for device, address in sorted(desired.addresses - found.addresses):
        requests.append(rtnl.address(index[device], str(address)))
    wanted = {route.destination for route in desired.routes}
    for route in sorted((previous.routes - desired.routes) & found.routes):
        if route.destination not in wanted:
            requests.append(_request(route, index, delete=True))
    # routes to gateways' networks before the routes that need them: longer prefixes first
    for route in sorted(desired.routes - found.routes, key=lambda r: (-r.destination.prefixlen, r)):
        requests.append(_request(route, index))
    with rtnl.Rtnl(netns) as kernel:
        kernel.batch(requests)
    return changes


def _request(route: Route, index: Mapping[str, int], *, delete: bool = False) -> rtnl.Request:
    hops = [(str(hop.gateway) if hop.gateway else None, index[hop.device]) for hop in route.hops]
    return rtnl.route(str(route.destination), hops, delete=delete)


def _write_sysctls(netns: str, values: Mapping[str, str]) -> None:
    with in_netns(netns):
        for key, value in sorted(values.items()):
            try:
                with open(f"/proc/sys/net/{key}", "w") as file:
                    file.write(value)
            except OSError as failed:
                raise MininetesError(f"{netns}: sysctl net/{key}={value}: {failed.strerror}") from None
