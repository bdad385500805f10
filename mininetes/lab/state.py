"""The state folder of each lab on the host: the one thing of a lab that is visible from outside.

    BASE/NAME/lock       held by the lab's launcher or supervisor for as long as the lab is up
    BASE/NAME/lab.json   what the commands need to find it: pids, start, description
    BASE/NAME/log        the engine's log
    BASE/NAME/control    the engine's socket (0600)

A folder is stale when its lock is free; whoever meets it removes it. The locks are those of open
file descriptions (F_OFD_SETLK), on two bytes of the file: the first says that the lab is up, and
can be asked for without being taken for a moment; the second is held while a folder is taken over
or a stale one is removed, so that of several who try one does.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mininetes.errors import BadInput, MininetesError
from mininetes.spec import check_lab_name
from mininetes.spec_sections import LAB_NAME

_UP, _CHANGING = 0, 1
_FLOCK = "hhqqi4x"
"""struct flock of fcntl(2): type, whence, start, length, pid."""


def _lock(fd: int, byte: int, kind: int = fcntl.F_WRLCK, *, wait: bool = False) -> bool:
    """Lock or unlock a byte of the file; False when somebody else has it and we do not wait."""
    request = struct.pack(_FLOCK, kind, os.SEEK_SET, byte, 1, 0)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, request)
    except BlockingIOError:
        return False
    return True


def _is_locked(fd: int, byte: int) -> bool:
    """Whether somebody else has that byte."""
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))
    return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)


_LONGEST_SOCKET = 107
"""sun_path less its end (unix(7))."""


def base() -> Path:
    """Where this user's labs have their state folders; made when missing, for this user alone.

    Raises MininetesError when the place belongs to somebody else.
    """
    uid = os.geteuid()
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if uid == 0:
        place = Path("/run/mininetes")
    elif runtime and Path(runtime).is_dir() and os.access(runtime, os.W_OK):
        place = Path(runtime) / "mininetes"
    else:
        place = Path(f"/tmp/mininetes-{uid}")  # noqa: S108 - checked to be ours below
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = place.lstat()
    if status.st_uid != uid or not place.is_dir() or place.is_symlink():
        raise MininetesError(f"{place} belongs to somebody else: remove it, or set XDG_RUNTIME_DIR")
    return place


@dataclass(frozen=True)
class LabState:
    """The state folder of one lab."""

    name: str
    folder: Path

    @property
    def control(self) -> Path:
        """The engine's control socket."""
        return self.folder / "control"

    @property
    def log(self) -> Path:
        """The engine's log."""
        return self.folder / "log"

    @property
    def kubeconfig(self) -> Path:
        """What kubectl needs to reach the lab's API server; there while the lab has one."""
        return self.folder / "kubeconfig"

    def describe(self, **facts: Any) -> None:
        """Add facts to lab.json, whole or not at all."""
        known = self.facts()
        known.update(facts)
        fresh = self.folder / "lab.json.new"
        fresh.write_text(json.dumps(known, indent=1) + "\n")
        fresh.rename(self.folder / "lab.json")

    def facts(self) -> dict[str, Any]:
        """What lab.json says; empty before the lab said anything."""
        try:
            known: dict[str, Any] = json.loads((self.folder / "lab.json").read_text())
        except FileNotFoundError:
            return {}
        return known

    def is_up(self) -> bool:
        """True while somebody holds the lock."""
        try:
            fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return _is_locked(fd, _UP)
        finally:
            os.close(fd)


class Held:
    """A state folder that this process holds; released (and removed) by `release` or by the process's end."""

    def __init__(self, state: LabState, fd: int) -> None:
        self.state = state
        self.fd = fd

    def release(self) -> None:
        """Remove the folder and free the lock. May be called twice."""
        if self.fd >= 0:
            _lock(self.fd, _CHANGING, wait=True)
            if _is_lock_of(self.state, self.fd):  # else it went already, and the name may be another lab's now
                _remove(self.state)
            os.close(self.fd)
            self.fd = -1


def _open_lock(state: LabState) -> int | None:
    """Open the lock file of a folder, and wait until nobody else changes that; None when the folder went meanwhile."""
    try:
        fd = os.open(state.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    _lock(fd, _CHANGING, wait=True)
    if _is_lock_of(state, fd):
        return fd
    os.close(fd)
    return None


def _is_lock_of(state: LabState, fd: int) -> bool:
    try:
        return (state.folder / "lock").stat().st_ino == os.fstat(fd).st_ino
    except FileNotFoundError:
        return False


def _empty(state: LabState) -> None:
    """Remove all from a folder but its lock."""
    for entry in state.folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != "lock":
            entry.unlink()


def _remove(state: LabState) -> None:
    """Remove a folder whose lock is ours: the lock goes last, and a folder that somebody takes then stays."""
    _empty(state)
    (state.folder / "lock").unlink()
    with contextlib.suppress(OSError):
        state.folder.rmdir()


def hold(name: str) -> Held:
    """Take the state folder of a new lab; a stale one of that name is removed first.

    Raises BadInput when a lab of that name is up, and when the folder's path leaves a socket in it no name.
    """
    state = LabState(check_lab_name(name), base() / name)
    if len(os.fsencode(state.control)) > _LONGEST_SOCKET:
        right = f"shorter: a socket's path has {_LONGEST_SOCKET} bytes at most, and {state.control} is longer"
        raise BadInput("XDG_RUNTIME_DIR", str(state.folder.parent.parent), right)
    fd = None
    while fd is None:
        with contextlib.suppress(FileExistsError):
            state.folder.mkdir(mode=0o700)
        fd = _open_lock(state)
    if not _lock(fd, _UP):
        os.close(fd)
        raise BadInput("lab", name, f"it is up already: 'mininetes down {name}', or another name")
    _empty(state)
    _lock(fd, _CHANGING, fcntl.F_UNLCK)
    return Held(state, fd)


def labs() -> list[LabState]:
    """The labs of this user that are up, by name. Removes what stale ones left."""
    found = []
    for folder in sorted(base().iterdir()):
        if not LAB_NAME.fullmatch(folder.name) or not folder.is_dir():
            continue
        state = LabState(folder.name, folder)
        if state.is_up():
            found.append(state)
        else:
            _remove_stale(state)
    return found


def _remove_stale(state: LabState) -> None:
    fd = _open_lock(state)
    if fd is not None:
        if not _is_locked(fd, _UP):
            _remove(state)
        os.close(fd)


def find(name: str | None) -> LabState:
    """The lab of that name, or the only one that is up. Raises BadInput, naming those there are."""
    up = labs()
    names = ", ".join(state.name for state in up) or "none"
    if name is not None:
        for state in up:
            if state.name == name:
                return state
        raise BadInput("--lab", name, f"a lab that is up: {names}")
    if len(up) == 1:
        return up[0]
    if not up:
        raise BadInput("--lab", None, "no lab is up: 'mininetes up' starts one")
    raise BadInput("--lab", None, f"several labs are up, say which: {names}")
