"""The ports of a running cluster: the table that is expected of it, each node's packet filter, and the measurement."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from mininetes.agents.objects import key_of, service_of_slice
from mininetes.agents.packet_filter import FilterView
from mininetes.agents.ports_table import PortsView, table
from mininetes.apiserver.client import Unreachable
from mininetes.apiserver.errors import ApiError
from mininetes.errors import BadInput
from mininetes.probes.ports import PortOptions, PortsReport, ask, listeners, questions
from mininetes.probes.vantage import Target, Vantage
from mininetes.spec import ClusterSpec
from mininetes.testbed.credentials import ADMIN
from mininetes.testbed.expectation import Basis, expect

if TYPE_CHECKING:
    from mininetes.testbed.testbed import Testbed  # whose control plane has its nodes' filters from here

log = logging.getLogger("mininetes")


def ports_view(spec: ClusterSpec, *, proxy: bool = True) -> PortsView:
    """What of the description decides which ports are open; ``proxy``: whether kube-proxy runs."""
    masters = tuple(node.name for node in spec.masters)
    return PortsView(
        control_plane=masters,
        workers=tuple(node.name for node in spec.nodes if node.name not in masters),
        etcd_members=len(masters) if spec.control_plane.store == "etcd" else 0,
        node_ports=spec.node_ports,
        proxy=proxy,
        firewall=spec.firewall == "kubernetes",
    )


def filter_view(spec: ClusterSpec, view: PortsView, addresses: dict[str, IPv4Address]) -> FilterView:
    """What the nodes' packet filters are written from; ``addresses`` of the nodes by name."""
    return FilterView(
        rows=table(view),
        control_plane=tuple(addresses[name] for name in view.control_plane),
        workers=tuple(addresses[name] for name in view.workers),
        pods=spec.network.pods,
        services=(spec.network.services, spec.network.load_balancers),
    )


async def measure(testbed: Testbed, options: PortOptions | None = None) -> PortsReport:
    """Ask every port of a running lab's table, and the node ports that its services have.

    Goes on without the services when no API server answers, which the report then shows. Raises BadInput
    for a lab without a control plane: nothing of the table runs in it.
    """
    plane = testbed.control_plane
    if plane is None:
        raise BadInput("spec.controlPlane.store", testbed.spec.control_plane.store, "memory or etcd, to have ports")
    view = ports_view(testbed.spec, proxy=any(name == "kube-proxy" for _, name in plane.tasks.names()))
    client = plane.client(plane.places[view.control_plane[0]], ADMIN)
    services: list[int] = []
    try:
        found = await client.list("services"), await client.list("endpointslices.discovery.k8s.io")
        services = open_node_ports(*(each["items"] for each in found))
    except (Unreachable, ApiError) as failed:
        log.warning("ports are probed without services: %s", failed)
    finally:
        await client.close()
    return await ports(testbed, view, services=services, options=options)


def open_node_ports(services: Iterable[Mapping[str, Any]], slices: Iterable[Mapping[str, Any]]) -> list[int]:
    """The TCP node ports that answer at every node: of services with a ready endpoint, wherever it is."""
    alive = {
        service_of_slice(each)
        for each in slices
        for endpoint in each.get("endpoints") or []
        if endpoint.get("conditions", {}).get("ready") is not False
    }
    return sorted(
        port["nodePort"]
        for service in services
        if key_of(service) in alive and service["spec"].get("externalTrafficPolicy") != "Local"
        for port in service["spec"].get("ports", [])
        if port.get("nodePort") and port.get("protocol", "TCP") == "TCP"
    )


async def ports(
    testbed: Testbed, view: PortsView, *, services: Sequence[int] = (), options: PortOptions | None = None
) -> PortsReport:
    """Ask every port of the table from every kind of origin; ``services`` are the node ports that answer everywhere."""
    basis = await asyncio.to_thread(testbed.basis)
    vantages = testbed.vantages()
    asked = questions(
        view,
        vantages,
        services=services,
        connects=lambda source, node: _connects(source, node, basis),
        masquerades=testbed.blueprint.masquerades_to_nodes,
    )
    nodes = [each for each in vantages if each.kind == "node"]
    found = await asyncio.to_thread(lambda: {node.name: listeners(node.netns) for node in nodes})
    return PortsReport.compare(await ask(asked, options), found)


def _connects(source: Vantage, node: Target, basis: Basis) -> bool:
    # the underlay's gateway knows the way to the nodes from outside, whatever the fabric
    return source.kind == "outside" or expect(source, node, basis).reached
