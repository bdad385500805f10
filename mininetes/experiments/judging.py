"""What is made of a result's rows: the experiment's figures, and its verdicts on the published shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mininetes.errors import MininetesError
from mininetes.experiments import results
from mininetes.experiments.definition import Experiment
from mininetes.experiments.published import Judgement, Verdict, with_row, write_verdicts
from mininetes.experiments.results import Row, cell_key

_T = TypeVar("_T")


@dataclass(frozen=True)
class Judged:
    """Figures by name, and the verdicts where the experiment has any."""

    figures: Mapping[str, Any]
    judgement: Judgement | None

    def write(self, folder: Path) -> Judgement | None:
        """Write verdicts.json, if there are verdicts, and return them."""
        if self.judgement is not None:
            try:
                write_verdicts(folder, self.judgement)
            except OSError as failed:
                raise MininetesError(f"verdicts could not be written: {failed.strerror}; the rows are whole") from None
        return self.judgement


def chosen(rows: Sequence[Row]) -> tuple[list[Row], int, bool]:
    """The rows that figures and verdicts are made from; how many runs are left out; whether saturated ones are in.

    Those of saturated runs are left out, unless some cell has no others.
    """
    good = results.trusted(rows)
    every = results.trusted(rows, saturated=True)
    if _cells(good) != _cells(every):
        return every, 0, True
    return good, len(results.runs(every)) - len(results.runs(good)), False


def _cells(rows: Iterable[Row]) -> set[str]:
    return {cell_key(row.cell) for row in rows if row.ends_run}


def judge(experiment: Experiment, rows: Sequence[Row], *, saturated: bool = False) -> Judged:
    """Draw and judge, with ``saturated`` from saturated runs too; nothing when no run went well.

    Raises MininetesError naming what failed in the file.
    """
    taken, left_out, saturated = (results.trusted(rows, saturated=True), 0, True) if saturated else chosen(rows)
    if not taken:
        return Judged({}, None)
    where = experiment.part.path.name
    drawn = _call(f"{where}: plot", lambda: dict(experiment.plot(taken)))
    for name, figure in drawn.items():
        if not isinstance(name, str) or "/" in name or not hasattr(figure, "savefig"):
            raise MininetesError(f"{where}: plot: {name!r} is no figure with a name for a file; the rows are whole")
    if experiment.verdicts is None:
        return Judged(drawn, None)
    function = experiment.verdicts
    said = _call(f"{where}: verdicts", lambda: list(function(taken)))
    for verdict in said:
        if not isinstance(verdict, Verdict):
            raise MininetesError(f"{where}: verdicts: {verdict!r} is no Verdict; the rows are whole")
    reproduces = experiment.reproduces
    return Judged(drawn, Judgement(experiment.name, reproduces, with_row(said, reproduces), left_out, saturated))


def _call(what: str, function: Callable[[], _T]) -> _T:
    try:
        return function()
    except Exception as failed:
        text = str(failed) if isinstance(failed, MininetesError) else f"{type(failed).__name__}: {failed}"
        raise MininetesError(f"{what} failed: {text}; the rows are whole") from failed
