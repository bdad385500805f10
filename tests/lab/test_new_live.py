"""`mininetes new`: what it makes works at once, from its first figure to its tests."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

from running_lab import Done, environment, mininetes

from mininetes.testing.commands import run


def make(folder: Path, *arguments: str) -> Done:
    """Run make as somebody does who has Mininetes in PATH."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    found = {**environment(), "PATH": path, "PYTEST_ADDOPTS": "-p no:cacheprovider"}
    done = run(["make", "-C", str(folder), *arguments], str(folder), arguments, environment=found, timeout_s=300)
    return Done(done.status, done.stdout, done.stderr)


def test_a_new_repository_has_its_first_figure_and_its_tests_pass(tmp_path: Path) -> None:
    folder = tmp_path / "tunnels"
    made = mininetes("new", str(folder))
    assert made.status == 0, made
    assert f"Next: cd {folder} && make figures" in made.stdout
    figures = make(folder, "figures")
    assert figures.status == 0, figures
    result = folder / "results" / "figures"
    assert (result / "first" / "round_trips.png").read_bytes().startswith(b"\x89PNG")
    assert "round_trips" in (result / "report.html").read_text()
    rows = [json.loads(line) for line in (result / "first" / "rows.jsonl").read_text().splitlines()]
    runs = [row for row in rows if row["metric"] == "run_s"]
    assert [row["labels"]["status"] for row in runs] == ["ok"] * 6
    assert {row["cell"]["fabric"] for row in runs} == {"direct", "vxlan"}
    assert all(row["labels"]["holds"] for row in runs)
    fabric = (folder / "topologies" / "fabrics" / "direct.py").read_bytes()
    assert hashlib.sha256(fabric).hexdigest() in (result / "first" / "context.json").read_text()
    again = make(folder, "figures")
    assert again.status == 0, again
    assert len((result / "first" / "rows.jsonl").read_text().splitlines()) == len(rows)
    tests = make(folder, "test")
    assert tests.status == 0, tests
    assert "3 passed" in tests.stdout


def test_its_tests_find_a_fabric_that_is_broken(tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    assert mininetes("new", str(folder)).status == 0
    fabric = folder / "topologies" / "fabrics" / "direct.py"
    text = fabric.read_text()
    fabric.write_text(text.replace("other.name != node.name", "other.name > node.name"))
    assert fabric.read_text() != text
    tests = make(folder, "test")
    assert tests.status != 0
    assert "pod/node2-1 -> pod/node1-1" in tests.stdout
    assert "2 passed" in tests.stdout


def test_without_mininetes_make_says_how_to_get_it(tmp_path: Path) -> None:
    folder = tmp_path / "alone"
    assert mininetes("new", str(folder)).status == 0
    done = run(["make", "-C", str(folder), "figures"], "", ["make"], environment={"PATH": "/usr/bin:/bin"})
    assert done.status != 0
    assert "mininetes is not installed: make setup MININETES=DIR" in done.stderr
    assert "make figures" in run(["make", "-C", str(folder)], "", ["make"]).stdout
