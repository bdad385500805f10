"""The store in a real etcd, through its JSON gateway."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Sequence
from typing import Any

import orjson

from mininetes.apiserver.store.decoding import Decoded
from mininetes.apiserver.store.following import Follower
from mininetes.apiserver.store.gateway import Ambiguous, Connect, Gateway, Refused, connector_in, to_base64
from mininetes.apiserver.store.interface import (
    Compacted,
    FutureRevision,
    KeyExists,
    KeyMissing,
    Page,
    RevisionConflict,
    Store,
    StoreError,
    StoreUnavailable,
    page_of,
    prefix_end,
)
from mininetes.apiserver.store.stored import Stored, StoreEvent, Value, without_revision
from mininetes.apiserver.store.watching import DEFAULT_BOUND, DEFAULT_WINDOW, Watch, WatchHub
from mininetes.deadline import within

__all__ = ["EtcdStore", "connector_in"]

DEADLINE_S = 6.0
"""For one operation: enough for the members to elect a new leader, and below the API client's own."""

_CHUNK = 250
"""Objects in one answer of etcd, so that decoding one does not hold the loop."""

_FENCES = "/mininetes/fence/"

Items = list[Stored]
Events = list[StoreEvent]
Transaction = list[Value]


class EtcdStore(Store):
    """Objects in etcd, revision = etcd's own.

    ``endpoints``: "http://192.168.1.11:2379", ...: the first is used as long as it answers.
    ``connect`` makes the connector, so that sockets live in the node's network namespace.
    A write that got no answer is not done twice: updates and deletes name the revision they replace,
    which never comes back, so they can be sent again; creates are fenced (see `_create_once`).
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        connect: Connect | None = None,
        *,
        deadline_s: float = DEADLINE_S,
        window: int = DEFAULT_WINDOW,
        bound: int = DEFAULT_BOUND,
    ) -> None:
        self._gateway = Gateway(endpoints, connect or connector_in(None), deadline_s=deadline_s)
        self._hub = WatchHub(window=window, bound=bound)
        self._decoded = Decoded()
        self._follower = Follower(self._gateway, self._hub, self._decoded)
        self._following: asyncio.Task[None] | None = None
        self._fence = f"{_FENCES}{uuid.uuid4().hex}"
        self._fence_revision = 0

    async def start(self) -> None:
        """Wait for etcd, and for its events up to now."""
        await self._hub.reached(await self.revision())

    async def get(self, key: str) -> Stored | None:
        """Read one object."""
        answer, _ = await self._call("range", {"key": to_base64(key)})
        return next(iter(self._read(answer, now=True)), None)

    async def list(self, prefix: str, *, limit: int = 0, start_key: str = "", revision: int = 0) -> Page:
        """Read the objects below a prefix; see `Store.list`."""
        while True:
            try:
                return await self._list(prefix, limit, max(start_key, prefix), revision)
            except Compacted:
                if revision:
                    raise
                # compacted between two parts of a list of now: begin again

    async def _list(self, prefix: str, limit: int, start_key: str, revision: int) -> Page:
        items: list[Stored] = []
        at = revision
        while True:
            size = min(limit - len(items), _CHUNK) if limit else _CHUNK
            body = {"key": to_base64(start_key), "range_end": to_base64(prefix_end(prefix)), "limit": str(size)}
            try:
                answer, _ = await self._call("range", {**body, "revision": str(at)})
            except Refused as refused:
                if refused.compacted:
                    raise Compacted(at, at + 1) from None
                if refused.future:
                    raise FutureRevision(at, await self.revision()) from None
                raise
            part = self._read(answer, now=at == 0)
            at = at or _revision(answer)
            items += part
            remaining = int(answer.get("count", 0)) - len(part)
            if remaining <= 0 or len(items) == limit:
                return page_of(items, remaining, at)
            start_key = part[-1].key + "\0"

    def _read(self, answer: dict[str, Any], *, now: bool) -> Items:
        found = [self._decoded.stored(pair) for pair in answer.get("kvs", ())]
        if now and _revision(answer) >= self._hub.revision:  # else it might be gone: its DELETE has been handled
            for each in found:
                self._decoded.remember(each)
        return found

    async def create(self, key: str, value: Value) -> Stored:
        """Write a new object."""
        value = without_revision(value)
        put = _put(key, orjson.dumps(value))
        since = self._hub.revision
        until = self._gateway.deadline()
        while True:
            try:
                revision = await self._create_once(key, put, until)
            except Ambiguous:
                revision = await self._created_after_all(key, value, since, until)
            if revision is not None:
                return self._written(key, value, revision)

    async def _create_once(self, key: str, put: Value, until: float) -> int | None:
        """Try to create; the revision, or None when the fence has moved. Raises KeyExists, Ambiguous.

        The write holds only while this store's fence, a key of its own, is at the revision known
        here. Raising the fence therefore stops a write that is still under way somewhere.
        """
        compare = [_compare(key, "CREATE", 0), _compare(self._fence, "MOD", self._fence_revision)]
        answer, _ = await self._txn(compare, [put], [_range(key), _range(self._fence)], repeatable=False, until=until)
        if answer.get("succeeded"):
            return _revision(answer)
        there, fence = (_pairs(each) for each in answer["responses"])
        if there:
            raise KeyExists(key)
        self._fence_revision = max([self._fence_revision, *(int(pair["mod_revision"]) for pair in fence)])
        return None

    async def _created_after_all(self, key: str, value: Value, since: int, until: float) -> int | None:
        """After a create without an answer: its revision, or None when it was not done and never will be."""
        raised, _ = await self._call("put", {"key": to_base64(self._fence), "value": to_base64("raised")}, until=until)
        self._fence_revision = max(self._fence_revision, _revision(raised))
        events = await self._events_of(key, since, _revision(raised), until)
        made = (each for each in events if each.previous is None and each.stored.value == value)
        return next((each.revision for each in made), None)

    async def _events_of(self, key: str, after: int, upto: int, until: float) -> Events:
        """What happened to an object. Raises StoreUnavailable when that cannot be known."""
        try:
            async with within(until - asyncio.get_running_loop().time()):
                await self._hub.reached(upto)
            return [each for each in self._hub.since(after) if each.stored.key == key]
        except (asyncio.TimeoutError, Compacted):
            raise StoreUnavailable(f"{key}: no answer to the write, and it is not known whether it was done") from None

    async def update(self, key: str, value: Value, *, expected: int) -> Stored:
        """Replace the object whose revision is ``expected``."""
        value = without_revision(value)
        put = _put(key, orjson.dumps(value))
        answer, replaced = await self._replace(key, expected, put)
        if answer.get("succeeded"):
            return self._written(key, value, _revision(answer))
        if replaced is not None and replaced.type == "PUT" and replaced.stored.value == value:
            return replaced.stored
        raise _refusal(key, expected, answer)

    async def delete(self, key: str, *, expected: int | None = None) -> Stored:
        """Delete the object."""
        while True:
            wanted = expected
            if wanted is None:
                there = await self.get(key)
                if there is None:
                    raise KeyMissing(key)
                wanted = there.revision
            try:
                return await self._delete(key, wanted)
            except RevisionConflict:
                if expected is not None:
                    raise
                # written between the read and the delete: once more

    async def _delete(self, key: str, expected: int) -> Stored:
        remove = {"request_delete_range": {"key": to_base64(key), "prev_kv": True}}
        answer, replaced = await self._replace(key, expected, remove)
        if answer.get("succeeded"):
            last = self._decoded.stored(answer["responses"][0]["response_delete_range"]["prev_kvs"][0])
            return Stored(key, last.value, _revision(answer))
        if replaced is not None and replaced.type == "DELETE":
            return replaced.stored
        raise _refusal(key, expected, answer)

    async def _replace(self, key: str, expected: int, write: Value) -> tuple[Value, StoreEvent | None]:
        """Write if the object's revision is ``expected``; etcd's answer, and the event that came instead.

        The event is that which replaced ``expected``, when an earlier attempt had no answer: it
        may be our own write.
        """
        compare = [_compare(key, "MOD", expected), _compare(key, "CREATE", 0, "GREATER")]
        until = self._gateway.deadline()
        answer, repeated = await self._txn(compare, [write], [_range(key)], repeatable=True, until=until)
        if answer.get("succeeded") or not repeated:
            return answer, None
        events = await self._events_of(key, expected, _revision(answer), until)
        was = (each for each in events if each.previous is not None and each.previous.revision == expected)
        return answer, next(was, None)

    def _written(self, key: str, value: Value, revision: int) -> Stored:
        stored = Stored(key, value, revision)
        if revision > self._hub.revision:  # its event, yet to come, shares this
            self._decoded.remember(stored)
        return stored

    def watch(self, prefix: str, *, after: int) -> Watch:
        """Follow the writes below a prefix; see `Store.watch`."""
        self._follow()
        return self._hub.attach(prefix, after)

    async def revision(self) -> int:
        """The current revision."""
        self._follow()
        return await self._follower.current_revision()

    async def compact(self, revision: int) -> None:
        """Forget history up to a revision."""
        revision = min(revision, await self.revision())
        try:
            await self._call("compaction", {"revision": str(revision)})
        except Refused as refused:
            if not refused.compacted:
                raise
        self._hub.compact(revision)

    async def close(self) -> None:
        """End all watches and close all connections."""
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
        self._hub.end()
        await self._gateway.close()

    def _follow(self) -> None:
        if self._following is None:
            self._following = asyncio.get_running_loop().create_task(self._follower.run())
            self._following.add_done_callback(self._no_longer_following)

    def _no_longer_following(self, ended: asyncio.Task[None]) -> None:
        """End the watches when the follower fails, as they would wait for ever; the next use starts another."""
        self._following = None
        failed = None if ended.cancelled() else ended.exception()
        self._hub.end(StoreUnavailable(f"the watch on etcd failed: {failed!r}") if failed else None)

    async def _call(
        self, method: str, body: Value, *, repeatable: bool = True, until: float | None = None
    ) -> tuple[Value, bool]:
        self._follow()
        return await self._gateway.call(f"/v3/kv/{method}", body, repeatable=repeatable, until=until)

    async def _txn(
        self, compare: Transaction, success: Transaction, failure: Transaction, *, repeatable: bool, until: float
    ) -> tuple[Value, bool]:
        body = {"compare": compare, "success": success, "failure": failure}
        return await self._call("txn", body, repeatable=repeatable, until=until)


def _refusal(key: str, expected: int, answer: Value) -> StoreError:
    pairs = _pairs(answer["responses"][0])
    return RevisionConflict(key, expected, int(pairs[0]["mod_revision"])) if pairs else KeyMissing(key)


def _compare(key: str, target: str, value: int, result: str = "EQUAL") -> Value:
    field = {"CREATE": "create_revision", "MOD": "mod_revision"}[target]
    return {"key": to_base64(key), "target": target, "result": result, field: str(value)}


def _put(key: str, payload: bytes) -> Value:
    return {"request_put": {"key": to_base64(key), "value": to_base64(payload)}}


def _range(key: str) -> Value:
    return {"request_range": {"key": to_base64(key)}}


def _pairs(response: Value) -> list[Value]:
    pairs: list[Value] = response["response_range"].get("kvs", [])
    return pairs


def _revision(answer: Value) -> int:
    return int(answer["header"]["revision"])
