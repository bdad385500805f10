"""host-gw, as flannel does it: each node is the gateway to its pods, and every other node has a route to it.

      pod 10.244.1.2                                pod 10.244.2.2
          | eth0                                        | eth0
      cni0 10.244.1.1                               cni0 10.244.2.1
     +----+------ node1 ------+               +----+------ node2 ------+
     | 10.244.2.0/24 via      |               | 10.244.1.0/24 via      |
     |   192.168.1.12 eth0    |               |   192.168.1.11 eth0    |
     | flanneld: watches nodes|               | flanneld: watches nodes|
     +--------------+---------+               +---------+--------------+
                    +------------ switch ---------------+

The routes of `static`, kept up to date on each node by a program there, from the nodes that the API
has. Nodes must share a network: routers between them know nothing of pods, so that flanneld cannot
give such a route ("requires direct layer 2 connectivity"), and pods of these nodes do not reach each
other. ``ipMasq`` adds the NAT for what leaves the pod network.

Source: a real flanneld 0.21 (back end host-gw), as its routes and rules were found.
"""

from mininetes.api import FabricPlan, FabricView, Hop, NetState, Route, flannel_plan

CONNECTS_NODES = True
AGENT = "flanneld"


def plan(view: FabricView, ipMasq: bool = False) -> FabricPlan:
    """A route on each node to the pods of each other node on its network."""
    states, apart = {}, set()
    for node in view.nodes:
        routes = set()
        for other in view.nodes:
            if other is node:
                continue
            if view.is_direct(node.name, other.address):
                routes.add(Route(other.pod_subnet, (Hop(node.device, other.address),)))
            else:
                apart.add((node.name, other.name))
        states[node.name] = NetState(routes=frozenset(routes))
    return flannel_plan(view, states, backend="host-gw", masquerade=ipMasq, pod_mtu=view.mtu, apart=frozenset(apart))
