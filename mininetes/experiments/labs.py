"""The labs of an experiment, seen from the host: started, followed, and ended together."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mininetes.errors import MininetesError, Reported
from mininetes.experiments import results
from mininetes.experiments.definition import Experiment
from mininetes.experiments.fidelity import backlog_limit
from mininetes.experiments.planning import Prepared
from mininetes.experiments.result_folder import ResultFolder
from mininetes.experiments.results import Run, cell_key
from mininetes.experiments.schedule import LabPlan, Planned, seed_of, warm_up
from mininetes.experiments.watching import Watcher
from mininetes.lab.launcher import Lab
from mininetes.lab.supervising import Supervised
from mininetes.testbed.preflight import engine_config

_ENTRY = "mininetes.experiments.engine:main"


class LabsEnd(MininetesError):
    """Nothing more can be run, since rows cannot be written."""


@dataclass
class _Seen:
    """What a lab's engine has told so far."""

    started_at: float
    begun: int | None = None
    begun_at: float = 0.0
    ended: int = 0
    over: bool = False
    """It ended because it was through, or because a run had failed."""
    trouble: str = ""


def _died(supervised: Supervised, status: int) -> str:
    """What to say of an engine that ended without a word of its own."""
    said = supervised.last_words()
    if status > 128:
        return f"the lab's engine was ended by {signal.Signals(status - 128).name}{said}"
    return f"the lab ended before its run did, with status {status}{said}"


class Labs:
    """Runs labs, in as many threads as call `run`; `end` ends all."""

    def __init__(
        self,
        experiment: Experiment,
        prepared: Prepared,
        folder: ResultFolder,
        watcher: Watcher,
        *,
        seed: int,
        quiet: bool,
    ) -> None:
        self._experiment = experiment
        self._prepared = prepared
        self._folder = folder
        self._watcher = watcher
        self._seed = seed
        self._stdout = subprocess.DEVNULL if quiet else 1
        self._starting = threading.Lock()
        """Held while a lab starts: that changes the umask, which belongs to the process."""
        self._up: set[Lab] = set()
        self._ending = False

    def end(self) -> None:
        """Ask every lab to end, and let no other start. Does not wait. May be called twice."""
        self._ending = True
        with self._starting:
            for lab in list(self._up):
                lab.ask_to_end()

    def run(self, plan: LabPlan) -> None:
        """Do a lab's runs. After one that failed the next gets a fresh lab.

        Raises LabsEnd when rows cannot be written, and what `Supervised` raises when no lab can be started.
        """
        left, attempt = list(plan.runs), 0
        while left and not self._ending:
            left = self._in_one_lab(plan, left, attempt)
            attempt += 1

    def _in_one_lab(self, plan: LabPlan, left: Sequence[Planned], attempt: int) -> list[Planned]:
        """Start a lab, have it do runs, and return those that it did not get to."""
        seen = _Seen(started_at=time.monotonic())
        warming = warm_up(LabPlan(plan.number, left), self._experiment)
        with self._lab(plan, attempt, self._config(left, warming)) as (supervised, lab):
            if supervised is None or lab is None:
                return []
            try:
                for event in supervised.events():
                    self._hear(event, seen, left, warming)
            except Reported as failed:
                seen.trouble = str(failed)
            if seen.over:
                lab.wait()
            else:
                seen.trouble = seen.trouble or _died(supervised, lab.end())
        if seen.over or self._ending:
            return list(left[seen.ended :])
        return self._in_trouble(seen, left)

    def _config(self, left: Sequence[Planned], warming: Sequence[Planned]) -> dict[str, Any]:
        """What the engine gets to know: each cell once, and runs by their cell's place."""
        cells = {cell_key(run.cell): run.cell for run in left}
        places = {key: place for place, key in enumerate(cells)}

        def told(runs: Sequence[Planned]) -> list[list[int]]:
            return [[places[cell_key(run.cell)], run.repetition, seed_of(self._seed, run.repetition)] for run in runs]

        return {
            "experiment": str(self._experiment.part.path),
            "cells": [dict(cell) for cell in cells.values()],
            "runs": told(left),
            "warm_up": told(warming),
            "backlog_limit": backlog_limit(),
        }

    @contextlib.contextmanager
    def _lab(
        self, plan: LabPlan, attempt: int, config: Mapping[str, Any]
    ) -> Iterator[tuple[Supervised | None, Lab | None]]:
        """A lab that was started, up to its end; nothing when all are to end."""
        spec = self._prepared.spec(plan, attempt)
        with contextlib.ExitStack() as undo:
            with self._starting:
                if self._ending:
                    yield None, None
                    return
                rows = results.open_rows(self._folder.path)
                undo.callback(os.close, rows)
                supervised = undo.enter_context(
                    Supervised(
                        spec.name,
                        _ENTRY,
                        engine_config(spec, **config),
                        fds={"rows": rows, "hold": self._folder.lock},
                        api_port=0 if spec.masters else None,
                    )
                )
                lab = supervised.start(stdout=self._stdout, stderr=2)
                self._up.add(lab)
                undo.callback(self._up.discard, lab)
            yield supervised, lab

    def _hear(self, event: Mapping[str, Any], seen: _Seen, left: Sequence[Planned], warming: Sequence[Planned]) -> None:
        """Take note of what the engine tells (see `engine`). Raises LabsEnd."""
        if "step" in event:
            self._watcher.step(event["step"])
        elif "ready" in event:
            self._watcher.lab_up(time.monotonic() - seen.started_at)
        elif "begin" in event:
            number = event["begin"]
            if number >= 0:
                seen.begun, seen.begun_at = number, time.monotonic()
            planned = left[number] if number >= 0 else warming[-number - 1]
            self._watcher.run_begins(planned, warm_up=number < 0)
        elif "run" in event:
            seen.ended = event["run"] + 1
            seen.over = event["failed"] is not None
            self._watcher.run_ended(self._told(left[event["run"]], event))
        elif "unwritten" in event:
            raise LabsEnd(event["unwritten"])
        elif "done" in event:
            seen.over = True

    def _told(self, planned: Planned, event: Mapping[str, Any]) -> Run:
        fidelity = {"verdict": event["verdict"], "load": event["load"]}
        return Run(
            self._experiment.name,
            planned.cell,
            planned.repetition,
            event["seconds"],
            event["failed"],
            event["rows"],
            event["holds"],
            fidelity,
        )

    def _in_trouble(self, seen: _Seen, left: Sequence[Planned]) -> list[Planned]:
        """Write down the run that the lab died in, or all of them when it never was ready; the rest is returned."""
        lost = list(left) if seen.begun is None else list(left[seen.begun : seen.begun + 1])
        rest = [] if seen.begun is None else list(left[seen.begun + 1 :])
        written = {run.key for run in results.runs(results.read(self._folder.path))}
        seconds = time.monotonic() - seen.begun_at if seen.begun is not None else 0.0
        for planned in lost:
            if planned.key in written:  # it died between the writing and the telling
                continue
            run = Run(
                self._experiment.name,
                planned.cell,
                planned.repetition,
                seconds,
                seen.trouble,
                0,
                holds=True,
                fidelity={"verdict": "unknown"},
            )
            self._write(run)
            self._watcher.run_ended(run)
        return rest

    def _write(self, run: Run) -> None:
        rows = results.open_rows(Path(self._folder.path))
        try:
            results.append_to(rows, [run.end()])
        except MininetesError as full:
            raise LabsEnd(str(full)) from None
        finally:
            os.close(rows)
