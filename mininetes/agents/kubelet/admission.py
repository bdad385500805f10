"""Whether a node takes a pod that is to run on it: two pods cannot have one port of the node. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mininetes.agents.kubelet.pod_spec import Pod, containers, init_containers, is_host_network, uid_of
from mininetes.agents.objects import is_finished

NODE_PORTS = "NodePorts"
_ANY = ("", "0.0.0.0", "::")  # noqa: S104 - nothing is bound here


@dataclass(frozen=True)
class Rejection:
    """Why a pod is not taken: what its status says for good."""

    reason: str
    message: str


def rejection(pod: Pod, others: Iterable[Pod]) -> Rejection | None:
    """Why the pod does not fit beside those that the node has; None when it fits, has ended or is already running."""
    wanted = _host_ports(pod)
    if not wanted or is_finished(pod):
        return None
    for other in others:
        if uid_of(other) == uid_of(pod) or is_finished(other):
            continue
        if any(_collide(one, two) for one in wanted for two in _host_ports(other)):
            why = f"Predicate {NODE_PORTS} failed: node(s) didn't have free ports for the requested pod ports"
            return Rejection(NODE_PORTS, f"Pod was rejected: {why}")
    return None


def rejected_before(pod: Pod) -> Rejection | None:
    """What the status of a pod says that a kubelet did not take."""
    status = pod.get("status") or {}
    if status.get("phase") == "Failed" and status.get("reason") == NODE_PORTS:
        return Rejection(NODE_PORTS, str(status.get("message") or ""))
    return None


def _host_ports(pod: Pod) -> list[tuple[str, int, str]]:
    """(Protocol, port, address) of the node; on the host's network of all ports that are declared."""
    found = []
    for spec in (*init_containers(pod), *containers(pod)):
        for port in spec.get("ports") or ():
            taken = port.get("hostPort") or (port.get("containerPort") if is_host_network(pod) else 0)
            if taken:
                found.append((str(port.get("protocol") or "TCP"), int(taken), str(port.get("hostIP") or "")))
    return found


def _collide(one: tuple[str, int, str], two: tuple[str, int, str]) -> bool:
    return one[:2] == two[:2] and (one[2] == two[2] or one[2] in _ANY or two[2] in _ANY)
