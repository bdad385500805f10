"""Which cluster each cell ran on: what is written of it, found again, kept when a run goes on, and compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mininetes.experiments import clusters, definition, planning
from mininetes.experiments.definition import Experiment
from mininetes.experiments.schedule import schedule
from mininetes.spec import describe, read_cluster_file
from mininetes.testbed.blueprint import draw

REPOSITORY = Path(__file__).parents[2]
CLUSTERS = sorted((REPOSITORY / "topologies" / "clusters").glob("*.yaml"))
EXPERIMENTS = sorted(path.stem for path in (REPOSITORY / "experiments").glob("[a-z]*.py"))
SOURCE = '''"""Made up."""

REPRODUCES = "nothing"
PARAMETERS = {"mode": ["a", "b", "c"], "workers": [1, 2], "pause_s": [0.0, 1.0]}
REPETITIONS = 2
LAB_PER = ("mode", "workers")


def cluster(params):
    %s


async def run(lab, params):
    return []


def plot(rows):
    return {}
'''
ALL_ALIKE = "return {'pods': {'perNode': 2}}"
BY_WORKERS = "return {'nodes': {'workers': params['workers']}}"
BY_BOTH = "return {'nodes': {'workers': params['workers']}, 'pods': {'perNode': 'abc'.index(params['mode'])}}"
ONE_MODE_APART = "return {'proxy': {'mode': 'nftables' if params['mode'] == 'c' else 'iptables'}}"


def experiment(folder: Path, cluster: str) -> Experiment:
    file = folder / "made_up.py"
    file.write_text(SOURCE % cluster)
    return definition.load(str(file))


def facts(made: Experiment, seed: int = 1, left_out: Sequence[str] = ()) -> dict[str, Any]:
    """What matters here of the context of a run of it, as a reader gets it."""
    labs = [lab for lab in schedule(made, seed) if not any(run.cell.get("mode") in left_out for run in lab.runs)]
    specs = {lab.number: draw(describe(planning.cluster_of(made, lab))).spec for lab in labs}
    found = clusters.of_labs(labs, specs, made.all_cells())
    grid = {key: list(values) for key, values in made.grid.items()}
    read: dict[str, Any] = json.loads(json.dumps({"experiment": {"parameters": grid}, "clusters": found}))
    clusters.check(read["clusters"])
    return read


@pytest.mark.parametrize("file", CLUSTERS, ids=lambda file: file.stem)
def test_what_is_written_of_a_cluster_describes_the_same(file: Path) -> None:
    spec = draw(describe(read_cluster_file(file)[1])).spec
    said = clusters.written(spec)
    assert json.loads(json.dumps(said)) == said
    again = describe(said)
    assert again.underlay_name == spec.underlay_name
    assert again.model_copy(update={"underlay": spec.underlay}) == spec
    assert clusters.written(draw(again).spec) == said


def test_a_description_says_what_was_left_to_defaults_and_no_name() -> None:
    said = clusters.written(describe({}, "somebody"))
    assert "name" not in said
    assert (said["underlay"]["name"], said["fabric"]["name"]) == ("three_node", "static")
    assert said["network"]["pods"] == "10.244.0.0/16"
    assert said["nodes"] == {"workers": 2, "controlPlane": 1}
    nodes = [{"name": "a", "role": "control-plane"}, {"name": "b", "zone": "z"}]
    assert [each["name"] for each in clusters.written(describe({"nodes": nodes}))["nodes"]] == ["a", "b"]


def test_a_thousand_nodes_take_no_more_than_a_few() -> None:
    pods = {"nodes": "10.0.0.0/16", "pods": "10.128.0.0/9"}
    few, many = ({"nodes": {"workers": workers}, "network": pods} for workers in (2, 1000))
    assert len(json.dumps(clusters.written(describe(many)))) < len(json.dumps(clusters.written(describe(few)))) + 20


@pytest.mark.parametrize(
    ("cluster", "cells"),
    [
        (ALL_ALIKE, [[{}]]),
        (BY_WORKERS, [[{"workers": 1}], [{"workers": 2}]]),
        (ONE_MODE_APART, [[{"mode": "a"}, {"mode": "b"}], [{"mode": "c"}]]),
        (
            BY_BOTH,
            [[{"mode": mode, "workers": workers}] for mode in "abc" for workers in (1, 2)],
        ),
    ],
)
def test_each_cluster_is_there_once_with_its_cells_by_what_it_depends_on(
    tmp_path: Path, cluster: str, cells: list[Any]
) -> None:
    made = experiment(tmp_path, cluster)
    said = facts(made)
    assert [each["cells"] for each in said["clusters"]] == cells
    assert facts(made, seed=2) == said  # in the grid's order, whatever that of the runs
    for cell in made.all_cells():
        assert clusters.find(said, cell) == clusters.written(draw(describe(made.cluster(cell))).spec)


def test_a_cluster_that_cells_which_are_left_out_do_not_have_does_not_stand_for_them(tmp_path: Path) -> None:
    said = facts(experiment(tmp_path, ONE_MODE_APART), left_out="c")
    assert [each["cells"] for each in said["clusters"]] == [[{"mode": "a"}, {"mode": "b"}]]


def test_true_is_no_one_and_a_cell_without_the_parameter_is_not_found() -> None:
    said = {"clusters": [{"cells": [{"n": 1}], "spec": {"of": 1}}, {"cells": [{"n": True}], "spec": {"of": "true"}}]}
    assert clusters.find(said, {"n": True, "m": 2}) == {"of": "true"}
    assert clusters.find(said, {"m": 1}) is None
    assert clusters.find({}, {"n": 1}) is None


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiments_clusters_are_found_by_its_cells(name: str) -> None:
    made = definition.load(name, size="figures")
    said = facts(made)
    for cell in made.all_cells():
        assert clusters.find(said, cell) == clusters.written(draw(describe(made.cluster(cell))).spec)
    assert len(json.dumps(said["clusters"])) < 60_000
    assert clusters.differences(said, said) == []


# --- going on -----------------------------------------------------------------------------------------------------


def test_going_on_keeps_clusters_of_cells_that_are_left_out_now_and_adds_those_that_no_longer_are(
    tmp_path: Path,
) -> None:
    made = experiment(tmp_path, BY_BOTH)
    every, before, now = facts(made), facts(made, left_out="b"), facts(made, left_out="a")
    assert clusters.find(before, {"mode": "b", "workers": 1, "pause_s": 0.0}) is None
    assert clusters.extended(before, now) == every["clusters"]
    assert clusters.extended({**every, "clusters": []}, now) == now["clusters"]  # of a result of an older schema
    assert clusters.differences(before, now) == []


def test_another_cluster_is_named_with_its_cells_its_field_and_both_values(tmp_path: Path) -> None:
    before = facts(experiment(tmp_path, ONE_MODE_APART))
    after = facts(experiment(tmp_path, ONE_MODE_APART.replace("else 'iptables'", "else 'ipvs'")))
    assert clusters.differences(before, after) == [
        'the cluster of mode=a (proxy.mode "iptables", now "ipvs")',
        'the cluster of mode=b (proxy.mode "iptables", now "ipvs")',
    ]
    alike = facts(experiment(tmp_path, ALL_ALIKE))
    assert clusters.differences(facts(experiment(tmp_path, ALL_ALIKE.replace("2", "3"))), alike) == [
        "the cluster (pods.perNode 3, now 2)"
    ]


def test_what_an_older_description_does_not_have_is_no_difference_unless_it_has_what_is_unknown(
    tmp_path: Path,
) -> None:
    now = facts(experiment(tmp_path, ALL_ALIKE))
    (cluster,) = now["clusters"]
    older = {key: value for key, value in cluster["spec"].items() if key != "logging"}
    assert clusters.differences({**now, "clusters": [{**cluster, "spec": older}]}, now) == []
    unknown = {**older, "colour": "red"}
    (said,) = clusters.differences({**now, "clusters": [{**cluster, "spec": unknown}]}, now)
    assert "spec.colour" in said
