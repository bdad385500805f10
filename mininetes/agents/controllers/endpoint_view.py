"""What a service's endpoints are: which pods, at which ports, in which condition. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mininetes.agents.objects import (
    Object,
    conditions_of,
    equals_selected,
    is_deleted,
    is_finished,
    is_true,
    labels_of,
    uid_of,
)
from mininetes.agents.scheduler.loads import ZONE

Ports = tuple[tuple[str, str, int, str], ...]
"""Name, protocol, number and application protocol of each port; the order is the service's own."""

HEADLESS = "service.kubernetes.io/headless"


def is_headless(service: Mapping[str, Any]) -> bool:
    """Whether the service has no address of its own, on purpose."""
    return (service.get("spec") or {}).get("clusterIP") == "None"


def selected(service: Mapping[str, Any], pods: Iterable[Object]) -> list[Object]:
    """The pods of the service's namespace that its selector takes and that have an address and run."""
    selector = service["spec"].get("selector") or {}
    return [
        pod for pod in pods if equals_selected(selector, labels_of(pod)) and address_of(pod) and not is_finished(pod)
    ]


def address_of(pod: Mapping[str, Any]) -> str:
    """The pod's (IPv4) address; empty while it has none."""
    return str((pod.get("status") or {}).get("podIP") or "")


def ports_at(service: Mapping[str, Any], pod: Mapping[str, Any]) -> Ports:
    """Where the service's ports are at this pod; those whose named target the pod does not have are left out."""
    found = []
    for port in service["spec"].get("ports") or ():
        protocol = port.get("protocol") or "TCP"
        number = _target(port, protocol, pod)
        if number:
            found.append((port.get("name") or "", protocol, number, port.get("appProtocol") or ""))
    return tuple(found)


def _target(port: Mapping[str, Any], protocol: str, pod: Mapping[str, Any]) -> int:
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    containers = (pod.get("spec") or {}).get("containers") or ()
    return next(
        (
            int(each["containerPort"])
            for container in containers
            for each in container.get("ports") or ()
            if each.get("name") == target and (each.get("protocol") or "TCP") == protocol
        ),
        0,
    )


def endpoint(service: Mapping[str, Any], pod: Mapping[str, Any], zones: Mapping[str, str]) -> Object:
    """The endpoint that stands for a pod in a slice; ``zones`` says in which zone each node is.

    A pod that ends is not ready, but may still serve; publishNotReadyAddresses makes all ready.
    """
    serving = is_true(pod, "Ready")
    ending = is_deleted(pod)
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    made: Object = {
        "addresses": [address_of(pod)],
        "conditions": {"ready": publish or (serving and not ending), "serving": serving, "terminating": ending},
        "targetRef": target_of(pod),
    }
    node = (pod.get("spec") or {}).get("nodeName")
    if node:
        made["nodeName"] = node
        if zones.get(node):
            made["zone"] = zones[node]
    hostname = hostname_of(service, pod)
    if hostname:
        made["hostname"] = hostname
    return made


def target_of(pod: Mapping[str, Any]) -> Object:
    """The reference to a pod in an endpoint."""
    metadata = pod["metadata"]
    return {"kind": "Pod", "namespace": metadata["namespace"], "name": metadata["name"], "uid": uid_of(pod)}


def hostname_of(service: Mapping[str, Any], pod: Mapping[str, Any]) -> str:
    """The pod's name under the service: when the pod's subdomain is the service."""
    spec = pod.get("spec") or {}
    own = spec.get("subdomain") == service["metadata"]["name"]
    return str(spec["hostname"]) if own and spec.get("hostname") else ""


def zone_of(node: Mapping[str, Any]) -> str:
    """The node's zone; empty when it has none."""
    return labels_of(node).get(ZONE, "")


def endpoint_facts(pod: Mapping[str, Any]) -> tuple[Any, ...]:
    """All of a pod that endpoints depend on: while this stays the same, they do."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    ready = next((each.get("status") for each in conditions_of(pod) if each.get("type") == "Ready"), None)
    return (
        labels_of(pod),
        status.get("podIP"),
        is_finished(pod),
        ready,
        is_deleted(pod),
        spec.get("nodeName"),
        spec.get("hostname"),
        spec.get("subdomain"),
    )


def service_labels(service: Mapping[str, Any]) -> dict[str, str]:
    """The service's own labels, as its endpoints and slices repeat them."""
    labels = {k: v for k, v in labels_of(service).items() if k != HEADLESS}
    return {**labels, HEADLESS: ""} if is_headless(service) else labels
