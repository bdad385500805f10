"""Proxy mode nftables: one table with maps from destinations to chains, as kube-proxy 1.30 writes it.

    nat-prerouting, nat-output -> services
        @service-ips       address . protocol . port -> service-x, local-x or external-x
        @service-nodeports protocol . port           -> external-x -> service-x or local-x
                                                                        -> 1 of n: endpoint-y: dnat
    filter-*: @firewall-ips, @no-endpoint-services, @no-endpoint-nodeports -> firewall-x, reject-chain, drop
              @cluster-ips: unknown ports of cluster IPs are rejected
    nat-postrouting -> masquerading: what mark-for-masquerade marked

x and y are ``hash-namespace/service/protocol/port`` (``__address/port``), with 8 characters of
base32(sha256(the rest of the name)).
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import NamedTuple

from mininetes.api import (
    Endpoint,
    Fate,
    LocalTraffic,
    NftablesRuleset,
    NftContainer,
    NodeView,
    PortGroup,
    PortTraffic,
    ServicePort,
    once,
)

COMMENT = "rules for kube-proxy"

BASE_CHAINS = {
    "filter-prerouting": "type filter hook prerouting priority -110 ;",
    "filter-input": "type filter hook input priority -110 ;",
    "filter-forward": "type filter hook forward priority -110 ;",
    "filter-output": "type filter hook output priority -110 ;",
    "filter-output-post-dnat": "type filter hook output priority -90 ;",
    "nat-prerouting": "type nat hook prerouting priority -100 ;",
    "nat-output": "type nat hook output priority -100 ;",
    "nat-postrouting": "type nat hook postrouting priority 100 ;",
}
_HELPER = "helper for @no-endpoint-services / @no-endpoint-nodeports"
DECLARATIONS = {**BASE_CHAINS, "reject-chain": f'comment "{_HELPER}" ;'}

_BY_ADDRESS = "type ipv4_addr . inet_proto . inet_service : verdict"
_BY_PORT = "type inet_proto . inet_service : verdict"
_DESTINATION = "ip daddr . meta l4proto . th dport"
CONTAINERS = {
    "cluster-ips": ("set", "type ipv4_addr", "Active ClusterIPs"),
    "nodeport-ips": ("set", "type ipv4_addr", "IPs that accept NodePort traffic"),
    "no-endpoint-services": ("map", _BY_ADDRESS, "vmap to drop or reject packets to services with no endpoints"),
    "no-endpoint-nodeports": ("map", _BY_PORT, "vmap to drop or reject packets to service nodeports with no endpoints"),
    "firewall-ips": ("map", _BY_ADDRESS, "destinations that are subject to LoadBalancerSourceRanges"),
    "service-ips": ("map", _BY_ADDRESS, "ClusterIP, ExternalIP and LoadBalancer IP traffic"),
    "service-nodeports": ("map", _BY_PORT, "NodePort traffic"),
}


class Settings(NamedTuple):
    """What a port's chains depend on besides the port. ``node_address`` counts for source ranges only."""

    masquerade_all: bool
    if_local: str
    if_not_local: str
    node_address: str


@dataclass(frozen=True)
class PortRules:
    """The chains, sets and map elements (map, key, what follows it) of one service port."""

    chains: tuple[tuple[str, tuple[str, ...]], ...]
    affinity_sets: tuple[tuple[str, str], ...]
    elements: tuple[tuple[str, str, str], ...]


def hashed(rest: str) -> str:
    """A name with the hash of itself in front."""
    digest = hashlib.sha256(rest.encode()).digest()[:5]
    return f"{base64.b32encode(digest).decode()}-{rest}"


def detect_local(local: LocalTraffic) -> tuple[str, str]:
    """The matches for traffic that is from this node's pods, and for other traffic; empty when it cannot be told."""
    if local.by == "network":
        return f"ip saddr {local.value}", f"ip saddr != {local.value}"
    if local.by in ("bridge", "prefix"):
        star = "*" if local.by == "prefix" else ""
        return f'iifname "{local.value}{star}"', f'iifname != "{local.value}{star}"'
    return "", ""


@once
def port_rules(traffic: PortTraffic, settings: Settings) -> PortRules:
    """All that one service port needs."""
    port = traffic.port
    rest = f"{port.namespace}/{port.service}/{port.protocol}/{port.port_name}"
    name = hashed(rest)
    cluster, local, external, firewall = (f"{kind}-{name}" for kind in ("service", "local", "external", "firewall"))
    fenced = bool(port.load_balancer_ips and port.source_ranges)
    internal = local if port.internal_local else cluster
    endpoints = {each: hashed(f"{rest}__{each.address}/{each.port}") for each in traffic.reachable}
    chains: list[tuple[str, tuple[str, ...]]] = []
    masquerade: list[str] = []
    if traffic.internal is Fate.SERVE and (settings.masquerade_all or settings.if_not_local):
        sources = "" if settings.masquerade_all else f"{settings.if_not_local} "
        here = f"ip daddr {port.cluster_ip} {port.protocol} dport {port.port}"
        masquerade.append(f"{here} {sources}jump mark-for-masquerade")
    for used, chain, chosen in (
        (port.uses_cluster_endpoints, cluster, traffic.cluster),
        (port.uses_local_endpoints, local, traffic.local),
    ):
        if used and chosen:
            first = masquerade if chain == internal else []
            chains.append((chain, (*first, *_balancing_rules(port, chosen, endpoints))))
    if traffic.anywhere and port.externally_accessible:
        chains.append((external, tuple(_external_rules(traffic, settings, cluster, local))))
    if fenced:
        chains.append((firewall, (_firewall_rule(port, settings),)))
    chains += [(f"endpoint-{each}", _endpoint_rules(port, endpoint, each)) for endpoint, each in endpoints.items()]
    sets = [(f"affinity-{each}", _affinity_set(port)) for each in endpoints.values()] if port.affinity_s else []
    found = _elements(traffic, internal, external, firewall if fenced else "")
    return PortRules(tuple(chains), tuple(sets), tuple(found))


def _affinity_set(port: ServicePort) -> str:
    return f"type ipv4_addr ; flags dynamic,timeout ; timeout {port.affinity_s}s ;"


def _elements(traffic: PortTraffic, internal: str, external: str, firewall: str) -> list[tuple[str, str, str]]:
    """The elements of one port in the table's maps."""
    port = traffic.port
    said = f' comment "{port.name}"'
    outside = (*port.external_ips, *port.load_balancer_ips)

    def at(address: str) -> str:
        return f"{address} . {port.protocol} . {port.port}"

    node_port = f"{port.protocol} . {port.node_port}"
    found = [("cluster-ips", port.cluster_ip, "")]
    if traffic.internal is Fate.SERVE:
        found.append(("service-ips", at(port.cluster_ip), f" : goto {internal}"))
    else:
        found.append(("no-endpoint-services", at(port.cluster_ip), f"{said} : {_verdict(traffic.internal)}"))
    if traffic.anywhere:
        found += [("service-ips", at(ip), f" : goto {external}") for ip in outside]
        if port.node_port:
            found.append(("service-nodeports", node_port, f" : goto {external}"))
    if firewall:
        found += [("firewall-ips", at(ip), f"{said} : goto {firewall}") for ip in port.load_balancer_ips]
    if traffic.external is not Fate.SERVE:
        verdict = _verdict(traffic.external)
        found += [("no-endpoint-services", at(ip), f"{said} : {verdict}") for ip in outside]
        if port.node_port:
            found.append(("no-endpoint-nodeports", node_port, f"{said} : {verdict}"))
    return found


def _verdict(fate: Fate) -> str:
    return "goto reject-chain" if fate is Fate.REJECT else "drop"


def _external_rules(traffic: PortTraffic, settings: Settings, cluster: str, local: str) -> list[str]:
    """What happens to traffic from outside before it goes to the endpoints."""
    if not traffic.port.external_local:
        rules = ["jump mark-for-masquerade"]
    else:
        rules = [f'{settings.if_local} goto {cluster} comment "short-circuit pod traffic"'] if settings.if_local else []
        rules.append('fib saddr type local jump mark-for-masquerade comment "masquerade local traffic"')
        rules.append(f'fib saddr type local goto {cluster} comment "short-circuit local traffic"')
    if traffic.external is Fate.SERVE:
        rules.append(f"goto {local if traffic.port.external_local else cluster}")
    return rules


def _firewall_rule(port: ServicePort, settings: Settings) -> str:
    """Drop what is not in the source ranges; a node that has the load balancer's address itself sends from it."""
    sources = list(port.source_ranges)
    if port.allows(settings.node_address):
        sources += port.load_balancer_ips
    return f"ip saddr != {{ {', '.join(sources)} }} drop"


def _balancing_rules(port: ServicePort, chosen: tuple[Endpoint, ...], names: dict[Endpoint, str]) -> list[str]:
    """One of n at random; before that, clients that come back keep theirs."""
    rules = []
    if port.affinity_s:
        rules += [f"ip saddr @affinity-{names[each]} goto endpoint-{names[each]}" for each in chosen]
    ways = ", ".join(f"{index} : goto endpoint-{names[each]}" for index, each in enumerate(chosen))
    return [*rules, f"numgen random mod {len(chosen)} vmap {{ {ways} }}"]


def _endpoint_rules(port: ServicePort, endpoint: Endpoint, name: str) -> tuple[str, ...]:
    """Masquerade what comes back to the endpoint that sent it, and translate the address."""
    remember = (f"update @affinity-{name} {{ ip saddr }}",) if port.affinity_s else ()
    return (
        f"ip saddr {endpoint.address} jump mark-for-masquerade",
        *remember,
        f"meta l4proto {port.protocol} dnat to {endpoint}",
    )


def _common_chains(view: NodeView) -> dict[str, tuple[str, ...]]:
    """The chains that every table has."""
    mark = f"{view.masquerade_mark:#010x}"
    to_node = "ip daddr @nodeport-ips"
    checked = to_node
    if view.node_ports_everywhere:
        to_node, checked = "fib daddr type local ip daddr != 127.0.0.0/8", "ip daddr != 127.0.0.0/8"
    return {
        "filter-prerouting": ("ct state new jump firewall-check",),
        "filter-input": ("ct state new jump nodeport-endpoints-check", "ct state new jump service-endpoints-check"),
        "filter-forward": ("ct state new jump service-endpoints-check", "ct state new jump cluster-ips-check"),
        "filter-output": ("ct state new jump service-endpoints-check", "ct state new jump firewall-check"),
        "filter-output-post-dnat": ("ct state new jump cluster-ips-check",),
        "nat-prerouting": ("jump services",),
        "nat-output": ("jump services",),
        "nat-postrouting": ("jump masquerading",),
        "nodeport-endpoints-check": (f"{checked} meta l4proto . th dport vmap @no-endpoint-nodeports",),
        "service-endpoints-check": (f"{_DESTINATION} vmap @no-endpoint-services",),
        "firewall-check": (f"{_DESTINATION} vmap @firewall-ips",),
        "services": (
            f"{_DESTINATION} vmap @service-ips",
            f"{to_node} meta l4proto . th dport vmap @service-nodeports",
        ),
        "masquerading": (
            f"meta mark & {mark} == 0x00000000 return",
            f"meta mark set meta mark ^ {mark}",
            "masquerade fully-random",
        ),
        "cluster-ips-check": ('ip daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"',),
        "mark-for-masquerade": (f"meta mark set meta mark | {mark}",),
        "reject-chain": ("reject",),
    }


class GroupSettings(NamedTuple):
    """The settings of ports without source ranges, and of those with."""

    common: Settings
    with_address: Settings


@dataclass(frozen=True)
class GroupRules:
    """The chains, affinity sets and map elements (by map: key, what follows it) of some service ports."""

    chains: dict[str, tuple[str, ...]]
    affinity: dict[str, NftContainer]
    elements: dict[str, dict[str, str]]


@once
def group_rules(group: PortGroup, settings: GroupSettings) -> GroupRules:
    """All that some service ports need."""
    made = GroupRules({}, {}, {name: {} for name in CONTAINERS})
    for traffic in group.ports:
        rules = port_rules(traffic, settings.with_address if traffic.port.source_ranges else settings.common)
        made.chains.update(rules.chains)
        for name, declaration in rules.affinity_sets:
            made.affinity[name] = NftContainer("set", declaration, kept=True)
        for name, key, rest in rules.elements:
            made.elements[name][key] = rest
    return made


def compile_rules(view: NodeView) -> NftablesRuleset:
    """The table of one node."""
    if_local, if_not_local = detect_local(view.local_traffic)
    settings = Settings(view.masquerade_all, if_local, if_not_local, "")
    both = GroupSettings(settings, settings._replace(node_address=view.address))
    chains = _common_chains(view)
    elements: dict[str, dict[str, str]] = {name: {} for name in CONTAINERS}
    affinity: dict[str, NftContainer] = {}
    for group in view.groups:
        rules = group_rules(group, both)
        chains.update(rules.chains)
        affinity.update(rules.affinity)
        for name, more in rules.elements.items():
            elements[name].update(more)
    if view.node_ports_everywhere:
        del elements["nodeport-ips"]
    else:
        elements["nodeport-ips"] = {ip: "" for ip in view.node_port_ips if not ip.startswith("127.")}
    containers = {
        name: NftContainer(kind, f'{declaration} ; comment "{comment}" ;', elements[name])
        for name, (kind, declaration, comment) in CONTAINERS.items()
        if name in elements
    }
    return NftablesRuleset(COMMENT, DECLARATIONS, chains, {**containers, **affinity})
