"""The messages that make an underlay's bridges and links, and what shapes the links. Pure: `net` sends them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mininetes.cluster.underlay import Cable, Interface
from mininetes.kernel import rtnl

FIRST_BRIDGE = 2
"""The index of the first bridge in the lab's namespace: 1 is lo."""


def bridge_indexes(switches: Sequence[str]) -> dict[str, int]:
    """The index that each switch's bridge gets."""
    return {name: number for number, name in enumerate(switches, start=FIRST_BRIDGE)}


def bridge_requests(index: Mapping[str, int]) -> list[rtnl.Request]:
    """Messages that make the bridges."""
    macs = {number: f"02:01:00:00:{number >> 8:02x}:{number & 255:02x}" for number in index.values()}
    return [rtnl.add_bridge(name, number, macs[number]) for name, number in index.items()]


def ends_of(cable: Cable, switches: Iterable[str]) -> tuple[Interface, Interface]:
    """A link's ends, the one from which it is made first.

    That is the switch's, so that the port joins its bridge in the same message.
    """
    near, far = sorted(cable.ends, key=lambda end: end.owner not in switches)
    return near, far


def cable_request(cable: Cable, index: Mapping[str, int], far_netns: int) -> rtnl.Request:
    """The message that makes a link; ``index`` of the bridges, ``far_netns`` a descriptor of the other end's place."""
    near, far = ends_of(cable, index)
    bridge = index.get(near.owner, 0)
    end = rtnl.VethEnd(near.device, mac=near.mac, master=bridge, mtu=cable.mtu, up=bool(bridge))
    return rtnl.add_veth(end, rtnl.VethEnd(far.device, mac=far.mac, mtu=cable.mtu), far_netns)


def joining(cable: Cable, switches: Iterable[str]) -> list[str]:
    """What ip(8) is told, line by line, once a link between two switches is made.

    The kernel neither makes a new pair's peer a port nor brings it up, but what the message is about.
    """
    _, far = ends_of(cable, switches)
    return [f"link set {far.device} master {far.owner} up"] if far.owner in switches else []


def shaping(cable: Cable, end: Interface) -> list[str]:
    """What tc(8) is told, line by line, so that one end is slowed down; nothing for a plain link."""
    shape = cable.shape
    lines, parent = [], "root"
    if shape.bw is not None:
        lines = [
            f"qdisc add dev {end.device} root handle 5: htb default 1",
            f"class add dev {end.device} parent 5: classid 5:1 htb rate {shape.bw}mbit burst 15k",
        ]
        parent = "parent 5:1"
    if shape.needs_netem:
        delay = f" delay {shape.delay}" if shape.delay is not None else ""
        loss = f" loss {shape.loss}%" if shape.loss else ""
        lines.append(f"qdisc add dev {end.device} {parent} handle 10: netem{delay}{loss}")
    return lines
