"""Making the processes of pods: forks, namespaces and mounts.

    lab                         the shim (its PID namespace, mount namespace, ...)
    node                        holder: network, mount and UTS namespace
    base   (one a node)         the node's mounts, without its /run: held by a descriptor of the shim
    pod    pause, its PID 1     mounts of its own on top of the base (/proc, /sys, /run, /etc/hosts, ...),
      |                         own PID, UTS and IPC namespaces; the pod's network namespace
      +-- containers            enter all of pause's

Children are the shim's own, so that it learns their exit status. Imports little and starts no thread, because it forks.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import termios
from collections.abc import Callable, Iterator, Mapping, Sequence

from mininetes.agents.shim.pod_mounts import copies_of_run, lay_over_devices, mount_pod
from mininetes.kernel.netns import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    MS_PRIVATE,
    MS_REC,
    mount,
    setns,
    umount,
    unshare,
)

PAUSE = "/var/lib/kubelet/pause"
"""In a node: the pause program under the name that is shown."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class SpawnFailed(Exception):
    """A process could not be made. The text says which step failed."""


class SandboxGone(SpawnFailed):
    """The pause process of a pod has ended, or is about to: there is nothing to start a process in."""


def make_base(holder_pid: int) -> int:
    """Make the mount namespace that a node's pods start from and return a descriptor that holds it.

    Without the node's /run: it has the network namespaces of all pods, which copies would keep alive.
    Raises SpawnFailed.
    """
    there = os.open(f"/proc/{holder_pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    done, tell = os.pipe()
    stay, leave = os.pipe()

    def prepare() -> None:
        setns(there, CLONE_NEWNS)
        unshare(CLONE_NEWNS)
        mount("", "/", flags=MS_REC | MS_PRIVATE)
        umount("/run", detach=True)
        lay_over_devices()
        os.write(tell, b"+")
        os.close(leave)
        os.read(stay, 1)  # until our namespace was opened
        os._exit(0)

    try:
        pid = _fork(prepare, tell)
        os.close(tell)
        tell = -1
        said = os.read(done, 4096)
        if said != b"+":
            os.waitpid(pid, 0)
            raise SpawnFailed(f"the node's mount namespace: {said.decode(errors='replace')}")
        base = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        os.close(leave)
        leave = -1
        os.waitpid(pid, 0)
        return base
    finally:
        for fd in (there, done, tell, stay, leave):
            if fd >= 0:
                os.close(fd)


def start_pause(base: int, netns: str, hostname: str, binds: Sequence[tuple[str, str, bool]]) -> int:
    """Start the process that holds a pod's namespaces and return its pid; its mounts are in place then.

    ``binds`` are source, target and whether it is read-only, as paths of the node; sources in its /run as the lab
    has them. Raises SpawnFailed.
    """
    net = _opened(netns)
    home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def become_pause() -> None:
        copies = copies_of_run(binds)
        setns(net, CLONE_NEWNET)
        setns(base, CLONE_NEWNS)
        unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC)
        socket.sethostname(hostname)
        folder, program = os.path.split(PAUSE)
        home_of_pause = os.open(folder, os.O_PATH | os.O_CLOEXEC)
        mount_pod(binds, copies)
        _detach({})
        os.fchdir(home_of_pause)  # a volume may hide it by now
        os.execv(program, ["/pause", "-P"])  # noqa: S606

    try:
        unshare(CLONE_NEWPID)
        try:
            return _spawn(become_pause)
        finally:
            setns(home, CLONE_NEWPID)
    finally:
        os.close(net)
        os.close(home)


def start_process(
    pause_pid: int,
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    stdio: Mapping[int, int],
    *,
    terminal: bool = False,
) -> int:
    """Start a process in the namespaces that a pause process holds and return its pid, once it runs its program.

    ``stdio`` maps 0, 1 and 2 to descriptors (missing: /dev/null); with ``terminal`` 0 becomes its
    controlling terminal. The program is looked for in the PATH of ``env``, in the pod. Raises SpawnFailed.
    """
    pidfd = os.pidfd_open(pause_pid)
    try:
        with _children_in(f"/proc/{pause_pid}/ns/pid"):
            return _spawn(lambda: _become(pidfd, argv, env, cwd, stdio, terminal))
    finally:
        os.close(pidfd)


def start_beside(
    holder_pid: int,
    netns: str,
    argv: Sequence[str],
    env: Mapping[str, str],
    stdio: Mapping[int, int],
    *,
    terminal: bool,
) -> int:
    """Start a process in the network of a pod without pause, and otherwise in its node. Raises SpawnFailed."""
    net, pidfd = _opened(netns), os.pidfd_open(holder_pid)

    def become() -> None:
        setns(pidfd, CLONE_NEWNS | CLONE_NEWUTS)
        setns(net, CLONE_NEWNET)
        _run_program(argv, env, "/", stdio, terminal)

    try:
        return _spawn(become)
    finally:
        os.close(net)
        os.close(pidfd)


def _become(
    pidfd: int, argv: Sequence[str], env: Mapping[str, str], cwd: str, stdio: Mapping[int, int], terminal: bool
) -> None:
    setns(pidfd, CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC)
    _run_program(argv, env, cwd, stdio, terminal)


def _run_program(
    argv: Sequence[str], env: Mapping[str, str], cwd: str, stdio: Mapping[int, int], terminal: bool
) -> None:
    try:
        os.chdir(cwd or "/")
    except OSError as failed:
        raise SpawnFailed(f'workingDir "{cwd}": {failed.strerror}') from None
    _detach(stdio)
    if terminal:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    try:
        os.execvpe(argv[0], list(argv), dict(env))  # noqa: S606
    except FileNotFoundError:
        where = "no such file or directory" if "/" in argv[0] else "executable file not found in $PATH"
        raise SpawnFailed(f'exec: "{argv[0]}": {where}') from None
    except OSError as failed:
        raise SpawnFailed(f'exec: "{argv[0]}": {(failed.strerror or "").lower()}') from None


def _detach(stdio: Mapping[int, int]) -> None:
    """Make the calling child a session of its own, with the signals and descriptors that a program expects."""
    os.setsid()
    for each in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(each, signal.SIG_DFL)
    os.umask(0o022)
    quiet = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    # all descriptors in question are above 2, as the shim's own 0, 1 and 2 are open
    for fd in (0, 1, 2):
        os.dup2(stdio.get(fd, quiet), fd)


@contextlib.contextmanager
def _children_in(path: str) -> Iterator[None]:
    """Have the block's children be born in the PID namespace at ``path``."""
    home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = _opened(path)
        try:
            setns(there, CLONE_NEWPID)
        finally:
            os.close(there)
        try:
            yield
        finally:
            setns(home, CLONE_NEWPID)
    finally:
        os.close(home)


def _opened(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as failed:
        raise SpawnFailed(f"{path}: {failed.strerror}") from None


def _spawn(become: Callable[[], None]) -> int:
    """Fork a child that ends with exec in ``become``; return its pid when it got there. Raises SpawnFailed."""
    failure, tell = os.pipe()
    try:
        pid = _fork(become, tell)
        os.close(tell)
        tell = -1
        said = b""
        while part := os.read(failure, 4096):  # end of file: the exec closed it
            said += part
    finally:
        os.close(failure)
        if tell >= 0:
            os.close(tell)
    if said:
        os.waitpid(pid, 0)
        raise SpawnFailed(said.decode(errors="replace"))
    return pid


def _fork(child: Callable[[], None], tell: int) -> int:
    """Fork; the child runs ``child``, which must not return, and says at ``tell`` what went wrong."""
    try:
        pid = os.fork()
    except OSError as failed:
        raise SpawnFailed(f"fork: {os.strerror(failed.errno or errno.EAGAIN)}") from None
    if pid == 0:
        try:
            signal.set_wakeup_fd(-1)
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            child()
        except BaseException as failed:
            with contextlib.suppress(BaseException):
                os.write(tell, (str(failed) or type(failed).__name__).encode(errors="replace"))
        finally:
            os._exit(127)
    return pid


def terminal_size(fd: int, rows: int, columns: int) -> None:
    """Tell a terminal how large its window is. Raises OSError."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
