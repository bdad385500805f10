"""A blueprint with one node more, or one less: what a running cluster is asked to become. Pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Sequence
from typing import Any

from mininet.topo import Topo

from mininetes.cluster.underlay import Cable, Underlay, UnderlayHost, read_topo
from mininetes.errors import BadInput, one_of
from mininetes.spec_sections import HOST_NAME, NodeSpec
from mininetes.testbed.blueprint import Blueprint, PodPlan
from mininetes.testbed.fabric import FabricNode

_KIND_MASTER, _KIND_WORKER = "-control-plane", "-worker"


@dataclasses.dataclass(frozen=True)
class Joining:
    """A node that joins: the blueprint with it, its host, its link to the underlay's switch, its ready-made pods."""

    blueprint: Blueprint
    node: NodeSpec
    host: UnderlayHost
    cable: Cable
    pods: tuple[PodPlan, ...]


def _numbers(blueprint: Blueprint) -> set[int]:
    """The numbers of the nodes that there are: their places in the pods' network."""
    plan = blueprint.spec.plan
    start = int(plan.pods.network_address)
    return {(int(n.pod_subnet.network_address) - start) >> (32 - plan.node_prefix) for n in blueprint.view.nodes}


def _switch_port(underlay: Underlay, switch: str) -> str:
    """A name for one more port of a switch, as Mininet numbers them."""
    taken = {end.device for cable in underlay.cables for end in cable.ends if end.owner == switch}
    return next(name for number in range(1, len(taken) + 2) if (name := f"{switch}-eth{number}") not in taken)


def _described(blueprint: Blueprint, name: str, number: int) -> tuple[UnderlayHost, Cable]:
    """The node's host and link, as the underlay's own class says. Raises BadInput."""
    topo = blueprint.topo
    spec = blueprint.spec
    if not hasattr(topo, "place"):
        right = "no node can join: its Topo has no method place(number, network), as that of single_switch has"
        raise BadInput(f"underlay {spec.underlay_name}", None, right)
    try:
        wish: dict[str, Any] = topo.place(number, str(spec.network.nodes))
    except (ValueError, IndexError) as wrong:
        raise BadInput(f"underlay {spec.underlay_name}", None, f"no node can join: {wrong}") from None
    switch = wish["switch"]
    alone = Topo()
    alone.addSwitch(switch)
    alone.addHost(name, role="node", **wish["host"])
    port = _switch_port(blueprint.underlay, switch)
    alone.addLink(name, switch, intfName1="eth0", intfName2=port, **wish["link"])
    found = read_topo(alone)
    return found.hosts[name], found.cables[0]


def _next_name(nodes: Sequence[NodeSpec], number: int, taken: Collection[str]) -> str:
    """The first free name in the manner of the workers, where these have one: w3 after w1 and w2; else node and number.

    In kind's manner the first has no number: kind-worker, kind-worker2, ... It is that of a cluster with a worker so
    called, and of one whose control plane has kind's name (kind-control-plane), unless there is a kind-worker1.
    """
    workers = [node.name for node in nodes if node.role == "worker"]
    if not workers:
        workers = [re.sub(rf"{_KIND_MASTER}\d*$", _KIND_WORKER, n.name) for n in nodes if _KIND_MASTER in n.name]
    stems = {name.rstrip("0123456789") for name in workers}
    stem = stems.pop() if len(stems) == 1 else "node"
    numbers = range(1, len(taken) + 2)
    first_of_kind = any(node.name == stem.removesuffix(_KIND_WORKER) + _KIND_MASTER for node in nodes)
    if stem.endswith(_KIND_WORKER) and (stem in workers or (first_of_kind and f"{stem}1" not in workers)):
        names = [stem, *(f"{stem}{n}" for n in numbers[1:])]
    elif stem == "node" or stem in workers:
        names = [f"node{n}" for n in (number, *numbers)]
    else:
        names = [f"{stem}{n}" for n in numbers]
    return next(name for name in names if name not in taken)


def with_node(blueprint: Blueprint, name: str | None) -> Joining:
    """The blueprint with a worker more: with the lowest number that is free, and a name as the other workers have.

    Raises BadInput for a name that is taken or none, an underlay that does not say where, or no room.
    """
    number = min(set(range(1, len(blueprint.view.nodes) + 2)) - _numbers(blueprint))
    taken = {*blueprint.underlay.hosts, *blueprint.underlay.switches}
    if name is None:
        name = _next_name(blueprint.spec.nodes, number, taken)
    if not HOST_NAME.fullmatch(name):
        raise BadInput("node", name, "a host name: up to 63 lower-case letters, digits and '-'")
    if name in taken:
        raise BadInput("node", name, "a name that nothing of this cluster has")
    spec = blueprint.spec
    spec.plan.check(number, spec.pods.per_node)
    host, cable = _described(blueprint, name, number)
    node = NodeSpec(name=name)
    member = FabricNode(name, host.address, host.interfaces[0].device, spec.plan.pod_subnet(number))
    hosts = {**blueprint.underlay.hosts, name: host}
    underlay = dataclasses.replace(blueprint.underlay, hosts=hosts, cables=(*blueprint.underlay.cables, cable))
    made = tuple(PodPlan(f"{name}-{i}", name, spec.pods.port) for i in range(1, spec.pods.per_node + 1))
    changed = dataclasses.replace(
        blueprint,
        spec=spec.model_copy(update={"nodes": (*spec.nodes, node)}),
        underlay=underlay,
        view=dataclasses.replace(blueprint.view, nodes=(*blueprint.view.nodes, member), underlay=underlay),
        pods=(*blueprint.pods, *made),
    )
    return Joining(_planned(changed), node, host, cable, made)


def without_node(blueprint: Blueprint, name: str) -> Blueprint:
    """The blueprint with a node less. Raises BadInput when it is none, or one that the control plane needs."""
    names = [node.name for node in blueprint.spec.nodes]
    if name not in names:
        raise BadInput("node", name, one_of(names, name))
    if name in {node.name for node in blueprint.spec.masters} or len(names) == 1:
        raise BadInput("node", name, "a worker: the cluster needs this one")
    underlay = blueprint.underlay
    underlay = dataclasses.replace(
        underlay,
        hosts={host: each for host, each in underlay.hosts.items() if host != name},
        cables=tuple(cable for cable in underlay.cables if all(end.owner != name for end in cable.ends)),
    )
    nodes = tuple(each for each in blueprint.view.nodes if each.name != name)
    spec = blueprint.spec
    changed = dataclasses.replace(
        blueprint,
        spec=spec.model_copy(update={"nodes": tuple(node for node in spec.nodes if node.name != name)}),
        underlay=underlay,
        view=dataclasses.replace(blueprint.view, nodes=nodes, underlay=underlay),
        pods=tuple(pod for pod in blueprint.pods if pod.node != name),
    )
    return _planned(changed)


def _planned(blueprint: Blueprint) -> Blueprint:
    return dataclasses.replace(blueprint, plan=blueprint.fabric.plan(blueprint.view))
