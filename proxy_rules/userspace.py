"""Proxy mode userspace: a process on the node accepts every connection and copies it, as kube-proxy did until 1.25.

    from pods    nat PREROUTING -> KUBE-PORTALS-CONTAINER  -> REDIRECT to the process's port
                                -> KUBE-NODEPORT-CONTAINER
    from the node    nat OUTPUT -> KUBE-PORTALS-HOST       -> DNAT to the node's address and that port
                                -> KUBE-NODEPORT-HOST
    filter INPUT -> KUBE-NODEPORT-NON-LOCAL: lets node ports in

The process goes round robin over the endpoints; they see the node's address instead of the client's.
Traffic policies and zone hints are later than this mode: every ready endpoint counts.
"""

from __future__ import annotations

from mininetes.api import IptablesRuleset, Jump, Listener, NodeView, PortTraffic, UserspaceRuleset

FIRST_PORT = 35000
"""Where ports for the process start when nobody has opened any (rules printed without a running agent)."""

_PORTALS = "handle ClusterIPs; NOTE: this must be before the NodePort rules"
_NODE_PORTS = "handle service NodePorts; NOTE: this must be the last rule in the chain"
_NON_LOCAL = "Ensure that non-local NodePort traffic can flow"
_TO_HERE = f'-m comment --comment "{_NODE_PORTS}" -m addrtype --dst-type LOCAL'

JUMPS = (
    Jump("nat", "PREROUTING", f'-m comment --comment "{_PORTALS}" -j KUBE-PORTALS-CONTAINER'),
    Jump("nat", "OUTPUT", f'-m comment --comment "{_PORTALS}" -j KUBE-PORTALS-HOST'),
    Jump("filter", "INPUT", f'-m comment --comment "{_NON_LOCAL}" -j KUBE-NODEPORT-NON-LOCAL'),
    Jump("nat", "PREROUTING", f"{_TO_HERE} -j KUBE-NODEPORT-CONTAINER", last=True),
    Jump("nat", "OUTPUT", f"{_TO_HERE} -j KUBE-NODEPORT-HOST", last=True),
)
CHAINS = (
    ("nat", "KUBE-PORTALS-CONTAINER"),
    ("nat", "KUBE-PORTALS-HOST"),
    ("nat", "KUBE-NODEPORT-CONTAINER"),
    ("nat", "KUBE-NODEPORT-HOST"),
    ("filter", "KUBE-NODEPORT-NON-LOCAL"),
)
_PROXIED = ("tcp", "udp")
_OFF_MACHINE = " -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL"
_LOCAL_ADDRESS = " -m addrtype --dst-type LOCAL"


def _add_port(chains: dict[tuple[str, str], list[str]], traffic: PortTraffic, node: str, proxy_port: int) -> None:
    """The rules that lead traffic to one service port to the process."""
    port = traffic.port
    comment = f'-m comment --comment "{port.name}"'
    to_port = f"-j REDIRECT --to-ports {proxy_port}"
    to_node = f"-j DNAT --to-destination {node}:{proxy_port}"

    def portal(address: str, extra: str = "") -> str:
        return f"-d {address}/32 -p {port.protocol} {comment} -m {port.protocol} --dport {port.port}{extra}"

    container, host = chains["nat", "KUBE-PORTALS-CONTAINER"], chains["nat", "KUBE-PORTALS-HOST"]
    container.append(f"-A KUBE-PORTALS-CONTAINER {portal(port.cluster_ip)} {to_port}")
    host.append(f"-A KUBE-PORTALS-HOST {portal(port.cluster_ip)} {to_node}")
    for ip in (*port.external_ips, *port.load_balancer_ips):
        # from off the machine, or when the address is the node's own: not what pods send past it
        container += [
            f"-A KUBE-PORTALS-CONTAINER {portal(ip, extra)} {to_port}" for extra in (_OFF_MACHINE, _LOCAL_ADDRESS)
        ]
        host.append(f"-A KUBE-PORTALS-HOST {portal(ip, _LOCAL_ADDRESS)} {to_node}")
    if port.node_port:
        here = f"-p {port.protocol} {comment} -m {port.protocol} --dport {port.node_port}"
        chains["nat", "KUBE-NODEPORT-CONTAINER"].append(f"-A KUBE-NODEPORT-CONTAINER {here} {to_port}")
        chains["nat", "KUBE-NODEPORT-HOST"].append(f"-A KUBE-NODEPORT-HOST {here} {to_node}")
        accepted = (
            f"-p {port.protocol} {comment} -m {port.protocol} --dport {port.node_port} -m conntrack --ctstate NEW"
        )
        chains["filter", "KUBE-NODEPORT-NON-LOCAL"].append(f"-A KUBE-NODEPORT-NON-LOCAL {accepted} -j ACCEPT")


def compile_rules(view: NodeView) -> UserspaceRuleset:
    """Listeners and rules of one node. SCTP was never proxied in this mode."""
    opened = {(name, protocol): port for name, protocol, port in view.proxy_ports}
    chains: dict[tuple[str, str], list[str]] = {chain: [] for chain in CHAINS}
    listeners = []
    for index, traffic in enumerate(each for each in view.ports if each.port.protocol in _PROXIED):
        port = traffic.port
        proxy_port = opened.get((port.name, port.protocol), 0 if opened else FIRST_PORT + index)
        if not proxy_port:
            continue
        ready = tuple(each for each in traffic.endpoints if each.ready)
        listeners.append(Listener(port.name, port.protocol, proxy_port, ready, port.affinity_s))
        _add_port(chains, traffic, view.address, proxy_port)
    rules = IptablesRuleset({chain: tuple(lines) for chain, lines in chains.items()}, JUMPS)
    return UserspaceRuleset(rules, tuple(listeners))
