"""Streams of exec from client to command and back: both servers are real, in this process, and so are the commands.

client <--WebSocket--> API server <--WebSocket--> exec_stream <--pipes--> sh
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import WSCloseCode, WSMsgType, web

from mininetes.agents.kubelet import exec_stream
from mininetes.agents.kubelet.exec_stream import ExecOptions, window_size
from mininetes.apiserver.kubelets import Kubelets
from tests.unit import running_api
from tests.unit.running_api import PKI, PODS, TOKEN, Api, listening, pod, running, until

ZEROS = bytes([exec_stream.STDIN]) + bytes(1 << 17)
FAST = 100
"""How many times faster patience ends than it really does."""


class Command:
    """A command on the descriptors of a stream, in place of one in a pod: see `Execution`."""

    all: list[Command]

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.all.append(self)

    @classmethod
    async def start(
        cls, _: Any, __: Any, argv: Sequence[str], stdio: tuple[int, int, int], *, terminal: bool = False
    ) -> Command:
        stdin, stdout, stderr = stdio
        return cls(await asyncio.create_subprocess_exec(*argv, stdin=stdin, stdout=stdout, stderr=stderr))

    async def status(self) -> int:
        return await self.process.wait()

    async def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    def has_ended(self) -> bool:
        return self.process.returncode is not None


class Hurried(web.WebSocketResponse):
    """A WebSocket that has less patience with its client."""

    def __init__(self, *, timeout: float = 10.0, heartbeat: float | None = None, **named: Any) -> None:
        heartbeat = heartbeat / FAST if heartbeat is not None else None
        super().__init__(timeout=timeout / FAST, heartbeat=heartbeat, **named)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    Command.all = []
    monkeypatch.setattr(exec_stream, "Execution", Command)
    monkeypatch.setattr(exec_stream, "BEAT_S", 0.05)
    monkeypatch.setattr(web, "WebSocketResponse", Hurried)
    monkeypatch.setattr("asyncio.constants.SSL_SHUTDOWN_TIMEOUT", 30.0 / FAST, raising=False)


CONNECTIONS: list[Any] = []


async def _serve(request: web.Request) -> web.StreamResponse:
    CONNECTIONS.append(request)
    return await exec_stream.serve(request, None, None, ExecOptions.of(request.query.getall("command"), request.query))  # type: ignore[arg-type]


@asynccontextmanager
async def node() -> AsyncIterator[Api]:
    """An API server whose node "n1" has a pod "p"."""
    app = web.Application()
    app.router.add_route("*", "/exec/{ns}/{pod}/{container}", _serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    sock = running_api.listening()
    await web.SockSite(runner, sock, ssl_context=PKI.issue_kubelet("n1", "127.0.0.1").server_context()).start()
    try:
        async with running() as api:
            port = sock.getsockname()[1]
            api.server._kubelets = Kubelets(api.server.registry, ca_pem=PKI.ca_pem, token="k", netns=None, port=port)
            of_node: dict[str, Any] = {"metadata": {"name": "n1"}}
            of_node["status"] = {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]}
            await api.ok("POST", "/api/v1/nodes", of_node)
            await api.ok("POST", PODS, pod("p", nodeName="n1"))
            yield api
    finally:
        await runner.cleanup()


def on_node(test: Callable[[Api], Any]) -> Callable[[], None]:
    async def scenario() -> None:
        async with node() as api:
            await asyncio.wait_for(test(api), 30)

    def run() -> None:
        asyncio.run(scenario())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@asynccontextmanager
async def execution(api: Api, script: str, *, stdin: bool = False) -> AsyncIterator[Any]:
    """A client's end of a stream."""
    query = [("command", word) for word in ("sh", "-c", script)] + [("stdout", "true")]
    query += [("stdin", "true")] if stdin else []
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False), headers=headers) as session:
        url = f"{api.url}{PODS}/p/exec"
        client = await session.ws_connect(url, params=query, protocols=["v5.channel.k8s.io"])
        assert await client.receive_bytes() == b"\x01"
        try:
            yield client
        finally:
            vanish(client)


def vanish(client: Any) -> None:
    """Be gone as a process that is killed: only the kernel says so, after what was sent before."""
    if client._conn is not None and client._conn.transport is not None:
        client._conn.transport.abort()


async def heard(client: Any) -> tuple[bytes, list[dict[str, Any]], int | None]:
    """All that comes: output, outcomes, and the code at the end."""
    said, outcomes = [], []
    async for message in client:
        if message.data[0] == exec_stream.OUTCOME:
            outcomes.append(json.loads(message.data[1:]))
        else:
            said.append(message.data[1:])
    return b"".join(said), outcomes, client.close_code


async def fill(client: Any) -> None:
    """Send until nothing goes any more."""
    with contextlib.suppress(asyncio.TimeoutError):
        while True:
            await asyncio.wait_for(client.send_bytes(ZEROS), 0.5)


SUCCESS = {"metadata": {}, "status": "Success"}


@on_node
async def test_a_client_that_pauses_loses_nothing(api: Api) -> None:
    async with execution(api, "head -c 30000000 /dev/zero") as client:
        await asyncio.sleep(1.5)
        said, outcomes, code = await heard(client)
    assert (len(said), outcomes, code) == (30_000_000, [SUCCESS], WSCloseCode.OK)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernel keep little of what is on its way, so that the servers have to."""

    def listening_narrowly() -> socket.socket:
        return narrowed(listening())

    def dialling_narrowly(_: Any, address: tuple[Any, ...]) -> socket.socket:
        return narrowed(socket.socket(*address[:3]))

    def narrowed(sock: socket.socket) -> socket.socket:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        return sock

    monkeypatch.setattr(running_api, "listening", listening_narrowly)
    monkeypatch.setattr(Kubelets, "_socket", dialling_narrowly)


@pytest.mark.usefixtures("narrow")
def test_a_client_that_pauses_after_the_commands_end_loses_nothing() -> None:
    async def pauses(api: Api, size: int) -> None:
        async with execution(api, f"head -c {size} /dev/zero") as client:
            await asyncio.sleep(1.5)
            said, outcomes, code = await heard(client)
        assert (len(said), outcomes, code) == (size, [SUCCESS], WSCloseCode.OK)

    @on_node
    async def all_pause(api: Api) -> None:
        # which of them has its last words in the buffers of which server depends on the sizes of many
        await asyncio.gather(*(pauses(api, size) for size in range(100_000, 1_000_000, 30_000)))

    all_pause()


@on_node
async def test_a_command_that_does_not_read_for_a_while_loses_nothing(api: Api) -> None:
    async with execution(api, "sleep 1.5; wc -c", stdin=True) as client:
        for _ in range(100):
            await client.send_bytes(ZEROS)
        await client.send_bytes(bytes([exec_stream.CLOSE, exec_stream.STDIN]))
        assert await heard(client) == (b"%d\n" % (100 << 17), [SUCCESS], WSCloseCode.OK)


@on_node
async def test_a_client_that_is_held_back_hears_that_somebody_is_there(api: Api) -> None:
    # kubectl gives up after 61 s without a pong; those that it asks for come after what it has sent
    async with execution(api, "sleep 60", stdin=True) as client:
        client._autoping = False
        await fill(client)
        for _ in range(2):
            assert (await client.receive(timeout=3)).type is WSMsgType.PONG


@on_node
async def test_a_command_ends_whose_client_is_held_back_and_goes(api: Api) -> None:
    async with execution(api, "sleep 60", stdin=True) as client:
        await fill(client)
        assert not Command.all[0].has_ended()
    await until(Command.all[0].has_ended, "the command is killed")


@on_node
async def test_a_command_ends_whose_client_reads_nothing_and_goes(api: Api) -> None:
    async with execution(api, "exec cat /dev/zero"):
        await asyncio.sleep(0.5)
    await until(Command.all[0].has_ended, "the command is killed")


@pytest.mark.parametrize("kind", ["idle", "held back", "reads nothing"])
def test_streams_end_when_the_api_server_stops(kind: str) -> None:
    @on_node
    async def stops(api: Api) -> None:
        script = "exec cat /dev/zero" if kind == "reads nothing" else "sleep 60"
        async with execution(api, script, stdin=True) as client:
            await (fill(client) if kind == "held back" else asyncio.sleep(0.3))
            reading = asyncio.create_task(heard(client)) if kind != "reads nothing" else None
            began = time.monotonic()
            await api.server.stop()
            assert time.monotonic() - began < 3
            await until(Command.all[0].has_ended, "the command is killed", 2)
            if reading is not None:
                assert await asyncio.wait_for(reading, 3) == (b"", [], WSCloseCode.GOING_AWAY)

    stops()


@on_node
async def test_a_connection_to_the_kubelet_that_is_lost_is_no_success(api: Api) -> None:
    async with execution(api, "sleep 60") as client:
        CONNECTIONS[-1].transport.abort()
        _, outcomes, code = await asyncio.wait_for(heard(client), 3)
    assert (outcomes, code) == ([], WSCloseCode.INTERNAL_ERROR)


@on_node
async def test_both_ends_find_that_the_other_is_cut_off(api: Api) -> None:
    async with execution(api, "sleep 60"):
        ends = [CONNECTIONS[-1].transport.get_extra_info("socket"), api.server._kubelets._socket((2, 1, 6))]
        for end in ends:
            assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 5
        ends[1].close()


@pytest.mark.parametrize(
    ("message", "size"),
    [
        (b'{"Width": 91, "Height": 33}', (33, 91)),
        (b'{"Width": 65535, "Height": 0}', (0, 65535)),
        (b'{"Width": 65536, "Height": 33}', None),
        (b'{"Width": 91, "Height": -1}', None),
        (b'{"Width": 91, "Height": 1e400}', None),
        (b'{"Width": 91, "Height": 33.5}', None),
        (b'{"Width": 91, "Height": true}', None),
        (b'{"Width": 91, "Height": "33"}', None),
        (b'{"Width": 91, "Height": null}', None),
        (b'{"Width": 91}', None),
        (b"[]", None),
        (b"7", None),
        (b"", None),
        (b"\xff\xfe", None),
        (b"[" * 100_000, None),
        (b'{"Width": 91, "Height": ' + b"9" * 10_000 + b"}", None),
    ],
)
def test_what_is_a_size(message: bytes, size: tuple[int, int] | None) -> None:
    assert window_size(message) == size
