"""The one applier of desired state: reads the kernel, works out the difference, applies only that.

Applied twice, the second time does nothing. It removes only what an earlier state of ours declared
and the new one no longer does: what a person added by hand is left alone.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping

from mininetes.errors import MininetesError
from mininetes.kernel import rtnl
from mininetes.kernel import rtnl_entries as entries
from mininetes.kernel.netns import in_netns
from mininetes.kernel.netstate import Change, Found, NetState, Route, difference
from mininetes.kernel.packet_rules import Iptables, Place, restore_text
from mininetes.kernel.processes import Namespaces

NOTHING = NetState()
_BY_MAC = operator.attrgetter("mac", "device")


def read(
    netns: str,
    sysctls: Iterable[str] = (),
    *,
    devices: Iterable[str] = (),
    chains: Iterable[Place] = (),
    iptables: Iptables | None = None,
) -> Found:
    """Read links, addresses, routes and the named sysctls from the kernel. A sysctl that is not there reads as "".

    Of the named ``devices`` also neighbours and forwarding entries; of iptables the named ``chains``,
    read as ``iptables`` says, which else enters the network namespace alone.
    """
    with rtnl.Rtnl(netns) as kernel:
        links = [entries.unpack_link(each) for each in kernel.dump(rtnl.RTM_GETLINK, entries.ask_for_links())]
        names = {link.index: link.name for link in links}
        addresses = [
            entries.unpack_address(each) for each in kernel.dump(rtnl.RTM_GETADDR, entries.ask_for_addresses())
        ]
        answers = kernel.dump(rtnl.RTM_GETROUTE, entries.ask_for_routes())
        routes = [entries.unpack_route(each, names) for each in answers]
        indexes = {link.name: link.index for link in links}
        neighbours, fdb = set(), set()
        for device in sorted(set(devices) & indexes.keys()):
            index = indexes[device]
            answers = kernel.dump(rtnl.RTM_GETNEIGH, entries.ask_for_neighbours(index))
            neighbours |= {entries.unpack_neighbour(each, device) for each in answers}
            answers = kernel.dump(rtnl.RTM_GETNEIGH, entries.ask_for_fdb(index))
            fdb |= {entries.unpack_fdb(each, device) for each in answers}
    asked = list(chains)
    rules = (iptables or Iptables(Namespaces(net=netns))).rules(asked) if asked else {}
    return Found(
        indexes,
        frozenset(link.name for link in links if link.up),
        frozenset((names[index], address) for index, address in addresses),
        frozenset(route for route in routes if route is not None),
        _read_sysctls(netns, sysctls),
        frozenset(vxlan for vxlan in (link.vxlan_on(names) for link in links) if vxlan is not None),
        frozenset(each for each in neighbours if each is not None),
        frozenset(each for each in fdb if each is not None),
        rules,
        frozenset(link.bridge for link in links if link.bridge is not None),
    )


def _read_sysctls(netns: str, keys: Iterable[str]) -> dict[str, str]:
    values = {}
    with in_netns(netns):
        for key in keys:
            try:
                with open(f"/proc/sys/net/{key}") as file:
                    values[key] = " ".join(file.read().split())
            except FileNotFoundError:
                values[key] = ""
    return values


def _read_for(netns: str, desired: NetState, previous: NetState, iptables: Iptables | None) -> Found:
    states = (desired, previous)
    devices = {each.device for state in states for each in state.neighbours}
    devices |= {each.device for state in states for each in state.fdb}
    chains = {place for state in states for chain in state.chains for place in chain.places()}
    return read(netns, desired.sysctls, devices=devices, chains=chains, iptables=iptables)


def apply(
    netns: str, desired: NetState, previous: NetState = NOTHING, *, iptables: Iptables | None = None
) -> list[Change]:
    """Make the namespace as desired and return what was changed; an empty list when nothing had to be.

    ``previous`` is the state of ours that ``desired`` replaces. May be called again at any time. Blocks.
    Raises MininetesError that names the step which the kernel refused.
    """
    found = _read_for(netns, desired, previous, iptables)
    changes = difference(desired, found, previous)
    if not changes:
        return changes
    _write_sysctls(netns, sysctls_to_write(desired, found))
    with rtnl.Rtnl(netns) as kernel:
        for requests_for in LINK_STEPS:
            links = requests_for(netns, desired, found, previous)
            if links:
                kernel.batch(links)
                found = _read_for(netns, desired, previous, iptables)  # what was on a link that is new has gone
        _check_devices(netns, desired, found)
        kernel.batch(other_requests(desired, found, previous))
    tables = restore_text(desired.chains, previous.chains, found.rules)
    if tables:
        (iptables or Iptables(Namespaces(net=netns))).restore("".join(tables.values()))
    return changes


def _bridge_removals(_: str, desired: NetState, found: Found, previous: NetState) -> list[rtnl.Request]:
    wanted = {each.name for each in desired.bridges}
    return [
        rtnl.delete_link(found.indexes[each.name], each.name)
        for each in sorted((previous.bridges - desired.bridges) & found.bridges)
        if each.name not in wanted
    ]


def _bridge_requests(_: str, desired: NetState, found: Found, __: NetState) -> list[rtnl.Request]:
    there, requests = {each.name for each in found.bridges}, []
    for bridge in sorted(desired.bridges - found.bridges):
        if bridge.name in there:
            requests.append(rtnl.tune_bridge(found.indexes[bridge.name], bridge.name, bridge.mac))
        else:
            requests.append(rtnl.add_bridge(bridge.name, 0, bridge.mac))
    return requests


def _link_requests(netns: str, desired: NetState, found: Found, previous: NetState) -> list[rtnl.Request]:
    there = {link.name: link for link in found.links}
    wanted = {link.name for link in desired.links}
    gone = [link for link in sorted(previous.links - desired.links) if link.name not in wanted and link in found.links]
    requests = [rtnl.delete_link(found.indexes[link.name], link.name) for link in gone]
    for link in sorted(desired.links - found.links):
        absent = [name for name in (link.device, link.master) if name and name not in found.indexes]
        if absent:
            raise _missing(netns, absent, found)
        master = found.indexes[link.master] if link.master else 0
        old = there.get(link.name)
        if old is not None and old.made_with == link.made_with:
            requests.append(rtnl.tune_vxlan(link, found.indexes[link.name], master))
            continue
        if link.name in found.indexes:
            requests.append(rtnl.delete_link(found.indexes[link.name], link.name))
        requests.append(rtnl.add_vxlan(link, found.indexes[link.device], master))
    return requests


def _missing(netns: str, names: Iterable[str], found: Found) -> MininetesError:
    return MininetesError(f"{netns}: no link {', '.join(sorted(names))}: it has {', '.join(sorted(found.indexes))}")


def _check_devices(netns: str, desired: NetState, found: Found) -> None:
    needed = set(desired.up) | {device for device, _ in desired.addresses}
    needed |= {hop.device for route in desired.routes for hop in route.hops}
    needed |= {each.device for each in desired.neighbours} | {each.device for each in desired.fdb}
    missing = needed - found.indexes.keys()
    if missing:
        raise _missing(netns, missing, found)


LINK_STEPS = (_bridge_requests, _link_requests, _bridge_removals)
"""Messages about links, in the order in which they are sent: links are ports of bridges."""


def sysctls_to_write(desired: NetState, found: Found) -> dict[str, str]:
    """The sysctls that have another value than they shall, in the order in which they are written."""
    return {key: value for key, value in sorted(desired.sysctls.items()) if found.sysctls.get(key) != value}


def other_requests(desired: NetState, found: Found, previous: NetState) -> list[rtnl.Request]:
    """Messages for all but links, in an order in which each finds what it needs."""
    index = found.indexes
    requests = [rtnl.set_up(index[name], name) for name in sorted(desired.up - found.up)]
    for device, address in sorted((previous.addresses - desired.addresses) & found.addresses):
        requests.append(rtnl.address(index[device], str(address), delete=True))
    for device, address in sorted(desired.addresses - found.addresses):
        requests.append(rtnl.address(index[device], str(address)))
    for entry in sorted(desired.fdb - found.fdb, key=_BY_MAC):
        requests.append(rtnl.fdb(entry.mac, entry.remote, index[entry.device]))
    for neighbour in sorted(desired.neighbours - found.neighbours, key=_BY_MAC):
        requests.append(rtnl.neighbour(neighbour.address, neighbour.mac, index[neighbour.device]))
    wanted = {route.destination for route in desired.routes}
    for route in sorted((previous.routes - desired.routes) & found.routes):
        if route.destination not in wanted:
            requests.append(_request(route, index, delete=True))
    # routes to gateways' networks before the routes that need them: longer prefixes first
    for route in sorted(desired.routes - found.routes, key=_longest_first):
        requests.append(_request(route, index))
    return requests + _removals(desired, found, previous)


def _longest_first(route: Route) -> tuple[int, int]:
    return -route.destination.prefixlen, int(route.destination.network_address)


def _removals(desired: NetState, found: Found, previous: NetState) -> list[rtnl.Request]:
    """Neighbours and forwarding entries that are no longer declared: the last to go, as routes may use them."""
    index = found.indexes
    wanted = {(each.device, each.address) for each in desired.neighbours}
    requests = [
        rtnl.neighbour(each.address, each.mac, index[each.device], delete=True)
        for each in (previous.neighbours - desired.neighbours) & found.neighbours
        if (each.device, each.address) not in wanted
    ]
    macs = {(each.device, each.mac) for each in desired.fdb}
    requests += [
        rtnl.fdb(each.mac, each.remote, index[each.device], delete=True)
        for each in (previous.fdb - desired.fdb) & found.fdb
        if (each.device, each.mac) not in macs
    ]
    return requests


def _request(route: Route, index: Mapping[str, int], *, delete: bool = False) -> rtnl.Request:
    if len(route.hops) == 1 and route.hops[0].gateway and route.destination.prefixlen:
        hop = route.hops[0]
        assert hop.gateway is not None
        return rtnl.gateway_route(route.destination, hop.gateway, index[hop.device], onlink=hop.onlink, delete=delete)
    hops = [(str(hop.gateway) if hop.gateway else None, index[hop.device]) for hop in route.hops]
    return rtnl.route(str(route.destination), hops, delete=delete)


def _write_sysctls(netns: str, values: Mapping[str, str]) -> None:
    with in_netns(netns):
        for key, value in values.items():
            try:
                with open(f"/proc/sys/net/{key}", "w") as file:
                    file.write(value)
            except OSError as failed:
                raise MininetesError(f"{netns}: sysctl net/{key}={value}: {failed.strerror}") from None


def drift(netns: str, desired: NetState, *, iptables: Iptables | None = None) -> list[Change]:
    """What the namespace lacks of the desired state, or has otherwise. Changes nothing. Blocks."""
    return difference(desired, _read_for(netns, desired, NOTHING, iptables))
