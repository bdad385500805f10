"""Statistics against known values: textbooks' examples, hand-made ones, and simulations with known truth."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from mininetes.errors import BadInput
from mininetes.experiments import statistics
from mininetes.experiments.statistics import Interval, Percentile

NORMAL = np.random.default_rng(7).normal(100, 5, 200)


@pytest.mark.parametrize(
    ("values", "q", "right"),
    [
        ([5], 50, 5),
        ([1, 2], 50, 1.5),
        ([3, 1, 2], 50, 2),
        ([1, 2, 3, 4], 0, 1),
        ([1, 2, 3, 4], 100, 4),
        ([1, 2, 3, 4, 5], 25, 2),
        ([10, 20, 30], 90, 28),
        (range(101), 99, 99),
    ],
)
def test_percentiles(values: Any, q: float, right: float) -> None:
    assert statistics.percentile(list(values), q) == pytest.approx(right)
    assert Percentile(q)(list(values)) == pytest.approx(right)
    if q == 50:
        assert statistics.median(list(values)) == right


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: statistics.median([]), "values"),
        (lambda: statistics.median([1, math.nan]), "finite"),
        (lambda: statistics.percentile([1], 101), "q"),
        (lambda: statistics.bootstrap([1, 2], confidence=1), "confidence"),
        (lambda: statistics.bootstrap([1, 2], resamples=1), "resamples"),
        (lambda: statistics.bootstrap_ratio([1, 2], [0, 0]), "denominator"),
        (lambda: statistics.bootstrap_ratio([], [1]), "numerator"),
        (lambda: statistics.growth_exponent([1, 1], [1, 2]), "different"),
        (lambda: statistics.growth_exponent([1, 2], [1, 0]), "above 0"),
        (lambda: statistics.growth_exponent([1, 2, 3], [1, 2]), "as many"),
        (lambda: statistics.mann_whitney([], [1]), "a:"),
        (lambda: statistics.permutation([1], []), "b:"),
    ],
)
def test_what_cannot_be_told_is_refused(call: Any, named: str) -> None:
    with pytest.raises(BadInput, match=named):
        call()


def test_one_value_has_no_interval_and_no_claim_holds_by_it() -> None:
    alone = statistics.bootstrap([7.0])
    assert alone.value == 7
    assert not alone.known
    assert not alone.excludes(1)
    assert not alone.apart_from(Interval(1, 1, 1))
    assert not Interval(1, 1, 1).apart_from(alone)
    assert str(alone) == "7"


def test_intervals_know_what_is_outside_them() -> None:
    assert Interval(2, 1, 3).excludes(0.9)
    assert Interval(2, 1, 3).excludes(3.1)
    assert not Interval(2, 1, 3).excludes(1)
    assert Interval(2, 1, 3).apart_from(Interval(5, 4, 6))
    assert not Interval(2, 1, 4).apart_from(Interval(5, 4, 6))
    assert str(Interval(2, 1, 3)) == "2 [1, 3]"


def test_the_same_values_and_seed_give_the_same_interval() -> None:
    assert statistics.bootstrap(NORMAL) == statistics.bootstrap(NORMAL)
    assert statistics.bootstrap(NORMAL) != statistics.bootstrap(NORMAL, seed=2)


@pytest.mark.parametrize("q", [50.0, 90.0, 99.0, 0.0, 100.0])
@pytest.mark.parametrize("size", [2, 3, 10, 11, 200])
def test_the_short_way_to_percentiles_draws_what_samples_would(q: float, size: int) -> None:
    """The distribution without samples and that of real samples have the same mean and spread, within chance."""
    values = NORMAL[:size]
    rng = np.random.default_rng(3)
    short = statistics._drawn(values, Percentile(q), rng, 20_000)
    long = np.percentile(values[rng.integers(0, size, (20_000, size))], q, axis=1)
    spread = max(long.std(), 1e-9)
    assert abs(short.mean() - long.mean()) < 0.05 * spread
    assert short.std() == pytest.approx(spread, rel=0.05, abs=1e-6)


@pytest.mark.parametrize("statistic", [statistics.median, statistics.mean, Percentile(75), lambda v: float(max(v))])
def test_any_statistic_has_its_interval(statistic: Any) -> None:
    found = statistics.bootstrap(NORMAL, statistic, resamples=500)
    assert found.value == statistic(NORMAL)
    assert found.low <= found.value <= found.high
    assert found.high - found.low < 12


def test_a_95_percent_interval_has_the_truth_in_it_in_about_95_percent() -> None:
    rng = np.random.default_rng(11)
    hits = 0
    for _ in range(400):
        found = statistics.bootstrap(rng.lognormal(0, 0.5, 25), resamples=400)
        hits += found.low <= 1 <= found.high
    assert 360 <= hits <= 396


def test_a_million_values_need_neither_much_memory_nor_time() -> None:
    found = statistics.bootstrap(np.arange(1_000_000.0), Percentile(99))
    assert found.low < 989_999 < found.high
    assert found.high - found.low < 1000


def test_ratio_of_known_truth() -> None:
    rng = np.random.default_rng(5)
    slow, quick = rng.normal(30, 1, 50), rng.normal(10, 0.2, 50)
    found = statistics.bootstrap_ratio(slow, quick)
    assert found.low < 3 < found.high
    assert found.high - found.low < 0.25
    assert not statistics.bootstrap_ratio([3], [1, 1]).known
    assert statistics.bootstrap_ratio([3], [1, 1]).value == 3


@pytest.mark.parametrize(("exponent", "noise"), [(0.0, 0.1), (1.0, 0.1), (2.38, 0.05), (-0.5, 0.1)])
@pytest.mark.parametrize("repetitions", [1, 10])
def test_growth_exponents_of_known_powers(exponent: float, noise: float, repetitions: int) -> None:
    rng = np.random.default_rng(9)
    sizes = np.repeat([1000.0, 2000, 5000, 10000, 30000], repetitions)
    found = statistics.growth_exponent(sizes, 3 * sizes**exponent * rng.lognormal(0, noise, sizes.size))
    assert found.low - 0.02 <= exponent <= found.high + 0.02
    assert 0 < found.high - found.low < 0.5


def test_growth_of_two_sizes_with_one_value_each_has_no_interval() -> None:
    found = statistics.growth_exponent([10, 100], [1, 100])
    assert found.value == pytest.approx(2)
    assert not found.known


def test_growth_exponent_is_the_least_squares_slope_of_unevenly_repeated_sizes() -> None:
    sizes, values = [1, 1, 1, 2, 4, 4], [1.0, 1.1, 0.9, 2.2, 3.8, 4.1]
    slope, _ = np.polyfit(np.log(sizes), np.log(values), 1)
    assert statistics.growth_exponent(sizes, values).value == pytest.approx(slope)


DEPTHS = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46]
AGES = [1.15, 0.88, 0.90, 0.74, 1.21]


@pytest.mark.parametrize(
    ("a", "b", "p"),
    [
        (DEPTHS, AGES, 0.2544123544123544),  # Hollander and Wolfe's example, as R's wilcox.test gives it
        ([19, 22, 16, 29, 24], [20, 11, 17, 12], 1 / 9),
        (range(10), range(10, 20), 2 / math.comb(20, 10)),
        ([1, 2, 3], [4, 5, 6], 0.1),
        ([1], [2], 1.0),
        ([5, 5, 5], [5, 5, 5], 1.0),
    ],
)
def test_mann_whitney_of_known_samples(a: Any, b: Any, p: float) -> None:
    assert statistics.mann_whitney(list(a), list(b)) == pytest.approx(p)
    assert statistics.mann_whitney(list(b), list(a)) == pytest.approx(p)


def test_mann_whitney_counts_every_arrangement() -> None:
    for n, m in itertools.product(range(1, 6), repeat=2):
        counts = [0] * (n * m + 1)
        for places in itertools.combinations(range(n + m), n):
            counts[sum(place - rank for rank, place in enumerate(places))] += 1
        assert statistics._arrangements(n, m) == counts


def test_mann_whitney_with_ties_goes_by_the_normal_distribution() -> None:
    # wins 0, 0.5, 0.5 and 1.5, mean 8; ties 1, 3, 2, 1, 1: variance 16/12 * (9 - (24 + 6) / 56)
    away = (8 - 2.5 - 0.5) / math.sqrt(16 / 12 * (9 - 30 / 56))
    assert statistics.mann_whitney([1, 2, 2, 3], [2, 3, 4, 5]) == pytest.approx(math.erfc(away / math.sqrt(2)))


def test_mann_whitney_alarms_as_often_as_it_says() -> None:
    rng = np.random.default_rng(13)
    small = sum(statistics.mann_whitney(rng.normal(size=10), rng.normal(size=10)) < 0.05 for _ in range(1000))
    large = sum(statistics.mann_whitney(rng.normal(size=40), rng.normal(size=40)) < 0.05 for _ in range(1000))
    assert 25 <= small <= 65
    assert 30 <= large <= 70


def test_permutation_of_known_samples() -> None:
    # of the 20 ways to deal 1..6 into threes, the two extreme ones are as far apart: p = 0.1
    assert statistics.permutation([1, 2, 3], [4, 5, 6]) == pytest.approx(0.1, abs=0.015)
    assert statistics.permutation([1, 2, 3], [1, 2, 3]) == 1
    assert statistics.permutation(list(range(10)), list(range(50, 60))) < 0.001
    # medians: 1 2 3 against 4 5 6, 1 2 4 against 3 5 6, and both the other way round
    by_median = statistics.permutation([1, 2, 3], [4, 5, 6], statistics.median, resamples=2000)
    assert by_median == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize(
    ("p_values", "by_holm", "by_rate"),
    [
        ([], [], []),
        ([0.02], [0.02], [0.02]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02], [0.02, 0.04, 0.04, 0.02]),
        ([0.9, 0.8], [1.0, 1.0], [0.9, 0.9]),
        ([0.001, 0.001], [0.002, 0.002], [0.001, 0.001]),
    ],
)
def test_corrections_for_many_tests(p_values: list[float], by_holm: list[float], by_rate: list[float]) -> None:
    assert statistics.holm(p_values) == pytest.approx(by_holm)
    assert statistics.benjamini_hochberg(p_values) == pytest.approx(by_rate)
