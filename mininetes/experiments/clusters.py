"""Which cluster each cell of a result ran on, as context.json has it since schema 3. Pure.

    "clusters": [{"cells": [{"mode": "iptables"}, {"mode": "ipvs"}], "spec": {"nodes": {...}, "network": {...}, ...}},
                 {"cells": [{"mode": "nftables"}], "spec": {...}}]

A ``spec`` is a whole description as a cluster file's ``spec``, also with the fields left to defaults, so that it says
the same when those change; each different one is there once. Cells are named by the parameters that the cluster
depends on alone: ``[{}]`` is every cell. Cells that were left out have none.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mininetes.errors import BadInput
from mininetes.experiments.results import cell_key
from mininetes.experiments.schedule import LabPlan
from mininetes.spec import ClusterSpec, describe
from mininetes.spec_sections import NodeCounts, PartSpec, numbered

Cell = Mapping[str, Any]
Spec = Mapping[str, Any]


def of_labs(labs: Iterable[LabPlan], specs: Mapping[int, ClusterSpec], cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """The clusters of these labs; ``specs`` by a lab's number, ``cells`` all that the experiment has."""
    asked: dict[int, Spec] = {}
    known: dict[str, Spec] = {}
    for lab in labs:
        spec = specs[lab.number]
        if id(spec) not in asked:
            asked[id(spec)] = written(spec)
        known |= {cell_key(run.cell): asked[id(spec)] for run in lab.runs}
    return _grouped(cells, known)


def written(spec: ClusterSpec) -> dict[str, Any]:
    """A description as a cluster file's ``spec``; `describe` makes the same of it, but for the name."""
    named = spec.model_copy(update={"underlay": spec.underlay or PartSpec(name=spec.underlay_name)})
    said: dict[str, Any] = named.model_dump(mode="json", by_alias=True, exclude={"name"})
    masters = sum(node.role == "control-plane" for node in spec.nodes)
    counts = NodeCounts(control_plane=masters, workers=len(spec.nodes) - masters)
    if spec.nodes == numbered(counts):
        said["nodes"] = counts.model_dump(mode="json", by_alias=True)
    plain: dict[str, Any] = json.loads(json.dumps(said))  # as it will be read, to be compared with what was
    return plain


def check(found: Any) -> None:
    """Raises TypeError, KeyError or AttributeError for what is no list of clusters with their cells."""
    if not isinstance(found, list):
        raise TypeError("clusters is no list")
    for each in found:
        for table in (each["spec"], *each["cells"]):
            table.keys()


def find(context: Mapping[str, Any], cell: Cell) -> Spec | None:
    """What a cell ran on; None where the context does not say."""
    return _find(context, cell)[1]


def _find(context: Mapping[str, Any], cell: Cell) -> tuple[Cell, Spec | None]:
    for cluster in context.get("clusters", ()):
        for some in cluster["cells"]:
            if some.keys() <= cell.keys() and cell_key(some) == cell_key({key: cell[key] for key in some}):
                spec: Spec = cluster["spec"]
                return some, spec
    return {}, None


def extended(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The clusters of a result that is gone on with: today's, and those of cells that today are left out."""
    cells = list(_cells(now))
    known = {cell_key(cell): find(now, cell) or find(before, cell) for cell in cells}
    return _grouped(cells, {key: spec for key, spec in known.items() if spec is not None})


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Which cells that both tell of had another cluster before, each with the first field and both its values.

    What a description of an older Mininetes does not have counts as its default of today.
    """
    found: dict[str, None] = {}
    for cell in _cells(now):
        some, spec = _find(now, cell)
        was = find(before, cell)
        if spec is None or was is None or was == spec:
            continue
        try:
            was = written(describe(was))
        except BadInput as wrong:
            found[f"{_called(some)} ({wrong})"] = None
            continue
        for path, old, new in itertools.islice(_differing(was, spec), 1):
            found[f"{_called(some)} ({path} {json.dumps(old)}, now {json.dumps(new)})"] = None
    return list(found)


def _called(some: Cell) -> str:
    return f"the cluster of {' '.join(f'{key}={value}' for key, value in some.items())}" if some else "the cluster"


def _differing(was: Any, spec: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(was, Mapping) and isinstance(spec, Mapping):
        for key in dict.fromkeys([*spec, *was]):
            yield from _differing(was.get(key), spec.get(key), f"{path}.{key}" if path else key)
    elif was != spec:
        yield path, was, spec


def _cells(context: Mapping[str, Any]) -> Iterator[Cell]:
    grid = context["experiment"]["parameters"]
    return (dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values()))


def _grouped(cells: Sequence[Cell], known: Mapping[str, Spec]) -> list[dict[str, Any]]:
    """Each different cluster once, with its cells by the parameters that decide; ``known`` by the cells' keys."""
    specs = {cell_key(cell): json.dumps(known.get(cell_key(cell)), sort_keys=True) for cell in cells}
    deciding = list(cells[0]) if cells else []
    for name in tuple(deciding):
        fewer = [key for key in deciding if key != name]
        if _decide(fewer, cells, specs):
            deciding = fewer
    found: dict[str, dict[str, Any]] = {}
    for cell in cells:
        key = cell_key(cell)
        if key in known:
            group = found.setdefault(specs[key], {"cells": {}, "spec": known[key]})
            some = {name: cell[name] for name in deciding}
            group["cells"][cell_key(some)] = some
    return [{"cells": list(group["cells"].values()), "spec": group["spec"]} for group in found.values()]


def _decide(names: Sequence[str], cells: Iterable[Cell], specs: Mapping[str, str]) -> bool:
    """Whether cells that are alike in these parameters all have the same cluster."""
    seen: dict[str, str] = {}
    return all(
        seen.setdefault(cell_key({name: cell[name] for name in names}), specs[cell_key(cell)]) == specs[cell_key(cell)]
        for cell in cells
    )
