"""The JSON schema of the cluster file, for editors: made from the models that check it. Pure.

Where a file may say less than the models hold (a name alone for a section, nodes by number), the schema says so too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mininetes.spec import API_VERSION, ClusterSpec
from mininetes.spec_sections import HOST_NAME, LAB_NAME, NodeCounts

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SHORTHANDS = ("underlay", "fabric", "proxy")
"""Sections for which a word alone may stand."""

MEANINGS: dict[str, dict[str, str]] = {
    "ClusterSpec": {
        "nodes": "The nodes: by number, or each with a name. Without it, one of the control plane and two workers.",
        "network": "The address ranges.",
        "underlay": "What joins the nodes: single_switch, three_node, racks, leaf_spine, or the path of a file.",
        "fabric": "How pods' packets cross nodes: static, none, router, host-gw, vxlan, weave, or the path of a file.",
        "cni": "The CNI configuration of every node: a name such as bash-bridge.conflist, or a path.",
        "proxy": "kube-proxy: its mode, or a section.",
        "controlPlane": "Where objects are kept, and how many API servers there are.",
        "firewall": "With kubernetes, each node has a packet filter that lets through what Kubernetes needs alone.",
        "pods": "The ready-made pods of each node.",
        "outside": "What is outside the cluster, behind its gateway.",
        "logging": "Where agents write their logs, and how much.",
        "networks": "Container networks beside the pods', as Docker has them.",
        "containers": "Plain containers on these networks.",
    },
    "NodeCounts": {
        "workers": "How many workers.",
        "controlPlane": "How many nodes of the control plane; they come first.",
    },
    "NodeSpec": {
        "name": "Its host name: up to 63 lower-case letters, digits and '-'.",
        "role": "Where no node has one, the first is of the control plane.",
        "zone": "Its label topology.kubernetes.io/zone.",
        "labels": "More labels of its Node object.",
    },
    "NetworkSpec": {
        "nodes": "The nodes' own addresses.",
        "pods": "The network of all pods.",
        "nodePrefix": "The prefix length of each node's part of it.",
        "services": "The addresses of services; the first is kubernetes, the tenth DNS.",
        "nodePorts": "The ports of services of type NodePort: FIRST-LAST.",
        "loadBalancers": "The addresses of services of type LoadBalancer.",
    },
    "PartSpec": {
        "name": "Its name, or the path of a file.",
        "parameters": "What its build takes, such as racks, bw or delay.",
    },
    "FabricSpec": {
        "name": "Its name, or the path of a file.",
        "parameters": "What its plan takes.",
        "exec": "In place of a name: a program and its arguments, run on each node.",
        "repair": "Whether what somebody changes by hand is put right again.",
    },
    "ProxySpec": {
        "mode": "iptables, nftables, ipvs, userspace, or the path of a file; without it iptables.",
        "backend": "The iptables to use; without it the system's.",
        "config": "Fields of KubeProxyConfiguration, such as iptables: {masqueradeAll: true}.",
        "exec": "In place of kube-proxy: a program and its arguments, run on each node.",
    },
    "ControlPlaneSpec": {
        "store": "memory, etcd, or none for a network without a control plane.",
        "replicas": "How many API servers; without it one on each control-plane node.",
        "nodeGraceSeconds": "After so many seconds without a sign of life a node is no longer ready.",
    },
    "PodsSpec": {
        "perNode": "How many on each node.",
        "port": "The port at which they answer, TCP and UDP.",
        "hold": "What keeps a pod's network namespace: a pause process, or a mount, which is lighter.",
    },
    "OutsideSpec": {"clients": "How many clients; one more is in a network that rules can block."},
    "LoggingSpec": {
        "directory": "Where, on each node.",
        "level": "How much, as -v of Kubernetes' components.",
        "levels": "How much by component, such as kube-proxy: 4.",
    },
    "ContainerNetworkSpec": {
        "name": "Its name.",
        "driver": "bridge, macvlan, ipvlan or overlay; networks bridge, host and none are there already.",
        "node": "The node that has it.",
        "nodes": "For overlay: the nodes that have it; without any, all, also those that join.",
        "subnet": "Its addresses; without it the next that is free.",
        "ipRange": "The part of the subnet from which members get theirs.",
        "gateway": "The address of its gateway; without it the first.",
        "options": "The driver's, such as parent, mode or com.docker.network.bridge.enable_icc.",
    },
    "ContainerSpec": {
        "name": "Its name.",
        "node": "The node that it is on.",
        "networks": "The networks that it is on; the first has its default route.",
        "port": "The port at which it answers, TCP and UDP.",
        "publish": "Ports of the node that lead to it: HOST_PORT:PORT, with /udp where it is meant.",
    },
}
"""What each field means, for people who type."""


def cluster_schema(proxy_modes: Sequence[str]) -> dict[str, Any]:
    """The schema of a whole file. ``proxy_modes``: the names that there are, beside files by their paths."""
    spec = ClusterSpec.model_json_schema(by_alias=True)
    models = {**spec.pop("$defs"), "NodeCounts": NodeCounts.model_json_schema(by_alias=True), "ClusterSpec": spec}
    for name, model in models.items():
        _tidy(name, model)
    spec["description"] = "What the cluster is like. Everything has a default."
    fields = spec["properties"]
    del fields["name"]  # which belongs to metadata
    models["NodeSpec"]["properties"]["name"]["pattern"] = f"^{HOST_NAME.pattern}$"
    by_name = {"type": "array", "items": {"$ref": "#/$defs/NodeSpec"}, "minItems": 1}
    fields["nodes"] = {
        "anyOf": [{"$ref": "#/$defs/NodeCounts"}, by_name],
        "description": MEANINGS["ClusterSpec"]["nodes"],
    }
    mode = {"type": "string", "anyOf": [{"enum": list(proxy_modes)}, {"pattern": r"\.py$"}]}
    section = models["ProxySpec"]["properties"]["mode"]
    models["ProxySpec"]["properties"]["mode"] = {**mode, "description": section["description"]}
    for key in _SHORTHANDS:
        whole = fields[key].get("anyOf") or [{"$ref": fields[key].pop("$ref")}]
        fields[key]["anyOf"] = [mode if key == "proxy" else {"type": "string"}, *whole]
    metadata = {
        "type": "object",
        "additionalProperties": False,
        "properties": {"name": {"type": "string", "pattern": f"^{LAB_NAME.pattern}$", "description": "Of the lab."}},
    }
    return {
        "$schema": DIALECT,
        "title": "A Mininetes cluster",
        "type": "object",
        "required": ["apiVersion", "kind"],
        "additionalProperties": False,
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": "Cluster"},
            "metadata": metadata,
            "spec": {"$ref": "#/$defs/ClusterSpec"},
        },
        "$defs": dict(sorted(models.items())),
    }


def _tidy(name: str, model: dict[str, Any]) -> None:
    """Put what people read in place of what programs make up: titles and types' own words."""
    model.pop("title", None)
    model["description"] = " ".join(model.get("description", "").partition("\n\n")[0].replace("``", "").split())
    for key, field in model["properties"].items():
        field.pop("title", None)
        if key in MEANINGS[name]:
            field["description"] = MEANINGS[name][key]
