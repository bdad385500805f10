"""vxlan, as flannel does it: pods' packets cross the underlay inside UDP, so that it need not know of pods.

      pod 10.244.1.2  mtu 1450                        pod 10.244.2.2  mtu 1450
          | eth0                                          | eth0
      cni0 10.244.1.1                                 cni0 10.244.2.1
     +----+------ node1 ---------------+             +----+------ node2 ---------------+
     | 10.244.2.0/24 via 10.244.2.0    |             | 10.244.1.0/24 via 10.244.1.0    |
     |      dev flannel.1 onlink       |             |      dev flannel.1 onlink       |
     | flannel.1 10.244.1.0/32         |             | flannel.1 10.244.2.0/32         |
     |   ARP 10.244.2.0 = its MAC      |             |   ARP 10.244.1.0 = its MAC      |
     |   FDB its MAC -> 192.168.1.12   |             |   FDB its MAC -> 192.168.1.11   |
     | eth0 192.168.1.11               |             | eth0 192.168.1.12               |
     +----+----------------------------+             +----+----------------------------+
          +------ UDP 8472 [ VXLAN 1 [ Ethernet [ pod's packet ] ] ] ------+

Nothing is learnt or asked for: every address and MAC of the other ends is written down, permanently.
With ``directRouting``, nodes on one network have plain routes to each other, and only the others a
tunnel. ``ipMasq`` adds the NAT for what leaves the pod network. ``mtu`` is that of packets on the
underlay (0: the underlay's own); pods have 50 bytes less, the headers that are put around theirs.

Source: a real flanneld 0.21 (back end vxlan), as its links, routes, neighbours, FDB and rules were found.
"""

from ipaddress import IPv4Interface

from mininetes.api import (
    BadInput,
    FabricPlan,
    FabricView,
    FdbEntry,
    Hop,
    Neighbour,
    NetState,
    Route,
    Vxlan,
    flannel_plan,
)

CONNECTS_NODES = True
AGENT = "flanneld"

OVERHEAD = 50
"""Bytes: outer IPv4 20, UDP 8, VXLAN 8, inner Ethernet 14."""

LEAST_MTU = 576 + OVERHEAD
MOST_VNI = 9_999_999
"""A larger one's device would have a name of more than 15 characters."""


def plan(
    view: FabricView,
    vni: int = 1,
    port: int = 8472,
    directRouting: bool = False,
    ipMasq: bool = False,
    mtu: int = 0,
) -> FabricPlan:
    """The device of each node, and its way to each other node's pods."""
    if view.mtu < LEAST_MTU:
        raise BadInput("spec.underlay.parameters.mtu", view.mtu, f"at least {LEAST_MTU} under the fabric vxlan")
    limits = {"vni": (vni, 1, MOST_VNI), "port": (port, 1, 65535), "mtu": (mtu or view.mtu, LEAST_MTU, view.mtu)}
    for name, (value, least, most) in limits.items():
        if not least <= value <= most:
            raise BadInput(f"spec.fabric.parameters.{name}", value, f"from {least} to {most}")
    device, pod_mtu = f"flannel.{vni}", (mtu or view.mtu) - OVERHEAD
    ends = {node.name: node.pod_subnet.network_address for node in view.nodes}
    tunnels = {
        node.name: (
            Route(node.pod_subnet, (Hop(device, ends[node.name], onlink=True),)),
            Neighbour(device, ends[node.name], node.tunnel_mac),
            FdbEntry(device, node.tunnel_mac, node.address),
        )
        for node in view.nodes
    }
    states = {}
    for node in view.nodes:
        others = [other for other in view.nodes if other is not node]
        direct = {o.name for o in others if directRouting and view.is_direct(node.name, o.address)}
        plain = [Route(o.pod_subnet, (Hop(node.device, o.address),)) for o in others if o.name in direct]
        ways = [tunnels[other.name] for other in others if other.name not in direct]
        states[node.name] = NetState(
            up=frozenset({device}),
            addresses=frozenset({(device, IPv4Interface((ends[node.name], 32)))}),
            routes=frozenset([*plain, *(route for route, _, _ in ways)]),
            links=frozenset({Vxlan(device, vni, node.address, node.device, port, node.tunnel_mac, pod_mtu)}),
            neighbours=frozenset(neighbour for _, neighbour, _ in ways),
            fdb=frozenset(entry for _, _, entry in ways),
        )
    data = {n.name: f'{{"VNI":{vni},"VtepMAC":"{n.tunnel_mac}"}}' for n in view.nodes}
    return flannel_plan(view, states, backend="vxlan", data=data, masquerade=ipMasq, pod_mtu=pod_mtu)
