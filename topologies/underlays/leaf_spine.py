#!/usr/bin/env python3
"""Leaves and spines, all of them routers: every two racks are joined by as many equal ways as there are spines.

               gw .1 ------ both spines          transit links: /30s of 100.64.0.0/16
         spine1        spine2
          |    \\      /    |
          |      \\  /      |                     routes over several spines share the traffic (ECMP)
          |      /  \\      |
        leaf1          leaf2                     each rack an equal part of the node network:
          |eth0          |eth0                   leaf at the part's .1, nodes from its .11
       +--s1--+       +--s2--+
     node1  node2   node3  node4

On its own: ``python3 leaf_spine.py --nodes 4``.
"""

from ipaddress import ip_network

try:
    from mininet.topo import Topo
except ImportError:  # run by a Python without Mininet: the last lines hand over to the one that has it
    if __name__ != "__main__":
        raise
    Topo = object

TRANSIT = ip_network("100.64.0.0/16")


class LeafSpine(Topo):
    """Nodes shared out evenly over leaves."""

    def build(
        self,
        nodes=4,
        network="192.168.1.0/24",
        gateway=True,
        leaves=2,
        spines=2,
        bw=None,
        delay=None,
        loss=None,
        mtu=1500,
    ):
        """Describe it.

        ``nodes``: names, or how many; ``network``: divided among ``leaves`` racks. With ``gateway``
        a router gw is joined to all ``spines``. ``bw`` (Mbit/s), ``delay`` ("5ms") and ``loss``
        (percent) are those of the links between leaves and spines, ``mtu`` (bytes) that of every link.
        """
        names = [f"node{number}" for number in range(1, nodes + 1)] if isinstance(nodes, int) else nodes
        if not 1 <= leaves <= len(names):
            raise ValueError(f"leaves: {leaves} is not valid: between 1 and the number of nodes ({len(names)})")
        if not 1 <= spines <= 16:
            raise ValueError(f"spines: {spines} is not valid: between 1 and 16")
        parts = list(ip_network(network).subnets(prefixlen_diff=(leaves - 1).bit_length()))[:leaves]
        shape = {key: value for key, value in (("bw", bw), ("delay", delay), ("loss", loss)) if value is not None}
        transits = TRANSIT.subnets(new_prefix=30)
        upper = [f"spine{number}" for number in range(1, spines + 1)]
        lower = [f"leaf{number}" for number in range(1, leaves + 1)] + (["gw"] if gateway else [])
        ends = {(low, up): next(transits) for low in lower for up in upper}
        self._add_routers(upper, lower, ends, parts, gateway)
        for rack, part in enumerate(parts):
            self.addSwitch(f"s{rack + 1}")
            address = f"{part[1]}/{part.prefixlen}"
            self.addLink(f"leaf{rack + 1}", f"s{rack + 1}", intfName1="eth0", params1={"ip": address}, mtu=mtu)
        for (low, up), transit in ends.items():
            port = upper.index(up) + (0 if low == "gw" else 1)
            self.addLink(
                low,
                up,
                intfName1=f"eth{port}",
                intfName2=f"eth{lower.index(low)}",
                params1={"ip": f"{transit[1]}/30"},
                params2={"ip": f"{transit[2]}/30"},
                mtu=mtu,
                **shape,
            )
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

    def _add_routers(self, upper, lower, ends, parts, gateway):
        """Add the routers with their routes: (destination, [gateways])."""
        for low in lower:
            upward = [str(ends[low, up][2]) for up in upper]
            remote = [str(part) for rack, part in enumerate(parts) if low != f"leaf{rack + 1}"]
            routes = [(destination, upward) for destination in remote]
            routes += [("0.0.0.0/0", upward)] if gateway and low != "gw" else []
            routes += [(str(net), [str(ends[low, up][2])]) for (other, up), net in ends.items() if other != low]
            rack = parts[lower.index(low)] if low != "gw" else None
            own = f"{rack[1]}/{rack.prefixlen}" if rack else f"{ends['gw', upper[0]][1]}/30"
            self.addHost(low, role="router", ip=own, routes=routes)
        for up in upper:
            routes = [(str(part), [str(ends[f"leaf{rack + 1}", up][1])]) for rack, part in enumerate(parts)]
            routes += [("0.0.0.0/0", [str(ends["gw", up][1])])] if gateway else []
            routes += [(str(net), [str(ends[low, up][1])]) for (low, other), net in ends.items() if other != up]
            self.addHost(up, role="router", ip=f"{ends[lower[0], up][2]}/30", routes=routes)


topos = {"leaf_spine": LeafSpine}

if __name__ == "__main__":
    import os
    import pathlib
    import sys

    checkout = pathlib.Path(__file__).resolve().parents[2] / ".venv" / "bin" / "mininetes"
    command = str(checkout) if checkout.exists() else "mininetes"
    os.execvp(command, [command, "up", "--underlay", __file__, "--mininet", *sys.argv[1:]])
