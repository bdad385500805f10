"""An API server on 127.0.0.1 with a store in memory, for tests: real TLS, real HTTP, no namespaces."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any

import aiohttp

from mininetes.apiserver.allocators import ServiceRanges
from mininetes.apiserver.client import Client
from mininetes.apiserver.pki import Pki
from mininetes.apiserver.server import ApiServer
from mininetes.apiserver.store import MemoryStore, Store

TOKEN = "secret"
NODE_ADDRESS = "192.168.1.11"
PKI = Pki()  # made once: tests do not depend on whose it is
PODS = "/api/v1/namespaces/default/pods"
MAPS = "/api/v1/namespaces/default/configmaps"
SERVICES = "/api/v1/namespaces/default/services"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


class Log:
    """Keeps errors, so that a test can say there were none."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def info(self, message: str, *, v: int = 0, **values: Any) -> None:
        pass

    def error(self, message: str, **values: Any) -> None:
        self.errors.append(f"{message} {values}")


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Any
    body: Any

    def refused(self, code: int, reason: str) -> str:
        """Check that it is a Status object of a refusal with that code and reason; return its message."""
        assert self.status == code, (self.status, self.body)
        assert self.body["kind"] == "Status"
        assert self.body["status"] == "Failure"
        assert (self.body["code"], self.body["reason"]) == (code, reason), self.body
        return str(self.body["message"])


@dataclass
class Api:
    """A running server, and ways to ask it."""

    server: ApiServer
    store: Store
    port: int
    session: aiohttp.ClientSession
    client: Client
    log: Log
    answers: list[Answer] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def call(
        self, method: str, path: str, body: Any = None, *, content_type: str = "application/json", **headers: str
    ) -> Answer:
        """One request as a client would send it; JSON is decoded. ``body`` may be bytes."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Authorization": f"Bearer {TOKEN}", **{name.replace("_", "-"): text for name, text in headers.items()}}
        if data is not None:
            sent["Content-Type"] = content_type
        async with self.session.request(method, self.url + path, data=data, headers=sent) as response:
            raw = await response.read()
            decoded = json.loads(raw) if "json" in response.headers.get("Content-Type", "") else raw.decode()
            return Answer(response.status, response.headers, decoded)

    async def ok(self, method: str, path: str, body: Any = None, **how: Any) -> Any:
        """A request that must succeed; returns the decoded answer."""
        answer = await self.call(method, path, body, **how)
        assert answer.status < 300, answer.body
        return answer.body

    async def unchanged(self, method: str, path: str, body: Any = None, **how: Any) -> Answer:
        """A request after which the store must be as it was."""
        before = await self.store.revision()
        answer = await self.call(method, path, body, **how)
        assert await self.store.revision() == before, "a refused request wrote"
        return answer

    @asynccontextmanager
    async def watch(self, path: str, *, accept: str = "application/json") -> AsyncIterator[Events]:
        """A watch; its events are read from the result."""
        headers = {"Authorization": f"Bearer {TOKEN}", "Accept": accept}
        async with self.session.get(self.url + path, headers=headers) as response:
            assert response.status == 200, await response.text()
            yield Events(response)


class Events:
    """The events of a watch, one after the other."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def next(self, within_s: float = 5.0) -> tuple[str, dict[str, Any]]:
        """The next event: type and object. Raises TimeoutError, and EOFError at the end."""
        line = await asyncio.wait_for(self._response.content.readline(), within_s)
        if not line:
            raise EOFError
        event = json.loads(line)
        return event["type"], event["object"]

    async def names(self, count: int) -> list[tuple[str, str]]:
        """The next events as (type, name)."""
        events = [await self.next() for _ in range(count)]
        return [(kind, obj["metadata"].get("name", "")) for kind, obj in events]


def listening() -> socket.socket:
    """A socket on a free port of loopback."""
    return socket.create_server(("127.0.0.1", 0), backlog=128)


def new_server(store: Store, *, services: str = "10.96.0.0/16", node_ports: range = range(30000, 32768)) -> ApiServer:
    """A server on that store, not yet started."""
    return ApiServer(
        store,
        network=ServiceRanges(IPv4Network(services), node_ports),
        pki=PKI,
        tokens={TOKEN: "admin"},
        node="node1",
        address=NODE_ADDRESS,
        servers=[NODE_ADDRESS],
        log=Log(),
    )


async def until(
    condition: Callable[[], Awaitable[bool]] | Callable[[], bool], what: str, within_s: float = 5.0
) -> None:
    """Wait for a condition. Raises AssertionError that names it."""
    end = asyncio.get_running_loop().time() + within_s
    while True:
        holds = condition()
        if await holds if asyncio.iscoroutine(holds) else holds:
            return
        assert asyncio.get_running_loop().time() < end, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(0.005)


@asynccontextmanager
async def running(store: Store | None = None, *, port: int = 0, **network: Any) -> AsyncIterator[Api]:
    """A ready server (on a given port: a restarted one), with a session and a client for it."""
    store = store if store is not None else MemoryStore()
    server = new_server(store, **network)
    sock = listening() if not port else socket.create_server(("127.0.0.1", port), backlog=128)
    port = sock.getsockname()[1]
    await server.start([sock])
    connector = aiohttp.TCPConnector(ssl=False, limit=0)
    client = Client([f"https://127.0.0.1:{port}"], token=TOKEN, ca_pem=PKI.ca_pem)
    async with aiohttp.ClientSession(connector=connector) as session:
        api = Api(server, store, port, session, client, server._log)  # type: ignore[arg-type]

        async def ready() -> bool:
            return (await api.call("GET", "/readyz")).status == 200

        try:
            await until(ready, "/readyz")
            yield api
        finally:
            await client.close()
            await server.stop()
    assert not api.log.errors, api.log.errors


def served(test: Callable[[Api], Awaitable[None]]) -> Callable[[], None]:
    """Run an async test against a server of its own."""

    async def with_server() -> None:
        async with running() as api:
            await asyncio.wait_for(test(api), 60)

    def run() -> None:
        asyncio.run(with_server())

    run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
    return run


def pod(name: str = "a", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "x"}], **spec},
    }


def config(name: str = "a", labels: dict[str, str] | None = None, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, **({"labels": labels} if labels else {})},
        "data": data,
    }


def service(name: str = "a", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"ports": [{"port": 80}], "selector": {"app": "x"}, **spec},
    }


def deployment(name: str = "a", replicas: int = 2) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": "x"}]},
            },
        },
    }
