"""A lab that is up, for a test to look around in: made by the real command, under a name of its own.

    with running("--fabric", "none") as lab:
        lab.exec("node1", "ip", "route")        what it printed; `pod/node1-1` is a place too
        lab.probe()                             the reachability matrix, with the command's exit status

The lab is ended with the block, however that ends.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mininetes.lab import state
from mininetes.lab.entering import enter_lab, enter_node
from mininetes.probes.matrix import Cell, ReachabilityMatrix

REPOSITORY = Path(__file__).parents[2]
MININETES = (sys.executable, "-m", "mininetes")
SYSTEM = "kube-system/"
"""Before the names of the cluster's own pods, which measurements leave out."""
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    status: int
    stdout: str
    stderr: str


def environment() -> dict[str, str]:
    """This process's, with this checkout's engine before any that is installed."""
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "LC_ALL": "C.UTF-8"}


def run(argv: Sequence[str], *, stdin: str = "", cwd: Path | None = None, timeout_s: float = 120.0) -> Done:
    """Run a program to its end, whatever its status."""
    done = subprocess.run(
        argv,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        cwd=cwd,
        env=environment(),
        errors="replace",
    )
    return Done(done.returncode, done.stdout, done.stderr)


def mininetes(*arguments: str, stdin: str = "", cwd: Path | None = None, timeout_s: float = 120.0) -> Done:
    """Run the command."""
    return run([*MININETES, *arguments], stdin=stdin, cwd=cwd, timeout_s=timeout_s)


def fresh_name(kind: str = "t") -> str:
    """A lab name that no other test has, in this process or in one beside it."""
    return f"{kind}-{os.getpid()}-{next(_numbers)}"


def is_left(name: str) -> bool:
    """Whether there is a state folder of that lab."""
    return (state.base() / name).exists()


@dataclass(frozen=True)
class Probed:
    """A measured matrix, with the exit status of the command that measured it."""

    status: int
    matrix: ReachabilityMatrix

    def reached(self) -> set[tuple[str, str]]:
        """The pairs that answered."""
        return {(cell.source, cell.target) for cell in self.matrix.cells if cell.reached}

    def cell(self, source: str, target: str) -> Cell:
        """One pair."""
        return next(each for each in self.matrix.cells if (each.source, each.target) == (source, target))


class RunningLab:
    """A lab that is up. ``facts`` is what `up -o json` said."""

    def __init__(self, name: str, facts: dict[str, Any]) -> None:
        self.name = name
        self.facts = facts
        self.hosts: dict[str, dict[str, Any]] = {each["name"]: each for each in facts["hosts"]}
        pods: dict[str, dict[str, Any]] = {each["name"]: each for each in facts["pods"]}
        self.pods = {name: pod for name, pod in pods.items() if not name.startswith(SYSTEM)}
        self.system_pods = {name: pod for name, pod in pods.items() if name.startswith(SYSTEM)}
        self.nodes: list[str] = [each["name"] for each in facts["hosts"] if each["podSubnet"]]

    def command(self, *arguments: str, stdin: str = "") -> Done:
        """Run a `mininetes` command on this lab; ``--lab`` goes after its first word."""
        return mininetes(arguments[0], "--lab", self.name, *arguments[1:], stdin=stdin)

    @functools.cached_property
    def pid(self) -> int:
        """The lab's first process, as the host sees it."""
        return int(state.find(self.name).facts()["pid"])

    def argv(self, place: str, *command: str) -> list[str]:
        """What runs a command in a node, in a pod (``pod/NAME``) or in the lab itself (""), as `exec` does."""
        if not place:
            return [*enter_lab(self.pid), *command]
        pod = self.pods[place.removeprefix("pod/")] if place.startswith("pod/") else None
        holder = self.hosts[pod["node"] if pod else place]["pid"]
        if pod is None:
            return enter_node(self.pid, holder, command)
        return enter_node(self.pid, holder, command, pod_netns=pod["netns"], pause_pid=pod["pid"])

    def try_exec(self, place: str, *command: str, stdin: str = "") -> Done:
        """Run a command at a place, whatever its status."""
        return run(self.argv(place, *command), stdin=stdin)

    def exec(self, place: str, *command: str, stdin: str = "") -> str:
        """Run a command at a place, expect it to succeed, and return what it printed."""
        done = self.try_exec(place, *command, stdin=stdin)
        assert done.status == 0, f"{place}: {' '.join(command)}: {done}"
        return done.stdout

    def address(self, place: str) -> str:
        """The address of a node, a client or a pod (``pod/NAME``)."""
        found = self.pods[place.removeprefix("pod/")] if place.startswith("pod/") else self.hosts[place]
        return str(found["address"])

    def probe(self, *options: str) -> Probed:
        """Measure who reaches whom."""
        done = mininetes("probe", "reachability", "--lab", self.name, "-o", "json", *options)
        assert done.status in (0, 1), done
        assert not done.stderr, done.stderr
        rows = json.loads(done.stdout)
        cells = tuple(Cell(**{key: row[key] for key in row if key != "verdict"}) for row in rows)
        return Probed(done.status, ReachabilityMatrix(cells))

    def status(self) -> tuple[int, dict[str, Any]]:
        """The exit status of `status`, and what it says."""
        done = self.command("status", "-o", "json")
        assert done.stdout, done
        return done.status, json.loads(done.stdout)


@contextlib.contextmanager
def running(*arguments: str, parts: Path | None = None) -> Iterator[RunningLab]:
    """A lab made by `up` with these arguments, for the block; nothing of it is left afterwards."""
    own = ("--parts", str(parts)) if parts is not None else ()
    name = fresh_name()
    with contextlib.ExitStack() as undo:
        undo.callback(_end, name)
        done = mininetes(*own, "up", "--lab", name, "-o", "json", *arguments)
        assert done.status == 0, done
        yield RunningLab(name, json.loads(done.stdout))


def _end(name: str) -> None:
    if is_left(name):
        done = mininetes("down", name)
        assert done.status == 0, done
    assert not is_left(name)
