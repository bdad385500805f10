"""The shim's process: starts and signals the processes of pods, writes containers' logs, and tells of each end.

``python -m mininetes.agents.shim.server --control FD``: JSON messages on a UNIX seqpacket socket,
answered in order by ``{"id", "ok": true, ...}`` or ``{"id", "ok": false, "error": ...}``; ends of
processes come in between as ``{"event": "exit", "name", "status", "at"}``. When the control socket
is closed, all processes are killed and the shim ends. Operations:

    sandbox {name, holder, netns, hostname, binds}      -> {pid}     starts a pause process
    run     {name, pause, argv, env, cwd, log, stdin, stdinOnce, terminal}     -> {pid}     starts a container
    attach  {name, session, stdin} with three descriptors            to a container's streams
    detach  {name, session}
    resize  {name, rows, columns}                                    a container's terminal
    exec    {name, pause | holder + netns, argv, env, cwd, terminal} with three descriptors   -> {pid}
    signal  {name, signal, whole}                                    to the process, or to its whole session's group
    list    {prefix}                                    -> {processes: {name: {pid, status, at}}}
    forget  {name}

``status`` is an exit status as shells have it (128 + signal), None while the process runs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import selectors
import signal
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mininetes.agents.shim import spawning
from mininetes.agents.shim.container_streams import ContainerStreams, Ready
from mininetes.agents.shim.log_files import LogFile
from mininetes.agents.shim.spawning import SandboxGone, SpawnFailed

LONGEST_MESSAGE = 1 << 18


@dataclass
class Process:
    """One that was started: its exit ``status`` and time (seconds since 1970) once it has ended."""

    pid: int
    status: int | None = None
    at: float = 0.0
    is_forgotten: bool = False
    """Nobody asks for it any more; it goes from here once it has ended."""

    def facts(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"pid": self.pid, "status": self.status, "at": self.at}


class Server:
    """The shim's loop."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._processes: dict[str, Process] = {}
        self._names: dict[int, str] = {}
        self._streams: dict[str, ContainerStreams] = {}
        self._bases: dict[tuple[int, str], int] = {}
        self._selector = selectors.DefaultSelector()
        self._woken, waker = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._woken.setblocking(False)
        waker.setblocking(False)
        self._waker = waker
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> None:
        """Serve until the control socket is closed by the other side; then kill all processes."""
        self._selector.register(self._control, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if self._selector.get_map().get(key.fileobj) is not key:
                    continue  # what came before it in this turn has closed it
                if key.fileobj is self._control:
                    if not self._obey():
                        # children end from here on with nobody to wake
                        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
                        signal.set_wakeup_fd(-1)
                        self._kill_all()
                        return
                elif key.fileobj is self._woken:
                    with contextlib.suppress(BlockingIOError):
                        self._woken.recv(4096)
                    self._reap()
                else:
                    self._serve(key.data)

    @staticmethod
    def _serve(ready: Ready) -> None:
        """Serve a container's streams; a mistake there must not end all the others' processes."""
        try:
            ready()
        except Exception:
            traceback.print_exc()

    def _obey(self) -> bool:
        """Do what a message says; False at the end of file."""
        try:
            message, fds, _, _ = socket.recv_fds(self._control, LONGEST_MESSAGE, 3)
        except ConnectionError:
            return False
        if not message:
            return False
        for fd in fds:
            os.set_inheritable(fd, False)
        number: object = None
        try:
            wanted = json.loads(message)
            number = wanted["id"]
            reply: dict[str, Any] = {"id": number, "ok": True, **self._do(wanted, fds)}
        except SpawnFailed as failed:
            reply = {"id": number, "ok": False, "error": str(failed), "gone": isinstance(failed, SandboxGone)}
        except OSError as failed:
            reply = {"id": number, "ok": False, "error": failed.strerror or str(failed)}
        except Exception as wrong:  # nor may a message end them
            reply = {"id": number, "ok": False, "error": f"not a control message: {type(wrong).__name__}: {wrong}"}
        finally:
            for fd in fds:
                os.close(fd)
        self._say(reply)
        return True

    def _do(self, wanted: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        operations: dict[str, Callable[[dict[str, Any], list[int]], dict[str, Any] | None]] = {
            "sandbox": self._sandbox,
            "run": self._run,
            "exec": self._exec,
            "attach": self._attach,
            "detach": self._detach,
            "resize": self._resize,
            "signal": self._signal,
            "list": self._list,
            "forget": self._forget,
        }
        if wanted["op"] not in operations:
            raise ValueError(f"op: {wanted['op']!r} is not one of {', '.join(operations)}")
        return operations[wanted["op"]](wanted, fds) or {}

    def _sandbox(self, wanted: dict[str, Any], _: list[int]) -> dict[str, Any]:
        base = self._base(wanted["holder"])
        binds = [(str(source), str(target), bool(read_only)) for source, target, read_only in wanted["binds"]]
        return self._started(wanted["name"], spawning.start_pause(base, wanted["netns"], wanted["hostname"], binds))

    def _list(self, wanted: dict[str, Any], _: list[int]) -> dict[str, Any]:
        prefix = wanted["prefix"]
        known = [(name, each) for name, each in self._processes.items() if not each.is_forgotten]
        return {"processes": {name: each.facts() for name, each in known if name.startswith(prefix)}}

    def _forget(self, wanted: dict[str, Any], _: list[int]) -> None:
        process = self._processes.get(wanted["name"])
        if process is not None:
            process.is_forgotten = True
            self._drop_forgotten(wanted["name"])

    def _drop_forgotten(self, name: str) -> None:
        process = self._processes[name]
        if process.is_forgotten and process.status is not None:
            del self._processes[name]

    def _attach(self, wanted: dict[str, Any], fds: list[int]) -> None:
        if (streams := self._streams.get(wanted["name"])) is None:
            raise SpawnFailed("the container has ended")
        streams.attach(wanted["session"], fds, stdin=wanted["stdin"])

    def _detach(self, wanted: dict[str, Any], _: list[int]) -> None:
        if (streams := self._streams.get(wanted["name"])) is not None:
            streams.detach(wanted["session"])

    def _resize(self, wanted: dict[str, Any], _: list[int]) -> None:
        if (streams := self._streams.get(wanted["name"])) is not None:
            streams.resize(wanted["rows"], wanted["columns"])

    def _base(self, holder: int) -> int:
        """What pods of a node start from, made once; those of nodes that are gone are let go."""
        for each in [each for each in self._bases if _started_at(each[0]) != each[1]]:
            os.close(self._bases.pop(each))
        key = holder, _started_at(holder)
        if key not in self._bases:
            self._bases[key] = spawning.make_base(holder)
        return self._bases[key]

    def _started(self, name: str, pid: int) -> dict[str, Any]:
        self._processes[name] = Process(pid)
        self._names[pid] = name
        return {"pid": pid}

    def _run(self, wanted: dict[str, Any], _: list[int]) -> dict[str, Any]:
        """Start a container, its output going to a log and to who is attached."""
        pause = self._alive(wanted["pause"])
        streams = ContainerStreams(
            self._selector,
            LogFile(wanted["log"]),
            stdin=wanted["stdin"],
            stdin_once=wanted["stdinOnce"],
            terminal=wanted["terminal"],
        )
        try:
            pid = spawning.start_process(
                pause, wanted["argv"], wanted["env"], wanted["cwd"], streams.theirs, terminal=wanted["terminal"]
            )
        except BaseException:
            streams.close()
            self._alive(wanted["pause"])  # it may have ended meanwhile, which then is the reason
            raise
        streams.begin()
        self._streams[wanted["name"]] = streams
        return self._started(wanted["name"], pid)

    def _exec(self, wanted: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        stdio = dict(enumerate(fds))
        terminal = bool(wanted["terminal"])
        if wanted.get("pause"):
            pause = self._alive(wanted["pause"])
            pid = spawning.start_process(pause, wanted["argv"], wanted["env"], wanted["cwd"], stdio, terminal=terminal)
        else:
            pid = spawning.start_beside(
                wanted["holder"], wanted["netns"], wanted["argv"], wanted["env"], stdio, terminal=terminal
            )
        return self._started(wanted["name"], pid)

    def _alive(self, pause: str) -> int:
        """The pid of a pause process. Raises SandboxGone when it has ended: its number may be another's by now."""
        process = self._processes.get(pause)
        if process is None or process.status is not None:
            raise SandboxGone("the pod's sandbox is gone")
        try:
            os.readlink(f"/proc/{process.pid}/ns/net")
        except OSError:  # it is ending, and waits for its PID namespace to be empty
            raise SandboxGone("the pod's sandbox is gone") from None
        return process.pid

    def _signal(self, wanted: dict[str, Any], _: list[int]) -> None:
        process, number = self._processes.get(wanted["name"]), wanted["signal"]
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if wanted["whole"]:
                os.killpg(process.pid, number)  # a session of its own: what is left of it when it has ended, too
            elif process.status is None:
                os.kill(process.pid, number)

    def _reap(self) -> None:
        """Note which processes have ended, and tell."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            name = self._names.pop(pid, None)
            if name is None or name not in self._processes:
                continue
            code = os.waitstatus_to_exitcode(status)
            process = self._processes[name]
            process.status, process.at = (code if code >= 0 else 128 - code), time.time()
            if (streams := self._streams.pop(name, None)) is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)  # what a container left running ends with it
                self._serve(streams.ended)
            self._say({"event": "exit", "name": name, "status": process.status, "at": process.at})
            self._drop_forgotten(name)

    def _say(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionError):  # the engine has gone; the next message received says so
            self._control.send(json.dumps(message).encode())

    def _kill_all(self) -> None:
        for process in self._processes.values():
            if process.status is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)


def _started_at(pid: int) -> str:
    """When a process was started (clock ticks since boot), which tells it from others of its number."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def main() -> None:
    """Serve on the control socket whose descriptor is given."""
    parser = argparse.ArgumentParser(prog="python -m mininetes.agents.shim.server")
    parser.add_argument("--control", type=int, required=True, metavar="FD", help="a UNIX seqpacket socket")
    arguments = parser.parse_args()
    os.set_inheritable(arguments.control, False)
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)  # the end of the control socket is our signal
    with socket.socket(fileno=arguments.control) as control:
        Server(control).run()


if __name__ == "__main__":
    main()
