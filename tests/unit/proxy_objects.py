"""Services and endpoints for tests of the proxy: short ways to say them."""

from __future__ import annotations

from typing import Any

from mininetes.agents.kubeproxy.configuration import Mode, kube_proxy_config
from mininetes.agents.kubeproxy.services import Endpoint, ServicePort
from mininetes.agents.kubeproxy.view import NodeView, PortTraffic
from mininetes.agents.kubeproxy.view_builder import NodeFacts, ViewBuilder

NODE = NodeFacts("node1", "192.168.1.11", "zone-a", "10.244.1.0/24", ("192.168.1.11", "10.244.1.1"))


def service_port(**more: Any) -> ServicePort:
    """default/web:http, 10.96.0.50:80/tcp, unless something else is said."""
    known = {"namespace": "default", "service": "web", "port_name": "http", "protocol": "tcp"}
    return ServicePort(**{**known, "cluster_ip": "10.96.0.50", "port": 80, **more})


def endpoint(last: int, node: str = "node1", state: str = "ready", zones: str = "") -> Endpoint:
    """An endpoint 10.244.N.LAST:8080 of nodeN; ``state``: ready, terminating (serving), going (not serving), down."""
    ready, serving, terminating = {
        "ready": (True, True, False),
        "terminating": (False, True, True),
        "going": (False, False, True),
        "down": (False, False, False),
    }[state]
    address = f"10.244.{node.removeprefix('node') or 9}.{last}"
    return Endpoint(address, 8080, node, ready, serving, terminating, frozenset(zones.split()))


def service(name: str = "web", ports: list[dict[str, Any]] | None = None, **spec: Any) -> dict[str, Any]:
    """A Service object; ``status``, ``labels`` and ``annotations`` go where they belong."""
    metadata = {"name": name, "namespace": "default", "labels": spec.pop("labels", {}),
                "annotations": spec.pop("annotations", {})}  # fmt: skip
    return {
        "metadata": metadata,
        "status": spec.pop("status", {}),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "10.96.0.50",
            "ports": ports or [{"name": "http", "port": 80, "protocol": "TCP"}],
            **spec,
        },
    }


def endpoint_slice(*endpoints: dict[str, Any], name: str = "web", suffix: str = "1", **more: Any) -> dict[str, Any]:
    """An EndpointSlice object of a service; each endpoint a dict with ``addresses`` and what else it has."""
    return {
        "metadata": {
            "name": f"{name}-{suffix}",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": list(endpoints),
        **more,
    }


def view(*objects: dict[str, Any], mode: Mode = "iptables", node: NodeFacts = NODE, **config: Any) -> NodeView:
    """The view of a node for these Services and EndpointSlices."""
    builder = ViewBuilder(node, mode, kube_proxy_config({"clusterCIDR": "10.244.0.0/16", **config}))
    for obj in objects:
        key = f"default/{obj['metadata']['name']}"
        if "endpoints" in obj:
            builder.set_slice(key, obj)
        else:
            builder.set_service(key, obj)
    builder.refresh()
    return builder.view()


def traffic(*endpoints: Endpoint, reachable: tuple[Endpoint, ...] | None = None, **port: Any) -> PortTraffic:
    """Traffic under policy Cluster to these endpoints."""
    chosen = tuple(each for each in endpoints if each.ready) if reachable is None else reachable
    return PortTraffic(service_port(**port), endpoints, chosen, (), chosen, bool(chosen))
