"""The objects through which DNS runs in the cluster: the Deployment coredns and the Service kube-dns. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

IMAGE = "mininetes/dns"
LABELS = {"k8s-app": "kube-dns"}
DNS_PORT = 53
METRICS_PORT = 9153
HEALTH_PORT = 8080
READY_PORT = 8181
TENTH = 10


def dns_address(services: IPv4Network) -> IPv4Address:
    """The address of kube-dns: the service range's tenth."""
    return services.network_address + TENTH


def dns_manifests(services: IPv4Network, *, replicas: int = 2) -> list[dict[str, Any]]:
    """The Deployment and the Service, ready to be created in kube-system."""
    return [_deployment(replicas), _service(dns_address(services))]


def _deployment(replicas: int) -> dict[str, Any]:
    container = {
        "name": "coredns",
        "image": IMAGE,
        "ports": [
            {"name": "dns", "containerPort": DNS_PORT, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": DNS_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"},
        ],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": READY_PORT}, "periodSeconds": 1},
    }
    tolerations = [
        {"key": "CriticalAddonsOnly", "operator": "Exists"},
        {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"},
    ]
    template = {
        "metadata": {"labels": dict(LABELS)},
        "spec": {
            "containers": [container],
            "dnsPolicy": "Default",
            "priorityClassName": "system-cluster-critical",
            "tolerations": tolerations,
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "coredns", "namespace": "kube-system", "labels": dict(LABELS)},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": dict(LABELS)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "template": template,
        },
    }


def _service(address: IPv4Address) -> dict[str, Any]:
    labels = {**LABELS, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}
    ports = [
        {"name": "dns", "port": DNS_PORT, "protocol": "UDP", "targetPort": DNS_PORT},
        {"name": "dns-tcp", "port": DNS_PORT, "protocol": "TCP", "targetPort": DNS_PORT},
        {"name": "metrics", "port": METRICS_PORT, "protocol": "TCP", "targetPort": METRICS_PORT},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
        "spec": {"clusterIP": str(address), "selector": dict(LABELS), "ports": ports},
    }
