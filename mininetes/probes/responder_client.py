"""The engine's side of the responder: starts its process and tells it what to serve."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mininetes.deadline import within
from mininetes.errors import MininetesError

_END_S = 5.0
_ANSWER_S = 30.0
_GONE = "the responder's process is gone"
_LONGEST_MESSAGE = 1 << 16


@dataclass(frozen=True, slots=True)
class ServedPort:
    """A port that the responder answers at. HTTP is TCP; TCP ports speak HTTP too, when the client does."""

    port: int
    protocol: Literal["TCP", "UDP", "HTTP"] = "TCP"


class ResponderError(MininetesError):
    """The responder could not serve a port, or is gone. The text says which pod, port and why."""


class Responder:
    """One responder process for all pods. Made by `start`; use from one event loop.

    The process ends when `close` is called, or when the engine's process ends, however that ends.
    """

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self._process = process
        self._control = control
        self._number = 0
        self._open: dict[int, asyncio.Future[None]] = {}
        self._sending = asyncio.Lock()
        self._reader = asyncio.get_running_loop().create_task(self._read(), name="responder replies")

    @classmethod
    async def start(cls) -> Responder:
        """Start the process, in the caller's namespaces; the netns paths are opened there."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        package_root = str(Path(__file__).parents[2])
        paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "mininetes.probes.responder", "--control", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                start_new_session=True,  # the terminal's ^C is for the engine
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

    async def serve(self, pod: str, *, node: str, netns: str, ports: Sequence[ServedPort]) -> None:
        """Answer at these ports in the namespace at ``netns``, as ``pod`` on ``node``.

        Called again for the same pod, it puts the new ports in place of the old. Either all ports
        are open after it or none. Raises ResponderError, for example when a port is taken.
        """
        await self.serve_all([(pod, node, netns, ports)])

    async def serve_all(self, pods: Sequence[tuple[str, str, str, Sequence[ServedPort]]]) -> None:
        """`serve` for several pods, each with its node, netns and ports, in one message of at most 64 KiB.

        The pods before one that fails are served.
        """
        wanted = [
            {"pod": pod, "node": node, "netns": netns, "ports": [(port.port, port.protocol) for port in ports]}
            for pod, node, netns, ports in pods
        ]
        await self._ask({"op": "serve", "pods": wanted})

    async def stop(self, pod: str) -> None:
        """Close a pod's ports. Does nothing when there are none. Call it before the namespace goes: sockets hold it."""
        await self._ask({"op": "stop", "pod": pod})

    async def _ask(self, message: dict[str, object]) -> None:
        loop = asyncio.get_running_loop()
        self._number += 1
        number = self._number
        self._open[number] = reply = loop.create_future()
        try:
            async with self._sending:
                if self._reader.done():
                    raise ResponderError(_GONE)
                await loop.sock_sendall(self._control, json.dumps({"id": number, **message}).encode())
            async with within(_ANSWER_S):
                await reply
        except ConnectionError as error:
            raise ResponderError(_GONE) from error
        except asyncio.TimeoutError:
            raise ResponderError(f"the responder did not answer within {_ANSWER_S:g} s") from None
        finally:
            self._open.pop(number, None)

    async def _read(self) -> None:
        """Hand each reply to who waits for it; at the end of file, tell all of them."""
        loop = asyncio.get_running_loop()
        try:
            with contextlib.suppress(ConnectionError):  # the same as an end of file
                while message := await loop.sock_recv(self._control, _LONGEST_MESSAGE):
                    reply = json.loads(message)
                    waiting = self._open.get(reply["id"])
                    if waiting is None or waiting.done():
                        continue
                    if reply["ok"]:
                        waiting.set_result(None)
                    else:
                        waiting.set_exception(ResponderError(reply["error"]))
        finally:
            for waiting in self._open.values():
                if not waiting.done():
                    waiting.set_exception(ResponderError(_GONE))

    async def close(self) -> None:
        """End the process and wait for it. May be called twice."""
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        self._control.close()
        try:
            await asyncio.to_thread(self._process.wait, _END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    async def __aenter__(self) -> Responder:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
