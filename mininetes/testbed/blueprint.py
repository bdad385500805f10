"""From a description to all that will be built, as plain values: the last step before the kernel is touched."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from mininet.topo import Topo

from mininetes import parts
from mininetes.agents.cni import installation
from mininetes.agents.cni.configuration import NetworkConfiguration, fill_in, read_text
from mininetes.agents.cni.plugin_values import kind_on_the_wire
from mininetes.agents.dns.manifests import LABELS as DNS_LABELS
from mininetes.cluster.underlay import Underlay, add_outside, read_topo, topo_class
from mininetes.errors import BadInput
from mininetes.kernel.netstate import NetState
from mininetes.spec import ClusterSpec
from mininetes.testbed import proxying
from mininetes.testbed.fabric import Fabric, FabricNode, FabricPlan, FabricView, fabric_of, kind_like
from mininetes.testbed.fabric_defaults import check_bridge, with_fabric_defaults
from mininetes.testbed.fabric_exec import outside_fabric
from mininetes.testbed.load_balancing import with_load_balancer_routes
from mininetes.testbed.wire import Wire, wire_of

MOST_PORTS = 1023
"""Of a Linux bridge: their numbers have ten bits, and none is 0 (BR_MAX_PORTS)."""


@dataclass(frozen=True)
class PodPlan:
    """A ready-made pod: its name, its node, and the port on which its responder answers."""

    name: str
    node: str
    port: int


@dataclass(frozen=True)
class Blueprint:
    """All that will be built for one description. Pure to make: `draw` reads files, and no kernel state."""

    spec: ClusterSpec
    topo: Topo
    underlay: Underlay
    view: FabricView
    fabric: Fabric
    plan: FabricPlan
    """What the fabric wants of the nodes that there are at first."""
    cni_template: Path
    cni_text: str
    """What the template had when it was read: nodes that join later get the same."""
    cni: NetworkConfiguration
    plugins: Mapping[str, Path]
    pods: tuple[PodPlan, ...]
    hashes: Mapping[str, str]
    """sha256 of each part that went in, by kind and name."""
    files: Mapping[str, str]
    """The path of each, by kind."""

    @property
    def connects_nodes(self) -> bool:
        """Whether the fabric carries pods' packets between nodes."""
        return self.fabric.connects_nodes

    @property
    def states(self) -> Mapping[str, NetState]:
        """What each host's namespace gets of the fabric."""
        return self.plan.states

    def conf_values(self, node: str) -> dict[str, str | int]:
        """The placeholders' values of a node's CNI configuration."""
        subnets = {each.name: each.pod_subnet for each in self.view.nodes}
        return {
            "POD_CIDR": str(subnets[node]),
            "POD_FIRST": str(subnets[node][2]),
            "POD_LAST": str(subnets[node][-2]),
            "POD_NETWORK": str(self.spec.network.pods),
            "POD_MTU": self.plan.pod_mtu,
            "NODE_NAME": node,
        }

    def install_cni(self, node: str) -> None:
        """Give a node, which is there, its plugins and its configuration. Blocks; may be called again."""
        installation.install(node, self.cni_template.name, self.cni_text, self.conf_values(node), self.plugins)

    def configuration_of(self, node: str) -> NetworkConfiguration:
        """The CNI configuration that a node gets, at the version with which its plugins are called."""
        filled_in = fill_in(self.cni_text, self.conf_values(node), self.cni_template.name)
        return NetworkConfiguration.parse(filled_in, self.cni_template.name).at(self.cni.cni_version)

    def wire(self, results: Mapping[str, Mapping[str, Any]]) -> Wire | None:
        """How pods' links lie on the nodes' own wire, where the CNI configuration puts them there.

        ``results``: what its plugins gave each pod, by the name that the pod has as a vantage point.
        """
        if not kind_on_the_wire(self.cni):
            return None
        configurations = {node.name: self.configuration_of(node.name) for node in self.view.nodes}
        return wire_of(configurations, self.underlay, results)

    @property
    def never_ready(self) -> frozenset[str]:
        """The label k8s-app of system pods that kubelets' probes do not reach, as pods are attached here."""
        return frozenset(DNS_LABELS.values()) if kind_on_the_wire(self.cni) else frozenset()

    @property
    def masquerades_to_nodes(self) -> bool:
        """Whether the configuration translates what pods send to other nodes' addresses."""
        first = self.cni.plugins[0]
        excluded = [IPv4Network(each) for each in first.get("ipMasqExclude", []) if "$" not in str(each)]
        covered = any(self.spec.network.nodes.subnet_of(each) for each in excluded)
        return bool(first.get("ipMasq")) and not covered


def draw(spec: ClusterSpec) -> Blueprint:
    """Check everything that can be checked before something is built. Raises BadInput."""
    spec = with_fabric_defaults(spec)
    spec.check()
    proxying.proxy_config(spec)
    found = {
        "underlay": parts.find("underlay", spec.underlay_name, "spec.underlay.name"),
        "cni": parts.find("cni", spec.cni, "spec.cni"),
    }
    if spec.fabric.name:
        found["fabric"] = parts.find("fabric", spec.fabric.name, "spec.fabric.name")
    if spec.proxy.exec:
        proxying.check_program(spec)
    elif spec.masters:
        proxying.check_mode(spec)
        found["proxy"] = parts.find("proxy", proxying.proxy_mode(spec), "spec.proxy.mode")
    topo = _topo(spec, found["underlay"])
    underlay = read_topo(topo)
    _check_switches(spec, underlay)
    view = _view(spec, underlay)
    if spec.masters:
        view = with_load_balancer_routes(view, spec.network.load_balancers)
        underlay = view.underlay
    if spec.fabric.exec:
        fabric = outside_fabric(spec.fabric)
    else:
        fabric = fabric_of(found["fabric"].module(), spec.fabric.name, spec.fabric.parameters)
    plugins = installation.find_plugins(parts.folders("cni"))
    cni = installation.check(found["cni"].path, plugins, parts.folders("cni"))
    check_bridge(spec, cni)
    if cni.plugins[0].get("bridge") and spec.pods.per_node > MOST_PORTS:
        raise BadInput("spec.pods.perNode", spec.pods.per_node, f"at most {MOST_PORTS}: a bridge has no more ports")
    pods = [
        PodPlan(f"{n.name}-{i}", n.name, spec.pods.port) for n in spec.nodes for i in range(1, spec.pods.per_node + 1)
    ]
    return Blueprint(
        spec=spec,
        topo=topo,
        underlay=underlay,
        view=view,
        fabric=fabric,
        plan=fabric.plan(view),
        cni_template=found["cni"].path,
        cni_text=read_text(found["cni"].path, found["cni"].path.name),
        cni=cni,
        plugins=plugins,
        pods=tuple(pods),
        hashes={f"{part.kind}/{part.path.name}": part.sha256 for part in found.values()},
        files={kind: str(part.path) for kind, part in found.items()},
    )


def _check_switches(spec: ClusterSpec, underlay: Underlay) -> None:
    ports = Counter(end.owner for cable in underlay.cables for end in cable.ends)
    for switch in underlay.switches:
        if ports[switch] > MOST_PORTS:
            right = f"fewer: {switch} would have {ports[switch]} ports, and a Linux bridge has {MOST_PORTS} at most"
            raise BadInput(
                spec.nodes_field, len(spec.nodes), f"{right} (underlays racks and leaf_spine have more switches)"
            )


_GIVEN = ("self", "nodes", "network", "gateway")
"""Parameters of a Topo's ``build`` that come from the rest of the description."""


def _parameters(spec: ClusterSpec, cls: type[Topo], name: str) -> dict[str, Any]:
    """The underlay's own parameters, checked against what its ``build`` takes. Raises BadInput."""
    known = {key: each for key, each in inspect.signature(cls.build).parameters.items() if key not in _GIVEN}
    wanted = dict(spec.underlay.parameters) if spec.underlay is not None else {}
    for key, value in wanted.items():
        place = f"spec.underlay.parameters.{key}"
        if key not in known:
            raise BadInput(place, None, f"unknown parameter of {name}; known: {', '.join(known) or 'none'}")
        default = known[key].default
        if isinstance(default, (int, str)) and type(value) is not type(default):
            raise BadInput(place, value, kind_like(default))
    return wanted


def _topo(spec: ClusterSpec, part: parts.Part) -> Topo:
    """Make the underlay's Topo with the description's nodes. Raises BadInput."""
    cls = topo_class(part.module(), part.name)
    parameters = _parameters(spec, cls, part.name)
    names = [node.name for node in spec.nodes]

    def make(nodes: list[str]) -> Topo:
        try:
            topo = cls(nodes=nodes, network=str(spec.network.nodes), gateway=True, **parameters)
        except (ValueError, TypeError, IndexError, StopIteration) as wrong:
            raise BadInput(f"underlay {part.name}", None, str(wrong) or type(wrong).__name__) from None
        if spec.outside.clients:
            add_outside(topo, spec.outside.clients)
        return topo

    stand_ins = [f"-{number}" for number in range(len(names))]  # names that no node can have
    taken = set(make(stand_ins).nodes()) & set(names)
    if taken:
        right = f"a name that underlay {part.name} does not give to a host of its own"
        raise BadInput(spec.nodes_field, min(taken), right)
    return make(names)


def _view(spec: ClusterSpec, underlay: Underlay) -> FabricView:
    plan = spec.plan
    nodes = []
    for number, node in enumerate(spec.nodes, start=1):
        host = underlay.hosts.get(node.name)
        if host is None or host.role != "node":
            raise BadInput(
                f"underlay {spec.underlay_name}", node.name, "a host with role='node' for each node asked for"
            )
        if host.address not in plan.nodes:
            raise BadInput(
                f"underlay: {node.name}: ip", str(host.address), f"an address of spec.network.nodes ({plan.nodes})"
            )
        nodes.append(FabricNode(node.name, host.address, host.interfaces[0].device, plan.pod_subnet(number)))
    for host in underlay.hosts.values():
        for each in host.interfaces:
            for field, network in (
                ("pods", plan.pods),
                ("services", plan.services),
                ("loadBalancers", plan.load_balancers),
            ):
                if each.address is not None and each.address.network.overlaps(network):
                    place = f"underlay: {host.name}: ip"
                    raise BadInput(place, str(each.address), f"outside spec.network.{field} ({network})")
    return FabricView(tuple(nodes), underlay, plan.pods, underlay.mtu)
