"""How the repository is built: layers, parts that can be imported, documented modules, and sizes."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mininetes import api, parts

ROOT = Path(__file__).parents[2]
ENGINE = sorted((ROOT / "mininetes").rglob("*.py"))
MODULES = [path for path in ENGINE if "_parts" not in path.parts]
LONGEST_MODULE = 400
LONGEST_FUNCTION = 60


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [each for each in ast.walk(tree) if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))]


def test_each_layer_of_the_engine_uses_only_those_below() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120, env={**os.environ, "NO_COLOR": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def vulture(*paths: str) -> str:
    command = [str(Path(sys.executable).parent / "vulture"), "--config", "pyproject.toml", *paths]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode in (0, 3), done.stderr
    return done.stdout


def test_no_code_is_there_that_nothing_but_tests_uses(tmp_path: Path) -> None:
    assert vulture() == ""
    idle = tmp_path / "idle.py"
    idle.write_text("def nobody_calls_this():\n    return 1\n")
    assert "unused function 'nobody_calls_this'" in vulture(str(idle))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_say_what_they_are_and_stay_small(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert len(text.splitlines()) <= LONGEST_MODULE


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_stay_small(path: Path) -> None:
    lengths = {
        each.name: (each.end_lineno or each.lineno) - each.lineno + 1 for each in functions(ast.parse(path.read_text()))
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in ("underlay", "fabric", "experiment") for name in parts.names(kind)],  # type: ignore[arg-type]
)
def test_every_shipped_part_can_be_imported_and_says_what_it_is(kind: parts.Kind, name: str) -> None:
    assert parts.load(kind, name).__doc__


@pytest.mark.parametrize(
    "path", sorted([*(ROOT / "topologies" / "fabrics").glob("*.py"), *(ROOT / "experiments").glob("*.py")]), ids=name_of
)
def test_parts_import_the_engine_only_through_its_api(path: Path) -> None:
    imported = set()
    for statement in ast.walk(ast.parse(path.read_text())):
        if isinstance(statement, ast.Import):
            imported |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            imported.add(statement.module or "")
    assert {each for each in imported if each.split(".")[0] == "mininetes"} <= {"mininetes.api"}


@pytest.mark.parametrize("path", sorted((ROOT / "topologies" / "fabrics").glob("*.py")), ids=name_of)
def test_fabrics_are_pure(path: Path) -> None:
    """A compiler has no clock, no environment, and starts no programs."""
    imported = set()
    for statement in ast.walk(ast.parse(path.read_text())):
        if isinstance(statement, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            imported.add((statement.module or "").split(".")[0])
    assert imported <= {"mininetes", "ipaddress", "collections", "dataclasses", "itertools", "__future__"}


@pytest.mark.parametrize("name", api.__all__)
def test_everything_that_the_api_promises_is_there_and_documented(name: str) -> None:
    assert getattr(api, name).__doc__


def test_the_api_names_what_it_has_when_asked_for_something_else() -> None:
    with pytest.raises(AttributeError, match="FabricView"):
        api.Nonsense  # noqa: B018
