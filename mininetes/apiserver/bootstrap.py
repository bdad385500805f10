"""What every cluster has from the start: namespaces, and the service ``kubernetes`` that leads to the API servers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any

from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.registry import Registry, WriteOptions
from mininetes.apiserver.resources import by_name
from mininetes.apiserver.store import KeyExists, KeyMissing, RevisionConflict, Store, Stored

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
SERVICE = "kubernetes"
PORT_NAME = "https"
SERVICE_PORT = 443
SERVER_PORT = 6443
LEASES = "/registry/masterleases/"
RENEW_S = 5.0
LEASE_S = 15.0
"""A server that did not renew its lease for so long is no endpoint of ``kubernetes`` any more."""
_ANOTHERS_TURN_S = (0.05, 0.2, 0.5, 0)
"""How long a server that is making the same is given, each time; after the last it is an error."""


async def keep(registry: Registry, address: str) -> None:
    """Keep all this as it should be, and this server among the endpoints, until cancelled.

    The endpoints are the servers whose leases are fresh, as Kubernetes' lease reconciler has them.
    Raises ApiError and StoreUnavailable.
    """
    while True:
        await asyncio.sleep(RENEW_S)
        await bootstrap(registry, await live_servers(registry.store, address))


async def live_servers(store: Store, address: str) -> list[str]:
    """Renew the lease of the server at ``address``; return the addresses of all with a fresh one."""
    now = time.time()
    key = LEASES + address
    current = await store.get(key)
    with contextlib.suppress(KeyExists, KeyMissing, RevisionConflict):  # another instance of this server was faster
        if current is None:
            await store.create(key, {"renewed": now})
        else:
            await store.update(key, {"renewed": now}, expected=current.revision)
    leases = (await store.list(LEASES)).items
    fresh = {each.key.removeprefix(LEASES) for each in leases if now - float(each.value["renewed"]) < LEASE_S}
    return sorted(fresh | {address})


async def bootstrap(registry: Registry, servers: Sequence[str]) -> None:
    """Make what is missing, and point the service's endpoints at ``servers``, the node addresses of all API servers.

    May be done again, and by several servers at once. Raises ApiError and StoreUnavailable.
    """
    for name in NAMESPACES:
        await _ensure(registry, "namespaces", None, {"metadata": {"name": name}})
    await _ensure(registry, "services", "default", kubernetes_service(registry.services.ranges.first))
    for resource, wanted in (("endpoints", _endpoints(servers)), ("endpointslices", kubernetes_slice(servers))):
        await _ensure(registry, resource, "default", wanted)
        kind = by_name(resource)

        def change(current: Stored, wanted: dict[str, Any] = wanted) -> dict[str, Any]:
            # Names, labels and identity stay; what the object says becomes what is wanted.
            metadata = current.copy()["metadata"]
            metadata.pop("resourceVersion")
            return {**current.copy(), **{k: v for k, v in wanted.items() if k != "metadata"}, "metadata": metadata}

        await registry.modify(kind, "default", SERVICE, change, WriteOptions())


async def _ensure(registry: Registry, resource: str, namespace: str | None, wanted: dict[str, Any]) -> None:
    for wait_s in _ANOTHERS_TURN_S:
        with contextlib.suppress(ApiError):
            await registry.get(by_name(resource), namespace, wanted["metadata"]["name"])
            return
        try:
            await registry.create(by_name(resource), namespace, wanted, WriteOptions())
            return
        except ApiError as refused:
            if not wait_s:
                raise
            if refused.reason == "AlreadyExists":
                return
        await asyncio.sleep(wait_s)  # another server is faster: the service's address is taken before its name is


def kubernetes_service(address: str) -> dict[str, Any]:
    """The Service through which pods reach the API servers."""
    return {
        "metadata": {"name": SERVICE, "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address,
            "ports": [{"name": PORT_NAME, "protocol": "TCP", "port": SERVICE_PORT, "targetPort": SERVER_PORT}],
        },
    }


def _endpoints(servers: Sequence[str]) -> dict[str, Any]:
    # The label keeps the controllers from making a second slice out of these endpoints.
    return {
        "metadata": {"name": SERVICE, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [
            {
                "addresses": [{"ip": address} for address in sorted(servers)],
                "ports": [{"name": PORT_NAME, "port": SERVER_PORT, "protocol": "TCP"}],
            }
        ],
    }


def kubernetes_slice(servers: Sequence[str]) -> dict[str, Any]:
    """Its endpoints: the API servers."""
    return {
        "metadata": {"name": SERVICE, "labels": {"kubernetes.io/service-name": SERVICE}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in sorted(servers)],
        "ports": [{"name": PORT_NAME, "port": SERVER_PORT, "protocol": "TCP"}],
    }
