"""A result's rows read once, as they come, and kept small: values by cell, metric, condition and repetition.

A million rows are a million doubles here, not a million objects. What tells conditions apart are a row's
labels (path, mode, phase), save those that only say which probe it was (sequence, source, target): these are
known by name, or by having more values than conditions have.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mininetes.experiments.results import Row, Run
from mininetes.experiments.statistics import mean, median

WHICH_ONE = frozenset(
    {
        "address", "answers", "attempt", "attempts", "endpoint", "error", "expected", "index", "measured",
        "node", "pod", "reason", "saw", "seen", "sequence", "service", "source", "target", "time_s", "verdict",
    }
)  # fmt: skip
"""Labels that say which probe it was, or what came of it: no conditions."""
MOST_CONDITIONS = 24
"""A label with more values than that within one metric says which one it was, too."""

Key = tuple[Hashable, ...]


def key_of(facts: Mapping[str, Any]) -> Hashable:
    """Something to look parameters or labels up by; equal for equal ones, in whichever order they come."""
    key = tuple(sorted(facts.items()))
    try:
        hash(key)
    except TypeError:
        return json.dumps(facts, sort_keys=True)
    return key


@dataclass
class Group:
    """The values of one metric under one condition of one cell, by repetition; and how many were lost."""

    cell: Mapping[str, Any]
    metric: str
    unit: str
    labels: Mapping[str, Any]
    values: dict[int, array[float]] = field(default_factory=dict)
    lost: dict[int, int] = field(default_factory=dict)

    def take(self, other: Group) -> None:
        """Add the values of a group that is no longer told apart from this one."""
        for repetition, values in other.values.items():
            self.values.setdefault(repetition, array("d")).extend(values)
        for repetition, count in other.lost.items():
            self.lost[repetition] = self.lost.get(repetition, 0) + count

    def reduced(self) -> dict[int, float]:
        """Each repetition's number: the median, or the share where values are yes or no."""
        statistic = mean if self.unit == "bool" else median
        return {repetition: statistic(values) for repetition, values in sorted(self.values.items()) if values}

    def lost_share(self) -> dict[int, float]:
        """Each repetition's part of values that got no answer."""
        found = {}
        for repetition in sorted({*self.values, *self.lost}):
            lost = self.lost.get(repetition, 0)
            found[repetition] = lost / (lost + len(self.values.get(repetition, ())))
        return found

    def every(self) -> array[float]:
        """All values of all repetitions."""
        found = array("d")
        for values in self.values.values():
            found.extend(values)
        return found


class Gathered:
    """What is kept of a result's rows. Rows of runs that failed, were torn or were saturated are left out later."""

    def __init__(self) -> None:
        self.experiment = ""
        self.rows = 0
        self.runs: dict[Key, Run] = {}
        """By cell and repetition. One whose end is not in the file is of unknown length and fidelity."""
        self.ended: set[Key] = set()
        self._groups: dict[str, dict[Key, Group]] = {}
        self._distinct: dict[str, dict[str, set[Hashable]]] = {}
        self._dropped: dict[str, set[str]] = {}

    def add(self, row: Row) -> None:
        """Keep what counts of a row."""
        one = row.measurement
        self.rows += 1
        self.experiment = row.experiment
        cell = key_of(row.cell)
        key = cell, row.repetition
        if row.ends_run:
            self.runs[key] = Run.of(row)
            self.ended.add(key)
            return
        if key not in self.runs:
            self.runs[key] = Run(row.experiment, row.cell, row.repetition, math.nan, None, 0, True, {})
        labels = self._conditions(one.metric, one.labels)
        groups = self._groups.setdefault(one.metric, {})
        condition = cell, key_of(labels)
        group = groups.get(condition)
        if group is None:
            group = groups[condition] = Group(row.cell, one.metric, one.unit, labels)
        if one.value is None:
            group.lost[row.repetition] = group.lost.get(row.repetition, 0) + 1
        else:
            group.values.setdefault(row.repetition, array("d")).append(one.value)

    def _conditions(self, metric: str, labels: Mapping[str, Any]) -> dict[str, Any]:
        dropped = self._dropped.setdefault(metric, set())
        distinct = self._distinct.setdefault(metric, {})
        kept = {}
        for name, value in labels.items():
            if name in WHICH_ONE or name in dropped:
                continue
            if isinstance(value, (dict, list)):
                dropped.add(name)
                continue
            known = distinct.setdefault(name, set())
            known.add(value)
            if len(known) > MOST_CONDITIONS:
                self._drop(metric, {name})
            else:
                kept[name] = value
        return kept

    def _drop(self, metric: str, names: set[str]) -> None:
        """Tell the groups of a metric no longer apart by these labels."""
        self._dropped[metric] |= names
        merged: dict[Key, Group] = {}
        for (cell, _), group in self._groups.get(metric, {}).items():
            labels = {name: value for name, value in group.labels.items() if name not in names}
            group.labels = labels
            key = (cell, key_of(labels))
            if key in merged:
                merged[key].take(group)
            else:
                merged[key] = group
        self._groups[metric] = merged

    def align(self, other: Gathered) -> None:
        """Have both tell apart the same conditions, so that their groups can be held against each other."""
        for metric in {*self._dropped, *other._dropped}:
            names = self._dropped.get(metric, set()) | other._dropped.get(metric, set())
            for each in (self, other):
                if names - each._dropped.get(metric, set()):
                    each._dropped.setdefault(metric, set())
                    each._drop(metric, names)

    def trusted(self, *, saturated: bool = False) -> set[Key]:
        """Keys of the runs whose values count: finished ones, and saturated ones where asked for.

        A run without an end counts only in a result where no run has one, as older files are.
        """
        return {
            key
            for key, run in self.runs.items()
            if run.error is None and (key in self.ended or not self.ended) and (saturated or not run.is_saturated)
        }

    def groups(self, *, saturated: bool = False) -> Iterator[tuple[Key, Group]]:
        """The groups by their keys (metric, cell, labels), with the values of trusted runs; none is empty."""
        trusted = self.trusted(saturated=saturated)
        for metric, groups in self._groups.items():
            for (cell, labels), group in groups.items():
                values = {at: each for at, each in group.values.items() if (cell, at) in trusted}
                lost = {at: count for at, count in group.lost.items() if (cell, at) in trusted}
                if values or lost:
                    yield (metric, cell, labels), Group(group.cell, metric, group.unit, group.labels, values, lost)

    def cells(self) -> dict[Hashable, list[Run]]:
        """The runs of each cell, in the order in which cells were measured."""
        found: dict[Hashable, list[Run]] = {}
        for (cell, _), run in self.runs.items():
            found.setdefault(cell, []).append(run)
        return found


def gather(rows: Iterable[Row]) -> Gathered:
    """Read rows to their end and keep what counts."""
    found = Gathered()
    for row in rows:
        found.add(row)
    return found
