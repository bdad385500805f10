"""A node's packet filter, written from the ports table: ``firewall: kubernetes`` in the cluster file.

It looks only at what is meant for the node itself (hook input). What is forwarded (pods' traffic,
services whose endpoints are pods) never passes it, and neither does what comes over loopback.

    to a port of the table        those whom the table names; others in the cluster are refused by
                                  ICMP "administratively prohibited", those outside get no answer
    to a service's address,       let through: it is a service's traffic on its way to an endpoint
    or translated by a service
    to any other port             nodes and pods are let through (tunnels between nodes, pods that use
                                  their node's network); those outside get no answer
    neither TCP nor UDP           let through: the table says nothing of it
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from mininetes.agents.ports_table import EVERYONE, Origin, Row, rows_of
from mininetes.kernel.processes import Namespaces, run

TABLE = "mininetes-firewall"


@dataclass(frozen=True)
class FilterView:
    """What a node's filter is written from: the table, and whose addresses are whose.

    ``services`` are the ranges of services' own addresses (cluster and load balancers').
    """

    rows: tuple[Row, ...]
    control_plane: tuple[IPv4Address, ...]
    workers: tuple[IPv4Address, ...]
    pods: IPv4Network
    services: tuple[IPv4Network, ...]


_SETS = {Origin.CONTROL_PLANE: "control-plane", Origin.WORKER: "workers", Origin.POD: "pods"}


def compile_filter(view: FilterView, node: str) -> str:
    """The filter of ``node`` as text for ``nft -f -``: one transaction that replaces an earlier one. Pure."""
    lines = [f"table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
    lines += _set("control-plane", view.control_plane)
    lines += _set("workers", view.workers)
    lines += _set("pods", [view.pods])
    lines += [
        "\tchain input {",
        "\t\ttype filter hook input priority filter; policy accept;",
        '\t\tiifname "lo" accept',
        "\t\tct state established,related accept",
        "\t\tct status dnat accept",
        "\t\tmeta l4proto != { tcp, udp } accept",
        f"\t\tip daddr {{ {', '.join(str(each) for each in view.services)} }} accept",
    ]
    for row in rows_of(view.rows, node):
        lines += _rules(row)
    lines += [f"\t\tip saddr @{name} accept" for name in _SETS.values()]
    lines += ["\t\tcounter drop", "\t}", "\tchain refuse {"]
    lines += [f"\t\tip saddr @{name} counter reject with icmpx admin-prohibited" for name in _SETS.values()]
    lines += ["\t\tcounter drop", "\t}", "}"]
    return "\n".join(lines) + "\n"


def _set(name: str, elements: Sequence[IPv4Address | IPv4Network]) -> list[str]:
    # an interval set takes single addresses too, and may be empty, as an anonymous one may not
    inside = [f"\t\telements = {{ {', '.join(str(each) for each in elements)} }}"] if elements else []
    return [f"\tset {name} {{", "\t\ttype ipv4_addr; flags interval;", *inside, "\t}"]


def _rules(row: Row) -> Iterable[str]:
    """Accept those whom the row names, refuse all others. Loopback was accepted before."""
    port = f"{row.protocol} dport {row.port}"
    note = f'comment "{row.component}"'
    if row.may_reach == EVERYONE:
        return [f"\t\t{port} accept {note}"]
    allowed = [f"\t\t{port} ip saddr @{name} accept {note}" for each, name in _SETS.items() if each in row.may_reach]
    if Origin.OUTSIDE not in row.may_reach:
        return [*allowed, f"\t\t{port} goto refuse {note}"]
    others = [name for each, name in _SETS.items() if each not in row.may_reach]
    refused = [f"\t\t{port} ip saddr @{name} goto refuse {note}" for name in others]
    return [*refused, f"\t\t{port} accept {note}"]


def apply_filter(namespaces: Namespaces, text: str) -> None:
    """Put a filter in place of the node's earlier one, at once or not at all. Blocks. Raises ProcessFailed."""
    run(["nft", "-f", "-"], namespaces=namespaces, stdin=text)
