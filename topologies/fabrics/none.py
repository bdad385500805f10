"""No fabric: pods reach their own node and its pods, and nobody else.

      pod 10.244.1.2                                pod 10.244.2.2
          | eth0                                        | eth0
      cni0 10.244.1.1                               cni0 10.244.2.1
     +----+------ node1 ------+               +----+------ node2 ------+
     |  no route to 10.244.2  |               |  no route to 10.244.1  |
     +--------------+---------+               +---------+--------------+
                    +------------ switch ---------------+

Routes that are added by hand are left alone:
``ip route add 10.244.2.0/24 via 192.168.1.12`` on node1, and the like on node2.
"""

from mininetes.api import FabricView, NetState

CONNECTS_NODES = False


def plan(view: FabricView) -> dict[str, NetState]:
    """Nothing for anybody."""
    return {host: NetState() for host in view.underlay.hosts}
