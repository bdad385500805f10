"""Services for loads: a cluster IP in front of pods of a running lab, there when its rules are in force."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from mininetes.errors import BadInput, MininetesError
from mininetes.experiments.lab import Lab
from mininetes.probes.connections import ConnectOptions
from mininetes.probes.outcomes import Outcome
from mininetes.probes.vantage import Flow, Target, Vantage
from mininetes.testbed.credentials import ADMIN

SETTLED_WITHIN_S = 60.0
_SLICES = "endpointslices.discovery.k8s.io"


def _service(name: str, ports: Sequence[int]) -> dict[str, Any]:
    """Without a selector: its endpoints are those that it is given."""
    wanted = [{"name": f"p{port}", "port": port, "targetPort": port, "protocol": "TCP"} for port in ports]
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": wanted}}


def _slice(name: str, endpoints: Sequence[Vantage], ports: Sequence[int]) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": name}
    ready = {"ready": True, "serving": True, "terminating": False}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": f"p{port}", "port": port, "protocol": "TCP"} for port in ports],
        "endpoints": [{"addresses": [each.address], "nodeName": each.node, "conditions": ready} for each in endpoints],
    }


@contextlib.asynccontextmanager
async def exposed(lab: Lab, name: str, endpoints: Sequence[Vantage], ports: Sequence[int]) -> AsyncIterator[Target]:
    """Have a service of this name in front of these pods, for the block; gives its cluster IP.

    Each of ``ports`` (TCP) leads to the same one of the pods. Raises BadInput for a lab without a control plane,
    MininetesError when its rules are not in force in time, ApiError when the API refuses it.
    """
    plane = lab.testbed.control_plane
    if plane is None:
        raise BadInput("spec.controlPlane.store", "none", "memory or etcd, to have services")
    client = plane.client(plane.api_servers.masters[0], ADMIN)
    key, seats = f"default/{name}", plane.proxy_seats
    try:
        made = await client.create("services", _service(name, ports), "default")
        try:
            await client.create(_SLICES, _slice(name, endpoints, ports), "default")
            if not await seats.settled(plane.places, services=[key], slices=[key], within_s=SETTLED_WITHIN_S):
                raise MininetesError(f"service {name}: no rules within {SETTLED_WITHIN_S:g} s")
            yield Target(f"service/{name}", "service", "", made["spec"]["clusterIP"])
        finally:
            await client.delete(_SLICES, name, "default")
            await client.delete("services", name, "default")
            await seats.settled(plane.places, within_s=SETTLED_WITHIN_S)
    finally:
        await client.close()


async def one_by_one(lab: Lab, flows: Sequence[Flow], *, timeout_s: float = 1.0) -> list[Outcome]:
    """Open a connection along each flow, one after the other, so that their order is that of the answers."""
    return await lab.testbed.prober.connect(flows, ConnectOptions(timeout_s=timeout_s, at_once=1))
