"""All that one lab has on the host's kernel, found out while it is there, and looked for afterwards.

Tests run side by side, so that "no process more than before" says nothing. What is a lab's own is known by

- a mark in the environment of every process that its commands start (they inherit it), and their descendants;
- its PID namespace: all processes in there are the lab's, whatever their environment;
- its namespaces: `note` opens each, the pods' named ones too. While they are open here, their inode
  numbers cannot be given to others' namespaces, and whoever else has one of them after the lab's end
  (a process in it, an open file, a mount) is what the lab left behind.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host_state import HostState
from running_lab import MININETES, Done, environment
from waiting import wait_until

MARK = "MININETES_TEST_MARK"
KINDS = ("net", "mnt", "pid", "uts", "ipc", "user", "cgroup", "time")
POD_NAMESPACES = "run/mininetes/nodes/*/run/netns/*"
"""Below the root directory of the lab's first process."""

_EXITING = 0x4  # PF_EXITING of linux/sched.h
_KERNEL_THREAD = 0x200000  # PF_KTHREAD
_EXEC_S = 0.05


@dataclass(frozen=True)
class Process:
    """A process as /proc has it. ``inside`` are its pids from our PID namespace to its own."""

    pid: int
    parent: int
    state: str
    flags: int
    inside: tuple[int, ...]
    command: str

    @property
    def is_alive(self) -> bool:
        """Neither dead nor dying."""
        return self.state not in "ZX" and not self.flags & _EXITING

    @property
    def is_for_init_to_reap(self) -> bool:
        """Dead, and its parent went before it: how soon the host's first process takes note is not up to us."""
        return self.state == "Z" and self.parent == 1

    def __str__(self) -> str:
        return f"process {self.pid} ({self.state}, parent {self.parent}): {self.command}"


def process(pid: int) -> Process | None:
    """The process of that pid, if it is there."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")
        inside = re.search(r"^NSpid:(.*)$", Path(f"/proc/{pid}/status").read_text(errors="replace"), re.MULTILINE)
        command = _command(pid)
        fields = rest.split()
        alive = fields[0] not in "ZX" and not int(fields[6]) & (_EXITING | _KERNEL_THREAD)
        if alive and not command:  # in the middle of its exec, or without one
            with contextlib.suppress(AssertionError):
                command = wait_until(lambda: _command(pid), "a command", within_s=_EXEC_S, every_s=0.001)
    except OSError:
        return None
    pids = tuple(int(each) for each in inside[1].split()) if inside else (pid,)
    return Process(pid, int(fields[1]), fields[0], int(fields[6]), pids, command or name.partition("(")[2])


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ").strip()


class Traces:
    """What the commands started through here do on the host. A context manager: its end ends what they left.

    ``prefix`` goes before each program (to become another user), ``env`` into its environment;
    ``command`` is how `mininetes` is called.
    """

    def __init__(
        self, prefix: Sequence[str] = (), env: Mapping[str, str] | None = None, command: Sequence[str] = MININETES
    ) -> None:
        self.host = HostState.now()
        self._mark = f"{MARK}={uuid.uuid4().hex}"
        self._prefix = tuple(prefix)
        self._command = tuple(command)
        self._env = dict(env or {})
        self._held: dict[tuple[int, int], tuple[str, int]] = {}
        self._own = {_identity(Path(f"/proc/self/ns/{kind}").stat()) for kind in _kinds_of("self")}

    def __enter__(self) -> Traces:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)
        self.let_go()

    def let_go(self) -> None:
        """Forget the namespaces seen so far, so that the kernel can take away what only we still hold."""
        while self._held:
            _, (_, fd) = self._held.popitem()
            os.close(fd)

    def popen(self, *argv: str, **options: Any) -> subprocess.Popen[str]:
        """Start a program that bears the mark."""
        name, _, value = self._mark.partition("=")
        env = {**environment(), **self._env, name: value}
        return subprocess.Popen([*self._prefix, *argv], text=True, env=env, errors="replace", **options)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start a `mininetes` command; its output is in pipes when ``options`` do not say otherwise."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return self.popen(*self._command, *arguments, **{**pipes, **options})

    def run(self, *arguments: str, timeout_s: float = 120.0, **options: Any) -> Done:
        """Run a `mininetes` command to its end, whatever its status."""
        return finish(self.start(*arguments, **options), timeout_s)

    def processes(self) -> list[Process]:
        """The processes of this lab: marked, descendants of those, or in one of its PID namespaces."""
        mark = self._mark.encode()
        pid_namespaces = {identity for identity, (kind, _) in self._held.items() if kind == "pid"}
        everyone = {pid: found for pid in _pids() if (found := process(pid)) is not None}
        ours: set[int] = set()
        for pid in everyone:
            try:
                marked = mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                if marked or _identity(Path(f"/proc/{pid}/ns/pid").stat()) in pid_namespaces:
                    ours.add(pid)
            except OSError:
                continue  # dead, or another user's
        grown = True
        while grown:
            more = {pid for pid, found in everyone.items() if found.parent in ours} - ours
            ours |= more
            grown = bool(more)
        return [everyone[pid] for pid in sorted(ours)]

    def first_process(self) -> Process | None:
        """PID 1 of the lab."""
        return next((one for one in self.processes() if len(one.inside) == 2 and one.inside[1] == 1), None)

    def engine(self) -> Process | None:
        """The engine: the first child of PID 1."""
        first = self.first_process()
        children = [one for one in self.processes() if first is not None and one.parent == first.pid]
        engines = [one for one in children if "mininetes.lab.init" in one.command]
        return min(engines, key=lambda one: one.inside[-1], default=None)

    def supervisor(self) -> Process | None:
        """What `up` leaves behind."""
        return next((one for one in self.processes() if "mininetes.lab.supervisor" in one.command), None)

    def note(self) -> None:
        """Hold all namespaces of the lab's processes, and of its pods, that are there now."""
        for one in self.processes():
            for kind in _kinds_of(str(one.pid)):
                self._hold(kind, f"/proc/{one.pid}/ns/{kind}")
            if len(one.inside) == 2 and one.inside[1] == 1:
                for path in pod_namespaces(one.pid):
                    self._hold("net", path)

    def _hold(self, kind: str, path: str) -> None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        identity = _identity(os.fstat(fd))
        if identity in self._held or identity in self._own or not _is_namespace(identity):
            os.close(fd)
        else:
            self._held[identity] = (kind, fd)

    def held(self, kind: str) -> int:
        """How many namespaces of that kind were noted."""
        return sum(each == kind for each, _ in self._held.values())

    def left(self) -> list[str]:
        """What is there of the lab: processes, and whatever keeps one of the noted namespaces."""
        found = [str(one) for one in self.processes() if not one.is_for_init_to_reap]
        seen: set[tuple[int, int]] = set()
        for pid in _pids():
            if (one := process(pid)) is None or one.is_for_init_to_reap:
                continue
            found += self._namespaces_of(pid)
            mounts = _stat(f"/proc/{pid}/ns/mnt")
            if pid != os.getpid():
                found += self._open_in(pid)
            if mounts is not None and _identity(mounts) not in seen:
                seen.add(_identity(mounts))
                found += self._mounted_for(pid)
        return found

    def _namespaces_of(self, pid: int) -> Iterator[str]:
        for kind in _kinds_of(str(pid)):
            status = _stat(f"/proc/{pid}/ns/{kind}")
            if status is not None and _identity(status) in self._held:
                yield f"{kind} namespace {status.st_ino}: {process(pid)} is in it"

    def _open_in(self, pid: int) -> Iterator[str]:
        with contextlib.suppress(OSError):
            for fd in Path(f"/proc/{pid}/fd").iterdir():
                status = _stat(str(fd))
                if status is not None and _identity(status) in self._held:
                    yield f"namespace {status.st_ino}: {process(pid)} has it open as {fd.name}"

    def _mounted_for(self, pid: int) -> Iterator[str]:
        inodes = {str(inode): kind for (_, inode), (kind, _) in self._held.items()}
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/mountinfo").read_text(errors="replace").splitlines():
                root = re.search(r" (?:net|mnt|pid|uts|ipc|user):\[(\d+)\] ", line)
                if root and root[1] in inodes:
                    yield f"{inodes[root[1]]} namespace {root[1]}: mounted for {process(pid)}: {line}"

    def wait_until_gone(self, within_s: float = 10.0) -> None:
        """Return once nothing of the lab is left and the host is as it was; fail with the rest when it is not in time.

        Lets the namespaces go.
        """
        deadline = time.monotonic() + within_s
        while left := self.left():
            assert time.monotonic() < deadline, f"left after {within_s:g} s:\n" + "\n".join(left)
            time.sleep(0.02)
        self.let_go()
        self.host.wait_until_same(within_s)


def finish(started: subprocess.Popen[str], timeout_s: float = 60.0) -> Done:
    """Wait for a process's end and return what it said, with its exit status as a shell has it."""
    try:
        stdout, stderr = started.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        started.kill()
        stdout, stderr = started.communicate()
        raise AssertionError(f"not done after {timeout_s:g} s: {started.args}: {stdout}{stderr}") from None
    status = started.returncode
    return Done(status if status >= 0 else 128 - status, stdout or "", stderr or "")


def pod_namespaces(first_process: int) -> list[str]:
    """Where the pods' network namespaces are, seen from the host; those only that are mounted already."""
    found = []
    with contextlib.suppress(OSError):  # the process went while we looked
        for path in Path(f"/proc/{first_process}/root").glob(POD_NAMESPACES):
            status = _stat(str(path))
            if status is not None and _is_namespace(_identity(status)):
                found.append(str(path))
    return found


def _stat(path: str) -> os.stat_result | None:
    try:
        return Path(path).stat()
    except OSError:
        return None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _is_namespace(identity: tuple[int, int]) -> bool:
    return identity[0] == Path("/proc/self/ns/net").stat().st_dev


def _kinds_of(pid: str) -> list[str]:
    return [kind for kind in KINDS if os.path.lexists(f"/proc/{pid}/ns/{kind}")]


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
