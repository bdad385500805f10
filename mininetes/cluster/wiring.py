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
    ends = [
        rtnl.VethEnd(
            end.device, mac=end.mac, master=index.get(end.owner, 0), mtu=cable.mtu, up=end.owner in index
        )
        for end in ends_of(cable, index)
    ]  # fmt: skip
    return rtnl.add_veth(ends[0], ends[1], far_netns)


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
