"""EndpointSlices of services that select pods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from mininetes.agents.controllers.controller import Controller, Shared
from mininetes.agents.controllers.endpoint_view import Ports, endpoint, ports_at, selected, zone_of
from mininetes.agents.controllers.indexes import Index
from mininetes.agents.controllers.service_endpoints import ServiceEndpoints
from mininetes.agents.controllers.slice_packing import CONTROLLER, MANAGED_BY, SLICES, SliceChanges, pack
from mininetes.agents.controllers.topology_hints import cpu_shares, wants_hints, with_hints
from mininetes.agents.controllers.trigger_times import TriggerTimes, stamp
from mininetes.agents.objects import Object, is_deleted, labels_of, service_of_slice, uid_of
from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.informer import Known


def groups_of(service: Mapping[str, Any], pods: Iterable[Object], nodes: Iterable[Object]) -> dict[Ports, list[Object]]:
    """The endpoints of a service by the ports they are at, with zones and hints. Pure."""
    nodes = list(nodes)
    zones = {node["metadata"]["name"]: zone_of(node) for node in nodes}
    groups: dict[Ports, list[Object]] = {}
    for pod in selected(service, pods):
        groups.setdefault(ports_at(service, pod), []).append(endpoint(service, pod, zones))
    shares = cpu_shares(nodes) if wants_hints(service) else {}
    return {ports: with_hints(endpoints, service, shares) for ports, endpoints in groups.items()}


async def write_slices(controller: Controller, key: str, slices: Known, changes: SliceChanges) -> None:
    """Do what is to be done to slices, and expect to see it. Raises ApiError."""
    for each in changes.update:
        controller.expectations.written(key, slices, await controller.client.update(SLICES, each))
    for each in changes.create:
        controller.expectations.written(key, slices, await controller.client.create(SLICES, each))
    for each in changes.delete:
        metadata = each["metadata"]
        try:
            await controller.client.delete(SLICES, metadata["name"], metadata["namespace"], uid=uid_of(each))
        except ApiError as refused:
            if refused.code != 404:
                raise
        controller.expectations.removed(key, slices, each)


class EndpointSlices(ServiceEndpoints):
    """Keeps the slices of each service that has a selector."""

    name: ClassVar[str] = "endpointslice"
    by_node = True

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        informer = shared.informer(SLICES)
        self._slices = informer.items
        self._times = TriggerTimes()
        self._by_service = Index(informer, service_of_slice)
        informer.on_change(self._slice_changed)

    async def sync(self, key: str) -> float | None:
        """Make one service's slices what its pods say."""
        service = self.services.get(key)
        if service is None or is_deleted(service):
            self._times.forget(key)
            return None  # the garbage collector takes the slices of a service that is gone
        if not service["spec"].get("selector") or service["spec"].get("type") == "ExternalName":
            return None
        mine = [each for each in self._by_service.of(key) if labels_of(each).get(MANAGED_BY) == CONTROLLER]
        mine = [each for each in mine if not is_deleted(each)]
        pods, nodes = self.pods.of(service["metadata"]["namespace"]), list(self.nodes.values())
        changed_at = self._times.changed_at(key, service, selected(service, pods))
        changes = await self.compute(len(pods), lambda: pack(service, groups_of(service, pods, nodes), mine))
        stamp(changes, changed_at)
        await write_slices(self, key, self._slices, changes)
        return None

    def _slice_changed(self, _: str, old: Object | None, new: Object | None) -> None:
        for each in (old, new):
            if each is not None and labels_of(each).get(MANAGED_BY) == CONTROLLER:
                self.queue.add(service_of_slice(each))
