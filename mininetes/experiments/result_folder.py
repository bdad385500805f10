"""The folder of a result while it is written: made or taken up again, locked, and cleared of torn rows."""

from __future__ import annotations

import datetime
import fcntl
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mininetes.errors import BadInput
from mininetes.experiments import context, results
from mininetes.experiments.results import Run

_LOCK_TIMEOUT_S = 5.0


@dataclass
class ResultFolder:
    """A folder that this process writes a result to. ``before`` and ``done`` are what an earlier start left.

    ``lock`` is a descriptor whose lock keeps others away as long as anyone has it open: labs get it too, so
    that one which outlives its launcher for a moment cannot write among the rows of the next start.
    """

    path: Path
    lock: int
    before: Mapping[str, Any] | None = None
    done: list[Run] = field(default_factory=list)

    def close(self) -> None:
        """Let others have it."""
        os.close(self.lock)


def open_folder(
    out: Path | None, experiment: str, now: Mapping[str, Any], *, resume: bool, retry_failed: bool
) -> ResultFolder:
    """Make the folder for a result, or with ``resume`` take up the one that is there.

    ``out`` must be empty, or hold a result that does not differ from ``now`` (see `context.differences`);
    without it a new folder below results/ is made. Raises BadInput, with nothing changed.
    """
    if out is None and resume:
        raise BadInput("--resume", None, "with --out DIR, the folder to go on in")
    if out is None:
        stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%S")
        out = Path("results") / f"{experiment}-{stamp}-{secrets.token_hex(2)}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = os.open(out, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as failed:
        raise BadInput("--out", str(out), f"a folder that can be written ({failed.strerror})") from None
    folder = ResultFolder(out, lock)
    try:
        _lock(folder)
        if not os.access(out, os.W_OK | os.X_OK):
            raise BadInput("--out", str(out), "a folder that can be written (Permission denied)")
        if all(path.name.endswith(".new") for path in out.iterdir()):  # such as a start that was killed at once leaves
            return folder
        if not resume:
            raise BadInput("--out", str(out), "an empty folder, or one that does not exist; --resume goes on with it")
        _take_up(folder, experiment, now, retry_failed=retry_failed)
    except BaseException:
        folder.close()
        raise
    return folder


def _lock(folder: ResultFolder) -> None:
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(folder.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise BadInput("--out", str(folder.path), "a folder that no other run is writing to") from None
            time.sleep(0.05)
        else:
            return


def _take_up(folder: ResultFolder, experiment: str, now: Mapping[str, Any], *, retry_failed: bool) -> None:
    path = folder.path
    if not (path / context.CONTEXT).is_file():
        raise BadInput("--resume", str(path), f"a folder with a result ({context.CONTEXT}), or an empty one")
    before = context.read(path)
    if before["experiment"]["name"] != experiment:
        raise BadInput("--resume", str(path), f"a result of {experiment}, not of {before['experiment']['name']}")
    differing = context.differences(before, now)
    if differing:
        right = "a result of the same run; changed: " + ", ".join(differing) + "; choose another --out"
        raise BadInput("--resume", str(path), right)
    if before["runs"]["saturated"] is None:
        raise BadInput("--resume", str(path), "a result whose rows say where runs end; this is from before they did")
    done = results.keep_whole_runs(path, failed=not retry_failed)
    folder.before, folder.done = before, done
