"""What flanneld leaves on a node besides its back end's routes, whatever the back end.

Seen of a real flanneld 0.21: FLANNEL-FWD, with ip-masq FLANNEL-POSTRTG, /run/flannel/subnet.env; and
with the Kubernetes store the annotations of the node's object. Pure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from ipaddress import IPv4Network

from mininetes.kernel.netstate import Chain, NetState
from mininetes.testbed.fabric import FabricNode, FabricPlan, FabricView

ANNOTATIONS = "flannel.alpha.coreos.com/"
SUBNET_FILE = "/run/flannel/subnet.env"
_FORWARD = '-m comment --comment "flanneld forward"'
_MASQUERADE = '-m comment --comment "flanneld masq"'
_MULTICAST = "224.0.0.0/4"


def _forward_chain(network: IPv4Network) -> Chain:
    rules = tuple(f"{side} {network} {_FORWARD} -j ACCEPT" for side in ("-s", "-d"))
    return Chain("filter", "FLANNEL-FWD", rules, (("FORWARD", f"{_FORWARD} -j FLANNEL-FWD"),))


def _masquerade_chain(network: IPv4Network, own: IPv4Network) -> Chain:
    rules = (
        f"-m mark --mark 0x4000/0x4000 {_MASQUERADE} -j RETURN",
        f"-s {network} -d {network} {_MASQUERADE} -j RETURN",
        f"-s {network} ! -d {_MULTICAST} {_MASQUERADE} -j MASQUERADE --random-fully",
        f"! -s {network} -d {own} {_MASQUERADE} -j RETURN",
        f"! -s {network} -d {network} {_MASQUERADE} -j MASQUERADE --random-fully",
    )
    return Chain("nat", "FLANNEL-POSTRTG", rules, (("POSTROUTING", f"{_MASQUERADE} -j FLANNEL-POSTRTG"),))


def _subnet_env(network: IPv4Network, node: FabricNode, mtu: int, masquerade: bool) -> str:
    gateway = f"{node.pod_subnet.network_address + 1}/{node.pod_subnet.prefixlen}"
    values = {"NETWORK": network, "SUBNET": gateway, "MTU": mtu, "IPMASQ": str(masquerade).lower()}
    return "".join(f"FLANNEL_{key}={value}\n" for key, value in values.items())


def flannel_plan(
    view: FabricView,
    states: Mapping[str, NetState],
    *,
    backend: str,
    data: Mapping[str, str] | None = None,
    masquerade: bool = False,
    pod_mtu: int,
    apart: frozenset[tuple[str, str]] = frozenset(),
) -> FabricPlan:
    """The nodes' ``states`` of a back end with what flanneld adds to each; ``data`` is the back end's, by node."""
    network = view.pod_network
    whole, files, annotations = {}, {}, {}
    for node in view.nodes:
        chains = {_forward_chain(network)} | ({_masquerade_chain(network, node.pod_subnet)} if masquerade else set())
        whole[node.name] = dataclasses.replace(states[node.name], chains=frozenset(chains))
        files[node.name] = {SUBNET_FILE: _subnet_env(network, node, pod_mtu, masquerade)}
        annotations[node.name] = {
            f"{ANNOTATIONS}backend-data": (data or {}).get(node.name, "null"),
            f"{ANNOTATIONS}backend-type": backend,
            f"{ANNOTATIONS}kube-subnet-manager": "true",
            f"{ANNOTATIONS}public-ip": str(node.address),
        }
    return FabricPlan(whole, pod_mtu, files, annotations, apart, masquerade)
