"""What a peer says of itself, in plain text as weave's users know it, and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from mininetes.agents.weave.addresses import EXPOSE
from mininetes.agents.weave.knowledge import POD, SERVICE, SERVICES
from mininetes.agents.weave.peer import Peer, PeerAddress
from mininetes.agents.weave.wire import PORT, PROTOCOL, VERSION


@dataclass(frozen=True)
class Link:
    """A connection of this peer, or one that it would like to have."""

    peer: PeerAddress
    established: bool
    outbound: bool
    address: str
    why: str = ""
    """What keeps it from being established."""


def links_of(connections: Any, members: Mapping[str, PeerAddress]) -> list[Link]:
    """The connections of a `Connections` by the peers' names: those that are there, and those that are tried."""
    found = []
    for name, target in sorted(connections.targets.items()):
        connection = connections.open.get(name)
        if connection is None:
            found.append(
                Link(target.peer, False, True, f"{target.peer.address}:{PORT}", target.failure or "connecting")
            )
    for name, connection in sorted(connections.open.items()):
        found.append(Link(members.get(name, connection.hello.peer), True, connection.outbound, connection.address))
    return sorted(found, key=lambda link: link.peer.name)


def summary(peer: Peer, links: Sequence[Link], mtu: int) -> str:
    """``weave status``."""
    members = peer.members()
    established = sum(map(len, _links(peer).values()))
    up = sum(link.established for link in links)
    services = len(dict(_services(peer)))
    pods = sum(len(_pods(peer, name)) for name in members)
    rows: list[tuple[str, str] | None] = [
        ("Service", "router"),
        ("Protocol", f"{PROTOCOL} {VERSION}"),
        ("Name", str(peer.me)),
        ("PeerDiscovery", "enabled"),
        ("Targets", str(len(members) - 1)),
        ("Connections", f"{len(links)} ({up} established, {len(links) - up} pending)"),
        ("Peers", f"{len(members)} (with {established} established connections)"),
        ("MTU", str(mtu)),
        None,
        ("Service", "ipam"),
        ("Status", "ready" if peer.ring.ranges(peer.me.name) else "waiting for a range"),
        ("Range", str(peer.network)),
        ("Owned", ", ".join(map(str, peer.ring.ranges(peer.me.name))) or "none"),
        ("Addresses", f"{pods} given out by all"),
        ("Conflicts", ", ".join(peer.conflicts()) or "none"),
        None,
        ("Service", "names"),
        ("Services", f"{services} known"),
    ]
    return "".join("\n" if row is None else f"{row[0]:>15}: {row[1]}\n" for row in rows)


def connections(links: Sequence[Link]) -> str:
    """``weave status connections``."""
    lines = []
    for link in links:
        arrow, state = "->" if link.outbound else "<-", "established" if link.established else "pending"
        tail = f" {link.why}" if link.why else ""
        lines.append(f"{arrow} {link.address:<21} {state:<11} {link.peer}{tail}\n")
    return "".join(lines)


def peers(peer: Peer) -> str:
    """``weave status peers``: each peer, and those to which it is connected, as far as it can be reached."""
    members, near, links = peer.members(), peer.reachable(), _links(peer)
    lines = []
    for name, each in sorted(members.items()):
        lines.append(f"{each}{'' if name in near else ' unreachable'}\n")
        for other in sorted(links[name]):
            lines.append(f"   -- {members.get(other, other)} established\n")
    return "".join(lines)


def ipam(peer: Peer) -> str:
    """``weave status ipam``: whose how many addresses are, and how many of them are given out."""
    members, near, owned = peer.members(), peer.reachable(), peer.ring.owned()
    lines = []
    for name in sorted({*members, *owned}):
        count = owned.get(name, 0)
        share = 100 * count / peer.network.num_addresses
        active = len(_pods(peer, name))
        who = str(members.get(name, name))
        note = "" if name in near else " unreachable"
        lines.append(f"{who:<30} {count:>8} IPs ({share:04.1f}% of total) ({active} active){note}\n")
    return "".join(lines)


def addresses(peer: Peer) -> str:
    """``weave ps``: the node's own holders of addresses."""
    lines = []
    for holder, address in sorted(peer.addresses.held.items(), key=lambda item: item[1]):
        name = (
            ""
            if holder == EXPOSE
            else str((peer.knowledge.value(peer.me.name, f"{POD}{address}") or {}).get("pod", ""))
        )
        lines.append(f"{holder} {address}/{peer.network.prefixlen} {name}".rstrip() + "\n")
    return "".join(lines)


def services(peer: Peer) -> str:
    """``weave status services``."""
    return "".join(
        f"{name:<40} {value['type']:<13} {value['address']:<16} {','.join(value['ports'])}\n"
        for name, value in sorted(_services(peer))
    )


def report(peer: Peer, links: Sequence[Link]) -> dict[str, Any]:
    """All of it as JSON: the same for two peers, but for ``self`` and ``connections``, when both know all."""
    members, established = peer.members(), _links(peer)
    return {
        "self": {"name": peer.me.name, "nickname": peer.me.nickname, "network": str(peer.network)},
        "connections": [
            {
                "peer": link.peer.nickname,
                "established": link.established,
                "outbound": link.outbound,
                "address": link.address,
                "why": link.why,
            }
            for link in links
        ],
        "peers": {
            each.nickname: {
                "name": name,
                "address": each.address,
                "links": sorted(members[other].nickname if other in members else other for other in established[name]),
                "pods": dict(sorted(_pods(peer, name), key=lambda item: IPv4Address(item[0]))),
                "ranges": [str(part) for part in peer.ring.ranges(name)],
            }
            for name, each in sorted(members.items())
        },
        "services": dict(sorted(_services(peer))),
        "ring": peer.ring.to_json(),
        "conflicts": peer.conflicts(),
    }


def _links(peer: Peer) -> dict[str, set[str]]:
    """Each member's connections; of one that cannot be reached only what it said last is known: that is not shown."""
    near = peer.reachable()
    return {name: peer.links(name) if name in near else set() for name in peer.members()}


def _pods(peer: Peer, name: str) -> list[tuple[str, Any]]:
    record = peer.knowledge.records.get(name)
    return list(record.values(POD)) if record is not None else []


def _services(peer: Peer) -> list[tuple[str, Any]]:
    record = peer.knowledge.records.get(SERVICES)
    return list(record.values(SERVICE)) if record is not None else []
