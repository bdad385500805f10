#!/usr/bin/env python3
"""Named defects, put in one at a time: each must make one of its tests fail, or the tests prove too little.

``mutants.py [--live] [--only WORDS] [--jobs 2]`` works in copies of the repository in a temporary folder. A defect
that no test finds survives; one whose text is not there, or whose tests fail without it, says nothing. Either
fails the run. Defects with ``live: true`` need namespaces, and are left out without ``--live``.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
TABLE = REPOSITORY / "tests" / "mutants.yaml"
COPIED = ("mininetes", "proxy_rules", "cni_scripts", "topologies", "experiments", "tests", "pyproject.toml", "setup.py")
WITHIN_S = 600.0
_TESTS_FAILED = 1
"""pytest's exit status when tests ran and some failed; others mean that they did not run."""


@dataclass(frozen=True)
class Mutant:
    """A defect: in ``file``, ``new`` in place of ``old``, which stands there once; ``tests`` as arguments of pytest."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    live: bool = False


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: ``killed``, or why not; ``by``: the tests that failed."""

    mutant: Mutant
    killed: bool
    said: str
    took_s: float


def read_table(path: Path) -> list[Mutant]:
    """All mutants of the table. Raises SystemExit when two have one name."""
    mutants = [Mutant(**{**row, "tests": tuple(row["tests"])}) for row in yaml.safe_load(path.read_text())]
    names = [mutant.name for mutant in mutants]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SystemExit(f"{path}: names that are given twice: {', '.join(twice)}")
    return mutants


def copy_to(folder: Path) -> Path:
    """A copy of what tests need."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignored, symlinks=True)
        else:
            shutil.copy2(source, folder / name)
    return folder


def run_tests(copy: Path, tests: Sequence[str]) -> tuple[int, str]:
    """pytest's exit status in a copy, and what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    argv = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(
        argv, cwd=copy, env=environment, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    return done.returncode, done.stdout + done.stderr


def try_out(copy: Path, mutant: Mutant) -> Verdict:
    """Put a defect into a copy, run its tests, and take it out again."""
    began = time.monotonic()
    path = copy / mutant.file
    text = path.read_text()
    count = text.count(mutant.old)
    if count != 1:
        return Verdict(mutant, False, f"does not apply: its text stands {count} times in {mutant.file}", 0.0)
    path.write_text(text.replace(mutant.old, mutant.new))
    try:
        status, printed = run_tests(copy, mutant.tests)
    except subprocess.TimeoutExpired:
        return Verdict(mutant, False, f"its tests did not end within {WITHIN_S:g} s", WITHIN_S)
    finally:
        path.write_text(text)
    took_s = time.monotonic() - began
    if status == 0:
        return Verdict(mutant, False, f"SURVIVED {' '.join(mutant.tests)}", took_s)
    lines = [line.removeprefix("FAILED ") for line in printed.splitlines() if line.startswith("FAILED ")]
    failed = [line.partition(" - ")[0] for line in lines]
    if status != _TESTS_FAILED or not failed:
        return Verdict(mutant, False, f"its tests did not run (status {status}): {printed[-500:]}", took_s)
    return Verdict(mutant, True, failed[0].partition("::")[2], took_s)


def sound(copy: Path, mutants: Sequence[Mutant]) -> bool:
    """Whether the tests pass without any defect: else their failing says nothing."""
    for tests in dict.fromkeys(mutant.tests for mutant in mutants):
        status, printed = run_tests(copy, tests)
        if status != 0:
            print(f"without a defect {' '.join(tests)} does not pass:\n{printed[-3000:]}", file=sys.stderr)
            return False
    return True


def main() -> int:
    """Try all of them; 0 when each was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--live", action="store_true", help="those that need namespaces too")
    parser.add_argument("--only", default="", help="those whose name has these words")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    arguments = parser.parse_args()
    mutants = [m for m in read_table(TABLE) if arguments.only in m.name and (arguments.live or not m.live)]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(arguments.jobs):
            (place := Path(folder) / str(number)).mkdir()
            copies.put(copy_to(place))
        first = copies.get()
        if not sound(first, mutants):
            return 1
        copies.put(first)

        def one(mutant: Mutant) -> Verdict:
            copy = copies.get()
            try:
                return try_out(copy, mutant)
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(arguments.jobs) as pool:
            verdicts = []
            for verdict in pool.map(one, mutants):
                verdicts.append(verdict)
                word = "killed" if verdict.killed else "NOT KILLED"
                print(f"{word:10} {verdict.took_s:5.1f} s  {verdict.mutant.name}: {verdict.said}", flush=True)
    alive = [verdict.mutant.name for verdict in verdicts if not verdict.killed]
    left = f"; not: {', '.join(alive)}" if alive else ""
    print(f"{len(verdicts)} defects, {len(verdicts) - len(alive)} found{left}")
    return 1 if alive or not verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
