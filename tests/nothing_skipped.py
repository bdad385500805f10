"""A pytest plugin (-p tests.nothing_skipped): a skipped or an expected-to-fail test fails the whole run."""

from __future__ import annotations

import pytest

_skipped: dict[str, str] = {}


def _note(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped:
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else getattr(report, "wasxfail", "")
        _skipped[report.nodeid] = str(why)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note(report)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for test, why in sorted(_skipped.items()):
        terminalreporter.write_line(f"NOT RUN {test}: {why} (nothing may be skipped here)", red=True)
