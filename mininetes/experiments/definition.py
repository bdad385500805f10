"""What an experiment's file declares, read and checked before anything is built."""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from mininetes import parts
from mininetes.errors import BadInput
from mininetes.experiments.results import Measurement, Row

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Experiment:
    """An experiment: its file, the grid of its parameters, and its functions.

    ``cluster(parameters)`` gives a cell's cluster, as the ``spec`` of a cluster file;
    ``run(lab, parameters)`` its measurements; ``plot(rows)`` figures by name.
    """

    part: parts.Part
    reproduces: str
    grid: Mapping[str, Sequence[Any]]
    cluster: Callable[[Parameters], Mapping[str, Any]]
    run: Callable[[Any, Parameters], Awaitable[Iterable[Measurement]]]
    plot: Callable[[list[Row]], Mapping[str, Any]]

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.part.name

    def cells(self, seed: int) -> list[dict[str, Any]]:
        """Every combination of the grid's values, in an order that the seed decides."""
        found = [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]
        random.Random(seed).shuffle(found)
        return found


def load(name_or_path: str, settings: Sequence[str] = ()) -> Experiment:
    """Read an experiment, with ``key=value`` settings laid over its grid. Raises BadInput."""
    part = parts.find("experiment", name_or_path)
    module = part.module()
    for needed in ("REPRODUCES", "PARAMETERS", "cluster", "run", "plot"):
        if not hasattr(module, needed):
            raise BadInput(f"experiment {part.path.name}", None, f"a file with {needed}; see quickstart.py")
    declared = module.PARAMETERS
    if not isinstance(declared, dict) or not all(isinstance(each, list) and each for each in declared.values()):
        raise BadInput(f"experiment {part.path.name}: PARAMETERS", declared, "a table of lists, each with its values")
    grid = {key: list(values) for key, values in declared.items()}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise BadInput("--set", setting, "KEY=VALUE, or KEY=VALUE,VALUE for several")
        if key not in grid:
            raise BadInput("--set", key, "a parameter of this experiment: " + ", ".join(grid))
        grid[key] = [_value(key, part_of, grid[key]) for part_of in text.split(",")]
    return Experiment(part, module.REPRODUCES, grid, module.cluster, module.run, module.plot)


def _value(key: str, text: str, known: Sequence[Any]) -> Any:
    """Read a value; it must be of the kind that the experiment's own values have. Raises BadInput."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise BadInput(f"--set {key}", text, "a value that YAML understands") from None
    kinds = {type(each) for each in known}
    if kinds <= {float, int} and float in kinds and type(value) is int:
        return float(value)
    if kinds and type(value) not in kinds:
        raise BadInput(f"--set {key}", text, f"like {', '.join(repr(each) for each in known)}")
    return value
