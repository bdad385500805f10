"""Two results of one experiment held against each other: per cell, metric and condition, what changed beyond noise.

The repetition is the unit: each is reduced to one number, and the numbers of A and B are compared by ranks
(Mann and Whitney). p values are adjusted for the number of comparisons (Benjamini and Hochberg): where nothing
changed, the chance of any alarm in the whole table is at most `Limits.alpha`, and otherwise that is the expected
part of false ones among the alarms. A change is one that is beyond that and at least of a practical size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from mininetes.errors import BadInput
from mininetes.experiments import context, results
from mininetes.experiments.gathering import Gathered, Group, Key, gather
from mininetes.experiments.statistics import Interval, benjamini_hochberg, bootstrap_ratio, mann_whitney, mean, median

LEAST_REPETITIONS = 10
Change = Literal["higher", "lower", "within noise", "too few"]
Sides: TypeAlias = dict[Key, tuple[Group, dict[int, float]]]
_OF_THE_MOMENT = ("schema", "started", "starts", "duration_s", "load", "complete", "runs", "experiment.parameters")


@dataclass(frozen=True)
class Limits:
    """What counts as a change: the part of false alarms, and the smallest part by which something must change."""

    alpha: float = 0.01
    threshold: float = 0.05
    saturated: bool = False
    """Whether runs count in which the machine was too busy."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise BadInput("--alpha", self.alpha, "a chance above 0 and below 1, such as 0.01")
        if not 0 <= self.threshold < math.inf:
            raise BadInput("--threshold", self.threshold, "a part, such as 0.05 for 5 %")


@dataclass(frozen=True)
class Compared:
    """One metric under one condition of one cell, in A and in B; ``ratio`` is B over A with its 95 % interval."""

    cell: Mapping[str, Any]
    metric: str
    unit: str
    labels: Mapping[str, Any]
    repetitions: tuple[int, int]
    values: tuple[float, float]
    ratio: Interval
    p: float
    """Adjusted; NaN where there are too few repetitions."""
    change: Change

    def as_json(self) -> dict[str, Any]:
        """As plain JSON: what is not a number is null."""
        return {
            "cell": dict(self.cell),
            "metric": self.metric,
            "unit": self.unit,
            "labels": dict(self.labels),
            "repetitions": list(self.repetitions),
            "a": _number(self.values[0]),
            "b": _number(self.values[1]),
            "ratio": {key: _number(getattr(self.ratio, key)) for key in ("value", "low", "high")},
            "p": _number(self.p),
            "change": self.change,
        }


@dataclass(frozen=True)
class Comparison:
    """The whole table, with what could not be compared and what differs in what the two ran on."""

    experiment: str
    a: Path
    b: Path
    limits: Limits
    compared: Sequence[Compared]
    only_in: Mapping[str, Sequence[str]]
    """By "a" and "b": cells and conditions that the other has not."""
    left_out: Mapping[str, Mapping[str, int]]
    """By "a" and "b": how many runs did not count, as failed, saturated or torn."""
    differs: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def changed(self) -> list[Compared]:
        """What changed beyond noise."""
        return [each for each in self.compared if each.change in ("higher", "lower")]

    @property
    def tested(self) -> int:
        """How many comparisons had repetitions enough."""
        return sum(each.change != "too few" for each in self.compared)

    def as_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "schema": 1,
            "experiment": self.experiment,
            "a": str(self.a),
            "b": str(self.b),
            "alpha": self.limits.alpha,
            "threshold": self.limits.threshold,
            "changed": len(self.changed),
            "tested": self.tested,
            "comparisons": [each.as_json() for each in self.compared],
            "only_in": {side: list(names) for side, names in self.only_in.items()},
            "left_out": {side: dict(counts) for side, counts in self.left_out.items()},
            "differs": {name: list(pair) for name, pair in self.differs.items()},
        }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def compare(a: Path, b: Path, limits: Limits | None = None) -> Comparison:
    """Hold result B against result A.

    Raises BadInput when one is no result, they are of different experiments, or a newer version wrote one.
    """
    contexts = {"a": context.read(a), "b": context.read(b)}
    found = {"a": gather(results.read(a)), "b": gather(results.read(b))}
    for side, folder in (("a", a), ("b", b)):
        if not found[side].rows:
            raise BadInput("result", str(folder), "a result with rows; this one has none")
    names = [found[side].experiment for side in ("a", "b")]
    if names[0] != names[1]:
        raise BadInput("results", f"{a} and {b}", f"two of one experiment, not of {names[0]} and {names[1]}")
    limits = limits or Limits()
    found["a"].align(found["b"])
    compared, only_in = compare_gathered(found["a"], found["b"], limits)
    left_out = {side: _left_out(each, limits) for side, each in found.items()}
    return Comparison(names[0], a, b, limits, compared, only_in, left_out, differing(contexts["a"], contexts["b"]))


def _left_out(gathered: Gathered, limits: Limits) -> dict[str, int]:
    counts = {"failed": 0, "saturated": 0, "torn": 0}
    trusted = gathered.trusted(saturated=limits.saturated)
    for key, run in gathered.runs.items():
        if key not in trusted:
            counts["failed" if run.error is not None else "saturated" if run.is_saturated else "torn"] += 1
    return counts


def _sides(gathered: Gathered, limits: Limits) -> Sides:
    """Each group's numbers by repetition; what was lost, and runs that failed, are metrics of their own."""
    found: Sides = {}
    for (metric, cell, labels), group in gathered.groups(saturated=limits.saturated):
        found[metric, cell, labels] = group, group.reduced()
        lost = Group(group.cell, f"{metric}: lost", "share", group.labels)
        found[f"{metric}: lost", cell, labels] = lost, group.lost_share()
    for cell, runs in gathered.cells().items():
        ended = {
            run.repetition: float(run.error is not None) for run in runs if (cell, run.repetition) in gathered.ended
        }
        found["runs: failed", cell, ()] = Group(runs[0].cell, "runs: failed", "share", {}), ended
    return found


def compare_gathered(a: Gathered, b: Gathered, limits: Limits) -> tuple[list[Compared], dict[str, list[str]]]:
    """Compare what both have; return that, and the names of what only one has."""
    sides = _sides(a, limits), _sides(b, limits)
    both = [key for key in sides[0] if key in sides[1] and _worth_saying(sides[0][key], sides[1][key])]
    pairs = [(sides[0][key], sides[1][key]) for key in both]
    p_values = _adjusted([(list(first[1].values()), list(second[1].values())) for first, second in pairs])
    compared = [_compared(*first, second[1], p, limits) for (first, second), p in zip(pairs, p_values, strict=True)]
    compared.sort(key=lambda each: (json.dumps(each.cell, sort_keys=True), each.metric, str(each.labels)))
    only_in = {"a": _names_of_others(*sides), "b": _names_of_others(*reversed(sides))}
    return compared, only_in


def _adjusted(pairs: Sequence[tuple[list[float], list[float]]]) -> list[float]:
    """A p value for each pair, adjusted for their number; NaN for too few, 1 for what is the same throughout."""
    found = []
    for first, second in pairs:
        if min(len(first), len(second)) < LEAST_REPETITIONS:
            found.append(math.nan)
        else:
            found.append(1.0 if len({*first, *second}) == 1 else mann_whitney(first, second))
    tested = [place for place, p in enumerate(found) if p < 1]
    for place, p in zip(tested, benjamini_hochberg([found[place] for place in tested]), strict=True):
        found[place] = p
    return found


def _names_of_others(mine: Sides, others: Sides) -> list[str]:
    return sorted({_name(mine[key][0]) for key in mine if key not in others and mine[key][1] and _plain(key)})


def _plain(key: Key) -> bool:
    return not str(key[0]).endswith((": lost", ": failed"))


def _worth_saying(first: tuple[Group, dict[int, float]], second: tuple[Group, dict[int, float]]) -> bool:
    """Loss and failures are compared only where there are any: a table full of zeros hides what counts."""
    if first[0].unit != "share" or not first[0].metric.endswith((": lost", ": failed")):
        return bool(first[1] and second[1])
    return any([*first[1].values(), *second[1].values()])


def _name(group: Group) -> str:
    facts = {**group.cell, **group.labels}
    return f"{group.metric} ({', '.join(f'{key}={value}' for key, value in facts.items())})"


def _compared(group: Group, a: dict[int, float], b: dict[int, float], p: float, limits: Limits) -> Compared:
    first, second = list(a.values()), list(b.values())
    statistic = mean if group.unit in ("bool", "share") else median
    values = statistic(first), statistic(second)
    try:
        ratio = bootstrap_ratio(second, first, statistic)
    except BadInput:  # nothing can be divided by 0: what comes from 0 is infinitely more
        ratio = Interval(math.inf if values[1] else 1.0, math.nan, math.nan)
    change: Change = "within noise"
    if math.isnan(p):
        change = "too few"
    elif p < limits.alpha and _practical(values, limits.threshold):
        change = "higher" if values[1] > values[0] else "lower"
    counts = len(first), len(second)
    return Compared(group.cell, group.metric, group.unit, group.labels, counts, values, ratio, p, change)


def _practical(values: tuple[float, float], threshold: float) -> bool:
    """Whether the larger is above the smaller by at least that part of it."""
    low, high = sorted(map(abs, values))
    if values[0] * values[1] <= 0:
        return values[0] != values[1]
    return high / low - 1 >= threshold and high != low


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What is not the same in two contexts, by dotted path; times and loads always differ and do not count."""
    flat = _flat(a), _flat(b)
    names = [name for name in dict.fromkeys([*flat[0], *flat[1]]) if not name.startswith(_OF_THE_MOMENT)]
    return {name: (flat[0].get(name), flat[1].get(name)) for name in names if flat[0].get(name) != flat[1].get(name)}


def _flat(facts: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in facts.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{name}.")
        else:
            found[before + name] = value
    return found
