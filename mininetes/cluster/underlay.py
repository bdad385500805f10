"""What a Mininet Topo describes, as plain values: read and checked before the kernel is touched."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from types import ModuleType
from typing import Any

from mininet.topo import Topo

from mininetes.addressing import BLOCKED, OUTSIDE, mac_of
from mininetes.errors import BadInput
from mininetes.kernel.netstate import Hop, NetState, Route

GATEWAY = "gw"
"""The name of the router that leads out of the cluster, in every underlay that has one."""

ANYWHERE = IPv4Network("0.0.0.0/0")
LINK_MTU = 1500
"""Of a link that is given no other."""

_LEAST_MTU, _MOST_MTU = 576, 65535
_MOST_MBIT = 1000
"""Mininet's own limit for shaped links (TCIntf.bwParamMax)."""

ROLES = ("node", "router", "client")

NODE_SYSCTLS = {
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/conf/default/send_redirects": "0",
    "ipv4/icmp_ratelimit": "0",
    "ipv6/conf/all/disable_ipv6": "1",
    "ipv6/conf/default/disable_ipv6": "1",
    "bridge/bridge-nf-call-iptables": "1",
    "bridge/bridge-nf-call-ip6tables": "1",
    "bridge/bridge-nf-call-arptables": "0",
}
"""What pods and services need of a node, whatever the host's own values are.

Without bridge-nf-call-iptables a pod that asks a service for a pod on its own bridge gets the answer
from an address it never asked. A node that redirects (a service's packet leaves where it came in) uses up
what the kernel allows of ICMP errors, and REJECT comes late; many probes alone would do so, hence no limit.
IPv6 is off because the address plan has none of it.
"""

ROUTER_SYSCTLS = {key: NODE_SYSCTLS[key] for key in NODE_SYSCTLS if not key.startswith("bridge/")}
CLIENT_SYSCTLS = {**ROUTER_SYSCTLS, "ipv4/ip_forward": "0"}
SWITCH_SYSCTLS = {
    "ipv6/conf/all/disable_ipv6": "1",
    "ipv6/conf/default/disable_ipv6": "1",
    "bridge/bridge-nf-call-iptables": "0",
    "bridge/bridge-nf-call-ip6tables": "0",
    "bridge/bridge-nf-call-arptables": "0",
}
"""Of the namespace in which the underlay's switches are: a switch has no packet filter."""


_TIME = re.compile(r"[0-9]+(\.[0-9]+)?(us|ms|s)")
"""A delay as tc(8) and Mininet take it."""


@dataclass(frozen=True)
class Shape:
    """How a link is slowed down, each way: ``bw`` in Mbit/s, ``delay`` as tc has it, ``loss`` in percent."""

    bw: float | None = None
    delay: str | None = None
    loss: float | None = None

    @property
    def needs_netem(self) -> bool:
        """Delay and loss do, bandwidth does not."""
        return self.delay is not None or bool(self.loss)


@dataclass(frozen=True)
class Interface:
    """One interface of a host, or one port of a switch (then without an address)."""

    owner: str
    device: str
    address: IPv4Interface | None = None
    mac: str | None = None


@dataclass(frozen=True)
class Cable:
    """A link between two interfaces."""

    ends: tuple[Interface, Interface]
    shape: Shape = Shape()
    mtu: int = LINK_MTU


@dataclass(frozen=True)
class UnderlayHost:
    """A host of the Topo. ``role``: node, router or client."""

    name: str
    role: str
    interfaces: tuple[Interface, ...]
    routes: tuple[Route, ...] = ()

    @property
    def address(self) -> IPv4Address:
        """Of its first interface."""
        first = self.interfaces[0].address
        assert first is not None
        return first.ip

    def hops_to(self, address: IPv4Address) -> tuple[Hop, ...]:
        """The next hops to an address, as the host's own routes have them; empty when there is none."""
        for interface in self.interfaces:
            if interface.address is not None and address in interface.address.network:
                return (Hop(interface.device, address),)
        fitting = [route for route in self.routes if address in route.destination]
        return max(fitting, key=lambda route: route.destination.prefixlen).hops if fitting else ()

    def state(self) -> NetState:
        """What the host's namespace shall have for the underlay's sake."""
        devices = [each.device for each in self.interfaces]
        addresses = {(each.device, each.address) for each in self.interfaces if each.address is not None}
        sysctls = dict({"node": NODE_SYSCTLS, "router": ROUTER_SYSCTLS}.get(self.role, CLIENT_SYSCTLS))
        if self.role == "node":
            sysctls |= {f"ipv4/conf/{device}/send_redirects": "0" for device in devices}
        return NetState(frozenset(["lo", *devices]), frozenset(addresses), frozenset(self.routes), sysctls)


@dataclass(frozen=True)
class Underlay:
    """A whole underlay, with the names in the order in which the Topo has them."""

    hosts: Mapping[str, UnderlayHost]
    switches: tuple[str, ...]
    cables: tuple[Cable, ...]

    def with_role(self, role: str) -> list[UnderlayHost]:
        """The hosts of that role."""
        return [host for host in self.hosts.values() if host.role == role]

    def at(self, address: IPv4Address) -> UnderlayHost | None:
        """The host that has this address."""
        return self._by_address.get(address)

    @functools.cached_property
    def _by_address(self) -> dict[IPv4Address, UnderlayHost]:
        found: dict[IPv4Address, UnderlayHost] = {}
        for host in self.hosts.values():
            for each in host.interfaces:
                if each.address is not None:
                    found.setdefault(each.address.ip, host)
        return found

    @property
    def mtu(self) -> int:
        """The largest packet that crosses every link between nodes; those to clients outside do not count."""
        outside = {host.name for host in self.with_role("client")}
        owners = [{end.owner for end in cable.ends} for cable in self.cables]
        outside |= {name for pair in owners if pair & outside for name in pair if name in self.switches}
        inside = [cable.mtu for cable, pair in zip(self.cables, owners, strict=True) if not pair & outside]
        return min(inside, default=LINK_MTU)

    @property
    def needs_netem(self) -> bool:
        """Whether a link has delay or loss."""
        return any(cable.shape.needs_netem for cable in self.cables)


def topo_class(module: ModuleType, name: str) -> type[Topo]:
    """The Topo class of an underlay's file: its ``topos`` table says which. Raises BadInput."""
    table = getattr(module, "topos", None)
    if not isinstance(table, dict) or name not in table:
        raise BadInput("spec.underlay.name", name, f"a file whose table 'topos' has a Topo class named {name!r}")
    found = table[name]
    if not (isinstance(found, type) and issubclass(found, Topo)):
        raise BadInput("spec.underlay.name", name, "a subclass of mininet.topo.Topo")
    return found


def add_outside(topo: Topo, clients: int) -> None:
    """Add what lies behind the gateway: an outside network with clients, and one whose client gets blocked."""
    if GATEWAY not in topo.hosts():
        raise BadInput("spec.outside.clients", clients, f"0, as the underlay has no router named {GATEWAY}")
    for number, (kind, network) in enumerate((("client", OUTSIDE), ("blocked", BLOCKED)), start=1):
        switch = f"outside{number}"
        topo.addSwitch(switch)
        gateway = f"{network[1]}/{network.prefixlen}"
        topo.addLink(GATEWAY, switch, intfName1=f"outside{number}", params1={"ip": gateway})
        for client in range(1, (clients if kind == "client" else 1) + 1):
            address = f"{network[1 + client]}/{network.prefixlen}"
            topo.addHost(f"{kind}{client}", role="client", ip=address, defaultRoute=f"via {network[1]}")
            topo.addLink(f"{kind}{client}", switch, intfName1="eth0")


def read_topo(topo: Topo) -> Underlay:
    """Read a Topo into plain values. Raises BadInput where it contradicts itself."""
    ends: dict[str, dict[int, Interface]] = {name: {} for name in topo.nodes()}
    cables = []
    for _, _, info in topo.links(sort=True, withInfo=True):
        pair = []
        for side in ("1", "2"):
            owner, port = info["node" + side], info["port" + side]
            device = info.get("intfName" + side) or f"{owner}-eth{port}"
            text = info.get("params" + side, {}).get("ip")
            if text is None and not topo.isSwitch(owner) and port == min(topo.ports[owner]):
                text = topo.nodeInfo(owner).get("ip")
            address = _interface(owner, text) if text else None
            mac = info.get("addr" + side) or (mac_of(address.ip) if address else None)
            ends[owner][port] = Interface(owner, device, address, mac)
            pair.append(ends[owner][port])
        cables.append(Cable((pair[0], pair[1]), _shape(info), _mtu(info)))
    hosts = {}
    for name in topo.hosts():
        hosts[name] = _host(name, topo.nodeInfo(name), tuple(ends[name][port] for port in sorted(ends[name])))
    underlay = Underlay(hosts, tuple(topo.switches()), tuple(cables))
    _check(underlay)
    return underlay


def _interface(owner: str, text: str) -> IPv4Interface:
    try:
        return IPv4Interface(text)
    except ValueError:
        raise BadInput(f"underlay: {owner}: ip", text, "an IPv4 address with its prefix") from None


def _shape(info: Mapping[str, Any]) -> Shape:
    shape = Shape(info.get("bw"), info.get("delay"), info.get("loss"))
    place = f"underlay: link {info['node1']} - {info['node2']}"
    if shape.bw is not None and not (_is_number(shape.bw) and 0 < shape.bw <= _MOST_MBIT):
        raise BadInput(f"{place}: bw", shape.bw, f"Mbit/s, more than 0 and at most {_MOST_MBIT}")
    if shape.loss is not None and not (_is_number(shape.loss) and 0 <= shape.loss <= 100):
        raise BadInput(f"{place}: loss", shape.loss, "percent, 0 to 100")
    if shape.delay is not None and not _TIME.fullmatch(str(shape.delay)):
        raise BadInput(f"{place}: delay", shape.delay, "a time with its unit, such as 5ms")
    return shape


def _mtu(info: Mapping[str, Any]) -> int:
    mtu = info.get("mtu", LINK_MTU)
    if type(mtu) is not int or not _LEAST_MTU <= mtu <= _MOST_MTU:
        place = f"underlay: link {info['node1']} - {info['node2']}: mtu"
        raise BadInput(place, mtu, f"bytes of an IP packet, {_LEAST_MTU} to {_MOST_MTU}")
    return mtu


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _host(name: str, info: Mapping[str, Any], interfaces: tuple[Interface, ...]) -> UnderlayHost:
    if not interfaces or interfaces[0].address is None:
        raise BadInput(f"underlay: {name}: ip", info.get("ip"), "an address on its first interface")
    bare = UnderlayHost(name, info.get("role", "node"), interfaces)
    if bare.role not in ROLES:
        raise BadInput(f"underlay: {name}: role", bare.role, "one of " + ", ".join(ROLES))
    wanted = list(info.get("routes", []))
    default = str(info.get("defaultRoute") or "")
    if default.startswith("via "):
        wanted.append((str(ANYWHERE), [default.removeprefix("via ")]))
    routes = [_route(bare, str(destination), list(gateways)) for destination, gateways in wanted]
    return UnderlayHost(name, bare.role, interfaces, tuple(routes))


def _route(host: UnderlayHost, destination: str, gateways: list[str]) -> Route:
    """A route that the Topo wishes for a host. Raises BadInput when it is none, or leads nowhere."""
    place = f"underlay: {host.name}: route to {destination}"
    try:
        network = IPv4Network(destination)
        hops = [hop for gateway in gateways for hop in host.hops_to(IPv4Address(gateway))]
    except ValueError as wrong:
        raise BadInput(place, gateways, f"an IPv4 network and IPv4 gateways ({wrong})") from None
    if len(hops) != len(gateways) or not hops:
        raise BadInput(place, gateways, "gateways on the host's own networks")
    return Route(network, tuple(sorted(hops)))


def _check(underlay: Underlay) -> None:
    seen: dict[IPv4Address, str] = {}
    for host in underlay.hosts.values():
        devices = [each.device for each in host.interfaces]
        for device in devices:
            if devices.count(device) > 1:
                raise BadInput(f"underlay: {host.name}", device, "a name that only one of its interfaces has")
        for each in host.interfaces:
            if each.address is None:
                continue
            if each.address.ip in seen:
                raise BadInput(f"underlay: {host.name}: ip", str(each.address), f"not that of {seen[each.address.ip]}")
            seen[each.address.ip] = host.name
    for cable in underlay.cables:
        for end in cable.ends:
            if len(end.device) > 15:
                raise BadInput(f"underlay: {end.owner}", end.device, "an interface name of at most 15 characters")
