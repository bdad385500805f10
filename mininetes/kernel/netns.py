"""Network namespaces: entering one for a moment, and making named ones."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Callable, Iterator

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def setns(fd: int, kind: int) -> None:
    """Move the calling thread into the namespace behind ``fd`` (setns(2)). Raises OSError."""
    _check(_libc.setns(fd, kind), "setns")


def unshare(flags: int) -> None:
    """Give the calling thread namespaces of its own (unshare(2)). Raises OSError."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, fstype: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2). Raises OSError with both paths."""
    result = _libc.mount(source.encode(), target.encode(), fstype.encode(), ctypes.c_ulong(flags), options.encode())
    _check(result, f"mount {source} on {target}")


def umount(target: str, *, detach: bool = False) -> None:
    """umount2(2), with MNT_DETACH when ``detach``. Raises OSError."""
    _check(_libc.umount2(target.encode(), 2 if detach else 0), f"umount {target}")


MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SHARED = 1 << 20


@contextlib.contextmanager
def in_netns(path: str) -> Iterator[None]:
    """Run the block in the network namespace at ``path``; then come back.

    For the calling thread alone. The block must not await and must start no thread. Sockets
    made in it stay in that namespace. Raises OSError when the path is no network namespace.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(there, CLONE_NEWNET)
        finally:
            os.close(there)
        try:
            yield
        finally:
            setns(home, CLONE_NEWNET)
    finally:
        os.close(home)


def socket_in(path: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """Return a socket that lives in the network namespace at ``path``. Raises OSError."""
    with in_netns(path):
        return socket.socket(family, kind, protocol)


def add_named(path: str, furnish: Callable[[], None] = lambda: None) -> None:
    """Make a network namespace and hold it by a bind mount at ``path`` (as ``ip netns add`` does).

    ``furnish`` is called in it; else loopback is left down, as the kernel makes it. Raises FileExistsError
    when the path is taken. Leaves nothing behind when it fails.
    """
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    try:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            unshare(CLONE_NEWNET)
            try:
                furnish()
                mount("/proc/thread-self/ns/net", path, flags=MS_BIND)
            finally:
                setns(home, CLONE_NEWNET)
        finally:
            os.close(home)
    except OSError:
        os.unlink(path)
        raise


def delete_named(path: str) -> None:
    """Undo `add_named`: the namespace goes when nothing else holds it. Does nothing when it is gone."""
    with contextlib.suppress(FileNotFoundError):
        with contextlib.suppress(OSError):
            umount(path, detach=True)
        os.unlink(path)
