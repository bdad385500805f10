"""The Mininet network of a cluster, made real in batches.

Topo --read_topo--> Underlay --realize--> veths, bridges, addresses, routes, sysctls
  +----Mininet.build----> ClusterNet: hosts, switches, links to work with
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mininet.net import Mininet
from mininet.topo import Topo

from mininetes.cluster import wiring
from mininetes.cluster.hosts import ClusterIntf, ClusterLink, ClusterNode, UnderlaySwitch
from mininetes.cluster.underlay import SWITCH_SYSCTLS, Cable, Interface, Underlay, UnderlayHost
from mininetes.errors import MininetesError
from mininetes.kernel import applier, rtnl
from mininetes.kernel.netns import in_netns
from mininetes.kernel.netstate import NetState
from mininetes.kernel.processes import Namespaces, run

LAB_NETNS = "/proc/1/ns/net"
"""The lab's own network namespace, in which the switches are."""

_FORWARDING = "3"


def netns_of(pid: int) -> str:
    """The path of a process's network namespace."""
    return f"/proc/{pid}/ns/net"


class ClusterNet(Mininet):
    """A Mininet network whose hosts' namespaces exist already.

    ``holders``: each host's holder, by name. Building registers hosts, switches and links with
    Mininet and does nothing to the kernel; `realize` does that, once, in the engine. A second
    process attaches to a running cluster by building alone.
    """

    def __init__(self, topo: Topo, underlay: Underlay, holders: Mapping[str, int]) -> None:
        self.underlay = underlay
        self.holders = dict(holders)
        # Mininet would raise the host's limits and sysctls once; they are not ours to change
        Mininet.inited = True
        super().__init__(
            topo=topo, host=ClusterNode, switch=UnderlaySwitch, link=ClusterLink, intf=ClusterIntf,
            controller=None, cleanup=False,
        )  # fmt: skip

    def addHost(self, name: str, cls: type[Any] | None = None, **params: Any) -> Any:
        """Add a host whose namespaces exist, as Mininet.build does for each of the Topo's."""
        if name not in self.holders:
            raise MininetesError(f"{name}: a running cluster grows by 'mininetes node add'")
        return super().addHost(name, cls, pid=self.holders[name], **params)

    def addSwitch(self, name: str, cls: type[Any] | None = None, **params: Any) -> Any:
        """Add a switch, as Mininet.build does for each of the Topo's."""
        return super().addSwitch(name, cls, pid=1, **params)

    def configHosts(self) -> None:
        """Give Mininet's objects the addresses of the description; the kernel gets them in `realize`."""
        for host in self.underlay.hosts.values():
            for each in host.interfaces:
                intf = self.nameToNode[host.name].nameToIntf[each.device]
                intf.config(mac=each.mac, ip=str(each.address) if each.address else None)

    def stop(self) -> None:
        """End the shells. The network itself goes with the lab."""
        for node in [*self.hosts, *self.switches]:
            node.terminate()

    def netns(self, name: str) -> str:
        """The path of a host's network namespace, or of the switches'."""
        return netns_of(self.holders[name]) if name in self.holders else LAB_NETNS

    def realize(self) -> None:
        """Make links, addresses and routes, and return when every switch port forwards. To be called once.

        Raises MininetesError that names the step.
        """
        applier.apply(LAB_NETNS, NetState(up=frozenset(["lo"]), sysctls=SWITCH_SYSCTLS))
        index = wiring.bridge_indexes(self.underlay.switches)
        with rtnl.Rtnl(LAB_NETNS) as kernel:
            kernel.batch(wiring.bridge_requests(index))
        ports = self._make_cables(self.underlay.cables, index)
        for host in self.underlay.hosts.values():
            applier.apply(self.netns(host.name), host.state())
        for cable in self.underlay.cables:
            for end in cable.ends:
                self._shape(cable, end)
        self._wait_for(ports)

    def _wait_for(self, ports: Sequence[str]) -> None:
        wait_until(lambda: not self._waiting_ports(ports), "every switch port forwards", self._waiting_text(ports))

    def register(self, host: UnderlayHost, cable: Cable, holder: int) -> None:
        """Have Mininet's objects know a node that joins, whose namespaces exist."""
        self.holders[host.name] = holder
        self.underlay = dataclasses.replace(
            self.underlay, hosts={**self.underlay.hosts, host.name: host}, cables=(*self.underlay.cables, cable)
        )
        self.addHost(host.name)
        first, second = cable.ends
        self.addLink(first.owner, second.owner, intfName1=first.device, intfName2=second.device)
        self.configHosts()

    def plug_in(self, host: UnderlayHost, cable: Cable) -> None:
        """Make the link, addresses and routes of a node that was registered. Blocks. Raises MininetesError."""
        with in_netns(LAB_NETNS):
            index = {name: number for number, name in socket.if_nameindex() if name in self.underlay.switches}
        ports = self._make_cables([cable], index)
        applier.apply(self.netns(host.name), host.state())
        for end in cable.ends:
            self._shape(cable, end)
        self._wait_for(ports)

    def unregister(self, name: str) -> None:
        """Have Mininet's objects forget a node that leaves. Does nothing to the kernel."""
        node = self.nameToNode.pop(name)
        node.terminate()
        self.hosts.remove(node)
        self.links[:] = [link for link in self.links if node not in (link.intf1.node, link.intf2.node)]
        self.holders.pop(name)
        hosts = {host: each for host, each in self.underlay.hosts.items() if host != name}
        cables = tuple(cable for cable in self.underlay.cables if all(end.owner != name for end in cable.ends))
        self.underlay = dataclasses.replace(self.underlay, hosts=hosts, cables=cables)

    def unplug(self, name: str) -> None:
        """Take a node's links away, at both of their ends. Blocks. May be called again."""
        ends = [end for cable in self.underlay.cables for end in cable.ends
                if end.owner in self.underlay.switches and any(each.owner == name for each in cable.ends)]  # fmt: skip
        with in_netns(LAB_NETNS):
            index = {device: number for number, device in socket.if_nameindex()}
        with rtnl.Rtnl(LAB_NETNS) as kernel:
            kernel.batch([rtnl.delete_link(index[end.device], end.device) for end in ends if end.device in index])

    def _make_cables(self, cables: Iterable[Cable], index: Mapping[str, int]) -> list[str]:
        """Make veths between hosts and bridges (``index``: theirs); return the names of the bridges' ports."""
        made = list(cables)
        ports = []
        by_namespace: dict[str, list[rtnl.Request]] = {}
        with contextlib.ExitStack() as open_files:
            fds: dict[str, int] = {}
            for cable in made:
                near, far = wiring.ends_of(cable, index)
                if far.owner not in fds:
                    fds[far.owner] = os.open(self.netns(far.owner), os.O_RDONLY | os.O_CLOEXEC)
                    open_files.callback(os.close, fds[far.owner])
                ports += [end.device for end in (near, far) if end.owner in index]
                request = wiring.cable_request(cable, index, fds[far.owner])
                by_namespace.setdefault(self.netns(near.owner), []).append(request)
            for netns, batch in by_namespace.items():
                with rtnl.Rtnl(netns) as kernel:
                    kernel.batch(batch)
        if lines := [line for cable in made for line in wiring.joining(cable, index)]:
            run(["ip", "-batch", "-"], stdin="\n".join(lines) + "\n")
        return ports

    def _shape(self, cable: Cable, end: Interface) -> None:
        lines = wiring.shaping(cable, end)
        if not lines:
            return
        namespaces = Namespaces(of_pid=self.holders.get(end.owner))
        run(["tc", "-batch", "-"], stdin="\n".join(lines) + "\n", namespaces=namespaces)

    @staticmethod
    def _waiting_ports(ports: Sequence[str]) -> list[str]:
        with in_netns(LAB_NETNS):
            states = {port: Path(f"/sys/class/net/{port}/brport/state").read_text().strip() for port in ports}
        return [port for port, state in states.items() if state != _FORWARDING]

    def _waiting_text(self, ports: Sequence[str]) -> Callable[[], str]:
        return lambda: "still not forwarding: " + ", ".join(self._waiting_ports(ports))


def wait_until(
    holds: Callable[[], bool], condition: str, detail: Callable[[], str] = str, *, timeout_s: float = 10.0
) -> None:
    """Wait until ``holds()``; raise MininetesError that names the condition when it does not within ``timeout_s``."""
    for _ in pauses(timeout_s):
        if holds():
            return
    raise MininetesError(f"not within {timeout_s:g} s: {condition}: {detail()}")


def pauses(timeout_s: float, first_s: float = 0.0005, longest_s: float = 0.05) -> Iterator[None]:
    """Yield at growing intervals until ``timeout_s`` is over: the heart of a wait for a condition."""
    end = time.monotonic() + timeout_s
    pause = first_s
    while time.monotonic() < end:
        yield
        time.sleep(pause)
        pause = min(pause * 1.5, longest_s)
