"""The parts of the guide for which not every kernel has the features."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from console_page import steps, wrong_in

SLOWLY_S = 300.0
"""Without KVM all of this is emulated."""

ROOT = Path(__file__).resolve().parents[3]
PAGES = [page for page in sorted((ROOT / "docs").glob("**/*.md")) if steps(page, "console vm")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_happens(page: Path, tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "120", "TERM": "dumb"}
    wrong = wrong_in(page, tmp_path, environment, "console vm", SLOWLY_S)
    assert not wrong, "\n\n".join(wrong)
