"""The loop that Endpoints and EndpointSlices of services with selectors have in common: what makes a service due."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mininetes.agents.controllers.controller import Controller, Shared
from mininetes.agents.controllers.endpoint_view import endpoint_facts, zone_of
from mininetes.agents.controllers.indexes import Index, by_namespace
from mininetes.agents.objects import Object, equals_selected, is_true, key_of, labels_of


def by_selector(service: Mapping[str, Any]) -> str:
    """One of the labels that a service selects by, with its namespace: only pods with that label can be meant."""
    selector = (service.get("spec") or {}).get("selector") or {}
    return _group(by_namespace(service), *min(selector.items())) if selector else ""


def _group(namespace: str, label: str, value: str) -> str:
    return f"{namespace}/{label}={value}"


class ServiceEndpoints(Controller):
    """Queues a service when it changes, when a pod does that it selects, and (``by_node``) when a node does."""

    by_node = False

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.services = self.watch("services")
        self.nodes = shared.informer("nodes").items
        self.pods = Index(shared.informer("pods"), by_namespace)
        self._selecting = Index(shared.informer("services"), by_selector)
        shared.informer("pods").on_change(self._pod_changed)
        if self.by_node:
            shared.informer("nodes").on_change(self._node_changed)

    def _pod_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        if kind == "MODIFIED" and old is not None and new is not None and endpoint_facts(old) == endpoint_facts(new):
            return
        pods = [pod for pod in (old, new) if pod is not None]
        namespace = by_namespace(pods[0])
        for label in {item for pod in pods for item in labels_of(pod).items()}:
            for service in self._selecting.of(_group(namespace, *label)):
                selector = service["spec"].get("selector") or {}
                if any(equals_selected(selector, labels_of(pod)) for pod in pods):
                    self.queue.add(key_of(service))

    def _node_changed(self, _: str, old: Object | None, new: Object | None) -> None:
        if old is None or new is None or _node_facts(old) != _node_facts(new):
            for key in self.services:
                self.queue.add(key)


def _node_facts(node: Mapping[str, Any]) -> tuple[Any, ...]:
    cpu = ((node.get("status") or {}).get("allocatable") or {}).get("cpu")
    return zone_of(node), cpu, is_true(node, "Ready"), sorted(labels_of(node))
