"""A running lab whose folder of parts went away, or whose parts were changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from running_lab import REPOSITORY, fresh_name, mininetes

WEB = str(REPOSITORY / "docs" / "web.yaml")
EMPTY = """
from mininetes.api import IptablesRuleset
LIKE = "iptables"
def compile_rules(view):
    return IptablesRuleset({}, ())
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of parts with an underlay like one of ours."""
    folder = tmp_path / "own" / "topologies" / "underlays"
    folder.mkdir(parents=True)
    text = (REPOSITORY / "topologies" / "underlays" / "single_switch.py").read_text()
    (folder / "mine.py").write_text(text.replace('"single_switch"', '"mine"'))
    return tmp_path / "own"


def test_a_lab_that_uses_nothing_of_it_goes_on(own: Path) -> None:
    name = fresh_name()
    try:
        assert mininetes("--parts", str(own), "up", "--lab", name, "--nodes", "1", "--pods", "0").status == 0
        own.rename(own.with_name("gone"))
        shell = mininetes("shell", "--lab", name, "--mininet", stdin="nodes\n")
        assert (shell.status, "node1" in shell.stderr, "Traceback" in shell.stderr) == (0, True, False), shell
        applied = mininetes("apply", "--lab", name, "-f", WEB, "--dry-run")
        assert (applied.status, applied.stderr) == (0, ""), applied
        assert "rules of node1, iptables" in applied.stdout
    finally:
        mininetes("down", name)


def test_a_lab_that_uses_it_says_in_a_line_what_is_gone(own: Path) -> None:
    name = fresh_name()
    options = ["--nodes", "1", "--pods", "0", "--underlay", "mine", "--set", "controlPlane.store=none"]
    try:
        assert mininetes("--parts", str(own), "up", "--lab", name, *options).status == 0
        own.rename(own.with_name("gone"))
        shell = mininetes("shell", "--lab", name, "--mininet", stdin="nodes\n")
        path = own / "topologies" / "underlays" / "mine.py"
        said = f"mininetes: lab {name}: '{path}' is not valid: a file that is still there: it is a part of the lab\n"
        assert (shell.status, shell.stderr) == (2, said)
    finally:
        mininetes("down", name)


def test_a_mode_that_was_edited_is_measured_as_it_is_now(tmp_path: Path) -> None:
    name = fresh_name()
    own, other = tmp_path / "own.py", tmp_path / "other.py"
    ours = (REPOSITORY / "proxy_rules" / "iptables.py").read_text() + "\nLIKE = 'iptables'\n"
    for mode in (own, other):
        mode.write_text(ours)

    def truth(mode: Path) -> int:
        ask = ("truth-table", "--lab", name, "--service", "kubernetes", "--timeout", "0.3", "--mode", str(mode))
        return mininetes(*ask).status

    try:
        assert mininetes("up", "--lab", name, "--nodes", "1", "--pods", "0", "--proxy", str(own)).status == 0
        for mode in (other, own):
            assert truth(mode) == 0
            mode.write_text(EMPTY)
            assert truth(mode) == 1, mode
    finally:
        mininetes("down", name)
