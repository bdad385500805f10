"""The kubelet's ports: 10250 over TLS, with pods, logs, exec and attach, and 10248 with its health, on loopback."""

from __future__ import annotations

import contextlib
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import web

from mininetes.agents.kubelet import attach_stream, exec_stream, log_stream
from mininetes.agents.kubelet.attach_stream import Attachable
from mininetes.agents.kubelet.context import Context
from mininetes.agents.kubelet.exec_stream import ExecOptions
from mininetes.agents.kubelet.executing import Place
from mininetes.agents.kubelet.log_stream import LogOptions
from mininetes.agents.serving import Handler, HttpPort, healthy
from mininetes.apiserver.errors import ApiError
from mininetes.errors import BadInput, MininetesError


@dataclass(frozen=True)
class FoundLog:
    """Where a container's log is, whether it is in CRI format, and whether more can come."""

    path: str
    is_cri: bool = True
    goes_on: Callable[[], bool] = field(default=lambda: False)


class Pods(Protocol):
    """What the server asks of its kubelet."""

    def objects(self) -> Sequence[Mapping[str, Any]]:
        """The node's pods as the API has them."""

    def log_of(self, namespace: str, pod: str, container: str, *, previous: bool) -> FoundLog:
        """Raises ApiError when there is no such pod, container or log."""

    def place_of(self, namespace: str, pod: str, container: str) -> Place:
        """Where commands of a running container run. Raises ApiError."""

    def attachable(self, namespace: str, pod: str, container: str) -> Attachable:
        """A running container that has a process. Raises ApiError."""

    def metrics(self) -> Mapping[str, float]:
        """Numbers for /metrics, by name."""


class KubeletServer:
    """Serves while `serving`'s block runs."""

    def __init__(
        self,
        context: Context,
        pods: Pods,
        tls: ssl.SSLContext | None,
        is_known: Callable[[str], bool] | None = None,
    ) -> None:
        self._is_known = is_known
        self._context = context
        self._pods = pods
        self._tls = tls

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Open the ports for the block. Raises MininetesError when one is taken."""
        netns, options = self._context.place.netns, self._context.options
        guarded = {
            "/pods": self._list,
            "/runningpods/": self._list,
            "/metrics": self._metrics,
            "/containerLogs/{namespace}/{pod}/{container}": self._logs,
            "/exec/{namespace}/{pod}/{container}": self._exec,
            "/attach/{namespace}/{pod}/{container}": self._attach,
        }
        handlers: dict[str, Handler] = {path: self._guarded(handler) for path, handler in guarded.items()}
        handlers["/healthz"] = healthy
        async with (
            HttpPort(netns, options.port, handlers, tls=self._tls),
            HttpPort(netns, options.health_port, {"/healthz": healthy}, address="127.0.0.1"),
        ):
            yield

    def _guarded(self, handler: Handler) -> Handler:
        """The handler for those who bring a token that is known."""

        async def answer(request: web.Request) -> web.StreamResponse:
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            if self._is_known is not None and not (scheme.lower() == "bearer" and self._is_known(token)):
                return web.Response(text="Unauthorized", status=401)
            return await handler(request)

        return answer

    async def _list(self, _: web.Request) -> web.Response:
        items = list(self._pods.objects())
        return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})

    async def _metrics(self, _: web.Request) -> web.Response:
        lines = (f"{name} {value:g}\n" for name, value in self._pods.metrics().items())
        return web.Response(text="".join(lines), content_type="text/plain")

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        try:
            options = LogOptions.of(request.query, time.time())
            wanted = self._pods.log_of(**_names(request), previous=options.previous)
            if not os.path.exists(wanted.path):
                raise ApiError(404, "NotFound", "the container has no log yet")
        except BadInput as wrong:
            return _refused(ApiError.bad_request(str(wrong)))
        except ApiError as refused:
            return _refused(refused)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            async for part in log_stream.read(wanted.path, options, is_cri=wanted.is_cri, goes_on=wanted.goes_on):
                await response.write(part)
            await response.write_eof()
        return response

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        command = request.query.getall("command", [])
        try:
            if not command:
                raise ApiError.bad_request("you must specify at least 1 command for the container")
            _require_websocket(request)
            place = self._pods.place_of(**_names(request))
        except ApiError as refused:
            return _refused(refused)
        except MininetesError as failed:
            return _refused(ApiError.internal(str(failed)))
        return await exec_stream.serve(request, self._context, place, ExecOptions.of(command, request.query))

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        options = ExecOptions.of([], request.query)
        try:
            if not (options.stdin or options.stdout or options.stderr):
                raise ApiError.bad_request("you must specify at least 1 of stdin, stdout, stderr")
            _require_websocket(request)
            container = self._pods.attachable(**_names(request))
        except ApiError as refused:
            return _refused(refused)
        return await attach_stream.serve(request, self._context, container, options)


def _require_websocket(request: web.Request) -> None:
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise ApiError.bad_request("this kubelet streams over WebSocket only: " + ", ".join(exec_stream.PROTOCOLS))


def _names(request: web.Request) -> dict[str, str]:
    return {key: request.match_info[key] for key in ("namespace", "pod", "container")}


def _refused(refused: ApiError) -> web.Response:
    return web.json_response(refused.to_status(), status=refused.code)
