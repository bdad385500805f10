"""Statistics of measured values: medians, percentiles, intervals by bootstrap, growth exponents, tests. Pure.

Values that count as independent are repetitions, not the packets within one: reduce each repetition to a
number first (its median), then ask here. Everything random has a seed, so that the same values give the
same answer. An interval that cannot be told, as from one value alone, has NaN for its ends: each
comparison with it is false, so that no claim holds by accident.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mininetes.errors import BadInput

Values: TypeAlias = "Sequence[float] | NDArray[np.floating[Any]]"
Statistic: TypeAlias = Callable[[Values], float]

_AT_ONCE = 1 << 20
"""Drawn values that are held at once, whatever the number of values and of resamples."""
_EXACT_UP_TO = 400
"""Products of two samples' sizes up to which the rank test counts every arrangement."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with the ends of its confidence interval; the ends are NaN where they cannot be told."""

    value: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether there are ends."""
        return not (math.isnan(self.low) or math.isnan(self.high))

    def excludes(self, value: float) -> bool:
        """Whether ``value`` lies outside; never of an interval without ends."""
        return value < self.low or value > self.high

    def apart_from(self, other: Interval) -> bool:
        """Whether the two have no value in common; never where one has no ends."""
        return self.low > other.high or self.high < other.low

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]" if self.known else f"{self.value:.4g}"


@dataclass(frozen=True, slots=True)
class Percentile:
    """The statistic "q-th percentile", for `bootstrap`: ``bootstrap(values, Percentile(99))``."""

    q: float

    def __call__(self, values: Values) -> float:
        """The percentile of these values."""
        return percentile(values, self.q)


def _array(values: Values, least: int = 1, name: str = "values") -> NDArray[np.float64]:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or found.size < least:
        raise BadInput(name, int(found.size), f"a list of at least {least} numbers")
    if not np.isfinite(found).all():
        raise BadInput(name, float(found[~np.isfinite(found)][0]), "finite numbers; leave lost probes out")
    return found


def median(values: Values) -> float:
    """The middle value, or the mean of the middle two. Raises BadInput without values."""
    return float(np.median(_array(values)))


def percentile(values: Values, q: float) -> float:
    """The q-th percentile, 0 to 100, with straight lines between the values' ranks. Raises BadInput."""
    if not 0 <= q <= 100:
        raise BadInput("q", q, "a percentage from 0 to 100")
    return float(np.percentile(_array(values), q))


def mean(values: Values) -> float:
    """The arithmetic mean. Raises BadInput without values."""
    return float(np.mean(_array(values)))


def _drawn_percentiles(
    ordered: NDArray[np.float64], q: float, rng: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    """Percentiles of ``resamples`` samples drawn from ``ordered`` with replacement, without drawing the samples.

    The j-th smallest of n uniform numbers has the distribution Beta(j, n + 1 - j), and the value at that place
    is the j-th smallest of a sample. So a million values cost no more than ten.
    """
    size = ordered.size
    place = (size - 1) * q / 100
    lower = int(place)
    share = place - lower
    uniform = rng.beta(lower + 1, size - lower, resamples)
    found = ordered[np.minimum((uniform * size).astype(np.int64), size - 1)]
    if share > 0:
        above = 1 - (1 - uniform) * rng.random(resamples) ** (1 / (size - lower - 1))
        found = found * (1 - share) + share * ordered[np.minimum((above * size).astype(np.int64), size - 1)]
    return found


def _drawn(
    values: NDArray[np.float64], statistic: Statistic, rng: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    """The statistic of each of ``resamples`` samples drawn from the values with replacement."""
    if statistic is median or isinstance(statistic, Percentile):
        q = statistic.q if isinstance(statistic, Percentile) else 50.0
        return _drawn_percentiles(np.sort(values), q, rng, resamples)
    found = np.empty(resamples)
    step = max(1, _AT_ONCE // values.size)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        samples = values[rng.integers(0, values.size, (count, values.size))]
        if statistic is mean:
            found[start : start + count] = samples.mean(axis=1)
        else:
            found[start : start + count] = [statistic(sample) for sample in samples]
    return found


def _interval(value: float, drawn: NDArray[np.float64], confidence: float) -> Interval:
    tail = 50 * (1 - confidence)
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return Interval(value, float(low), float(high))


def _check(confidence: float, resamples: int) -> None:
    if not 0 < confidence < 1:
        raise BadInput("confidence", confidence, "a part of 1, such as 0.95")
    if resamples < 100:
        raise BadInput("resamples", resamples, "at least 100")


def bootstrap(
    values: Values,
    statistic: Statistic = median,
    *,
    confidence: float = 0.95,
    seed: int = 1,
    resamples: int = 2000,
) -> Interval:
    """The statistic with its percentile-bootstrap interval; without ends for a single value.

    ``statistic`` is `median`, `mean`, ``Percentile(99)`` (all fast at any size) or any function of the values.
    Below some eight values the interval is too narrow. Raises BadInput.
    """
    _check(confidence, resamples)
    found = _array(values)
    value = statistic(found)
    if found.size < 2:
        return Interval(value, math.nan, math.nan)
    return _interval(value, _drawn(found, statistic, np.random.default_rng(seed), resamples), confidence)


def bootstrap_ratio(
    numerator: Values,
    denominator: Values,
    statistic: Statistic = median,
    *,
    confidence: float = 0.95,
    seed: int = 1,
    resamples: int = 2000,
) -> Interval:
    """statistic(numerator) / statistic(denominator), each drawn on its own; no ends where one has a single value.

    Raises BadInput, also when the denominator's statistic is 0.
    """
    _check(confidence, resamples)
    upper, lower = _array(numerator, name="numerator"), _array(denominator, name="denominator")
    below = statistic(lower)
    if below == 0:
        raise BadInput("denominator", 0, "values whose statistic is not 0")
    value = statistic(upper) / below
    if min(upper.size, lower.size) < 2:
        return Interval(value, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    top, bottom = (_drawn(each, statistic, rng, resamples) for each in (upper, lower))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = top / bottom
    ratios = ratios[np.isfinite(ratios)]
    return _interval(value, ratios, confidence) if ratios.size else Interval(value, math.nan, math.nan)


def growth_exponent(
    sizes: Values, values: Values, *, confidence: float = 0.95, seed: int = 1, resamples: int = 2000
) -> Interval:
    """The slope of a straight line through (log size, log value): 1 is linear, 2 quadratic, 0 flat.

    Pairs with the same size are repetitions, and are drawn anew within their size; with one value a size the
    residuals are drawn instead. No ends where neither can be done. Raises BadInput for fewer than two sizes
    and for numbers that are not above 0.
    """
    _check(confidence, resamples)
    x, y = _array(sizes, 2, "sizes"), _array(values, 2, "values")
    if x.size != y.size:
        raise BadInput("values", y.size, f"as many as there are sizes ({x.size})")
    if x.min() <= 0 or y.min() <= 0:
        raise BadInput("sizes and values", float(min(x.min(), y.min())), "numbers above 0: they have logarithms")
    x, y = np.log(x), np.log(y)
    groups = [np.flatnonzero(x == each) for each in np.unique(x)]
    if len(groups) < 2:
        raise BadInput("sizes", 1, "at least two different ones")
    centred = x - x.mean()
    weights = centred / (centred @ centred)
    slope = float(weights @ y)
    rng = np.random.default_rng(seed)
    if min(map(len, groups)) > 1:
        slopes = np.zeros(resamples)
        for group in groups:
            slopes += weights[group[0]] * y[group][rng.integers(0, group.size, (resamples, group.size))].sum(axis=1)
        return _interval(slope, slopes, confidence)
    if y.size < 3:
        return Interval(slope, math.nan, math.nan)
    residuals = (y - y.mean() - slope * centred) * math.sqrt(y.size / (y.size - 2))
    drawn = slope + residuals[rng.integers(0, y.size, (resamples, y.size))] @ weights
    return _interval(slope, drawn, confidence)


def mann_whitney(a: Values, b: Values) -> float:
    """The two-sided p value that values of ``a`` and ``b`` are as likely to be above each other.

    Exact for small samples without ties (up to 20 against 20), else by the normal distribution with
    corrections for ties and continuity. Raises BadInput.
    """
    first, second = _array(a, name="a"), _array(b, name="b")
    n, m = first.size, second.size
    ordered = np.sort(second)
    below, up_to = np.searchsorted(ordered, first, "left"), np.searchsorted(ordered, first, "right")
    wins = float((below + up_to).sum()) / 2
    _, ties = np.unique(np.concatenate([first, second]), return_counts=True)
    if n * m <= _EXACT_UP_TO and ties.max() == 1:
        counts = _arrangements(n, m)
        tail = sum(counts[: int(min(wins, n * m - wins)) + 1])
        return min(1.0, 2 * tail / sum(counts))
    total = n + m
    tied = float((ties.astype(np.float64) ** 3 - ties).sum()) / (total * (total - 1))
    variance = n * m / 12 * (total + 1 - tied)
    if variance <= 0:
        return 1.0
    away = max(0.0, abs(wins - n * m / 2) - 0.5) / math.sqrt(variance)
    return math.erfc(away / math.sqrt(2))


def _arrangements(n: int, m: int) -> list[int]:
    """How many orders of n and m values give each number of wins: the coefficients of Gauss's binomial."""
    counts = [1] + [0] * (n * m)
    for k in range(1, n + 1):
        for place in range(n * m, m + k - 1, -1):
            counts[place] -= counts[place - m - k]
        for place in range(k, n * m + 1):
            counts[place] += counts[place - k]
    return counts


def permutation(a: Values, b: Values, statistic: Statistic = mean, *, seed: int = 1, resamples: int = 10_000) -> float:
    """The two-sided p value of the difference of a statistic, by dealing the values out anew. Raises BadInput.

    Never 0: the values as they are count as one of the deals, so the smallest p is 1 / (resamples + 1).
    """
    _check(0.95, resamples)
    first, second = _array(a, name="a"), _array(b, name="b")
    together = np.concatenate([first, second])
    seen = abs(statistic(first) - statistic(second))
    nearly = seen - 1e-12 * max(1.0, abs(seen))
    rng = np.random.default_rng(seed)
    beyond = 0
    step = max(1, _AT_ONCE // together.size)
    for start in range(0, resamples, step):
        dealt = rng.permuted(np.tile(together, (min(step, resamples - start), 1)), axis=1)
        left, right = dealt[:, : first.size], dealt[:, first.size :]
        if statistic is mean:
            away = np.abs(left.mean(axis=1) - right.mean(axis=1))
        else:
            away = np.array([abs(statistic(x) - statistic(y)) for x, y in zip(left, right, strict=True)])
        beyond += int((away >= nearly).sum())
    return (beyond + 1) / (resamples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted so that the chance of any false alarm among all of them is kept (Holm's steps down)."""
    found = [0.0] * len(p_values)
    highest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        found[index] = highest
    return found


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """p values adjusted so that the expected part of false ones among the alarms is kept."""
    found = [0.0] * len(p_values)
    lowest = 1.0
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for place in range(len(order), 0, -1):
        lowest = min(lowest, p_values[order[place - 1]] * len(p_values) / place)
        found[order[place - 1]] = lowest
    return found
