#!/usr/bin/env python3
"""Any number of nodes behind one switch, on links that can be narrow, long or lossy.

    node1 .11    node2 .12  ...  nodeN .(10+N)     192.168.1.0/24
       |eth0        |eth0          |eth0
       +-----------s1--------------+
                    |eth0
                   gw .1   (with gateway=True: the way out of the cluster)

On its own: ``python3 single_switch.py --nodes 5``.
With stock Mininet: ``mn --custom single_switch.py --topo single_switch,5 --switch lxbr --controller none``.
"""

from ipaddress import ip_network

try:
    from mininet.topo import Topo
except ImportError:  # run by a Python without Mininet: the last lines hand over to the one that has it
    if __name__ != "__main__":
        raise
    Topo = object


class SingleSwitch(Topo):
    """A star of nodes."""

    def build(self, nodes=3, network="192.168.1.0/24", gateway=False, bw=None, delay=None, loss=None, mtu=1500):
        """Describe it.

        ``nodes``: names, or how many; ``network``: theirs; ``gateway``: with a router gw at its .1.
        For each node's link: ``bw`` in Mbit/s, ``delay`` such as "5ms" and ``loss`` in percent,
        each way, as Mininet's TCLink has them; ``mtu`` in bytes.
        """
        names = [f"node{number}" for number in range(1, nodes + 1)] if isinstance(nodes, int) else nodes
        net = ip_network(network)
        route = {"defaultRoute": f"via {net[1]}"} if gateway else {}
        shape = {key: value for key, value in (("bw", bw), ("delay", delay), ("loss", loss)) if value is not None}
        shape["mtu"] = mtu
        self.shape, self.gateway = shape, gateway
        self.addSwitch("s1")
        for number, name in enumerate(names, start=1):
            self.addHost(name, role="node", ip=f"{net[10 + number]}/{net.prefixlen}", **route)
            self.addLink(name, "s1", intfName1="eth0", **shape)
        if gateway:
            self.addHost("gw", role="router", ip=f"{net[1]}/{net.prefixlen}")
            self.addLink("gw", "s1", intfName1="eth0", mtu=mtu)

    def place(self, number, network):
        """Where node ``number`` is plugged in when it joins later: switch, and options of host and link."""
        net = ip_network(network)
        route = {"defaultRoute": f"via {net[1]}"} if self.gateway else {}
        return {"switch": "s1", "host": {"ip": f"{net[10 + number]}/{net.prefixlen}", **route}, "link": self.shape}


topos = {"single_switch": SingleSwitch}

if __name__ == "__main__":
    import os
    import pathlib
    import sys

    checkout = pathlib.Path(__file__).resolve().parents[2] / ".venv" / "bin" / "mininetes"
    command = str(checkout) if checkout.exists() else "mininetes"
    os.execvp(command, [command, "up", "--underlay", __file__, "--mininet", *sys.argv[1:]])
