"""Permanent neighbour entries, for matrices that would overflow the kernel's table.

The table is shared by all network namespaces of the machine (gc_thresh3, 1,024 by default);
permanent entries are not counted.
"""

from __future__ import annotations

from collections import Counter
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


def number(view: FabricView, pods: Sequence[RunningPod], *, flat: bool = False) -> int:
    """How many `permanent_entries` would be, for pods whose CNI result says no MACs as well. Pure."""
    count = 0
    networks = Counter(
        each.address.network
        for host in view.underlay.hosts.values()
        for each in host.interfaces
        if each.address is not None
    )
    count += sum(members * (members - 1) for members in networks.values())
    by_node = Counter(pod.node for pod in pods)
    for nodes, members in [(len(by_node), len(pods))] if flat else [(1, each) for each in by_node.values()]:
        count += members * (nodes + members - 1) + nodes * (members + nodes - 1)
    return count


def permanent_entries(view: FabricView, pods: Sequence[RunningPod], *, flat: bool = False) -> dict[str, list[str]]:
    """Lines of ``ip -batch`` by who gets them, HOST or pod/NAME: everybody on its own networks. Pure.

    ``flat``: all pods are on one network. Raises MininetesError when a CNI result does not say what is needed.
    """
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
    groups = [pods] if flat else [[pod for pod in pods if pod.node == node.name] for node in view.nodes]
    for group in groups:
        for owner, lines in _of_one_network([(pod, *_interfaces(pod)) for pod in group]).items():
            entries.setdefault(owner, []).extend(lines)
    return entries


_Attached = tuple[RunningPod, Mapping[str, str], Mapping[str, str]]
"""A pod with its own interface and its node's bridge."""


def _of_one_network(attached: Sequence[_Attached]) -> dict[str, list[str]]:
    """Entries of pods, and of their nodes' bridges, that are on one network."""
    bridges = {pod.node: (_gateway(pod), bridge) for pod, _, bridge in attached}
    entries: dict[str, list[str]] = {}
    for pod, veth, _ in attached:
        lines = [_entry(gateway, bridge, veth) for gateway, bridge in bridges.values()]
        lines += [_entry(other.address, its, veth) for other, its, _ in attached if other is not pod]
        entries[f"pod/{pod.title}"] = lines
    for node, (_, own) in bridges.items():
        lines = [_entry(pod.address, veth, own) for pod, veth, _ in attached]
        lines += [_entry(gateway, bridge, own) for other, (gateway, bridge) in bridges.items() if other != node]
        entries[node] = lines
    return entries


def _entry(address: str, whose: Mapping[str, str], own: Mapping[str, str]) -> str:
    return f"neigh replace {address} lladdr {whose['mac']} nud permanent dev {own['name']}"


def _gateway(pod: RunningPod) -> str:
    """The address of the pod's gateway, as the CNI result has it. Raises MininetesError."""
    for each in pod.result.get("ips", []):
        if each.get("gateway"):
            return str(each["gateway"])
    raise MininetesError(f"pod {pod.title}: its CNI result names no gateway, which a matrix of this size needs")


def install(netns: str, lines: Sequence[str]) -> None:
    """Give one namespace its entries. May be called again. Raises ProcessFailed."""
    run(["ip", "-batch", "-"], stdin="\n".join(lines) + "\n", namespaces=Namespaces(net=netns))
