"""How a run goes on, shown on stderr: a bar on a terminal, a line for each run elsewhere; nothing for a single run."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mininetes.experiments.results import Run, cell_key
from mininetes.experiments.schedule import LabPlan, Planned
from mininetes.testbed import show

if TYPE_CHECKING:
    from rich.console import Console


class Forecast:
    """How long the runs that are left will take, from those that were: by cell where it is known, else by all."""

    def __init__(self, left: Sequence[LabPlan], jobs: int) -> None:
        self._jobs = min(jobs, max(1, len(left)))
        self._labs = len(left)
        self._left: dict[str, int] = {}
        for lab in left:
            for run in lab.runs:
                key = cell_key(run.cell)
                self._left[key] = self._left.get(key, 0) + 1
        self._runs: dict[str, list[float]] = {}
        self._labs_took: list[float] = []

    def run_ended(self, run: Run) -> None:
        """A run took so long."""
        key = cell_key(run.cell)
        self._left[key] = self._left.get(key, 1) - 1
        self._runs.setdefault(key, []).append(run.seconds)

    def lab_up(self, seconds: float) -> None:
        """A lab took so long to come up."""
        self._labs -= 1
        self._labs_took.append(seconds)

    def left_s(self) -> float | None:
        """Seconds until the end; None while nothing is known."""
        every = [seconds for found in self._runs.values() for seconds in found]
        if not every:
            return None
        mean = sum(every) / len(every)
        runs = sum(
            count * (sum(self._runs[key]) / len(self._runs[key]) if key in self._runs else mean)
            for key, count in self._left.items()
        )
        labs = max(0, self._labs) * (sum(self._labs_took) / len(self._labs_took)) if self._labs_took else 0.0
        return (runs + labs) / self._jobs


def in_words(seconds: float | None) -> str:
    """A time that is left: "40 s", "3 min", "2 h 05 min"."""
    if seconds is None:
        return "time left unknown"
    if seconds < 90:
        return f"about {max(1, round(seconds))} s left"
    minutes = round(seconds / 60)
    return f"about {minutes} min left" if minutes < 90 else f"about {minutes // 60} h {minutes % 60:02} min left"


def called(cell: Mapping[str, Any], varying: Sequence[str], repetition: int | None) -> str:
    """A run by the parameters that tell its cell from the others, and its repetition."""
    words = [f"{key}={cell[key]}" for key in varying]
    return " ".join([*words, "warm-up" if repetition is None else f"repetition {repetition}"])


def how(run: Run) -> str:
    """How a run went, in a few words."""
    if run.error is not None:
        return f"failed: {run.error}"
    marks = "" if run.holds else ", not as expected"
    marks += ", saturated" if run.is_saturated else ""
    return f"{run.rows} values in {run.seconds:.1f} s{marks}"


class Steps:
    """For a single run: the steps of the bring-up, on a terminal only. ``folder`` is None before it begins."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.done = self.all = 0

    def begins(self, folder: Path, left: Sequence[LabPlan], done: int, *, jobs: int) -> None:
        """Remember what is to come."""
        self.folder, self.done = folder, done
        self.all = done + sum(len(lab.runs) for lab in left)

    def step(self, step: str) -> None:
        """One step."""
        show.progress(step)

    def lab_up(self, seconds: float) -> None:
        """Nothing to show."""

    def run_begins(self, planned: Planned, *, warm_up: bool) -> None:
        """Nothing to show."""

    def run_ended(self, run: Run) -> None:
        """Nothing to show: failures are listed in the end."""
        self.done += 1

    def ends(self) -> None:
        """Nothing to show."""


class Lines(Steps):
    """A line for each run that has ended, with the time that is left."""

    def __init__(self, varying: Sequence[str]) -> None:
        super().__init__()
        self._varying = varying
        self._lock = threading.Lock()
        self._forecast = Forecast([], 1)

    def begins(self, folder: Path, left: Sequence[LabPlan], done: int, *, jobs: int) -> None:
        """Say what is to come."""
        super().begins(folder, left, done, jobs=jobs)
        self._forecast = Forecast(left, jobs)
        count = self.all - done
        earlier = f"; {done} of {self.all} were done before" if done else ""
        labs = f"{len(left)} lab{'s' if len(left) != 1 else ''}"
        self._say(f"{count} run{'s' if count != 1 else ''} in {labs}, into {folder}/{earlier}")

    def step(self, step: str) -> None:
        """Steps of a bring-up are too many to show for each lab."""

    def lab_up(self, seconds: float) -> None:
        """One more is known."""
        with self._lock:
            self._forecast.lab_up(seconds)

    def run_ended(self, run: Run) -> None:
        """A line."""
        with self._lock:
            self.done += 1
            self._forecast.run_ended(run)
            place = f"[{self.done}/{self.all}]"
            cell = called(run.cell, self._varying, run.repetition)
            left = "" if self.done == self.all else f"; {in_words(self._forecast.left_s())}"
            self._say(f"{place} {cell}: {how(run)}{left}")

    def _say(self, line: str) -> None:
        click.echo(line, err=True)


class Bar(Lines):
    """A bar with what is running and the time left; failures are lines above it."""

    def __init__(self, varying: Sequence[str]) -> None:
        from rich.console import Console  # noqa: PLC0415

        super().__init__(varying)
        self.show_on(Console(stderr=True, highlight=False))

    def show_on(self, console: Console) -> None:
        """Where the bar is shown; before it begins."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

        self._bar = Progress(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.description}", style="dim", markup=False),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("", left="", total=1)

    def refresh(self) -> None:
        """Show it as it is now."""
        self._bar.refresh()

    def begins(self, folder: Path, left: Sequence[LabPlan], done: int, *, jobs: int) -> None:
        """Say what is to come, and show the bar."""
        super().begins(folder, left, done, jobs=jobs)
        self._bar.update(self._task, total=self.all, completed=done)
        self._bar.start()

    def step(self, step: str) -> None:
        """What a lab does while no run is on."""
        self._bar.update(self._task, description=step)

    def run_begins(self, planned: Planned, *, warm_up: bool) -> None:
        """What runs."""
        doing = called(planned.cell, self._varying, None if warm_up else planned.repetition)
        self._bar.update(self._task, description=doing)

    def run_ended(self, run: Run) -> None:
        """One more is done."""
        with self._lock:
            self.done += 1
            self._forecast.run_ended(run)
            self._bar.update(self._task, completed=self.done, left=in_words(self._forecast.left_s()))
        if run.error is not None or run.is_saturated or not run.holds:
            self._bar.console.print(f"{called(run.cell, self._varying, run.repetition)}: {how(run)}", markup=False)

    def ends(self) -> None:
        """Take the bar away."""
        self._bar.stop()


def watcher(grid: Mapping[str, Sequence[Any]], runs: int, *, shown: bool) -> Steps:
    """How to show a run of that many runs; ``shown``: what the experiment prints is shown between."""
    if runs == 1:
        return Steps()
    varying = [key for key, values in grid.items() if len(values) > 1]
    return Bar(varying) if sys.stderr.isatty() and not shown else Lines(varying)
