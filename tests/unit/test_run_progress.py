"""How a run's progress is shown: time left, a line a run, a bar on a terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from mininetes.cli.run_progress import Bar, Forecast, Lines, Steps, called, how, in_words, watcher
from mininetes.experiments.results import Run
from mininetes.experiments.schedule import LabPlan, Planned

LABS = [LabPlan(number, [Planned({"mode": mode, "n": 1}, r) for r in range(2)]) for number, mode in enumerate("xy")]


def ended(mode: str, repetition: int, seconds: float, *, error: str | None = None, verdict: str = "good") -> Run:
    fidelity = {"verdict": verdict}
    return Run("e", {"mode": mode, "n": 1}, repetition, seconds, error, 3, holds=True, fidelity=fidelity)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "time left unknown"),
        (0.2, "about 1 s left"),
        (89, "about 89 s left"),
        (90, "about 2 min left"),
        (3600, "about 60 min left"),
        (7500, "about 2 h 05 min left"),
    ],
)
def test_time_left_in_words(seconds: float | None, words: str) -> None:
    assert in_words(seconds) == words


def test_time_left_goes_by_cell_where_it_is_known() -> None:
    forecast = Forecast(LABS, 1)
    assert forecast.left_s() is None
    forecast.lab_up(5.0)
    forecast.run_ended(ended("x", 0, 10.0))
    assert forecast.left_s() == 10.0 + 2 * 10.0 + 5.0  # one of x, two of y as of x, a lab
    forecast.run_ended(ended("x", 1, 10.0))
    forecast.lab_up(7.0)
    forecast.run_ended(ended("y", 0, 40.0))
    assert forecast.left_s() == 40.0
    forecast.run_ended(ended("y", 1, 40.0))
    assert forecast.left_s() == 0.0


def test_labs_beside_each_other_halve_it() -> None:
    forecast = Forecast(LABS, 2)
    forecast.run_ended(ended("x", 0, 10.0))
    assert forecast.left_s() == 15.0


def test_a_run_in_words() -> None:
    assert called({"mode": "x", "n": 1}, ["mode"], 3) == "mode=x repetition 3"
    assert called({"mode": "x"}, [], None) == "warm-up"
    assert how(ended("x", 0, 1.26)) == "3 values in 1.3 s"
    assert how(ended("x", 0, 1.26, verdict="saturated")) == "3 values in 1.3 s, saturated"
    assert how(ended("x", 0, 1.26, error="it broke")) == "failed: it broke"


def test_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(["mode"])
    lines.begins(Path("out"), LABS, 1, jobs=1)
    lines.step("nodes")
    lines.run_begins(LABS[0].runs[0], warm_up=False)
    lines.run_ended(ended("x", 0, 4.0))
    lines.run_ended(ended("x", 1, 4.0, error="it broke"))
    lines.ends()
    assert (lines.done, lines.all, lines.folder) == (3, 5, Path("out"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "4 runs in 2 labs, into out/; 1 of 5 were done before",
        "[2/5] mode=x repetition 0: 3 values in 4.0 s; about 12 s left",
        "[3/5] mode=x repetition 1: failed: it broke; about 8 s left",
    ]


def test_a_bar_on_a_terminal() -> None:
    bar = Bar(["mode"])
    screen = io.StringIO()
    bar.show_on(Console(file=screen, force_terminal=True, width=120, highlight=False))
    bar.begins(Path("out"), LABS, 1, jobs=1)
    bar.run_begins(LABS[0].runs[0], warm_up=True)
    bar.run_ended(ended("x", 0, 100.0))
    bar.run_ended(ended("x", 1, 100.0, error="it broke"))
    bar.run_begins(LABS[1].runs[0], warm_up=False)
    bar.refresh()
    bar.ends()
    shown = screen.getvalue()
    for words in ("3/5", "about 3 min left", "mode=y repetition 0", "mode=x repetition 1: failed: it broke"):
        assert words in shown, shown


def test_which_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = {"mode": ["x", "y"], "n": [1]}
    assert type(watcher(grid, 1, shown=False)) is Steps
    assert type(watcher(grid, 4, shown=False)) is Lines
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert type(watcher(grid, 4, shown=False)) is Bar
    assert type(watcher(grid, 4, shown=True)) is Lines
