"""Commands that pages name in sentences and tables, outside of console blocks: each is typed, and has to succeed.

Where the page leaves something open (NODE, FILE), it gets what the lab has.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from console_page import Shell, shell
from test_guide_parts import OBJECTS

ROOT = Path(__file__).resolve().parents[2]
README, TROUBLES = ROOT / "README.md", ROOT / "docs" / "troubleshooting.md"
KIND = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes: [{role: control-plane}, {role: worker}]\n"
WITHIN_S = 240.0
_BLOCK = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)

STAND_INS = {
    "mininetes validate FILE": "mininetes validate kind.yaml",
    "mininetes apply -f FILE": "mininetes apply -f web.yaml",
    "pod/NAME": "pod/node1-1",
    "pod NAME": "pod node1-1",
    "--service NAME": "--service kubernetes",
    "NODE": "node1",
    "ADDRESS": "10.244.2.2",
}
ELSEWHERE = {
    "mininetes exec": "names the command",
    "mininetes cni-check ./my-plugin --config my.conflist": "test_guide_parts.py has a whole plugin",
    "mininetes cni-check bash-bridge bridge": "test_cni_check.py, with all rules",
    "mininetes run proxy_modes --size figures --out results/modes": "takes minutes; test_experiments_network.py",
    "mininetes report results/modes": "of what is not run here; test_run_experiments.py",
    "mininetes compare results/before results/after": "the same",
    "mininetes exec node3 -- ip link set eth0 down": "others would fail then; test_membership_live.py",
    "mininetes exec node1 -- ip link show eth0": "in the line before",
}
"""What is not typed here, and why."""

AFTER = {"mininetes agents stop node1 kube-scheduler": "mininetes agents start node1 kube-scheduler"}
"""What is typed after a command, so that the lab is as it was."""


def commands(page: Path) -> list[str]:
    """The commands of a page's sentences and tables that can be typed, in order, each once."""
    named = re.findall(r"`((?:mininetes|kubectl) [^`\n]+)`", _BLOCK.sub("", page.read_text()))
    return [each for each in dict.fromkeys(named) if each not in ELSEWHERE]


def typed(command: str) -> str:
    """The command with what the lab has in place of what the page leaves open."""
    for open_, given in STAND_INS.items():
        command = command.replace(open_, given)
    return command


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Shell]:
    """A shell in a folder with the files that the pages speak of."""
    (tmp_path / "web.yaml").write_text((ROOT / "docs" / "web.yaml").read_text())
    (tmp_path / "objects.yaml").write_text(OBJECTS)
    (tmp_path / "kind.yaml").write_text(KIND)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "120", "TERM": "dumb", "HOME": str(tmp_path)}
    environment.pop("MININETES_LAB", None)
    environment["KUBECONFIG"] = str(tmp_path / "kubeconfig")
    if os.geteuid() != 0:
        environment["XDG_RUNTIME_DIR"] = str(tmp_path)
    with shell(tmp_path, environment) as found:
        yield found


def wrong_of(terminal: Shell, lines: list[str]) -> list[str]:
    """What went wrong of these, in words."""
    wrong = []
    for line in (each for named in lines for each in (named, AFTER.get(named)) if each):
        printed, status = terminal.type(f"{typed(line)} </dev/null", WITHIN_S)
        if status != 0:
            wrong.append(f"$ {typed(line)}\nended with status {status}, and printed:\n{printed[-1500:]}")
    return wrong


def test_the_readmes_clusters_come_up(terminal: Shell) -> None:
    ups = [each for each in commands(README) if each.startswith("mininetes up")]
    assert len(ups) >= 8
    lines = [line for each in ups for line in (each, "mininetes down --all")]
    wrong = wrong_of(terminal, lines)
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize("page", [README, TROUBLES], ids=lambda page: page.stem)
def test_what_else_is_named_works_in_a_lab(page: Path, terminal: Shell) -> None:
    lines = [each for each in commands(page) if not each.startswith("mininetes up")]
    if shutil.which("kubectl") is None:
        lines = [each for each in lines if not each.startswith("kubectl")]
    assert len(lines) >= 10
    start = ["mininetes up", "mininetes kubeconfig >kubeconfig"]
    wrong = wrong_of(terminal, [*start, *lines])
    assert not wrong, "\n\n".join(wrong)


def test_what_is_not_typed_here_is_on_a_page() -> None:
    whole = README.read_text() + TROUBLES.read_text()
    assert [each for each in ELSEWHERE if f"`{each}`" not in whole] == []
