"""Commands in a lab, as a test runs them: what they printed, or a failure that says what happened."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    where: str
    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        said = "".join(f"\n{text.rstrip()}" for text in (self.stdout, self.stderr) if text.strip())
        return f"{' '.join(self.argv)} at {self.where} ended with status {self.status}{said}"


class CommandFailed(AssertionError):
    """A command that had to succeed did not, or was not done in time."""


def run(
    prefixed: Sequence[str],
    where: str,
    argv: Sequence[str],
    *,
    stdin: str = "",
    timeout_s: float = 60.0,
    environment: Mapping[str, str] | None = None,
) -> Done:
    """Run ``prefixed`` (it ends in ``argv``) to its end, whatever its status. Raises CommandFailed after the time."""
    try:
        done = subprocess.run(
            prefixed,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            env={**os.environ, **(environment or {})},
        )
    except subprocess.TimeoutExpired as late:
        said = (late.stdout or b"").decode(errors="replace").rstrip()
        text = f"{' '.join(argv)} at {where} was not done after {timeout_s:g} s"
        raise CommandFailed(f"{text}; it printed:\n{said}" if said else text) from None
    return Done(where, tuple(argv), done.returncode, done.stdout, done.stderr)


def succeeded(done: Done) -> str:
    """What a command printed. Raises CommandFailed when its status is not 0."""
    __tracebackhide__ = True
    if done.status:
        raise CommandFailed(str(done))
    return done.stdout
