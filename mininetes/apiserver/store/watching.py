"""Watches: one stream of events from the store, fanned out to many readers, none of whom can hold up the others.

store --publish--> WatchHub --(prefix)--> Watch --batches--> reader
                      |  history of recent events, for watches that begin in the past
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator

from mininetes.apiserver.store.stored import Progress, StoreEvent
from mininetes.errors import MininetesError

DEFAULT_WINDOW = 10_000
"""How many past events are kept."""

DEFAULT_BOUND = 10_000
"""How many events a watch may lag behind before it is ended."""

PROGRESS_INTERVAL_S = 5.0
"""How often quiet watches are told how far the store is."""

Batch = list[StoreEvent | Progress]


class Compacted(MininetesError):
    """The revision asked for is older than what is kept: list anew."""

    def __init__(self, revision: int, oldest: int) -> None:
        super().__init__(f"revision {revision} has been compacted; the oldest one kept is {oldest}")
        self.revision = revision
        self.oldest = oldest


class Overrun(MininetesError):
    """The reader of a watch was slower than the writes for too long: list anew."""

    def __init__(self, bound: int) -> None:
        super().__init__(f"the watch was ended: its reader lags more than {bound} events behind")


class Watch(AsyncIterator[Batch]):
    """The writes below one prefix, as batches: each is all that has come since the last one was taken.

    For one reader. Ends silently when closed; raises Compacted, Overrun or StoreUnavailable when it
    cannot go on. It never leaves out a write and goes on.
    """

    def __init__(self, hub: WatchHub, prefix: str, after: int, bound: int) -> None:
        self.prefix = prefix
        self.after = after
        self._hub = hub
        self._bound = bound
        self._pending: Batch = []
        self._told = after
        self._waiting: asyncio.Future[None] | None = None
        self._ended: Exception | None = None

    def put(self, event: StoreEvent) -> None:
        """Take an event in (called by the hub, in order)."""
        if event.revision <= self.after:
            return
        if len(self._pending) >= self._bound:
            self.end(Overrun(self._bound))
            return
        self._pending.append(event)
        self._told = event.revision
        self._wake()

    def put_past(self, events: list[StoreEvent]) -> None:
        """Take in what happened before the watch began, however much it is; the bound is for what comes on top."""
        if events:
            self._bound += len(events)
            self._pending += events
            self._told = events[-1].revision

    def request_progress(self) -> None:
        """Have a `Progress` delivered behind what is pending; it says how far the store's stream has come."""
        revision = self._hub.revision
        if self._ended is None and revision >= self._told and self._hub.started:
            if self._pending and isinstance(self._pending[-1], Progress):
                self._pending.pop()
            self._pending.append(Progress(revision))
            self._told = revision
            self._wake()

    @property
    def behind(self) -> bool:
        """Whether the store has got further than the reader knows of."""
        return self._hub.revision > self._told

    def end(self, why: Exception) -> None:
        """End the watch: what was not yet read is dropped, and the reader gets ``why``."""
        if self._ended is None:
            self._ended = why
            self._pending = []
            self._hub.detach(self)
            self._wake()

    def close(self) -> None:
        """End the watch from the reader's side. May be called twice."""
        self.end(StopAsyncIteration())

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def __anext__(self) -> Batch:
        while not self._pending:
            if self._ended is not None:
                raise self._ended
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        batch, self._pending = self._pending, []
        return batch

    async def __aenter__(self) -> Watch:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class WatchHub:
    """Hands each published event to every watch that wants it, and keeps the last ``window`` of them.

    ``start`` says where the stream begins; until then watches wait. Everything happens in one event
    loop; handing out does not wait for anybody, so events published in one turn of the loop reach
    each reader as one batch.
    """

    def __init__(self, *, window: int = DEFAULT_WINDOW, bound: int = DEFAULT_BOUND) -> None:
        self._window = window
        self._bound = bound
        self._history: list[StoreEvent] = []
        self._watches: dict[str, dict[Watch, None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._until: list[tuple[int, asyncio.Future[None]]] = []
        self.started = False
        self.revision = 0
        """Every event up to this revision has been published."""
        self.compacted = 0
        """The oldest revision after which a watch can begin."""

    def start(self, revision: int) -> None:
        """Begin (or, after a gap, begin anew): the next event published has a revision above this one.

        Watches that need what lies before it are ended with Compacted.
        """
        self._history = []
        self.compacted = revision
        self.advance(revision)
        for watch in self.watches():
            if watch.after < revision:
                watch.end(Compacted(watch.after, revision))
        self.started = True

    def publish(self, event: StoreEvent) -> None:
        """Hand an event out. Its revision must not be below the last one's."""
        self._history.append(event)
        spare = len(self._history) - self._window
        if spare > self._window // 10:
            self.compacted = self._history[spare - 1].revision
            del self._history[:spare]
        key = event.stored.key
        for prefix, watches in list(self._watches.items()):
            if key.startswith(prefix):
                for watch in list(watches):
                    watch.put(event)
        self.advance(event.revision)

    def advance(self, revision: int) -> None:
        """Note that the store has come to this revision without an event that concerns anybody."""
        self.revision = max(self.revision, revision)
        if self._until:
            for wanted, reached in self._until:
                if wanted <= self.revision and not reached.done():
                    reached.set_result(None)
            self._until = [each for each in self._until if not each[1].done()]

    async def reached(self, revision: int) -> None:
        """Wait until every event up to ``revision`` has been published."""
        if self.revision < revision:
            future = asyncio.get_running_loop().create_future()
            self._until.append((revision, future))
            await future

    def since(self, revision: int) -> list[StoreEvent]:
        """The events after ``revision``, in order. Raises Compacted when they are no longer all there."""
        if revision < self.compacted:
            raise Compacted(revision, self.compacted)
        return self._history[bisect_right(self._history, revision, key=_revision) :]

    def compact(self, revision: int) -> None:
        """Forget the events up to and including ``revision``."""
        if revision > self.compacted:
            del self._history[: bisect_right(self._history, revision, key=_revision)]
            self.compacted = revision

    def attach(self, prefix: str, after: int) -> Watch:
        """Begin a watch, with the past events that it wants; one that comes too late is ended with Compacted."""
        watch = Watch(self, prefix, after, self._bound)
        self._watches.setdefault(prefix, {})[watch] = None
        if self.started:
            try:
                past = self.since(after)
            except Compacted as too_old:
                watch.end(too_old)
            else:
                watch.put_past([event for event in past if event.stored.key.startswith(prefix)])
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PROGRESS_INTERVAL_S, self._tell_progress)
        return watch

    def detach(self, watch: Watch) -> None:
        """Forget a watch."""
        watches = self._watches.get(watch.prefix, {})
        watches.pop(watch, None)
        if not watches:
            self._watches.pop(watch.prefix, None)

    def watches(self) -> list[Watch]:
        """Those that go on."""
        return [watch for watches in self._watches.values() for watch in watches]

    def end(self, why: Exception | None = None) -> None:
        """End all watches; without a reason as if their readers had closed them."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for watch in self.watches():
            watch.close() if why is None else watch.end(why)

    def _tell_progress(self) -> None:
        self._timer = None
        watches = self.watches()
        for watch in watches:
            if watch.behind:
                watch.request_progress()
        if watches:
            self._timer = asyncio.get_running_loop().call_later(PROGRESS_INTERVAL_S, self._tell_progress)


def _revision(event: StoreEvent) -> int:
    return event.stored.revision
