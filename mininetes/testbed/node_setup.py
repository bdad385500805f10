"""What each node is given before its agents start: the files that show its Kubernetes, and its packet filter."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Any

from mininetes.agents import node_files
from mininetes.agents.agent import Placement
from mininetes.agents.dns.manifests import dns_address
from mininetes.agents.node_files import ClusterFacts, NodeFacts
from mininetes.agents.packet_filter import apply_filter, compile_filter
from mininetes.kernel.processes import Namespaces
from mininetes.spec import ClusterSpec
from mininetes.spec_sections import NodeSpec
from mininetes.testbed import credentials, node_agents, proxying
from mininetes.testbed.api_servers import ApiServers
from mininetes.testbed.credentials import Credentials
from mininetes.testbed.ports import filter_view, ports_view


def cluster_facts(spec: ClusterSpec) -> ClusterFacts:
    """The values in force, which the files of all nodes have in common."""
    grace_s = spec.control_plane.node_grace_seconds
    return ClusterFacts(
        pods=spec.network.pods,
        node_prefix=spec.network.node_prefix,
        services=spec.network.services,
        node_ports=spec.node_ports,
        dns=dns_address(spec.network.services),
        proxy_mode=proxying.proxy_mode(spec),
        log_directory=spec.logging.directory,
        level=spec.logging.level,
        levels=spec.logging.levels,
        proxy=spec.proxy.config,
        flags={"kube-controller-manager": {"node-monitor-grace-period": f"{grace_s:g}s"}},
    )


def kubelet_fields(spec: ClusterSpec, node: NodeSpec) -> dict[str, Any]:
    """What a node's kubelet does, in the words of its own configuration."""
    options = node_agents.kubelet_options(spec, node)
    return {
        "clusterDomain": options.cluster_domain,
        "maxPods": options.max_pods,
        "nodeLeaseDurationSeconds": options.lease_duration_s,
        "nodeStatusUpdateFrequency": f"{options.status_period_s:g}s",
    }


def _kubeconfigs(own: Credentials, node: NodeSpec, server: str, *, master: bool) -> dict[str, str]:
    users = {"kubelet": credentials.kubelet_user(node.name), "kube-proxy": credentials.PROXY}
    if master:
        users |= {
            "admin": credentials.ADMIN,
            "kube-controller-manager": credentials.CONTROLLER_MANAGER,
            "kube-scheduler": credentials.SCHEDULER,
        }
    return {name: own.kubeconfig(server, user) for name, user in users.items()}


def write_node_files(spec: ClusterSpec, places: Mapping[str, Placement], own: Credentials, servers: ApiServers) -> None:
    """Write every node's files. Blocks; may be called again. Raises OSError."""
    facts = cluster_facts(spec)
    for node in spec.nodes:
        place, master = places[node.name], node in spec.masters
        node_facts = NodeFacts(
            name=node.name,
            address=IPv4Address(place.address),
            control_plane=master,
            kubeconfigs=_kubeconfigs(own, node, servers.server_for(place), master=master),
            ca_pem=own.pki.ca_pem,
            kubelet=kubelet_fields(spec, node),
            etcd_servers=servers.etcd_servers(place),
            etcd=servers.etcd_arguments(place),
        )
        node_files.write(node.name, node_files.node_files(facts, node_facts))


def write_packet_filters(spec: ClusterSpec, places: Mapping[str, Placement]) -> None:
    """With ``firewall: kubernetes``, write each node's packet filter from the ports table. Blocks; repeatable."""
    if spec.firewall != "kubernetes" or not spec.masters:
        return
    addresses = {name: IPv4Address(place.address) for name, place in places.items()}
    view = filter_view(spec, ports_view(spec), addresses)
    for name, place in places.items():
        apply_filter(Namespaces(of_pid=place.holder_pid), compile_filter(view, name))
