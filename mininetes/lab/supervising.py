"""A lab with its state folder: in front of this process, or handed to a supervisor that stays behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, TypeVar

from mininetes.errors import BadInput, MininetesError, Reported
from mininetes.lab import state
from mininetes.lab.launcher import END_TIMEOUT_S, Lab, package_environment

_T = TypeVar("_T")
_API_BACKLOG = 256


def _loopback(port: int) -> socket.socket:
    """A socket that listens at the host's loopback address alone; port 0 is any free one. Raises BadInput."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as failed:
        listener.close()
        raise BadInput("--api-port", port, f"a free port of this machine ({failed})") from None
    listener.listen(_API_BACKLOG)
    return listener


class Supervised:
    """The state folder of a new lab, with all descriptors that its engine gets. A context manager.

    With ``api_port`` (0: any free one) the engine gets a socket that listens on 127.0.0.1 of the host,
    for its API server, and a file for the kubeconfig. Entering takes the name (BadInput when a lab of
    that name is up, or the port is taken). Then either `start`, and the
    lab ends with the block, or `supervise`, which leaves it running.
    """

    def __init__(
        self,
        name: str,
        entry: str,
        config: Mapping[str, Any],
        *,
        fds: Mapping[str, int] | None = None,
        api_port: int | None = None,
    ) -> None:
        self.name = name
        self.entry = entry
        self.config = config
        self._more_fds = dict(fds or {})
        self._lab: Lab | None = None
        self.api_port = api_port
        self._api: socket.socket | None = None
        self._kubeconfig = -1
        self._was_ended = False

    def __enter__(self) -> Supervised:
        self._api = _loopback(self.api_port) if self.api_port is not None else None
        try:
            self.held = state.hold(self.name)
        except MininetesError:
            if self._api is not None:
                self._api.close()
            raise
        folder = self.held.state
        self.control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            self.control.bind(str(folder.control))
        finally:
            os.umask(before)
        self.control.listen(16)
        self.log = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if self._api is not None:
            self._kubeconfig = os.open(folder.kubeconfig, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._report, self.report_to = os.pipe()
        facts = {key: self.config[key] for key in ("parts", "files") if key in self.config}
        folder.describe(started=time.time(), cluster=self.config.get("summary", {}), **facts)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lab is not None:
            self._lab.end()
        self.held.release()
        self.close_given()
        os.close(self._report)

    @property
    def fds(self) -> dict[str, int]:
        """The descriptors for the engine, by the names that it knows."""
        found = {"control": self.control.fileno(), "log": self.log, "report": self.report_to, **self._more_fds}
        if self._api is not None:
            found |= {"api": self._api.fileno(), "kubeconfig": self._kubeconfig}
        return found

    def close_given(self) -> None:
        """Close what the engine or the supervisor has a copy of. May be called twice."""
        self.control.close()
        if self._api is not None:
            self._api.close()
        for name in ("log", "report_to", "_kubeconfig"):
            fd = getattr(self, name)
            if fd >= 0:
                os.close(fd)
                setattr(self, name, -1)

    def start(self, *, stdin: int | None = None, stdout: int | None = None, stderr: int | None = None) -> Lab:
        """Start the lab as this process's own: it ends with the block, or with the process.

        In another thread than the main one, what signals do is left to that.
        """
        if threading.current_thread() is threading.main_thread():
            on_signal(signal.SIGTERM, signal.SIGHUP)
        self._lab = Lab.start(
            self.name, self.entry, self.config, fds=self.fds, stdin=stdin, stdout=stdout, stderr=stderr
        )
        self.held.state.describe(pid=self._lab.pid, supervisor=os.getpid())
        self.close_given()
        return self._lab

    def events(self) -> Iterator[dict[str, Any]]:
        """What the engine reports, until it has no more to say. Raises Reported when that is its failure."""
        with os.fdopen(os.dup(self._report), "rb") as stream:
            for line in stream:
                event = json.loads(line)
                if "error" in event:
                    raise Reported(event["error"], event.get("status", 1))
                if "ended" in event:
                    self._was_ended = True
                    continue
                yield event

    def last_words(self) -> str:
        """Why an engine is gone that reported no failure: it was asked to end, or what the end of the log says."""
        if self._was_ended:
            return ": it was ended, as by `mininetes down`"
        try:
            lines = self.held.state.log.read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        if not lines or " INFO " in lines[-1]:  # what it did last, in the log's own manner, is no reason
            return ""
        return ": " + lines[-1]


def on_signal(*numbers: signal.Signals) -> None:
    """Have these signals end the process as Ctrl-C does, through its finally blocks, with status 128 + number."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    for number in numbers:
        signal.signal(number, leave)


def supervise(supervised: Supervised, follow: Callable[[], _T]) -> _T:
    """Hand the lab to a supervisor process and return what ``follow`` makes of the bring-up.

    When ``follow`` raises, or this process dies before it returns, the lab ends. Otherwise the
    lab stays, and so does its state folder, which is then the supervisor's.
    """
    on_signal(signal.SIGTERM, signal.SIGHUP)
    keep, given = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fds = {**supervised.fds, "lock": supervised.held.fd, "keep": given.fileno()}
    start = {"name": supervised.name, "entry": supervised.entry, "config": dict(supervised.config), "fds": fds}
    process = subprocess.Popen(
        [sys.executable, "-m", "mininetes.lab.supervisor", str(given.fileno())],
        pass_fds=list(fds.values()),
        stdin=subprocess.DEVNULL,
        stdout=supervised.log,
        stderr=supervised.log,
        start_new_session=True,
        env=package_environment(),
        cwd="/",
    )
    given.close()
    keep.send(json.dumps(start).encode())
    supervised.close_given()
    try:
        result = follow()
        keep.send(b"keep")
    except BaseException:
        keep.close()  # end of file without the word: the supervisor ends the lab
        process.wait(END_TIMEOUT_S * 3)
        raise
    keep.close()
    supervised.held = state.Held(supervised.held.state, -1)
    process.returncode = 0  # not ours to wait for any more
    return result


def check_up(lab: state.LabState) -> int:
    """The lab's PID 1, in our PID namespace. Raises MininetesError while the lab is only starting."""
    pid = lab.facts().get("pid")
    if not pid:
        raise MininetesError(f"lab {lab.name} is not up yet")
    return int(pid)
