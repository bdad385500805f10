"""Container networks for people: the list of them, containers, and whom each network reaches as measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.text import Text

from mininetes.probes.matrix import Verdict
from mininetes.testbed import show
from mininetes.testbed.networks_reach import DESTINATIONS, Row

MOST_NODES = 4
_MARKS = {Verdict.REACHED: "●", Verdict.UNREACHED: "·", Verdict.LOST: "✗", Verdict.LEAKED: "!"}
_LEGEND = (
    "● reached   · not reached, as declared   - there is nobody to ask\n✗ lost   ! reached against what is declared"
)


def networks(rows: Iterable[Mapping[str, Any]]) -> None:
    """One line for each network of each node, overlays last."""
    listing = show.table(None, "network", "driver", "scope", "node", "subnet")
    for row in rows:
        nodes = ",".join(row["nodes"]) if len(row["nodes"]) <= MOST_NODES else f"{len(row['nodes'])} nodes"
        listing.add_row(
            *(Text(cell) for cell in (row["name"], row["driver"], row["scope"], nodes, row["subnet"] or "-"))
        )
    show.console.print(listing)


def containers(rows: Iterable[Mapping[str, Any]]) -> None:
    """One line for each container."""
    listing = show.table(None, "container", "node", "networks", "ports")
    for row in rows:
        ends = ", ".join(f"{each['name']} {each['address'] or ''}".strip() for each in row["networks"])
        cells = (row["name"], row["node"], ends, ", ".join(row["publish"]) or "-")
        listing.add_row(*(Text(cell) for cell in cells))
    show.console.print(listing)


def reach(rows: Sequence[Row]) -> None:
    """One line for each network, one column for each destination; what is not as declared follows, one by one."""
    listing = show.table("Whom containers reach", "network", "kind", "node", *DESTINATIONS)
    lines: dict[tuple[str, str, str], dict[str, list[Row]]] = {}
    for row in rows:
        lines.setdefault((row.network, row.kind, row.node), {}).setdefault(row.destination, []).append(row)
    for head, cells in lines.items():
        wrong = any(not row.verdict.holds for found in cells.values() for row in found)
        marks = [_mark(cells.get(destination, [])) for destination in DESTINATIONS]
        listing.add_row(*(Text(cell) for cell in (*head, *marks)), style="bold red" if wrong else None)
    show.console.print(listing)
    show.console.print(_LEGEND, markup=False)
    wrong_rows = [row for row in rows if not row.verdict.holds]
    said = f"{len(rows)} questions: " + (f"{len(wrong_rows)} not as declared" if wrong_rows else "all as declared")
    show.console.print(said, style="bold red" if wrong_rows else "green")
    for row in wrong_rows:
        declared = "reached" if row.expected else "not reached"
        saw = "it answered" if row.reached else row.detail
        text = (
            f"  {row.network} on {row.node} -> {row.target} ({row.address}): declared {declared} ({row.reason}), {saw}"
        )
        show.console.print(text, markup=False)


def _mark(rows: Sequence[Row]) -> str:
    """All that were met of one destination: each kind of verdict once."""
    found = {row.verdict for row in rows}
    return " ".join(mark for verdict, mark in _MARKS.items() if verdict in found) or "-"
