"""The process runner: argv lists, a deadline, namespaces, and errors that carry all of it."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mininetes.errors import MininetesError

_WORKERS = ThreadPoolExecutor(max_workers=16, thread_name_prefix="process")


@dataclass(frozen=True)
class Namespaces:
    """The namespaces in which a process runs; None means the caller's own.

    ``of_pid`` takes network, mount and UTS namespace from that process (a node's holder);
    ``net`` is the path of a network namespace and goes before ``of_pid``'s. Paths are opened
    in the caller's mount namespace.
    """

    of_pid: int | None = None
    net: str | None = None

    def prefix(self) -> list[str]:
        """Return the argv prefix (nsenter) that enters them; empty when there is nothing to enter."""
        if self.of_pid is None and self.net is None:
            return []
        argv = ["nsenter"]
        if self.of_pid is not None:
            # with the pid's root and working directory, or absolute paths would still be the caller's
            argv += ["--target", str(self.of_pid), "--mount", "--uts"]
        argv.append(f"--net={self.net}" if self.net is not None else "--net")
        return [*argv, "--"]

    def __str__(self) -> str:
        parts = [f"pid {self.of_pid}"] if self.of_pid is not None else []
        return ", ".join(parts + ([self.net] if self.net else [])) or "the caller's"


HERE = Namespaces()
"""The caller's own namespaces."""


@dataclass(frozen=True)
class Completed:
    """A process that ended: its argv, namespaces, exit status (negative: signal) and output."""

    argv: tuple[str, ...]
    namespaces: Namespaces
    status: int
    stdout: str
    stderr: str


class ProcessFailed(MininetesError):
    """A process ended with a status other than 0, or was not done in time."""

    def __init__(self, completed: Completed, timeout_s: float | None = None) -> None:
        said = (completed.stderr.strip() or completed.stdout.strip() or "no output")[-2000:]
        how = f"not done after {timeout_s:g} s" if timeout_s is not None else f"status {completed.status}"
        super().__init__(f"{' '.join(completed.argv)}: {how} (namespaces: {completed.namespaces}): {said}")
        self.completed = completed
        self.timeout_s = timeout_s


def run(
    argv: Sequence[str],
    *,
    timeout_s: float = 30.0,
    namespaces: Namespaces = HERE,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
    check: bool = True,
) -> Completed:
    """Run a program to its end and return what it said.

    ``env`` replaces the environment when given. With ``check`` a status other than 0 raises
    ProcessFailed; a missed deadline always does, after the process was killed.
    Raises FileNotFoundError when there is no such program (and nothing to enter).
    """
    full = [*namespaces.prefix(), *argv]
    try:
        done = subprocess.run(
            full, input=stdin, capture_output=True, text=True, timeout=timeout_s, env=env, check=False, errors="replace"
        )
    except subprocess.TimeoutExpired as late:
        texts = [t.decode(errors="replace") if isinstance(t, bytes) else (t or "") for t in (late.stdout, late.stderr)]
        raise ProcessFailed(Completed(tuple(argv), namespaces, -9, *texts), timeout_s) from None
    completed = Completed(tuple(argv), namespaces, done.returncode, done.stdout, done.stderr)
    if check and completed.status != 0:
        raise ProcessFailed(completed)
    return completed


async def run_async(
    argv: Sequence[str],
    *,
    timeout_s: float = 30.0,
    namespaces: Namespaces = HERE,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
    check: bool = True,
) -> Completed:
    """Do as `run`, on a worker thread, so that the event loop goes on. Same arguments and errors."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(
        _WORKERS,
        lambda: run(argv, timeout_s=timeout_s, namespaces=namespaces, stdin=stdin, env=env, check=check),
    )
