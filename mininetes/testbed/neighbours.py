"""Permanent neighbour entries, for matrices that would overflow the kernel's table.

The table is shared by all network namespaces of the machine (gc_thresh3, 1,024 by default);
permanent entries are not counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network

from mininetes.agents.kubelet import RunningPod
from mininetes.cluster.underlay import Interface
from mininetes.errors import MininetesError
from mininetes.kernel.processes import Namespaces, run
from mininetes.testbed.fabric import FabricView


def _interfaces(pod: RunningPod) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """The pod's own interface and its gateway's, as the CNI result has them. Raises MininetesError."""
    found = pod.result.get("interfaces", [])
    own = [each for each in found if each.get("sandbox") and each.get("mac")]
    bridge = [each for each in found if not each.get("sandbox") and each.get("mac")]
    if not own or not bridge:
        raise MininetesError(f"pod {pod.title}: its CNI result names no MACs, which a matrix of this size needs")
    return own[0], bridge[0]


def permanent_entries(view: FabricView, pods: Sequence[RunningPod]) -> dict[str, list[str]]:
    """Lines of ``ip -batch`` by who gets them, HOST or pod/NAME: everybody on its own networks. Pure."""
    entries: dict[str, list[str]] = {}
    by_network: dict[IPv4Network, list[Interface]] = {}
    for host in view.underlay.hosts.values():
        for each in host.interfaces:
            if each.address is not None:
                by_network.setdefault(each.address.network, []).append(each)
    for members in by_network.values():
        for own in members:
            entries.setdefault(own.owner, []).extend(
                f"neigh replace {other.address.ip} lladdr {other.mac} nud permanent dev {own.device}"
                for other in members
                if other is not own and other.address is not None
            )
    for node in view.nodes:
        here = [(pod, *_interfaces(pod)) for pod in pods if pod.node == node.name]
        gateway = node.pod_subnet.network_address + 1
        for pod, veth, bridge in here:
            lines = [f"neigh replace {gateway} lladdr {bridge['mac']} nud permanent dev {veth['name']}"]
            lines += [
                f"neigh replace {other.address} lladdr {its['mac']} nud permanent dev {veth['name']}"
                for other, its, _ in here
                if other.title != pod.title
            ]
            entries[f"pod/{pod.title}"] = lines
            line = f"neigh replace {pod.address} lladdr {veth['mac']} nud permanent dev {bridge['name']}"
            entries.setdefault(node.name, []).append(line)
    return entries


def install(netns: str, lines: Sequence[str]) -> None:
    """Give one namespace its entries. May be called again. Raises ProcessFailed."""
    run(["ip", "-batch", "-"], stdin="\n".join(lines) + "\n", namespaces=Namespaces(net=netns))
