"""PID 1 of a lab: lays the file systems, starts the engine, makes node holders, and ends the lab.

Started by the launcher as ``unshare ... python -m mininetes.lab.init FD``; FD is one end of the
lifeline, a seqpacket socket pair. First message on it: the configuration, as JSON with ``entry``
("module:function" of the engine), ``hostname`` and ``config`` (handed to that function). End of
file on it, the engine's end, or our own end each end the lab: with PID 1 the kernel kills every
process of the PID namespace, and with the processes go the namespaces and all that is in them.

Kept small and free of threads, because it forks.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from typing import Any

from mininetes.kernel.netns import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWUTS, unshare
from mininetes.lab.filesystem import mount_lab, mount_node, prepare_node

MESSAGE_BYTES = 1 << 20

HOLDER = ("/bin/sleep", "infinity")
"""What a node's holder becomes: the smallest process that stays."""


def hold_node(name: str) -> int:
    """Fork the process that holds a node's namespaces and return its pid once they are in place.

    Raises OSError with the step that failed; the half-made holder is gone then.
    """
    prepare_node(name)
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ready)
            unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS)
            mount_node(name)
            socket.sethostname(name)
            os.chdir("/")
            os.setsid()
            signal.set_wakeup_fd(-1)
            for each in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(each, signal.SIG_DFL)
            quiet = os.open("/dev/null", os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(quiet, fd)
            os.write(tell, b"+")  # the holder's exec closes all the rest: every descriptor here is close-on-exec
            os.execv(HOLDER[0], [f"mininetes:{name}", *HOLDER[1:]])  # noqa: S606
        except BaseException as failed:
            os.write(tell, str(failed).encode())
        os._exit(1)
    os.close(tell)
    with open(ready, "rb") as pipe:
        said = pipe.read()
    if said != b"+":
        raise OSError(f"node {name}: {said.decode() or 'the holder died'}")
    return pid


def _receive(channel: socket.socket) -> bytes:
    """One message; empty when the other side has gone, also when it left ours unread."""
    try:
        return channel.recv(MESSAGE_BYTES)
    except ConnectionError:
        return b""


def _send(channel: socket.socket, message: bytes) -> None:
    """Send a message. An engine that has just ended will not hear it, and is reaped next."""
    with contextlib.suppress(ConnectionError):
        channel.send(message)


class Init:
    """The loop of PID 1."""

    def __init__(self, lifeline: socket.socket) -> None:
        self.lifeline = lifeline
        self.engine_pid = 0
        self.engine, self.engine_side = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.woken, self.waker = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.waker.setblocking(False)
        self.woken.setblocking(False)

    def start_engine(self, entry: str, config: dict[str, Any]) -> None:
        """Fork the engine and run ``entry`` in it; it gets the configuration and its end of our socket."""
        self.engine_pid = os.fork()
        if self.engine_pid:
            self.engine_side.close()
            return
        status = 1
        try:
            for each in (self.lifeline, self.engine, self.woken, self.waker):
                each.close()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            module, function = entry.split(":")
            status = int(getattr(importlib.import_module(module), function)(config, self.engine_side) or 0)
        except SystemExit as left:
            status = left.code if isinstance(left.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except (OSError, ValueError):
                    status = status or 1
            os._exit(status)

    def serve(self) -> int:
        """Answer the engine, pass on the launcher's wishes, reap; return the engine's status (1 when orphaned)."""
        signal.set_wakeup_fd(self.waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)  # the launcher decides; its end of file is our signal
        selector = selectors.DefaultSelector()
        for source in (self.lifeline, self.engine, self.woken):
            selector.register(source, selectors.EVENT_READ)
        while True:
            status = self._reap()
            if status is not None:
                return status
            for key, _ in selector.select():
                if key.fileobj is self.woken:
                    self.woken.recv(4096)
                elif key.fileobj is self.lifeline:
                    message = _receive(self.lifeline)
                    if not message:
                        return 1
                    _send(self.engine, message)
                else:
                    message = _receive(self.engine)
                    if message:
                        self._answer(json.loads(message))
                    else:
                        selector.unregister(self.engine)

    def _answer(self, request: dict[str, Any]) -> None:
        try:
            pids = [hold_node(name) for name in request["hold"]]
            reply: dict[str, Any] = {"pids": pids}
        except OSError as failed:
            reply = {"error": str(failed)}
        _send(self.engine, json.dumps(reply).encode())

    def _reap(self) -> int | None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 1
            if pid == 0:
                return None
            if pid == self.engine_pid:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code


def main() -> None:
    """Run as PID 1. Never returns: the process ends with the engine's status, or 3 when the sandbox cannot be laid."""
    lifeline = socket.socket(fileno=int(sys.argv[1]))
    lifeline.set_inheritable(False)
    message = lifeline.recv(MESSAGE_BYTES)
    if not message:
        os._exit(1)
    start = json.loads(message)
    for fd in start.get("fds", {}).values():
        os.set_inheritable(fd, False)
    init = Init(lifeline)
    try:
        mount_lab()
        socket.sethostname(start["hostname"])
    except OSError as failed:
        lifeline.send(json.dumps({"error": str(failed)}).encode())
        os._exit(3)
    # The kernel adds our credentials: the launcher learns our pid in its own PID namespace.
    lifeline.send(json.dumps({"ready": True}).encode())
    init.start_engine(start["entry"], {**start["config"], "fds": start.get("fds", {})})
    os._exit(init.serve())


if __name__ == "__main__":
    main()
