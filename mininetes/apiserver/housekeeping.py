"""What an API server does by itself: it forgets old history and old events."""

from __future__ import annotations

import asyncio
import contextlib
import datetime

from mininetes.apiserver.metadata import timestamp, utc_now
from mininetes.apiserver.store import KeyMissing, RevisionConflict, Store, StoreUnavailable

COMPACTION_S = 300.0
"""History is kept for at least this long."""

EVENT_LIFE = datetime.timedelta(hours=1)
_PAGE = 500


class Housekeeping:
    """Compacts the store every five minutes, to where it was five minutes before, and deletes events of the last hour.

    Several servers doing so on one store do no harm.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def run(self) -> None:
        """Work until cancelled."""
        past = 0
        while True:
            with contextlib.suppress(StoreUnavailable):
                now = await self._store.revision()
                if past:
                    await self._store.compact(past)
                past = now
                await self.delete_old_events(utc_now() - EVENT_LIFE)
            await asyncio.sleep(COMPACTION_S)

    async def delete_old_events(self, before: datetime.datetime) -> int:
        """Delete the events that were last seen before then. Returns how many."""
        limit, deleted, start_key = timestamp(before), 0, ""
        while True:
            page = await self._store.list("/registry/events/", limit=_PAGE, start_key=start_key)
            for item in page.items:
                seen = item.value.get("lastTimestamp") or item.value["metadata"]["creationTimestamp"]
                if seen < limit:
                    with contextlib.suppress(KeyMissing, RevisionConflict):
                        await self._store.delete(item.key, expected=item.revision)
                        deleted += 1
            if page.continue_key is None:
                return deleted
            start_key = page.continue_key
