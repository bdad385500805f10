"""Proxy mode iptables: chains of NAT rules, as kube-proxy 1.30 writes them. The default.

    nat PREROUTING, OUTPUT
      -> KUBE-SERVICES --- cluster IP -----------------------> KUBE-SVC-x (policy Cluster) or KUBE-SVL-x (Local)
           |       |                                                ^             |  1/n each
           |       +------ external IP, load balancer --> KUBE-EXT-x           KUBE-SEP-y: DNAT to the endpoint
           |                   (with source ranges: KUBE-FW-x -> )  ^
           +-- local addresses -> KUBE-NODEPORTS --- node port -----+
    nat POSTROUTING -> KUBE-POSTROUTING: MASQUERADE what KUBE-MARK-MASQ marked
    filter: REJECT or DROP what has no endpoint; DROP what a load balancer's source ranges leave out

x and y are the first 16 characters of base32(sha256(service port and protocol [and endpoint])).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from mininetes.api import (
    ChainPart,
    Chains,
    Endpoint,
    Fate,
    IptablesRuleset,
    Jump,
    LocalTraffic,
    NodeView,
    PortGroup,
    PortTraffic,
    ServicePort,
    once,
)

_NEW = "-m conntrack --ctstate NEW "
_BY_SOURCE = "--mask 255.255.255.255 --rsource"
_LAST_RULE = "kubernetes service nodeports; NOTE: this must be the last rule in this chain"


def _jump(table: str, chain: str, target: str, comment: str, match: str = "") -> Jump:
    return Jump(table, chain, f'{match}-m comment --comment "{comment}" -j {target}')


JUMPS = (
    _jump("nat", "PREROUTING", "KUBE-SERVICES", "kubernetes service portals"),
    _jump("nat", "OUTPUT", "KUBE-SERVICES", "kubernetes service portals"),
    _jump("nat", "POSTROUTING", "KUBE-POSTROUTING", "kubernetes postrouting rules"),
    _jump("filter", "INPUT", "KUBE-PROXY-FIREWALL", "kubernetes load balancer firewall", _NEW),
    _jump("filter", "INPUT", "KUBE-NODEPORTS", "kubernetes health check service ports"),
    _jump("filter", "INPUT", "KUBE-EXTERNAL-SERVICES", "kubernetes externally-visible service portals", _NEW),
    _jump("filter", "FORWARD", "KUBE-PROXY-FIREWALL", "kubernetes load balancer firewall", _NEW),
    _jump("filter", "FORWARD", "KUBE-FORWARD", "kubernetes forwarding rules"),
    _jump("filter", "FORWARD", "KUBE-SERVICES", "kubernetes service portals", _NEW),
    _jump("filter", "FORWARD", "KUBE-EXTERNAL-SERVICES", "kubernetes externally-visible service portals", _NEW),
    _jump("filter", "OUTPUT", "KUBE-PROXY-FIREWALL", "kubernetes load balancer firewall", _NEW),
    _jump("filter", "OUTPUT", "KUBE-SERVICES", "kubernetes service portals", _NEW),
)
LOCALHOST_GUARD = (Jump("filter", "INPUT", "-j KUBE-FIREWALL"), Jump("filter", "OUTPUT", "-j KUBE-FIREWALL"))
"""Against packets from elsewhere to 127.0.0.0/8, which route_localnet lets in. The kubelet may have the same chain."""


class Settings(NamedTuple):
    """What a port's rules depend on besides the port. ``node_address`` counts for source ranges only."""

    masquerade_all: bool
    if_local: str
    if_not_local: str
    comments: bool
    node_address: str


@dataclass(frozen=True)
class PortRules:
    """The rules of a service port, or of several: lines for the top-level chains, and chains of its own."""

    services: tuple[str, ...]
    node_ports: tuple[str, ...]
    rejected: tuple[str, ...]
    external_rejected: tuple[str, ...]
    firewall: tuple[str, ...]
    health_checks: tuple[str, ...]
    chains: tuple[tuple[tuple[str, str], tuple[str, ...]], ...]


_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_PAIRS = [first + second for first in _BASE32 for second in _BASE32]
"""Two digits of base32 for ten bits: ten times as fast as the library's, which counts with thousands of names."""


def hash_of(text: str) -> str:
    """The end of a chain's name: 16 digits of base32 of the SHA-256 of what the name stands for."""
    bits = int.from_bytes(hashlib.sha256(text.encode()).digest()[:10], "big")
    return "".join([_PAIRS[bits >> shift & 1023] for shift in (70, 60, 50, 40, 30, 20, 10, 0)])


def detect_local(local: LocalTraffic) -> tuple[str, str]:
    """The matches for traffic that is from this node's pods, and for other traffic; empty when it cannot be told."""
    if local.by == "network":
        return f"-s {local.value}", f"! -s {local.value}"
    if local.by in ("bridge", "prefix"):
        interface = local.value + ("+" if local.by == "prefix" else "")
        return f"-i {interface}", f"! -i {interface}"
    return "", ""


def _comment(text: str) -> str:
    return f'-m comment --comment "{text}"'


@once
def port_rules(traffic: PortTraffic, settings: Settings) -> PortRules:
    """All rules of one service port."""
    port, name = traffic.port, traffic.port.name
    key = name + port.protocol
    hashed = hash_of(key)
    cluster, local, external = f"KUBE-SVC-{hashed}", f"KUBE-SVL-{hashed}", f"KUBE-EXT-{hashed}"
    firewall = f"KUBE-FW-{hashed}"
    fenced = bool(traffic.anywhere and port.load_balancer_ips and port.source_ranges)
    internal = local if port.internal_local else cluster
    chains: list[tuple[str, tuple[str, ...]]] = []
    masquerade: list[str] = []
    if traffic.internal is Fate.SERVE and (settings.masquerade_all or settings.if_not_local):
        sources = "" if settings.masquerade_all else f"{settings.if_not_local} "
        before, after = ("", sources) if sources.startswith("! -i") else (sources, "")
        match = _to(port.cluster_ip, port, f"{name} cluster IP", after)
        masquerade.append(f"-A {internal} {before}{match} -j KUBE-MARK-MASQ")
    if traffic.anywhere and port.externally_accessible:
        chains.append((external, tuple(_external_rules(traffic, settings, external, cluster, local))))
    if fenced:
        chains.append((firewall, tuple(_firewall_rules(port, settings, firewall, external))))
    endpoint_chains = {each: f"KUBE-SEP-{hash_of(f'{key}{each}')}" for each in traffic.reachable}
    for used, chain, endpoints in (
        (port.uses_cluster_endpoints, cluster, traffic.cluster),
        (port.uses_local_endpoints, local, traffic.local),
    ):
        if used and endpoints:
            first = masquerade if chain == internal else []
            chains.append((chain, (*first, *_balancing_rules(port, settings, chain, endpoints, endpoint_chains))))
    chains += [(chain, _endpoint_rules(port, settings, each, chain)) for each, chain in endpoint_chains.items()]
    own = tuple((("nat", chain), rules) for chain, rules in chains)
    return PortRules(*_dispatch_rules(traffic, internal, external, firewall if fenced else ""), chains=own)


def _to(address: str, port: ServicePort, comment: str, interface: str = "") -> str:
    """The match for traffic to an address of a service port, in iptables-save's order."""
    return f"-d {address}/32 {interface}-p {port.protocol} {_comment(comment)} -m {port.protocol} --dport {port.port}"


def _dispatch_rules(traffic: PortTraffic, internal: str, external: str, firewall: str) -> tuple[tuple[str, ...], ...]:
    """The lines of one port in KUBE-SERVICES and KUBE-NODEPORTS of nat, then in filter's four chains."""
    port, name, protocol = traffic.port, traffic.port.name, traffic.port.protocol
    services, node_ports, rejected, external_rejected, fence = [], [], [], [], []
    if traffic.internal is Fate.SERVE:
        services.append(f"-A KUBE-SERVICES {_to(port.cluster_ip, port, f'{name} cluster IP')} -j {internal}")
    else:
        rejected.append(f"-A KUBE-SERVICES {_to(port.cluster_ip, port, _why(traffic.internal, name))}"
                        f" -j {_verdict(traffic.internal)}")  # fmt: skip
    if traffic.anywhere:
        services += [
            f"-A KUBE-SERVICES {_to(ip, port, f'{name} external IP')} -j {external}" for ip in port.external_ips
        ]
        services += [
            f"-A KUBE-SERVICES {_to(ip, port, f'{name} loadbalancer IP')} -j {firewall or external}"
            for ip in port.load_balancer_ips
        ]
        if port.node_port:
            node_ports.append(f"-A KUBE-NODEPORTS -p {protocol} {_comment(name)} -m {protocol}"
                              f" --dport {port.node_port} -j {external}")  # fmt: skip
    if firewall:
        why = f"{name} traffic not accepted by {firewall}"
        fence = [f"-A KUBE-PROXY-FIREWALL {_to(ip, port, why)} -j DROP" for ip in port.load_balancer_ips]
    if traffic.external is not Fate.SERVE:
        why, verdict = _why(traffic.external, name), _verdict(traffic.external)
        external_rejected = [
            f"-A KUBE-EXTERNAL-SERVICES {_to(ip, port, why)} -j {verdict}"
            for ip in (*port.external_ips, *port.load_balancer_ips)
        ]
        if port.node_port:
            here = f"-m addrtype --dst-type LOCAL -m {protocol} --dport {port.node_port}"
            external_rejected.append(f"-A KUBE-EXTERNAL-SERVICES -p {protocol} {_comment(why)} {here} -j {verdict}")
    health = []
    if port.health_check_node_port:
        health.append(f"-A KUBE-NODEPORTS -p tcp {_comment(f'{name} health check node port')} -m tcp"
                      f" --dport {port.health_check_node_port} -j ACCEPT")  # fmt: skip
    made = (services, node_ports, rejected, external_rejected, fence, health)
    return tuple(tuple(lines) for lines in made)


def _why(fate: Fate, name: str) -> str:
    return f"{name} has no endpoints" if fate is Fate.REJECT else f"{name} has no local endpoints"


def _verdict(fate: Fate) -> str:
    return "REJECT --reject-with icmp-port-unreachable" if fate is Fate.REJECT else "DROP"


def _external_rules(traffic: PortTraffic, settings: Settings, chain: str, cluster: str, local: str) -> list[str]:
    """What happens to traffic from outside before it goes to the endpoints."""
    name = traffic.port.name
    whither = f"{name} external destinations"
    if not traffic.port.external_local:
        rules = [f"-A {chain} {_comment(f'masquerade traffic for {whither}')} -j KUBE-MARK-MASQ"]
    else:
        rules = []
        if settings.if_local:
            rules.append(f"-A {chain} {settings.if_local} {_comment(f'pod traffic for {whither}')} -j {cluster}")
        own = "-m addrtype --src-type LOCAL"
        rules.append(f"-A {chain} {_comment(f'masquerade LOCAL traffic for {whither}')} {own} -j KUBE-MARK-MASQ")
        rules.append(f"-A {chain} {_comment(f'route LOCAL traffic for {whither}')} {own} -j {cluster}")
    if traffic.external is Fate.SERVE:
        rules.append(f"-A {chain} -j {local if traffic.port.external_local else cluster}")
    return rules


def _firewall_rules(port: ServicePort, settings: Settings, chain: str, external: str) -> list[str]:
    """Let the source ranges through; the rest is dropped in filter, having found no DNAT."""
    sources = list(port.source_ranges)
    if port.allows(settings.node_address):
        # a node that has the address itself sends from it
        sources += [f"{ip}/32" for ip in port.load_balancer_ips]
    comment = _comment(f"{port.name} loadbalancer IP")
    rules = [f"-A {chain} {f'-s {each} ' if each != '0.0.0.0/0' else ''}{comment} -j {external}" for each in sources]
    return [*rules, f"-A {chain} {_comment(f'other traffic to {port.name} will be dropped by KUBE-PROXY-FIREWALL')}"]


def _balancing_rules(
    port: ServicePort, settings: Settings, chain: str, endpoints: tuple[Endpoint, ...], chains: dict[Endpoint, str]
) -> list[str]:
    """Endpoint i of n is taken with probability 1/(n-i); before that, clients that come back keep theirs."""
    rules = []
    said = {each: f"{_comment(f'{port.name} -> {each}')} " if settings.comments else "" for each in endpoints}
    if port.affinity_s:
        for each in endpoints:
            recent = f"--rcheck --seconds {port.affinity_s} --reap --name {chains[each]} {_BY_SOURCE}"
            rules.append(f"-A {chain} {said[each]}-m recent {recent} -j {chains[each]}")
    for index, each in enumerate(endpoints):
        left = len(endpoints) - index
        chance = f"-m statistic --mode random --probability {1 / left:0.10f} " if left > 1 else ""
        rules.append(f"-A {chain} {said[each]}{chance}-j {chains[each]}")
    return rules


def _endpoint_rules(port: ServicePort, settings: Settings, endpoint: Endpoint, chain: str) -> tuple[str, ...]:
    """Masquerade what comes back to the endpoint that sent it, and translate the address."""
    said = f"{_comment(port.name)} " if settings.comments else ""
    recent = f"-m recent --set --name {chain} {_BY_SOURCE} " if port.affinity_s else ""
    protocol = port.protocol
    return (
        f"-A {chain} -s {endpoint.address}/32 {said}-j KUBE-MARK-MASQ",
        f"-A {chain} -p {protocol} {said}{recent}-m {protocol} -j DNAT --to-destination {endpoint}",
    )


def _node_port_entries(view: NodeView) -> list[str]:
    """The last rules of KUBE-SERVICES: which destinations count as this node's."""
    comment = _comment(_LAST_RULE)
    if view.node_ports_everywhere:
        outside = "" if view.localhost_node_ports else "! -d 127.0.0.0/8 "
        return [f"-A KUBE-SERVICES {outside}{comment} -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"]
    ips = [ip for ip in view.node_port_ips if view.localhost_node_ports or not ip.startswith("127.")]
    return [f"-A KUBE-SERVICES -d {ip}/32 {comment} -j KUBE-NODEPORTS" for ip in ips]


def _forward_rules(view: NodeView) -> tuple[str, ...]:
    mark = f"{view.masquerade_mark:#x}"
    rules = ["-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP"] if view.drop_invalid else []
    return (
        *rules,
        f"-A KUBE-FORWARD {_comment('kubernetes forwarding rules')} -m mark --mark {mark}/{mark} -j ACCEPT",
        f"-A KUBE-FORWARD {_comment('kubernetes forwarding conntrack rule')} -m conntrack --ctstate RELATED,ESTABLISHED"
        " -j ACCEPT",
    )


def masquerading(mark: int) -> dict[tuple[str, str], tuple[str, ...]]:
    """KUBE-MARK-MASQ, which marks, and KUBE-POSTROUTING, which takes the mark off again and masquerades."""
    bit = f"{mark:#x}"
    return {
        ("nat", "KUBE-MARK-MASQ"): (f"-A KUBE-MARK-MASQ -j MARK --set-xmark {bit}/{bit}",),
        ("nat", "KUBE-POSTROUTING"): (
            f"-A KUBE-POSTROUTING -m mark ! --mark {bit}/{bit} -j RETURN",
            f"-A KUBE-POSTROUTING -j MARK --set-xmark {bit}/0x0",
            f"-A KUBE-POSTROUTING {_comment('kubernetes service traffic requiring SNAT')} -j MASQUERADE --random-fully",
        ),
    }


class GroupSettings(NamedTuple):
    """The settings of ports without source ranges, and of those with."""

    common: Settings
    with_address: Settings


@once
def group_rules(group: PortGroup, settings: GroupSettings) -> PortRules:
    """The rules of some service ports, one after the other."""
    each = [
        port_rules(traffic, settings.with_address if traffic.port.source_ranges else settings.common)
        for traffic in group.ports
    ]
    return PortRules(
        services=tuple(line for rules in each for line in rules.services),
        node_ports=tuple(line for rules in each for line in rules.node_ports),
        rejected=tuple(line for rules in each for line in rules.rejected),
        external_rejected=tuple(line for rules in each for line in rules.external_rejected),
        firewall=tuple(line for rules in each for line in rules.firewall),
        health_checks=tuple(line for rules in each for line in rules.health_checks),
        chains=tuple(chain for rules in each for chain in rules.chains),
    )


@once
def group_chains(group: PortGroup, settings: GroupSettings) -> ChainPart:
    """Their own chains."""
    return ChainPart(group_rules(group, settings).chains)


def compile_rules(view: NodeView) -> IptablesRuleset:
    """The chains of one node."""
    if_local, if_not_local = detect_local(view.local_traffic)
    settings = Settings(view.masquerade_all, if_local, if_not_local, not view.large_cluster, "")
    both = GroupSettings(settings, settings._replace(node_address=view.address))
    rules = [group_rules(group, both) for group in view.groups]

    def joined(lines: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
        return tuple(itertools.chain.from_iterable(lines))

    chains: dict[tuple[str, str], tuple[str, ...]] = {
        ("filter", "KUBE-SERVICES"): joined(each.rejected for each in rules),
        ("filter", "KUBE-EXTERNAL-SERVICES"): joined(each.external_rejected for each in rules),
        ("filter", "KUBE-FORWARD"): _forward_rules(view),
        ("filter", "KUBE-NODEPORTS"): joined(each.health_checks for each in rules),
        ("filter", "KUBE-PROXY-FIREWALL"): joined(each.firewall for each in rules),
        ("nat", "KUBE-SERVICES"): (*joined(each.services for each in rules), *_node_port_entries(view)),
        ("nat", "KUBE-NODEPORTS"): joined(each.node_ports for each in rules),
        **masquerading(view.masquerade_mark),
    }
    shared: frozenset[tuple[str, str]] = frozenset()
    jumps = JUMPS
    if view.localhost_node_ports:
        jumps = (*LOCALHOST_GUARD, *JUMPS)
        shared = frozenset({("filter", "KUBE-FIREWALL")})
        chains["filter", "KUBE-FIREWALL"] = (
            f"-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 {_comment('block incoming localnet connections')}"
            " -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
        )
    parts = [ChainPart(chains), *(group_chains(group, both) for group in view.groups)]
    return IptablesRuleset(Chains(parts), jumps, shared)
