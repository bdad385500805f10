"""Judging a published shape: ratios inside one run, and the verdict that they allow.

What else went on on the machine during a run slows both sides of a ratio, so that it says more than two absolute
values do. The run (one repetition of one cell) is the unit: each gives one ratio, and the interval is over runs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from mininetes.experiments.grouping import value_of
from mininetes.experiments.published import Holds, Verdict
from mininetes.experiments.results import Row
from mininetes.experiments.statistics import Interval, Statistic, bootstrap, bootstrap_ratio, median

FEWEST_RUNS = 3
"""With fewer, nothing is claimed."""

Test = Callable[[Interval], "bool | None"]
"""Whether an interval has the shape; None where it decides nothing."""

Run = tuple[str, int]
"""A cell's parameters as JSON, and the repetition."""


def by_run(
    rows: Iterable[Row],
    metric: str,
    condition: str,
    *,
    where: Mapping[str, Any] | None = None,
    statistic: Statistic = median,
) -> dict[Run, dict[Any, float]]:
    """A metric's value of each run under each condition (a label, or a parameter): {run: {"bare": 31.4, ...}}.

    ``where`` keeps only rows that have these labels or parameters. Null values do not count.
    """
    found: dict[Run, dict[Any, list[float]]] = {}
    for row in rows:
        one = row.measurement
        if one.metric != metric or one.value is None:
            continue
        if where and any(value_of(row, name) != wanted for name, wanted in where.items()):
            continue
        run = (json.dumps(dict(row.cell), sort_keys=True), row.repetition)
        found.setdefault(run, {}).setdefault(value_of(row, condition), []).append(one.value)
    return {run: {key: statistic(values) for key, values in each.items()} for run, each in found.items()}


def measured_as(rows: Iterable[Row], *metrics: str) -> str:
    """The first of these metrics that the rows have; the last when they have none."""
    there = {row.measurement.metric for row in rows if row.measurement.value is not None}
    return next((metric for metric in metrics if metric in there), metrics[-1])


def ratios(runs: Mapping[Run, Mapping[Any, float]], above: Any, below: Any) -> list[float]:
    """The ratio of two conditions in each run that has both."""
    return [each[above] / each[below] for each in runs.values() if above in each and each.get(below)]


def differences(first: Mapping[Run, float], second: Mapping[Run, float]) -> list[float]:
    """First less second, in each run that has both."""
    return [value - second[run] for run, value in first.items() if run in second]


def ratio_of(runs: Mapping[Run, Mapping[Any, float]], above: Any, below: Any) -> dict[Run, float]:
    """As `ratios`, by run."""
    return {run: each[above] / each[below] for run, each in runs.items() if above in each and each.get(below)}


def interval(values: Sequence[float]) -> Interval | None:
    """The median with its interval; None of fewer than `FEWEST_RUNS` values."""
    return bootstrap(values) if len(values) >= FEWEST_RUNS else None


def judged(
    claim: str, published: str, values: Sequence[float], holds: Test, *, row: str = "", what: str = ""
) -> Verdict:
    """A verdict on one value a run. ``holds`` says of their interval yes, no, or that it decides nothing (None)."""
    found = interval(values)
    if found is None:
        return _too_few(claim, published, len(values), row)
    return _verdict(claim, published, f"{what} {found} over {len(values)} runs".strip(), holds(found), row)


def judged_apart(
    claim: str,
    published: str,
    above: Sequence[float],
    below: Sequence[float],
    holds: Test,
    *,
    row: str = "",
    what: str = "",
) -> Verdict:
    """As `judged`, on the ratio of two groups of runs that have nothing to do with each other."""
    runs = min(len(above), len(below))
    if runs < FEWEST_RUNS:
        return _too_few(claim, published, runs, row)
    found = bootstrap_ratio(above, below)
    measured = f"{what} {found} over {len(above)} and {len(below)} runs".strip()
    return _verdict(claim, published, measured, holds(found), row)


def _too_few(claim: str, published: str, runs: int, row: str) -> Verdict:
    measured = f"{runs} runs of it; at least {FEWEST_RUNS} are needed"
    return Verdict(claim, published, measured, "not at this size", row)


def _verdict(claim: str, published: str, measured: str, said: bool | None, row: str) -> Verdict:
    answer: Holds = "not at this size" if said is None else "yes" if said else "no"
    return Verdict(claim, published, measured, answer, row)


def between(least: float, most: float) -> Test:
    """Whether the median lies there; no only when the whole interval lies elsewhere, else nothing is decided."""

    def holds(found: Interval) -> bool | None:
        if least <= found.value <= most:
            return True
        return False if found.high < least or found.low > most else None

    return holds


def at_least(limit: float) -> Test:
    """Whether the median is no less; no only when the whole interval is less."""
    return between(limit, math.inf)


def at_most(limit: float) -> Test:
    """Whether the median is no more; no only when the whole interval is more."""
    return between(-math.inf, limit)


def surely(side: Literal["above", "below"], limit: float) -> Test:
    """Whether the whole interval lies on that side; no when it lies on the other, else nothing is decided."""

    def holds(found: Interval) -> bool | None:
        if found.excludes(limit):
            return (found.low > limit) == (side == "above")
        return None

    return holds
