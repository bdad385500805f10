"""Who is told how a run goes on: the command line shows it, tests note it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mininetes.experiments.results import Run
from mininetes.experiments.schedule import LabPlan, Planned


class Watcher(Protocol):
    """Called from the threads that run labs, several at a time with ``--jobs``."""

    def begins(self, folder: Path, left: Sequence[LabPlan], done: int, *, jobs: int) -> None:
        """These labs are to be run; ``done`` runs were done by earlier starts."""

    def step(self, step: str) -> None:
        """A step of a lab's bring-up, or of what comes after the last."""

    def lab_up(self, seconds: float) -> None:
        """A lab is ready, after so long."""

    def run_begins(self, planned: Planned, *, warm_up: bool) -> None:
        """A run begins."""

    def run_ended(self, run: Run) -> None:
        """A run is over and written."""

    def ends(self) -> None:
        """No more runs, however that came."""
