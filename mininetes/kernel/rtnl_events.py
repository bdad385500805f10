"""Hearing of changes to a namespace's links, addresses, routes and neighbours, as the kernel tells them."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable

from mininetes.kernel import rtnl
from mininetes.kernel.netns import in_netns
from mininetes.kernel.rtnl_entries import RT_TABLE_MAIN

_LINK, _NEIGH, _IPV4_ADDRESS, _IPV4_ROUTE = 0x1, 0x4, 0x10, 0x40
_HEADER = struct.Struct("=IHHII")
_INDEX = struct.Struct("=4xi")
_LINK_KINDS = (rtnl.RTM_NEWLINK, rtnl.RTM_DELLINK, rtnl.RTM_NEWADDR, rtnl.RTM_DELADDR)
_NEIGHBOUR_KINDS = (rtnl.RTM_NEWNEIGH, rtnl.RTM_DELNEIGH)
_ROUTE_KINDS = (rtnl.RTM_NEWROUTE, rtnl.RTM_DELROUTE)
_TABLE_AT = 4
_BUFFER_BYTES = 1 << 16


class RtnlEvents:
    """A socket that becomes readable when something changes. Ask `concerns` then; for one thread at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._links: frozenset[int] = frozenset()
        self._tunnels: frozenset[int] = frozenset()
        with in_netns(path):
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
            self._socket.bind((0, _LINK | _NEIGH | _IPV4_ADDRESS | _IPV4_ROUTE))

    def fileno(self) -> int:
        """Readable when something changed."""
        return self._socket.fileno()

    def heed(self, links: Iterable[str], tunnels: Iterable[str]) -> None:
        """From now on heed changes of these links and their addresses, and the neighbours of these tunnels.

        Call it again when one of them was made anew. Names of links that are not there are left out.
        """
        with in_netns(self._path):
            there = {name: index for index, name in socket.if_nameindex()}
        self._links = frozenset(there[name] for name in links if name in there)
        self._tunnels = frozenset(there[name] for name in tunnels if name in there)

    def concerns(self) -> bool:
        """Read what the kernel told; True when some of it is about routes of the main table or what is heeded."""
        found = False
        while True:
            try:
                data = self._socket.recv(_BUFFER_BYTES)
            except BlockingIOError:
                return found
            except OSError as lost:
                if lost.errno != errno.ENOBUFS:
                    raise
                found = True  # there was more than the buffer holds
                continue
            found = self._has_such(data) or found

    def _has_such(self, data: bytes) -> bool:
        offset = 0
        while offset + _HEADER.size + 8 <= len(data):
            length, kind, _, _, _ = _HEADER.unpack_from(data, offset)
            body = offset + _HEADER.size
            if kind in _ROUTE_KINDS:
                if data[body + _TABLE_AT] == RT_TABLE_MAIN:
                    return True
            else:
                index = _INDEX.unpack_from(data, body)[0]
                if kind in _LINK_KINDS and index in self._links:
                    return True
                if kind in _NEIGHBOUR_KINDS and index in self._tunnels:
                    return True
            offset += max((length + 3) & ~3, _HEADER.size)
        return False

    def close(self) -> None:
        """Hear no more. May be called twice."""
        self._socket.close()
