"""A pytest plugin (-p tests.vm.reports): writes tests' reports to $MININETES_VM_REPORTS as they come, one a line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

VARIABLE = "MININETES_VM_REPORTS"
_config: pytest.Config | None = None


def pytest_configure(config: pytest.Config) -> None:
    global _config  # noqa: PLW0603 - the hook below is not told
    _config = config


def _write(report: pytest.TestReport | pytest.CollectReport) -> None:
    assert _config is not None
    data = _config.hook.pytest_report_to_serializable(config=_config, report=report)
    with Path(os.environ[VARIABLE]).open("a") as file:
        file.write(json.dumps(data, default=str) + "\n")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _write(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _write(report)


def read(path: Path, config: pytest.Config) -> Iterator[pytest.TestReport | pytest.CollectReport]:
    """The reports that were written; the last line may be half a one when the machine was killed."""
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            data = json.loads(line)
        except ValueError:
            return
        yield config.hook.pytest_report_from_serializable(config=config, data=data)
