"""What all controllers share: a queue of keys, workers, and informers that are one per kind."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, TypeVar

from mininetes.agents.controllers.expectations import Expectations
from mininetes.agents.controllers.settings import ControllerSettings
from mininetes.agents.events import EventRecorder
from mininetes.agents.klog import AgentLog
from mininetes.agents.objects import Object, controller_of, key_of
from mininetes.agents.running import together
from mininetes.agents.workqueue import WorkQueue
from mininetes.apiserver.client import Client, Unreachable
from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.informer import Informer, Known
from mininetes.errors import MininetesError

T = TypeVar("T")

MOST_AT_ONCE = 500
"""Objects to compute with in the loop's own thread: some milliseconds' work."""


class Shared:
    """The client, the events and the informers of one controller manager that leads."""

    def __init__(self, client: Client, log: AgentLog, events: EventRecorder, settings: ControllerSettings) -> None:
        self.client = client
        self.log = log
        self.events = events
        self.settings = settings
        self._informers: dict[tuple[str, str], Informer] = {}

    def informer(self, resource: str, namespace: str = "") -> Informer:
        """The informer of that kind (in one namespace, when given), made when first asked for."""
        wanted = (resource, namespace)
        if wanted not in self._informers:
            self._informers[wanted] = Informer(self.client, resource, namespace or None)
        return self._informers[wanted]

    @property
    def informers(self) -> list[Informer]:
        """All that were asked for."""
        return list(self._informers.values())


class Controller(ABC):
    """One loop: changes put keys into its queue, workers call `sync` for each.

    `sync` makes the key's object as it should be, from what the informers know, and returns after
    how many seconds to look again (None: when something changes). It is never called for one key
    twice at a time. When it raises, it is called again, later each time.
    """

    name: ClassVar[str]
    workers: ClassVar[int] = 4

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.client = shared.client
        self.log = shared.log
        self.queue = WorkQueue()
        self.expectations = Expectations()

    @abstractmethod
    async def sync(self, key: str) -> float | None:
        """Make one object as it should be."""

    def watch(self, resource: str, namespace: str = "") -> Known:
        """Have each changed object of a kind synced under its own key. Returns the objects known."""
        informer = self.shared.informer(resource, namespace)
        informer.on_change(lambda _, old, new: self.queue.add(key_of(new or old or {})))
        return informer.items

    def watch_owned(self, resource: str, owner_kind: str) -> Known:
        """Have the owner synced when an object changes whose controller is of that kind. Returns the objects known."""

        def changed(_: str, old: Object | None, new: Object | None) -> None:
            for obj in (old, new):
                owner = controller_of(obj) if obj is not None else None
                if obj is not None and owner is not None and owner.get("kind") == owner_kind:
                    self.queue.add(f"{obj['metadata']['namespace']}/{owner['name']}")

        informer = self.shared.informer(resource)
        informer.on_change(changed)
        return informer.items

    async def compute(self, size: int, function: Callable[[], T]) -> T:
        """Call a pure function: at once, or in a thread where the number of objects would hold the loop for long."""
        if size <= MOST_AT_ONCE:
            return function()
        return await asyncio.get_running_loop().run_in_executor(None, function)

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            await together(self._work() for _ in range(self.workers))
        finally:
            self.queue.close()

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            try:
                await self._sync(key)
            finally:
                self.queue.done(key)

    async def _sync(self, key: str) -> None:
        wait_s = self.expectations.pending(key)
        if wait_s > 0:
            self.queue.add_after(key, wait_s)
            return
        try:
            again_s = await self.sync(key)
        except Exception as failed:
            delay_s = self.queue.retry(key)
            self._report(key, failed, delay_s)
        else:
            self.queue.forget(key)
            if again_s is not None:
                self.queue.add_after(key, again_s)

    def _report(self, key: str, failed: Exception, delay_s: float) -> None:
        """What changed or went meanwhile is everyday life, an unreachable server a warning; all else is an error."""
        if isinstance(failed, ApiError) and failed.code in (404, 409):
            self.log.info("Changed meanwhile, will retry", v=4, controller=self.name, key=key, err=failed)
        elif isinstance(failed, Unreachable):
            self.log.warning("Sync failed", controller=self.name, key=key, err=failed, retryInSeconds=delay_s)
        else:
            kind = "" if isinstance(failed, MininetesError) else f"{type(failed).__name__}: "
            self.log.error("Sync failed", controller=self.name, key=key, err=f"{kind}{failed}", retryInSeconds=delay_s)
