"""From an experiment to labs whose clusters were checked: all that can be refused is, before anything is built."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mininetes.errors import BadInput, MininetesError, MissingFeature
from mininetes.experiments.definition import Experiment
from mininetes.experiments.schedule import LabPlan, schedule
from mininetes.spec import ClusterSpec, describe
from mininetes.testbed.preflight import checked, require_agents_features

__all__ = ["LabPlan", "Prepared", "prepare"]
_MOST_OF_NAME = 24


@dataclass(frozen=True)
class Prepared:
    """The labs in their order, each with its checked cluster, and the hashes of all parts that went in."""

    labs: Sequence[LabPlan]
    specs: Mapping[int, ClusterSpec]
    """By the lab's number; `spec` gives it the lab's name."""
    hashes: Mapping[str, str]
    lab_name: str = field(default="")
    left_out: Sequence[str] = ()
    """Cells that this machine cannot run, each with what it lacks."""

    @property
    def runs(self) -> int:
        """How many there are in all."""
        return sum(len(lab.runs) for lab in self.labs)

    def spec(self, lab: LabPlan, attempt: int) -> ClusterSpec:
        """The lab's cluster, under a name that no other lab has meanwhile."""
        name = self.lab_name if lab.number == attempt == 0 else f"{self.lab_name}-{lab.number}"
        return self.specs[lab.number].model_copy(update={"name": name})


def prepare(experiment: Experiment, seed: int) -> Prepared:
    """Plan all labs and check the cluster of each.

    Cells whose clusters need what this machine lacks are left out. Raises BadInput, and MissingFeature when that
    leaves none.
    """
    name = f"{experiment.name[:_MOST_OF_NAME].replace('_', '-').lower()}-{os.getpid()}"
    known: dict[str, ClusterSpec] = {}
    specs: dict[int, ClusterSpec] = {}
    hashes: dict[str, str] = {}
    lacking: dict[str, MissingFeature] = {}
    left_out: dict[str, None] = {}
    labs = schedule(experiment, seed)
    for lab in labs:
        cluster = cluster_of(experiment, lab)
        text = json.dumps(cluster, sort_keys=True)
        if text not in known and text not in lacking:
            try:
                blueprint = checked(describe(cluster, name))
                require_agents_features(blueprint.spec)
            except MissingFeature as missing:
                lacking[text] = missing
            else:
                known[text] = blueprint.spec
                hashes |= blueprint.hashes
        if text in known:
            specs[lab.number] = known[text]
        else:
            left_out |= {f"{_varying(experiment, run.cell)}: {lacking[text]}": None for run in lab.runs}
    here = [lab for lab in labs if lab.number in specs]
    if lacking and not here:
        raise next(iter(lacking.values()))
    return Prepared(here, specs, hashes, name, sorted(left_out))


def cluster_of(experiment: Experiment, lab: LabPlan) -> dict[str, Any]:
    """A lab's cluster, as a file's ``spec``. Raises BadInput, also where its cells have different ones."""
    clusters = {json.dumps(cluster, sort_keys=True): cluster for cluster in _clusters(experiment, lab)}
    if len(clusters) > 1:
        raise BadInput(
            f"experiment {experiment.part.path.name}: LAB_PER",
            list(experiment.lab_per or ()),
            "all parameters that the cluster depends on: cells that share a lab have the same cluster",
        )
    return next(iter(clusters.values()))


def _varying(experiment: Experiment, cell: Mapping[str, Any]) -> str:
    """A cell by the parameters that tell it from the others."""
    return " ".join(f"{key}={cell[key]}" for key, values in experiment.grid.items() if len(values) > 1)


def _clusters(experiment: Experiment, lab: LabPlan) -> list[dict[str, Any]]:
    """What the experiment's ``cluster`` says for each cell of a lab. Raises BadInput."""
    found = []
    seen: list[Mapping[str, Any]] = []
    for run in lab.runs:
        if any(run.cell is cell for cell in seen):
            continue
        seen.append(run.cell)
        try:
            cluster = experiment.cluster(dict(run.cell))
            json.dumps(cluster)
        except MininetesError:
            raise
        except Exception as failed:
            where = f"experiment {experiment.part.path.name}: cluster({dict(run.cell)})"
            raise BadInput(where, None, f"a cluster's spec; it raised {type(failed).__name__}: {failed}") from failed
        if not isinstance(cluster, Mapping):
            raise BadInput(f"experiment {experiment.part.path.name}: cluster", cluster, "a table, as a file's spec")
        found.append(dict(cluster))
    return found
