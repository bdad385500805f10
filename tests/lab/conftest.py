"""Labs that the tests of one file share. A test that changes something makes a lab of its own with `running`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from running_lab import RunningLab, running


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
