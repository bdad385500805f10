"""Waiting for a condition with a deadline, never for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def wait_until(condition: Callable[[], _T], what: str, *, within_s: float = 20.0, every_s: float = 0.01) -> _T:
    """Return what ``condition`` says once that is true; fail with ``what`` when it was not in time."""
    deadline = time.monotonic() + within_s
    while True:
        said = condition()
        if said:
            return said
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(every_s)
