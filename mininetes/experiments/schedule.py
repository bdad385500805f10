"""Which runs an experiment has, in which labs, and in which order: the seed alone decides. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mininetes.experiments.definition import Experiment
from mininetes.experiments.results import cell_key


@dataclass(frozen=True)
class Planned:
    """One repetition of a cell, to be run."""

    cell: Mapping[str, Any]
    repetition: int

    @property
    def key(self) -> tuple[str, int]:
        """As that of the result's `Run`."""
        return cell_key(self.cell), self.repetition


@dataclass(frozen=True)
class LabPlan:
    """The runs that one lab has, in order. ``number`` counts the labs of a whole schedule."""

    number: int
    runs: Sequence[Planned]

    def without(self, done: Callable[[Planned], bool]) -> LabPlan:
        """The same lab with what is still to be done."""
        return replace(self, runs=[run for run in self.runs if not done(run)])


def schedule(experiment: Experiment, seed: int) -> list[LabPlan]:
    """All runs in their labs.

    With a fresh lab a run, all repetitions of all cells are shuffled among each other. Where cells share a lab,
    the labs are shuffled, and inside each a repetition of every cell comes before the next repetition of any, with
    the cells in another order each time: what drifts during a run then touches all cells alike.
    """
    cells = experiment.all_cells()
    if experiment.lab_per is None:
        runs = [Planned(cell, repetition) for repetition in range(experiment.repetitions) for cell in cells]
        random.Random(seed).shuffle(runs)
        return [LabPlan(number, [run]) for number, run in enumerate(runs)]
    labs: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        labs.setdefault(cell_key({name: cell[name] for name in experiment.lab_per}), []).append(cell)
    order = list(labs)
    random.Random(seed).shuffle(order)
    return [
        LabPlan(number, list(_interleaved(labs[key], experiment.repetitions, random.Random(f"{seed} {key}"))))
        for number, key in enumerate(order)
    ]


def _interleaved(cells: Sequence[Mapping[str, Any]], repetitions: int, chance: random.Random) -> Iterator[Planned]:
    for repetition in range(repetitions):
        block = list(cells)
        chance.shuffle(block)
        for cell in block:
            yield Planned(cell, repetition)


def warm_up(lab: LabPlan, experiment: Experiment) -> list[Planned]:
    """The runs that a lab's measured ones come after: its cells in turn, with repetitions that no measured run has."""
    cells = list({cell_key(run.cell): run.cell for run in lab.runs}.values())
    return [
        Planned(cells[number % len(cells)], experiment.repetitions + number)
        for number in range(experiment.warm_up if cells else 0)
    ]


def seed_of(seed: int, repetition: int) -> int:
    """The seed that a run gets: the same for a repetition of every cell, so that cells are compared on equal terms."""
    return random.Random(f"{seed} {repetition}").getrandbits(32)
