"""The store in this process's memory."""

from __future__ import annotations

from bisect import bisect_left, insort
from heapq import merge
from itertools import islice

from mininetes.apiserver.store.interface import (
    FutureRevision,
    KeyExists,
    KeyMissing,
    Page,
    RevisionConflict,
    Store,
    page_of,
    prefix_end,
)
from mininetes.apiserver.store.stored import Stored, StoreEvent, Value, without_revision
from mininetes.apiserver.store.watching import DEFAULT_BOUND, DEFAULT_WINDOW, Watch, WatchHub

Keys = list[str]


class MemoryStore(Store):
    """Objects in a dict; gone with the process. ``window`` events are kept for watches and lists of the past.

    Needs no start. No method waits for anything.
    """

    def __init__(self, *, window: int = DEFAULT_WINDOW, bound: int = DEFAULT_BOUND) -> None:
        self._objects: dict[str, Stored] = {}
        self._keys: list[str] = []  # sorted
        self._hub = WatchHub(window=window, bound=bound)
        self._hub.start(0)
        self._hub.advance(1)  # as an etcd that was never written

    async def start(self) -> None:
        """Nothing to wait for."""

    async def get(self, key: str) -> Stored | None:
        """Read one object."""
        return self._objects.get(key)

    async def list(self, prefix: str, *, limit: int = 0, start_key: str = "", revision: int = 0) -> Page:
        """Read the objects below a prefix; see `Store.list`."""
        now = self._hub.revision
        if revision > now:
            raise FutureRevision(revision, now)
        first, end = max(prefix, start_key), prefix_end(prefix)
        low, high = bisect_left(self._keys, first), bisect_left(self._keys, end)
        if 0 < revision < now:
            return self._as_it_was(revision, first, end, self._keys[low:high], limit)
        stop = min(low + limit, high) if limit else high
        return page_of([self._objects[key] for key in self._keys[low:stop]], high - stop, now)

    def _as_it_was(self, revision: int, first: str, end: str, keys: Keys, limit: int) -> Page:
        """The page at an older revision: ``keys``, those of now, with what was written since undone."""
        before: dict[str, Stored | None] = {}
        for event in reversed(self._hub.since(revision)):
            if first <= event.stored.key < end:
                before[event.stored.key] = event.previous
        changed = {key: stored for key, stored in before.items() if stored is not None}
        total = len(keys) - sum(key in self._objects for key in before) + len(changed)
        merged = merge((key for key in keys if key not in before), sorted(changed))
        items = [changed.get(key) or self._objects[key] for key in islice(merged, limit or None)]
        return page_of(items, total - len(items), revision)

    async def create(self, key: str, value: Value) -> Stored:
        """Write a new object."""
        if key in self._objects:
            raise KeyExists(key)
        insort(self._keys, key)
        return self._put(key, value, None)

    async def update(self, key: str, value: Value, *, expected: int) -> Stored:
        """Replace the object whose revision is ``expected``."""
        return self._put(key, value, self._expect(key, expected))

    async def delete(self, key: str, *, expected: int | None = None) -> Stored:
        """Delete the object."""
        previous = self._expect(key, expected)
        del self._objects[key]
        del self._keys[bisect_left(self._keys, key)]
        gone = Stored(key, previous.value, self._hub.revision + 1)
        self._hub.publish(StoreEvent("DELETE", gone, previous))
        return gone

    def _put(self, key: str, value: Value, previous: Stored | None) -> Stored:
        stored = Stored(key, without_revision(value), self._hub.revision + 1)
        self._objects[key] = stored
        self._hub.publish(StoreEvent("PUT", stored, previous))
        return stored

    def _expect(self, key: str, expected: int | None) -> Stored:
        found = self._objects.get(key)
        if found is None:
            raise KeyMissing(key)
        if expected is not None and found.revision != expected:
            raise RevisionConflict(key, expected, found.revision)
        return found

    def watch(self, prefix: str, *, after: int) -> Watch:
        """Follow the writes below a prefix; see `Store.watch`."""
        return self._hub.attach(prefix, after)

    async def revision(self) -> int:
        """The current revision."""
        return self._hub.revision

    async def compact(self, revision: int) -> None:
        """Forget history up to a revision."""
        self._hub.compact(min(revision, self._hub.revision))

    async def close(self) -> None:
        """End all watches."""
        self._hub.end()
