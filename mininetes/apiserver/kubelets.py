"""Requests that a node's kubelet answers: the API server passes logs and the streams of exec and attach on.

client --(WebSocket or GET)--> API server --(from the control-plane node's namespace)--> kubelet :10250
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from typing import Any, cast
from urllib.parse import parse_qsl, quote, urlencode

import aiohttp
import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from mininetes.apiserver.calls import Call
from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.keepalive import PATIENCE_S, keep_alive
from mininetes.apiserver.registry import Registry
from mininetes.apiserver.resources import by_name
from mininetes.apiserver.store import Stored
from mininetes.deadline import within
from mininetes.kernel.netns import in_netns

KUBELET_PORT = 10250
CONNECT_S = 3.0
ANSWER_S = 10.0
PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
CLOSE_S = 0.5
"""How long the side of a stream that is ended by us has for its farewell."""

_LARGEST_FRAME = 16 << 20
_REMEMBERED_S = 5.0
_NEED_WEBSOCKET = (
    "this API server streams over WebSocket only (v5.channel.k8s.io or v4.channel.k8s.io), not over SPDY: "
    "use kubectl 1.30 or newer, or `mininetes exec pod/NAME -- COMMAND`"
)
_KUBELET_NAMES = {"stdin": "input", "stdout": "output", "stderr": "error"}
"""The kubelet has names of its own for some parameters; both are sent."""


class Kubelets:
    """Connections to the kubelets of all nodes, made in the namespace at ``netns`` (None: the caller's).

    ``token`` is how the API server shows a kubelet who it is.
    """

    def __init__(
        self, registry: Registry, *, ca_pem: str, token: str, netns: str | None, port: int = KUBELET_PORT
    ) -> None:
        self._registry = registry
        self._tls = ssl.create_default_context(cadata=ca_pem)
        self._token = token
        self._netns = netns
        self._port = port
        self._session: aiohttp.ClientSession | None = None
        self._refusals: dict[str, tuple[float, ApiError]] = {}
        self._stopping = asyncio.Event()

    def end_streams(self) -> None:
        """End all streams of exec and attach, which takes a moment yet, and begin no more. May be called twice."""
        self._stopping.set()

    async def close(self) -> None:
        """End all connections. May be called twice."""
        self.end_streams()
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def logs(self, call: Call) -> web.StreamResponse:
        """Pass a container's log on, as it comes. Raises ApiError 400, 404, 503."""
        url = await self._url(call, "containerLogs")
        try:
            async with within(ANSWER_S):
                answer = await self._opened().get(url)
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as failed:
            raise _unreachable(url, failed) from None
        async with answer:
            if answer.status >= 400:
                raise await _refused(answer)
            response = web.StreamResponse(headers={"Content-Type": "text/plain"})
            await response.prepare(call.request)
            with contextlib.suppress(aiohttp.ClientError):
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
            await response.write_eof()
            return response

    async def exec(self, call: Call) -> web.StreamResponse:
        """Join a client with a command. Raises ApiError 400 for a client without WebSocket, 404, 503."""
        if not any(name == "command" and value for name, value in parse_qsl(call.request.query_string)):
            raise ApiError.bad_request("you must specify at least 1 command for the container")
        return await self._stream(call, "exec")

    async def attach(self, call: Call) -> web.StreamResponse:
        """Join a client with a container that runs. Raises ApiError as `exec` does."""
        return await self._stream(call, "attach")

    async def _stream(self, call: Call, action: str) -> web.StreamResponse:
        url = await self._url(call, action)
        wanted = self._protocols(call.request)
        refusals: list[ApiError] = []
        async with self._new_session([_listening_for(refusals)]) as session:
            connecting = session.ws_connect(
                url, protocols=wanted, autoping=False, max_msg_size=_LARGEST_FRAME, compress=0
            )
            try:
                async with within(ANSWER_S):
                    kubelet = cast(_ToKubelet, await connecting)
            except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as failed:
                refusal = refusals[0] if refusals else _unreachable(url, failed)
                self._remember(call.request, refusal)
                raise refusal from None
            try:
                client = web.WebSocketResponse(
                    protocols=(kubelet.protocol or PROTOCOLS[-1],),
                    autoping=False,
                    max_msg_size=_LARGEST_FRAME,
                    compress=False,
                    timeout=PATIENCE_S,
                )
                await client.prepare(call.request)
                await self._carry(client, kubelet, call.request.transport)
                return client
            finally:
                await _leave(kubelet)

    async def _carry(self, client: web.WebSocketResponse, kubelet: _ToKubelet, transport: Any) -> None:
        """Join a client with a kubelet until one of them ends it, or `end_streams`."""
        joined = asyncio.ensure_future(_join(client, kubelet))
        stopped = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait([joined, stopped], return_when=asyncio.FIRST_COMPLETED)
            if joined.done():
                joined.result()
                return
        finally:
            joined.cancel()
            stopped.cancel()
            await asyncio.gather(joined, stopped, return_exceptions=True)
        with contextlib.suppress(asyncio.TimeoutError):
            async with within(CLOSE_S):
                await client.close(code=WSCloseCode.GOING_AWAY, message=b"the API server stops")
        if transport is not None:
            transport.abort()

    def _remember(self, request: web.BaseRequest, refusal: ApiError) -> None:
        """Keep a refusal for a moment: kubectl tries again with SPDY, and is to hear the same then."""
        now = asyncio.get_running_loop().time()
        self._refusals = {path: each for path, each in self._refusals.items() if each[0] > now}
        self._refusals[request.raw_path] = (now + _REMEMBERED_S, refusal)

    def _protocols(self, request: web.BaseRequest) -> list[str]:
        """The streaming protocols that both sides know, best first. Raises ApiError 400."""
        upgrade = request.headers.get("Upgrade", "").lower()
        if upgrade.startswith("spdy"):
            until, refusal = self._refusals.pop(request.raw_path, (0.0, None))
            if refusal is not None and until > asyncio.get_running_loop().time():
                raise refusal
            raise ApiError.bad_request(_NEED_WEBSOCKET)
        if upgrade != "websocket":
            raise ApiError.bad_request("Upgrade request required")
        offered = [each.strip() for each in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        known = [each for each in PROTOCOLS if each in offered]
        if not known:
            served = ", ".join(PROTOCOLS)
            raise ApiError.bad_request(f"Sec-WebSocket-Protocol: {offered} is not served: one of {served}")
        return known

    async def _url(self, call: Call, action: str) -> str:
        """Where the kubelet serves this for the pod and container that a request names."""
        assert call.name is not None
        pod = await self._registry.get(call.kind, call.namespace, call.name)
        container = _container(pod, call.query.get("container", ""))
        node_name = pod.value["spec"].get("nodeName")
        if not node_name:
            raise ApiError.bad_request(f"pod {call.name} does not have a host assigned")
        node = await self._registry.get(by_name("nodes"), None, node_name)
        addresses = node.value.get("status", {}).get("addresses", [])
        address = next((each["address"] for each in addresses if each["type"] == "InternalIP"), None)
        if address is None:
            raise ApiError.service_unavailable(f"node {node_name} has no InternalIP address yet")
        parameters = parse_qsl(call.request.query_string, keep_blank_values=True)
        named = [
            (_KUBELET_NAMES[name], "1")
            for name, value in parameters
            if name in _KUBELET_NAMES and value.lower() not in ("false", "0")
        ]
        path = "/".join(quote(part, safe="") for part in (action, call.namespace or "", call.name, container))
        return f"https://{address}:{self._port}/{path}?{urlencode(parameters + named)}"

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = self._new_session([])
        return self._session

    def _new_session(self, traces: list[aiohttp.TraceConfig]) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=self._tls, limit=0, socket_factory=self._socket, force_close=True, family=socket.AF_INET
            ),
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_S),
            headers={"Authorization": f"Bearer {self._token}"},
            auto_decompress=False,
            trace_configs=traces,
            ws_response_class=_ToKubelet,
        )

    def _socket(self, address: tuple[Any, ...]) -> socket.socket:
        with in_netns(self._netns) if self._netns is not None else contextlib.nullcontext():
            sock = socket.socket(address[0], address[1], address[2])
        keep_alive(sock)
        return sock


class _ToKubelet(aiohttp.ClientWebSocketResponse):
    """A stream to a kubelet, that can be cut off."""

    def __init__(self, *parts: Any, **named: Any) -> None:
        super().__init__(*parts, **named)
        connection = self._response.connection
        self._transport = connection.transport if connection is not None else None

    def cut_off(self) -> None:
        """End the connection with a reset: that is heard by a kubelet too that has not read all there is."""
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            with contextlib.suppress(OSError):  # it is closed
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()


def _container(pod: Stored, asked: str) -> str:
    """The container that is meant: the only one may go unnamed. Raises ApiError 400."""
    name = pod.value["metadata"]["name"]
    spec = pod.value["spec"]
    containers = [each["name"] for each in spec["containers"]]
    if not asked:
        if len(containers) == 1:
            return str(containers[0])
        choice = " ".join(containers)
        raise ApiError.bad_request(f"a container name must be specified for pod {name}, choose one of: [{choice}]")
    if asked not in containers and asked not in [each["name"] for each in spec.get("initContainers", [])]:
        raise ApiError.bad_request(f"container {asked} is not valid for pod {name}")
    return asked


def _listening_for(refusals: list[ApiError]) -> aiohttp.TraceConfig:
    """Notes what a kubelet says when it refuses a stream: the error of a failed handshake leaves that out."""

    async def look(_: aiohttp.ClientSession, __: Any, end: aiohttp.TraceRequestEndParams) -> None:
        if end.response.status != 101:
            refusals.append(await _refused(end.response))

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(look)
    return trace


async def _join(client: web.WebSocketResponse, kubelet: _ToKubelet) -> None:
    """Pass frames both ways until either side closes; then close the client's in the same way."""
    said = asyncio.ensure_future(_pass(client, kubelet))
    heard = asyncio.ensure_future(_pass(kubelet, client))
    try:
        await asyncio.wait([said, heard], return_when=asyncio.FIRST_COMPLETED)
        code = heard.result() if heard.done() else WSCloseCode.OK
    finally:
        for way in (said, heard):
            way.cancel()
        await asyncio.gather(said, heard, return_exceptions=True)
    if code is not None:
        await client.close(code=code)
    else:  # for clients, the usual code means that all went well
        await client.close(code=WSCloseCode.INTERNAL_ERROR, message=b"the connection to the kubelet is lost")


async def _pass(source: Any, target: Any) -> int | None:
    """Pass frames on until one side is closed; the source's code for that, None without.

    Pongs go through, which nobody asked for here: so a kubelet tells a client that both are there, while nothing is
    read from the client, and hears whether that is so.
    """
    with contextlib.suppress(ConnectionError, aiohttp.ClientError):
        while True:
            frame = await source.receive()
            if frame.type == WSMsgType.BINARY:
                await target.send_bytes(frame.data)
            elif frame.type == WSMsgType.TEXT:
                await target.send_str(frame.data)
            elif frame.type == WSMsgType.PING:
                await source.pong(frame.data)
            elif frame.type == WSMsgType.PONG:
                await target.pong(frame.data)
            elif frame.type == WSMsgType.CLOSE:
                return int(frame.data or WSCloseCode.OK)
            else:
                return None
    return None


async def _leave(kubelet: _ToKubelet) -> None:
    """Close a stream to a kubelet; one that does not answer is cut off."""
    closed = False
    try:
        with contextlib.suppress(asyncio.TimeoutError):
            async with within(CLOSE_S):
                await kubelet.close()
                closed = True
    finally:
        if not closed:
            kubelet.cut_off()


def _unreachable(url: str, failed: BaseException) -> ApiError:
    why = str(failed) or type(failed).__name__
    where = url.partition("?")[0]
    return ApiError.service_unavailable(f'the node\'s kubelet cannot be reached: Get "{where}": {why}')


async def _refused(answer: aiohttp.ClientResponse) -> ApiError:
    """The kubelet's refusal, which is a Status object or plain text."""
    raw = await answer.read()
    try:
        status = orjson.loads(raw)
        if isinstance(status, dict) and status.get("kind") == "Status":
            return ApiError.from_status(status)
    except orjson.JSONDecodeError:
        pass
    text = raw.decode(errors="replace").strip()
    reason = {400: "BadRequest", 404: "NotFound"}.get(answer.status, "InternalError")
    return ApiError(answer.status, reason, text or f"the kubelet answers {answer.status}")
