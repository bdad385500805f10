"""The process runner: argv lists, a deadline, namespaces, and errors that carry all of it."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mininetes.errors import MininetesError
from mininetes.kernel.netns import CLONE_FS, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWUTS, setns, unshare

_thread = threading.local()


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

    def kinds(self) -> list[tuple[int, str]]:
        """The namespaces by kind (a CLONE_NEW* flag) and path; the mount namespace last."""
        found = [(CLONE_NEWNET, self.net)] if self.net is not None else []
        if self.of_pid is not None:
            if self.net is None:
                found.append((CLONE_NEWNET, f"/proc/{self.of_pid}/ns/net"))
            found += [(CLONE_NEWUTS, f"/proc/{self.of_pid}/ns/uts"), (CLONE_NEWNS, f"/proc/{self.of_pid}/ns/mnt")]
        return found

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
    enters = getattr(_thread, "enters", False)
    full = argv if enters else [*namespaces.prefix(), *argv]
    try:
        with _entered(namespaces) if enters else contextlib.nullcontext():
            done = subprocess.run(
                full,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                env=env,
                check=False,
                errors="replace",
            )
    except subprocess.TimeoutExpired as late:
        texts = [t.decode(errors="replace") if isinstance(t, bytes) else (t or "") for t in (late.stdout, late.stderr)]
        raise ProcessFailed(Completed(tuple(argv), namespaces, -9, *texts), timeout_s) from None
    completed = Completed(tuple(argv), namespaces, done.returncode, done.stdout, done.stderr)
    if check and completed.status != 0:
        raise ProcessFailed(completed)
    return completed


def start(argv: Sequence[str], *, namespaces: Namespaces = HERE, **options: Any) -> subprocess.Popen[bytes]:
    """Start a program and return at once; ``options`` are subprocess.Popen's. The caller sees to its end.

    Raises FileNotFoundError when there is no such program (and nothing to enter).
    """
    if getattr(_thread, "enters", False):
        with _entered(namespaces):
            return subprocess.Popen(argv, **options)
    return subprocess.Popen([*namespaces.prefix(), *argv], **options)


def reap(process: subprocess.Popen[bytes]) -> None:
    """Have a thread of its own wait for a process, so that it is no zombie when nobody asks for its status."""
    threading.Thread(target=process.wait, name="reaper", daemon=True).start()
    if getattr(_thread, "enters", False):
        unshare(CLONE_FS)  # the new thread has the root and working directory of the one that started it


def lift_file_limit() -> None:
    """Let this process, and those that it starts, open as many files as they may. May be called twice.

    An ordinary user's shell allows 1,024, which are soon used up: every connection of every node's agents is one.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def let_thread_enter() -> None:
    """Have the calling thread enter namespaces itself when it runs a process: 1 ms less than nsenter.

    For worker threads that do nothing else: from now on the thread has a root and a working
    directory of its own (/ after the first process), and relative paths mean nothing in it.
    """
    unshare(CLONE_FS)
    _thread.enters = True


@contextlib.contextmanager
def _entered(namespaces: Namespaces) -> Iterator[None]:
    """Run the block, which must do no more than start a process, in these namespaces; then come back."""
    names = {CLONE_NEWNET: "net", CLONE_NEWUTS: "uts", CLONE_NEWNS: "mnt"}
    kinds = namespaces.kinds()
    with contextlib.ExitStack() as undo:
        fds = []
        for kind, path in kinds:
            fds.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            undo.callback(os.close, fds[-1])
            home = os.open(f"/proc/thread-self/ns/{names[kind]}", os.O_RDONLY | os.O_CLOEXEC)
            undo.callback(os.close, home)
            undo.callback(setns, home, kind)
        for (kind, _), fd in zip(kinds, fds, strict=True):
            setns(fd, kind)
        yield
