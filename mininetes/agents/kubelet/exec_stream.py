"""`kubectl exec` at the kubelet's end: a command's streams as channels of a WebSocket (v4 and v5.channel.k8s.io).

Each message is one byte, the channel, and data: 0 stdin, 1 stdout, 2 stderr, 3 the outcome (a
Status), 4 the size of the terminal. In v5 a message 255, N closes the client's channel N.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import WSMsgType, web

from mininetes.agents.kubelet.context import Context
from mininetes.agents.kubelet.executing import Execution, Place
from mininetes.agents.shim.client import ShimError
from mininetes.agents.shim.spawning import terminal_size
from mininetes.apiserver.keepalive import PATIENCE_S, keep_alive

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, OUTCOME, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
BEAT_S = 1.0
"""How often a client is told that the kubelet is there while nothing is read from it: see `_beat`."""

_BLOCK = 1 << 15
_LARGEST_MESSAGE = 16 << 20
_LARGEST_SIZE = 65535


@dataclass(frozen=True)
class ExecOptions:
    """What is to run, and which streams the client wants."""

    command: Sequence[str]
    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool

    @classmethod
    def of(cls, command: Sequence[str], query: Mapping[str, str]) -> ExecOptions:
        """From a request's query, with the API's parameter names or the kubelet's own."""

        def flag(*names: str) -> bool:
            return any(query.get(name, "").lower() in ("1", "true") for name in names)

        tty = flag("tty")
        return cls(
            list(command), flag("stdin", "input"), flag("stdout", "output"), flag("stderr", "error") and not tty, tty
        )


class Streams:
    """The command's descriptors, and ours at their other ends."""

    def __init__(self, options: ExecOptions) -> None:
        self.theirs: list[int] = []
        self.stdin = -1
        self.outputs: dict[int, int] = {}
        self.unheard: frozenset[int] = frozenset()
        """Those of the outputs that the client is not to hear."""
        self.terminal = -1
        if options.tty:
            master, slave = os.openpty()
            self.terminal = master
            self.theirs = [slave, os.dup(slave), os.dup(slave)]
            if options.stdin:
                self.stdin = os.dup(master)
            self.outputs[STDOUT] = os.dup(master)
            return
        if options.stdin:
            reading, self.stdin = os.pipe()
            self.theirs.append(reading)
        else:
            self.theirs.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        for channel, wanted in ((STDOUT, options.stdout), (STDERR, options.stderr)):
            if wanted:
                self.outputs[channel], writing = os.pipe()
                self.theirs.append(writing)
            else:
                self.theirs.append(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))

    async def resize(self, rows: int, columns: int) -> None:
        """Tell the command's terminal, if it has one, how large its window is. Raises OSError."""
        if self.terminal >= 0:
            terminal_size(self.terminal, rows, columns)

    def close_theirs(self) -> None:
        """Close what the command has a copy of. May be called twice."""
        for fd in self.theirs:
            os.close(fd)
        self.theirs = []

    def close(self) -> None:
        """Close what is left here: the ends in transports are closed by those."""
        self.close_theirs()
        for fd in (self.stdin, self.terminal, *self.outputs.values()):
            if fd >= 0:
                os.close(fd)


async def serve(request: web.Request, context: Context, place: Place, options: ExecOptions) -> web.WebSocketResponse:
    """Run a command for a client of either protocol until it ends or the client goes."""
    socket = await opened(request, options)
    streams = Streams(options)
    try:
        try:
            stdio = (streams.theirs[0], streams.theirs[1], streams.theirs[2])
            execution = await Execution.start(context, place, options.command, stdio, terminal=options.tty)
        except ShimError as failed:
            await say_outcome(socket, failure(f"error executing command in container: {failed}"))
            return socket
        streams.close_theirs()
        try:
            await carry(socket, streams, execution.status)
        finally:
            await execution.close()
    finally:
        streams.close()
        await socket.close()
    return socket


async def opened(request: web.Request, options: ExecOptions) -> web.WebSocketResponse:
    """Answer a client that wants these streams, in the protocol that it speaks.

    It is not asked whether it is there: one that is held back, or that pauses, cannot answer.
    """
    socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=_LARGEST_MESSAGE, timeout=PATIENCE_S)
    if request.transport is not None:
        keep_alive(request.transport.get_extra_info("socket"))
    await socket.prepare(request)
    # what clients wait for, to know that the streams are there
    lowest = STDOUT if options.stdout or options.tty else STDERR if options.stderr else OUTCOME
    await socket.send_bytes(bytes([lowest]))
    return socket


async def carry(
    socket: web.WebSocketResponse, streams: Streams, ended: Callable[[], Coroutine[Any, Any, int]] | None = None
) -> None:
    """Move data both ways until all is at its end, and say the outcome; or until the client has gone.

    ``ended`` gives the exit status once the command has ended. Without, the end is that of the output.
    """
    loop = asyncio.get_running_loop()
    flow = _Flow()
    gone = [loop.create_task(_hear(socket, streams, flow)), loop.create_task(_beat(socket, flow))]
    outputs, streams.outputs = streams.outputs, {}
    sending = [
        loop.create_task(_send(None if channel in streams.unheard else socket, channel, fd))
        for channel, fd in outputs.items()
    ]
    status = loop.create_task(ended() if ended is not None else _status_of(list(sending)))
    try:
        await asyncio.wait([*gone, status], return_when=asyncio.FIRST_COMPLETED)
        if not status.done():
            return
        everything = loop.create_task(_all(list(sending)))
        sending.append(everything)
        await asyncio.wait([*gone, everything], return_when=asyncio.FIRST_COMPLETED)
        await say_outcome(socket, outcome(status.result()))
    finally:
        for task in (*gone, status, *sending):
            task.cancel()
        await asyncio.gather(*gone, status, *sending, return_exceptions=True)


async def _all(tasks: Sequence[asyncio.Task[None]]) -> None:
    if tasks:
        await asyncio.wait(tasks)


async def _status_of(outputs: Sequence[asyncio.Task[None]]) -> int:
    await _all(outputs)
    return 0


async def _hear(socket: web.WebSocketResponse, streams: Streams, flow: _Flow) -> None:
    """Take the client's messages until it goes."""
    writer: asyncio.WriteTransport | None = None
    if streams.stdin >= 0:
        fd, streams.stdin = streams.stdin, -1
        loop = asyncio.get_running_loop()
        writer, _ = await loop.connect_write_pipe(lambda: flow, os.fdopen(fd, "wb", buffering=0))
    try:
        async for message in socket:
            data = message.data.encode() if message.type is WSMsgType.TEXT else message.data
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY) or not data:
                continue
            channel, content = data[0], data[1:]
            if channel == STDIN and writer is not None and content:
                writer.write(content)
                await flow.room()
            elif channel == CLOSE and content[:1] == bytes([STDIN]) and writer is not None:
                _end_of_input(writer, streams)
            elif channel == RESIZE and (size := window_size(content)) is not None:
                with contextlib.suppress(OSError):
                    await streams.resize(*size)
    finally:
        if writer is not None:
            writer.abort()


def window_size(message: bytes) -> tuple[int, int] | None:
    """Rows and columns as a client says them; None when a terminal cannot have such a size, or it is no size."""
    try:
        said = json.loads(message)
        size = said["Height"], said["Width"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    # a bool is an int too, for isinstance
    return size if all(type(number) is int and 0 <= number <= _LARGEST_SIZE for number in size) else None


async def _beat(socket: web.WebSocketResponse, flow: _Flow) -> None:
    """End once the client has gone while nothing is read from it.

    What it sent before would have to be read first, to see its end. But what is sent to one who has gone is answered
    with a reset. So pongs are sent that nobody asked for, which asks for no answer (RFC 6455, 5.5.3); to kubectl they
    say that somebody is there, for its own pings are not read either.
    """
    with contextlib.suppress(ConnectionError):
        while True:
            await asyncio.sleep(BEAT_S)
            if flow.is_full:
                await socket.pong()


def _end_of_input(writer: asyncio.WriteTransport, streams: Streams) -> None:
    """The client says no more: an end of file, which for a terminal is a character."""
    if streams.terminal >= 0:
        writer.write(b"\x04")
    else:
        writer.close()


class _Flow(asyncio.BaseProtocol):
    """Holds the client back while the command does not read."""

    def __init__(self) -> None:
        self._room = asyncio.Event()
        self._room.set()

    def pause_writing(self) -> None:
        """Called by the transport when its buffer is full."""
        self._room.clear()

    def resume_writing(self) -> None:
        """Called by the transport when there is room again."""
        self._room.set()

    def connection_lost(self, _: Exception | None) -> None:
        """The command reads no more."""
        self._room.set()

    @property
    def is_full(self) -> bool:
        """Whether `room` waits."""
        return not self._room.is_set()

    async def room(self) -> None:
        """Wait until there is room."""
        await self._room.wait()


async def _send(socket: web.WebSocketResponse | None, channel: int, fd: int) -> None:
    """Send what comes out of a descriptor until its end (to nobody: drop it); closes it."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_BLOCK)
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb", buffering=0)
    )
    try:
        # a terminal whose programs have ended gives an error, not an end of file
        with contextlib.suppress(OSError):
            while data := await reader.read(_BLOCK):
                if socket is not None:
                    await socket.send_bytes(bytes([channel]) + data)
    finally:
        transport.close()


async def say_outcome(socket: web.WebSocketResponse, status: Mapping[str, Any]) -> None:
    """Tell the client how it ended."""
    with contextlib.suppress(ConnectionError):
        await socket.send_bytes(bytes([OUTCOME]) + json.dumps(status).encode())


def outcome(status: int) -> dict[str, Any]:
    """The Status object that tells a client how a command ended."""
    if status == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {status}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(status)}]},
    }


def failure(why: str) -> dict[str, Any]:
    """The Status object that tells a client that there are no streams."""
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {why}",
        "reason": "InternalError",
        "details": {"causes": [{"message": why}]},
        "code": 500,
    }
