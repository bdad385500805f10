"""kind's configuration files (``kind.x-k8s.io/v1alpha4``) as descriptions of our own. Pure.

Nodes get the names that kind gives them. What has no equivalent here is told in ``notes``, what kind itself would not
know is refused.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from mininetes.addressing import LEAST_SERVICES, LOAD_BALANCERS, NODE_OFFSET, NODES, PODS, AddressPlan
from mininetes.errors import BadInput
from mininetes.spec_sections import LAB_NAME, LAB_NAME_RIGHT

GROUP = "kind.x-k8s.io/"
API_VERSION = f"{GROUP}v1alpha4"

_NAME = "kind"
_SERVICES = IPv4Network("10.96.0.0/16")
_ROLES = ("control-plane", "worker")
_MODES = ("iptables", "ipvs", "nftables", "none")
_NODE_NETWORKS = (NODES, IPv4Network("172.18.0.0/16"), IPv4Network("10.89.0.0/16"))
"""The first with room that overlaps neither pods nor services is the nodes'; the second is kind's own network."""
_NO_PROXY = ("sleep", "infinity")

CLUSTER = ("kind", "apiVersion", "name", "nodes", "networking")
NODE = ("role", "labels")
NETWORKING = (
    "ipFamily", "apiServerAddress", "apiServerPort", "podSubnet", "serviceSubnet", "disableDefaultCNI",
    "kubeProxyMode", "dnsSearch",
)  # fmt: skip
_NO_KUBEADM = "there is no kubeadm here, as components are the emulation's own"
_NO_CONTAINERD = "there is no containerd here"
IGNORED_OF_CLUSTER = {
    "featureGates": "components are the emulation's own",
    "runtimeConfig": "the API server has one set of kinds",
    "kubeadmConfigPatches": _NO_KUBEADM,
    "kubeadmConfigPatchesJSON6902": _NO_KUBEADM,
    "containerdConfigPatches": _NO_CONTAINERD,
    "containerdConfigPatchesJSON6902": _NO_CONTAINERD,
}
IGNORED_OF_NODE = {
    "image": "nodes are namespaces and run no image",
    "extraMounts": "nodes see the machine's own files",
    "extraPortMappings": "ask a node's port from inside the lab, as with 'mininetes exec client1 -- curl ...'",
    "kubeadmConfigPatches": _NO_KUBEADM,
    "kubeadmConfigPatchesJSON6902": _NO_KUBEADM,
}


@dataclass(frozen=True)
class KindCluster:
    """What one of kind's files asks for: the cluster's name, its ``spec`` as a file of ours has it, and notes."""

    name: str
    spec: dict[str, Any]
    notes: Sequence[str]


class Nodes(list[dict[str, Any]]):
    """The nodes of one of kind's files as a file of ours has them; ``field`` is where kind's file has them."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.field = f"{source}: nodes"


def is_kind(content: object) -> bool:
    """Whether a document is for kind, of whatever version."""
    return isinstance(content, Mapping) and str(content.get("apiVersion", "")).startswith(GROUP)


def read(content: Mapping[str, Any], source: str) -> KindCluster:
    """Make a description of a file's document. Raises BadInput that names ``source`` and the field."""
    for key, right in (("apiVersion", API_VERSION), ("kind", "Cluster")):
        if content.get(key) != right:
            raise BadInput(f"{source}: {key}", content.get(key), right)
    notes: list[str] = []
    _check_keys(content, (*CLUSTER, *IGNORED_OF_CLUSTER), f"{source}: ")
    notes += _ignored(content, IGNORED_OF_CLUSTER, "")
    name = content.get("name") or _NAME
    if not isinstance(name, str) or not LAB_NAME.fullmatch(name):
        raise BadInput(f"{source}: name", str(name), LAB_NAME_RIGHT)
    networking = _mapping(content, "networking", source)
    spec = _networking(networking, source, notes)
    spec["nodes"] = _nodes(content.get("nodes"), name, source, notes)
    spec["network"] = _network(networking, len(spec["nodes"]), source)
    spec["pods"] = {"perNode": 0}
    return KindCluster(name, spec, notes)


def _check_keys(part: Mapping[Any, Any], known: Sequence[str], place: str) -> None:
    for key in part:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"kind knows here: {', '.join(known)}"
            raise BadInput(f"{place}{key}", None, f"unknown key; {hint}")


def _ignored(part: Mapping[str, Any], reasons: Mapping[str, str], place: str) -> Iterable[str]:
    return [f"{place}{key} is ignored: {why}" for key, why in reasons.items() if part.get(key)]


def _mapping(part: Mapping[str, Any], key: str, source: str) -> Mapping[str, Any]:
    found = part.get(key)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise BadInput(f"{source}: {key}", str(found), "a mapping")
    return found


def _nodes(asked: object, cluster: str, source: str, notes: list[str]) -> Nodes:
    if asked is None:
        asked = [{"role": "control-plane"}]
    if not isinstance(asked, list) or not asked:
        raise BadInput(f"{source}: nodes", str(asked), "a list such as [{role: control-plane}, {role: worker}]")
    made = Nodes(source)
    counts = dict.fromkeys(_ROLES, 0)
    for number, node in enumerate(asked):
        place = f"{source}: nodes[{number}]"
        if not isinstance(node, Mapping):
            raise BadInput(place, str(node), "a mapping such as {role: worker}")
        _check_keys(node, (*NODE, *IGNORED_OF_NODE), f"{place}.")
        notes += _ignored(node, IGNORED_OF_NODE, f"nodes[{number}].")
        role = node.get("role") or _ROLES[0]
        if role not in _ROLES:
            raise BadInput(f"{place}.role", str(role), " or ".join(_ROLES))
        counts[role] += 1
        labels = node.get("labels") or {}
        if not isinstance(labels, Mapping) or not all(
            isinstance(each, str) for pair in labels.items() for each in pair
        ):
            raise BadInput(f"{place}.labels", str(labels), "a mapping of texts; numbers and true need quotes")
        again = str(counts[role]) if counts[role] > 1 else ""
        made.append({"name": f"{cluster}-{role}{again}", "role": role, "labels": dict(labels)})
    if not counts["control-plane"]:
        raise BadInput(f"{source}: nodes", None, "at least one node with role control-plane")
    return made


def _networking(part: Mapping[str, Any], source: str, notes: list[str]) -> dict[str, Any]:
    place = f"{source}: networking."
    _check_keys(part, NETWORKING, place)
    if part.get("ipFamily") not in (None, "ipv4"):
        raise BadInput(f"{place}ipFamily", str(part["ipFamily"]), "ipv4: IPv6 and both are not supported yet")
    spec: dict[str, Any] = {}
    mode = part.get("kubeProxyMode") or "iptables"
    if mode not in _MODES:
        raise BadInput(f"{place}kubeProxyMode", str(mode), "one of " + ", ".join(_MODES))
    if mode == "none":
        notes.append(f"networking.kubeProxyMode none: in kube-proxy's place runs '{' '.join(_NO_PROXY)}'")
        spec["proxy"] = {"exec": list(_NO_PROXY)}
    else:
        spec["proxy"] = {"mode": mode}
    without_cni = part.get("disableDefaultCNI", False)
    if not isinstance(without_cni, bool):
        raise BadInput(f"{place}disableDefaultCNI", str(without_cni), "true or false")
    if without_cni:
        spec["fabric"] = {"name": "none"}
        notes.append(
            "networking.disableDefaultCNI: nothing joins the nodes (fabric none), and each node keeps its CNI bridge, "
            "so that pods start; another configuration in /etc/cni/net.d that sorts before it takes its place"
        )
    notes += _told(part)
    return spec


def _told(part: Mapping[str, Any]) -> Iterable[str]:
    """Of the API server and of names: what is asked for, and has no place in a description."""
    if part.get("apiServerAddress") not in (None, "127.0.0.1"):
        yield "networking.apiServerAddress is ignored: kubectl of this machine reaches the lab at 127.0.0.1"
    if part.get("apiServerPort"):
        port = part["apiServerPort"]
        yield f"networking.apiServerPort is ignored: 'mininetes up --api-port {port}' chooses the port"
    if part.get("dnsSearch") is not None:
        yield "networking.dnsSearch is ignored: nodes have the machine's own resolv.conf"


_RANGES = {
    "spec.network.pods": "networking.podSubnet",
    "spec.network.services": "networking.serviceSubnet",
    "spec.network.loadBalancers": "the addresses of load balancers",
    "spec.network.nodes": "nodes",
}
"""The fields that the checks of addresses name, in kind's words."""


def _network(part: Mapping[str, Any], nodes: int, source: str) -> dict[str, str]:
    """The address ranges of so many nodes. Raises BadInput that names the fields that kind's file has."""
    place = f"{source}: networking."
    pods = _range(part, "podSubnet", PODS, place)
    services = _range(part, "serviceSubnet", _SERVICES, place)
    if services.num_addresses < LEAST_SERVICES:
        raise BadInput(f"{place}serviceSubnet", str(services), f"a network of at least {LEAST_SERVICES} addresses")
    free = [each for each in _NODE_NETWORKS if not each.overlaps(pods) and not each.overlaps(services)]
    if not free:
        right = f"ranges that leave one of {', '.join(map(str, _NODE_NETWORKS))} to the nodes"
        raise BadInput(f"{place}podSubnet, serviceSubnet", f"{pods}, {services}", right)
    wide = [each for each in free if each.num_addresses - 2 - NODE_OFFSET >= nodes]
    plan = AddressPlan((wide or free)[0], pods, services, LOAD_BALANCERS)
    if pods.prefixlen >= plan.node_prefix:
        right = f"larger than a /{plan.node_prefix}, as each node has one"
        raise BadInput(f"{place}podSubnet", str(pods), right)
    try:
        plan.check(nodes, 0)
    except BadInput as wrong:
        right = wrong.right
        for ours, kinds in _RANGES.items():
            right = right.replace(ours, kinds)
        raise BadInput(f"{source}: {_RANGES.get(wrong.field, wrong.field)}", wrong.value, right) from None
    return {"nodes": str(plan.nodes), "pods": str(pods), "services": str(services)}


def _range(part: Mapping[str, Any], key: str, default: IPv4Network, place: str) -> IPv4Network:
    value = part.get(key)
    if value is None or value == "":
        return default
    try:
        return IPv4Network(value if isinstance(value, str) else "")
    except ValueError:
        raise BadInput(f"{place}{key}", str(value), f"an IPv4 network such as {default}") from None
