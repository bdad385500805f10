"""Starting a lab from the host, and ending it: the launcher's side of the lifeline."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mininetes.errors import MininetesError, MissingFeature
from mininetes.lab.init import MESSAGE_BYTES

START_TIMEOUT_S = 20.0
END_TIMEOUT_S = 10.0


def sandbox_argv(*, as_root: bool) -> list[str]:
    """The unshare command that makes a lab's namespaces; a user namespace too when not root."""
    user = [] if as_root else ["--user", "--map-root-user"]
    return [
        "unshare", *user, "--net", "--mount", "--pid", "--uts", "--ipc",
        "--fork", "--kill-child", "--mount-proc", "--",
    ]  # fmt: skip


def package_environment() -> dict[str, str]:
    """Our environment, in which another Python finds this very package."""
    package_root = str(Path(__file__).resolve().parents[2])
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))}
    if sys.version_info < (3, 12):
        # Mininet imports distutils; setuptools would put its own in the place of Python's, which takes a quarter second
        found.setdefault("SETUPTOOLS_USE_DISTUTILS", "stdlib")
    return found


class Lab:
    """A lab that this process started and keeps up: it ends when this process does, however that happens."""

    def __init__(self, process: subprocess.Popen[bytes], lifeline: socket.socket, pid: int) -> None:
        self._process = process
        self._lifeline = lifeline
        self.pid = pid
        """Of the lab's PID 1, in the caller's PID namespace."""

    @classmethod
    def start(
        cls,
        name: str,
        entry: str,
        config: Mapping[str, Any],
        *,
        fds: Mapping[str, int] | None = None,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> Lab:
        """Make the sandbox and start ``entry`` ("module:function") in it as the engine.

        The engine is called with ``config`` and its socket to PID 1, and finds the descriptors
        ``fds`` under config["fds"]. Raises MissingFeature when the kernel or its settings
        refuse the namespaces, MininetesError when the file systems cannot be laid.
        """
        if shutil.which("unshare") is None:
            raise MissingFeature("unshare", "the lab", "install util-linux")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        given = dict(fds or {})
        with theirs:
            process = subprocess.Popen(
                [*sandbox_argv(as_root=os.geteuid() == 0), sys.executable, "-m", "mininetes.lab.init",
                 str(theirs.fileno())],
                pass_fds=[theirs.fileno(), *given.values()],
                stdin=stdin if stdin is not None else subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr if stderr is not None else subprocess.PIPE,
                start_new_session=True,  # the terminal's Ctrl-C is ours to pass on
                env=package_environment(),
            )  # fmt: skip
        try:
            start = {"hostname": name, "entry": entry, "config": dict(config), "fds": given}
            with contextlib.suppress(ConnectionError):  # it ended at once: `_hello` says why
                ours.send(json.dumps(start).encode())
            pid = cls._hello(ours, process)
        except BaseException:
            ours.close()
            process.kill()
            process.wait()
            raise
        return cls(process, ours, pid)

    @staticmethod
    def _hello(lifeline: socket.socket, process: subprocess.Popen[bytes]) -> int:
        ready, _, _ = select.select([lifeline], [], [], START_TIMEOUT_S)
        if not ready:
            raise MininetesError(f"the lab's first process did not answer within {START_TIMEOUT_S:g} s")
        try:
            message, ancillary, _, _ = lifeline.recvmsg(MESSAGE_BYTES, socket.CMSG_SPACE(12))
        except ConnectionError:  # it ended without reading what we sent
            message, ancillary = b"", []
        said = json.loads(message) if message else {}
        if said.get("ready"):
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    return int(struct.unpack("iII", data)[0])
        if said.get("error"):
            raise MininetesError(f"the lab's file systems could not be laid: {said['error']}")
        stderr = process.stderr.read().decode(errors="replace").strip() if process.stderr else ""
        remedy = (
            "run as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone, user.max_*_namespaces)"
        )
        raise MissingFeature("a sandbox of namespaces", "every lab", f"{stderr or 'unshare failed'}; {remedy}")

    def fileno(self) -> int:
        """The lifeline, readable when the lab is gone."""
        return self._lifeline.fileno()

    def ask_to_end(self) -> None:
        """Ask the engine for an orderly end; does not wait. May be called twice, and after the end."""
        with contextlib.suppress(OSError):
            self._lifeline.send(b'{"op": "end"}')

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for the lab's end and return the engine's status; None when it is still up after ``timeout_s``."""
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        self._lifeline.close()
        return status

    def end(self, timeout_s: float = END_TIMEOUT_S) -> int:
        """End the lab: orderly within ``timeout_s``, else by closing the lifeline. Returns the engine's status."""
        self.ask_to_end()
        status = self.wait(timeout_s)
        if status is None:
            self._lifeline.close()
            status = self.wait(START_TIMEOUT_S)
        if status is None:  # PID 1 itself hangs
            os.kill(self.pid, signal.SIGKILL)
            status = self._process.wait()
        return status
