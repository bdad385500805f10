"""How the agents of each node are made: what a kubelet, a scheduler, ... is told of its cluster."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence

from mininetes.agents.controllers import ControllerSettings
from mininetes.agents.dns.manifests import dns_address
from mininetes.agents.dns.server import DnsServer
from mininetes.agents.kubelet import BuiltInHandle, KubeletOptions, StaticPod
from mininetes.agents.kubeproxy.agent import KubeProxy
from mininetes.apiserver.client import Client
from mininetes.lab.filesystem import node_path
from mininetes.spec import ClusterSpec
from mininetes.spec_sections import NodeSpec
from mininetes.testbed.blueprint import Blueprint

LEASES_A_GRACE = 4
"""How often a kubelet renews its lease within the time after which its node counts as lost (Kubernetes: 10 of 40 s)."""

MASTER_PORTS = {"kube-apiserver": 6443, "kube-controller-manager": 10257, "kube-scheduler": 10259, "etcd": 2379}
_DAEMON_SETS = {"weave": "weave-net"}
"""Whose pods have another name than their container and its log."""

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
"""The letters and digits of Kubernetes' generated names (apimachinery's util/rand)."""


def kubelet_options(spec: ClusterSpec, node: NodeSpec) -> KubeletOptions:
    """A node's kubelet. A control-plane node keeps ordinary pods away, unless there are no workers."""
    master = node.role == "control-plane"
    period_s = spec.control_plane.node_grace_seconds / LEASES_A_GRACE
    return KubeletOptions(
        control_plane=master,
        tainted=master and any(each.role == "worker" for each in spec.nodes),
        zone=node.zone or "",
        labels=node.labels,
        max_pods=max(110, spec.pods.per_node + 20),
        hold="process" if spec.pods.hold == "pause" else "mount",
        cluster_dns=str(dns_address(spec.network.services)),
        service_host=str(spec.network.services.network_address + 1),
        status_period_s=period_s,
        lease_period_s=period_s,
        lease_duration_s=max(1, round(spec.control_plane.node_grace_seconds)),
    )


def static_pods(
    spec: ClusterSpec, node: NodeSpec, is_alive: Callable[[str, str], bool], more: Sequence[str] = ()
) -> list[StaticPod]:
    """The agents of a node that are shown as pods of kube-system; ``more`` are those of the fabric."""
    names = [KubeProxy.name]
    if node in spec.masters:
        names = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", *names]
        if spec.control_plane.store == "etcd":
            names.insert(0, "etcd")
    found = [_static_pod(spec, node.name, name, is_alive) for name in names[:-1]]
    found.append(_proxy_pod(spec, node.name, is_alive))
    others = [dataclasses.replace(_static_pod(spec, node.name, name, is_alive), ports=(), owner=None) for name in more]
    return [*found, *others]


def _static_pod(spec: ClusterSpec, node: str, name: str, is_alive: Callable[[str, str], bool]) -> StaticPod:
    master = name in MASTER_PORTS
    return StaticPod(
        name=name,
        component=name,
        log_path=node_path(node, f"{spec.logging.directory}/{name}.log"),
        labels={"component": name, "tier": "control-plane"} if master else {"k8s-app": name},
        ports=[("https", MASTER_PORTS[name])] if master else [("healthz", 10256)],
        is_alive=lambda: is_alive(node, name),
        image=f"mininetes/{name}",
        pod_name="" if master else f"{_DAEMON_SETS.get(name, name)}-{_suffix(node)}",
        owner=None if master else ("DaemonSet", name),
    )


def _proxy_pod(spec: ClusterSpec, node: str, is_alive: Callable[[str, str], bool]) -> StaticPod:
    """The pod of a node's proxy: with an outside program that one's log, and no port that is known of it."""
    pod = _static_pod(spec, node, KubeProxy.name, is_alive)
    if not spec.proxy.exec:
        return pod
    program = spec.proxy.title
    return dataclasses.replace(
        pod,
        log_path=node_path(node, f"{spec.logging.directory}/{program}.log"),
        ports=[],
        is_alive=lambda: is_alive(node, program),
        image=f"mininetes/{program}",
    )


def _suffix(node: str) -> str:
    """Five characters as a DaemonSet's pods have them, the same for a node each time."""
    digest = hashlib.sha256(node.encode()).digest()
    return "".join(_SUFFIX[byte % len(_SUFFIX)] for byte in digest[:5])


def controller_settings(blueprint: Blueprint, ca_pem: str) -> ControllerSettings:
    """What the controller manager is told: the subnets of the address plan, and how patient it is with nodes."""
    spec = blueprint.spec
    return ControllerSettings(
        pods=spec.network.pods,
        node_prefix=spec.network.node_prefix,
        pod_subnets={each.name: each.pod_subnet for each in blueprint.view.nodes},
        load_balancers=spec.network.load_balancers,
        ca_pem=ca_pem,
        node_grace_s=spec.control_plane.node_grace_seconds,
    )


class DnsProgram:
    """What the image of the DNS pods stands for: a server in the pod, which asks the API from the pod's node."""

    def __init__(self, client_at: Callable[[str], Client]) -> None:
        self._client_at = client_at

    async def start(self, netns: str, pod: Mapping[str, object], log: Callable[[str], None]) -> BuiltInHandle:
        """Serve in the pod's namespace. Raises MininetesError when a port is taken."""
        spec = pod["spec"]
        assert isinstance(spec, Mapping)
        client = self._client_at(str(spec["nodeName"]))
        running = _RunningDns(DnsServer(client, netns, log), client)
        try:
            await running.server.start()
        except BaseException:
            await running.stop()
            raise
        return running


class _RunningDns:
    def __init__(self, server: DnsServer, client: Client) -> None:
        self.server = server
        self._client = client

    async def stop(self) -> None:
        """End server and client. May be called twice."""
        await self.server.stop()
        await self._client.close()
