"""What an engine says while it runs: to the launcher, and into the lab's log. Light, for engines of any kind."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def _hear_nothing(_: str) -> None:
    pass


@dataclass(frozen=True)
class Progress:
    """Who hears how a bring-up goes: of each ``step`` that begins, and of ``trouble`` that keeps it waiting."""

    step: Callable[[str], None] = _hear_nothing
    trouble: Callable[[str], None] = _hear_nothing


class Reporter:
    """Tells the launcher what goes on: one JSON object a line, until `close`."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    def say(self, **event: Any) -> None:
        """Send one event. A launcher that has gone is no error: it no longer listens."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.write(self._fd, json.dumps(event).encode() + b"\n")

    def close(self) -> None:
        """Nothing more will be said. May be called twice."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def start_logging(fd: int | None) -> None:
    """Send the log to the state folder's file (or stderr), one line an event, with the time in seconds."""
    stream = os.fdopen(fd, "w", buffering=1) if fd is not None else sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(created).3f %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
