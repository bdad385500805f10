"""The wheel holds the engine and the four part folders; executables in it stay executable."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PART_FOLDERS = ("topologies", "cni_scripts", "proxy_rules", "experiments")
NOT_PARTS = shutil.ignore_patterns("__pycache__")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built from a copy of the sources, so that the checkout gets no build folder."""
    source = tmp_path_factory.mktemp("source")
    for folder in ("mininetes", *PART_FOLDERS):
        if (ROOT / folder).is_dir():
            shutil.copytree(ROOT / folder, source / folder, ignore=NOT_PARTS)
    for file in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source / file)
    added = source / "cni_scripts" / "an-executable"
    added.write_text("#!/bin/bash\n")
    added.chmod(0o755)
    (source / "topologies" / "underlays" / "__pycache__").mkdir(parents=True)
    (source / "topologies" / "underlays" / "__pycache__" / "x.pyc").write_bytes(b"")
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    built = subprocess.run(
        [*command, "--wheel-dir", str(out), str(source)], capture_output=True, text=True, check=False, timeout=120
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return zipfile.ZipFile(next(out.glob("mininetes-*.whl")))


def test_every_module_of_the_engine_is_in_it(wheel: zipfile.ZipFile) -> None:
    modules = {str(f.relative_to(ROOT)) for f in (ROOT / "mininetes").rglob("*.py")}
    assert modules - set(wheel.namelist()) == set()


def test_every_part_is_in_it(wheel: zipfile.ZipFile) -> None:
    parts = {
        f"mininetes/_parts/{file.relative_to(ROOT)}"
        for folder in PART_FOLDERS
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    assert parts - set(wheel.namelist()) == set()


def test_what_new_repositories_are_made_of_is_in_it(wheel: zipfile.ZipFile) -> None:
    templates = {str(f.relative_to(ROOT)) for f in (ROOT / "mininetes" / "cli" / "new_repository").rglob("*.in")}
    assert len(templates) > 5
    assert templates - set(wheel.namelist()) == set()


def test_nothing_compiled_and_no_tests_are_in_it(wheel: zipfile.ZipFile) -> None:
    assert [n for n in wheel.namelist() if n.endswith(".pyc") or n.startswith(("tests/", "topologies/"))] == []


def test_executables_stay_executable(wheel: zipfile.ZipFile) -> None:
    mode = wheel.getinfo("mininetes/_parts/cni_scripts/an-executable").external_attr >> 16
    assert mode & 0o111 == 0o111


def test_commands(wheel: zipfile.ZipFile) -> None:
    name = next(n for n in wheel.namelist() if n.endswith("entry_points.txt"))
    commands = wheel.read(name).decode().splitlines()
    assert {"mininetes = mininetes.cli:main", "mn8s = mininetes.cli:main"} <= set(commands)
    assert commands[commands.index("[pytest11]") + 1] == "mininetes = mininetes.testing.plugin"
