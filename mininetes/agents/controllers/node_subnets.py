"""Node IPAM: the pods' subnet of each node, spec.podCIDR."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network
from typing import Any, ClassVar

from mininetes.agents.controllers.controller import Controller, Shared
from mininetes.agents.controllers.settings import ControllerSettings
from mininetes.agents.objects import Object, is_deleted, uid_of


def subnet_for(name: str, settings: ControllerSettings, taken: Iterable[IPv4Network]) -> IPv4Network | None:
    """The subnet of a node: the planned one, else the first that overlaps none; None when none is left. Pure.

    Number 0 is never given out, and neither is what is planned for another node.
    """
    planned = settings.pod_subnets.get(name)
    if planned is not None:
        return planned
    used = [*taken, *settings.pod_subnets.values()]
    numbers = {(int(each.network_address) - int(settings.pods.network_address)) for each in used}
    size = 1 << (32 - settings.node_prefix)
    large = [each for each in used if each.prefixlen < settings.node_prefix]
    start = int(settings.pods.network_address)
    for offset in range(size, settings.pods.num_addresses, size):
        if offset in numbers:
            continue
        subnet = IPv4Network((start + offset, settings.node_prefix))
        if not any(subnet.overlaps(each) for each in large):
            return subnet
    return None


class NodeSubnets(Controller):
    """Gives each node that has none its subnet; one that has one keeps it."""

    name: ClassVar[str] = "node-ipam"
    workers: ClassVar[int] = 1  # no two nodes get the same subnet

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._nodes = self.watch("nodes")
        self._given: dict[str, IPv4Network] = {}
        shared.informer("nodes").on_change(self._freed)

    def _freed(self, kind: str, _: Object | None, __: Object | None) -> None:
        """A node that goes leaves its subnet to those that wait for one."""
        if kind == "DELETED":
            for name, node in self._nodes.items():
                if not (node.get("spec") or {}).get("podCIDR"):
                    self.queue.add(name)

    async def sync(self, key: str) -> float | None:
        """Give one node its subnet."""
        node = self._nodes.get(key)
        if node is None or is_deleted(node):
            self._given.pop(key, None)
            return None
        if (node.get("spec") or {}).get("podCIDR"):
            self._given.pop(key, None)
            return None
        taken = [*(net for each in self._nodes.values() for net in subnets_of(each)), *self._given.values()]
        subnet = subnet_for(key, self.shared.settings, taken)
        if subnet is None:
            message = f"Node {key} status is now: CIDRNotAvailable"
            self.shared.events.record(node, "Normal", "CIDRNotAvailable", message)
            self.log.error("No subnet left for node", node=key, clusterCIDR=self.shared.settings.pods)
            return None
        patch: Object = {"metadata": {"uid": uid_of(node)}}
        patch["spec"] = {"podCIDR": str(subnet), "podCIDRs": [str(subnet)]}
        await self.client.patch("nodes", key, patch)
        self._given[key] = subnet
        self.log.info("Set node PodCIDR", node=key, podCIDRs=[str(subnet)])
        return None


def subnets_of(node: Mapping[str, Any]) -> list[IPv4Network]:
    """The IPv4 subnets that a node has."""
    spec = node.get("spec") or {}
    texts = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    return [IPv4Network(text) for text in texts if ":" not in text]
