"""The ports table: which component listens at which port of which nodes, and who may reach it. Pure.

Whoever asks a node's port is one of five to that node:

    itself         the node, whose packets never leave it
    control plane  another node that has an API server
    worker         any other node
    pod            an address of the pod network, of the node's own pods too
    outside        everything else
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from mininetes.errors import BadInput


class Origin(enum.Enum):
    """Who asks, as the node that is asked sees it."""

    ITSELF = "itself"
    CONTROL_PLANE = "control plane"
    WORKER = "worker"
    POD = "pod"
    OUTSIDE = "outside"


Listening = Literal["node", "loopback", "nobody", "services"]
"""Where a row's port is open: at the node's addresses, at 127.0.0.1, nowhere, or where a service has it."""

EVERYONE = frozenset(Origin)
ITSELF = frozenset({Origin.ITSELF})
CONTROL_PLANE = ITSELF | {Origin.CONTROL_PLANE}
NOBODY: frozenset[Origin] = frozenset()
LOAD_BALANCERS = ITSELF | {Origin.OUTSIDE}
"""A load balancer is outside the cluster, and asks each node's proxy whether it is well."""


@dataclass(frozen=True)
class PortsView:
    """What of a cluster decides which ports are open.

    ``control_plane``: the nodes that have an API server; ``workers`` all others. ``etcd_members``: 0
    with the store in memory. ``proxy`` is False where kube-proxy does not run; ``firewall`` True where
    each node's packet filter is written from the table.
    """

    control_plane: tuple[str, ...]
    workers: tuple[str, ...]
    etcd_members: int = 0
    node_ports: range = range(30000, 32768)
    proxy: bool = True
    firewall: bool = False

    @property
    def nodes(self) -> tuple[str, ...]:
        """All nodes, the control plane first."""
        return (*self.control_plane, *self.workers)

    def origin(self, node: str) -> Origin:
        """What a node is to the others."""
        return Origin.CONTROL_PLANE if node in self.control_plane else Origin.WORKER


@dataclass(frozen=True)
class Row:
    """One line of the table: a component's port (or range) on some nodes.

    ``may_reach`` is who has business there; a packet filter lets nobody else through, and without
    one everybody reaches what listens at the node's addresses.
    """

    component: str
    first: int
    last: int
    nodes: tuple[str, ...]
    listening: Listening
    may_reach: frozenset[Origin]
    protocol: Literal["tcp", "udp"] = "tcp"

    @property
    def port(self) -> str:
        """The port, or the range, as people write it."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    def admits(self, origin: Origin, *, firewall: bool) -> bool:
        """Whether what this origin sends to the port gets to the node's own sockets, open or not."""
        if self.listening == "loopback":
            return origin is Origin.ITSELF
        return origin is Origin.ITSELF or not firewall or origin in self.may_reach


def table(view: PortsView) -> tuple[Row, ...]:
    """The table of this cluster, by component; ports that stay closed here (etcd's, without etcd) are in it too.

    The ports are those of Kubernetes, with 10251 and 10252 of its older releases. Raises BadInput
    for a cluster that has etcd members and no node for them.
    """
    if view.etcd_members > len(view.control_plane):
        raise BadInput("etcd members", view.etcd_members, f"at most the {len(view.control_plane)} control-plane nodes")
    masters, everywhere = view.control_plane, view.nodes
    at_one: Listening = "node" if view.etcd_members else "nobody"
    peers = CONTROL_PLANE if view.etcd_members > 1 else ITSELF  # a single member listens too, and has no peers
    proxies: tuple[Listening, Listening] = ("node", "loopback") if view.proxy else ("nobody", "nobody")
    rows = [
        _row("kube-apiserver", 6443, masters, "node", EVERYONE),
        _row("etcd", 2379, masters, at_one, CONTROL_PLANE if view.etcd_members else NOBODY),
        _row("etcd peers", 2380, masters, at_one, peers if view.etcd_members else NOBODY),
        _row("kube-scheduler", 10259, masters, "node", ITSELF),
        _row("kube-scheduler (older)", 10251, masters, "node", ITSELF),
        _row("kube-controller-manager", 10257, masters, "node", ITSELF),
        _row("kube-controller-manager (older)", 10252, masters, "node", ITSELF),
        _row("kubelet", 10250, everywhere, "node", CONTROL_PLANE),
        _row("kubelet healthz", 10248, everywhere, "loopback", ITSELF),
        _row("kube-proxy healthz", 10256, everywhere, proxies[0], LOAD_BALANCERS if view.proxy else NOBODY),
        _row("kube-proxy metrics", 10249, everywhere, proxies[1], ITSELF if view.proxy else NOBODY),
    ]
    ports = view.node_ports
    rows.append(Row("NodePort services", ports.start, ports.stop - 1, everywhere, "services", EVERYONE))
    return tuple(row for row in rows if row.nodes)


def _row(component: str, port: int, nodes: tuple[str, ...], listening: Listening, may_reach: frozenset[Origin]) -> Row:
    return Row(component, port, port, nodes, listening, may_reach)


def rows_of(rows: Iterable[Row], node: str) -> tuple[Row, ...]:
    """The rows that speak of a node."""
    return tuple(row for row in rows if node in row.nodes)


def who(origins: Collection[Origin], asked: Collection[Origin] = tuple(Origin)) -> str:
    """Origins in words, for a table; all of those that were ``asked`` are everyone."""
    if len(asked) > 1 and set(origins) >= set(asked):
        return "everyone"
    names = {Origin.CONTROL_PLANE: "control plane", Origin.WORKER: "workers", Origin.POD: "pods"}
    return ", ".join(names.get(each, each.value) for each in Origin if each in origins) or "nobody"
