"""A queue of keys for control loops: no key twice, no key with two workers, retries backed off."""

from __future__ import annotations

import asyncio
from collections import deque

FIRST_RETRY_S = 0.05
LONGEST_RETRY_S = 30.0


class WorkQueue:
    """Keys to look at, in the order in which they came.

    A key that waits is not added again; one that is being worked on is put back when it is done.
    Timers run only for keys that are due later, the earliest time of a key counting. Used in one loop.
    """

    def __init__(self) -> None:
        self._waiting: deque[str] = deque()
        self._queued: set[str] = set()
        self._active: set[str] = set()
        self._again: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._failures: dict[str, int] = {}
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: str) -> None:
        """Have the key looked at as soon as a worker is free."""
        if key in self._active:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._waiting.append(key)
            self._some.set()

    def add_after(self, key: str, delay_s: float) -> None:
        """Have the key looked at after ``delay_s``, or earlier when it was to be already."""
        if delay_s <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + delay_s
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= due:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(due, self._due, key)

    def retry(self, key: str) -> float:
        """The key's work failed: have it looked at again, later each time. Returns the delay in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay_s = min(FIRST_RETRY_S * 2.0 ** min(failures, 16), LONGEST_RETRY_S)
        self.add_after(key, delay_s)
        return delay_s

    def forget(self, key: str) -> None:
        """The key's work went well: its next failure is its first."""
        self._failures.pop(key, None)

    async def get(self) -> str:
        """Wait for a key. The caller says `done` when it has finished with it, however that went."""
        while not self._waiting:
            self._some.clear()
            await self._some.wait()
        key = self._waiting.popleft()
        self._queued.discard(key)
        self._active.add(key)
        return key

    def done(self, key: str) -> None:
        """The key is no longer worked on; it comes again at once when it was added meanwhile."""
        self._active.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def close(self) -> None:
        """Stop all timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _due(self, key: str) -> None:
        self._timers.pop(key, None)
        self.add(key)
