"""Experiments as files: what they must declare, the grid of their parameters, and settings laid over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mininetes import parts
from mininetes.errors import BadInput
from mininetes.experiments.definition import load
from mininetes.spec import describe

BODY = """
REPRODUCES = "nothing"
PARAMETERS = {"nodes": [2, 3], "fabric": ["static"], "interval_s": [0.01], "fast": [True]}
def cluster(params): return {"nodes": {"workers": params["nodes"]}}
async def run(lab, params): return []
def plot(rows): return {}
"""
NEEDED = ("REPRODUCES", "PARAMETERS", "cluster", "run", "plot")


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "mine.py"
    file.write_text(BODY)
    return str(file)


def refused(path: str, *settings: str) -> str:
    with pytest.raises(BadInput) as caught:
        load(path, settings)
    assert caught.value.exit_status == 2
    return str(caught.value)


@pytest.mark.parametrize("name", parts.names("experiment"))
def test_every_shipped_experiment_describes_clusters_that_are_valid(name: str) -> None:
    experiment = load(name)
    assert experiment.reproduces
    for cell in experiment.cells(1):
        describe(experiment.cluster(cell))


def test_cells_are_every_combination_of_the_grid(path: str) -> None:
    cells = load(path).cells(1)
    assert sorted(cell["nodes"] for cell in cells) == [2, 3]
    assert all(set(cell) == {"nodes", "fabric", "interval_s", "fast"} for cell in cells)
    both = load(path, ["fabric=static,none", "nodes=2,3,4"]).cells(1)
    assert {(cell["nodes"], cell["fabric"]) for cell in both} == {(n, f) for n in (2, 3, 4) for f in ("static", "none")}
    assert len(both) == 6


def test_the_seed_decides_the_order_and_nothing_else(path: str) -> None:
    experiment = load(path, ["nodes=1,2,3,4,5,6,7,8"])
    assert experiment.cells(7) == experiment.cells(7)
    orders = {tuple(cell["nodes"] for cell in experiment.cells(seed)) for seed in range(5)}
    assert len(orders) > 1
    assert {tuple(sorted(order)) for order in orders} == {(1, 2, 3, 4, 5, 6, 7, 8)}


def test_settings_take_the_place_of_the_grids_values(path: str) -> None:
    (cell,) = load(path, ["nodes=7", "interval_s=2", "fast=false"]).cells(1)
    assert cell == {"nodes": 7, "fabric": "static", "interval_s": 2.0, "fast": False}
    assert isinstance(cell["interval_s"], float)


def test_settings_do_not_stay(path: str) -> None:
    load(path, ["nodes=7"])
    assert load(path).grid["nodes"] == [2, 3]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("nodes", ["--set", "'nodes'", "KEY=VALUE"]),
        ("noodles=3", ["--set", "'noodles'", "nodes, fabric, interval_s, fast"]),
        ("nodes=many", ["--set nodes", "'many'", "2, 3"]),
        ("nodes=2.5", ["--set nodes", "'2.5'"]),
        ("nodes=true", ["--set nodes", "'true'"]),
        ("nodes=", ["--set nodes", "''"]),
        ("nodes=2,,3", ["--set nodes", "''"]),
        ("nodes={", ["--set nodes", "'{'", "YAML"]),
        ("fast=2", ["--set fast", "'2'", "True"]),
        ("interval_s=soon", ["--set interval_s", "'soon'", "0.01"]),
    ],
)
def test_settings_that_are_wrong_are_refused_with_key_value_and_what_is_right(
    path: str, setting: str, words: list[str]
) -> None:
    text = refused(path, setting)
    assert [word for word in words if word not in text] == [], text


@pytest.mark.parametrize("needed", NEEDED)
def test_a_file_that_lacks_something_is_refused_naming_it(tmp_path: Path, needed: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(BODY + f"del {needed}\n")
    text = refused(str(file))
    assert "mine.py" in text
    assert needed in text


@pytest.mark.parametrize("value", ["[1]", "{'nodes': 3}", "{'nodes': []}", "'nodes'"])
def test_parameters_that_are_no_grid_are_refused(tmp_path: Path, value: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(BODY + f"PARAMETERS = {value}\n")
    assert "PARAMETERS" in refused(str(file))


def test_an_unknown_experiment_lists_those_there_are() -> None:
    text = refused("nonsense")
    assert "'nonsense'" in text
    assert "quickstart" in text
