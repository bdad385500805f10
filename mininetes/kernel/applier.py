"""The one applier of desired state: reads the kernel, works out the difference, applies only that.

Applied twice, the second time does nothing. It removes only what an earlier state of ours declared
and the new one no longer does: what a person added by hand is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from mininetes.errors import MininetesError
from mininetes.kernel import rtnl
from mininetes.kernel.netns import in_netns
from mininetes.kernel.netstate import Change, Found, Hop, NetState, Route, difference

NOTHING = NetState()


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


def apply(netns: str, desired: NetState, previous: NetState = NOTHING) -> list[Change]:
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


def drift(netns: str, desired: NetState) -> list[Change]:
    """What the namespace lacks of the desired state, or has otherwise. Changes nothing."""
    return difference(desired, read(netns, desired.sysctls))
