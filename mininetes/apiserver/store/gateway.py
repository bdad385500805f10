"""A client for the JSON gateway of etcd 3.4 and newer: one request at a time, several members, deadlines.

Field names and paths are those of etcd's rpc.proto as its gateway maps them to JSON: bytes as
base64, 64-bit numbers as text, zero values left out.
"""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import aiohttp
import orjson

from mininetes.apiserver.store.interface import StoreError, StoreUnavailable
from mininetes.deadline import within
from mininetes.kernel.netns import in_netns

Answer = dict[str, Any]
Connect = Callable[[], aiohttp.BaseConnector]

_REQUIRE_LEADER = {"Grpc-Metadata-Hasleader": "true"}
"""A member without a leader then refuses at once, rather than let the request wait."""

_CONNECT_S = 1.0
_PAUSE_S = 0.1
_AT_ONCE = 32
"""Requests under way at a time: the others wait here, where no attempt's time runs yet."""

_OUT_OF_RANGE = 11
_FINAL = (3, 8, _OUT_OF_RANGE)
"""gRPC codes of refusals that stay: a wrong request, too large a one or no space, a compacted or future revision."""

_NOT_DONE = ("etcdserver: no leader", "etcdserver: not capable", "etcdserver: too many requests")


def connector_in(netns: str | None) -> Connect:
    """Make connectors whose sockets live in the network namespace at ``netns`` (None: the caller's)."""

    def make_socket(address: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol = address[:3]
        if netns is None:
            return socket.socket(family, kind, protocol)
        with in_netns(netns):
            return socket.socket(family, kind, protocol)

    return lambda: aiohttp.TCPConnector(socket_factory=make_socket, limit=0, use_dns_cache=False)


class Refused(StoreError):
    """etcd answered with an error of its own."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"etcd: {message}")
        self.code = code
        self.message = message

    @property
    def compacted(self) -> bool:
        """The revision asked for has been compacted."""
        return self.code == _OUT_OF_RANGE and "compacted" in self.message

    @property
    def future(self) -> bool:
        """The revision asked for is yet to come."""
        return self.code == _OUT_OF_RANGE and "future" in self.message


class Ambiguous(StoreUnavailable):
    """No answer, although a request may have reached etcd: it may have been done, or be done yet."""


class Gateway:
    """Requests to whichever member answers, the last one that did first.

    ``deadline_s`` bounds a whole request, over all members and attempts.
    """

    def __init__(self, endpoints: Sequence[str], connect: Connect, *, deadline_s: float) -> None:
        if not endpoints:
            raise ValueError("etcd needs at least one endpoint")
        self._endpoints = [each.rstrip("/") for each in endpoints]
        self._connect = connect
        self.deadline_s = deadline_s
        self._attempt_s = max(deadline_s / (len(endpoints) + 1), _CONNECT_S)
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._session: aiohttp.ClientSession | None = None

    @property
    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=self._connect(), headers=_REQUIRE_LEADER, json_serialize=_dumps, trust_env=False
            )
        return self._session

    async def close(self) -> None:
        """Close all connections. May be called twice."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def demote(self, endpoint: str) -> None:
        """Try this member last from now on."""
        if len(self._endpoints) > 1 and self._endpoints[0] == endpoint:
            self._endpoints.append(self._endpoints.pop(0))

    @property
    def preferred(self) -> str:
        """The member that the next request goes to."""
        return self._endpoints[0]

    def deadline(self) -> float:
        """When a request that begins now has to be done, on the loop's clock."""
        return asyncio.get_running_loop().time() + self.deadline_s

    async def call(
        self, path: str, body: Answer, *, repeatable: bool, until: float | None = None
    ) -> tuple[Answer, bool]:
        """POST and return the answer, and whether an earlier attempt may have been done too.

        ``until`` is the deadline of something greater that this request is part of.

        A request that certainly was not done is sent again, to the next member, until the deadline;
        one that may have been done only if ``repeatable``, else Ambiguous is raised at once. Raises
        StoreUnavailable at the deadline (Ambiguous when an attempt may have been done), and
        Refused when etcd answers that the request itself is wrong.
        """
        loop = asyncio.get_running_loop()
        end = self.deadline() if until is None else until
        ambiguous = False
        last = StoreUnavailable("no time was left")
        tried = 0
        while (left := end - loop.time()) > 0:
            try:
                async with within(left):
                    await self._turns.acquire()
            except asyncio.TimeoutError:
                break
            endpoint = self._endpoints[0]
            try:
                return await self._attempt(endpoint, path, body, min(left, self._attempt_s)), ambiguous
            except StoreUnavailable as failed:
                last = failed
            finally:
                self._turns.release()
            self.demote(endpoint)
            ambiguous = ambiguous or isinstance(last, Ambiguous)
            if ambiguous and not repeatable:
                raise last
            tried += 1
            if tried % len(self._endpoints) == 0:
                await asyncio.sleep(min(_PAUSE_S, max(end - loop.time(), 0)))
        kind = Ambiguous if ambiguous else StoreUnavailable
        raise kind(f"etcd ({', '.join(sorted(self._endpoints))}): no answer in {self.deadline_s:g} s; last: {last}")

    async def _attempt(self, endpoint: str, path: str, body: Answer, timeout_s: float) -> Answer:
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(timeout_s, _CONNECT_S))
        try:
            async with self._http.post(endpoint + path, json=body, timeout=timeout) as response:
                content = await response.read()
                status = response.status
        except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as unreachable:
            raise StoreUnavailable(f"{endpoint}: {_said(unreachable)}") from None
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as broken:
            raise Ambiguous(f"{endpoint}: {_said(broken)}") from None
        try:
            answer: Answer = orjson.loads(content)
        except orjson.JSONDecodeError:
            raise Ambiguous(f"{endpoint}: not JSON: {content[:100]!r}") from None
        if status != 200:
            self._refuse(endpoint, answer)
        return answer

    def _refuse(self, endpoint: str, answer: Answer) -> None:
        code, message = int(answer.get("code", 0)), str(answer.get("message") or answer.get("error", ""))
        if message.startswith(_NOT_DONE):
            raise StoreUnavailable(f"{endpoint}: {message}")
        if code in _FINAL:
            raise Refused(code, message)
        raise Ambiguous(f"{endpoint}: {message or answer}")

    async def watch(self, body: Answer) -> AsyncGenerator[Answer, None]:
        """One watch stream: its answers until it breaks (StoreUnavailable). It begins within the deadline."""
        endpoint = self._endpoints[0]
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
        try:
            request = self._http.post(f"{endpoint}/v3/watch", json=body, timeout=timeout)
            async with within(self.deadline_s):
                response = await request
            try:
                rest: list[bytes] = []
                async for chunk in response.content.iter_any():
                    first, *others = chunk.split(b"\n")
                    rest.append(first)
                    for other in others:
                        yield self._streamed(endpoint, b"".join(rest))
                        rest = [other]
            finally:
                response.close()
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as broken:
            self.demote(endpoint)
            raise StoreUnavailable(f"{endpoint}: watch: {_said(broken)}") from None
        self.demote(endpoint)
        raise StoreUnavailable(f"{endpoint}: the watch ended")

    def _streamed(self, endpoint: str, line: bytes) -> Answer:
        try:
            result: Answer = orjson.loads(line)["result"]
        except (orjson.JSONDecodeError, KeyError):
            self.demote(endpoint)
            raise StoreUnavailable(f"{endpoint}: watch: {line[:200]!r}") from None
        return result


def to_base64(text: str | bytes) -> str:
    """Bytes as the gateway takes them."""
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode("ascii")


def from_base64(text: str) -> bytes:
    """Bytes as the gateway gives them."""
    return base64.b64decode(text)


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
