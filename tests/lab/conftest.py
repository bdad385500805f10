"""Labs that the tests of one file share. A test that changes something makes a lab of its own with `running`."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from running_lab import Done, RunningLab, running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test's report has all that the commands in its own frames said, which its message shortens."""
    report = yield
    if call.excinfo is not None:
        for entry in call.excinfo.traceback:
            for name, value in entry.frame.f_locals.items():
                if isinstance(value, Done):
                    report.sections.append((f"{name}: status {value.status}", value.stdout + value.stderr))
    return report


@pytest.fixture(scope="module")
def three_nodes() -> Iterator[RunningLab]:
    """The cluster that comes without a wish: three nodes, four pods each, static routes."""
    with running() as lab:
        yield lab


@pytest.fixture(scope="module")
def islands() -> Iterator[RunningLab]:
    """Three nodes with two pods each, and no fabric between them."""
    with running("--fabric", "none", "--pods", "2") as lab:
        yield lab
