"""Running an experiment from the host: a lab for each cell, its rows, what it ran on, and the figures."""

from __future__ import annotations

import contextlib
import datetime
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mininetes.errors import BadInput, MininetesError
from mininetes.experiments import context, figures, results
from mininetes.experiments.definition import Experiment
from mininetes.lab.supervising import Supervised
from mininetes.spec import ClusterSpec, describe
from mininetes.testbed.preflight import checked, engine_config, require_agents_features


@dataclass(frozen=True)
class Finished:
    """A run that is over: its folder, its figures, and whether all that was expected held."""

    folder: Path
    figures: list[Path]
    holds: bool
    seconds: float


def new_folder(out: Path | None, experiment: str) -> Path:
    """Make the folder for a result: ``out``, which must be empty, or a new one below results/. Raises BadInput."""
    if out is None:
        stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%S")
        out = Path("results") / f"{experiment}-{stamp}-{secrets.token_hex(2)}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise BadInput("--out", str(out), "an empty folder, or one that does not exist yet")
    except OSError as failed:
        raise BadInput("--out", str(out), f"a folder that can be written ({failed.strerror})") from None
    return out


def plan(experiment: Experiment, seed: int, lab_name: str) -> list[tuple[dict[str, Any], ClusterSpec]]:
    """Each cell with its checked cluster. Raises BadInput or MissingFeature before anything is built."""
    cells = []
    for cell in experiment.cells(seed):
        spec = checked(describe(experiment.cluster(cell), lab_name)).spec
        require_agents_features(spec)
        cells.append((cell, spec))
    return cells


def run(
    experiment: Experiment, out: Path | None, *, seed: int, progress: Callable[[str], None], quiet: bool = False
) -> Finished:
    """Run every cell, each in a fresh lab; write rows as cells finish, context and figures in the end.

    With ``quiet`` nothing that the experiment shows is printed.

    Raises BadInput before anything is built, MininetesError when a cell's lab fails; rows of the
    cells before it are kept.
    """
    start = time.time()
    cells = plan(experiment, seed, f"{experiment.name[:24].replace('_', '-')}-{os.getpid()}")
    folder = new_folder(out, experiment.name)
    holds, complete = True, False
    hashes = {f"experiment/{experiment.part.path.name}": experiment.part.sha256}
    load_before = context.load()
    with ThreadPoolExecutor(2) as helpers:
        machine = helpers.submit(context.machine)
        drawing = helpers.submit(_warm_up_drawing)
        try:
            for cell, spec in cells:
                event = _run_cell(experiment, cell, spec, folder, progress, quiet=quiet)
                holds = holds and event["holds"]
                hashes |= event["parts"]
            complete = True
        finally:
            _write_context(folder, experiment, machine, start, seed, hashes, load_before, complete=complete)
        drawing.result()
    progress("figures")
    drawn = figures.save(experiment.plot(list(results.read(folder))), folder)
    return Finished(folder, drawn, holds, time.time() - start)


def _warm_up_drawing() -> None:
    """Import what takes half a second while the lab comes up."""


def _write_context(
    folder: Path,
    experiment: Experiment,
    machine: Future[dict[str, Any]],
    start: float,
    seed: int,
    hashes: dict[str, str],
    load_before: list[float],
    *,
    complete: bool,
) -> None:
    """Write what it ran on; ``complete`` is false for a run that failed or was ended half-way."""
    facts = {
        **machine.result(),
        "experiment": {
            "name": experiment.name,
            "reproduces": experiment.reproduces,
            "parameters": dict(experiment.grid),
        },
        "parts": dict(sorted(hashes.items())),
        "seed": seed,
        "complete": complete,
        "started": datetime.datetime.fromtimestamp(start, datetime.timezone.utc).isoformat(timespec="milliseconds"),
        "duration_s": round(time.time() - start, 3),
        "load": {"before": load_before, "after": context.load()},
    }
    context.write(folder, facts)


@contextlib.contextmanager
def _rows_file(folder: Path) -> Iterator[int]:
    fd = os.open(folder / results.ROWS, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        yield fd
    finally:
        os.close(fd)


def _run_cell(
    experiment: Experiment,
    cell: dict[str, Any],
    spec: ClusterSpec,
    folder: Path,
    progress: Callable[[str], None],
    *,
    quiet: bool,
) -> dict[str, Any]:
    """Run one cell in a lab of its own and return the engine's last report."""
    config = engine_config(spec, experiment=str(experiment.part.path), cell=cell, repetition=0)
    with (
        _rows_file(folder) as rows,
        Supervised(
            spec.name,
            "mininetes.experiments.engine:main",
            config,
            fds={"rows": rows},
            api_port=0 if spec.masters else None,
        ) as supervised,
    ):
        lab = supervised.start(stdout=subprocess.DEVNULL if quiet else 1, stderr=2)
        finished = None
        for event in supervised.events():
            if "step" in event:
                progress(event["step"])
            elif "rows" in event:
                finished = event
        lab.wait()
        if finished is None:
            raise MininetesError(f"the lab ended before the experiment did{supervised.last_words()}")
        return finished
