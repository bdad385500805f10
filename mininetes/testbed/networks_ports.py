"""A node's links that are there: which can be parents, and settings: bridges that route loopback addresses, hairpin."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from ipaddress import IPv4Interface

from mininetes.kernel import applier, rtnl
from mininetes.kernel import rtnl_entries as entries
from mininetes.kernel.netstate import Change, NetState
from mininetes.testbed.networks_plan import LinkSettings

RTM_SETLINK = 19
_AF_BRIDGE, _NESTED = 7, 0x8000
_IFLA_PROTINFO, _IFLA_LINKINFO, _IFLA_IFNAME = 12, 18, 3
_INFO_SLAVE_DATA, _BRPORT_MODE = 5, 4
_LINK = struct.Struct("=BxHiII")
_HAIRPIN = struct.Struct("=BxHiIIHHHHBxxx")


def parents(netns: str) -> Mapping[str, IPv4Interface | None]:
    """The links that can be parents, with an address each where they have one. Blocks."""
    found = applier.read(netns)
    names = [name for name in found.indexes if name != "lo" and not name.startswith("veth")]
    addresses = dict(sorted(found.addresses, reverse=True))
    return {name: addresses.get(name) for name in sorted(names)}


def apply(netns: str, wanted: LinkSettings) -> list[Change]:
    """Give the links of a node what they lack, and return what that was. Ports that have gone are left out.

    May be called again at any time. Blocks. Raises MininetesError, as when a bridge is not there.
    """
    changes = applier.apply(netns, NetState(sysctls=wanted.sysctls)) if wanted.localnet else []
    if not wanted.hairpin:
        return changes
    with rtnl.Rtnl(netns) as kernel:
        ports = _ports(kernel)
        lacking = sorted(name for name in wanted.hairpin & ports.keys() if not ports[name][1])
        if lacking:
            kernel.batch([hairpin(ports[name][0], name) for name in lacking])
    return [*changes, *(Change("port", "change", f"{name} hairpin on") for name in lacking)]


def hairpin(index: int, name: str) -> rtnl.Request:
    """The message that has a bridge's port send back what came in by it."""
    mode = (8 + 4, _IFLA_PROTINFO | _NESTED, 5, _BRPORT_MODE, 1)
    return rtnl.Request(f"hairpin of {name}", RTM_SETLINK, 0, _HAIRPIN.pack(_AF_BRIDGE, 0, index, 0, 0, *mode))


def _ports(kernel: rtnl.Rtnl) -> Mapping[str, tuple[int, bool]]:
    """Index of each link that is a bridge's port, and whether it sends back, by name."""
    found = {}
    for body in kernel.dump(rtnl.RTM_GETLINK, entries.ask_for_links()):
        of_link = entries.attributes(body, _LINK.size)
        info = entries.attributes(of_link.get(_IFLA_LINKINFO, b""), 0)
        port = entries.attributes(info.get(_INFO_SLAVE_DATA, b""), 0)
        if _BRPORT_MODE in port:
            name = of_link[_IFLA_IFNAME].rstrip(b"\0").decode()
            found[name] = _LINK.unpack_from(body)[2], port[_BRPORT_MODE] != b"\0"
    return found
