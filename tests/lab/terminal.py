"""A terminal with a command in front of it, as a person has it: a pseudo-terminal, typed into and read.

    with Terminal(traces, "shell", "node1") as terminal:
        terminal.read_until("node1:.*# ")
        terminal.type("exit 7")
        assert terminal.status() == 7

What the command prints is taken in whenever we wait for anything, so that it never waits for us; every wait has a
deadline, and none of them is a bare read: whatever the command leaves behind may hold the other end for ever.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import struct
import termios
import time

from lab_traces import Traces
from running_lab import MININETES

CTRL_C, CTRL_D, CTRL_Z = "\x03", "\x04", "\x1a"
ROWS, COLUMNS = 50, 200
_BLOCK_BYTES = 1 << 16


class Terminal:
    """A context manager: a `mininetes` command as the foreground of a terminal of its own. Its end ends the command."""

    def __init__(self, traces: Traces, *arguments: str) -> None:
        self._terminal, command_side = os.openpty()
        try:
            fcntl.ioctl(command_side, termios.TIOCSWINSZ, struct.pack("4H", ROWS, COLUMNS, 0, 0))
            streams = {"stdin": command_side, "stdout": command_side, "stderr": command_side}
            # setsid makes it the leader of a session and its terminal the controlling one; only so Ctrl-C is a signal
            self._process = traces.popen("setsid", "--ctty", *MININETES, *arguments, **streams)
        finally:
            os.close(command_side)
        self._end = os.pidfd_open(self._process.pid)
        self._printed = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._process.returncode is None:
                self._process.kill()
        self._process.wait()
        os.close(self._end)
        os.close(self._terminal)

    def type(self, line: str) -> None:
        """Type a line and press the return key."""
        self.press(f"{line}\r")

    def press(self, keys: str) -> None:
        """Press keys, such as CTRL_C."""
        os.write(self._terminal, keys.encode())

    def read_until(self, pattern: str, within_s: float = 60.0) -> str:
        """Return what was printed up to the first match of the pattern, and the match; it counts as read then."""
        deadline = time.monotonic() + within_s
        while not (found := re.search(pattern, self._printed)):
            rest_s = deadline - time.monotonic()
            assert rest_s > 0, f"not printed within {within_s:g} s: {pattern!r}, but {self._printed!r}"
            ended = self._take_in(rest_s)
            assert not ended or re.search(pattern, self._printed), f"it ended without {pattern!r}: {self._printed!r}"
        read, self._printed = self._printed[: found.end()], self._printed[found.end() :]
        return read

    def status(self, within_s: float = 60.0) -> int:
        """The command's exit status, as a shell has it, once it has ended by itself."""
        deadline = time.monotonic() + within_s
        while not self._take_in(max(deadline - time.monotonic(), 0)):
            assert time.monotonic() < deadline, f"not ended within {within_s:g} s: {self._printed!r}"
        status = self._process.wait()
        return status if status >= 0 else 128 - status

    def _take_in(self, within_s: float) -> bool:
        """Wait until it prints something or ends; return whether it has ended, with all that it printed taken in."""
        ready, _, _ = select.select([self._terminal, self._end], [], [], within_s)
        ended = self._end in ready
        while self._terminal in select.select([self._terminal], [], [], 0)[0]:
            try:
                block = os.read(self._terminal, _BLOCK_BYTES)
            except OSError:  # EIO: nobody has the other end any more
                return self._end in select.select([self._end], [], [], within_s)[0]
            self._printed += block.decode(errors="replace")
        return ended
