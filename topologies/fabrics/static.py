"""Static routes: every node knows the way to every other node's pods.

      pod 10.244.1.2                                pod 10.244.2.2
          | eth0                                        | eth0
      cni0 10.244.1.1                               cni0 10.244.2.1
     +----+------ node1 ------+               +----+------ node2 ------+
     | 10.244.2.0/24 via      |               | 10.244.1.0/24 via      |
     |   192.168.1.12 eth0    |               |   192.168.1.11 eth0    |
     +--------------+---------+               +---------+--------------+
                    +------------ switch ---------------+

Where routers lie between two nodes, the nodes' routes lead to the router, and each router on the
way gets a route to the pods as well. Nothing is encapsulated, nothing translated.
"""

from mininetes.api import FabricView, NetState, Route

CONNECTS_NODES = True


def plan(view: FabricView) -> dict[str, NetState]:
    """Routes for each node and each router between them."""
    routes: dict[str, set[Route]] = {host: set() for host in view.underlay.hosts}
    for node in view.nodes:
        for other in view.nodes:
            if other.name != node.name:
                for host, hops in view.way(node.name, other.address):
                    routes[host].add(Route(other.pod_subnet, hops))
    return {host: NetState(routes=frozenset(found)) for host, found in routes.items()}
