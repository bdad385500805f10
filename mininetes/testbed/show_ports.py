"""The ports table as measured, for people."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from mininetes.probes.ports import PortsReport
from mininetes.testbed import show

MOST_MISMATCHES = 20


def table(report: PortsReport) -> Table:
    """One line for each port of each node; those that are not as expected are red."""
    listing = show.table(
        "Who reaches which port", "component", "port", "node", "listens at", "expected from", "measured", "verdict"
    )
    for line in report.lines:
        where = ", ".join(line.listening) or "-"
        verdict = "as expected" if line.holds else "NOT AS EXPECTED"
        cells = (
            line.component,
            f"{line.port}/{line.protocol}",
            line.node,
            where,
            line.expected,
            line.measured,
            verdict,
        )
        listing.add_row(*(Text(cell) for cell in cells), style=None if line.holds else "bold red")
    return listing


def report(measured: PortsReport) -> None:
    """The table, its summary, and every connection that did not go as expected."""
    show.console.print(table(measured))
    show.console.print(measured.summary(), style="green" if measured.holds else "bold red")
    wrong = [(line, check) for line in measured.wrong for check in line.mismatches]
    for line, check in wrong[:MOST_MISMATCHES]:
        show.console.print(f"  {line.component} on {line.node}: {check}", markup=False)
    if len(wrong) > MOST_MISMATCHES:
        show.console.print(f"  and {len(wrong) - MOST_MISMATCHES} more: -o json lists them all")
