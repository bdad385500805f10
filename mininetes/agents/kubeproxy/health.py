"""What kube-proxy answers about itself: /healthz and /livez, metrics, and the health-check node ports of services."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web

from mininetes.agents.kubeproxy.metrics import Metrics
from mininetes.agents.kubeproxy.view import NodeView, PortGroup, once
from mininetes.agents.serving import Handler, HttpPort
from mininetes.errors import MininetesError

_GOING = "ToBeDeletedByClusterAutoscaler"


class Health:
    """Whether rules follow what is asked for: unhealthy when a change has waited for longer than two sync periods.

    ``clock`` counts seconds and never goes back.
    """

    def __init__(self, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout_s, self._clock = timeout_s, clock
        self._waiting_since: float | None = None
        self._updated = time.time()
        self.node_eligible = True

    def queued(self) -> None:
        """A change has come that is not in the kernel yet."""
        if self._waiting_since is None:
            self._waiting_since = self._clock()

    def updated(self) -> None:
        """All changes are in the kernel."""
        self._waiting_since = None
        self._updated = time.time()

    @property
    def healthy(self) -> bool:
        """Whether no change has waited for too long."""
        return self._waiting_since is None or self._clock() - self._waiting_since < self._timeout_s

    def set_node(self, node: Mapping[str, object]) -> None:
        """Load balancers are to leave out a node that is about to go."""
        metadata, spec = node.get("metadata") or {}, node.get("spec") or {}
        assert isinstance(metadata, Mapping)
        assert isinstance(spec, Mapping)
        taints = spec.get("taints") or ()
        going = any(taint.get("key") == _GOING for taint in taints)
        self.node_eligible = not going and not metadata.get("deletionTimestamp")

    def _answer(self, status_200: bool, **more: object) -> web.Response:
        now = time.time()
        body = {"lastUpdated": _go_time(self._updated if not self.healthy else now), "currentTime": _go_time(now)}
        return web.Response(
            status=200 if status_200 else 503,
            text=json.dumps({**body, **more}),
            content_type="application/json",
            headers={"X-Content-Type-Options": "nosniff"},
        )

    async def healthz(self, _: web.Request) -> web.Response:
        """200 while the rules are up to date and the node may get traffic, else 503."""
        return self._answer(self.healthy and self.node_eligible, nodeEligible=self.node_eligible)

    async def livez(self, _: web.Request) -> web.Response:
        """200 while the rules are up to date, else 503."""
        return self._answer(self.healthy)


def _go_time(seconds: float) -> str:
    """As Go prints a time: ``2026-11-26 11:05:00.123456 +0000 UTC``."""
    whole = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds * 1e6) % 1_000_000:06d} +0000 UTC"


def metrics_handlers(metrics: Metrics, mode: str) -> Mapping[str, Handler]:
    """The paths of the metrics port."""

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(text=metrics.text(), content_type="text/plain")

    async def show_mode(_: web.Request) -> web.Response:
        return web.Response(text=mode, content_type="text/plain")

    async def well(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    return {"/metrics": show_metrics, "/proxyMode": show_mode, "/healthz": well}


@dataclass(frozen=True)
class CheckedService:
    """A service with a health-check node port, and how many ready endpoints it has on this node."""

    namespace: str
    name: str
    port: int
    local_endpoints: int


def checked_services(view: NodeView) -> dict[int, CheckedService]:
    """The services with a health-check node port, by that port."""
    found: dict[int, CheckedService] = {}
    for group in view.groups:
        found.update(_checked(group, view.node))
    return found


@once
def _checked(group: PortGroup, node: str) -> dict[int, CheckedService]:
    """Those of a group. An address counts once for its service when it is ready at any of the service's ports."""
    services: dict[int, tuple[str, str]] = {}
    ready: dict[int, set[str]] = {}
    for traffic in group.ports:
        port = traffic.port
        if number := port.health_check_node_port:
            services.setdefault(number, (port.namespace, port.service))
            ready.setdefault(number, set()).update(traffic.ready_on(node))
    return {
        number: CheckedService(namespace, name, number, len(ready[number]))
        for number, (namespace, name) in services.items()
    }


ANYWHERE = ("0.0.0.0",)  # noqa: S104 - any address of the node


class ServiceHealthPorts:
    """Opens and closes the health-check node ports of services as they come and go."""

    def __init__(self, netns: str, health: Health, refused: Callable[[str, int, str], None]) -> None:
        self._netns, self._health, self._refused = netns, health, refused
        self._services: dict[int, CheckedService] = {}
        self._open: dict[tuple[str, int], HttpPort] = {}

    async def set_services(self, services: Mapping[int, CheckedService], addresses: Sequence[str] = ANYWHERE) -> None:
        """Serve these, and no others, at those addresses: the ones that take node ports, as kube-proxy has it.

        A port that is taken is told to ``refused`` and tried again next time.
        """
        self._services = dict(services)
        wanted = [(address, port) for port in services for address in addresses]
        for place in self._open.keys() - set(wanted):
            await self._open.pop(place).stop()
        for place in wanted:
            if place in self._open:
                continue
            address, port = place
            server = HttpPort(self._netns, port, {"/{path:.*}": self._handler(port)}, address=address)
            try:
                await server.start()
            except MininetesError as failed:
                self._refused(f"{services[port].namespace}/{services[port].name}", port, str(failed))
            else:
                self._open[place] = server

    def _handler(self, port: int) -> Handler:
        async def answer(_: web.Request) -> web.Response:
            service = self._services.get(port)
            if service is None:
                return web.Response(status=404)
            healthy, count = self._health.healthy, service.local_endpoints
            body = {
                "service": {"namespace": service.namespace, "name": service.name},
                "localEndpoints": count,
                "serviceProxyHealthy": healthy,
            }
            return web.Response(
                status=200 if count and healthy else 503,
                text=json.dumps(body, indent="\t"),
                content_type="application/json",
                headers={"X-Content-Type-Options": "nosniff", "X-Load-Balancing-Endpoint-Weight": str(count)},
            )

        return answer

    async def stop(self) -> None:
        """Close all ports. May be called twice."""
        while self._open:
            _, server = self._open.popitem()
            await server.stop()
