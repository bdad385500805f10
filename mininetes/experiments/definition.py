"""What an experiment's file declares, read and checked before anything is built.

Required: REPRODUCES, PARAMETERS (a grid: a table of lists), ``cluster``, ``run``, ``plot``. Optional:

    PUBLISHED = [Published(...)]    the published figures, as data
    FIGURE_SIZE = {"services": [1000], "repetitions": 5}    what `--size figures` puts in PARAMETERS' place
    REPETITIONS = 10                measured runs of each cell; 1 unless said
    WARM_UP = 1                     runs in each lab that are thrown away first; 0 unless said
    LAB_PER = ("mode", "services")  cells that agree in these share a lab, with all their repetitions;
                                    unless said, every run of a cell has a fresh one
    TIMING_SENSITIVE = False        parallel labs do not spoil what is measured; True unless said
    SATURATES = True                it drives the machine to its limit on purpose (throughput, bulk work): its own
                                    load is not held against it, only that of others (see fidelity); False unless said
    TIMEOUT_S = 600                 after which a run counts as failed; an hour unless said
    verdicts(rows)                  whether the published shape holds: a list of Verdict
"""

from __future__ import annotations

import inspect
import itertools
import json
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import yaml

from mininetes import parts
from mininetes.errors import BadInput
from mininetes.experiments.published import Published, Verdict
from mininetes.experiments.results import Measurement, Row

Parameters = Mapping[str, Any]
Size = Literal["full", "figures"]
_NEEDED = ("REPRODUCES", "PARAMETERS", "cluster", "run", "plot")
_REPETITIONS = "repetitions"
DEFAULT_TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class Experiment:
    """An experiment: its file, the grid of its parameters, and its functions.

    ``cluster(parameters)`` gives a cell's cluster, as the ``spec`` of a cluster file;
    ``run(lab, parameters)`` its measurements, once for each repetition; ``plot(rows)`` figures by name;
    ``verdicts(rows)`` whether the published shape holds.
    """

    part: parts.Part
    title: str
    description: str
    reproduces: str
    published: Sequence[Published]
    grid: Mapping[str, Sequence[Any]]
    repetitions: int
    warm_up: int
    lab_per: tuple[str, ...] | None
    timing_sensitive: bool
    saturates: bool
    timeout_s: float
    cluster: Callable[[Parameters], Mapping[str, Any]]
    run: Callable[[Any, Parameters], Awaitable[Iterable[Measurement]]]
    plot: Callable[[list[Row]], Mapping[str, Any]]
    verdicts: Callable[[list[Row]], Iterable[Verdict]] | None

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.part.name

    def all_cells(self) -> list[dict[str, Any]]:
        """Every combination of the grid's values, in the grid's order."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]

    def cells(self, seed: int) -> list[dict[str, Any]]:
        """Every combination of the grid's values, in an order that the seed decides."""
        found = self.all_cells()
        random.Random(seed).shuffle(found)
        return found


def load(
    name_or_path: str, settings: Sequence[str] = (), *, size: Size = "full", repetitions: int | None = None
) -> Experiment:
    """Read an experiment, with ``key=value`` settings laid over the grid of that size. Raises BadInput."""
    part = parts.find("experiment", name_or_path)
    module = part.module()
    where = f"experiment {part.path.name}"
    for needed in _NEEDED:
        if not hasattr(module, needed):
            raise BadInput(where, None, f"a file with {needed}; see quickstart.py")
    grid = _grid(where, module)
    known = {key: list(values) for key, values in grid.items()}
    wanted = _whole(where, module, "REPETITIONS", 1, least=1)
    for key, values in _figure_size(where, module, grid).items():
        if key in known:
            known[key] += [value for value in values if value not in known[key]]
        if size == "figures" and key == _REPETITIONS:
            wanted = values
        elif size == "figures":
            grid[key] = list(values)
    _lay_over(grid, known, settings)
    if repetitions is not None:
        if repetitions < 1:
            raise BadInput("--repetitions", repetitions, "at least 1")
        wanted = repetitions
    title, _, description = (inspect.getdoc(module) or part.name).partition("\n")
    return Experiment(
        part=part,
        title=title.strip(),
        description=description.strip(),
        reproduces=_text(where, module, "REPRODUCES"),
        published=_published(where, module),
        grid=grid,
        repetitions=wanted,
        warm_up=_whole(where, module, "WARM_UP", 0, least=0),
        lab_per=_lab_per(where, module, grid),
        timing_sensitive=_flag(where, module, "TIMING_SENSITIVE", default=True),
        saturates=_flag(where, module, "SATURATES", default=False),
        timeout_s=_timeout(where, module),
        cluster=_function(where, module, "cluster"),
        run=_function(where, module, "run"),
        plot=_function(where, module, "plot"),
        verdicts=_function(where, module, "verdicts") if hasattr(module, "verdicts") else None,
    )


def _table_of_lists(field: str, declared: object) -> dict[str, list[Any]]:
    right = "a table of lists, each with its values"
    if not isinstance(declared, dict) or not all(isinstance(key, str) for key in declared):
        raise BadInput(field, declared, right)
    if not all(isinstance(each, list) and each for each in declared.values()):
        raise BadInput(field, declared, right)
    for key, values in declared.items():
        try:
            texts = [json.dumps(value, sort_keys=True, allow_nan=False) for value in values]
        except (TypeError, ValueError):
            raise BadInput(f"{field}: {key}", values, "values that JSON can hold: numbers, text, true, lists") from None
        if len(set(texts)) < len(texts):
            raise BadInput(f"{field}: {key}", values, "each value once")
    return {key: list(values) for key, values in declared.items()}


def _grid(where: str, module: ModuleType) -> dict[str, list[Any]]:
    found = _table_of_lists(f"{where}: PARAMETERS", module.PARAMETERS)
    if _REPETITIONS in found:
        raise BadInput(f"{where}: PARAMETERS", _REPETITIONS, "not a parameter: REPETITIONS says how many")
    return found


def _figure_size(where: str, module: ModuleType, grid: Mapping[str, Any]) -> dict[str, Any]:
    field = f"{where}: FIGURE_SIZE"
    declared = getattr(module, "FIGURE_SIZE", {})
    if not isinstance(declared, dict):
        raise BadInput(field, declared, "a table of lists, and perhaps repetitions")
    found = dict(declared)
    repetitions = found.pop(_REPETITIONS, None)
    for key in found:
        if key not in grid:
            raise BadInput(field, key, "a parameter of this experiment: " + ", ".join(grid))
    lists: dict[str, Any] = _table_of_lists(field, found)
    if repetitions is not None:
        if type(repetitions) is not int or repetitions < 1:
            raise BadInput(f"{field}: {_REPETITIONS}", repetitions, "a number from 1 on")
        lists[_REPETITIONS] = repetitions
    return lists


def _lay_over(grid: dict[str, list[Any]], known: Mapping[str, Sequence[Any]], settings: Sequence[str]) -> None:
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise BadInput("--set", setting, "KEY=VALUE, or KEY=VALUE,VALUE for several")
        if key not in grid:
            raise BadInput("--set", key, "a parameter of this experiment: " + ", ".join(grid))
        values = [_value(key, part_of, known[key]) for part_of in text.split(",")]
        grid[key] = _table_of_lists("--set", {key: values})[key]


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


def _text(where: str, module: ModuleType, name: str) -> str:
    value = getattr(module, name)
    if not isinstance(value, str) or not value.strip():
        raise BadInput(f"{where}: {name}", value, "a text")
    return value


def _whole(where: str, module: ModuleType, name: str, default: int, *, least: int) -> int:
    value = getattr(module, name, default)
    if type(value) is not int or value < least:
        raise BadInput(f"{where}: {name}", value, f"a whole number from {least} on")
    return value


def _flag(where: str, module: ModuleType, name: str, *, default: bool) -> bool:
    value = getattr(module, name, default)
    if not isinstance(value, bool):
        raise BadInput(f"{where}: {name}", value, "True or False")
    return value


def _timeout(where: str, module: ModuleType) -> float:
    value = getattr(module, "TIMEOUT_S", DEFAULT_TIMEOUT_S)
    if type(value) not in (int, float) or not value > 0:
        raise BadInput(f"{where}: TIMEOUT_S", value, "seconds, more than 0")
    return float(value)


def _lab_per(where: str, module: ModuleType, grid: Mapping[str, Any]) -> tuple[str, ...] | None:
    declared = getattr(module, "LAB_PER", None)
    if declared is None:
        return None
    field = f"{where}: LAB_PER"
    if not isinstance(declared, tuple | list):
        raise BadInput(field, declared, 'names of parameters, such as ("mode",), or () for one lab in all')
    for key in declared:
        if key not in grid:
            raise BadInput(field, key, "a parameter of this experiment: " + ", ".join(grid))
    return tuple(declared)


def _published(where: str, module: ModuleType) -> list[Published]:
    declared = getattr(module, "PUBLISHED", [])
    field = f"{where}: PUBLISHED"
    if not isinstance(declared, tuple | list):
        raise BadInput(field, declared, "a list of Published")
    for each in declared:
        if not isinstance(each, Published):
            raise BadInput(field, each, "a list of Published")
        for figure in each.figures:
            if not isinstance(figure, Mapping) or "value" not in figure:
                raise BadInput(f"{field}: {each.row}", figure, 'figures that are tables with a "value"')
    return list(declared)


def _function(where: str, module: ModuleType, name: str) -> Callable[..., Any]:
    found = getattr(module, name)
    if not callable(found):
        raise BadInput(f"{where}: {name}", found, "a function")
    if name == "run" and not inspect.iscoroutinefunction(found):
        raise BadInput(f"{where}: run", None, "an async function: async def run(lab, params)")
    function: Callable[..., Any] = found
    return function
