"""Running an experiment from the host: its labs, one after the other or beside each other, and what comes of them.

Rows are written by the labs' engines as each run ends (see `results`), those of runs whose lab died by us.
"""

from __future__ import annotations

import concurrent.futures
import datetime
import signal
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mininetes.errors import BadInput, MininetesError
from mininetes.experiments import clusters, context, figures, judging, planning, results
from mininetes.experiments.definition import Experiment, Size
from mininetes.experiments.labs import Labs, LabsEnd
from mininetes.experiments.planning import Prepared
from mininetes.experiments.published import Judgement
from mininetes.experiments.result_folder import ResultFolder, open_folder
from mininetes.experiments.results import Run
from mininetes.experiments.watching import Watcher
from mininetes.lab.supervising import on_signal


@dataclass(frozen=True)
class Options:
    """How to run. ``jobs`` labs beside each other; ``insisted`` allows that for what is sensitive to timing.

    With ``quiet`` nothing that the experiment shows is printed.
    """

    out: Path | None = None
    seed: int = 1
    size: Size = "full"
    resume: bool = False
    retry_failed: bool = False
    jobs: int = 1
    insisted: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Finished:
    """A run that is over: its folder, what was drawn and judged, and how its runs went (earlier starts' too)."""

    folder: Path
    figures: Sequence[Path]
    judgement: Judgement | None
    runs: Sequence[Run]
    seconds: float
    left_out: Sequence[str] = ()
    """Cells that this machine cannot run, each with what it lacks."""

    @property
    def failed(self) -> list[Run]:
        """The runs that have an error in place of values."""
        return [run for run in self.runs if run.error is not None]

    @property
    def saturated(self) -> list[Run]:
        """The runs on which the machine did not keep up."""
        return [run for run in self.runs if run.error is None and run.is_saturated]

    @property
    def holds(self) -> bool:
        """Whether all runs went well, and all that was expected in them held."""
        return all(run.error is None and run.holds for run in self.runs)


def run(experiment: Experiment, options: Options, watcher: Watcher) -> Finished:
    """Do every run of an experiment that is not done yet; then draw and judge.

    Raises BadInput or MissingFeature before anything is built, MininetesError when rows cannot be written.
    A run that fails is a row, and the others go on. However it ends, what was written stays whole, and
    `resume` goes on from there.
    """
    start = time.time()
    if options.jobs > 1 and experiment.timing_sensitive and not options.insisted:
        right = "1: labs beside each other disturb what this experiment measures; say it twice if that does not matter"
        raise BadInput("--jobs", options.jobs, right)
    prepared = planning.prepare(experiment, options.seed)
    facts = _facts(experiment, options, prepared)
    folder = open_folder(options.out, experiment.name, facts, resume=options.resume, retry_failed=options.retry_failed)
    try:
        if folder.before is not None:
            facts["clusters"] = clusters.extended(folder.before, facts)
        seen = _Start(experiment, options, folder, facts, start, prepared.runs)
        seen.write(complete=False)
        done = {run.key for run in folder.done}
        left = [each for each in (lab.without(lambda run: run.key in done) for lab in prepared.labs) if each.runs]
        watcher.begins(folder.path, left, len(folder.done), jobs=options.jobs)
        with ThreadPoolExecutor(1) as helper:
            seen.machine = helper.submit(context.machine)
            try:
                labs = Labs(experiment, prepared, folder, watcher, seed=options.seed, quiet=options.quiet)
                _do(labs, left, options.jobs)
            except BaseException:
                seen.write(complete=False, quietly=True)
                raise
            finally:
                watcher.ends()
        rows = list(results.read(folder.path))
        ended = results.runs(rows)
        seen.write(complete=len(ended) == prepared.runs)
        watcher.step("figures")
        judged = judging.judge(experiment, rows)
        drawn = figures.save(judged.figures, folder.path)
        return Finished(folder.path, drawn, judged.write(folder.path), ended, time.time() - start, prepared.left_out)
    finally:
        folder.close()


def _do(labs: Labs, left: Sequence[planning.LabPlan], jobs: int) -> None:
    """Have the labs run; an error, a signal or Ctrl-C ends them all, each in order."""
    on_signal(signal.SIGTERM, signal.SIGHUP)
    with ThreadPoolExecutor(jobs, thread_name_prefix="lab") as pool:
        futures = [pool.submit(labs.run, lab) for lab in left]
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
        except BaseException as ended:
            for future in futures:
                future.cancel()
            labs.end()
            if isinstance(ended, LabsEnd):
                raise MininetesError(str(ended)) from None
            raise


def _facts(experiment: Experiment, options: Options, prepared: Prepared) -> dict[str, Any]:
    """What is known before anything runs, as in context.json."""
    declared = {
        "name": experiment.name,
        "title": experiment.title,
        "reproduces": experiment.reproduces,
        "parameters": {key: list(values) for key, values in experiment.grid.items()},
        "size": options.size,
        "repetitions": experiment.repetitions,
        "warm_up": experiment.warm_up,
        "lab_per": None if experiment.lab_per is None else list(experiment.lab_per),
        "timing_sensitive": experiment.timing_sensitive,
        "saturates": experiment.saturates,
        "left_out": list(prepared.left_out),
    }
    hashes = {f"experiment/{experiment.part.path.name}": experiment.part.sha256, **prepared.hashes}
    return {
        **context.quick(),
        "experiment": declared,
        "parts": dict(sorted(hashes.items())),
        "seed": options.seed,
        "clusters": clusters.of_labs(prepared.labs, prepared.specs, experiment.all_cells()),
    }


@dataclass
class _Start:
    """What context.json says about this start and the ones before it."""

    experiment: Experiment
    options: Options
    folder: ResultFolder
    facts: Mapping[str, Any]
    start: float
    planned: int
    machine: Future[dict[str, Any]] | None = None
    load_before: list[float] = field(default_factory=context.load)

    def write(self, *, complete: bool, quietly: bool = False) -> None:
        """Write context.json as things are now. Raises MininetesError unless ``quietly``."""
        try:
            context.write(self.folder.path, self._now(complete=complete))
        except (MininetesError, BadInput):
            if not quietly:
                raise

    def _now(self, *, complete: bool) -> dict[str, Any]:
        ended = results.runs(results.read(self.folder.path)) if (self.folder.path / results.ROWS).exists() else []
        before = self.folder.before or {}
        machine = self.machine.result() if self.machine is not None else {}
        mine = ended[len(self.folder.done) :]
        highest = max([self.load_before[0], *(run.fidelity.get("load", 0.0) for run in mine)])
        load = {"before": self.load_before, "after": context.load(), "highest": highest}
        this = {
            "started": _utc(self.start),
            "duration_s": round(time.time() - self.start, 3),
            "runs": len(mine),
            "jobs": self.options.jobs,
            **{key: machine.get("mininetes", {}).get(key) for key in ("commit", "dirty")},
            "load": load,
        }
        starts = [*before.get("starts", []), this]
        return {
            **{key: value for key, value in before.items() if key not in self.facts},
            **self.facts,
            **machine,
            "schema": context.SCHEMA,
            "complete": complete,
            "runs": {
                "planned": self.planned,
                "done": len(ended),
                "failed": sum(run.error is not None for run in ended),
                "saturated": sum(run.error is None and run.is_saturated for run in ended),
            },
            "starts": starts,
            "started": starts[0]["started"],
            "duration_s": round(sum(each["duration_s"] for each in starts), 3),
            "load": {
                "before": starts[0]["load"]["before"],
                "after": load["after"],
                "highest": max(each["load"]["highest"] for each in starts),
            },
        }


def _utc(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat(timespec="milliseconds")
