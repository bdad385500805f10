"""Asking a service's address with real connections: which pod answers, and which client it saw."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from mininetes.deadline import within
from mininetes.errors import BadInput
from mininetes.kernel.netns import socket_in
from mininetes.probes.outcomes import Answer

Reply = Literal["answered", "connected", "refused", "unreachable", "nothing", "healthy", "unhealthy"]
"""The responder's line; a connection that stood without one; ECONNREFUSED; another error; silence; HTTP 200 and 503."""

_QUESTION = b"who?\n"
_HEALTH_QUESTION = b"GET /healthz HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n"
_HEALTH: dict[bytes, Reply] = {b"200": "healthy", b"503": "unhealthy"}
_MOST = 4096
_SILENCES = 3


class Asking(NamedTuple):
    """From where, to where, and how often; ``one_by_one``: the next only when the last is over.

    Silence is waited for ``patience`` times as long as the options have it. ``health``: a health check over HTTP in
    place of the responder's question.
    """

    netns: str
    address: str
    port: int
    protocol: str
    times: int
    one_by_one: bool
    patience: float = 1
    health: bool = False


@dataclass(frozen=True, slots=True)
class AskOptions:
    """``per_endpoint``: connections for each endpoint that is expected, each from a port of its own.

    What is expected to be refused or dropped is tried twice. ``timeout_s`` is how long silence is waited for.
    Raises BadInput for what cannot be.
    """

    per_endpoint: int = 20
    timeout_s: float = 1.0
    at_once: int = 48

    def __post_init__(self) -> None:
        if not 10 <= self.per_endpoint <= 1000:
            right = "10 to 1000 for each endpoint: with fewer, one is left out by chance"
            raise BadInput("connections", self.per_endpoint, right)
        if not 0 < self.timeout_s <= 60:
            raise BadInput("timeout", self.timeout_s, "more than 0 and at most 60 seconds")


@dataclass
class Heard:
    """What came back for one asking: replies by kind, and how often each pod (a title) said it saw each client."""

    replies: Counter[str] = field(default_factory=Counter)
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)


async def ask_all(askings: Sequence[Asking], options: AskOptions) -> list[Heard]:
    """Do them side by side; what was heard, in order. Raises OSError when a source's namespace is gone."""
    turn = asyncio.Semaphore(options.at_once)

    async def once(asking: Asking, heard: Heard) -> None:
        async with turn:
            reply, answer = await _ask(asking, options.timeout_s * asking.patience)
        heard.replies[reply] += 1
        if answer is not None:
            heard.seen[answer.pod, answer.client_address] += 1

    async def in_turn(asking: Asking, heard: Heard) -> None:
        for _ in range(asking.times):
            await once(asking, heard)
            if heard.replies["nothing"] >= _SILENCES:
                return  # one after the other, waiting for each would take minutes, and say no more

    heard = [Heard() for _ in askings]
    work = []
    for asking, result in zip(askings, heard, strict=True):
        work += [in_turn(asking, result)] if asking.one_by_one else [once(asking, result) for _ in range(asking.times)]
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    return heard


async def _ask(asking: Asking, timeout_s: float) -> tuple[Reply, Answer | None]:
    kind = socket.SOCK_DGRAM if asking.protocol == "udp" else socket.SOCK_STREAM
    connected = False
    with socket_in(asking.netns, socket.AF_INET, kind) as sock:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            async with within(timeout_s):
                await loop.sock_connect(sock, (asking.address, asking.port))
            connected = kind == socket.SOCK_STREAM
            with contextlib.suppress(PermissionError):
                # the sender's own packet filter has dropped it, or refused it, of which the socket hears next
                await loop.sock_sendall(
                    sock, _HEALTH_QUESTION % asking.address.encode() if asking.health else _QUESTION
                )
            async with within(timeout_s):
                said = await loop.sock_recv(sock, _MOST)
        except ConnectionRefusedError:
            return "refused", None
        except (asyncio.TimeoutError, TimeoutError, PermissionError):
            # EPERM: the sender's own packet filter drops it
            return "connected" if connected else "nothing", None
        except OSError:
            return "connected" if connected else "unreachable", None
    if asking.health:
        return _HEALTH.get(said[len(b"HTTP/1.1 ") :][:3], "connected"), None
    answer = Answer.parse(said)
    return ("answered" if answer is not None else "connected"), answer
