"""The table of named defects, and what its runner says of those that are found and those that are not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("mutants", REPOSITORY / "scripts" / "mutants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutants"] = module
    spec.loader.exec_module(module)
    return module


mutants = _load()
TABLE = mutants.read_table(mutants.TABLE)


def test_there_are_thirty_defects_and_more_some_of_them_for_live_packets() -> None:
    assert len(TABLE) >= 30
    assert any(mutant.live for mutant in TABLE)


@pytest.mark.parametrize("mutant", TABLE, ids=lambda mutant: mutant.name)
def test_each_defect_fits_the_text_of_today(mutant: Any) -> None:
    assert (REPOSITORY / mutant.file).read_text().count(mutant.old) == 1
    assert mutant.new != mutant.old
    assert all((REPOSITORY / each).exists() for each in mutant.tests if each.startswith("tests/"))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    (tmp_path / "sums.py").write_text("def add(a, b):\n    return a + b\n")
    (tmp_path / "test_sums.py").write_text("from sums import add\n\n\ndef test_add():\n    assert add(2, 0) == 2\n")
    return tmp_path


@pytest.mark.parametrize(
    ("old", "new", "killed", "said"),
    [
        ("a + b", "a * b", True, "test_add"),
        ("a + b", "a - b", False, "SURVIVED"),
        ("a / b", "a - b", False, "does not apply"),
        ("def add", "def sub", False, "did not run"),
    ],
)
def test_a_defect_is_killed_by_a_failing_test_alone(copy: Path, old: str, new: str, killed: bool, said: str) -> None:
    before = (copy / "sums.py").read_text()
    verdict = mutants.try_out(copy, mutants.Mutant("x", "sums.py", old, new, ("test_sums.py",)))
    assert (verdict.killed, said in verdict.said) == (killed, True), verdict
    assert (copy / "sums.py").read_text() == before


def test_tests_that_fail_without_a_defect_prove_nothing(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mutant = mutants.Mutant("x", "sums.py", "a + b", "a * b", ("test_sums.py",))
    assert mutants.sound(copy, [mutant])
    (copy / "sums.py").write_text("def add(a, b):\n    return 7\n")
    assert not mutants.sound(copy, [mutant])
    assert "without a defect" in capsys.readouterr().err
