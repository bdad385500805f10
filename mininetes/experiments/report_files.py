"""A result as CSV: every row, and a summary by cell, metric and condition."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mininetes.errors import MininetesError
from mininetes.experiments.gathering import key_of
from mininetes.experiments.report_reading import Told, percentiles
from mininetes.experiments.results import Row
from mininetes.experiments.statistics import Interval, bootstrap, mean, median

ROWS_CSV, SUMMARY_CSV = "rows.csv", "summary.csv"
_TAILS = (50.0, 90.0, 99.0)


@dataclass(frozen=True)
class Line:
    """One metric under one condition of one cell: repetitions' median with its interval, and all values' tails."""

    cell: Mapping[str, Any]
    metric: str
    unit: str
    labels: Mapping[str, Any]
    repetitions: int
    middle: Interval | None
    """Over repetitions, 95 %; of yes and no the mean share. None where all was lost."""
    tails: Mapping[str, float]
    """Percentiles of all values of all repetitions together."""
    values: int
    lost: int


def summary(told: Told) -> list[Line]:
    """A line for each group of the result."""
    found = []
    for _, group in told.gathered.groups(saturated=told.saturated):
        numbers = list(group.reduced().values())
        statistic = mean if group.unit == "bool" else median
        every = group.every()
        tails = {} if group.unit == "bool" else dict(zip(map(_named, _TAILS), percentiles(every, _TAILS), strict=True))
        lost = sum(group.lost.values())
        found.append(
            Line(
                group.cell,
                group.metric,
                group.unit,
                group.labels,
                len({*group.values, *group.lost}),
                bootstrap(numbers, statistic) if numbers else None,
                tails,
                len(every),
                lost,
            )
        )
    return found


def _named(q: float) -> str:
    return f"p{q:02.0f}"


def write(told: Told, rows: Iterable[Row], lines: Iterable[Line]) -> None:
    """Write rows.csv and summary.csv into the result's folder, each whole or not at all. Raises MininetesError."""
    _write(told.folder / ROWS_CSV, _row_table(told, list(rows)))
    _write(told.folder / SUMMARY_CSV, _summary_table(list(lines)))


def _write(path: Path, table: Iterator[list[Any]]) -> None:
    fresh = path.with_name(path.name + ".new")
    try:
        with fresh.open("w", newline="") as file:
            csv.writer(file).writerows(table)
        fresh.rename(path)
    except OSError as failed:
        raise MininetesError(f"{path} could not be written: {failed.strerror}") from None
    finally:
        fresh.unlink(missing_ok=True)


def _row_table(told: Told, rows: list[Row]) -> Iterator[list[Any]]:
    """Columns for every parameter and label that there is; whether a row's run counts; without the runs' own ends."""
    parameters = dict.fromkeys(key for row in rows for key in row.cell)
    labels = dict.fromkeys(key for row in rows if not row.ends_run for key in row.measurement.labels)
    trusted = told.gathered.trusted(saturated=told.saturated)
    yield [
        *parameters,
        "repetition",
        "counts",
        "metric",
        "value",
        "unit",
        *(_apart(each, parameters) for each in labels),
    ]
    for row in rows:
        one = row.measurement
        if row.ends_run:
            continue
        counts = "yes" if (key_of(row.cell), row.repetition) in trusted else "no"
        yield [
            *(_cell(row.cell.get(key)) for key in parameters),
            row.repetition,
            counts,
            one.metric,
            one.value,
            one.unit,
            *(_cell(one.labels.get(key)) for key in labels),
        ]


def _apart(label: str, parameters: Mapping[str, Any]) -> str:
    """A label's column: named otherwise where a parameter has its name."""
    return f"label.{label}" if label in parameters else label


def _summary_table(lines: list[Line]) -> Iterator[list[Any]]:
    parameters = dict.fromkeys(key for line in lines for key in line.cell)
    labels = dict.fromkeys(key for line in lines for key in line.labels)
    tails = dict.fromkeys(key for line in lines for key in line.tails)
    numbers = ["repetitions", "median", "low_95", "high_95", *tails, "values", "lost"]
    yield [*parameters, "metric", "unit", *(_apart(each, parameters) for each in labels), *numbers]
    for line in lines:
        middle = line.middle
        yield [
            *(_cell(line.cell.get(key)) for key in parameters),
            line.metric,
            line.unit,
            *(_cell(line.labels.get(key)) for key in labels),
            line.repetitions,
            *((_number(middle.value), _number(middle.low), _number(middle.high)) if middle else ("", "", "")),
            *(_number(line.tails.get(key, math.nan)) for key in tails),
            line.values,
            line.lost,
        ]


def _number(value: float) -> Any:
    return "" if math.isnan(value) else value


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (dict, list, bool)) else value
