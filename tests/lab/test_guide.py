"""The guide: every command of its pages is run, page by page, and what they show is what is printed."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from console_page import as_shown, files, steps, wrong_in
from running_lab import run

ROOT = Path(__file__).resolve().parents[2]
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))) if steps(page)]


def needs_root(page: Path) -> bool:
    """Debian's tcpdump becomes another user, which no user namespace of an ordinary user has."""
    return any("tcpdump" in step.command for step in steps(page))


def by_root(test: str) -> None:
    """Have one of these tests done by root, as a reader would; set-up needs sudo too."""
    argv = ["sudo", "-n", "env", "PYTHONDONTWRITEBYTECODE=1", sys.executable, "-m", "pytest", "-q"]
    done = run([*argv, "-p", "no:cacheprovider", f"{Path(__file__)}::{test}"], cwd=ROOT, timeout_s=600)
    assert done.status == 0, done
    assert "1 passed" in done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_happens(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if os.geteuid() != 0 and needs_root(page):
        by_root(request.node.name)
        return
    for part in ("topologies", "cni_scripts", "proxy_rules", "experiments", "docs"):
        (tmp_path / part).symlink_to(ROOT / part)
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COLUMNS": "120",
        "TERM": "dumb",
        "HOME": str(tmp_path),
    }
    for name in ("MININETES_LAB", "KUBECONFIG"):
        environment.pop(name, None)
    if os.geteuid() != 0:
        environment["XDG_RUNTIME_DIR"] = str(tmp_path)
    wrong = wrong_in(page, tmp_path, environment)
    assert not wrong, "\n\n".join(wrong)


def test_the_readme_has_an_example_of_each_kind_of_ten_lines_or_so() -> None:
    found = files(ROOT / "README.md")
    kinds = {str(Path(name).parent) for name in found}
    assert kinds == {"my/topologies/underlays", "my/cni_scripts", "my/proxy_rules", "my/experiments"}
    longest = max(len([line for line in text.splitlines() if line.strip()]) for text in found.values())
    assert longest <= 12


def test_there_is_a_guide() -> None:
    assert len(PAGES) >= 3
    assert shutil.which("mininetes", path=str(Path(sys.executable).parent))


@pytest.mark.parametrize(
    ("shown", "printed", "expected"),
    [
        (["a"], "a\n", True),
        (["a"], "b\n", False),
        (["a ...c"], "a b c\n", True),
        (["a", "..."], "a\nb\nc\n", True),
        (["...", "c"], "a\nb\nc\n", True),
        (["...", "c"], "a\nb\n", False),
        (["a"], "a \n", True),
        (["a"], "a\nb\n", False),
    ],
)
def test_how_output_is_compared(shown: list[str], printed: str, expected: bool) -> None:
    assert as_shown(shown, printed) is expected
