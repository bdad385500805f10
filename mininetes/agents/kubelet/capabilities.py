"""What a kubelet's runtime tells CNI plugins of a pod beyond its names: the capabilities of CNI's conventions."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from mininetes.agents.kubelet.pod_spec import Pod, containers, init_containers
from mininetes.agents.quantities import quantity
from mininetes.errors import BadInput

ANNOTATIONS = {"ingress": "kubernetes.io/ingress-bandwidth", "egress": "kubernetes.io/egress-bandwidth"}
LEAST_RATE, MOST_RATE = 1_000, 10**15
"""Bits per second that Kubernetes allows."""
BURST_S = 0.1
LEAST_BURST = 8 * 65_536
"""Bits: one packet as large as the kernel makes them, which a bucket has to hold."""


def capabilities_of(pod: Pod, resolv_conf: str = "") -> dict[str, Any]:
    """The pod's ``portMappings``, ``bandwidth`` and ``dns``, those that it has.

    ``resolv_conf`` is the text of its resolv.conf. Raises BadInput for a rate that is none.
    """
    found: dict[str, Any] = {}
    mappings = port_mappings(pod)
    if mappings:
        found["portMappings"] = mappings
    rates = bandwidth(pod)
    if rates:
        found["bandwidth"] = rates
    dns = _dns(resolv_conf)
    if dns:
        found["dns"] = dns
    return found


def port_mappings(pod: Pod) -> list[dict[str, Any]]:
    """The host ports of its containers, each once."""
    found: list[dict[str, Any]] = []
    for spec in (*init_containers(pod), *containers(pod)):
        for port in spec.get("ports") or ():
            if not port.get("hostPort"):
                continue
            mapping = {
                "hostPort": int(port["hostPort"]),
                "containerPort": int(port["containerPort"]),
                "protocol": str(port.get("protocol") or "TCP").lower(),
                "hostIP": str(port.get("hostIP") or ""),
            }
            if mapping not in found:
                found.append(mapping)
    return found


def bandwidth(pod: Pod) -> dict[str, int]:
    """Rates in bits per second and bursts in bits, of its annotations. Raises BadInput that names the annotation."""
    annotations = pod["metadata"].get("annotations") or {}
    found: dict[str, int] = {}
    for direction, annotation in ANNOTATIONS.items():
        if annotation not in annotations:
            continue
        rate = int(_rate(annotation, annotations[annotation]))
        found[f"{direction}Rate"] = rate
        found[f"{direction}Burst"] = max(int(rate * BURST_S), LEAST_BURST)
    return found


def _rate(annotation: str, text: Any) -> Decimal:
    right = "bits per second from 1k to 1P, such as 10M"
    try:
        rate = quantity(text)
    except BadInput:
        raise BadInput(f"metadata.annotations[{annotation}]", text, right) from None
    if not LEAST_RATE <= rate <= MOST_RATE:
        raise BadInput(f"metadata.annotations[{annotation}]", text, right)
    return rate


def _dns(resolv_conf: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"servers": [], "searches": [], "options": []}
    names = {"nameserver": "servers", "search": "searches", "options": "options"}
    for line in resolv_conf.splitlines():
        key, *words = line.split()[:1] + line.split()[1:] or [""]
        if key in names:
            found[names[key]] += words
    return {key: words for key, words in found.items() if words}
