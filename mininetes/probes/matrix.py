"""The reachability matrix: what was expected of each pair, and what packets have shown. Pure."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol

from mininetes.probes.outcomes import Outcome, Seen
from mininetes.probes.vantage import Flow

if TYPE_CHECKING:
    from rich.table import Table

LARGEST_TABLE = 30
"""Sources or targets that are shown one by one; beyond it the table is by node, and beyond that by kind."""


class Verdict(enum.Enum):
    """How a measured pair compares with what was expected."""

    REACHED = "reached"
    """It answers, as expected."""
    UNREACHED = "unreached"
    """It does not answer, as expected."""
    LOST = "lost"
    """It should have answered, and did not."""
    LEAKED = "leaked"
    """It answered, and should not have been reachable."""

    @property
    def holds(self) -> bool:
        """Whether what was expected is what was seen."""
        return self in (Verdict.REACHED, Verdict.UNREACHED)


class Expected(Protocol):
    """What an expectation function returns: any object with these two."""

    @property
    def reached(self) -> bool:
        """Whether the target should answer."""

    @property
    def reason(self) -> str:
        """Why, in a few words."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """A plain `Expected`."""

    reached: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """One flow: plain values, so that it goes through JSON and comes back the same (``Cell(**row)``)."""

    source: str
    source_kind: str
    source_node: str
    target: str
    target_kind: str
    target_node: str
    address: str
    protocol: str
    port: int
    expected: bool
    reason: str
    seen: str
    saw: str
    """``seen`` with what is known about it: which ICMP error from whom, or who answered instead."""
    attempts: int
    answers: int
    rtt_us: float | None

    @property
    def reached(self) -> bool:
        """Whether the target answered."""
        return self.seen == Seen.ANSWERED.value

    @property
    def verdict(self) -> Verdict:
        """Expected against measured."""
        if self.reached:
            return Verdict.REACHED if self.expected else Verdict.LEAKED
        return Verdict.LOST if self.expected else Verdict.UNREACHED

    def __str__(self) -> str:
        where = f"{self.address}:{self.port}/{self.protocol}" if self.port else f"{self.address} {self.protocol}"
        wanted = "an answer" if self.expected else "no answer"
        why = f" ({self.reason})" if self.reason else ""
        tries = f" after {self.attempts} attempts" if self.attempts > 1 and not self.reached else ""
        return f"{self.source} -> {self.target} ({where}): expected {wanted}{why}, saw {self.saw}{tries}"


Expect = Callable[[Flow], Expected]


_FIELDS = tuple(each.name for each in fields(Cell))
_VALUES = attrgetter(*_FIELDS)


@dataclass(frozen=True)
class ReachabilityMatrix:
    """All cells of one measurement, in the order of the flows."""

    cells: tuple[Cell, ...]

    @classmethod
    def compare(cls, outcomes: Iterable[Outcome], expect: Expect) -> ReachabilityMatrix:
        """Put what was measured beside what is expected of each flow."""
        return cls(tuple(_cell(outcome, expect(outcome.flow)) for outcome in outcomes))

    def rows(self) -> list[dict[str, Any]]:
        """Return a JSON object for each cell: its fields, and ``verdict``."""
        return [{**asdict(cell), "verdict": cell.verdict.value} for cell in self.cells]

    def packed(self) -> dict[str, list[Any]]:
        """The same for a program of ours, in less than half: the fields' names once, and of each cell the values."""
        return {"fields": list(_FIELDS), "cells": [_VALUES(cell) for cell in self.cells]}

    @classmethod
    def unpacked(cls, packed: Mapping[str, Any]) -> ReachabilityMatrix:
        """Undo `packed`, after JSON."""
        assert packed["fields"] == list(_FIELDS)
        return cls(tuple(Cell(*values) for values in packed["cells"]))

    @property
    def mismatches(self) -> tuple[Cell, ...]:
        """The cells that are not as expected; ``str(cell)`` says it in words."""
        return tuple(cell for cell in self.cells if not cell.verdict.holds)

    @property
    def holds(self) -> bool:
        """Whether every cell is as expected."""
        return not self.mismatches

    def counts(self) -> dict[str, int]:
        """Return how many cells there are of each verdict, and ``total``."""
        found = Counter(cell.verdict for cell in self.cells)
        return {**{verdict.value: found[verdict] for verdict in Verdict}, "total": len(self.cells)}

    def summary(self) -> str:
        """Return the counts in one line."""
        counts = self.counts()
        wrong = counts["lost"] + counts["leaked"]
        line = f"{counts['total']} pairs: {counts['reached']} reached, {counts['unreached']} unreached as expected"
        if not wrong:
            return f"{line}, no mismatch"
        return f"{line}, {wrong} mismatches ({counts['lost']} lost, {counts['leaked']} reached against expectation)"

    def table(self, title: str = "", largest: int = LARGEST_TABLE) -> Table:
        """Return the matrix as a table for a terminal: one by one, by node, or by kind, as it fits."""
        for label in (_by_name, _by_node, _by_kind):
            sources = list(dict.fromkeys(label(cell, True) for cell in self.cells))
            named = list(dict.fromkeys(label(cell, False) for cell in self.cells))
            targets = [name for name in sources if name in named] + [name for name in named if name not in sources]
            if max(len(sources), len(targets), 0) <= largest:
                break
        groups: dict[tuple[str, str], list[Cell]] = {}
        for cell in self.cells:
            groups.setdefault((label(cell, True), label(cell, False)), []).append(cell)
        return _table(title, sources, targets, groups, one_by_one=label is _by_name)


def _cell(outcome: Outcome, expected: Expected) -> Cell:
    source, target = outcome.flow.source, outcome.flow.target
    return Cell(
        source=source.name,
        source_kind=source.kind,
        source_node=source.node,
        target=target.name,
        target_kind=target.kind,
        target_node=target.node,
        address=target.address,
        protocol=outcome.flow.protocol,
        port=outcome.flow.port,
        expected=expected.reached,
        reason=expected.reason,
        seen=outcome.seen.value,
        saw=str(outcome),
        attempts=outcome.attempts,
        answers=outcome.answers,
        rtt_us=outcome.rtt_us,
    )


def _by_name(cell: Cell, source: bool) -> str:
    return cell.source if source else cell.target


def _by_node(cell: Cell, source: bool) -> str:
    kind, node = (cell.source_kind, cell.source_node) if source else (cell.target_kind, cell.target_node)
    return f"{kind}s on {node}" if kind == "pod" else _by_kind(cell, source)


def _by_kind(cell: Cell, source: bool) -> str:
    kind = cell.source_kind if source else cell.target_kind
    return kind if kind == "outside" else f"{kind}s"


_SIGNS = {
    Verdict.REACHED: "[green]●[/]",
    Verdict.UNREACHED: "[dim]·[/]",
    Verdict.LOST: "[bold red]✗[/]",
    Verdict.LEAKED: "[bold yellow]![/]",
}
_LEGEND = "● reached   · not reached, as expected\n✗ lost   ! reached against expectation"
_LEGEND_OF_GROUPS = "answered/asked, of them\n✗ lost   ! reached against expectation"


def _table(
    title: str,
    sources: list[str],
    targets: list[str],
    groups: Mapping[tuple[str, str], list[Cell]],
    *,
    one_by_one: bool,
) -> Table:
    """Return the table; columns have numbers, which the first column explains, so that it stays narrow."""
    from rich import box  # noqa: PLC0415 - takes 50 ms, and only terminals need it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    numbers = {name: str(n) for n, name in enumerate(dict.fromkeys([*sources, *targets]), start=1)}
    legend = [_LEGEND if one_by_one else _LEGEND_OF_GROUPS]
    if one_by_one:
        legend += [f"{numbers[target]} {target}" for target in targets if target not in sources]
    table = Table(
        title=Text(title) if title else None,
        caption=Text("\n".join(legend)),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        min_width=40,
    )
    width = len(str(len(numbers)))
    table.add_column("from \\ to", no_wrap=True)
    for target in targets:
        table.add_column(Text(numbers[target] if one_by_one else target), justify="center", no_wrap=one_by_one)
    for source in sources:
        shown = [_sign(groups.get((source, target), []), one_by_one=one_by_one) for target in targets]
        name = f"{numbers[source]:>{width}} {source}" if one_by_one else source
        table.add_row(Text(name), *shown)
    return table


def _sign(cells: list[Cell], *, one_by_one: bool) -> str:
    """Return what a table shows for the cells of one place: the worst, or how many."""
    if not cells:
        return ""
    found = Counter(cell.verdict for cell in cells)
    wrong = [verdict for verdict in (Verdict.LOST, Verdict.LEAKED) if found[verdict]]
    if one_by_one:
        return _SIGNS[(wrong or [cells[0].verdict])[0]]
    reached = f"{sum(cell.reached for cell in cells)}/{len(cells)}"
    colour = "red" if wrong else "green" if found[Verdict.REACHED] else "dim"
    return " ".join([f"[{colour}]{reached}[/]", *(f"{_SIGNS[verdict]}{found[verdict]}" for verdict in wrong)])
