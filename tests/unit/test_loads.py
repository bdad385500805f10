"""Loads and claims as far as they are pure: bounds, what programs are started with, and what intervals decide."""

from __future__ import annotations

import itertools
import math
import os
import time
from typing import Any

import pytest

from mininetes.errors import BadInput
from mininetes.experiments import claims, loads, loads_cpu, loads_pingpong
from mininetes.experiments.loads_paths import Turns
from mininetes.experiments.results import Measurement, Row
from mininetes.experiments.statistics import Interval


@pytest.mark.parametrize(
    ("check", "values", "field"),
    [
        (loads.check_stream, {"duration_s": 0}, "duration_s"),
        (loads.check_stream, {"duration_s": 1.5}, "duration_s"),
        (loads.check_stream, {"duration_s": 601}, "duration_s"),
        (loads.check_stream, {"duration_s": True}, "duration_s"),
        (loads.check_stream, {"duration_s": "1"}, "duration_s"),
        (loads.check_stream, {"duration_s": 1, "rate_mbit": -1}, "rate_mbit"),
        (loads.check_stream, {"duration_s": 1, "rate_mbit": math.nan}, "rate_mbit"),
        (loads.check_messages, {"duration_s": 0}, "duration_s"),
        (loads.check_messages, {"duration_s": math.inf}, "duration_s"),
        (loads.check_messages, {"duration_s": 1, "message_bytes": 0}, "message_bytes"),
        (loads.check_messages, {"duration_s": 1, "most": 0}, "most"),
    ],
)
def test_a_load_without_bounds_is_refused(check: Any, values: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput, match=field):
        check(**values)


@pytest.mark.parametrize("turns", [(0, 1, 0.1), (1001, 1, 0.1), (1, -1, 0.1), (1, 1, 0)])
def test_turns_without_bounds_are_refused(turns: tuple[int, int, float]) -> None:
    with pytest.raises(BadInput):
        Turns(*turns)


def test_a_datagram_fills_a_packet() -> None:
    assert loads.datagram_bytes(1500) == 1472


def test_every_cpu_is_one_that_may_be_used() -> None:
    apart, together = loads.Cpus.apart(), loads.Cpus.together()
    assert together.client == together.server
    assert {apart.client, apart.server} >= {together.client}


def transactions(seconds_each: float, seconds: float, most: int = 10**6) -> int:
    """How many are done, by a clock that only they move."""
    clock = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "perf_counter_ns", lambda: int(next(clock) * seconds_each * 1e9))
        times, _ = loads_pingpong.timed(lambda: None, seconds, most)
    return len(times)


def test_transactions_end_with_their_time() -> None:
    assert transactions(0.001, 0.5) == 500


def test_transactions_end_with_their_number() -> None:
    assert transactions(0.001, 0.5, most=7) == 7


def test_slow_transactions_go_on_until_there_are_enough_for_percentiles() -> None:
    assert transactions(0.01, 0.5) == loads_pingpong.FEWEST


def test_even_the_slowest_transactions_end() -> None:
    assert transactions(1.0, 0.5) == math.ceil(0.5 + loads_pingpong.PATIENCE_S)


def test_the_summary_of_transactions() -> None:
    said = loads_pingpong.summary([number * 1000 for number in range(1, 101)], 0.5)
    assert said == {"transactions": 100, "seconds": 0.5, "us": {"p50": 51.0, "p90": 91.0, "p99": 100.0}}


STAT = """cpu  30 0 60 500 5 7 9 0 0 0
cpu0 10 0 20 300 5 3 4 0 0 0
cpu1 20 0 40 200 0 4 5 0 0 0
cpu10 1 0 1 1 0 100 100 0 0 0
intr 12345
"""


@pytest.mark.parametrize(("cpu", "ticks"), [(0, 7), (1, 9), (10, 200), (2, 0)])
def test_the_time_of_interrupts_is_that_of_one_cpu(cpu: int, ticks: int) -> None:
    assert loads_cpu.interrupts_s(STAT, cpu) == ticks / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    ("config", "apart"),
    [
        ("CONFIG_A=y\nCONFIG_IRQ_TIME_ACCOUNTING=y\n", True),
        ("# CONFIG_IRQ_TIME_ACCOUNTING is not set\nCONFIG_HAVE_IRQ_TIME_ACCOUNTING=y\n", False),
        ("", False),
    ],
)
def test_a_kernels_configuration_says_whose_time_interrupts_are(config: str, apart: bool) -> None:
    assert loads_cpu.keeps_interrupts_apart(config) is apart


@pytest.mark.parametrize(
    ("cpus", "apart", "busy"),
    [((1, 1), False, 0.5), ((1, 1), True, 0.5 + 0.25), ((1, 1), None, None), ((0, 1), False, None),
     ((None, None), False, None)],
)  # fmt: skip
def test_what_a_load_cost_its_cpu(
    monkeypatch: pytest.MonkeyPatch, cpus: tuple[int | None, int | None], apart: bool | None, busy: float | None
) -> None:
    seconds = iter((1.0, 1.25))
    monkeypatch.setattr(loads_cpu, "kernel_keeps_interrupts_apart", lambda: apart)
    monkeypatch.setattr(loads_cpu, "interrupts_s", lambda *_: next(seconds))
    meter = loads_cpu.Meter(*cpus)
    assert meter.busy_s(0.5) == busy


def test_the_first_metric_that_there_is() -> None:
    measured = [row("a", 1.0, 0), row("b", None, 0)]
    assert claims.measured_as(measured, "m", "other") == "m"
    assert claims.measured_as(measured, "other", "m") == "m"
    assert claims.measured_as([row("b", None, 0)], "m", "other") == "other"


def row(condition: str, value: float | None, repetition: int, **cell: Any) -> Row:
    return Row("x", cell, repetition, Measurement("m", value, "1", {"condition": condition}))


def test_ratios_take_both_sides_from_one_run() -> None:
    measured = [
        row("a", 1.0, 0, mode="p"), row("b", 2.0, 0, mode="p"), row("b", 4.0, 0, mode="p"),
        row("a", 30.0, 1, mode="p"), row("b", 10.0, 1, mode="p"),
        row("a", 5.0, 2, mode="p"), row("b", None, 2, mode="p"),
        row("a", 8.0, 0, mode="q"), row("b", 2.0, 0, mode="q"),
    ]  # fmt: skip
    assert claims.ratios(claims.by_run(measured, "m", "condition"), "a", "b") == [1 / 3, 3.0, 4.0]
    assert claims.ratios(claims.by_run(measured, "m", "condition", where={"mode": "q"}), "a", "b") == [4.0]
    assert claims.ratios(claims.by_run(measured, "other", "condition"), "a", "b") == []


def test_differences_are_of_one_run() -> None:
    assert claims.differences({("c", 0): 5.0, ("c", 1): 7.0}, {("c", 1): 3.0, ("c", 2): 1.0}) == [4.0]


@pytest.mark.parametrize(
    ("test", "interval", "holds"),
    [
        (claims.at_least(0.9), Interval(0.9, 0.5, 1.5), True),
        (claims.at_least(0.9), Interval(0.89, 0.5, 0.899), False),
        (claims.at_least(0.9), Interval(0.89, 0.5, 0.9), None),
        (claims.at_least(0.9), Interval(0.89, math.nan, math.nan), None),
        (claims.at_most(0.7), Interval(0.7, 0.5, 1.5), True),
        (claims.at_most(0.7), Interval(0.71, 0.701, 1.5), False),
        (claims.at_most(0.7), Interval(0.71, 0.7, 1.5), None),
        (claims.between(3, 6), Interval(3, 1, 9), True),
        (claims.between(3, 6), Interval(6.1, 6.01, 9), False),
        (claims.between(3, 6), Interval(2.9, 1, 2.99), False),
        (claims.between(3, 6), Interval(6.1, 1, 9), None),
        (claims.surely("below", 1), Interval(0.9, 0.8, 0.99), True),
        (claims.surely("below", 1), Interval(1.1, 1.01, 1.2), False),
        (claims.surely("below", 1), Interval(0.9, 0.8, 1.0), None),
        (claims.surely("above", 1), Interval(1.1, 1.01, 1.2), True),
        (claims.surely("above", 1), Interval(0.9, 0.8, 0.99), False),
        (claims.surely("above", 1), Interval(1.1, math.nan, math.nan), None),
    ],
)
def test_what_an_interval_decides(test: claims.Test, interval: Interval, holds: bool | None) -> None:
    assert test(interval) is holds


@pytest.mark.parametrize(
    ("values", "holds"), [([0.5] * 3, "yes"), ([1.5] * 3, "no"), ([0.5, 1.5, 1.0], "not at this size"),
                          ([0.5] * 2, "not at this size"), ([], "not at this size")],
)  # fmt: skip
def test_a_verdict_on_runs(values: list[float], holds: str) -> None:
    verdict = claims.judged("c", "p", values, claims.surely("below", 1), row="r", what="a/b:")
    assert (verdict.holds, verdict.row, verdict.published) == (holds, "r", "p")
    assert str(len(values)) in verdict.measured


@pytest.mark.parametrize(
    ("above", "below", "holds"),
    [([10.0] * 3, [2.0] * 3, "yes"), ([4.0] * 3, [2.0] * 3, "no"), ([10.0], [2.0] * 3, "not at this size")],
)
def test_a_verdict_on_two_groups(above: list[float], below: list[float], holds: str) -> None:
    assert claims.judged_apart("c", "p", above, below, claims.between(4.5, 6)).holds == holds
