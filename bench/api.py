"""The API server under load: reads and writes a second with 50 watchers, and how soon a change reaches 100 watchers.

this process: server, in memory, TLS on 127.0.0.1  <----  another process: clients and watchers
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import socket
import ssl
import statistics
import time
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Network
from multiprocessing.connection import Connection
from typing import Any

from mininetes.apiserver.allocators import ServiceRanges
from mininetes.apiserver.pki import Pki
from mininetes.apiserver.server import ApiServer
from mininetes.apiserver.store import MemoryStore

READS_PER_S = 2000
WRITES_PER_S = 500
REACH_MS = 50.0
WATCHERS = 50
REACHED = 100
CONNECTIONS = 16
TOKEN = "bench"  # noqa: S105 - of a server that lives for seconds
PODS = "/api/v1/namespaces/default/pods"


class Quiet:
    """A log that nobody reads."""

    def info(self, message: str, *, v: int = 0, **values: Any) -> None:
        """Nothing."""

    def error(self, message: str, **values: Any) -> None:
        """An error of the server ends the bench."""
        raise SystemExit(f"api: {message} {values}")


def pod(name: str) -> dict[str, Any]:
    """A pod as a deployment makes it, about 1 kB when stored."""
    container = {"name": "c", "image": "mininetes/responder", "ports": [{"containerPort": 80}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "bench", "pod-template-hash": "abc"}},
        "spec": {"containers": [container], "nodeName": "node1"},
    }


class Connection1:
    """One HTTP/1.1 connection, as lean as can be: the load must not cost more than the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int, ca_pem: str) -> Connection1:
        """Connect to the server on 127.0.0.1."""
        context = ssl.create_default_context(cadata=ca_pem)
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=context, limit=1 << 22))

    def send(self, method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> None:
        """Send a request."""
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        if body:
            head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        self._writer.write(head.encode() + b"\r\n" + body)

    async def head(self) -> tuple[int, int]:
        """Read an answer's head: status and length."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = head.lower().find(b"content-length:")
        size = int(head[length + 15 : head.index(b"\r\n", length)]) if length >= 0 else 0
        return int(head[9:12]), size

    async def call(self, method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> bytes:
        """One request and its answer. Raises RuntimeError for a refusal."""
        self.send(method, path, body, content_type)
        status, size = await self.head()
        answer = await self._reader.readexactly(size)
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {answer[:300]!r}")
        return answer

    async def lines(self, count: Callable[[bytes], None]) -> None:
        """Hand over what comes on a watch, as it comes, until the connection ends."""
        while data := await self._reader.read(1 << 18):
            count(data)


class Watcher:
    """Counts the events that one watch delivers, and notes when the last came."""

    def __init__(self) -> None:
        self.events = 0
        self.last = 0.0

    def __call__(self, data: bytes) -> None:
        """Take in a piece of the stream."""
        self.events += data.count(b'{"type":"')
        self.last = time.perf_counter()


class Load:
    """The clients' side of the bench."""

    def __init__(self, port: int, ca_pem: str) -> None:
        self._port = port
        self._ca = ca_pem
        self._tasks: list[asyncio.Task[None]] = []

    async def watch(self, count: int) -> list[Watcher]:
        """Begin watches of all pods from now on; returns when all have begun."""
        watchers = []
        first = await Connection1.open(self._port, self._ca)
        version = json.loads(await first.call("GET", PODS + "?limit=1"))["metadata"]["resourceVersion"]
        for _ in range(count):
            connection = await Connection1.open(self._port, self._ca)
            connection.send("GET", f"/api/v1/pods?watch=true&resourceVersion={version}&timeoutSeconds=600")
            await connection.head()
            watchers.append(Watcher())
            self._tasks.append(asyncio.create_task(connection.lines(watchers[-1])))
        return watchers

    def stop_watching(self) -> None:
        """End all watches."""
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    async def rate(self, seconds: float, one: Callable[[Connection1, int], Awaitable[object]]) -> float:
        """How often a second ``one`` can be done over 16 connections."""
        connections = [await Connection1.open(self._port, self._ca) for _ in range(CONNECTIONS)]
        started = time.perf_counter()
        done = 0

        async def work(connection: Connection1) -> None:
            nonlocal done
            while time.perf_counter() - started < seconds:
                number, done = done, done + 1
                await one(connection, number)

        await asyncio.gather(*(work(connection) for connection in connections))
        return done / (time.perf_counter() - started)


async def settled(watchers: list[Watcher], expected: int, within_s: float = 10.0) -> None:
    """Wait until every watcher has seen that many events. Raises RuntimeError that says what is missing."""
    end = time.perf_counter() + within_s
    while any(watcher.events < expected for watcher in watchers):
        if time.perf_counter() > end:
            raise RuntimeError(f"watchers saw {sorted({w.events for w in watchers})} of {expected} events")
        await asyncio.sleep(0.002)


async def measure(port: int, ca_pem: str, seconds: float) -> dict[str, float]:
    """All three figures."""
    load = Load(port, ca_pem)
    setup = await Connection1.open(port, ca_pem)
    for number in range(100):
        await setup.call("POST", PODS, json.dumps(pod(f"read-{number}")).encode())
    watchers = await load.watch(WATCHERS)
    reads = await load.rate(seconds, lambda c, n: c.call("GET", f"{PODS}/read-{n % 100}"))
    created = 0

    async def write(connection: Connection1, number: int) -> None:
        nonlocal created
        # As in a cluster: of three writes one creates, two change a pod that is there.
        if number % 3 == 0:
            await connection.call("POST", PODS, json.dumps(pod(f"write-{number}")).encode())
        else:
            body = json.dumps({"status": {"message": str(number)}}).encode()
            path = f"{PODS}/read-{number % 100}/status"
            await connection.call("PATCH", path, body, "application/merge-patch+json")
        created += 1

    writes = await load.rate(seconds, write)
    await settled(watchers, created)
    load.stop_watching()
    watchers = await load.watch(REACHED)
    delays: list[float] = []
    for number in range(100):
        body = json.dumps({"status": {"message": f"reach {number}"}}).encode()
        started = time.perf_counter()
        await setup.call("PATCH", f"{PODS}/read-0/status", body, "application/merge-patch+json")
        await settled(watchers, number + 1)
        delays.append((max(watcher.last for watcher in watchers) - started) * 1000)
    load.stop_watching()
    delays.sort()
    return {
        "reads_per_s": round(reads),
        "writes_per_s": round(writes),
        "reach_ms_median": round(statistics.median(delays), 2),
        "reach_ms_p99": round(delays[-2], 2),
    }


def clients(pipe: Connection, port: int, ca_pem: str, seconds: float) -> None:
    """The other process: measure, and send the result, or what went wrong, down the pipe."""
    try:
        pipe.send(asyncio.run(measure(port, ca_pem, seconds)))
    except (OSError, RuntimeError, asyncio.IncompleteReadError) as failed:
        pipe.send(f"{type(failed).__name__}: {failed}")


async def serve(seconds: float) -> dict[str, float]:
    """Run the server here and the clients in another process; return what they measured."""
    pki = Pki()
    sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port = sock.getsockname()[1]
    server = ApiServer(
        MemoryStore(),
        network=ServiceRanges(IPv4Network("10.96.0.0/12"), range(30000, 32768)),
        pki=pki,
        tokens={TOKEN: "admin"},
        node="node1",
        address="192.168.1.11",
        servers=["192.168.1.11"],
        log=Quiet(),
    )
    await server.start([sock])
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=clients, args=(there, port, pki.ca_pem, seconds))
    process.start()
    try:
        result = await asyncio.get_running_loop().run_in_executor(None, here.recv)
    finally:
        process.join()
        await server.stop()
    if isinstance(result, str):
        raise SystemExit(f"api: {result}")
    return dict(result)


def main() -> int:
    """Measure, print, and return 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="for reads and for writes each")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    options = parser.parse_args()
    result = asyncio.run(serve(options.seconds))
    goals = {
        "reads_per_s": result["reads_per_s"] >= READS_PER_S,
        "writes_per_s": result["writes_per_s"] >= WRITES_PER_S,
        "reach_ms_p99": result["reach_ms_p99"] <= REACH_MS,
    }
    if options.output == "json":
        print(json.dumps(result | {"holds": all(goals.values())}))
    else:
        verdict = {name: "holds" if holds else "MISSED" for name, holds in goals.items()}
        print(f"API server in memory over TLS, {WATCHERS} watchers of all pods, {CONNECTIONS} connections")
        print(f"  reads    {result['reads_per_s']:7.0f} /s   goal {READS_PER_S}: {verdict['reads_per_s']}")
        print(f"  writes   {result['writes_per_s']:7.0f} /s   goal {WRITES_PER_S}: {verdict['writes_per_s']}")
        print(
            f"  a change at {REACHED} watchers   median {result['reach_ms_median']:.1f} ms, "
            f"p99 {result['reach_ms_p99']:.1f} ms   goal {REACH_MS:g}: {verdict['reach_ms_p99']}"
        )
    return 0 if all(goals.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
