"""Proxy mode ipvs: virtual servers of the kernel's load balancer, as kube-proxy 1.30 makes them.

kube-ipvs0 (dummy) carries every service address, so that packets to them are local
    -> ipvs: a virtual server for each address and port -> real servers: the endpoints
iptables decide only on masquerading and rejecting, by ipsets of addresses and ports:
    nat KUBE-SERVICES -> KUBE-LOAD-BALANCER, KUBE-NODE-PORT -> KUBE-MARK-MASQ
    nat KUBE-POSTROUTING: KUBE-LOOP-BACK (hairpin), then what was marked
    filter KUBE-IPVS-FILTER: what is no service port of a service address is rejected
"""

from __future__ import annotations

from mininetes.api import (
    Endpoint,
    IptablesRuleset,
    IpvsRuleset,
    Jump,
    LocalTraffic,
    NodeView,
    PortTraffic,
    ServicePort,
    VirtualServer,
)

_HASH = "family inet hashsize 1024 maxelem 65536"
_IP_PORT, _IP_PORT_IP, _PORTS = f"hash:ip,port {_HASH}", f"hash:ip,port,ip {_HASH}", "bitmap:port range 0-65535"

LOOP_BACK = "KUBE-LOOP-BACK"
CLUSTER_IP = "KUBE-CLUSTER-IP"
LOAD_BALANCER, LOAD_BALANCER_LOCAL = "KUBE-LOAD-BALANCER", "KUBE-LOAD-BALANCER-LOCAL"
LOAD_BALANCER_FW = "KUBE-LOAD-BALANCER-FW"
SOURCE_IP, SOURCE_CIDR = "KUBE-LOAD-BALANCER-SOURCE-IP", "KUBE-LOAD-BALANCER-SOURCE-CIDR"
EXTERNAL_IP, EXTERNAL_IP_LOCAL = "KUBE-EXTERNAL-IP", "KUBE-EXTERNAL-IP-LOCAL"
HEALTH_CHECK = "KUBE-HEALTH-CHECK-NODE-PORT"
IPVS_IPS = "KUBE-IPVS-IPS"
NODE_PORTS = {"tcp": "KUBE-NODE-PORT-TCP", "udp": "KUBE-NODE-PORT-UDP", "sctp": "KUBE-NODE-PORT-SCTP-HASH"}
NODE_PORTS_LOCAL = {
    "tcp": "KUBE-NODE-PORT-LOCAL-TCP",
    "udp": "KUBE-NODE-PORT-LOCAL-UDP",
    "sctp": "KUBE-NODE-PORT-LOCAL-SCTP-HASH",
}

SETS = {
    LOOP_BACK: (_IP_PORT_IP, "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose"),
    CLUSTER_IP: (_IP_PORT, "Kubernetes service cluster ip + port for masquerade purpose"),
    EXTERNAL_IP: (_IP_PORT, "Kubernetes service external ip + port for masquerade and filter purpose"),
    EXTERNAL_IP_LOCAL: (_IP_PORT, "Kubernetes service external ip + port with externalTrafficPolicy=local"),
    LOAD_BALANCER: (_IP_PORT, "Kubernetes service lb portal"),
    LOAD_BALANCER_FW: (_IP_PORT, "Kubernetes service load balancer ip + port for load balancer with sourceRange"),
    LOAD_BALANCER_LOCAL: (_IP_PORT, "Kubernetes service load balancer ip + port with externalTrafficPolicy=local"),
    SOURCE_IP: (
        _IP_PORT_IP,
        "Kubernetes service load balancer ip + port + source IP for packet filter purpose",
    ),
    SOURCE_CIDR: (
        f"hash:ip,port,net {_HASH}",
        "Kubernetes service load balancer ip + port + source cidr for packet filter purpose",
    ),
    NODE_PORTS["tcp"]: (_PORTS, "Kubernetes nodeport TCP port for masquerade purpose"),
    NODE_PORTS_LOCAL["tcp"]: (_PORTS, "Kubernetes nodeport TCP port with externalTrafficPolicy=local"),
    NODE_PORTS["udp"]: (_PORTS, "Kubernetes nodeport UDP port for masquerade purpose"),
    NODE_PORTS_LOCAL["udp"]: (_PORTS, "Kubernetes nodeport UDP port with externalTrafficPolicy=local"),
    NODE_PORTS["sctp"]: (_IP_PORT, "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'"),
    NODE_PORTS_LOCAL["sctp"]: (
        _IP_PORT,
        "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'",
    ),
    HEALTH_CHECK: (_PORTS, "Kubernetes health check node port"),
    IPVS_IPS: (f"hash:ip {_HASH}", "Used to detect access to IPVS service"),
}
"""Every ipset: how it is created, and what its rules' comments say."""

JUMPS = tuple(
    Jump(table, chain, f'-m comment --comment "{comment}" -j {target}')
    for table, chain, target, comment in (
        ("nat", "PREROUTING", "KUBE-SERVICES", "kubernetes service portals"),
        ("nat", "OUTPUT", "KUBE-SERVICES", "kubernetes service portals"),
        ("nat", "POSTROUTING", "KUBE-POSTROUTING", "kubernetes postrouting rules"),
        ("filter", "INPUT", "KUBE-IPVS-FILTER", "kubernetes ipvs access filter"),
        ("filter", "INPUT", "KUBE-PROXY-FIREWALL", "kube-proxy firewall rules"),
        ("filter", "INPUT", "KUBE-NODE-PORT", "kubernetes health check rules"),
        ("filter", "FORWARD", "KUBE-PROXY-FIREWALL", "kube-proxy firewall rules"),
        ("filter", "FORWARD", "KUBE-FORWARD", "kubernetes forwarding rules"),
        ("filter", "OUTPUT", "KUBE-IPVS-OUT-FILTER", "kubernetes ipvs access filter"),
    )
)
_PROTOCOL_NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}


class Building:
    """What grows while the ports are gone through."""

    def __init__(self, view: NodeView) -> None:
        self.view = view
        self.servers: dict[str, tuple[VirtualServer, tuple[str, ...]]] = {}
        """By place: of two services with one external address and port, the last one has it."""
        self.members: dict[str, dict[str, None]] = {name: {} for name in SETS}
        self.addresses: dict[str, None] = {}
        self.out_filter: list[str] = []

    def serve(self, traffic: PortTraffic, address: str, number: int, *, local: bool, bound: bool = True) -> None:
        """A virtual server at that address and port; ``bound``: kube-ipvs0 carries the address.

        It does not carry what another interface of the node has already.
        """
        port, scheduler = traffic.port, self.view.scheduler
        flags = "mh-port" if scheduler == "mh" else ""  # kube-proxy's FlagSourceHash
        server = VirtualServer(port.protocol, address, number, scheduler, port.affinity_s, flags)
        self.servers[server.place] = server, tuple(str(each) for each in real_servers(traffic, local))
        if bound:
            self.addresses[address] = None

    def add(self, name: str, member: str) -> None:
        """Put a member into a set; once is enough."""
        self.members[name][member] = None


def real_servers(traffic: PortTraffic, local: bool) -> tuple[Endpoint, ...]:
    """The endpoints under a policy. Without a local one, Local traffic falls back to the cluster's.

    A service that is Local inside and has no outside has none of those: its virtual server stays empty.
    """
    return (traffic.local or traffic.cluster) if local else traffic.cluster


def _add_port(building: Building, traffic: PortTraffic) -> None:
    port, view = traffic.port, building.view
    for each in traffic.endpoints:
        if each.node == view.node:
            building.add(LOOP_BACK, f"{each.address},{port.protocol}:{each.port},{each.address}")
    building.add(CLUSTER_IP, _member(port.cluster_ip, port))
    building.serve(traffic, port.cluster_ip, port.port, local=port.internal_local)
    for ip in port.external_ips:
        building.add(EXTERNAL_IP_LOCAL if port.external_local else EXTERNAL_IP, _member(ip, port))
        building.serve(traffic, ip, port.port, local=port.external_local, bound=ip not in view.local_addresses)
    for ip in port.load_balancer_ips:
        _add_load_balancer(building, port, ip)
        building.serve(traffic, ip, port.port, local=port.external_local, bound=ip not in view.local_addresses)
    if port.node_port:
        names = (NODE_PORTS, NODE_PORTS_LOCAL) if port.external_local else (NODE_PORTS,)
        ips = tuple(ip for ip in view.node_port_ips if not ip.startswith("127."))
        for each in names:
            for member in (
                [f"{ip},sctp:{port.node_port}" for ip in ips] if port.protocol == "sctp" else [str(port.node_port)]
            ):
                building.add(each[port.protocol], member)
        for ip in ips:
            building.serve(traffic, ip, port.node_port, local=port.external_local, bound=False)
    if port.health_check_node_port:
        building.add(HEALTH_CHECK, str(port.health_check_node_port))


def _member(address: str, port: ServicePort) -> str:
    return f"{address},{port.protocol}:{port.port}"


def as_members(network: str) -> tuple[str, ...]:
    """A network as an ipset of networks takes and shows it: in two halves when it is everything, a host by itself."""
    if network.endswith("/0"):
        return "0.0.0.0/1", "128.0.0.0/1"
    return (network.removesuffix("/32"),)


def _add_load_balancer(building: Building, port: ServicePort, ip: str) -> None:
    """The sets of one load-balancer address, with the source ranges that may use it."""
    building.add(LOAD_BALANCER, _member(ip, port))
    if port.external_local:
        building.add(LOAD_BALANCER_LOCAL, _member(ip, port))
    if not port.source_ranges:
        return
    building.add(LOAD_BALANCER_FW, _member(ip, port))
    for network in port.source_ranges:
        for part in as_members(network):
            building.add(SOURCE_CIDR, f"{_member(ip, port)},{part}")
    if port.allows(building.view.address):
        # a node that has the address itself sends from it
        building.add(SOURCE_IP, f"{_member(ip, port)},{ip}")
    else:
        ipvs = f"--vproto {_PROTOCOL_NUMBERS[port.protocol]} --vaddr {ip} --vport {port.port}"
        building.out_filter.append(f"-A KUBE-IPVS-OUT-FILTER -s {ip}/32 -m ipvs {ipvs} -j DROP")


def detect_not_local(local: LocalTraffic) -> tuple[str, bool]:
    """The match for traffic that is not from this node's pods, and whether it can be told at all."""
    if local.by == "network":
        return f"! -s {local.value} ", True
    if local.by in ("bridge", "prefix"):
        return f"! -i {local.value}{'+' if local.by == 'prefix' else ''} ", True
    return "", False


def _by_set(chain: str, name: str, match: str, target: str, *, before: str = "", after: str = "") -> str:
    said = f'-m comment --comment "{SETS[name][1]}" '
    return f"-A {chain} {before}{said}-m set --match-set {name} {match}{after} -j {target}"


def _nat_services(view: NodeView, used: set[str]) -> list[str]:
    """KUBE-SERVICES of nat: masquerade what comes from elsewhere, then let ipvs have what is a service's."""
    rules = ["-A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN"]
    if LOAD_BALANCER in used:
        rules.append(_by_set("KUBE-SERVICES", LOAD_BALANCER, "dst,dst", "KUBE-LOAD-BALANCER"))
    if CLUSTER_IP in used:
        not_local, known = detect_not_local(view.local_traffic)
        if view.masquerade_all:
            not_local = ""
        # without a way to tell, at least what the node itself sends from a service address
        direction = "dst,dst" if known or view.masquerade_all else "src,dst"
        rules.append(_by_set("KUBE-SERVICES", CLUSTER_IP, direction, "KUBE-MARK-MASQ", before=not_local))
    if EXTERNAL_IP in used:
        rules.append(_by_set("KUBE-SERVICES", EXTERNAL_IP, "dst,dst", "KUBE-MARK-MASQ"))
    for name in (EXTERNAL_IP, EXTERNAL_IP_LOCAL):
        if name in used:
            off_machine = " -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL"
            rules.append(_by_set("KUBE-SERVICES", name, "dst,dst", "ACCEPT", after=off_machine))
            rules.append(_by_set("KUBE-SERVICES", name, "dst,dst", "ACCEPT", after=" -m addrtype --dst-type LOCAL"))
    rules.append("-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT")
    accepted = [name for name in (CLUSTER_IP, LOAD_BALANCER) if name in used]
    return [*rules, *(f"-A KUBE-SERVICES -m set --match-set {name} dst,dst -j ACCEPT" for name in accepted)]


def _nat_node_ports(used: set[str]) -> list[str]:
    rules = []
    for protocol, match in (("tcp", "dst"), ("udp", "dst"), ("sctp", "dst,dst")):
        for name, target in ((NODE_PORTS_LOCAL[protocol], "RETURN"), (NODE_PORTS[protocol], "KUBE-MARK-MASQ")):
            if name in used:
                rules.append(_by_set("KUBE-NODE-PORT", name, match, target, before=f"-p {protocol} "))
    return rules


def _iptables(view: NodeView, used: set[str], out_filter: list[str]) -> IptablesRuleset:
    """The rules that go with the virtual servers; ``used`` are the sets that have members."""
    mark = f"{view.masquerade_mark:#x}"
    said = '-m comment --comment "{}" '.format
    loop_back = [_by_set("KUBE-POSTROUTING", LOOP_BACK, "dst,dst,src", "MASQUERADE")] if LOOP_BACK in used else []
    balancer = (
        [_by_set("KUBE-LOAD-BALANCER", LOAD_BALANCER_LOCAL, "dst,dst", "RETURN")] if LOAD_BALANCER_LOCAL in used else []
    )
    firewall = (
        [_by_set("KUBE-PROXY-FIREWALL", LOAD_BALANCER_FW, "dst,dst", "KUBE-SOURCE-RANGES-FIREWALL")]
        if LOAD_BALANCER_FW in used
        else []
    )
    ranges = [
        _by_set("KUBE-SOURCE-RANGES-FIREWALL", name, "dst,dst,src", "RETURN")
        for name in (SOURCE_CIDR, SOURCE_IP)
        if name in used
    ]
    returned = [
        f"-A KUBE-IPVS-FILTER -m set --match-set {name} dst,dst -j RETURN"
        for name in (LOAD_BALANCER, CLUSTER_IP, EXTERNAL_IP, EXTERNAL_IP_LOCAL)
    ]
    forward = "-A KUBE-FORWARD " + said("kubernetes forwarding ")[:-2]
    chains: dict[tuple[str, str], list[str]] = {
        ("nat", "KUBE-LOAD-BALANCER"): [*balancer, "-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ"],
        ("nat", "KUBE-MARK-MASQ"): [f"-A KUBE-MARK-MASQ -j MARK --set-xmark {mark}/{mark}"],
        ("nat", "KUBE-NODE-PORT"): _nat_node_ports(used),
        ("nat", "KUBE-POSTROUTING"): [
            *loop_back,
            f"-A KUBE-POSTROUTING -m mark ! --mark {mark}/{mark} -j RETURN",
            f"-A KUBE-POSTROUTING -j MARK --set-xmark {mark}/0x0",
            f"-A KUBE-POSTROUTING {said('kubernetes service traffic requiring SNAT')}-j MASQUERADE --random-fully",
        ],
        ("nat", "KUBE-SERVICES"): _nat_services(view, used),
        ("filter", "KUBE-FORWARD"): [
            f'{forward}rules" -m mark --mark {mark}/{mark} -j ACCEPT',
            f'{forward}conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
        ],
        ("filter", "KUBE-IPVS-FILTER"): [
            *returned,
            f"-A KUBE-IPVS-FILTER -m set --match-set {HEALTH_CHECK} dst -j RETURN",
            f"-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set {IPVS_IPS} dst"
            " -j REJECT --reject-with icmp-port-unreachable",
        ],
        ("filter", "KUBE-IPVS-OUT-FILTER"): out_filter,
        ("filter", "KUBE-NODE-PORT"): [_by_set("KUBE-NODE-PORT", HEALTH_CHECK, "dst", "ACCEPT")],
        ("filter", "KUBE-PROXY-FIREWALL"): firewall,
        ("filter", "KUBE-SOURCE-RANGES-FIREWALL"): [*ranges, "-A KUBE-SOURCE-RANGES-FIREWALL -j DROP"],
    }
    return IptablesRuleset({chain: tuple(rules) for chain, rules in chains.items()}, JUMPS)


def compile_rules(view: NodeView) -> IpvsRuleset:
    """Virtual servers, ipsets, addresses and rules of one node."""
    building = Building(view)
    for traffic in view.ports:
        _add_port(building, traffic)
    for address in building.addresses:
        building.add(IPVS_IPS, address)
    used = {name for name, members in building.members.items() if members}
    sets = {name: (kind, tuple(building.members[name])) for name, (kind, _) in SETS.items()}
    iptables = _iptables(view, used, building.out_filter)
    return IpvsRuleset(dict(building.servers.values()), sets, tuple(building.addresses), iptables)
