"""What a fabric is told, and what is expected of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from types import ModuleType

from mininetes.cluster.underlay import Underlay
from mininetes.errors import BadInput, MininetesError
from mininetes.kernel.netstate import Hop, NetState

_MOST_ROUTERS = 16


@dataclass(frozen=True)
class FabricNode:
    """A node as a fabric sees it."""

    name: str
    address: IPv4Address
    device: str
    pod_subnet: IPv4Network


@dataclass(frozen=True)
class FabricView:
    """What a fabric's plan is made from: the nodes with their pod subnets, and the underlay between them."""

    nodes: tuple[FabricNode, ...]
    underlay: Underlay
    pod_network: IPv4Network

    def way(self, source: str, address: IPv4Address) -> list[tuple[str, tuple[Hop, ...]]]:
        """Each host that forwards to ``address`` on the way from ``source``, with its next hops.

        Where several equal ways are there, all of their hosts. Raises MininetesError when the
        underlay has no way, or one in a circle.
        """
        found: dict[str, tuple[Hop, ...]] = {}
        waiting = [source]
        while waiting:
            name = waiting.pop(0)
            host = self.underlay.hosts[name]
            if name in found or any(each.address and each.address.ip == address for each in host.interfaces):
                continue
            hops = host.hops_to(address)
            if not hops or len(found) > _MOST_ROUTERS:
                raise MininetesError(f"the underlay has no way from {source} to {address}: it ends at {name}")
            found[name] = hops
            for hop in hops:
                next_host = self.underlay.at(hop.gateway) if hop.gateway else None
                if next_host is None:
                    raise MininetesError(f"the underlay has no host at {hop.gateway}, the next hop of {name}")
                waiting.append(next_host.name)
        return list(found.items())


def plan_of(module: ModuleType, name: str, view: FabricView) -> Mapping[str, NetState]:
    """Call a fabric's plan. Raises BadInput when the file is no fabric."""
    plan = getattr(module, "plan", None)
    if not callable(plan) or not isinstance(getattr(module, "CONNECTS_NODES", None), bool):
        raise BadInput("fabric", name, "a file with CONNECTS_NODES (True or False) and plan(view)")
    states = plan(view)
    unknown = sorted(set(states) - set(view.underlay.hosts))
    if unknown:
        raise BadInput(f"fabric {name}: plan", unknown[0], "a host of the underlay")
    return {host: states[host] for host in sorted(states)}
