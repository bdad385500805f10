"""One result as a report tells it: rows gathered, figures and verdicts made from them anew, its clusters drawn.

What the experiment's file does (titles, figures, verdicts) needs that file; where it cannot be found, what the run
left beside the rows is taken, and a note says so.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mininetes.errors import BadInput, MininetesError
from mininetes.experiments import context, definition, figures, judging, results
from mininetes.experiments.definition import Experiment
from mininetes.experiments.figure_style import as_svg
from mininetes.experiments.gathering import Gathered, gather, key_of
from mininetes.experiments.published import Judgement, read_verdicts
from mininetes.experiments.report_topologies import topologies
from mininetes.experiments.results import Row

MOST_TOPOLOGIES = 6
MOST_TRUTH_ROWS = 2000
MOST_MISMATCHES = 200
_SEVERITY = ("", "reached", "unreached", "leaked", "lost")
"""Of verdicts on a pair, the worst last: it is what counts when repetitions differ."""


@dataclass
class Matrix:
    """Who reached whom in one cell: the worst of its repetitions for each pair."""

    title: str
    names: list[str] = field(default_factory=list)
    pairs: dict[int, int] = field(default_factory=dict)
    """Verdict by source << 32 | target, as places in ``names`` and in the severities."""
    mismatches: list[str] = field(default_factory=list)
    wrong: int = 0

    def counts(self) -> dict[str, int]:
        """How many pairs have each verdict."""
        found = dict.fromkeys(_SEVERITY[1:], 0)
        for code in self.pairs.values():
            found[_SEVERITY[code]] += 1
        return found

    def table(self) -> tuple[list[str], list[str], bytes]:
        """Sources, targets, and a severity for each pair, row by row; 0 where nothing was asked."""
        sources = list(dict.fromkeys(key >> 32 for key in self.pairs))
        targets = dict.fromkeys(key & 0xFFFFFFFF for key in self.pairs)
        known = set(sources)
        columns = [*(each for each in sources if each in targets), *(each for each in targets if each not in known)]
        codes = bytes(self.pairs.get(source << 32 | target, 0) for source in sources for target in columns)
        return [self.names[each] for each in sources], [self.names[each] for each in columns], codes


@dataclass
class Told:
    """A result, read. ``notes`` say what a reader must know about how it came to be."""

    folder: Path
    context: Mapping[str, Any]
    gathered: Gathered
    experiment: Experiment | None
    saturated: bool
    judgement: Judgement | None = None
    figures: dict[str, str] = field(default_factory=dict)
    """Each as SVG text, by name."""
    matrices: list[Matrix] = field(default_factory=list)
    truth: list[Mapping[str, Any]] = field(default_factory=list)
    truth_rows: int = 0
    topologies: list[tuple[str, str]] = field(default_factory=list)
    """Which cells have it, and the drawing."""
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The experiment's name."""
        return str(self.context["experiment"]["name"])

    @property
    def title(self) -> str:
        """What it is about, in a line."""
        return self.experiment.title if self.experiment else str(self.context["experiment"].get("title") or self.name)

    def same_everywhere(self) -> list[str]:
        """Parameters that tell no cells apart."""
        cells = [runs[0].cell for runs in self.gathered.cells().values()]
        return [
            key for key in (cells[0] if cells else {}) if len({key_of({key: cell.get(key)}) for cell in cells}) == 1
        ]

    def called(self, cell: Mapping[str, Any]) -> str:
        """A cell by the parameters that tell it from the others."""
        same = self.same_everywhere()
        return ", ".join(f"{key}={value}" for key, value in cell.items() if key not in same) or "all"


def read(folder: Path, *, saturated: bool = False) -> tuple[Told, list[Row]]:
    """Read a result, and draw and judge it anew; returns its rows too. Raises BadInput, MininetesError."""
    facts = context.read(folder)
    rows = list(results.read(folder))
    gathered = gather(rows)
    if not gathered.runs:
        raise BadInput("result", str(folder), "a result with runs; this one has none yet")
    told = Told(folder, facts, gathered, _experiment(facts), saturated)
    if not saturated and _cells(gathered, saturated=False) != _cells(gathered, saturated=True):
        told.saturated = True
        told.notes.append(
            "In every run of some cells the machine was too busy. They are counted in, as there are no others, and say "
            "more about the machine than about the network."
        )
    if not facts.get("complete", True):
        runs = facts.get("runs", {})
        many = f": {runs['done']} of {runs['planned']} runs are done" if runs.get("done") is not None else ""
        told.notes.append(f"Not complete{many}.")
    _draw_and_judge(told, rows)
    _add_matrices(told, rows)
    _add_truth(told, rows)
    shown = topologies(facts, told.experiment, (runs[0].cell for runs in gathered.cells().values()), told.called)
    told.topologies, told.notes = shown.drawings, told.notes + shown.notes
    return told, rows


def _cells(gathered: Gathered, *, saturated: bool) -> set[Any]:
    return {cell for cell, _ in gathered.trusted(saturated=saturated)}


def _experiment(facts: Mapping[str, Any]) -> Experiment | None:
    try:
        return definition.load(facts["experiment"]["name"])
    except (BadInput, OSError):
        return None


def _draw_and_judge(told: Told, rows: Sequence[Row]) -> None:
    folder, experiment = told.folder, told.experiment
    if experiment is None:
        told.notes.append(f"No experiment {told.name} is here: figures and verdicts are those that its run left.")
        told.judgement = read_verdicts(folder)
        told.figures = {path.stem: _svg_of(path) for path in sorted(folder.glob("*.svg"))}
        return
    was = told.context.get("parts", {}).get(f"experiment/{experiment.part.path.name}")
    if was and was != experiment.part.sha256:
        told.notes.append(
            f"{experiment.part.path.name} has changed since: figures and verdicts are by the file of today."
        )
    try:
        judged = judging.judge(experiment, rows, saturated=told.saturated)
    except MininetesError as failed:
        told.notes.append(f"{failed}: figures and verdicts are those that its run left.")
        told.judgement = read_verdicts(folder)
        told.figures = {path.stem: _svg_of(path) for path in sorted(folder.glob("*.svg"))}
        return
    figures.save(judged.figures, folder)
    told.judgement = judged.write(folder)
    told.figures = {name: as_svg(figure) for name, figure in judged.figures.items()}


def _svg_of(path: Path) -> str:
    text = path.read_text()
    return text[text.find("<svg") :] if "<svg" in text else ""


def _add_matrices(told: Told, rows: Iterable[Row]) -> None:
    trusted = told.gathered.trusted(saturated=told.saturated)
    found: dict[Any, Matrix] = {}
    places: dict[Any, dict[str, int]] = {}
    for row in rows:
        labels = row.measurement.labels
        if row.measurement.metric != "reached" or not {"source", "target", "verdict"} <= labels.keys():
            continue
        cell = key_of(row.cell)
        if (cell, row.repetition) not in trusted or labels["verdict"] not in _SEVERITY:
            continue
        apart = {key: labels[key] for key in ("protocol", "phase", "when") if key in labels}
        key = cell, key_of(apart)
        matrix = found.get(key)
        if matrix is None:
            words = ", ".join(str(value) for value in apart.values())
            matrix = found[key] = Matrix(f"{told.called(row.cell)}{': ' + words if words else ''}")
        names = places.setdefault(key, {})
        for name in (labels["source"], labels["target"]):
            if name not in names:
                names[name] = len(matrix.names)
                matrix.names.append(name)
        pair = names[labels["source"]] << 32 | names[labels["target"]]
        matrix.pairs[pair] = max(matrix.pairs.get(pair, 0), _SEVERITY.index(labels["verdict"]))
        if labels["verdict"] in ("lost", "leaked"):
            matrix.wrong += 1
            if len(matrix.mismatches) < MOST_MISMATCHES:
                expected = "an answer" if labels["verdict"] == "lost" else "no answer"
                seen = labels.get("saw") or ("no answer" if labels["verdict"] == "lost" else "an answer")
                matrix.mismatches.append(
                    f"{labels['source']} \N{RIGHTWARDS ARROW} {labels['target']}: expected {expected}, saw {seen}"
                    f" (repetition {row.repetition})"
                )
    told.matrices = list(found.values())


def _add_truth(told: Told, rows: Iterable[Row]) -> None:
    """Rows of metric "truth": what services had to do for whom. The wrong ones come first."""
    trusted = told.gathered.trusted(saturated=told.saturated)
    right: list[Mapping[str, Any]] = []
    wrong: list[Mapping[str, Any]] = []
    for row in rows:
        if row.measurement.metric != "truth" or (key_of(row.cell), row.repetition) not in trusted:
            continue
        told.truth_rows += 1
        kept = right if row.measurement.value else wrong
        if len(kept) < MOST_TRUTH_ROWS:
            kept.append({**row.measurement.labels, "holds": bool(row.measurement.value)})
    told.truth = [*wrong, *right][:MOST_TRUTH_ROWS]


def percentiles(values: array[float], wanted: Sequence[float]) -> list[float]:
    """Percentiles of many values at once; NaN without any."""
    import numpy as np  # noqa: PLC0415

    if not values:
        return [float("nan")] * len(wanted)
    return [float(each) for each in np.percentile(np.frombuffer(values), wanted)]


def repeat_command(told: Told) -> str:
    """The command that measures this again, with all that was set."""
    declared = told.context["experiment"]
    words = ["mininetes run", told.name, f"--seed {told.context.get('seed', 1)}"]
    size = declared.get("size", "full")
    if size != "full":
        words.append(f"--size {size}")
    try:
        usual = definition.load(told.name, size=size)
        grid, repetitions = {key: list(values) for key, values in usual.grid.items()}, usual.repetitions
    except (BadInput, OSError):
        grid, repetitions = {}, 0
    for key, values in declared.get("parameters", {}).items():
        if grid.get(key) != list(values):
            words.append(f"--set {key}={','.join(_plain(value) for value in values)}")
    if declared.get("repetitions", 1) != repetitions:
        words.append(f"--repetitions {declared.get('repetitions', 1)}")
    return " ".join(words)


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return (
        text
        if all(letter.isalnum() or letter in "._-/+:" for letter in text)
        else "'" + text.replace("'", "'\\''") + "'"
    )
