"""A router holds all the routes: nodes know nothing but their default gateway.

      pod 10.244.1.2                                pod 10.244.2.2
          | eth0                                        | eth0
      cni0 10.244.1.1                               cni0 10.244.2.1
     +----+------ node1 ------+               +----+------ node2 ------+
     | default via .1         |               | default via .1         |
     +--------------+---------+               +---------+--------------+
                    +------------ switch ---------------+
                                    | eth0 .1
                       +----------- gw ------------+
                       | 10.244.1.0/24 via .11     |
                       | 10.244.2.0/24 via .12     |
                       | sends no ICMP redirects   |
                       +---------------------------+

Between nodes of one network every packet of a pod passes that network twice, in and out of the
router's one interface. A router says so to the sender by ICMP redirect, unless told not to: here it
is told, or nodes that heed redirects would go round it by routes that nobody planned, and pods, which
are not on that network, would get them for nothing.

Where several routers lie between the nodes, each that such packets pass has the routes.
"""

from mininetes.api import FabricView, NetState, Route

CONNECTS_NODES = True


def plan(view: FabricView) -> dict[str, NetState]:
    """Routes for every router that packets for other nodes' pods pass, and for no node."""
    routes: dict[str, set[Route]] = {host.name: set() for host in view.underlay.with_role("router")}
    for first in sorted({view.default_router(node.name) for node in view.nodes}):
        for node in view.nodes:
            for host, hops in view.way(first, node.address):
                routes[host].add(Route(node.pod_subnet, hops))
    states = {}
    for router, found in routes.items():
        devices = ["all", *(interface.device for interface in view.underlay.hosts[router].interfaces)]
        quiet = {f"ipv4/conf/{device}/send_redirects": "0" for device in devices} if found else {}
        states[router] = NetState(routes=frozenset(found), sysctls=quiet)
    return states
