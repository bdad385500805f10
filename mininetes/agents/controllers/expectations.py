"""What a controller wrote and its informers have not shown yet: until then its view is stale, and it waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from mininetes.agents.objects import is_deleted, key_of, uid_of, version_of
from mininetes.apiserver.informer import Known

LONGEST_WAIT_S = 30.0
"""After this long a write is taken as seen: the informer may have lost its server."""


class Expectations:
    """Writes that are to be seen, by the key of the controller's work.

    Without them a second look before the informer's would create the same pods again (client-go's
    controllers have the same device). A change that is seen queues the key anew by itself.
    """

    def __init__(self) -> None:
        self._unseen: dict[str, list[tuple[float, Callable[[], bool]]]] = {}

    def written(self, key: str, items: Known, obj: dict[str, Any]) -> None:
        """``obj`` is what the server answered to a create or an update; ``items`` the informer's objects."""
        self._expect(key, lambda: _shows(items, obj))

    def removed(self, key: str, items: Known, obj: dict[str, Any]) -> None:
        """``obj`` was deleted, or has begun to be."""
        self._expect(key, lambda: _gone(items, obj))

    def pending(self, key: str) -> float:
        """For how many seconds at most the key's view is stale; 0 when all is seen."""
        now = time.monotonic()
        left = [(until, seen) for until, seen in self._unseen.get(key, ()) if until > now and not seen()]
        if left:
            self._unseen[key] = left
            return max(until for until, _ in left) - now
        self._unseen.pop(key, None)
        return 0.0

    def _expect(self, key: str, seen: Callable[[], bool]) -> None:
        if not seen():
            self._unseen.setdefault(key, []).append((time.monotonic() + LONGEST_WAIT_S, seen))


def _shows(items: Known, obj: dict[str, Any]) -> bool:
    there = items.get(key_of(obj))
    newest = items.version if there is None else version_of(there)  # it may have come and gone again
    return newest >= version_of(obj)


def _gone(items: Known, obj: dict[str, Any]) -> bool:
    there = items.get(key_of(obj))
    return there is None or uid_of(there) != uid_of(obj) or is_deleted(there)
