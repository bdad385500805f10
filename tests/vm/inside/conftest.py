"""These tests need a kernel with ip_vs, netem and others: where this one lacks any, they run in a virtual machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "lab"))  # running_lab, netbox, proxy_net and others

from tests.vm import lane, reports

_lane = pytest.StashKey[lane.Lane]()


def pytest_collection_finish(session: pytest.Session) -> None:
    session.config.stash[_lane] = lane.Lane(session.config, session.items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Replay what the virtual machine reported, in place of running the test."""
    if not item.nodeid.startswith(lane.INSIDE) or reports.VARIABLE in os.environ or not lane.lacking():
        return None
    found = item.config.stash[_lane].reports(item)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in found:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
