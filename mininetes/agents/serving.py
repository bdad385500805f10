"""HTTP ports of agents, on sockets that live in their node's network namespace."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from mininetes.errors import MininetesError
from mininetes.kernel.netns import in_netns

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_BACKLOG = 256


def listening_socket(netns: str, port: int, address: str = "0.0.0.0") -> socket.socket:  # noqa: S104 - a node's own
    """A TCP socket that listens in the namespace at ``netns``. Raises MininetesError that names port and reason."""
    try:
        with in_netns(netns):
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((address, port))
                sock.listen(_BACKLOG)
                sock.setblocking(False)
            except OSError:
                sock.close()
                raise
    except OSError as failed:
        raise MininetesError(f"{netns}: cannot listen on {address}:{port}: {failed.strerror}") from None
    return sock


class HttpPort:
    """A small HTTP server at one port of a node: paths and their handlers. A context manager.

    Unknown paths get 404. Ending it closes the port and its connections at once.
    """

    def __init__(
        self,
        netns: str,
        port: int,
        handlers: Mapping[str, Handler],
        *,
        address: str = "0.0.0.0",  # noqa: S104
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._where = (netns, port, address)
        self._tls = tls
        self._app = web.Application()
        for path, handler in handlers.items():
            self._app.router.add_route("*", path, handler)
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Open the port. Raises MininetesError when it is taken."""
        netns, port, address = self._where
        sock = listening_socket(netns, port, address)
        self._runner = web.AppRunner(self._app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        try:
            await self._runner.setup()
            await web.SockSite(self._runner, sock, ssl_context=self._tls).start()
        except BaseException:
            sock.close()
            raise

    async def stop(self) -> None:
        """Close the port. May be called twice."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            with contextlib.suppress(OSError):
                await runner.cleanup()

    async def __aenter__(self) -> HttpPort:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


async def healthy(_: web.Request) -> web.Response:
    """The answer of a component that is well: ``/healthz`` and the like."""
    return web.Response(text="ok")
