"""A TCP proxy that harms connections on purpose: what a network does to a client and its server, at chosen moments.

client ---> MeddlingProxy ---> server
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable


class MeddlingProxy:
    """Forwards until told otherwise. Harm is done to the next request that contains ``on``; others pass."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._frozen: set[asyncio.StreamWriter] = set()
        self.on = b""
        self.lose_answer: Callable[[], Awaitable[None]] | None = None
        """Let the next such request through, call this when its answer comes, and close instead of answering."""
        self.hold: asyncio.Event | None = None
        """Close at the next such request, and forward it only once this is set."""
        self.held: asyncio.Future[bytes] | None = None
        """The server's answer to the request that was held."""
        self.swallow = False
        """Take everything and say nothing."""
        self.connections = 0

    async def __aenter__(self) -> MeddlingProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Close all connections."""
        for writer in list(self._writers):
            writer.close()

    def freeze(self) -> None:
        """From now on nothing gets through the connections that are open, though they stay so."""
        self._frozen |= self._writers

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._forward(reader, writer)
        finally:
            writer.close()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        back = asyncio.ensure_future(self._answers(there_reader, writer))
        try:
            while data := await reader.read(1 << 20):
                if self.swallow or writer in self._frozen:
                    continue
                if self.on and self.on in data:
                    if self.hold is not None:
                        await self._hold(data, back, there_reader, there_writer)
                        return
                    if self.lose_answer is not None:
                        await self._lose(data, back, there_reader, there_writer)
                        return
                there_writer.write(data)
        finally:
            back.cancel()
            there_writer.close()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if writer not in self._frozen:
                writer.write(data)
        writer.close()

    async def _lose(
        self, data: bytes, back: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        then, self.lose_answer = self.lose_answer, None
        assert then is not None
        await _stop(back)
        writer.write(data)
        assert b"200 OK" in await reader.read(1 << 16)
        await then()

    async def _hold(
        self, data: bytes, back: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        release, self.hold = self.hold, None
        assert release is not None
        await _stop(back)
        self.held = asyncio.get_running_loop().create_future()
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self._target)

        async def later(held: asyncio.Future[bytes]) -> None:
            await release.wait()
            other_writer.write(data)
            held.set_result(await other_reader.read(1 << 16))
            other_writer.close()

        self._tasks.add(asyncio.ensure_future(later(self.held)))


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
