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


# --- what may be declared besides ---------------------------------------------------------------------------------

MORE = """
from mininetes.api import Published, Verdict
PUBLISHED = [Published("row", "somewhere", "ms", [{"mode": "x", "value": 3}])]
FIGURE_SIZE = {"nodes": [4], "repetitions": 2}
REPETITIONS = 10
WARM_UP = 1
LAB_PER = ("nodes",)
TIMING_SENSITIVE = False
SATURATES = True
TIMEOUT_S = 5
def verdicts(rows): return [Verdict("claim", "3", "3", "yes")]
"""


def test_what_is_not_declared_has_its_default(path: str) -> None:
    found = load(path)
    assert (found.repetitions, found.warm_up, found.lab_per, found.published) == (1, 0, None, [])
    assert (found.timing_sensitive, found.saturates, found.timeout_s, found.verdicts) == (True, False, 3600, None)
    assert (found.title, found.description) == ("mine", "")


def test_what_is_declared_is_read(path: str) -> None:
    Path(path).write_text(f'"""Title.\n\nMore\nof it.\n"""\n{BODY}{MORE}')
    found = load(path)
    assert (found.repetitions, found.warm_up, found.lab_per) == (10, 1, ("nodes",))
    assert (found.timing_sensitive, found.saturates, found.timeout_s) == (False, True, 5)
    assert (found.title, found.description) == ("Title.", "More\nof it.")
    assert found.published[0].figures[0]["value"] == 3
    assert found.verdicts is not None
    assert found.grid["nodes"] == [2, 3]


def test_the_figures_size_takes_the_grids_place_and_settings_go_before_it(path: str) -> None:
    Path(path).write_text(BODY + MORE)
    found = load(path, size="figures")
    assert (found.grid["nodes"], found.grid["fabric"], found.repetitions) == ([4], ["static"], 2)
    found = load(path, ["nodes=7"], size="figures", repetitions=3)
    assert (found.grid["nodes"], found.repetitions) == ([7], 3)
    assert load(path, repetitions=3).repetitions == 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("REPRODUCES = 3", "REPRODUCES: 3"),
        ("REPETITIONS = 0", "REPETITIONS: 0 is not valid: a whole number from 1 on"),
        ("REPETITIONS = 2.5", "REPETITIONS: 2.5"),
        ("REPETITIONS = True", "REPETITIONS: True"),
        ("WARM_UP = -1", "WARM_UP: -1"),
        ("LAB_PER = 'nodes'", "LAB_PER: 'nodes'"),
        ("LAB_PER = ['noodles']", "LAB_PER: 'noodles' is not valid: a parameter of this experiment: nodes, fabric"),
        ("TIMING_SENSITIVE = 'no'", "TIMING_SENSITIVE: 'no' is not valid: True or False"),
        ("SATURATES = 1", "SATURATES: 1"),
        ("TIMEOUT_S = 0", "TIMEOUT_S: 0"),
        ("FIGURE_SIZE = {'noodles': [3]}", "FIGURE_SIZE: 'noodles'"),
        ("FIGURE_SIZE = {'nodes': 3}", "FIGURE_SIZE: {'nodes': 3}"),
        ("FIGURE_SIZE = {'repetitions': [3]}", "FIGURE_SIZE: repetitions: [3]"),
        ("FIGURE_SIZE = 3", "FIGURE_SIZE: 3"),
        ("PARAMETERS = {'repetitions': [3]}", "PARAMETERS: 'repetitions'"),
        ("PARAMETERS = {'n': [3, 3]}", "PARAMETERS: n: [3, 3] is not valid: each value once"),
        ("PARAMETERS = {'n': [object]}", "PARAMETERS: n"),
        ("PARAMETERS = {3: [3]}", "PARAMETERS: {3: [3]}"),
        ("PUBLISHED = [3]", "PUBLISHED: 3"),
        ("from mininetes.api import Published\nPUBLISHED = [Published('r', 's', 'ms', [{}])]", "PUBLISHED: r: {}"),
        ("def run(lab, params): return []", "run: an async function"),
        ("plot = 3", "plot: 3 is not valid: a function"),
        ("verdicts = 3", "verdicts: 3"),
        ("import nonsense_that_is_not_there", "ModuleNotFoundError"),
        ("1 / 0", "ZeroDivisionError"),
        ("this is no Python", "SyntaxError"),
    ],
)
def test_a_broken_file_is_refused_with_the_field_and_what_is_right(path: str, line: str, words: str) -> None:
    Path(path).write_text(f"{BODY}{line}\n")
    text = refused(path)
    assert "mine.py" in text
    assert words in text
    assert "\n" not in text


def test_a_number_of_repetitions_that_cannot_be_is_refused(path: str) -> None:
    with pytest.raises(BadInput, match="--repetitions: 0"):
        load(path, repetitions=0)


def test_values_given_twice_are_refused(path: str) -> None:
    assert "each value once" in refused(path, "nodes=3,3")
