"""weave: one L2 network for all pods, made by agents that tell each other what they know.

      pod 10.32.0.2                                 pod 10.37.85.2
          | eth0                                        | eth0          mtu 1376
     +----+-- weave 10.32.0.1/12 --+              +-----+ weave 10.37.85.1/12 ----+
     |    |                        |              |     |                         |
     | vxlan-6784                  |              | vxlan-6784                    |
     |  agent  TCP 6783 <==========|==============|====> agent  TCP 6783          |
     +----+------ node1 -----------+              +-----+------ node2 ------------+
          | eth0 192.168.1.11                           | eth0 192.168.1.12
          +----------- UDP 6784 [ VXLAN [ Ethernet ] ] -+

Nobody has a subnet: the agents share 10.32.0.0/12 out among them as a ring of ranges, and give each
other parts of their own when one runs out. Every bridge `weave` is a port of the same L2 network. It
needs no API server. So nothing of it can be planned but what pods' packets may measure: the agents
make bridge and tunnels (mininetes.agents.weave), and the CNI plugins ask their node's agent for addresses.

``mtu`` is that of pods; the headers around their packets take 50 bytes more on the underlay. weave's own is 1376.
"""

from mininetes.api import BadInput, FabricPlan, FabricView

CONNECTS_NODES = True
AGENT = "weave"
POD_NETWORK = "10.32.0.0/12"
CNI = "weave.conflist"
BRIDGE = "weave"

OVERHEAD = 50
"""Bytes: outer IPv4 20, UDP 8, VXLAN 8, inner Ethernet 14."""

LEAST_MTU = 576


def plan(view: FabricView, mtu: int = 1376) -> FabricPlan:
    """What pods may send; the rest is the agents'. Raises BadInput for an MTU that the underlay cannot carry."""
    if view.mtu < LEAST_MTU + OVERHEAD:
        right = f"at least {LEAST_MTU + OVERHEAD} under the fabric weave"
        raise BadInput("spec.underlay.parameters.mtu", view.mtu, right)
    if not LEAST_MTU <= mtu <= view.mtu - OVERHEAD:
        raise BadInput("spec.fabric.parameters.mtu", mtu, f"from {LEAST_MTU} to {view.mtu - OVERHEAD}")
    for node in view.nodes:
        for other in view.nodes:
            if other is not node:
                view.way(node.name, other.address)
    return FabricPlan({}, mtu)
