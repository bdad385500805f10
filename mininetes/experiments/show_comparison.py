"""What `mininetes compare` prints for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape

from mininetes.experiments.comparing import LEAST_REPETITIONS, Compared, Comparison
from mininetes.testbed.show import console, table

_STYLES = {"higher": "bold yellow", "lower": "bold cyan", "within noise": "dim", "too few": "magenta"}
_MOST_NAMES = 10


def named(facts: Mapping[str, Any], but: Sequence[str] = ()) -> str:
    """Parameters or labels in one line."""
    return ", ".join(f"{name}={value}" for name, value in facts.items() if name not in but)


def nothing_compared(found: Comparison) -> str:
    """Why not a single comparison could be made."""
    if not found.compared:
        if any(counts["saturated"] for counts in found.left_out.values()):
            return (
                "nothing could be compared: no cell has runs that count in both; --saturated lets saturated ones count"
            )
        return "nothing could be compared: the two results have no cell and metric in common"
    most = max(min(each.repetitions) for each in found.compared)
    return f"nothing could be compared: {LEAST_REPETITIONS} repetitions of a cell are needed, and at most {most} count"


def show(found: Comparison, *, everything: bool) -> None:
    """Print the table, what only one has, and what differs in what they ran on."""
    same = _same_everywhere([each.cell for each in found.compared])
    shown = [each for each in found.compared if everything or each.change != "within noise"]
    console.print(f"[bold]{escape(found.experiment)}[/]  A {escape(str(found.a))}  B {escape(str(found.b))}\n")
    if shown:
        console.print(_table(shown, same))
        console.print()
    _left_out(found)
    for side, names in found.only_in.items():
        if names:
            more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            console.print(f"only in {side.upper()}: {escape('; '.join(names[:_MOST_NAMES]))}{more}")
    if found.differs:
        listing = table("They did not run on the same:", "what", "A", "B")
        for name, (a, b) in found.differs.items():
            listing.add_row(name, _short(a), _short(b))
        console.print(listing)
        console.print()
    console.print(_sentence(found), style="bold yellow" if found.changed else "green" if found.tested else "magenta")


def _same_everywhere(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Parameters that tell no cells apart."""
    if not cells:
        return []
    return [name for name, value in cells[0].items() if all(cell.get(name) == value for cell in cells)]


def _table(shown: Sequence[Compared], same: Sequence[str]) -> Any:
    listing = table(None, "cell", "metric", "condition", "n", "A", "B", "B/A", "95 % interval", "p", "")
    for each in shown:
        interval = f"{each.ratio.low:.3f} to {each.ratio.high:.3f}" if each.ratio.known else ""
        listing.add_row(
            escape(named(each.cell, same)) or "-",
            escape(each.metric),
            escape(named(each.labels)) or "-",
            f"{each.repetitions[0]}, {each.repetitions[1]}",
            _with_unit(each.values[0], each.unit),
            _with_unit(each.values[1], each.unit),
            f"{each.ratio.value:.3f}" if math.isfinite(each.ratio.value) else "from 0",
            interval,
            "" if math.isnan(each.p) else f"{each.p:.2g}",
            f"[{_STYLES[each.change]}]{each.change}[/]",
        )
    return listing


def _with_unit(value: float, unit: str) -> str:
    if unit in ("bool", "share"):
        return f"{value:.1%}"
    return f"{value:,.4g}" if unit in ("", "1") else f"{value:,.4g} {unit}"


def _short(value: Any) -> str:
    text = "-" if value is None else str(value)
    return escape(text if len(text) <= 60 else text[:57] + "...")


def _left_out(found: Comparison) -> None:
    for side, counts in found.left_out.items():
        said = ", ".join(f"{count} {why}" for why, count in counts.items() if count)
        if said:
            hint = " (--saturated lets saturated ones count)" if counts["saturated"] else ""
            console.print(f"runs of {side.upper()} that do not count: {said}{hint}")


def _sentence(found: Comparison) -> str:
    few = len(found.compared) - found.tested
    lacking = f"; {few} had fewer than {LEAST_REPETITIONS} repetitions" if few else ""
    size = f"of {found.limits.threshold:.0%} or more" if found.limits.threshold else "of any size"
    changed = len(found.changed)
    return (
        f"{changed} of {found.tested} changed beyond noise (a change {size}, "
        f"at most {found.limits.alpha:.0%} false alarms){lacking}"
    )
