"""Serving watches: a store's events become lines of JSON for one client, at the client's pace."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

import orjson
from aiohttp import web

from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.event_groups import stored_resource
from mininetes.apiserver.registry import Selection, prefix_of
from mininetes.apiserver.rendering import Rendering
from mininetes.apiserver.store import Compacted, Overrun, Store, StoreEvent, StoreUnavailable, Watch
from mininetes.apiserver.store.watching import Batch

BOOKMARK_S = 60.0
LEAST_S, MOST_S = 1800, 3600
"""How long a watch lasts that says nothing about it."""

GATHER_S = 0.01
"""While events come without pause, they are sent this often, together: each write costs more than an event."""

_PIECE = 256 << 10


@dataclass(frozen=True)
class WatchOptions:
    """What a client asked for. ``after`` None: begin with what there is now."""

    after: int | None
    timeout_s: float
    bookmarks: bool
    mark_initial_end: bool

    @classmethod
    def lasting(cls, after: int | None, timeout_s: int | None, *, bookmarks: bool, mark: bool) -> WatchOptions:
        """With a random length where the client names none, so that watches do not all end together."""
        return cls(after, timeout_s or random.uniform(LEAST_S, MOST_S), bookmarks, mark)


class WatchStream:
    """One client's watch. `serve` returns when it is over; `close` ends it from outside."""

    def __init__(
        self, store: Store, namespace: str | None, selection: Selection, rendering: Rendering, options: WatchOptions
    ) -> None:
        self._store = store
        self._prefix = prefix_of(stored_resource(rendering.resource), namespace)
        self._selection = selection
        self._rendering = rendering
        self._options = options
        self._watch: Watch | None = None
        self._closed = False
        self._bookmark_due = False
        self._last_turn = False

    def close(self) -> None:
        """End the watch. May be called twice."""
        self._closed = True
        if self._watch is not None:
            self._watch.close()

    async def serve(self, response: web.StreamResponse) -> None:
        """Send events to a response that was prepared, until the time is up, the client goes or history is lost."""
        try:
            after = self._options.after
            if after is None:
                after = await self._send_initial(response)
            if self._closed:
                return
            self._watch = self._store.watch(self._prefix, after=after)
            await self._follow(self._watch, response)
        except Compacted as lost:
            message = f"too old resource version: {lost.revision} ({lost.oldest})"
            await response.write(_error(ApiError.expired(message)))
        except (Overrun, StoreUnavailable):
            pass  # the client goes on from the last version it saw, here or at another server

    async def _send_initial(self, response: web.StreamResponse) -> int:
        page = await self._store.list(self._prefix)
        lines: list[bytes] = []
        size = 0
        for item in page.items:
            if self._selection(item.value):
                lines.append(self._rendering.event("ADDED", item))
                size += len(lines[-1])
                if size > _PIECE:
                    await response.write(b"".join(lines))
                    lines, size = [], 0
        if self._options.mark_initial_end and self._options.bookmarks:
            lines.append(self._rendering.bookmark(page.revision, initial_end=True))
        if lines:
            await response.write(b"".join(lines))
        return page.revision

    async def _follow(self, watch: Watch, response: web.StreamResponse) -> None:
        loop = asyncio.get_running_loop()
        timers = [loop.call_later(self._options.timeout_s, self._time_is_up)]
        if self._options.bookmarks:
            timers.append(loop.call_later(BOOKMARK_S * random.uniform(0.8, 1.0), self._ask_bookmark, timers))
        sent_at = 0.0
        try:
            async for batch in watch:
                lines = self._lines(batch)
                if lines:
                    await response.write(lines[0] if len(lines) == 1 else b"".join(lines))
                    now = loop.time()
                    if now - sent_at < GATHER_S:
                        await asyncio.sleep(GATHER_S)
                    sent_at = now
                if self._last_turn:
                    return
        finally:
            for timer in timers:
                timer.cancel()
            watch.close()

    def _time_is_up(self) -> None:
        self._last_turn = True
        if self._watch is not None:
            if self._options.bookmarks:
                self._bookmark_due = True
                self._watch.request_progress()
                asyncio.get_running_loop().call_later(1.0, self._watch.close)
            else:
                self._watch.close()

    def _ask_bookmark(self, timers: list[asyncio.TimerHandle]) -> None:
        self._bookmark_due = True
        if self._watch is not None:
            self._watch.request_progress()
        timers[1] = asyncio.get_running_loop().call_later(BOOKMARK_S, self._ask_bookmark, timers)

    def _lines(self, batch: Batch) -> list[bytes]:
        lines: list[bytes] = []
        everything = self._selection.everything
        for event in batch:
            if isinstance(event, StoreEvent):
                kind = _kind(event) if everything else self._selected_kind(event)
                if kind:
                    lines.append(self._rendering.event(kind, event.stored))
            elif self._bookmark_due:
                self._bookmark_due = False
                lines.append(self._rendering.bookmark(event.revision))
        return lines

    def _selected_kind(self, event: StoreEvent) -> str:
        """What the event is to this client: an object that comes to match is added, one that ceases to is deleted."""
        was = event.previous is not None and self._selection(event.previous.value)
        if event.type == "DELETE":
            return "DELETED" if was else ""
        now = self._selection(event.stored.value)
        if now:
            return "MODIFIED" if was else "ADDED"
        return "DELETED" if was else ""


def _kind(event: StoreEvent) -> str:
    if event.type == "DELETE":
        return "DELETED"
    return "ADDED" if event.previous is None else "MODIFIED"


def _error(refusal: ApiError) -> bytes:
    return b'{"type":"ERROR","object":%b}\n' % orjson.dumps(refusal.to_status())
