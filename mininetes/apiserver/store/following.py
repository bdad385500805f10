"""The one watch that a store has on etcd: it follows every write and publishes it to the hub."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from mininetes.apiserver.store.decoding import Decoded
from mininetes.apiserver.store.gateway import Gateway, from_base64, to_base64
from mininetes.apiserver.store.interface import StoreError, StoreUnavailable
from mininetes.apiserver.store.stored import Stored, StoreEvent
from mininetes.apiserver.store.watching import WatchHub

REGISTRY = "/registry/"
"""Where the objects lie."""

_PAST = 1_000
"""How many past events are read at the start, for watches that other API servers' clients bring with them."""

_CHECK_S = 1.0
_PAUSE_S = 0.2
_AT_ONCE = 50
_EVERYTHING = to_base64(b"\0")


class Follower:
    """Keeps the hub up to date, over lost connections, until cancelled.

    It watches all keys, not only the objects': then each revision of etcd comes with an event, and
    the hub's revision is exact without etcd's own progress messages (which come every ten minutes).
    """

    def __init__(self, gateway: Gateway, hub: WatchHub, decoded: Decoded) -> None:
        self._gateway = gateway
        self._hub = hub
        self._decoded = decoded
        self._streaming_from = ""

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                if not self._hub.started:
                    self._begin_at(max(await self.current_revision() - _PAST, 0))
                await self._follow_while_alive()
            except StoreUnavailable:
                await asyncio.sleep(_PAUSE_S)

    async def current_revision(self) -> int:
        """etcd's revision, agreed upon by a majority. Raises StoreUnavailable."""
        body = {"key": _EVERYTHING, "limit": "1", "keys_only": True}
        answer, _ = await self._gateway.call("/v3/kv/range", body, repeatable=True)
        return int(answer["header"]["revision"])

    def _begin_at(self, revision: int) -> None:
        self._decoded.clear()
        self._hub.start(revision)
        self._hub.advance(1)  # an etcd that was never written is at revision 1, which no event made

    async def _follow_while_alive(self) -> None:
        """Follow one stream until it breaks, or is found to be dead while etcd goes on elsewhere."""
        tasks = [asyncio.ensure_future(self._stream()), asyncio.ensure_future(self._until_dead())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def _until_dead(self) -> None:
        """Return when the stream is silent although there was a write, or its member no longer answers.

        A cut link ends no connection by itself, and the stream of an idle etcd is silent too.
        """
        while True:
            await asyncio.sleep(_CHECK_S)
            before = self._hub.revision
            with contextlib.suppress(StoreUnavailable):
                current = await self.current_revision()
                if self._gateway.preferred != self._streaming_from:
                    return
                if self._hub.revision == before and current > before:
                    await asyncio.sleep(_CHECK_S)
                    if self._hub.revision == before:
                        self._gateway.demote(self._streaming_from)
                        return

    async def _stream(self) -> None:
        self._streaming_from = self._gateway.preferred
        create = {
            "key": _EVERYTHING,
            "range_end": _EVERYTHING,
            "start_revision": str(self._hub.revision + 1),
            "prev_kv": True,
        }
        stream = self._gateway.watch({"create_request": create})
        async with contextlib.aclosing(stream):
            async for answer in stream:
                if answer.get("canceled"):
                    self._canceled(answer)
                    return
                for number, event in enumerate(answer.get("events", ())):
                    if number % _AT_ONCE == _AT_ONCE - 1:
                        await asyncio.sleep(0)  # others run too
                    self._take(event)

    def _canceled(self, answer: dict[str, Any]) -> None:
        """What came since the hub's revision has been compacted: begin anew from there. Or the member has no leader."""
        compacted = int(answer.get("compact_revision", 0))
        if compacted > self._hub.revision:
            self._begin_at(compacted)
        else:
            self._gateway.demote(self._streaming_from)
            raise StoreUnavailable(f"{self._streaming_from}: watch: {answer.get('cancel_reason', 'canceled')}")

    def _take(self, event: dict[str, Any]) -> None:
        pair = event["kv"]
        key = from_base64(pair["key"]).decode(errors="replace")
        revision = int(pair["mod_revision"])
        if not key.startswith(REGISTRY):
            self._hub.advance(revision)
            return
        before = self._decoded_or_none(event.get("prev_kv"))
        if event.get("type") == "DELETE":
            self._decoded.forget(key)
            if before is not None:
                self._hub.publish(StoreEvent("DELETE", Stored(key, before.value, revision), before))
        else:
            now = self._decoded_or_none(pair)
            if now is not None:
                self._decoded.remember(now)
                self._hub.publish(StoreEvent("PUT", now, before))
        self._hub.advance(revision)

    def _decoded_or_none(self, pair: dict[str, Any] | None) -> Stored | None:
        """The object; None when there is none, or when somebody else wrote something that is none."""
        if pair is None:
            return None
        try:
            return self._decoded.stored(pair)
        except StoreError:
            return None
