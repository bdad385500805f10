"""The Node object and its lease. Pure, but for reading what the machine is."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from mininetes import __version__
from mininetes.agents.agent import Placement
from mininetes.agents.kubelet.interfaces import KubeletOptions
from mininetes.agents.objects import micro_time

KUBELET_VERSION = "v1.30.0"
LEASES = "kube-node-lease"
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

_PRESSURES = (
    ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
)


def architecture() -> str:
    """The machine's architecture, as Kubernetes names it."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def labels(place: Placement, options: KubeletOptions) -> dict[str, str]:
    """The labels that the node's kubelet sets."""
    found = dict(options.labels)
    for prefix in ("", "beta."):
        found |= {f"{prefix}kubernetes.io/arch": architecture(), f"{prefix}kubernetes.io/os": "linux"}
    found["kubernetes.io/hostname"] = place.node
    if options.zone:
        found["topology.kubernetes.io/zone"] = options.zone
    if options.control_plane:
        found |= {CONTROL_PLANE: "", "node.kubernetes.io/exclude-from-external-load-balancers": ""}
    return found


def taints(options: KubeletOptions) -> list[dict[str, str]]:
    """The taints with which a node is registered."""
    return [{"key": CONTROL_PLANE, "effect": "NoSchedule"}] if options.control_plane and options.tainted else []


def node_object(place: Placement, options: KubeletOptions, status: Mapping[str, Any]) -> dict[str, Any]:
    """The node as it is registered."""
    tainted = taints(options)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": place.node,
            "labels": labels(place, options),
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        },
        "spec": {"taints": tainted} if tainted else {},
        "status": dict(status),
    }


def node_status(
    place: Placement,
    options: KubeletOptions,
    failure: str,
    now: str,
    before: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The node's status; ``failure`` says why it is not ready, ``before`` are the conditions of the last status."""
    memory = options.memory_bytes or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    disk = os.statvfs("/")
    resources = {
        "cpu": str(os.cpu_count() or 1),
        "memory": f"{memory // 1024}Ki",
        "ephemeral-storage": f"{disk.f_blocks * disk.f_frsize // 1024}Ki",
        "pods": str(options.max_pods),
    }
    return {
        "capacity": resources,
        "allocatable": resources,
        "addresses": [
            {"type": "InternalIP", "address": place.address},
            {"type": "Hostname", "address": place.node},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": options.port}},
        "nodeInfo": _node_info(),
        "conditions": _conditions(failure, now, before),
    }


def _node_info() -> dict[str, str]:
    return {
        "machineID": _first_line("/etc/machine-id"),
        "systemUUID": _first_line("/etc/machine-id"),
        "bootID": _first_line("/proc/sys/kernel/random/boot_id"),
        "kernelVersion": os.uname().release,
        "osImage": _os_image(),
        "containerRuntimeVersion": f"mininetes://{__version__}",
        "kubeletVersion": KUBELET_VERSION,
        "kubeProxyVersion": KUBELET_VERSION,
        "operatingSystem": "linux",
        "architecture": architecture(),
    }


def _first_line(path: str) -> str:
    try:
        with open(path) as file:
            return file.readline().strip()
    except OSError:
        return ""


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def _conditions(failure: str, now: str, before: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    wanted = [(kind, "False", reason, message) for kind, reason, message in _PRESSURES]
    if failure:
        wanted.append(("Ready", "False", "KubeletNotReady", failure))
    else:
        wanted.append(("Ready", "True", "KubeletReady", "kubelet is posting ready status"))
    known = {each["type"]: each for each in before}
    found = []
    for kind, status, reason, message in wanted:
        old = known.pop(kind, {})
        since = old.get("lastTransitionTime", now) if old.get("status") == status else now
        condition = {"type": kind, "status": status, "reason": reason, "message": message}
        found.append({**condition, "lastHeartbeatTime": now, "lastTransitionTime": since})
    return [*found, *map(dict, known.values())]


def lease(place: Placement, options: KubeletOptions, owner_uid: str) -> dict[str, Any]:
    """The node's lease, renewed now."""
    owner = {"apiVersion": "v1", "kind": "Node", "name": place.node, "uid": owner_uid}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": place.node,
            "namespace": LEASES,
            **({"ownerReferences": [owner]} if owner_uid else {}),
        },
        "spec": {
            "holderIdentity": place.node,
            "leaseDurationSeconds": options.lease_duration_s,
            "renewTime": micro_time(),
        },
    }
