"""The truth table as measured, for people."""

from __future__ import annotations

from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from mininetes.probes.truth_table import CONNECTED, Line, TruthTable
from mininetes.testbed import show

MOST_NAMED = 20
_WIDEST = 100_000


def _what(line: Line) -> str:
    return f"{line.to} of {line.at}" if line.at else line.to


def _verdict(line: Line) -> str:
    if line.wrong:
        return f"known: {line.known}" if line.known else f"NO: {line.wrong}"
    return CONNECTED if line.only_connected else "it does"


def table(measured: TruthTable) -> Table:
    """One line for each row; those that are not as they must be are red."""
    listing = show.table(
        "What a service does for whom", "proxy", "service", "from", "to", "address", "must happen", "verdict"
    )
    for line in measured.lines:
        cells = (
            line.subject,
            line.service,
            line.source if line.who in ("node", "outside") else f"{line.source} ({line.who})",
            _what(line),
            f"{line.address}:{line.port}/{line.protocol}",
            line.expected,
            _verdict(line),
        )
        listing.add_row(*(Text(cell) for cell in cells), style=None if line.holds else "bold red")
    return listing


def report(measured: TruthTable, *, everything: bool = True, most: int = MOST_NAMED) -> None:
    """The table (or its wrong rows alone), where proxies differ, what was not asked, and the summary.

    Of differences that are declared, and of what was not asked, at most ``most`` are listed.
    """
    shown = measured if everything else TruthTable(measured.wrong)
    if shown.lines:
        _print_whole(table(shown))
    if len(measured.subjects) > 1:
        undeclared = [str(each) for each in measured.differences if not each.reason]
        declared = [str(each) for each in measured.differences if each.reason]
        _list("Where proxies differ, undeclared", undeclared, len(undeclared))
        if everything:
            _list("Where proxies differ", declared, most)
    _list("Not asked", list(measured.skipped), most)
    show.console.print(measured.summary(), style=None if measured.holds else "bold red")


def _print_whole(listing: Table) -> None:
    """On a terminal in its width; into a file or a pipe as wide as it is, so that nothing is cut off."""
    console = show.console
    if console.is_terminal:
        console.print(listing)
        return
    width = console.width
    console.width = _WIDEST
    try:
        console.width = max(width, Measurement.get(console, console.options, listing).maximum)
        console.print(listing)
    finally:
        console.width = width


def _list(title: str, items: list[str], most: int) -> None:
    if not items:
        return
    show.console.print(f"{title}: {len(items)}", style="bold")
    for item in items[:most]:
        show.console.print(Text(f"  {item}"))
    if most < len(items):
        show.console.print(f"  and {len(items) - most} more (all of them: --all)")
