"""Endpoints that somebody wrote by hand, mirrored into EndpointSlices: proxies read nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mininetes.agents.controllers.controller import Controller, Shared
from mininetes.agents.controllers.endpoint_view import Ports, zone_of
from mininetes.agents.controllers.endpointslices import write_slices
from mininetes.agents.controllers.indexes import Index
from mininetes.agents.controllers.slice_packing import (
    MANAGED_BY,
    MIRRORING,
    SLICES,
    SliceChanges,
    pack,
)
from mininetes.agents.objects import Object, annotations_of, is_deleted, labels_of, service_of_slice

SKIP = "endpointslice.kubernetes.io/skip-mirror"
LEADER = "control-plane.alpha.kubernetes.io/leader"
MOST_A_SUBSET = 1000


def mirrored_groups(endpoints: Mapping[str, Any], zones: Mapping[str, str]) -> dict[Ports, list[Object]]:
    """The endpoints of an Endpoints object by their ports; at most 1,000 of a subset. Pure."""
    groups: dict[Ports, list[Object]] = {}
    for subset in endpoints.get("subsets") or ():
        ports: Ports = tuple(
            (p.get("name") or "", p.get("protocol") or "TCP", int(p["port"]), p.get("appProtocol") or "")
            for p in subset.get("ports") or ()
        )
        both = [(a, True) for a in subset.get("addresses") or ()]
        both += [(a, False) for a in subset.get("notReadyAddresses") or ()]
        for address, ready in both[:MOST_A_SUBSET]:
            made: Object = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
            node = address.get("nodeName")
            if node:
                made["nodeName"] = node
                if zones.get(node):
                    made["zone"] = zones[node]
            for field in ("hostname", "targetRef"):
                if address.get(field):
                    made[field] = address[field]
            groups.setdefault(ports, []).append(made)
    return groups


class EndpointSliceMirroring(Controller):
    """Keeps slices of Endpoints whose service has no selector."""

    name: ClassVar[str] = "endpointslicemirroring"
    workers: ClassVar[int] = 1

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._endpoints = self.watch("endpoints")
        self._services = self.watch("services")
        self._nodes = shared.informer("nodes").items
        informer = shared.informer(SLICES)
        self._slices = informer.items
        self._by_service = Index(informer, service_of_slice)
        informer.on_change(self._slice_changed)

    async def sync(self, key: str) -> float | None:
        """Make the mirror of one Endpoints object what that says."""
        endpoints, service = self._endpoints.get(key), self._services.get(key)
        mine = [each for each in self._by_service.of(key) if labels_of(each).get(MANAGED_BY) == MIRRORING]
        mine = [each for each in mine if not is_deleted(each)]
        if endpoints is None or service is None or not _is_mirrored(endpoints, service):
            await write_slices(self, key, self._slices, SliceChanges(delete=mine))
            return None
        zones = {name: zone_of(node) for name, node in self._nodes.items()}
        changes = pack(endpoints, mirrored_groups(endpoints, zones), mine, manager=MIRRORING)
        await write_slices(self, key, self._slices, changes)
        return None

    def _slice_changed(self, _: str, old: Object | None, new: Object | None) -> None:
        for each in (old, new):
            if each is not None and labels_of(each).get(MANAGED_BY) == MIRRORING:
                self.queue.add(service_of_slice(each))


def _is_mirrored(endpoints: Mapping[str, Any], service: Mapping[str, Any]) -> bool:
    return (
        not service["spec"].get("selector")
        and not is_deleted(endpoints)
        and labels_of(endpoints).get(SKIP) != "true"
        and LEADER not in annotations_of(endpoints)
    )
