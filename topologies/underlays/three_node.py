#!/usr/bin/env python3
"""Three nodes behind one switch: the cluster of the textbooks.

    node1 .11    node2 .12    node3 .13     192.168.1.0/24
       |eth0        |eth0        |eth0
       +-----------s1------------+
                    |eth0
                   gw .1   (with gateway=True: the way out of the cluster)

On its own: ``python3 three_node.py`` brings a cluster up on it and opens Mininet's command line.
With stock Mininet: ``mn --custom three_node.py --topo three_node --switch lxbr --controller none``.
"""

from ipaddress import ip_network

try:
    from mininet.topo import Topo
except ImportError:  # run by a Python without Mininet: the last lines hand over to the one that has it
    if __name__ != "__main__":
        raise
    Topo = object


class ThreeNode(Topo):
    """Exactly three nodes on one switch; `single_switch` takes any number."""

    def build(self, nodes=("node1", "node2", "node3"), network="192.168.1.0/24", gateway=False, mtu=1500):
        """Describe it. ``nodes``: three names; ``network``: theirs; ``gateway``: with a router gw at its .1.

        ``mtu`` is that of every link, in bytes.
        """
        if len(nodes) != 3:
            raise ValueError(f"three_node has three nodes, not {len(nodes)}: single_switch takes any number")
        net = ip_network(network)
        route = {"defaultRoute": f"via {net[1]}"} if gateway else {}
        self.gateway, self.mtu = gateway, mtu
        self.addSwitch("s1")
        for number, name in enumerate(nodes, start=1):
            self.addHost(name, role="node", ip=f"{net[10 + number]}/{net.prefixlen}", **route)
            self.addLink(name, "s1", intfName1="eth0", mtu=mtu)
        if gateway:
            self.addHost("gw", role="router", ip=f"{net[1]}/{net.prefixlen}")
            self.addLink("gw", "s1", intfName1="eth0", mtu=mtu)

    def place(self, number, network):
        """Where node ``number`` is plugged in when it joins later: switch, and options of host and link."""
        net = ip_network(network)
        route = {"defaultRoute": f"via {net[1]}"} if self.gateway else {}
        return {
            "switch": "s1",
            "host": {"ip": f"{net[10 + number]}/{net.prefixlen}", **route},
            "link": {"mtu": self.mtu},
        }


topos = {"three_node": ThreeNode}

if __name__ == "__main__":
    import os
    import pathlib
    import sys

    checkout = pathlib.Path(__file__).resolve().parents[2] / ".venv" / "bin" / "mininetes"
    command = str(checkout) if checkout.exists() else "mininetes"
    os.execvp(command, [command, "up", "--underlay", __file__, "--mininet", *sys.argv[1:]])
