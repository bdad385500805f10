"""The clusters that a result ran on, drawn: as context.json describes them, else as today's experiment file does.

The drawing needs the files of the cluster's underlay and fabric besides: where those have changed since the run, or
are not here, a note says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mininetes.experiments import clusters
from mininetes.experiments.definition import Experiment
from mininetes.spec import describe
from mininetes.testbed import drawing
from mininetes.testbed.blueprint import draw

_DRAWN = ("underlay/", "fabric/")
"""The kinds of parts that a drawing shows."""


@dataclass
class Topologies:
    """Drawings, each with the cells that have it, and what a reader must know about how they came to be."""

    drawings: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class _Artist:
    """Draws each different description once."""

    hashes: Mapping[str, str]
    """Of the parts that the result ran with."""
    drawn: dict[str, str] = field(default_factory=dict)
    changed: dict[str, None] = field(default_factory=dict)
    """Names of the parts' files that are others today."""

    def draw(self, spec: Mapping[str, Any]) -> str:
        text = json.dumps(spec, sort_keys=True)
        if text not in self.drawn:
            blueprint = draw(describe(spec))
            self.changed |= dict.fromkeys(self._changed(blueprint.hashes))
            self.drawn[text] = drawing.svg(blueprint)
        return self.drawn[text]

    def _changed(self, today: Mapping[str, str]) -> Iterator[str]:
        for part, sha256 in today.items():
            if part.startswith(_DRAWN) and self.hashes.get(part, sha256) != sha256:
                yield part.partition("/")[2]


def topologies(
    context: Mapping[str, Any],
    experiment: Experiment | None,
    cells: Iterable[Mapping[str, Any]],
    called: Callable[[Mapping[str, Any]], str],
) -> Topologies:
    """Draw these cells' clusters, each different drawing once; ``called`` names a cell for readers."""
    found = Topologies()
    artist = _Artist(context.get("parts", {}))
    names: dict[str, list[str]] = {}
    fell_back: list[str] = []
    failures: dict[str, list[str]] = {}
    cells = list(cells)
    for cell in cells:
        spec = clusters.find(context, cell)
        try:
            if spec is None:
                fell_back.append(called(cell))
                if experiment is None:
                    continue
                spec = experiment.cluster(dict(cell))
            drawn = artist.draw(spec)
        except Exception as failed:  # files of today, and parameters and descriptions of another time
            failures.setdefault(str(failed), []).append(called(cell))
            continue
        names.setdefault(drawn, []).append(called(cell))
    for drawn, each in names.items():
        found.drawings.append(("all cells" if len(each) == len(cells) else "; ".join(dict.fromkeys(each)), drawn))
    if fell_back:
        whose = "the clusters" if len(fell_back) == len(cells) else f"the cluster of {'; '.join(fell_back)}"
        found.notes.append(f"What the run left does not describe {whose}: {_by_today(context, experiment)}.")
    for words, each in failures.items():
        found.notes.append(f"The cluster of {'; '.join(each)} cannot be drawn: {words}")
    for name in artist.changed:
        found.notes.append(f"{name} has changed since: the topology is drawn with the file of today.")
    return found


def _by_today(context: Mapping[str, Any], experiment: Experiment | None) -> str:
    if experiment is None:
        return "nothing is drawn, as the experiment is not here either"
    file = experiment.part.path.name
    was = context.get("parts", {}).get(f"experiment/{file}")
    if was == experiment.part.sha256:
        return f"the topology is drawn by {file}, which has not changed since"
    return f"the topology is drawn by {file} of today"
