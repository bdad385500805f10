"""Netlink messages as the commands of ip(8) and bridge(8) that send the same: what a dry run prints. Pure.

They are read from the very messages that would go to the kernel, so that both cannot differ.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from mininetes.kernel import rtnl
from mininetes.kernel import rtnl_entries as entries
from mininetes.kernel.rtnl import Request

Names = Mapping[int, str]

_CREATE = 0x400


def command(request: Request, links: Names, namespaces: Names) -> str:
    """One message as a command, to be run in its namespace.

    ``links`` are the namespace's by index, ``namespaces`` those behind the message's file descriptors. Raises
    KeyError for a message that names another one.
    """
    return _READERS[request.type](request, links, namespaces)


def _attributes(body: Any) -> dict[str, Any]:
    return dict(body.get("attrs") or [])


def _index_of(body: Any) -> int:
    return int(body.get("index") or 0)


def _is_up(body: Any) -> bool:
    return bool((body.get("flags") or 0) & entries.IFF_UP)


def _words(found: Mapping[str, Any], links: Names) -> str:
    """What ip(8) takes for a new link and for one that is there."""
    said = [
        f"{word} {found[key]}"
        for key, word in (("IFLA_ADDRESS", "address"), ("IFLA_MTU", "mtu"), ("IFLA_TXQLEN", "txqueuelen"))
        if key in found
    ]
    if "IFLA_MASTER" in found:
        said.append(f"master {links[found['IFLA_MASTER']]}" if found["IFLA_MASTER"] else "nomaster")
    return "".join(" " + each for each in said)


def _new_link(request: Request, links: Names, namespaces: Names) -> str:
    body, found = request.body, _attributes(request.body)
    if not request.flags & _CREATE:
        return _changed_link(body, found, links)
    info = _attributes(found["IFLA_LINKINFO"])
    kind, index = info["IFLA_INFO_KIND"], _index_of(body)
    text = f"ip link add {found['IFLA_IFNAME']}" + (f" index {index}" if index else "")
    if "IFLA_LINK" in found:
        text += f" link {links[found['IFLA_LINK']]}"
    text += _words(found, links) + (" up" if _is_up(body) else "")
    if "IFLA_NET_NS_FD" in found:
        text += f" netns {namespaces[found['IFLA_NET_NS_FD']]}"
    data = _attributes(info.get("IFLA_INFO_DATA") or {})
    return f"{text} type {kind}{_KINDS[kind](data, links, namespaces)}"


def _changed_link(body: Any, found: Mapping[str, Any], links: Names) -> str:
    text = f"ip link set {links[_index_of(body)]}"
    if "IFLA_IFNAME" in found:
        text += f" name {found['IFLA_IFNAME']}"
    return text + _words(found, links) + (" up" if _is_up(body) else "")


def _veth(data: Mapping[str, Any], links: Names, namespaces: Names) -> str:
    peer = data["VETH_INFO_PEER"]
    found = _attributes(peer)
    text = f" peer name {found['IFLA_IFNAME']}{_words(found, links)}" + (" up" if _is_up(peer) else "")
    netns = namespaces[found["IFLA_NET_NS_FD"]]
    return f"{text} netns {netns}" if netns else text


def _bridge(data: Mapping[str, Any], links: Names, namespaces: Names) -> str:
    return "".join(f" forward_delay {value}" for key, value in data.items() if key == "IFLA_BR_FORWARD_DELAY")


def _vxlan(data: Mapping[str, Any], links: Names, namespaces: Names) -> str:
    text = f" id {data['IFLA_VXLAN_ID']} local {data['IFLA_VXLAN_LOCAL']} dev {links[data['IFLA_VXLAN_LINK']]}"
    text += f" dstport {data['IFLA_VXLAN_PORT']}" + (" learning" if data["IFLA_VXLAN_LEARNING"] else " nolearning")
    return text + (" proxy" if data.get("IFLA_VXLAN_PROXY") else "")


def _macvlan(data: Mapping[str, Any], links: Names, namespaces: Names) -> str:
    return f" mode {data['IFLA_MACVLAN_MODE']}"


def _ipvlan(data: Mapping[str, Any], links: Names, namespaces: Names) -> str:
    return f" mode {'l3' if data['IFLA_IPVLAN_MODE'] else 'l2'}"


_KINDS: Mapping[str, Callable[[Mapping[str, Any], Names, Names], str]] = {
    "bridge": _bridge,
    "ipvlan": _ipvlan,
    "macvlan": _macvlan,
    "veth": _veth,
    "vxlan": _vxlan,
}


def _gone_link(request: Request, links: Names, namespaces: Names) -> str:
    return f"ip link delete {links[_index_of(request.body)]}"


def _address(request: Request, links: Names, namespaces: Names) -> str:
    body, found = request.body, _attributes(request.body)
    action = "add" if request.type == rtnl.RTM_NEWADDR else "delete"
    broadcast = f" broadcast {found['IFA_BROADCAST']}" if "IFA_BROADCAST" in found and action == "add" else ""
    return f"ip address {action} {found['IFA_LOCAL']}/{body['prefixlen']}{broadcast} dev {links[_index_of(body)]}"


def _route(request: Request, links: Names, namespaces: Names) -> str:
    action = "replace" if request.type == rtnl.RTM_NEWROUTE else "delete"
    if isinstance(request.body, bytes):
        read = entries.unpack_route(request.body, links)
        assert read is not None
        return f"ip route {action} {read}"
    body, found = request.body, _attributes(request.body)
    to = f"{found['RTA_DST']}/{body['dst_len']}" if "RTA_DST" in found else "default"
    if "RTA_MULTIPATH" not in found:
        via = f" via {found['RTA_GATEWAY']}" if "RTA_GATEWAY" in found else ""
        return f"ip route {action} {to}{via} dev {links[found['RTA_OIF']]}"
    hops = [(_attributes(hop).get("RTA_GATEWAY"), links[hop["oif"]]) for hop in found["RTA_MULTIPATH"]]
    said = [f"nexthop {f'via {gateway} ' if gateway else ''}dev {device}" for gateway, device in hops]
    return f"ip route {action} {to} {' '.join(said)}"


def _neighbour(request: Request, links: Names, namespaces: Names) -> str:
    action = "replace" if request.type == rtnl.RTM_NEWNEIGH else "delete"
    family, index = request.body[0], int.from_bytes(request.body[4:8], sys.byteorder)
    device = links[index]
    if family == entries.AF_BRIDGE:
        entry = entries.unpack_fdb(request.body, device)
        assert entry is not None
        return f"bridge fdb {action} {entry.mac} dev {device} dst {entry.remote} self permanent"
    known = entries.unpack_neighbour(request.body, device)
    assert known is not None
    return f"ip neighbour {action} {known.address} lladdr {known.mac} dev {device} nud permanent"


_READERS: Mapping[int, Callable[[Request, Names, Names], str]] = {
    rtnl.RTM_NEWLINK: _new_link,
    rtnl.RTM_DELLINK: _gone_link,
    rtnl.RTM_NEWADDR: _address,
    rtnl.RTM_DELADDR: _address,
    rtnl.RTM_NEWROUTE: _route,
    rtnl.RTM_DELROUTE: _route,
    rtnl.RTM_NEWNEIGH: _neighbour,
    rtnl.RTM_DELNEIGH: _neighbour,
}


def links_made(request: Request) -> list[tuple[str, int, int | None]]:
    """The links that a message makes: name, index (0: the kernel's choice), and the descriptor of another namespace."""
    if request.type != rtnl.RTM_NEWLINK or not request.flags & _CREATE:
        return []
    found = _attributes(request.body)
    made = [(found["IFLA_IFNAME"], _index_of(request.body), found.get("IFLA_NET_NS_FD"))]
    peer = _attributes(_attributes(found["IFLA_LINKINFO"]).get("IFLA_INFO_DATA") or {}).get("VETH_INFO_PEER")
    if peer is not None:
        there = _attributes(peer)
        made.append((there["IFLA_IFNAME"], _index_of(peer), there["IFLA_NET_NS_FD"]))
    return made


def link_renamed(request: Request) -> tuple[int, str] | None:
    """The index of the link that a message gives another name, and the name."""
    if request.type != rtnl.RTM_NEWLINK or request.flags & _CREATE:
        return None
    name = _attributes(request.body).get("IFLA_IFNAME")
    return None if name is None else (_index_of(request.body), name)


def link_deleted(request: Request) -> int | None:
    """The index of the link that a message takes away."""
    return _index_of(request.body) if request.type == rtnl.RTM_DELLINK else None
