"""Mininet's classes for a cluster: nodes that are namespaces first and shells only when asked for.

Stock Mininet starts a bash through a pty for each node (about 20 ms and 4 MB). Here a node's
namespaces are held by PID 1's child, and the shell starts with the first command. Links and
addresses are not made here either: `net` does all of them in batches.
"""

from __future__ import annotations

from typing import Any

from mininet.link import Intf, Link
from mininet.node import Host, Node, Switch


class LazyShellNode(Node):
    """A Mininet node whose shell starts with the first command; ``pid`` is its namespaces' holder."""

    def __init__(self, name: str, pid: int, **params: Any) -> None:
        self._holder_pid = pid
        self._made = False
        super().__init__(name, **params)
        self._made = True

    @classmethod
    def setup(cls) -> None:
        """Mininet looks for its programs here; the doctor has done so."""

    def startShell(self, mnopts: str | None = None) -> None:
        """Called by Mininet at creation: only note whose namespaces these are."""
        self.pid = self._holder_pid

    def _popen(self, cmd: list[str], **params: Any) -> Any:
        if cmd[:1] == ["mnexec"] and self.shell is None and params.get("close_fds") is False:
            enter = ["nsenter", "--target", str(self._holder_pid), "--mount", "--net", "--uts", "--"]
            cmd = [*enter, *cmd]
        return super()._popen(cmd, **params)

    def _start_real_shell(self) -> None:
        namespaced = bool(self.params.get("inNamespace", True))
        self.inNamespace = False  # they are there: mnexec must not make new ones
        try:
            super().startShell()
        finally:
            self.inNamespace = namespaced
            self.pid = self._holder_pid

    def sendCmd(self, *args: Any, **kwargs: Any) -> Any:
        """Send a command to the node's shell, as in Mininet; starts the shell at the first call."""
        if self.shell is None:
            self._start_real_shell()
        return super().sendCmd(*args, **kwargs)

    def cmd(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command in the node's shell and return its output, as in Mininet."""
        if not self._made:
            return ""  # Mininet brings a new switch's loopback up; the batch does so for all
        if self.shell is None:
            self._start_real_shell()
        return super().cmd(*args, **kwargs)

    def config(self, *_: Any, **__: Any) -> dict[str, Any]:
        """Called by Mininet at creation: addresses and routes come with the batch."""
        return {}

    def terminate(self) -> None:
        """End the shell if there is one. The namespaces stay for as long as their holder."""
        if self.shell is not None:
            super().terminate()


class ClusterNode(LazyShellNode, Host):
    """A node, router or client: its own network, mount and UTS namespace."""


class UnderlaySwitch(LazyShellNode, Switch):
    """A Linux bridge in the lab's own network namespace."""

    def start(self, controllers: list[Any]) -> None:
        """Bring the bridge up (it is, from the batch on); there is no controller. May be called twice."""
        self.cmd("ip link set dev", self.name, "up")

    def stop(self, deleteIntfs: bool = True) -> None:
        """Bring the bridge down: it forwards nothing until `start`."""
        self.cmd("ip link set dev", self.name, "down")

    def defaultDpid(self, dpid: str | None = None) -> str:
        """A bridge has no OpenFlow datapath, so that any name is good."""
        return dpid or "0" * self.dpidLen


class ClusterIntf(Intf):
    """An interface that knows its addresses from the description; the batch gives them to the kernel."""

    def config(self, mac: str | None = None, ip: str | None = None, **params: Any) -> dict[str, Any]:
        """Note the addresses; called by Mininet at creation."""
        if mac is not None:
            self.mac = mac
        if ip is not None:
            self.ip, _, prefix = ip.partition("/")
            self.prefixLen = int(prefix or 32)
        return {}


class ClusterLink(Link):
    """A link that the batch makes."""

    def __init__(self, node1: Node, node2: Node, **params: Any) -> None:
        params["intf"] = ClusterIntf
        super().__init__(node1, node2, **params)

    @classmethod
    def makeIntfPair(cls, *_: Any, **__: Any) -> None:
        """Called by Mininet at creation: nothing yet."""
