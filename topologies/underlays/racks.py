#!/usr/bin/env python3
"""Racks, each a switch and a subnet of its own, with one router between them.

    node1  node2        node3  node4        each rack an equal part of the node network:
      |      |            |      |          router at the part's .1, nodes from its .11
      +--s1--+            +--s2--+
          |eth0        eth1|
          +-------gw-------+

On its own: ``python3 racks.py --nodes 4``.
"""

from ipaddress import ip_network

try:
    from mininet.topo import Topo
except ImportError:  # run by a Python without Mininet: the last lines hand over to the one that has it
    if __name__ != "__main__":
        raise
    Topo = object


class Racks(Topo):
    """Nodes shared out evenly over racks; neighbours in number are neighbours in a rack."""

    def build(self, nodes=4, network="192.168.1.0/24", gateway=True, racks=2, bw=None, delay=None, loss=None, mtu=1500):
        """Describe it.

        ``nodes``: names, or how many; ``network``: divided among ``racks`` racks. The router gw is
        there in any case. ``bw`` (Mbit/s), ``delay`` ("5ms") and ``loss`` (percent) are those of
        the links between router and racks, ``mtu`` (bytes) that of every link.
        """
        names = [f"node{number}" for number in range(1, nodes + 1)] if isinstance(nodes, int) else nodes
        if not 1 <= racks <= len(names):
            raise ValueError(f"racks: {racks} is not valid: between 1 and the number of nodes ({len(names)})")
        parts = list(ip_network(network).subnets(prefixlen_diff=(racks - 1).bit_length()))[:racks]
        shape = {key: value for key, value in (("bw", bw), ("delay", delay), ("loss", loss)) if value is not None}
        self.addHost("gw", role="router", ip=f"{parts[0][1]}/{parts[0].prefixlen}")
        for rack, part in enumerate(parts):
            self.addSwitch(f"s{rack + 1}")
            address = f"{part[1]}/{part.prefixlen}"
            self.addLink("gw", f"s{rack + 1}", intfName1=f"eth{rack}", params1={"ip": address}, mtu=mtu, **shape)
        self.first, self.parts, self.mtu = len(names), parts, mtu
        for number, name in enumerate(names, start=1):
            seat = self.place(number, network)
            self.addHost(name, role="node", **seat["host"])
            self.addLink(name, seat["switch"], intfName1="eth0", **seat["link"])

    def place(self, number, network):
        """Where node ``number`` is plugged in, also when it joins later: switch, and options of host and link.

        Later ones go to the racks in turn.
        """
        size = -(-self.first // len(self.parts))
        rack, place = divmod(number - 1, size)
        if number > self.first:
            turn, rack = divmod(number - 1 - self.first, len(self.parts))
            place = size + turn
        part = self.parts[rack]
        if 11 + place >= part.num_addresses - 1:
            raise ValueError(f"network: {part} is too small for a rack of {place + 1} nodes")
        host = {"ip": f"{part[11 + place]}/{part.prefixlen}", "defaultRoute": f"via {part[1]}"}
        return {"switch": f"s{rack + 1}", "host": host, "link": {"mtu": self.mtu}}


topos = {"racks": Racks}

if __name__ == "__main__":
    import os
    import pathlib
    import sys

    checkout = pathlib.Path(__file__).resolve().parents[2] / ".venv" / "bin" / "mininetes"
    command = str(checkout) if checkout.exists() else "mininetes"
    os.execvp(command, [command, "up", "--underlay", __file__, "--mininet", *sys.argv[1:]])
