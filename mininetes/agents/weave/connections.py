"""A peer's TCP connections: one to each other peer, whichever of the two made it; lost ones are made anew."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mininetes.agents.klog import AgentLog
from mininetes.agents.running import end
from mininetes.agents.serving import listening_socket
from mininetes.agents.weave.knowledge import Malformed
from mininetes.agents.weave.peer import Message, PeerAddress
from mininetes.agents.weave.wire import LONGEST, PORT, Hello, frame, read_frame
from mininetes.deadline import within
from mininetes.errors import MininetesError
from mininetes.kernel.netns import socket_in

DIAL_S = 1.5
"""Long enough for the kernel to repeat a lost SYN once."""

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 1.5
LEAVE_IT_TO_THE_OTHER_S = 0.4
"""Of two peers that start together, the one with the lower name dials; the other waits this long for it."""

SILENT_S = 3
"""A connection whose other side says nothing for this long, not even TCP's own acknowledgements, is lost."""


class Unheard(MininetesError):
    """A connection that ended, with the reason."""


@dataclass(eq=False)
class Connection:
    """A connection on which both have greeted each other."""

    hello: Hello
    outbound: bool
    address: str
    writer: asyncio.StreamWriter

    def send(self, message: Message) -> None:
        """Send a message. One that the other side is too slow to read, by far, ends the connection."""
        if self.writer.transport.get_write_buffer_size() > LONGEST:
            self.close()
        elif not self.writer.is_closing():
            self.writer.write(frame(message))

    def close(self) -> None:
        """End it at once. May be called twice."""
        self.writer.transport.abort()


@dataclass
class Target:
    """A peer that is dialled: what came of it last. ``lost`` is set when the connection to it has ended."""

    peer: PeerAddress
    task: asyncio.Task[None] | None = None
    failure: str = ""
    lost: asyncio.Event = field(default_factory=asyncio.Event)


class Connections:
    """Keeps connections to all ``members`` while `run` runs; it is told of them by `look_again`.

    ``up``, ``down`` and ``heard`` are called from the loop: with the peer's name, for ``heard`` also the
    message. ``up`` may come again without ``down`` when a connection is replaced by a better one.
    """

    def __init__(
        self,
        netns: str,
        log: AgentLog,
        hello: Callable[[], Hello],
        members: Callable[[], Mapping[str, PeerAddress]],
        *,
        up: Callable[[str], None],
        down: Callable[[str], None],
        heard: Callable[[str, Message], None],
    ) -> None:
        self._netns = netns
        self._log = log
        self._hello = hello
        self._members = members
        self._up, self._down, self._heard = up, down, heard
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.targets: dict[str, Target] = {}
        self.open: dict[str, Connection] = {}

    def send(self, name: str, message: Message) -> None:
        """Send to a peer; what cannot be sent is lost, and is made up for when there is a connection again."""
        connection = self.open.get(name)
        if connection is not None:
            connection.send(message)

    def look_again(self) -> None:
        """The members may have changed."""
        self._changed.set()

    async def run(self) -> None:
        """Listen and dial until cancelled. Raises MininetesError when the port is taken."""
        listener = listening_socket(self._netns, PORT)
        server = await asyncio.start_server(self._welcome, sock=listener)
        try:
            while True:
                self._see_to_targets()
                await self._changed.wait()
                self._changed.clear()
        finally:
            server.close()
            await end([*self._tasks, *(each.task for each in self.targets.values() if each.task is not None)])
            for connection in list(self.open.values()):
                connection.close()

    def _see_to_targets(self) -> None:
        members = self._members()
        me = self._hello().peer.name
        for name, peer in members.items():
            target = self.targets.get(name)
            if name == me or (target is not None and target.peer == peer):
                continue
            self._drop_target(name)
            target = self.targets[name] = Target(peer)
            target.task = asyncio.get_running_loop().create_task(self._keep(target))
        for name in [name for name in self.targets if name not in members]:
            self._drop_target(name)
            if name in self.open:
                self.open[name].close()

    def _drop_target(self, name: str) -> None:
        target = self.targets.pop(name, None)
        if target is not None and target.task is not None:
            target.task.cancel()

    async def _keep(self, target: Target) -> None:
        """Dial whenever there is no connection, with growing pauses."""
        name, pause_s = target.peer.name, FIRST_PAUSE_S
        if name < self._hello().peer.name:
            await asyncio.sleep(LEAVE_IT_TO_THE_OTHER_S)
        while True:
            if name in self.open:
                target.lost.clear()
                await target.lost.wait()
                pause_s = FIRST_PAUSE_S
            try:
                await self._dial(target.peer)
                target.failure = ""
            except (OSError, MininetesError, asyncio.TimeoutError) as failed:
                self._note_failure(target, in_words(failed))
            if name not in self.open:
                await asyncio.sleep(pause_s * random.uniform(0.75, 1.0))
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    def _note_failure(self, target: Target, failure: str) -> None:
        if failure != target.failure:
            self._log.info("Connecting failed", v=2, peer=target.peer, address=target.peer.address, err=failure)
        target.failure = failure

    async def _dial(self, peer: PeerAddress) -> None:
        """Make a connection and stay with it until it ends. Raises what made it fail before it was one."""
        loop = asyncio.get_running_loop()
        sock = socket_in(self._netns, socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            async with within(DIAL_S):
                await loop.sock_connect(sock, (peer.address, PORT))
            reader, writer = await asyncio.open_connection(sock=sock)
        except BaseException:
            sock.close()
            raise
        await self._converse(reader, writer, outbound=True, expected=peer.name)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError, MininetesError, asyncio.TimeoutError, asyncio.CancelledError):
            await self._converse(reader, writer, outbound=False)

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, outbound: bool, expected: str | None = None
    ) -> None:
        """Greet, and pass on what is heard until the connection ends.

        Raises Malformed, OSError or TimeoutError when the greeting fails.
        """
        try:
            _notice_silence(writer.get_extra_info("socket"))
            mine = self._hello()
            writer.write(frame(mine.to_json()))
            async with within(DIAL_S):
                theirs = mine.accept(await read_frame(reader))
            if expected is not None and theirs.peer.name != expected:
                raise Malformed(f"{theirs.peer} answers, not {expected}")
            host, port = writer.get_extra_info("peername")
            connection = Connection(theirs, outbound, f"{host}:{port}", writer)
            if not self._register(connection):
                return
            try:
                await self._listen(reader, connection)
            except (Malformed, OSError, asyncio.IncompleteReadError) as why:
                self._log.info("Connection ended", v=2, peer=theirs.peer, err=str(why) or type(why).__name__)
            finally:
                self._unregister(connection)
        except asyncio.IncompleteReadError:
            raise Unheard("it hung up without a greeting") from None
        finally:
            writer.transport.abort()

    async def _listen(self, reader: asyncio.StreamReader, connection: Connection) -> None:
        while True:
            self._heard(connection.hello.peer.name, await read_frame(reader))

    def _register(self, connection: Connection) -> bool:
        """Make it the connection to its peer; False when there is a better one, by a rule that both sides follow."""
        name = connection.hello.peer.name
        rival = self.open.get(name)
        if rival is not None and not self._is_better(connection, rival):
            return False
        self.open[name] = connection
        if rival is not None:
            rival.close()
        self._log.info(
            "Connected", v=2, peer=connection.hello.peer, address=connection.address, outbound=connection.outbound
        )
        self._up(name)
        return True

    def _is_better(self, connection: Connection, rival: Connection) -> bool:
        """A later life's goes first, then that which the peer with the lower name made, then the younger one."""
        if connection.hello.incarnation != rival.hello.incarnation:
            return connection.hello.incarnation > rival.hello.incarnation
        lower_is_me = self._hello().peer.name < connection.hello.peer.name
        return connection.outbound == lower_is_me or rival.outbound != lower_is_me

    def _unregister(self, connection: Connection) -> None:
        name = connection.hello.peer.name
        if self.open.get(name) is connection:
            del self.open[name]
            if name in self.targets:
                self.targets[name].lost.set()
            self._down(name)


def _notice_silence(sock: Any) -> None:
    """Have TCP end a connection whose other side has gone silent: with data on the way, or asked by keepalives."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, SILENT_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_S * 1000)


def in_words(failed: Exception) -> str:
    """Why a peer cannot be reached, as the system says it: "Connection refused"."""
    number = failed.errno if isinstance(failed, OSError) else None
    return os.strerror(number) if number is not None else str(failed) or "no answer"
