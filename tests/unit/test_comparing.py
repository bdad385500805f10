"""Comparing two results: what counts as a change, what counts at all, and files that cannot be compared."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mininetes.cli.main import cli
from mininetes.errors import BadInput
from mininetes.experiments import comparing, results, show_comparison
from mininetes.experiments.comparing import Limits, compare, compare_gathered
from mininetes.experiments.gathering import MOST_CONDITIONS, gather
from mininetes.experiments.results import Measurement, Row
from tests.unit.made_results import CONTEXT, latency_rows, run_end, write_result

CELL = {"mode": "iptables", "services": 1000}
OTHER = {"mode": "nftables", "services": 1000}


def changes(a: Iterable[Row], b: Iterable[Row], limits: Limits | None = None) -> list[comparing.Compared]:
    first, second = gather(a), gather(b)
    first.align(second)
    return compare_gathered(first, second, limits or Limits())[0]


def both_modes(seed: int, *, slower: float = 1.0, between: float = 0.02) -> Iterable[Row]:
    yield from latency_rows(CELL, seed=2 * seed, median_us=100 * slower, between=between, probes=60)
    yield from latency_rows(OTHER, seed=2 * seed + 1, median_us=60, between=between, probes=60)


def test_of_twenty_comparisons_of_like_with_like_at_most_one_alarms() -> None:
    alarms = 0
    for seed in range(20):
        found = changes(both_modes(seed), both_modes(1000 + seed))
        assert len(found) == 4
        alarms += any(each.change in ("higher", "lower") for each in found)
    assert alarms <= 1


def test_a_tenth_slower_is_found_in_nineteen_of_twenty_and_only_there() -> None:
    found = wrong = 0
    for seed in range(20):
        table = changes(both_modes(seed), both_modes(1000 + seed, slower=1.1))
        slow = [each for each in table if each.cell == CELL]
        found += all(each.change == "higher" for each in slow)
        wrong += any(each.change in ("higher", "lower") for each in table if each.cell == OTHER)
        wrong += any(each.change == "lower" for each in slow)
    assert found >= 19
    assert wrong <= 1


def test_noise_alone_is_no_change_at_any_threshold() -> None:
    """The threshold keeps small changes quiet, but it is the test that keeps noise quiet."""
    alarms = sum(
        any(
            each.change in ("higher", "lower")
            for each in changes(both_modes(seed, between=0.3), both_modes(500 + seed, between=0.3), Limits(threshold=0))
        )
        for seed in range(20)
    )
    assert alarms <= 1


def test_small_changes_count_when_the_threshold_says_so() -> None:
    a, b = (list(latency_rows(CELL, median_us=centre, between=0.001, probes=200)) for centre in (100, 103))
    assert {each.change for each in changes(a, b)} == {"within noise"}
    assert {each.change for each in changes(a, b, Limits(threshold=0.01))} == {"higher"}
    assert {each.change for each in changes(b, a, Limits(threshold=0.01))} == {"lower"}


def test_the_ratio_has_an_interval_with_the_truth_in_it() -> None:
    rows = (latency_rows(CELL, seed=seed, median_us=centre, repetitions=30) for seed, centre in ((1, 100), (2, 130)))
    for each in changes(*rows):
        assert each.ratio.low < 1.3 < each.ratio.high
        assert each.ratio.high - each.ratio.low < 0.2
        assert each.p < 1e-6


@pytest.mark.parametrize(("repetitions", "change"), [(9, "too few"), (10, "higher")])
def test_fewer_than_ten_repetitions_are_too_few(repetitions: int, change: str) -> None:
    a, b = latency_rows(CELL), latency_rows(CELL, repetitions=repetitions, median_us=200)
    assert {each.change for each in changes(a, b)} == {change}


def test_the_repetition_is_the_unit_however_many_probes_it_has() -> None:
    a, b = (latency_rows(CELL, repetitions=1, probes=2000, median_us=centre) for centre in (100, 200))
    assert {each.change for each in changes(a, b)} == {"too few"}


def test_saturated_failed_and_torn_runs_do_not_count_unless_asked_for() -> None:
    torn = [
        row for row in latency_rows(CELL, repetitions=11) if row.repetition != 10 or row.measurement.metric != "run_s"
    ]
    failed = [*latency_rows(CELL), run_end(CELL, 10, "failed", "no")]
    saturated = list(latency_rows(CELL, verdict="saturated"))
    for rows in (torn, failed):
        rtts = [each for each in changes(rows, rows) if each.metric == "rtt_us"]
        assert {each.repetitions for each in rtts} == {(10, 10)}
    assert [each for each in changes(saturated, saturated) if each.metric == "rtt_us"] == []
    assert {each.repetitions for each in changes(saturated, saturated, Limits(saturated=True))} == {(10, 10)}


def test_rows_without_ends_of_runs_count_in_results_that_have_none() -> None:
    old = [row for row in latency_rows(CELL) if row.measurement.metric != "run_s"]
    assert {each.change for each in changes(old, latency_rows(CELL, median_us=200))} == {"higher"}


def test_loss_and_failures_are_changes_too() -> None:
    def lossy(part: int) -> Iterable[Row]:
        for repetition in range(10):
            for sequence in range(100):
                value = None if sequence < part + repetition else 50.0
                yield Row("made", CELL, repetition, Measurement("rtt_us", value, "us", {"sequence": sequence}))
            yield run_end(CELL, repetition)

    found = {each.metric: each for each in changes(lossy(0), lossy(20))}
    assert found["rtt_us: lost"].change == "higher"
    assert found["rtt_us"].change == "within noise"
    fails = [run_end(CELL, repetition, "failed", "it broke") for repetition in range(10)]
    (failed,) = [each for each in changes(latency_rows(CELL), fails) if each.metric == "runs: failed"]
    assert (failed.change, failed.values) == ("higher", (0, 1))
    assert failed.as_json()["ratio"]["value"] is None


def test_yes_and_no_are_compared_by_their_shares() -> None:
    def reached(part: float) -> Iterable[Row]:
        for repetition in range(10):
            for target in range(50):
                labels = {"source": "a", "target": f"t{target}", "verdict": "reached", "protocol": "icmp"}
                yield Row("made", CELL, repetition, Measurement("reached", float(target < 50 * part), "bool", labels))
            yield run_end(CELL, repetition)

    (same,) = changes(reached(1.0), reached(1.0))
    (less,) = changes(reached(1.0), reached(0.9))
    assert (same.change, same.values) == ("within noise", (1, 1))
    assert (less.change, less.values) == ("lower", (1, 0.9))
    assert less.labels == {"protocol": "icmp"}


def test_labels_with_very_many_values_say_which_probe_it_was() -> None:
    def rows(clients: int) -> list[Row]:
        return [
            Row("made", CELL, repetition, Measurement("x", 1.0 + client, "us", {"client": client, "path": "p"}))
            for client in range(clients)
            for repetition in range(10)
        ]

    assert len(changes(rows(MOST_CONDITIONS), rows(MOST_CONDITIONS))) == MOST_CONDITIONS
    for few, many in ((rows(3), rows(MOST_CONDITIONS + 1)), (rows(MOST_CONDITIONS + 1), rows(3))):
        (only,) = changes(few, many)
        assert only.labels == {"path": "p"}
        assert only.repetitions == (10, 10)


def test_what_only_one_has_is_named(tmp_path: Path) -> None:
    a = write_result(tmp_path / "a", latency_rows(CELL))
    b = write_result(tmp_path / "b", [*latency_rows(CELL), *latency_rows(OTHER)])
    found = compare(a, b)
    assert found.only_in["a"] == []
    assert found.only_in["b"] == [
        f"rtt_us (mode=nftables, services=1000, path={path})" for path in ("cross node", "same node")
    ]


def test_what_they_ran_on_is_held_against_each_other(tmp_path: Path) -> None:
    other = {**CONTEXT, "kernel": {"release": "6.12.0", "version": "#1 SMP", "machine": "x86_64"}, "duration_s": 99}
    a = write_result(tmp_path / "a", latency_rows(CELL))
    b = write_result(tmp_path / "b", latency_rows(CELL), other)
    assert compare(a, b).differs == {"kernel.release": ("6.1.0", "6.12.0")}


def another_experiment(folder: Path) -> None:
    rows = [Row("another", row.cell, row.repetition, row.measurement) for row in results.read(folder)]
    write_result(folder, rows)


def newer_context(folder: Path) -> None:
    (folder / "context.json").write_text(json.dumps({**CONTEXT, "schema": 99}))


def no_context(folder: Path) -> None:
    (folder / "context.json").write_text("{")


def newer_row(folder: Path) -> None:
    (folder / "rows.jsonl").write_text(json.dumps({**run_end(CELL, 0).to_json(), "schema": 2}) + "\n")


def no_rows(folder: Path) -> None:
    (folder / "rows.jsonl").write_text("")


def no_result(folder: Path) -> None:
    (folder / "rows.jsonl").unlink()


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (another_experiment, "made and another"),
        (newer_context, "schema"),
        (no_context, "context.json"),
        (newer_row, "rows.jsonl:1"),
        (no_rows, "with rows"),
        (no_result, "rows.jsonl"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, spoil: Any, named: str) -> None:
    a = write_result(tmp_path / "a", latency_rows(CELL))
    b = write_result(tmp_path / "b", latency_rows(CELL))
    spoil(b)
    with pytest.raises(BadInput, match=named):
        compare(a, b)


@pytest.mark.parametrize("limits", [{"alpha": 0}, {"alpha": 1}, {"threshold": -0.1}])
def test_impossible_limits_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(BadInput, match="--"):
        Limits(**limits)


def command(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["compare", *map(str, arguments)], standalone_mode=False)
    assert done.exception is None, done.exception
    return done.return_value, done.output


def test_the_command_says_it_as_json_and_by_its_status(tmp_path: Path) -> None:
    a = write_result(tmp_path / "a", latency_rows(CELL))
    b = write_result(tmp_path / "b", latency_rows(CELL, seed=2, median_us=150))
    few = write_result(tmp_path / "few", latency_rows(CELL, repetitions=3))
    status, said = command(a, b, "-o", "json")
    table = json.loads(said)
    assert (status, table["changed"], table["tested"]) == (1, 2, 2)
    assert {each["change"] for each in table["comparisons"]} == {"higher"}
    assert table["comparisons"][0]["ratio"]["low"] > 1.2
    assert command(a, a)[0] == 0
    assert command(a, b, "--threshold", "0.9")[0] == 0
    assert command(a, few)[0] == 2


def test_the_command_prints_what_changed(tmp_path: Path) -> None:
    a = write_result(tmp_path / "a", latency_rows(CELL))
    b = write_result(tmp_path / "b", [*latency_rows(CELL, seed=2, median_us=150), run_end(CELL, 10, "failed", "no")])
    found = compare(a, b)
    with show_comparison.console.capture() as printed:
        show_comparison.show(found, everything=False)
    text = printed.get()
    assert text.count("higher") == 2
    assert "2 of 3 changed beyond noise" in text
    assert "runs of B that do not count: 1 failed" in text
