"""Routing netlink in batches: pyroute2's encoding, many messages in one write, in any namespace.

The transport is our own because pyroute2's synchronous sockets cannot be used inside a running
event loop and take one message at a time; the message formats are pyroute2's.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from pyroute2.netlink.rtnl import marshal
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from mininetes.errors import MininetesError
from mininetes.kernel.netns import socket_in
from mininetes.kernel.netstate import Vxlan
from mininetes.kernel.rtnl_entries import (
    IFF_UP,
    RT_TABLE_MAIN,
    RTN_UNICAST,
    RTPROT_BOOT,
    pack_fdb,
    pack_gateway_route,
    pack_neighbour,
)

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
_REQUEST, _ACK, _DUMP, _REPLACE, _EXCL, _CREATE = 0x1, 0x4, 0x300, 0x100, 0x200, 0x400
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_BATCH = 32
"""Messages in one write: the kernel's answers must fit the socket's buffer."""

RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 0, 253


@dataclass(frozen=True)
class Request:
    """One message, with words for errors: what it does. The body is pyroute2's, or encoded already."""

    what: str
    type: int
    flags: int
    body: Any = field(repr=False)


class RtnlFailed(MininetesError):
    """The kernel refused a message: says which and why; ``errno`` is the kernel's."""

    def __init__(self, what: str, code: int) -> None:
        super().__init__(f"{what}: {os.strerror(code)}")
        self.errno = code


class Rtnl:
    """A routing socket that lives in the network namespace at ``path``; for one thread at a time."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket = socket_in(path, socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.settimeout(20.0)
        self._socket.bind((0, 0))
        self._sequence = 0
        self._marshal = marshal.MarshalRtnl()

    def __enter__(self) -> Rtnl:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket. May be called twice."""
        self._socket.close()

    def _encode(self, request: Request, extra_flags: int) -> bytes:
        self._sequence += 1
        message = request.body
        if isinstance(message, bytes):
            flags = _REQUEST | request.flags | extra_flags
            return _HEADER.pack(_HEADER.size + len(message), request.type, flags, self._sequence, 0) + message
        message["header"] = {
            "type": request.type,
            "flags": _REQUEST | request.flags | extra_flags,
            "sequence_number": self._sequence,
            "pid": 0,
        }
        message.encode()
        return bytes(message.data)

    def batch(self, requests: Sequence[Request]) -> None:
        """Have the kernel carry out the requests in order; all are tried.

        Raises RtnlFailed for the first that was refused.
        """
        failed: RtnlFailed | None = None
        for start in range(0, len(requests), _BATCH):
            part = requests[start : start + _BATCH]
            first = self._sequence + 1
            self._socket.send(b"".join(self._encode(request, _ACK) for request in part))
            missing = set(range(first, first + len(part)))
            while missing:
                for kind, sequence, body in self._receive():
                    if kind != _NLMSG_ERROR or sequence not in missing:
                        continue
                    missing.discard(sequence)
                    code = -struct.unpack_from("=i", body)[0]
                    if code and failed is None:
                        failed = RtnlFailed(f"{part[sequence - first].what} (in {self.path})", code)
        if failed is not None:
            raise failed

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        data = self._socket.recv(1 << 18)
        offset = 0
        while offset < len(data):
            length, kind, _, sequence, _ = _HEADER.unpack_from(data, offset)
            yield kind, sequence, data[offset + _HEADER.size : offset + length]
            offset += (length + 3) & ~3

    def _dump(self, kind: int, body: Any) -> Iterator[Any]:
        self._socket.send(self._encode(Request("dump", kind, _DUMP, body), 0))
        while True:
            data = self._socket.recv(1 << 18)
            for message in self._marshal.parse(data):
                code = message["header"]["type"]
                if code == _NLMSG_DONE:
                    return
                if code == _NLMSG_ERROR:
                    raise RtnlFailed(f"dump in {self.path}", errno.EIO)
                yield message

    def dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        """The bodies of all messages with which the kernel answers a request for everything of a kind.

        Raises RtnlFailed when it refuses.
        """
        self._socket.send(self._encode(Request("dump", kind, _DUMP, body), 0))
        while True:
            for code, _, answer in self._receive():
                if code == _NLMSG_DONE:
                    return
                if code == _NLMSG_ERROR:
                    raise RtnlFailed(f"dump in {self.path}", -struct.unpack_from("=i", answer)[0])
                yield answer

    def links(self) -> list[Any]:
        """All links, as pyroute2's ifinfmsg."""
        return list(self._dump(RTM_GETLINK, ifinfmsg()))

    def addresses(self) -> list[Any]:
        """All IPv4 addresses, as pyroute2's ifaddrmsg."""
        message = ifaddrmsg()
        message["family"] = socket.AF_INET
        return list(self._dump(RTM_GETADDR, message))

    def routes(self) -> list[Any]:
        """The IPv4 routes of the main table, as pyroute2's rtmsg."""
        message = rtmsg()
        message["family"] = socket.AF_INET
        return [found for found in self._dump(RTM_GETROUTE, message) if found["table"] == RT_TABLE_MAIN]


@dataclass(frozen=True)
class VethEnd:
    """One end of a veth pair: its name, index (0: the kernel's choice), MAC, and the bridge it is a port of."""

    name: str
    index: int = 0
    mac: str | None = None
    master: int = 0
    mtu: int = 1500
    up: bool = False

    def message(self, netns_fd: int | None = None) -> Any:
        """The link message of this end; in the namespace behind ``netns_fd`` when given."""
        body = ifinfmsg()
        body["index"] = self.index
        if self.up:
            body["flags"] = body["change"] = IFF_UP
        attributes: list[tuple[str, Any]] = [("IFLA_IFNAME", self.name), ("IFLA_MTU", self.mtu)]
        if self.mac:
            attributes.append(("IFLA_ADDRESS", self.mac))
        if self.master:
            attributes.append(("IFLA_MASTER", self.master))
        if netns_fd is not None:
            attributes.append(("IFLA_NET_NS_FD", netns_fd))
        body["attrs"] = attributes
        return body


def add_veth(end: VethEnd, peer: VethEnd, peer_netns_fd: int) -> Request:
    """Make a veth pair, the peer straight in its own namespace. Refused when a name or index is taken."""
    body = end.message()
    info = {"attrs": [("VETH_INFO_PEER", peer.message(peer_netns_fd))]}
    body["attrs"].append(("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", info)]}))
    return Request(f"add veth {end.name} - {peer.name}", RTM_NEWLINK, _CREATE | _EXCL, body)


def add_bridge(name: str, index: int, mac: str) -> Request:
    """Make a Linux bridge that is up and forwards at once (no spanning tree). Refused when the name is taken."""
    body = ifinfmsg()
    body["index"] = index
    body["flags"] = body["change"] = IFF_UP
    info = {"attrs": [("IFLA_INFO_KIND", "bridge"), ("IFLA_INFO_DATA", {"attrs": [("IFLA_BR_FORWARD_DELAY", 0)]})]}
    body["attrs"] = [("IFLA_IFNAME", name), ("IFLA_ADDRESS", mac), ("IFLA_LINKINFO", info)]
    return Request(f"add bridge {name}", RTM_NEWLINK, _CREATE | _EXCL, body)


def set_up(index: int, what: str) -> Request:
    """Bring a link up. Does nothing when it is."""
    body = ifinfmsg()
    body["index"] = index
    body["flags"] = body["change"] = IFF_UP
    return Request(f"bring {what} up", RTM_NEWLINK, 0, body)


def address(index: int, cidr: str, *, delete: bool = False) -> Request:
    """Add (or delete) an IPv4 address ``a.b.c.d/n``. Adding one that is there is refused (EEXIST)."""
    text, _, prefix = cidr.partition("/")
    body = ifaddrmsg()
    body["family"], body["prefixlen"], body["index"] = socket.AF_INET, int(prefix), index
    body["attrs"] = [("IFA_LOCAL", text), ("IFA_ADDRESS", text)]
    if int(prefix) < 31:
        mask = (1 << (32 - int(prefix))) - 1
        broadcast = struct.unpack("!I", socket.inet_aton(text))[0] | mask
        body["attrs"].append(("IFA_BROADCAST", socket.inet_ntoa(struct.pack("!I", broadcast))))
    kind, flags = (RTM_DELADDR, 0) if delete else (RTM_NEWADDR, _CREATE | _EXCL)
    return Request(f"{'delete' if delete else 'add'} address {cidr}", kind, flags, body)


def route(destination: str, hops: Sequence[tuple[str | None, int]], *, delete: bool = False) -> Request:
    """Replace (or delete) the main table's IPv4 route to ``a.b.c.d/n``.

    ``hops``: gateway (None: on the link) and link index of each next hop; several make a multipath route.
    """
    text, _, prefix = destination.partition("/")
    if len(hops) == 1 and hops[0][0] and int(prefix):
        return gateway_route(IPv4Network(destination), IPv4Address(hops[0][0]), hops[0][1], delete=delete)
    body = _route_head(int(prefix))
    body["scope"] = RT_SCOPE_UNIVERSE if any(gateway for gateway, _ in hops) else RT_SCOPE_LINK
    attributes: list[tuple[str, Any]] = [("RTA_DST", text)] if int(prefix) else []
    if len(hops) == 1:
        gateway, index = hops[0]
        attributes += [("RTA_GATEWAY", gateway)] if gateway else []
        attributes.append(("RTA_OIF", index))
    else:
        attributes.append(
            ("RTA_MULTIPATH", [{"oif": index, "hops": 0, "attrs": [("RTA_GATEWAY", gw)]} for gw, index in hops])
        )
    body["attrs"] = attributes
    return _entry("route", destination, RTM_DELROUTE if delete else RTM_NEWROUTE, body, delete)


def _route_head(prefix: int) -> Any:
    body = rtmsg()
    body["family"], body["dst_len"], body["table"] = socket.AF_INET, prefix, RT_TABLE_MAIN
    body["proto"], body["type"] = RTPROT_BOOT, RTN_UNICAST
    return body


def _entry(kind: str, what: object, message: int, body: Any, delete: bool) -> Request:
    if delete:
        return Request(f"delete {kind} {what}", message, 0, body)
    return Request(f"set {kind} {what}", message, _CREATE | _REPLACE, body)


def gateway_route(
    destination: IPv4Network, gateway: IPv4Address, index: int, *, onlink: bool = False, delete: bool = False
) -> Request:
    """Replace (or delete) a route over one gateway: the same as `route`, without its detours."""
    body = pack_gateway_route(destination, gateway, index, onlink=onlink)
    return _entry("route", destination, RTM_DELROUTE if delete else RTM_NEWROUTE, body, delete)


def neighbour(address: IPv4Address, mac: str, index: int, *, delete: bool = False) -> Request:
    """Replace (or delete) a permanent neighbour."""
    body = pack_neighbour(address, mac, index)
    return _entry("neighbour", address, RTM_DELNEIGH if delete else RTM_NEWNEIGH, body, delete)


def fdb(mac: str, remote: IPv4Address, index: int, *, delete: bool = False) -> Request:
    """Replace (or delete) a VXLAN device's permanent forwarding entry."""
    return _entry("fdb entry", mac, RTM_DELNEIGH if delete else RTM_NEWNEIGH, pack_fdb(mac, remote, index), delete)


def add_macvlan(name: str, lower: int, mode: str, *, mac: str, mtu: int, netns_fd: int) -> Request:
    """Make a macvlan (``mode``: bridge or private) on a link, straight in another namespace. Refused when taken."""
    return _add_child("macvlan", name, lower, {"IFLA_MACVLAN_MODE": mode}, [("IFLA_ADDRESS", mac)], mtu, netns_fd)


_IPVLAN_MODES = {"l2": 0, "l3": 1}


def add_ipvlan(name: str, lower: int, mode: str, *, mtu: int, netns_fd: int) -> Request:
    """Make an ipvlan (``mode``: l2 or l3) on a link, straight in another namespace; its MAC is the link's."""
    return _add_child("ipvlan", name, lower, {"IFLA_IPVLAN_MODE": _IPVLAN_MODES[mode]}, [], mtu, netns_fd)


def _add_child(
    kind: str, name: str, lower: int, data: Mapping[str, Any], more: Sequence[Any], mtu: int, netns_fd: int
) -> Request:
    body = ifinfmsg()
    info = {"attrs": [("IFLA_INFO_KIND", kind), ("IFLA_INFO_DATA", {"attrs": list(data.items())})]}
    places = [("IFLA_IFNAME", name), ("IFLA_MTU", mtu), ("IFLA_LINK", lower), ("IFLA_NET_NS_FD", netns_fd)]
    body["attrs"] = [*places, *more, ("IFLA_LINKINFO", info)]
    return Request(f"add {kind} {name}", RTM_NEWLINK, _CREATE | _EXCL, body)


def rename(index: int, name: str) -> Request:
    """Give a link that is down another name. Refused when that is taken."""
    body = ifinfmsg()
    body["index"] = index
    body["attrs"] = [("IFLA_IFNAME", name)]
    return Request(f"rename link {index} to {name}", RTM_NEWLINK, 0, body)


def tune_bridge(index: int, name: str, mac: str) -> Request:
    """Give a bridge that is there its MAC."""
    body = ifinfmsg()
    body["index"] = index
    body["attrs"] = [("IFLA_ADDRESS", mac)]
    return Request(f"tune bridge {name}", RTM_NEWLINK, 0, body)


def add_vxlan(device: Vxlan, lower: int, master: int = 0) -> Request:
    """Make a VXLAN device (down) on the link with index ``lower``. Refused when the name is taken.

    ``master``: the index of the bridge that it joins.
    """
    data = [
        ("IFLA_VXLAN_ID", device.vni),
        ("IFLA_VXLAN_LINK", lower),
        ("IFLA_VXLAN_LOCAL", str(device.local)),
        ("IFLA_VXLAN_LEARNING", int(device.learning)),
        ("IFLA_VXLAN_PORT", device.port),
        *([("IFLA_VXLAN_PROXY", 1)] if device.proxy else []),
    ]
    body = ifinfmsg()
    info = {"attrs": [("IFLA_INFO_KIND", "vxlan"), ("IFLA_INFO_DATA", {"attrs": data})]}
    joined = [("IFLA_MASTER", master)] if master else []
    body["attrs"] = [*_tunables(device), *joined, ("IFLA_LINKINFO", info)]
    return Request(f"add vxlan {device.name}", RTM_NEWLINK, _CREATE | _EXCL, body)


def tune_vxlan(device: Vxlan, index: int, master: int = 0) -> Request:
    """Give a VXLAN device that is there its MAC, MTU, queue length and bridge (0: none)."""
    body = ifinfmsg()
    body["index"] = index
    body["attrs"] = [*_tunables(device)[1:], ("IFLA_MASTER", master)]
    return Request(f"tune vxlan {device.name}", RTM_NEWLINK, 0, body)


def _tunables(device: Vxlan) -> list[tuple[str, Any]]:
    return [
        ("IFLA_IFNAME", device.name),
        ("IFLA_ADDRESS", device.mac),
        ("IFLA_MTU", device.mtu),
        ("IFLA_TXQLEN", device.txqueuelen),
    ]


def delete_link(index: int, name: str) -> Request:
    """Delete a link, with all that is on it."""
    body = ifinfmsg()
    body["index"] = index
    return Request(f"delete link {name}", RTM_DELLINK, 0, body)
