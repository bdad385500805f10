"""Which endpoint the userspace proxy takes next: round robin, and clients that keep theirs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from mininetes.agents.kubeproxy.services import Endpoint


class RoundRobin:
    """The endpoints of one service port in turn. ``clock`` counts seconds and never goes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._endpoints: tuple[Endpoint, ...] = ()
        self._next = 0
        self._affinity_s = 0
        self._kept: dict[str, tuple[Endpoint, float]] = {}

    def set_endpoints(self, endpoints: Sequence[Endpoint], affinity_s: int) -> None:
        """Go over these from now on. Clients keep endpoints that are still there."""
        if tuple(endpoints) != self._endpoints:
            self._endpoints, self._next = tuple(endpoints), 0
            self._kept = {client: kept for client, kept in self._kept.items() if kept[0] in self._endpoints}
        self._affinity_s = affinity_s

    def choose(self, client: str, *, anew: bool = False) -> Endpoint | None:
        """The endpoint for a connection from that address; ``anew``: not the one it had, which did not answer.

        None when there is no endpoint.
        """
        if not self._endpoints:
            return None
        now = self._clock()
        if self._affinity_s and not anew and client in self._kept:
            endpoint, used = self._kept[client]
            if now - used < self._affinity_s:
                self._kept[client] = (endpoint, now)
                return endpoint
        endpoint = self._endpoints[self._next % len(self._endpoints)]
        self._next = (self._next + 1) % len(self._endpoints)
        if self._affinity_s:
            self._kept[client] = (endpoint, now)
        return endpoint
