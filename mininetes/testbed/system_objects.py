"""The objects of kube-system that a cluster has from the start, besides its static pods. Pure.

Deployment coredns, Service kube-dns    names (`agents/dns/manifests`)
DaemonSet kube-proxy                    whose pods the kubelets show: one for each node's proxy
ConfigMap kube-proxy                    its configuration, as people look it up
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from mininetes.agents.dns.manifests import dns_manifests
from mininetes.agents.kubeproxy.agent import KubeProxy
from mininetes.agents.objects import SYSTEM

PROXY_LABELS = {"k8s-app": KubeProxy.name}
PODS_FROM_KUBELET = {"mininetes.io/pods-from": "kubelet"}
"""Tells the DaemonSet controller to count pods and to make none."""


def system_objects(
    services: IPv4Network, proxy_configuration: str, proxy_program: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """All of them, in the order in which to create them.

    ``proxy_configuration`` is a KubeProxyConfiguration; ``proxy_program`` what runs in kube-proxy's place, if so.
    """
    return [_proxy_config_map(proxy_configuration), _proxy_daemon_set(proxy_program), *dns_manifests(services)]


def _proxy_config_map(configuration: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": KubeProxy.name, "namespace": SYSTEM, "labels": {"app": KubeProxy.name}},
        "data": {"config.conf": configuration},
    }


def _proxy_daemon_set(program: Sequence[str]) -> dict[str, Any]:
    command = list(program) or [KubeProxy.name, "--config=/var/lib/kube-proxy/config.conf"]
    container = {"name": KubeProxy.name, "image": f"mininetes/{Path(command[0]).name}", "command": command}
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
