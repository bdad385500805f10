"""A result's rows: schema 1, one JSON object a line, on the disk as soon as their run is over.

    {"schema": 1, "experiment": "quickstart", "cell": {"nodes": 3}, "repetition": 0,
     "metric": "rtt_us", "value": 11.9, "unit": "us", "labels": {"path": "same node", ...}}

``cell`` holds the parameters, ``labels`` what tells apart the values of one cell. ``value`` is null
where a probe got no answer: loss is a row too.

The rows of a run (one repetition of a cell) are written together, and the last of them says how it went:

    {..., "metric": "run_s", "value": 2.7, "unit": "s",
     "labels": {"status": "ok", "rows": 225, "holds": true, "fidelity": {"verdict": "good", ...}}}

A run that failed has that row alone, with "status": "failed" and its "error". Rows without such an end were
torn by a crash, and readers leave them out; files from before there were ends have none at all, and are
read as they are.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mininetes.errors import BadInput, MininetesError

SCHEMA = 1
ROWS = "rows.jsonl"
RUN = "run_s"
"""The metric of the row that ends a run."""
_TAIL_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Measurement:
    """One value, as an experiment returns it; ``unit`` as in "us", "s", "bool", "1"."""

    metric: str
    value: float | None
    unit: str
    labels: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """A measurement with where it belongs."""

    experiment: str
    cell: Mapping[str, Any]
    repetition: int
    measurement: Measurement

    def to_json(self) -> dict[str, Any]:
        """As a line of rows.jsonl."""
        one = self.measurement
        return {
            "schema": SCHEMA,
            "experiment": self.experiment,
            "cell": dict(self.cell),
            "repetition": self.repetition,
            "metric": one.metric,
            "value": one.value,
            "unit": one.unit,
            "labels": dict(one.labels),
        }

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Row:
        """Undo `to_json`. Raises BadInput for another schema, KeyError for a missing field."""
        schema = said.get("schema") if isinstance(said, Mapping) else None
        if type(schema) is int and schema > SCHEMA:
            raise BadInput("schema", schema, f"up to {SCHEMA}: this result is from a newer Mininetes")
        if schema != SCHEMA:
            raise BadInput("row", said, f"an object with schema {SCHEMA}")
        one = Measurement(said["metric"], said["value"], said["unit"], said["labels"])
        return cls(said["experiment"], said["cell"], said["repetition"], one)

    @property
    def ends_run(self) -> bool:
        """Whether this row is a run's last, which says how it went."""
        return self.measurement.metric == RUN


@dataclass(frozen=True, slots=True)
class Run:
    """How one repetition of a cell went. ``fidelity`` is as `fidelity.judge` made it; rows are those it measured."""

    experiment: str
    cell: Mapping[str, Any]
    repetition: int
    seconds: float
    error: str | None
    rows: int
    holds: bool
    fidelity: Mapping[str, Any]

    @classmethod
    def of(cls, end: Row) -> Run:
        """From the row that ends it."""
        one = end.measurement
        error = one.labels.get("error", "it failed") if one.labels.get("status") != "ok" else None
        return cls(
            end.experiment,
            end.cell,
            end.repetition,
            one.value or 0.0,
            error,
            one.labels.get("rows", 0),
            one.labels.get("holds", True),
            one.labels.get("fidelity") or {"verdict": "unknown"},
        )

    def end(self) -> Row:
        """The row that ends it."""
        labels: dict[str, Any] = {"status": "ok" if self.error is None else "failed"}
        labels |= {} if self.error is None else {"error": self.error}
        labels |= {"rows": self.rows, "holds": self.holds, "fidelity": dict(self.fidelity)}
        measurement = Measurement(RUN, round(self.seconds, 6), "s", labels)
        return Row(self.experiment, self.cell, self.repetition, measurement)

    @property
    def is_saturated(self) -> bool:
        """Whether the machine could not keep up, so that its values say more about the load than about the network."""
        return bool(self.fidelity.get("verdict") == "saturated")

    @property
    def key(self) -> tuple[str, int]:
        """What no other run of the result has."""
        return cell_key(self.cell), self.repetition


def plain(labels: Mapping[str, Any]) -> dict[str, Any]:
    """Labels as they come back from a file: lists for tuples, plain numbers. Raises TypeError or ValueError."""
    if all(type(value) in (str, int, bool) for value in labels.values()):
        return dict(labels)
    made: dict[str, Any] = json.loads(json.dumps(dict(labels), allow_nan=False, default=_number))
    return made


def _number(value: Any) -> Any:
    """A library's number as Python's own."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{value!r}")


def cell_key(cell: Mapping[str, Any]) -> str:
    """A cell's parameters as text, the same whatever their order."""
    return json.dumps(cell, sort_keys=True)


def append_to(fd: int, rows: Iterable[Row]) -> None:
    """Add rows to the file behind ``fd`` (open for reading and appending), and return when they are on the disk.

    All of them or none: what does not fit is taken back. One writer at a time, which a lock sees to.
    Raises MininetesError.
    """
    text = "".join(json.dumps(row.to_json(), allow_nan=False) + "\n" for row in rows).encode()
    if not text:
        return
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        before = _whole_lines(fd)
        try:
            while text:
                text = text[os.write(fd, text) :]
            os.fsync(fd)
        except OSError as failed:
            os.ftruncate(fd, before)
            raise MininetesError(
                f"rows could not be written: {failed.strerror}; what was written before is whole"
            ) from None
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)


def _whole_lines(fd: int) -> int:
    """The length of the file without a last line that was torn, which is cut off."""
    size = end = os.fstat(fd).st_size
    while end:
        start = max(0, end - _TAIL_BYTES)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(fd, end)
    return end


def open_rows(folder: Path) -> int:
    """A descriptor of the folder's rows, for `append_to`; the file is made when there is none."""
    return os.open(folder / ROWS, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)


class _Shared:
    """Gives equal texts and cells of many rows one object each: a million rows then fit into half a gigabyte."""

    def __init__(self) -> None:
        self._cell: Mapping[str, Any] = {}

    def cell(self, cell: Mapping[str, Any]) -> Mapping[str, Any]:
        if cell != self._cell:
            self._cell = cell
        return self._cell

    def row(self, said: Mapping[str, Any]) -> Row:
        """As `Row.from_json`."""
        if not isinstance(said, dict) or said.get("schema") != SCHEMA:
            return Row.from_json(said)
        intern = sys.intern
        labels = {
            intern(key): intern(value) if type(value) is str and len(value) < 64 else value
            for key, value in said["labels"].items()
        }
        measurement = Measurement(intern(said["metric"]), said["value"], intern(said["unit"]), labels)
        return Row(intern(said["experiment"]), self.cell(said["cell"]), said["repetition"], measurement)


def _lines(path: Path) -> Iterator[tuple[Row, str]]:
    """Each row with its line; without a last line that was torn. Raises BadInput for a line that is no row."""
    shared = _Shared()
    with path.open() as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith("\n"):
                return
            try:
                yield shared.row(json.loads(line)), line
            except BadInput as wrong:
                raise BadInput(f"{path}:{number}", None, str(wrong)) from None
            except (ValueError, KeyError, TypeError, AttributeError) as wrong:
                raise BadInput(f"{path}:{number}", None, f"a row of schema {SCHEMA}: {wrong}") from None


def _whole_runs(lines: Iterable[tuple[Row, str]], *, old: bool) -> Iterator[tuple[Row, str]]:
    """The rows of runs that have their end, each run once; with ``old`` all rows where no run has one."""
    pending: list[tuple[Row, str]] = []
    seen: set[tuple[str, int]] = set()
    for row, line in lines:
        if not row.ends_run:
            pending.append((row, line))
            continue
        run = Run.of(row)
        own = pending[len(pending) - run.rows :] if run.rows <= len(pending) else []
        pending = []
        is_whole = len(own) == run.rows and all(
            each.repetition == row.repetition and each.cell == row.cell for each, _ in own
        )
        if is_whole and run.key not in seen:
            seen.add(run.key)
            yield from own
            yield row, line
    if old and not seen:
        yield from pending


def read(folder: Path) -> Iterator[Row]:
    """The rows of a result. Raises BadInput when it is none, or has a line that is no row."""
    path = folder / ROWS
    if not path.is_file():
        raise BadInput("result", str(folder), f"a folder with {ROWS}")
    without_lines = ((row, "") for row, _ in _lines(path))
    for row, _ in _whole_runs(without_lines, old=True):
        yield row


def runs(rows: Iterable[Row]) -> list[Run]:
    """The runs of a result, in the order in which they ended."""
    return [Run.of(row) for row in rows if row.ends_run]


def trusted(rows: Iterable[Row], *, saturated: bool = False) -> list[Row]:
    """The rows of runs that ended well and on a machine that kept up; with ``saturated`` on any.

    Rows from before runs had ends are all taken.
    """
    found: list[Row] = []
    pending: list[Row] = []
    for row in rows:
        pending.append(row)
        if row.ends_run:
            run = Run.of(row)
            if run.error is None and (saturated or not run.is_saturated):
                found += pending
            pending = []
    return found + pending


def keep_whole_runs(folder: Path, *, failed: bool = True) -> list[Run]:
    """Make a result fit to be gone on with: rows of torn runs are dropped, without ``failed`` those of failed ones too.

    Returns the runs that it then has. The file is replaced in one step, or left as it is when nothing is
    to be dropped. Raises BadInput as `read` does, MininetesError when the disk is full.
    """
    path = folder / ROWS
    if not path.exists():
        return []
    kept: list[Run] = []
    fresh = path.with_name(ROWS + ".new")
    try:
        with fresh.open("w") as file:
            for row, line in _whole_runs(_lines(path), old=False):
                if row.ends_run and (failed or Run.of(row).error is None):
                    kept.append(Run.of(row))
                elif row.ends_run:
                    continue
                file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if fresh.stat().st_size < path.stat().st_size:
            fresh.rename(path)
    except OSError as full:
        raise MininetesError(f"{path} could not be written anew: {full.strerror}; it is as it was") from None
    finally:
        fresh.unlink(missing_ok=True)
    return kept
