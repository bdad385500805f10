"""The engine's side of a run without a lab: what it writes, tells, and makes of experiments that go wrong."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from mininetes.experiments import results
from mininetes.experiments.definition import load
from mininetes.experiments.engine import Engine
from mininetes.experiments.lab import Lab
from mininetes.experiments.results import Row, Run

HEAD = """
import asyncio
import math
import random
import numpy
from mininetes.api import BadInput, Measurement
REPRODUCES = "nothing"
PARAMETERS = {"n": [1]}
TIMEOUT_S = 0.2
def cluster(params): return {}
def plot(rows): return {}
"""
GOOD = 'return [Measurement("m", lab.repetition, "1", {"seed": lab.seed})]'


class Told:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def say(self, **event: Any) -> None:
        self.events.append(json.loads(json.dumps(event)))


def engine(folder: Path, body: str, **config: Any) -> tuple[Engine, Told, int]:
    file = folder / "mine.py"
    file.write_text(f"{HEAD}async def run(lab, params):\n    {body}\n")
    told, rows = Told(), results.open_rows(folder)
    config = {"cells": [{"n": 1}], "warm_up": [], "runs": [[0, 0, 7], [0, 1, 8]], "fds": {"rows": rows}, **config}
    lab: Any = None
    reporter: Any = told
    return Engine(load(str(file)), Lab(lab), config, reporter), told, rows


def done(folder: Path, body: str, **config: Any) -> tuple[int, Told, list[Row]]:
    made, told, rows = engine(folder, body, **config)
    try:
        status = asyncio.run(made.all())
    finally:
        os.close(rows)
    return status, told, list(results.read(folder))


def test_each_run_is_written_with_its_end_and_told(tmp_path: Path) -> None:
    status, told, rows = done(tmp_path, GOOD)
    assert status == 0
    assert [(row.measurement.metric, row.repetition) for row in rows] == [
        ("m", 0),
        ("run_s", 0),
        ("m", 1),
        ("run_s", 1),
    ]
    assert [row.measurement.labels["seed"] for row in rows if not row.ends_run] == [7, 8]
    ends = results.runs(rows)
    assert [(run.error, run.rows, run.holds) for run in ends] == [(None, 1, True)] * 2
    assert all(run.fidelity["verdict"] in ("good", "saturated", "unknown") for run in ends)
    assert [next(iter(event)) for event in told.events] == ["begin", "run", "begin", "run", "done"]
    assert all("error" not in event for event in told.events)  # that would be the lab's


def test_warm_ups_leave_no_rows(tmp_path: Path) -> None:
    status, told, rows = done(tmp_path, GOOD, warm_up=[[0, 2, 9]])
    assert (status, len(rows)) == (0, 4)
    assert [event["begin"] for event in told.events if "begin" in event] == [-1, 0, 1]


def test_a_warm_up_that_fails_is_the_labs_failure(tmp_path: Path) -> None:
    status, told, rows = done(tmp_path, 'raise ValueError("cold")', warm_up=[[0, 2, 9]])
    assert (status, rows) == (1, [])
    assert told.events[-1]["error"].startswith("warm-up: ValueError: cold (mine.py:")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('raise ValueError("odd")', "ValueError: odd (mine.py:13)"),
        ('raise BadInput("field", 3, "four")', "field: 3 is not valid: four (mine.py:13)"),
        ("await asyncio.sleep(60)", "not over after 0.2 s"),
        ("raise asyncio.CancelledError", "it cancelled itself"),
        ("return None", "run returned NoneType, not Measurements"),
        ("return [3]", "run returned a int where a Measurement belongs"),
        ('return [Measurement("m", math.nan, "1")]', "metric m: nan is no measured value"),
        ('return [Measurement("m", "many", "1")]', "metric m: 'many' is no number"),
        ('return [Measurement("run_s", 1, "s")]', "metric run_s is the runner's own"),
        ('return [Measurement("m", 1, "1", {"odd": object()})]', "metric m: labels that JSON cannot hold"),
    ],
)
def test_a_run_that_fails_is_a_row_with_its_error_and_the_lab_ends(tmp_path: Path, body: str, words: str) -> None:
    status, told, rows = done(tmp_path, body)
    assert status == 1
    (row,) = rows
    run = Run.of(row)
    assert run.error is not None
    assert words in run.error
    assert "\n" not in run.error
    assert (run.rows, run.repetition) == (0, 0)
    assert told.events[-1]["failed"] == run.error


def test_values_of_libraries_are_written_as_plain_ones(tmp_path: Path) -> None:
    body = 'return [Measurement("m", numpy.float32(0.5), "1", {"n": numpy.int64(3), "path": (1, 2)})]'
    _, _, rows = done(tmp_path, body)
    assert (rows[0].measurement.value, rows[0].measurement.labels) == (0.5, {"n": 3, "path": [1, 2]})


def test_a_run_that_the_labs_end_interrupts_leaves_no_row_whatever_the_experiment_makes_of_it(tmp_path: Path) -> None:
    body = "await stubborn()"
    made, _, rows = engine(tmp_path, body)
    with (tmp_path / "mine.py").open("a") as file:
        file.write(
            "async def stubborn():\n  try:\n    await asyncio.sleep(60)\n  finally:\n    raise ValueError('late')\n"
        )
    made.experiment = load(str(tmp_path / "mine.py"))

    async def interrupted() -> None:
        task = asyncio.ensure_future(made.all())
        await asyncio.sleep(0.05)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(interrupted())
    os.close(rows)
    assert list(results.read(tmp_path)) == []


def test_an_experiment_cannot_change_the_cell_of_its_rows(tmp_path: Path) -> None:
    _, _, rows = done(tmp_path, f'params["n"] = 5; {GOOD}')
    assert {row.cell["n"] for row in rows} == {1}
