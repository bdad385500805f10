"""run --dry-run: which runs an experiment has, in which order and on which clusters, and what their labs would do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click
import yaml

from mininetes.counting import counted
from mininetes.experiments import planning
from mininetes.experiments.definition import Experiment
from mininetes.experiments.schedule import LabPlan, schedule, warm_up
from mininetes.kernel.rehearsal import Step
from mininetes.spec import describe
from mininetes.testbed import dry_run
from mininetes.testbed.blueprint import draw


def show_runs(experiment: Experiment, seed: int, output: str, *, verbose: bool) -> None:
    """Print them; nothing is built and nothing of the machine is asked. Raises BadInput."""
    labs = schedule(experiment, seed)
    clusters = [planning.cluster_of(experiment, lab) for lab in labs]
    if output == "json":
        found = [_facts(experiment, lab, cluster, verbose=verbose) for lab, cluster in zip(labs, clusters, strict=True)]
        click.echo(json.dumps(found, indent=2))
        return
    runs = sum(len(lab.runs) for lab in labs)
    counts = f"{counted(runs, 'run')} in {counted(len(labs), 'lab')}"
    click.echo(f"# {experiment.name}: {counts}; seed {seed}")
    for lab, cluster in zip(labs, clusters, strict=True):
        _print(experiment, lab, cluster, verbose=verbose)


def _steps(cluster: Mapping[str, Any]) -> list[Step]:
    return dry_run.steps(draw(describe(cluster)))


def _facts(experiment: Experiment, lab: LabPlan, cluster: Mapping[str, Any], *, verbose: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "lab": lab.number,
        "cluster": dict(cluster),
        "warm_up": len(warm_up(lab, experiment)),
        "runs": [{"cell": dict(run.cell), "repetition": run.repetition} for run in lab.runs],
    }
    if verbose:
        found["steps"] = dry_run.rows(_steps(cluster))
    else:
        draw(describe(cluster))  # a cluster that is wrong is refused in any case
    return found


def _print(experiment: Experiment, lab: LabPlan, cluster: Mapping[str, Any], *, verbose: bool) -> None:
    blueprint = draw(describe(cluster))
    spec = blueprint.spec
    size = f"{counted(len(spec.nodes), 'node')}, {counted(len(blueprint.pods), 'pod')}, fabric {spec.fabric.title}"
    click.echo(f"\nlab {lab.number}: {size}")
    text = yaml.safe_dump(dict(cluster), default_flow_style=True, sort_keys=False, width=1_000_000).strip()
    click.echo(f"  cluster {text}")
    again = len(warm_up(lab, experiment))
    if again:
        click.echo(f"  {counted(again, 'run')} to warm up")
    for run in lab.runs:
        cell = ", ".join(f"{key}={value}" for key, value in run.cell.items())
        click.echo(f"  run {run.repetition + 1} of {experiment.repetitions}: {cell}")
    if verbose:
        click.echo(dry_run.text(dry_run.steps(blueprint)), nl=False)
