"""The order of runs: decided by the seed alone, with cells and repetitions among each other."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mininetes.experiments.definition import Experiment, load
from mininetes.experiments.schedule import schedule, seed_of, warm_up

BODY = """
REPRODUCES = "nothing"
PARAMETERS = {"mode": ["x", "y", "z"], "size": [1, 2], "load": ["p", "q"]}
REPETITIONS = 5
def cluster(params): return {}
async def run(lab, params): return []
def plot(rows): return {}
"""


def experiment(folder: Path, more: str = "") -> Experiment:
    file = folder / "mine.py"
    file.write_text(BODY + more)
    return load(str(file))


@pytest.mark.parametrize("lab_per", ["None", '("mode",)', '("mode", "size")', "()"])
def test_every_repetition_of_every_cell_is_there_once(tmp_path: Path, lab_per: str) -> None:
    mine = experiment(tmp_path, f"LAB_PER = {lab_per}\n")
    keys = Counter(run.key for lab in schedule(mine, 1) for run in lab.runs)
    assert len(keys) == 12 * 5
    assert set(keys.values()) == {1}


@pytest.mark.parametrize("lab_per", ["None", '("mode",)'])
def test_the_seed_decides_the_order(tmp_path: Path, lab_per: str) -> None:
    mine = experiment(tmp_path, f"LAB_PER = {lab_per}\n")
    assert schedule(mine, 3) == schedule(mine, 3)
    assert len({str(schedule(mine, seed)) for seed in range(5)}) == 5


def test_without_a_wish_each_run_has_a_fresh_lab_and_repetitions_are_shuffled(tmp_path: Path) -> None:
    labs = schedule(experiment(tmp_path), 1)
    assert [len(lab.runs) for lab in labs] == [1] * 60
    assert [lab.number for lab in labs] == list(range(60))
    repetitions = [lab.runs[0].repetition for lab in labs]
    assert repetitions != sorted(repetitions)


def test_cells_that_agree_share_a_lab_with_all_repetitions(tmp_path: Path) -> None:
    labs = schedule(experiment(tmp_path, 'LAB_PER = ("mode",)\n'), 1)
    assert [len(lab.runs) for lab in labs] == [20] * 3
    assert sorted(lab.runs[0].cell["mode"] for lab in labs) == ["x", "y", "z"]
    for lab in labs:
        assert len({run.cell["mode"] for run in lab.runs}) == 1
        # a repetition of each cell, then the next, each time in another order
        assert [run.repetition for run in lab.runs] == [number // 4 for number in range(20)]
        orders = {tuple(run.key[0] for run in lab.runs[block * 4 : block * 4 + 4]) for block in range(5)}
        assert len(orders) > 1


def test_warm_ups_take_a_labs_cells_in_turn_under_numbers_of_their_own(tmp_path: Path) -> None:
    mine = experiment(tmp_path, 'LAB_PER = ("mode", "size")\nWARM_UP = 3\n')
    lab = schedule(mine, 1)[0]
    runs = warm_up(lab, mine)
    assert [run.repetition for run in runs] == [5, 6, 7]
    assert {run.key[0] for run in runs} == {run.key[0] for run in lab.runs}
    assert warm_up(lab, experiment(tmp_path)) == []


def test_a_runs_seed_depends_on_its_repetition_alone() -> None:
    seeds = [seed_of(1, repetition) for repetition in range(10)]
    assert len(set(seeds)) == 10
    assert seeds == [seed_of(1, repetition) for repetition in range(10)]
    assert seeds[0] != seed_of(2, 0)


def test_what_is_done_is_left_out(tmp_path: Path) -> None:
    lab = schedule(experiment(tmp_path, 'LAB_PER = ("mode",)\n'), 1)[0]
    done = {run.key for run in lab.runs[:7]}
    assert lab.without(lambda run: run.key in done).runs == lab.runs[7:]
