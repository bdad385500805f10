"""What a container network is given that was not asked for, and whether what was asked for can be. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from mininetes.errors import BadInput
from mininetes.spec_sections import ContainerNetworkSpec
from mininetes.testbed.fabric import UNDERLAY_MTU
from mininetes.testbed.networks import LEAST_MTU, MODES, VXLAN_BYTES, Ground, Network

OPTIONS = {
    "bridge": ("mtu", "icc"),
    "macvlan": ("parent", "mode", "mtu"),
    "ipvlan": ("parent", "mode", "mtu"),
    "overlay": ("mtu",),
}
"""What each driver takes after -o."""

DOCKER_NAMES = {
    "com.docker.network.driver.mtu": "mtu",
    "com.docker.network.bridge.enable_icc": "icc",
    "macvlan_mode": "mode",
    "ipvlan_mode": "mode",
}
"""Docker's longer names of the same."""

LONGEST_PREFIX = 29
_POOL = [IPv4Network(f"172.{number}.0.0/16") for number in range(18, 32)]
_OVERLAYS = [IPv4Network(f"10.0.{number}.0/24") for number in range(1, 256)]
_ON_COMMAND_LINE = {"name": "NAME", "network": "NETWORK", "container": "CONTAINER", "options": "-o"}


@dataclass(frozen=True)
class Place:
    """Where something was asked for: a section of the cluster file, or (empty) the command line.

    ``may_declare``: predefined networks may be named, so that they are made at once.
    """

    prefix: str = ""
    may_declare: bool = False

    def field(self, name: str) -> str:
        """A field's name as the user wrote it."""
        first, _, rest = name.partition(".")
        if self.prefix:
            words = {"network": "networks"}.get(first, first).split("_")  # only a section that lists them names one
            camel = words[0] + "".join(word.title() for word in words[1:])
            return f"{self.prefix}.{camel}{'.' + rest if rest else ''}"
        dashed = "".join("-" + letter.lower() if letter.isupper() else letter for letter in first).replace("_", "-")
        option = "--" + {"nodes": "node", "networks": "network"}.get(dashed, dashed)
        return _ON_COMMAND_LINE.get(first, option) + (f" {rest}" if rest else "")


@dataclass(frozen=True)
class Subnet:
    """A subnet with its gateway and the part of it that members' addresses are taken from (None: all)."""

    network: IPv4Network
    gateway: IPv4Address | None
    ip_range: IPv4Network | None


def settings_of(
    wanted: ContainerNetworkSpec, nodes: tuple[str, ...], ground: Ground, networks: Sequence[Network], place: Place
) -> dict[str, Any]:
    """The driver's options, checked, as fields of a Network. Raises BadInput."""
    known = OPTIONS[wanted.driver]
    given: dict[str, str] = {}
    for key, value in wanted.options.items():
        name = DOCKER_NAMES.get(key, key)
        if name not in known:
            right = f"unknown option of {wanted.driver}; known: {', '.join(known)}"
            raise BadInput(place.field(f"options.{key}"), None, right)
        given[name] = value
    settings: dict[str, Any] = {"mtu": _mtu(wanted, given.get("mtu"), place)}
    if "icc" in given:
        if given["icc"] not in ("true", "false"):
            raise BadInput(place.field("options.icc"), given["icc"], "true or false")
        settings["icc"] = given["icc"] == "true"
    if wanted.driver in MODES:
        mode = given.get("mode", MODES[wanted.driver][0])
        if mode not in MODES[wanted.driver]:
            raise BadInput(place.field("options.mode"), mode, " or ".join(MODES[wanted.driver]))
        settings |= {"mode": mode, "parent": _parent(wanted, given, mode, nodes[0], ground, networks, place)}
    return settings


def _mtu(wanted: ContainerNetworkSpec, text: str | None, place: Place) -> int:
    most = UNDERLAY_MTU - (VXLAN_BYTES if wanted.driver == "overlay" else 0)
    if text is None:
        return most
    if not text.isdigit() or not LEAST_MTU <= int(text) <= most:
        raise BadInput(place.field("options.mtu"), text, f"{LEAST_MTU} to {most} bytes")
    return int(text)


def _parent(
    wanted: ContainerNetworkSpec,
    given: Mapping[str, str],
    mode: str,
    node: str,
    ground: Ground,
    networks: Sequence[Network],
    place: Place,
) -> str:
    """The link that a macvlan or ipvlan network is on; a link carries one of these kinds, and one mode of ipvlan."""
    here = ground.nodes[node]
    parent = given.get("parent", here.device)
    if parent not in here.links:
        raise BadInput(place.field("options.parent"), parent, f"a link of {node}: {', '.join(here.links)}")
    for other in networks:
        if other.node != node or other.parent != parent:
            continue
        if other.driver != wanted.driver or (wanted.driver == "ipvlan" and other.mode != mode):
            kind = f"{other.driver} {other.mode}"
            right = f"a link that carries no other kind: network {other.name} ({kind}) is on it"
            raise BadInput(place.field("options.parent"), parent, right)
    return parent


def pool(ground: Ground, networks: Iterable[Network], driver: str, place: Place) -> IPv4Network:
    """The first of Docker's own ranges that overlaps nothing. Raises BadInput when there is none."""
    taken = [*ground.ranges.values(), *(each.subnet for each in networks if each.subnet is not None)]
    for each in _OVERLAYS if driver == "overlay" else _POOL:
        if not any(each.overlaps(other) for other in taken):
            return each
    raise BadInput(place.field("subnet"), None, "a subnet of your own: all of the usual ones are taken")


def subnet_of(
    wanted: ContainerNetworkSpec,
    nodes: tuple[str, ...],
    settings: Mapping[str, Any],
    ground: Ground,
    networks: Sequence[Network],
    place: Place,
) -> tuple[Subnet, bool]:
    """The subnet asked for or chosen, and whether it is the network of the parent's link. Raises BadInput."""
    neighbours = _neighbours(wanted.driver, nodes, networks)
    lan = _lan(settings, nodes, ground)
    if wanted.subnet is None and lan is None:
        if settings.get("mode") in ("bridge", "private", "l2"):
            right = f"given: link {settings['parent']} has no address whose network it could be"
            raise BadInput(place.field("subnet"), None, right)
        network = pool(ground, neighbours, wanted.driver, place)
    else:
        network = wanted.subnet or lan  # type: ignore[assignment]
    on_lan = lan is not None and network == lan
    if network.prefixlen > LONGEST_PREFIX:
        raise BadInput(place.field("subnet"), str(network), f"a network with a prefix of at most {LONGEST_PREFIX}")
    if not on_lan:
        _check_apart(network, ground, neighbours, place)
    gateway = _gateway(wanted, network, ground.nodes[nodes[0]].gateway if on_lan else None, settings, place)
    return Subnet(network, gateway, _ip_range(wanted, network, ground, place, on_lan=on_lan)), on_lan


def _neighbours(driver: str, nodes: tuple[str, ...], networks: Iterable[Network]) -> list[Network]:
    """Whose subnets are to be others: networks that share a node, and of an overlay all overlays, as in a swarm."""
    overlay = driver == "overlay"
    return [each for each in networks if set(each.nodes) & set(nodes) or (overlay and each.driver == "overlay")]


def _lan(settings: Mapping[str, Any], nodes: tuple[str, ...], ground: Ground) -> IPv4Network | None:
    if settings.get("mode") not in ("bridge", "private", "l2"):
        return None
    address = ground.nodes[nodes[0]].links[settings["parent"]]
    return address.network if address is not None else None


def _check_apart(network: IPv4Network, ground: Ground, neighbours: Iterable[Network], place: Place) -> None:
    others = {what: each for what, each in ground.ranges.items() if network.overlaps(each)}
    for each in neighbours:
        if each.subnet is not None and not each.on_lan and network.overlaps(each.subnet):
            others[f"network {each.name}"] = each.subnet
    for what, other in others.items():
        raise BadInput(place.field("subnet"), str(network), f"a range that does not overlap {what} ({other})")
    for special in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"):
        if network.overlaps(IPv4Network(special)):
            raise BadInput(place.field("subnet"), str(network), f"a range outside {special}, which hosts cannot have")


def _gateway(
    wanted: ContainerNetworkSpec,
    network: IPv4Network,
    router: IPv4Address | None,
    settings: Mapping[str, Any],
    place: Place,
) -> IPv4Address | None:
    if settings.get("mode") == "l3":
        if wanted.gateway is not None:
            raise BadInput(place.field("gateway"), str(wanted.gateway), "left out in mode l3: the node routes")
        return None
    if wanted.gateway is None:
        return router if router is not None and router in network else network.network_address + 1
    if wanted.gateway not in network or wanted.gateway in (network.network_address, network.broadcast_address):
        raise BadInput(place.field("gateway"), str(wanted.gateway), f"an address of a host in {network}")
    return wanted.gateway


def _ip_range(
    wanted: ContainerNetworkSpec, network: IPv4Network, ground: Ground, place: Place, *, on_lan: bool
) -> IPv4Network | None:
    if wanted.ip_range is None:
        # nodes have the lower addresses of their network, and more of them may join
        return list(network.subnets())[1] if on_lan else None
    if not wanted.ip_range.subnet_of(network):
        raise BadInput(place.field("ip_range"), str(wanted.ip_range), f"a part of {network}")
    taken = sorted(each for each in ground.used if each in wanted.ip_range)
    if on_lan and taken:
        right = f"a part of {network} in which no host of the underlay is: {taken[0]} is taken"
        raise BadInput(place.field("ip_range"), str(wanted.ip_range), right)
    return wanted.ip_range
