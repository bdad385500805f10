"""The control plane's part in a dry run: packet filters, the objects that are created, and the rules of services."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from mininetes.agents.kubeproxy.objects import Objects
from mininetes.agents.kubeproxy.rehearsing import first_sync
from mininetes.agents.objects import SYSTEM
from mininetes.agents.packet_filter import compile_filter
from mininetes.apiserver.allocators import ServiceRanges
from mininetes.apiserver.bootstrap import kubernetes_service, kubernetes_slice
from mininetes.kernel.rehearsal import Rehearsal, sysctl
from mininetes.spec import ClusterSpec
from mininetes.testbed import proxying
from mininetes.testbed.blueprint import Blueprint
from mininetes.testbed.ports import filter_view, ports_view
from mininetes.testbed.system_objects import system_objects


def before_pods(blueprint: Blueprint, rehearsal: Rehearsal) -> None:
    """Packet filters, and who starts on which node."""
    spec = blueprint.spec
    if not spec.masters:
        return
    addresses = {node.name: node.address for node in blueprint.view.nodes}
    if spec.firewall == "kubernetes":
        rehearsal.section = "packet filters of nodes"
        view = filter_view(spec, ports_view(spec), addresses)
        for node in spec.nodes:
            rehearsal.run(node.name, "nft -f -", compile_filter(view, node.name))
    rehearsal.section = "control plane"
    masters = ", ".join(node.name for node in spec.masters)
    store = "etcd, " if spec.control_plane.store == "etcd" else ""
    proxy = spec.proxy.title
    rehearsal.note(
        f"{store}kube-apiserver, kube-controller-manager and kube-scheduler start on {masters};\n"
        f"kubelet and, once all is ready, {proxy} on every node. Nothing of the kernel changes by that.\n"
        "Created through the API: " + ", ".join(_created(blueprint))
    )


def _created(blueprint: Blueprint) -> list[str]:
    spec = blueprint.spec
    nodes = [f"node/{node.name}" for node in spec.nodes]
    pods = [f"pod/{plan.name}" for plan in blueprint.pods]
    system = [f"{each['kind'].lower()}/{each['metadata']['name']} in {SYSTEM}" for each in _system_objects(spec)]
    return ["service/kubernetes", *nodes, *pods, *system]


def _system_objects(spec: ClusterSpec) -> list[dict[str, Any]]:
    return system_objects(spec.network.services, "", spec.proxy.exec)


def after_pods(blueprint: Blueprint, rehearsal: Rehearsal) -> None:
    """The rules of services, as each node's proxy writes them at its first sync."""
    spec = blueprint.spec
    if not spec.masters:
        return
    rehearsal.section = f"rules of services, {spec.proxy.title}"
    if spec.proxy.exec:
        rehearsal.note(f"{shlex.join(spec.proxy.exec)} runs on each node, and writes what it thinks right")
        return
    rehearsal.note(
        "The scheduler chooses where the two pods of coredns run, and the kubelets there make them as the pods above.\n"
        "The rules of kube-dns follow from their addresses; here are those of the service kubernetes, without them."
    )
    objects, config = _objects(blueprint), {"clusterCIDR": str(spec.network.pods), **spec.proxy.config}
    for node in spec.nodes:
        sysctls, calls = first_sync(objects, node.name, proxying.proxy_mode(spec), config, spec.proxy.backend)
        for key, value in sorted(sysctls.items()):
            rehearsal.run(node.name, sysctl(key, value))
        for command, stdin in calls:
            rehearsal.run(node.name, command, stdin)


def _objects(blueprint: Blueprint) -> Objects:
    """The service kubernetes, and the nodes."""
    spec = blueprint.spec
    masters = {node.name for node in spec.masters}
    servers = [str(node.address) for node in blueprint.view.nodes if node.name in masters]
    first = ServiceRanges(spec.network.services, spec.node_ports).first
    made = [_in("default", each) for each in (kubernetes_service(first), kubernetes_slice(servers))]
    nodes = [
        {
            "metadata": {"name": node.name},
            "spec": {"podCIDR": str(node.pod_subnet)},
            "status": {"addresses": [{"type": "InternalIP", "address": str(node.address)}]},
        }
        for node in blueprint.view.nodes
    ]
    return Objects(services=[made[0]], endpointslices=[made[1]], nodes=nodes)


def _in(namespace: str, obj: Mapping[str, Any]) -> dict[str, Any]:
    return {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}
