"""A small async client of the API: what agents and the testbed speak to the API servers with.

Its sockets are made in a network namespace of the caller's choice, so a node's agent reaches the
API server over the emulated network.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal

import aiohttp
import orjson

from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.resources import by_name
from mininetes.deadline import within
from mininetes.errors import MininetesError
from mininetes.kernel.netns import in_netns

CALL_S = 10.0
"""How long a call may take, unless it says otherwise."""

CONNECT_S = 3.0
"""How long one server may take to accept a connection before the next one is tried."""

PATCH_TYPES = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}
_DRY = {"dryRun": "All"}
PatchKind = Literal["merge", "strategic", "json", "apply"]

# A cut link gives no sign of its own: idle connections are tried after 5 s, and given up after 15 s of silence.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 2))
_USER_TIMEOUT_MS = 15_000


class Unreachable(MininetesError):
    """No API server answered. ``sent`` says that a server may have got the request, and may have done it."""

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent


class Client:
    """Speaks to the API servers at ``servers`` ("https://192.168.1.11:6443", ...), the last that worked first.

    A server that cannot be reached, and for reads one that says 503, is passed over for the next.
    A write that may have reached a server is not tried again by itself. Every call raises ApiError
    with the server's refusal and Unreachable when nothing answers within its deadline.
    ``resource`` is a name such as "pods" or "deployments.apps"; unknown ones raise BadInput.
    Made anywhere, used in one event loop; `close` ends its connections.
    """

    def __init__(
        self,
        servers: Sequence[str],
        *,
        token: str,
        ca_pem: str,
        netns: str | None = None,
        user_agent: str = "mininetes",
    ) -> None:
        if not servers:
            raise ValueError("a client needs at least one server")
        self.servers = [server.rstrip("/") for server in servers]
        self._token = token
        self._tls = ssl.create_default_context(cadata=ca_pem)
        self._netns = netns
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None
        self._preferred = 0

    async def get(self, resource: str, name: str, namespace: str | None = None) -> dict[str, Any]:
        """Read one object. Raises ApiError 404 when there is none."""
        return await self._object("GET", path_of(resource, namespace, name))

    async def list(
        self,
        resource: str,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        limit: int = 0,
        resource_version: str = "",
        continue_: str = "",
    ) -> dict[str, Any]:
        """Read the List object: at most ``limit`` items (0: all), on from ``continue_`` of the list before.

        Without a namespace: of all namespaces. Raises ApiError 410 for a ``continue_`` that is too old.
        """
        query = _query(labelSelector=labels, fieldSelector=fields, limit=limit or "", resourceVersion=resource_version)
        query |= _query(**{"continue": continue_})
        return await self._object("GET", path_of(resource, namespace), query=query)

    async def create(
        self, resource: str, obj: Mapping[str, Any], namespace: str | None = None, *, dry_run: bool = False
    ) -> dict[str, Any]:
        """Create an object, in the namespace it names when none is given. Raises ApiError 409 when it exists.

        With ``dry_run`` the server does all but keep it.
        """
        where = namespace or obj.get("metadata", {}).get("namespace")
        return await self._object("POST", path_of(resource, where), body=obj, query=_DRY if dry_run else {})

    async def update(self, resource: str, obj: Mapping[str, Any], *, subresource: str = "") -> dict[str, Any]:
        """Write an object that was read (``subresource``: "status"). Raises ApiError 409 when it changed since."""
        metadata = obj["metadata"]
        path = path_of(resource, metadata.get("namespace"), metadata["name"], subresource)
        return await self._object("PUT", path, body=obj)

    async def patch(
        self,
        resource: str,
        name: str,
        patch: Any,
        namespace: str | None = None,
        *,
        kind: PatchKind = "merge",
        subresource: str = "",
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Change part of an object, whatever its version (unless the patch names one)."""
        path = path_of(resource, namespace, name, subresource)
        query = {"fieldManager": self._user_agent} if kind == "apply" else {}
        query |= _DRY if dry_run else {}
        return await self._object("PATCH", path, body=patch, content_type=PATCH_TYPES[kind], query=query)

    async def delete(
        self,
        resource: str,
        name: str,
        namespace: str | None = None,
        *,
        grace_s: int | None = None,
        uid: str | None = None,
    ) -> dict[str, Any]:
        """Delete an object; with ``uid`` only if it is still that one (else ApiError 409)."""
        options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        return await self._object("DELETE", path_of(resource, namespace, name), body=options)

    async def watch(
        self,
        resource: str,
        namespace: str | None = None,
        *,
        resource_version: str,
        labels: str = "",
        fields: str = "",
        timeout_s: int = 300,
        bookmarks: bool = True,
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Yield (type, object) of every change after ``resource_version``: ADDED, MODIFIED, DELETED, BOOKMARK.

        Ends when the server ends it, after about ``timeout_s``. Raises ApiError when the server says
        ERROR (410: too old), Unreachable when the connection breaks.
        """
        query = _query(
            watch="true",
            resourceVersion=resource_version,
            labelSelector=labels,
            fieldSelector=fields,
            timeoutSeconds=timeout_s,
            allowWatchBookmarks="true" if bookmarks else "",
        )
        path = path_of(resource, namespace)
        # The deadline is for the answer's beginning: a watch lasts. The kernel's probes find dead connections.
        response = await self._open("GET", path, query, None, {}, CALL_S)
        try:
            await _refused(response)
            async for line in _lines(response):
                event = orjson.loads(line)
                if event["type"] == "ERROR":
                    raise ApiError.from_status(event["object"])
                yield event["type"], event["object"]
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as failed:
            raise Unreachable(f"the watch of {path} broke: {_why(failed)}", sent=True) from None
        finally:
            response.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        timeout_s: float = CALL_S,
    ) -> Any:
        """Make any request; returns decoded JSON, or text when the answer is no JSON. ``body`` may be bytes."""
        data = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        headers = {} if data is None else {"Content-Type": content_type}
        return await self._call(method, path, query or {}, data, headers, timeout_s)

    async def close(self) -> None:
        """End all connections. May be called twice; a later call opens new ones."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def _object(self, method: str, path: str, **how: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await self.request(method, path, **how)
        return answer

    async def _call(
        self, method: str, path: str, query: Mapping[str, str], data: bytes | None, headers: dict[str, str], s: float
    ) -> Any:
        response = await self._open(method, path, query, data, headers, s)
        try:
            async with response:
                await _refused(response)
                raw = await response.read()
                return orjson.loads(raw) if response.content_type == "application/json" else raw.decode()
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as failed:
            raise Unreachable(f"{method} {path}: {_why(failed)}", sent=True) from None

    async def _open(
        self, method: str, path: str, query: Mapping[str, str], data: bytes | None, headers: dict[str, str], s: float
    ) -> aiohttp.ClientResponse:
        """Send a request to the first server that takes it, and return its answer's beginning.

        Reads are given an equal part of the time at each server; a write may use all of it at one.
        """
        deadline = asyncio.get_running_loop().time() + s
        failures: list[str] = []
        sent = False
        for left in range(len(self.servers), 0, -1):
            number = self._preferred
            server = self.servers[number]
            within_s = deadline - asyncio.get_running_loop().time()
            try:
                if method == "GET":
                    within_s /= left
                response = await self._send(method, server + path, query, data, headers, within_s)
                if response.status != 503 or method != "GET" or left == 1:
                    return response
                failures.append(f"{server}: {(await _status(response)).message}")
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as failed:
                failures.append(f"{server}: {_why(failed)}")
            except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as failed:
                failures.append(f"{server}: {_why(failed)}")
                sent = True
            self._preferred = (number + 1) % len(self.servers)
            if sent and method != "GET":
                break
        raise Unreachable(f"no API server answers {method} {path}: {'; '.join(failures)}", sent=sent)

    async def _send(
        self, method: str, url: str, query: Mapping[str, str], data: bytes | None, headers: dict[str, str], s: float
    ) -> aiohttp.ClientResponse:
        watch = "watch" in query
        timeout = aiohttp.ClientTimeout(total=None if watch else s, connect=min(CONNECT_S, s))
        async with within(s if watch else None):
            return await self._opened().request(method, url, params=query, data=data, headers=headers, timeout=timeout)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                ssl=self._tls, limit=0, family=socket.AF_INET, socket_factory=self._socket, keepalive_timeout=60
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers={
                    "Authorization": f"Bearer {self._token}",
                    "User-Agent": self._user_agent,
                    "Accept": "application/json",
                },
                auto_decompress=False,
                skip_auto_headers=("Accept-Encoding",),
            )
        return self._session

    def _socket(self, address: tuple[Any, ...]) -> socket.socket:
        with in_netns(self._netns) if self._netns is not None else contextlib.nullcontext():
            sock = socket.socket(address[0], address[1], address[2])
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
        return sock


def path_of(resource: str, namespace: str | None = None, name: str = "", subresource: str = "") -> str:
    """The path of a resource's objects, or of one. Raises BadInput for a name that no kind has."""
    return by_name(resource).path(namespace, name, subresource)


def _query(**values: Any) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value != ""}


def _why(failed: BaseException) -> str:
    return str(failed) or type(failed).__name__


async def _status(response: aiohttp.ClientResponse) -> ApiError:
    """The refusal that a response carries."""
    raw = await response.read()
    try:
        said = orjson.loads(raw)
    except orjson.JSONDecodeError:
        said = {"message": raw.decode(errors="replace")[:500], "code": response.status}
    return ApiError.from_status(said)


async def _refused(response: aiohttp.ClientResponse) -> None:
    if response.status >= 400:
        raise await _status(response)


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The body's lines, of any length (aiohttp's own readline has a limit)."""
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line
