"""`make figures` and `make experiments`: every experiment is run, whatever becomes of others, then the report."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
COMMAND = """#!/bin/bash
echo "$@" >>calls
[[ $1 == run ]] || exit 0
[[ $2 != empty ]] && mkdir -p "$6" && touch "$6/rows.jsonl"
case $2 in failing) exit 1 ;; interrupted) exit 130 ;; *) exit 0 ;; esac
"""


def called(folder: Path, *experiments: str) -> tuple[int, str, list[str]]:
    """Run the script in a checkout with these experiments, where the command only writes down how it is called."""
    (folder / "scripts").mkdir()
    shutil.copy(REPOSITORY / "scripts" / "experiments.sh", folder / "scripts")
    (folder / "experiments").mkdir()
    for name in (*experiments, "_shared"):
        (folder / "experiments" / f"{name}.py").touch()
    command = folder / ".venv" / "bin" / "mininetes"
    command.parent.mkdir(parents=True)
    command.write_text(COMMAND)
    command.chmod(0o755)
    argv = ["scripts/experiments.sh", "figures", "results/figures"]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr, (folder / "calls").read_text().splitlines()


def run_of(name: str) -> str:
    return f"run {name} --size figures --out results/figures/{name} --resume"


def test_each_experiment_goes_on_in_its_folder_and_all_are_reported(tmp_path: Path) -> None:
    report = "report results/figures/one results/figures/two"
    assert called(tmp_path, "one", "two") == (0, "", [run_of("one"), run_of("two"), report])


def test_one_that_fails_does_not_keep_the_others_from_running(tmp_path: Path) -> None:
    status, stderr, calls = called(tmp_path, "failing", "two")
    assert status == 1
    assert "failed: failing;" in stderr
    assert calls == [run_of("failing"), run_of("two"), "report results/figures/failing results/figures/two"]


def test_one_without_a_result_is_not_reported(tmp_path: Path) -> None:
    _, _, calls = called(tmp_path, "empty", "two")
    assert calls[-1] == "report results/figures/two"


def test_an_interrupt_ends_all(tmp_path: Path) -> None:
    assert called(tmp_path, "interrupted", "two") == (130, "", [run_of("interrupted")])


@pytest.mark.parametrize("target", ["figures", "experiments"])
def test_make_calls_it(target: str) -> None:
    size = {"figures": "figures", "experiments": "full"}[target]
    done = subprocess.run(["make", "-n", target], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"scripts/experiments.sh {size} results/{target}"
