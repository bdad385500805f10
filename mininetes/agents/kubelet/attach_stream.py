"""`kubectl attach` at the kubelet's end: the streams of a container that runs, in the protocols of `exec_stream`."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace

from aiohttp import web

from mininetes.agents.kubelet.context import Context
from mininetes.agents.kubelet.exec_stream import STDOUT, ExecOptions, Streams, carry, failure, opened, say_outcome
from mininetes.agents.kubelet.executing import new_session
from mininetes.agents.shim.client import ShimError


@dataclass(frozen=True)
class Attachable:
    """A container that can be attached to: the shim's name of its process, and what it has of its own."""

    process: str
    stdin: bool
    tty: bool


class _Joined(Streams):
    """Pipes to and from a container that has its terminal, if any, with the shim."""

    def __init__(self, options: ExecOptions, context: Context, container: Attachable) -> None:
        # stdout is always there, for its end is that of the container
        super().__init__(replace(options, tty=False, stdout=True, stderr=options.stderr and not container.tty))
        self.unheard = frozenset() if options.stdout else frozenset([STDOUT])
        self._context = context
        self._container = container

    async def resize(self, rows: int, columns: int) -> None:
        """See Streams."""
        with contextlib.suppress(ShimError):
            await self._context.shim.resize(self._container.process, rows, columns)


async def serve(
    request: web.Request, context: Context, container: Attachable, options: ExecOptions
) -> web.WebSocketResponse:
    """Join a client to a container until that ends or the client goes; the container goes on then."""
    socket = await opened(request, options)
    streams = _Joined(options, context, container)
    session = new_session()
    try:
        stdio = (streams.theirs[0], streams.theirs[1], streams.theirs[2])
        try:
            await context.shim.attach(container.process, session, stdio, stdin=options.stdin and container.stdin)
        except ShimError as failed:
            await say_outcome(socket, failure(f"error attaching to container: {failed}"))
            return socket
        streams.close_theirs()
        try:
            await carry(socket, streams)
        finally:
            with contextlib.suppress(ShimError):
                await context.shim.detach(container.process, session)
    finally:
        streams.close()
        await socket.close()
    return socket
