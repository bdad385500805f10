"""The engine's side of the shim: starts its process and has it run those of pods."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mininetes.agents.shim.server import LONGEST_MESSAGE
from mininetes.deadline import within
from mininetes.errors import MininetesError

log = logging.getLogger("mininetes")

_ANSWER_S = 30.0
_END_S = 5.0
_GONE = "the pods' shim is gone"


class ShimError(MininetesError):
    """A process could not be started, or the shim is gone. The text says why, as a container runtime words it."""


class SandboxGone(ShimError):
    """The pod's pause process has ended: its sandbox is to be made anew."""


@dataclass(frozen=True)
class ProcessState:
    """A process that was started. ``status`` is as shells have it, None while it runs; ``at`` the time of its end."""

    pid: int
    status: int | None
    at: float


Ended = Callable[[str, int, float], None]


class Shim:
    """One process that runs all pods' processes of a lab. Made by `start`; use from one event loop.

    It ends, and with it all pods' processes, when `close` is called or the engine's process ends.
    Processes have names; whoever asks with `on_exit` for a prefix of them learns of each end.
    """

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self._process = process
        self._control = control
        self._number = 0
        self._open: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._listeners: dict[str, Ended] = {}
        self._sending = asyncio.Lock()
        self.kept: dict[str, Callable[[], Awaitable[None]]] = {}
        """What runs for containers in the engine itself, by name: how to stop it. Outlives kubelets."""
        self._reader = asyncio.get_running_loop().create_task(self._read(), name="shim replies")

    @classmethod
    async def start(cls) -> Shim:
        """Start the process, in the caller's namespaces. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for each in (ours, theirs):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST_MESSAGE * 2)
        ours.setblocking(False)
        package_root = str(Path(__file__).parents[3])
        paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "mininetes.agents.shim.server", "--control", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                start_new_session=True,
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(process, ours)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def on_exit(self, prefix: str, listener: Ended | None) -> None:
        """Have ``listener(name, status, at)`` called when a process ends whose name starts with ``prefix``.

        One listener a prefix: the last. None takes it away. What ended before is in `processes`.
        """
        if listener is None:
            self._listeners.pop(prefix, None)
        else:
            self._listeners[prefix] = listener

    async def make_sandbox(
        self, name: str, *, holder_pid: int, netns: str, hostname: str, binds: Sequence[tuple[str, str, bool]]
    ) -> int:
        """Start a pause process that holds a pod's namespaces; returns its pid. Raises ShimError.

        ``binds``: (source, target, read-only), paths of the node. Linux allows 64 bytes for ``hostname``.
        """
        wanted = {"holder": holder_pid, "netns": netns, "hostname": hostname, "binds": binds}
        return int((await self._ask("sandbox", {"name": name, **wanted}))["pid"])

    async def run(
        self,
        name: str,
        *,
        sandbox: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str,
        log: str,
        stdin: bool = False,
        stdin_once: bool = False,
        terminal: bool = False,
    ) -> int:
        """Start a container in a sandbox, its output going to the file ``log``; returns its pid. Raises ShimError.

        ``stdin``: it reads what those say who `attach`, with ``stdin_once`` to the end of what the first one says.
        ``terminal``: it has one of its own.
        """
        wanted: dict[str, Any] = {"pause": sandbox, "argv": list(argv), "env": dict(env), "cwd": cwd, "log": log}
        wanted |= {"stdin": stdin, "stdinOnce": stdin_once, "terminal": terminal}
        return int((await self._ask("run", {"name": name, **wanted}))["pid"])

    async def attach(self, name: str, session: str, stdio: tuple[int, int, int], *, stdin: bool) -> None:
        """Join a container's streams to these descriptors (which stay the caller's), until it ends or `detach`.

        ``session`` is a name for that. Raises ShimError when the container has ended.
        """
        await self._ask("attach", {"name": name, "session": session, "stdin": stdin}, stdio)

    async def detach(self, name: str, session: str) -> None:
        """Undo an `attach`. Does nothing when the container has ended."""
        await self._ask("detach", {"name": name, "session": session})

    async def resize(self, name: str, rows: int, columns: int) -> None:
        """Tell a container's terminal how large its window is. Does nothing when it has none, or has ended."""
        await self._ask("resize", {"name": name, "rows": rows, "columns": columns})

    async def exec(
        self,
        name: str,
        *,
        sandbox: str | None,
        holder_pid: int,
        netns: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str,
        stdio: tuple[int, int, int],
        terminal: bool,
    ) -> int:
        """Start a process beside a pod's containers, on these descriptors (which stay the caller's). Raises ShimError.

        Without a sandbox it runs in the node's namespaces, but for the network at ``netns``.
        """
        wanted: dict[str, Any] = {"pause": sandbox, "holder": holder_pid, "netns": netns, "argv": list(argv)}
        wanted |= {"env": dict(env), "cwd": cwd, "terminal": terminal}
        return int((await self._ask("exec", {"name": name, **wanted}, stdio))["pid"])

    async def kill(self, name: str, number: int = signal.SIGKILL, *, whole: bool = False) -> None:
        """Send a signal to a process, or to all of its group. Does nothing when it has ended."""
        await self._ask("signal", {"name": name, "signal": int(number), "whole": whole})

    async def processes(self, prefix: str) -> dict[str, ProcessState]:
        """The processes whose names start with ``prefix``, running or ended and not forgotten."""
        found = await self._ask("list", {"prefix": prefix})
        return {name: ProcessState(**facts) for name, facts in found["processes"].items()}

    async def forget(self, name: str) -> None:
        """Drop what is known of a process that has ended, or was killed and is about to."""
        await self._ask("forget", {"name": name})

    async def _ask(self, operation: str, message: Mapping[str, Any], fds: Sequence[int] = ()) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        self._number += 1
        number = self._number
        data = json.dumps({"id": number, "op": operation, **message}).encode()
        if len(data) > LONGEST_MESSAGE:
            raise ShimError(f"command and environment are {len(data)} bytes long: {LONGEST_MESSAGE} is the most")
        self._open[number] = reply = loop.create_future()
        try:
            async with self._sending:
                if self._reader.done():
                    raise ShimError(_GONE)
                await self._send(data, fds)
            async with within(_ANSWER_S):
                said: dict[str, Any] = await reply
        except ConnectionError:
            raise ShimError(_GONE) from None
        except OSError as failed:  # more than the kernel takes in one message, for example
            raise ShimError(f"the pods' shim cannot be asked: {failed.strerror}") from None
        except asyncio.TimeoutError:
            raise ShimError(f"the pods' shim did not answer within {_ANSWER_S:g} s") from None
        finally:
            self._open.pop(number, None)
        if not said["ok"]:
            raise (SandboxGone if said.get("gone") else ShimError)(said["error"])
        return said

    async def _send(self, data: bytes, fds: Sequence[int]) -> None:
        while True:
            try:
                socket.send_fds(self._control, [data], list(fds))
                return
            except BlockingIOError:
                await self._writable()

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        room = asyncio.Event()
        loop.add_writer(self._control, room.set)
        try:
            await room.wait()
        finally:
            loop.remove_writer(self._control)

    async def _read(self) -> None:
        """Hand replies and events to who waits for them; at the end of file, tell all of them."""
        loop = asyncio.get_running_loop()
        try:
            with contextlib.suppress(ConnectionError):
                while message := await loop.sock_recv(self._control, LONGEST_MESSAGE):
                    said = json.loads(message)
                    if "event" in said:
                        self._tell(said)
                    elif (waiting := self._open.get(said["id"])) is not None and not waiting.done():
                        waiting.set_result(said)
            log.error("%s: all commands in pods have ended with it", _GONE)
        finally:
            for waiting in self._open.values():
                if not waiting.done():
                    waiting.set_exception(ShimError(_GONE))

    def _tell(self, said: dict[str, Any]) -> None:
        for prefix, listener in list(self._listeners.items()):
            if said["name"].startswith(prefix):
                listener(said["name"], said["status"], said["at"])

    async def close(self) -> None:
        """End the process and all that it started, and wait for it. May be called twice."""
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        self._control.close()
        try:
            await asyncio.to_thread(self._process.wait, _END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    async def __aenter__(self) -> Shim:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
