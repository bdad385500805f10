"""Request/response traffic: small messages to and fro, over one connection or over a new one each time.

Run as a program of its own, once as server and once as client, in network namespaces that it is started in;
it needs nothing but Python's own library, so that it starts in a moment.

    loads_pingpong.py server --port N [--cpu N]                  says "ready" when it listens; ends with its stdin
    loads_pingpong.py client --address A --port N --kind rr|crr --seconds S [--bytes N] [--most N] [--cpu N]

The server sends back what it got. With ``crr`` it closes the connection after its answer and the client waits for
that, so that the server's side keeps the TIME_WAIT and the client never runs out of ports. The client prints one
JSON object: transactions, seconds, and percentiles of the transactions' times in microseconds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import socket
import sys
import time
from collections.abc import Callable

WARM_UP = 20
"""Transactions that do not count: the first packets of a path meet cold caches, and no neighbour entries."""

FEWEST = 100
"""Transactions, even when the time is up, unless the network stands still: fewer have no percentiles."""

PATIENCE_S = 5.0
_BACKLOG = 64


def _pin(cpu: int | None) -> None:
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})


def serve(port: int) -> None:
    """Answer one connection after the other until standard input ends."""
    with socket.create_server(("", port), backlog=_BACKLOG) as listener:
        print("ready", flush=True)
        while True:
            readable, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in readable:
                return
            connection, _ = listener.accept()
            with connection, contextlib.suppress(ConnectionError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _answer(connection)


def _answer(connection: socket.socket) -> None:
    """Send back what comes: ``R`` begins messages of a connection that stays, ``C`` the only one of another."""
    while data := connection.recv(1 << 16):
        connection.sendall(data)
        if data[:1] == b"C":
            return


def _receive(connection: socket.socket, size: int) -> None:
    while size:
        got = len(connection.recv(size))
        if not got:
            raise ConnectionResetError("the server closed the connection")
        size -= got


def _connected(address: str, port: int) -> socket.socket:
    connection = socket.create_connection((address, port), PATIENCE_S)
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, int(PATIENCE_S).to_bytes(8, sys.byteorder) + bytes(8))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def request_response(address: str, port: int, size: int) -> tuple[Callable[[], None], socket.socket]:
    """One transaction over a connection that stays, and that connection."""
    connection = _connected(address, port)
    message = b"R" * size

    def transact() -> None:
        connection.send(message)
        _receive(connection, size)

    return transact, connection


def connect_request_response(address: str, port: int, size: int) -> Callable[[], None]:
    """One transaction that opens a connection of its own, and waits until the server has closed it."""
    message = b"C" * size

    def transact() -> None:
        with _connected(address, port) as connection:
            connection.send(message)
            _receive(connection, size)
            connection.recv(1)

    return transact


def timed(transact: Callable[[], None], seconds: float, most: int) -> tuple[list[int], float]:
    """How long each transaction took in nanoseconds, and all of them together in seconds."""
    for _ in range(min(WARM_UP, most)):
        transact()
    clock = time.perf_counter_ns
    times: list[int] = []
    begin = before = clock()
    end = begin + int(seconds * 1e9)
    last = end + int(PATIENCE_S * 1e9)
    fewest = min(FEWEST, most)
    while (before < end or len(times) < fewest) and before < last and len(times) < most:
        transact()
        now = clock()
        times.append(now - before)
        before = now
    return times, (before - begin) / 1e9


def summary(times: list[int], seconds: float) -> dict[str, object]:
    """What the client prints."""
    ordered = sorted(times)
    percentiles = {f"p{q}": ordered[min(len(ordered) * q // 100, len(ordered) - 1)] / 1000 for q in (50, 90, 99)}
    return {"transactions": len(times), "seconds": seconds, "us": percentiles}


def _client(arguments: argparse.Namespace) -> None:
    if arguments.kind == "crr":
        transact = connect_request_response(arguments.address, arguments.port, arguments.bytes)
        print(json.dumps(summary(*timed(transact, arguments.seconds, arguments.most))))
        return
    transact, connection = request_response(arguments.address, arguments.port, arguments.bytes)
    with connection:
        print(json.dumps(summary(*timed(transact, arguments.seconds, arguments.most))))


def main() -> None:
    """Serve, or be a client, as the arguments say; status 1 with one line on stderr when the network fails."""
    parser = argparse.ArgumentParser(prog="loads_pingpong.py")
    roles = parser.add_subparsers(dest="role", required=True)
    server, client = roles.add_parser("server"), roles.add_parser("client")
    for each in (server, client):
        each.add_argument("--port", type=int, required=True)
        each.add_argument("--cpu", type=int)
    client.add_argument("--address", required=True)
    client.add_argument("--kind", choices=["rr", "crr"], required=True)
    client.add_argument("--seconds", type=float, required=True)
    client.add_argument("--bytes", type=int, default=1)
    client.add_argument("--most", type=int, default=1_000_000)
    arguments = parser.parse_args()
    _pin(arguments.cpu)
    try:
        if arguments.role == "server":
            serve(arguments.port)
        else:
            _client(arguments)
    except BlockingIOError:
        sys.exit(f"{arguments.role}: no answer within {PATIENCE_S:g} s")
    except OSError as failed:
        sys.exit(f"{arguments.role}: {failed.strerror or failed}")


if __name__ == "__main__":
    main()
