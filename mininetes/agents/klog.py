"""The log of an agent, in the format of Kubernetes' components (klog, structured), in a file of its node."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, TextIO

_PID = 1
"""What a component sees as its own process id, each being alone in its container."""


class AgentLog:
    """Appends lines such as ``I1126 11:05:00.123456       1 proxier.py:77] "Adding new service" port="a/b:c"``.

    ``verbosity`` is the components' ``-v``: lines of a higher level are left out. Each line is
    written at once; a file that was moved away (as log rotation does) is made anew by `reopen`.
    """

    def __init__(self, path: str, *, verbosity: int = 2) -> None:
        self.path = path
        self.verbosity = verbosity
        self._file: TextIO | None = None
        self.reopen()

    def reopen(self) -> None:
        """Open the file anew; its folder is made when missing. May be called at any time. Raises OSError."""
        self.close()
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        self._file = open(self.path, "a", buffering=1)  # noqa: SIM115 - open for as long as the agent

    def close(self) -> None:
        """Write no more. May be called twice."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def enabled(self, level: int) -> bool:
        """Whether lines of this level are written."""
        return level <= self.verbosity

    def info(self, message: str, *, v: int = 0, **values: Any) -> None:
        """Write what happened, when the verbosity is at least ``v``; ``values`` become key="value" pairs."""
        if v <= self.verbosity:
            self._write("I", message, values)

    def warning(self, message: str, **values: Any) -> None:
        """Write what is not right but does not stop the work."""
        self._write("W", message, values)

    def error(self, message: str, **values: Any) -> None:
        """Write what went wrong; an exception goes in as ``err``."""
        self._write("E", message, values)

    def _emit(self, line: str) -> None:
        if self._file is not None:
            self._file.write(line)

    def _write(self, severity: str, message: str, values: dict[str, Any]) -> None:
        now = time.time()
        stamp = time.strftime("%m%d %H:%M:%S", time.localtime(now))
        frame = sys._getframe(2)
        where = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
        pairs = "".join(f" {key}={_shown(value)}" for key, value in values.items())
        micros = int(now * 1e6) % 1_000_000
        self._emit(f"{severity}{stamp}.{micros:06d} {_PID:7d} {where}] {json.dumps(message)}{pairs}\n")


def _shown(value: Any) -> str:
    """A value as klog prints it: strings and errors quoted, numbers and lists bare."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, default=str)
    return json.dumps(str(value))
