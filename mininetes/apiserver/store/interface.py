"""The store as the API server sees it, whatever is behind it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from mininetes.apiserver.store.stored import Stored, Value
from mininetes.apiserver.store.watching import Compacted, Overrun, Watch
from mininetes.errors import MininetesError

__all__ = [
    "Compacted",
    "FutureRevision",
    "KeyExists",
    "KeyMissing",
    "Overrun",
    "Page",
    "RevisionConflict",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "page_of",
    "prefix_end",
]


class StoreError(MininetesError):
    """A write that the store refused, or a store that does not answer."""


class KeyExists(StoreError):
    """Create found the key taken."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key}: exists already")


class KeyMissing(StoreError):
    """Update or delete found no such key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key}: no such key")


class RevisionConflict(StoreError):
    """Update or delete expected another revision than the one that is there."""

    def __init__(self, key: str, expected: int, found: int) -> None:
        super().__init__(f"{key}: expected revision {expected}, found {found}")
        self.expected = expected
        self.found = found


class FutureRevision(StoreError):
    """A list was asked for at a revision that is yet to come."""

    def __init__(self, revision: int, current: int) -> None:
        super().__init__(f"revision {revision} is yet to come: the store is at {current}")


class StoreUnavailable(StoreError):
    """No answer within the deadline: unreachable, or without a majority. A write may have been done or not."""


@dataclass(frozen=True)
class Page:
    """Part of a list, in the order of keys, all of it as it was at ``revision``."""

    items: list[Stored]
    revision: int
    continue_key: str | None
    """``start_key`` of the next page; None when this was the last."""
    remaining: int | None
    """How many objects follow this page; None when none do."""


def prefix_end(prefix: str) -> str:
    """The first key after all that begin with ``prefix``, which is not empty."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def page_of(items: list[Stored], remaining: int, revision: int) -> Page:
    """A page whose continuation begins right behind its last key."""
    return Page(items, revision, items[-1].key + "\0" if remaining and items else None, remaining or None)


class Store(ABC):
    """Objects under keys, with one revision for all that grows by each write, as in etcd.

    Keys are ``/registry/<plural>[.<group>]/[<namespace>/]<name>``. Values belong to the store from
    the moment they are handed in: neither the giver nor a reader may change one (see `Stored`).
    Every read sees all writes that were acknowledged before it began. All methods may raise
    StoreUnavailable; a refused write changes nothing.
    """

    @abstractmethod
    async def start(self) -> None:
        """Return when the store answers and its stream of events has come to the present.

        Nothing needs it: whatever is asked before waits by itself. But a watch that begins before may
        find that history has been compacted in the meantime. May be called twice.
        """

    @abstractmethod
    async def get(self, key: str) -> Stored | None:
        """Read one object; None when there is none."""

    @abstractmethod
    async def list(self, prefix: str, *, limit: int = 0, start_key: str = "", revision: int = 0) -> Page:
        """Read the objects whose keys begin with ``prefix``, from ``start_key`` on, at most ``limit`` (0: all).

        ``revision`` 0 means now; an older one gives the list as it was then, so that pages fit
        together. Raises Compacted when that revision is no longer known, FutureRevision when it is to come.
        """

    @abstractmethod
    async def create(self, key: str, value: Value) -> Stored:
        """Write a new object. Raises KeyExists."""

    @abstractmethod
    async def update(self, key: str, value: Value, *, expected: int) -> Stored:
        """Replace the object whose revision is ``expected``. Raises RevisionConflict or KeyMissing."""

    @abstractmethod
    async def delete(self, key: str, *, expected: int | None = None) -> Stored:
        """Delete the object (only when its revision is ``expected``). Raises KeyMissing or RevisionConflict.

        Returns the last value with the revision of the deletion.
        """

    @abstractmethod
    def watch(self, prefix: str, *, after: int) -> Watch:
        """Follow every write below ``prefix`` with a revision greater than ``after``, in order.

        A revision to come is allowed. When ``after`` is too old, Compacted is raised by the
        iteration (not here), so that there is one place to handle it.
        """

    @abstractmethod
    async def revision(self) -> int:
        """The current revision; 1 for a store that was never written."""

    @abstractmethod
    async def compact(self, revision: int) -> None:
        """Forget history: from now on, watches after and lists at an older revision raise Compacted.

        Does nothing when that was done already; a revision to come is cut to the current one.
        """

    @abstractmethod
    async def close(self) -> None:
        """End all watches and let go of connections. May be called twice; the store cannot be used afterwards."""
