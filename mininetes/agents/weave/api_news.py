"""What an agent takes from the API server, where one answers: services, and which nodes were taken out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mininetes.agents.running import together
from mininetes.apiserver.client import Client
from mininetes.apiserver.informer import Informer


class ApiNews:
    """Follows the API until cancelled.

    ``on_services(services, revision)`` gets all that there are, each with its own revision, after each change;
    ``on_node(name, there)`` each node whose object comes or goes.
    """

    def __init__(
        self,
        client: Client,
        on_services: Callable[[dict[str, tuple[int, Any]], int], None],
        on_node: Callable[[str, bool], None],
    ) -> None:
        self._on_services = on_services
        self._on_node = on_node
        self._services = Informer(client, "services")
        self._nodes = Informer(client, "nodes")

    async def run(self) -> None:
        """Work until cancelled; goes on with what is known while no server answers."""
        self._services.on_change(self._see_service)
        self._nodes.on_change(self._see_node)
        await together([self._services.run(), self._nodes.run()])

    def _see_service(self, *_: Any) -> None:
        asyncio.get_running_loop().call_soon(self._tell_services)  # when the informer knows the revision too

    def _tell_services(self) -> None:
        if self._services.resource_version:
            found = {key: (_revision(each), _service(each)) for key, each in self._services.items.items()}
            self._on_services(found, int(self._services.resource_version))

    def _see_node(self, _: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        name = str((new or old or {})["metadata"]["name"])
        if old is None or name not in self._nodes.items:
            self._on_node(name, name in self._nodes.items)


def _revision(service: dict[str, Any]) -> int:
    return int(service["metadata"]["resourceVersion"])


def _service(service: dict[str, Any]) -> dict[str, Any]:
    """What is told of a service."""
    spec = service["spec"]
    ports = [f"{port['port']}/{port.get('protocol', 'TCP')}" for port in spec.get("ports") or []]
    address = spec.get("clusterIP") or spec.get("externalName") or "-"
    return {"type": spec.get("type", "ClusterIP"), "address": address, "ports": ports}
