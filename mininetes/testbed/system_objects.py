"""The objects of kube-system that a cluster has from the start, besides its static pods. Pure.

Deployment coredns, Service kube-dns    names (`agents/dns/manifests`)
DaemonSet kube-proxy                    whose pods the kubelets show: one for each node's proxy
ConfigMap kube-proxy                    its configuration, as people look it up
"""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

from mininetes.agents.dns import dns_manifests
from mininetes.agents.kubeproxy.agent import KubeProxy

SYSTEM = "kube-system"
PROXY_LABELS = {"k8s-app": KubeProxy.name}
PODS_FROM_KUBELET = {"mininetes.io/pods-from": "kubelet"}
"""Tells the DaemonSet controller to count pods and to make none."""


def system_objects(services: IPv4Network, proxy_configuration: str) -> list[dict[str, Any]]:
    """All of them, in the order in which to create them. ``proxy_configuration`` is a KubeProxyConfiguration."""
    return [_proxy_config_map(proxy_configuration), _proxy_daemon_set(), *dns_manifests(services)]


def _proxy_config_map(configuration: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": KubeProxy.name, "namespace": SYSTEM, "labels": {"app": KubeProxy.name}},
        "data": {"config.conf": configuration},
    }


def _proxy_daemon_set() -> dict[str, Any]:
    container = {
        "name": KubeProxy.name,
        "image": f"mininetes/{KubeProxy.name}",
        "command": [KubeProxy.name, "--config=/var/lib/kube-proxy/config.conf"],
    }
    template = {
        "metadata": {"labels": PROXY_LABELS},
        "spec": {"hostNetwork": True, "tolerations": [{"operator": "Exists"}], "containers": [container]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": KubeProxy.name,
            "namespace": SYSTEM,
            "labels": PROXY_LABELS,
            "annotations": PODS_FROM_KUBELET,
        },
        "spec": {"selector": {"matchLabels": PROXY_LABELS}, "template": template},
    }
