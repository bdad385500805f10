"""Runs the tests of tests/vm/inside in a virtual machine where this kernel cannot, and reports each under its own name.

The machine boots once, for the first of them. A test of which no report came back has failed.
"""

from __future__ import annotations

import functools
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from scripts.vm_machine import Machine, MachineFailed, missing_here, snapshot
from tests.vm import reports

INSIDE = "tests/vm/inside/"
NEEDED = (
    "mininetes",
    "tests",
    "topologies",
    "cni_scripts",
    "proxy_rules",
    "experiments",
    "docs",
    "scripts",
    "pyproject.toml",
)
TIMEOUT_S = 4200.0
ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8", "HOME": "/root"}


@functools.cache
def lacking() -> str:
    """What the running kernel lacks, in one line; empty when it runs the tests itself."""
    return missing_here()


class Lane:
    """The machine's run, for one session of pytest."""

    def __init__(self, config: pytest.Config, items: Sequence[pytest.Item]) -> None:
        self._config = config
        self._tests = [item.nodeid for item in items if item.nodeid.startswith(INSIDE)]
        self._reports: dict[str, list[pytest.TestReport]] | None = None
        self._why = "no report of it came back"

    def reports(self, item: pytest.Item) -> list[pytest.TestReport]:
        """What came of a test: its reports from the machine, or a failed one that says why there are none."""
        if self._reports is None:
            self._reports = {}
            started = time.monotonic()
            self._run()
            print(
                f"\n{len(self._tests)} tests ran in a virtual machine ({time.monotonic() - started:.0f} s): {lacking()}"
            )
        found = self._reports.get(item.nodeid, [])
        if any(report.when == "teardown" for report in found):
            return found
        return [*found, self._lost(item)]

    def _lost(self, item: pytest.Item) -> pytest.TestReport:
        return pytest.TestReport(
            item.nodeid,
            item.location,
            dict.fromkeys(item.keywords, 1),
            "failed",
            f"in the virtual machine: {self._why}",
            "call",
        )

    def _run(self) -> None:
        assert self._reports is not None
        with tempfile.TemporaryDirectory(prefix="mininetes-vm-") as folder:
            results = Path(folder) / "results"
            results.mkdir()
            root = snapshot(Path(folder) / "checkout", NEEDED)
            written = results / "reports.jsonl"
            try:
                ended = Machine.found().run(self._script(written), results, timeout_s=TIMEOUT_S, root=root)
                self._why += f"; pytest ended with status {ended.status}:\n{ended.output[-4000:]}"
            except MachineFailed as failed:
                self._why = str(failed)
            for report in reports.read(written, self._config):
                if isinstance(report, pytest.TestReport):
                    self._reports.setdefault(report.nodeid, []).append(report)
                else:
                    self._why += f"\n{report.longrepr}"

    def _script(self, written: Path) -> str:
        settings = {**ENVIRONMENT, reports.VARIABLE: str(written)}
        pytest_argv = [
            "-p",
            "tests.nothing_skipped",
            "-p",
            "tests.vm.reports",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
        ]
        argv = [sys.executable, "-m", "pytest", *pytest_argv, "-v", *self._tests]
        return shlex.join(["env", *(f"{name}={value}" for name, value in settings.items()), *argv])
