"""Namespaces as other objects need them: that they exist, and that they end when they are empty."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from mininetes.apiserver.errors import ApiError, Cause
from mininetes.apiserver.resources import RESOURCES, Resource
from mininetes.apiserver.store import (
    Compacted,
    KeyMissing,
    Overrun,
    RevisionConflict,
    Store,
    Stored,
    StoreError,
    StoreEvent,
    StoreUnavailable,
)
from mininetes.deadline import within

PREFIX = "/registry/namespaces/"
_LOOK_AGAIN_S = 1.0
_PAUSE_S = 0.5

Empty = Callable[[Resource, str], Awaitable[object]]
"""Deletes the objects of a kind in a namespace (and may leave some that take longer)."""


class Namespaces:
    """Knows the namespaces of a store, and finishes those that are being deleted.

    Right without `run`, too: then each question goes to the store. Every API server has one; they
    do not hinder each other.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._active: set[str] = set()
        self._ending: dict[str, asyncio.Task[None]] = {}

    async def check_usable(self, resource: Resource, namespace: str, name: str) -> None:
        """Raises ApiError 404 when there is no such namespace, 403 when it is being deleted."""
        if namespace in self._active:
            return
        stored = await self._store.get(PREFIX + namespace)
        if stored is None:
            raise ApiError.not_found("namespaces", namespace)
        if "deletionTimestamp" in stored.value["metadata"]:
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            cause = Cause("metadata.namespace", "NamespaceTerminating", f"namespace {namespace} is being terminated")
            raise ApiError.forbidden(resource, name, why, [cause])

    def forget(self, namespace: str) -> None:
        """It is being deleted: whoever asks from now on is told so."""
        self._active.discard(namespace)

    async def run(self, empty: Empty) -> None:
        """Follow the store, and empty and remove namespaces that are being deleted; until cancelled."""
        try:
            while True:
                with contextlib.suppress(StoreUnavailable, Compacted, Overrun):
                    await self._follow(empty)
                self._active.clear()
                await asyncio.sleep(_PAUSE_S)
        finally:
            self._active.clear()
            for task in self._ending.values():
                task.cancel()
            await asyncio.gather(*self._ending.values(), return_exceptions=True)

    async def _follow(self, empty: Empty) -> None:
        page = await self._store.list(PREFIX)
        for stored in page.items:
            self._take_in(stored, empty)
        async with self._store.watch(PREFIX, after=page.revision) as watch:
            async for batch in watch:
                for event in batch:
                    if isinstance(event, StoreEvent):
                        if event.type == "PUT":
                            self._take_in(event.stored, empty)
                        else:
                            self.forget(event.stored.value["metadata"]["name"])

    def _take_in(self, stored: Stored, empty: Empty) -> None:
        name = stored.value["metadata"]["name"]
        if "deletionTimestamp" not in stored.value["metadata"]:
            self._active.add(name)
            return
        self.forget(name)
        if name not in self._ending:
            task = asyncio.get_running_loop().create_task(self._end(name, empty))
            self._ending[name] = task
            task.add_done_callback(lambda _: self._ending.pop(name, None))

    async def _end(self, name: str, empty: Empty) -> None:
        while True:
            try:
                if await self._emptied(name, empty):
                    return
            except (StoreError, ApiError, Compacted, Overrun):
                await asyncio.sleep(_PAUSE_S)

    async def _emptied(self, name: str, empty: Empty) -> bool:
        """Delete what is in the namespace; remove it when that is all. Waits a while for pods that end."""
        revision = await self._store.revision()
        left = 0
        for resource in RESOURCES:
            if resource.namespaced and resource.store_name == resource.resource_name:
                await empty(resource, name)
                left += len((await self._store.list(f"/registry/{resource.store_name}/{name}/", limit=1)).items)
        stored = await self._store.get(PREFIX + name)
        if stored is None:
            return True
        if left == 0 and not stored.value["metadata"].get("finalizers"):
            with contextlib.suppress(KeyMissing, RevisionConflict):
                await self._store.delete(stored.key, expected=stored.revision)
                return True
            return False
        async with self._store.watch(f"/registry/pods/{name}/", after=revision) as watch:
            with contextlib.suppress(asyncio.TimeoutError):
                async with within(_LOOK_AGAIN_S):
                    await anext(watch)
        return False
