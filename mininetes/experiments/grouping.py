"""Rows put together by parameters and labels, each repetition reduced to one number: the repetition is the unit."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from typing import Any

from mininetes.experiments.gathering import key_of
from mininetes.experiments.results import Row
from mininetes.experiments.statistics import Statistic, median


def value_of(row: Row, name: str) -> Any:
    """A row's label of that name, or else its cell's parameter; None where it has neither."""
    labels = row.measurement.labels
    return labels[name] if name in labels else row.cell.get(name)


def reduced(
    rows: Iterable[Row],
    metric: str,
    *by: str,
    statistic: Statistic = median,
    where: Mapping[str, Any] | None = None,
) -> dict[Any, list[float]]:
    """The values of a metric by labels or parameters, one value for each repetition of each cell.

    With one name in ``by`` the keys are its values, with several they are tuples. ``where`` keeps only rows
    that have these labels or parameters. Lost probes (null) do not count; a group in which all were lost is
    not there. Groups come in the order of their rows.
    """
    runs: dict[Any, dict[Any, array[float]]] = {}
    for row in rows:
        value = row.measurement.value
        if row.measurement.metric != metric or value is None:
            continue
        if where and any(value_of(row, name) != wanted for name, wanted in where.items()):
            continue
        key = value_of(row, by[0]) if len(by) == 1 else tuple(value_of(row, name) for name in by)
        runs.setdefault(key, {}).setdefault((key_of(row.cell), row.repetition), array("d")).append(value)
    return {key: [statistic(values) for values in found.values()] for key, found in runs.items()}


def series(
    rows: Iterable[Row],
    metric: str,
    name: str,
    x: str,
    *,
    statistic: Statistic = median,
    where: Mapping[str, Any] | None = None,
) -> dict[str, dict[Any, list[float]]]:
    """What `figures.lines` and `figures.bars` draw: values[series][x], one value for each repetition.

    ``name`` and ``x`` are labels or parameters: ``series(rows, "rtt_us", "mode", "services")``. The x of each
    series are sorted where they are numbers.
    """
    found: dict[str, dict[Any, list[float]]] = {}
    for (one, at), values in reduced(rows, metric, name, x, statistic=statistic, where=where).items():
        found.setdefault(str(one), {})[at] = values
    return {one: _sorted(points) for one, points in found.items()}


def _sorted(points: dict[Any, list[float]]) -> dict[Any, list[float]]:
    if all(isinstance(each, (int, float)) for each in points):
        return dict(sorted(points.items()))
    return points
