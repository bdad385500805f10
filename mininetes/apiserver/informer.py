"""List and watch, by the rules of client-go's informers: a local copy that misses nothing and doubles nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from mininetes.apiserver.client import Client, Unreachable
from mininetes.apiserver.errors import ApiError

Handler = Callable[[str, dict[str, Any] | None, dict[str, Any] | None], None]

PAGE = 500
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
WATCH_S = 300


def key_of(obj: dict[str, Any]) -> str:
    """An object's key: "namespace/name", or "name" for those outside namespaces."""
    metadata = obj["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


class Backoff:
    """Pauses that double from 0.2 to 5 s, each drawn from between half and the whole of it."""

    def __init__(self) -> None:
        self._next_s = FIRST_PAUSE_S

    async def pause(self) -> None:
        """Wait, and make the next pause longer."""
        pause_s = self._next_s
        self._next_s = min(pause_s * 2, LONGEST_PAUSE_S)
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))

    def reset(self) -> None:
        """It worked: the next pause is short again."""
        self._next_s = FIRST_PAUSE_S


class Known(dict[str, dict[str, Any]]):
    """Objects by their keys. ``version``: up to which one changes were seen, also those of objects that are gone."""

    version = 0


class Informer:
    """Keeps ``items`` the same as the server's objects, and tells handlers of each change.

    ``items`` maps keys (`key_of`) to objects and is read-only for others. After the server could
    not be reached, or history was lost (410), the difference to what was known is told.
    """

    def __init__(
        self, client: Client, resource: str, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> None:
        self.client = client
        self.resource = resource
        self.namespace = namespace
        self.items = Known()
        self.resource_version = ""
        self.failure = ""
        """Why the server could not be reached last; "" while all is well."""
        self._labels = labels
        self._fields = fields
        self._handlers: list[Handler] = []
        self._synced = asyncio.Event()

    def on_change(self, handler: Handler) -> None:
        """Call ``handler(type, old, new)`` on every change, from the loop: ADDED, MODIFIED or DELETED.

        It must not block. What is known already is told to it at once as ADDED.
        """
        self._handlers.append(handler)
        for obj in list(self.items.values()):
            handler("ADDED", None, obj)

    async def synced(self) -> None:
        """Wait until the first list is in."""
        await self._synced.wait()

    async def run(self) -> None:
        """List, watch on from there, list again when history is lost; until cancelled.

        An unreachable server is tried again with growing pauses. What a handler raises ends it.
        """
        backoff = Backoff()
        while True:
            try:
                if not self.resource_version:
                    await self._list()
                started = asyncio.get_running_loop().time()
                await self._watch(backoff)
                self.failure = ""
                if asyncio.get_running_loop().time() - started < 1.0:
                    await backoff.pause()  # a server that ends watches at once is not to be asked in a tight loop
            except ApiError as refused:
                self.failure = str(refused)
                if refused.code == 410:
                    self.resource_version = ""
                if refused.code != 410 or not self._synced.is_set():
                    await backoff.pause()
            except Unreachable as failed:
                self.failure = str(failed)
                await backoff.pause()

    async def _list(self) -> None:
        found: dict[str, dict[str, Any]] = {}
        token = ""
        while True:
            page = await self.client.list(
                self.resource,
                self.namespace,
                labels=self._labels,
                fields=self._fields,
                limit=PAGE,
                continue_=token,
            )
            found |= {key_of(obj): obj for obj in page["items"]}
            token = page["metadata"].get("continue", "")
            if not token:
                break
        self._replace(found)
        self.resource_version = page["metadata"]["resourceVersion"]
        self.items.version = int(self.resource_version)
        self._synced.set()

    def _replace(self, found: dict[str, dict[str, Any]]) -> None:
        """Make ``items`` what was listed, and tell the difference."""
        for key in [key for key in self.items if key not in found]:
            self._tell("DELETED", key, self.items[key])
        for key, obj in found.items():
            self._tell("MODIFIED", key, obj)

    async def _watch(self, backoff: Backoff) -> None:
        # Not all watches of a cluster are to end together.
        timeout_s = int(WATCH_S * random.uniform(1, 2))
        events = self.client.watch(
            self.resource,
            self.namespace,
            resource_version=self.resource_version,
            labels=self._labels,
            fields=self._fields,
            timeout_s=timeout_s,
        )
        async for kind, obj in events:
            self.items.version = int(obj["metadata"]["resourceVersion"])
            if kind != "BOOKMARK":
                self._tell(kind, key_of(obj), obj)
            self.resource_version = obj["metadata"]["resourceVersion"]
            self.failure = ""
            backoff.reset()

    def _tell(self, kind: str, key: str, obj: dict[str, Any]) -> None:
        """Take over one object as it is now, and tell what that means compared with what was known."""
        old = self.items.get(key)
        if kind == "DELETED":
            if old is not None:
                del self.items[key]
                self._call("DELETED", old, obj)
            return
        if old is not None and old["metadata"].get("uid") != obj["metadata"].get("uid"):
            del self.items[key]
            self._call("DELETED", old, old)
            old = None
        if old is None:
            self.items[key] = obj
            self._call("ADDED", None, obj)
        elif old["metadata"].get("resourceVersion") != obj["metadata"].get("resourceVersion"):
            self.items[key] = obj
            self._call("MODIFIED", old, obj)

    def _call(self, kind: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        for handler in self._handlers:
            handler(kind, old, new)
