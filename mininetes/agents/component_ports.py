"""The ports that scheduler and controller manager have: health and metrics, with TLS and (as once) without."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping

from aiohttp import web

from mininetes.agents.serving import Handler, HttpPort, healthy

Metrics = Callable[[], Mapping[str, float]]


def metrics_page(metrics: Metrics) -> Handler:
    """A handler of /metrics: Prometheus' text format, a line for each name (with its labels) and value."""

    async def page(_: web.Request) -> web.Response:
        lines = (f"{name} {value}\n" for name, value in metrics().items())
        return web.Response(text="".join(lines), content_type="text/plain")

    return page


@contextlib.asynccontextmanager
async def component_ports(
    netns: str, secure: int, insecure: int, metrics: Metrics, tls: ssl.SSLContext | None
) -> AsyncIterator[None]:
    """Serve both ports in the namespace at ``netns`` while the block runs; without ``tls`` the first is plain too.

    Raises MininetesError when one is taken.
    """
    page = metrics_page(metrics)
    newer = dict.fromkeys(("/healthz", "/livez", "/readyz"), healthy) | {"/metrics": page}
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(HttpPort(netns, secure, newer, tls=tls))
        await stack.enter_async_context(HttpPort(netns, insecure, {"/healthz": healthy, "/metrics": page}))
        yield
