"""Several paths of one lab under the same loads, turn by turn, so that what else goes on meets all of them alike."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mininetes.errors import BadInput, one_of
from mininetes.experiments import loads
from mininetes.experiments.lab import Lab
from mininetes.experiments.results import Measurement
from mininetes.probes.vantage import Vantage

MOST_ROUNDS = 1000

TIMES = 3
"""Request/response is loaded so many times in each round: short loads far apart say more than one long one."""


@dataclass(frozen=True)
class Path:
    """From where to where. ``address``: where the client connects when that is not the server's own, as with a service.

    ``streams`` says whether it carries streams too, or messages alone.
    """

    labels: Mapping[str, Any]
    source: Vantage
    server: Vantage
    address: str = ""
    streams: bool = True

    def at(self, port: int) -> tuple[str, int]:
        """Where a client connects."""
        return self.address or self.server.address, port


@dataclass(frozen=True)
class Turns:
    """How long each path is loaded: ``rounds`` times a stream of ``stream_s`` (0: none), and messages.

    Messages are `TIMES` loads of request/response in each round and one of connect/request/response, each of
    ``messages_s``. Raises BadInput for what cannot be.
    """

    rounds: int
    stream_s: int
    messages_s: float

    def __post_init__(self) -> None:
        if not 1 <= self.rounds <= MOST_ROUNDS:
            raise BadInput("rounds", self.rounds, f"1 to {MOST_ROUNDS}")
        if self.stream_s:
            loads.check_stream(self.stream_s)
        loads.check_messages(self.messages_s)


def place(lab: Lab, name: str) -> Vantage:
    """A place of the lab by its name: ``node1``, ``pod/node1-1``. Raises BadInput when there is none."""
    found = {each.name: each for each in lab.testbed.vantages()}
    if name not in found:
        raise BadInput("place", name, one_of(found, name))
    return found[name]


def loopback(path: Path) -> Path:
    """The same client and server in the source's own namespace: what they cost without a network."""
    address, _ = loads.LOOPBACK
    return Path({**path.labels, "path": "loopback"}, path.source, path.source, address, streams=False)


async def in_turn(paths: Sequence[Path], turns: Turns, seed: int) -> list[Measurement]:
    """Load every path in every round, in an order that the seed decides; turns are told apart by ``index``.

    Gives ``tcp_gbps``, ``tcp_retransmits``, ``rr_us``, ``rr_per_s``, ``crr_us`` and ``crr_per_s``; the first round of
    messages has warmed each path's caches before its stream. Raises LoadFailed.
    """
    found: list[Measurement] = []
    order = list(paths)
    chance = random.Random(seed)
    for index in range(turns.rounds * TIMES):
        chance.shuffle(order)
        for path in order:
            labels = {**path.labels, "index": index}
            ends, at = (path.source, path.server), path.at(loads.MESSAGE_PORT)
            found += await loads.request_response(*ends, at=at, duration_s=turns.messages_s, labels=labels)
            if index % TIMES:
                continue
            found += await loads.connect_request_response(*ends, at=at, duration_s=turns.messages_s, labels=labels)
            if turns.stream_s and path.streams:
                at = path.at(loads.STREAM_PORT)
                found += await loads.tcp_stream(*ends, at=at, duration_s=turns.stream_s, labels=labels)
    return found
