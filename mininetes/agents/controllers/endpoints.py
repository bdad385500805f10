"""Endpoints objects of services that select pods: the older form, which `kubectl get endpoints` shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from mininetes.agents.controllers.controller import Shared
from mininetes.agents.controllers.endpoint_view import (
    Ports,
    address_of,
    hostname_of,
    ports_at,
    selected,
    service_labels,
    target_of,
)
from mininetes.agents.controllers.service_endpoints import ServiceEndpoints
from mininetes.agents.objects import Object, annotations_of, is_deleted, is_true, labels_of, uid_of
from mininetes.apiserver.errors import ApiError

CAPACITY = 1000
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
MANAGED_BY = "endpoints.kubernetes.io/managed-by"


def subsets_of(service: Mapping[str, Any], pods: Iterable[Object]) -> tuple[list[Object], bool]:
    """The subsets of a service's Endpoints, and whether addresses beyond the 1,000th were left out. Pure.

    Addresses with the same ports stand together, by address; pods that end are left out unless
    the service publishes what is not ready. Ready addresses come before the others at the limit.
    """
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    found: list[tuple[bool, str, Ports, Object]] = []
    for pod in selected(service, pods):
        if is_deleted(pod) and not publish:
            continue
        ready = publish or is_true(pod, "Ready")
        found.append((not ready, address_of(pod), ports_at(service, pod), _address(service, pod)))
    found.sort(key=lambda each: (each[0], each[1]))
    groups: dict[Ports, tuple[list[Object], list[Object]]] = {}
    for unready, _, ports, address in found[:CAPACITY]:
        groups.setdefault(ports, ([], []))[unready].append(address)
    subsets = []
    for ports, (ready_ones, others) in sorted(groups.items()):
        if not ports and service["spec"].get("ports"):
            continue  # a pod that has none of the service's named ports
        subset: Object = {"addresses": ready_ones} if ready_ones else {}
        if others:
            subset["notReadyAddresses"] = others
        if ports:
            subset["ports"] = [_port(*port) for port in ports]
        subsets.append(subset)
    return subsets, len(found) > CAPACITY


def _address(service: Mapping[str, Any], pod: Mapping[str, Any]) -> Object:
    made: Object = {"ip": address_of(pod), "targetRef": target_of(pod)}
    node = (pod.get("spec") or {}).get("nodeName")
    if node:
        made["nodeName"] = node
    hostname = hostname_of(service, pod)
    return {**made, "hostname": hostname} if hostname else made


def _port(name: str, protocol: str, number: int, application: str) -> Object:
    made: Object = {"port": number, "protocol": protocol}
    if name:
        made["name"] = name
    return {**made, "appProtocol": application} if application else made


class Endpoints(ServiceEndpoints):
    """Keeps the Endpoints of each service that has a selector, and ends those of services that are gone."""

    name: ClassVar[str] = "endpoint"

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._endpoints = self.watch("endpoints")

    async def sync(self, key: str) -> float | None:
        """Make one service's Endpoints what its pods say."""
        service, existing = self.services.get(key), self._endpoints.get(key)
        if service is None:
            await self._end(key, existing)
            return None
        if is_deleted(service) or not service["spec"].get("selector") or service["spec"].get("type") == "ExternalName":
            return None
        pods = self.pods.of(service["metadata"]["namespace"])
        subsets, truncated = await self.compute(len(pods), lambda: subsets_of(service, pods))
        labels = {**service_labels(service), MANAGED_BY: "endpoint-controller"}
        annotations = {k: v for k, v in annotations_of(existing or {"metadata": {}}).items() if k != OVER_CAPACITY}
        if truncated:
            annotations[OVER_CAPACITY] = "truncated"
        if existing is None:
            metadata = service["metadata"]
            made: Object = {
                "apiVersion": "v1",
                "kind": "Endpoints",
                "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "labels": labels},
                "subsets": subsets,
            }
            if annotations:
                made["metadata"]["annotations"] = annotations
            self.expectations.written(key, self._endpoints, await self.client.create("endpoints", made))
            return None
        same = (existing.get("subsets") or []) == subsets and labels_of(existing) == labels
        if not same or annotations_of(existing) != annotations:
            metadata = {**existing["metadata"], "labels": labels, "annotations": annotations}
            changed = {**existing, "metadata": metadata, "subsets": subsets}
            self.expectations.written(key, self._endpoints, await self.client.update("endpoints", changed))
        return None

    async def _end(self, key: str, existing: Object | None) -> None:
        """The service is gone: so are the Endpoints that were made for it. Those that somebody else made stay."""
        if existing is None or MANAGED_BY not in labels_of(existing):
            return
        metadata = existing["metadata"]
        try:
            await self.client.delete("endpoints", metadata["name"], metadata["namespace"], uid=uid_of(existing))
        except ApiError as refused:
            if refused.code != 404:
                raise
        self.expectations.removed(key, self._endpoints, existing)
