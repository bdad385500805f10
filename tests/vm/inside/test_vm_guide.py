"""The parts of the guide for which not every kernel has the features."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from console_page import as_shown, shell, steps

SLOWLY_S = 300.0
"""Without KVM all of this is emulated."""

ROOT = Path(__file__).resolve().parents[3]
PAGES = [page for page in sorted((ROOT / "docs").glob("**/*.md")) if steps(page, "console vm")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_happens(page: Path, tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    wrong = []
    with shell(tmp_path, {**os.environ, "PATH": path, "COLUMNS": "120", "TERM": "dumb"}) as terminal:
        for step in steps(page, "console vm"):
            printed, status = terminal.type(step.command, SLOWLY_S)
            if status != step.status or (step.shown and not as_shown(step.shown, printed)):
                wrong.append(f"{page.name}:{step.line}: $ {step.command}\nstatus {status}, printed:\n{printed}")
    assert not wrong, "\n\n".join(wrong)
