"""The informer keeps client-go's promises, on both stores: nothing missed, nothing doubled, whatever breaks.

registry --10,000 changes--> store --> API server --> relay that cuts connections --> client --> informer
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from etcd_process import running_etcd

from mininetes.apiserver.client import Client
from mininetes.apiserver.deletion import DeleteOptions
from mininetes.apiserver.informer import Informer, key_of
from mininetes.apiserver.registry import Registry, WriteOptions
from mininetes.apiserver.resources import by_name
from mininetes.apiserver.store import EtcdStore, MemoryStore, Store, connector_in
from tests.unit.running_api import PKI, TOKEN, Api, config, listening, running, served, until

MAPS = by_name("configmaps")
Seen = list[tuple[str, dict[str, Any] | None, dict[str, Any] | None]]
CHANGES = 10_000
TOGETHER = 10


class Relay:
    """Passes TCP connections on to a port, and cuts them all when told to."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, there_writer}
        await asyncio.gather(self._pump(reader, there_writer), self._pump(there_reader, writer))
        self._writers -= {writer, there_writer}

    def cut(self) -> None:
        """Abort all connections, in the middle of whatever they carry."""
        for writer in self._writers:
            writer.transport.abort()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """The relay for the block; its URL."""
        sock = listening()
        async with await asyncio.start_server(self._serve, sock=sock):
            yield f"https://127.0.0.1:{sock.getsockname()[1]}"
            self.cut()


def consistent(seen: Seen) -> dict[str, dict[str, Any]]:
    """Replay what a handler was told: each call must follow from the one before. Returns the last state."""
    state: dict[str, dict[str, Any]] = {}
    for kind, old, new in seen:
        key = key_of(new or old or {})
        assert state.get(key) == old, (kind, key)
        if kind == "ADDED":
            assert old is None
        elif old is not None and new is not None:
            assert version(new) >= version(old)
        if kind == "DELETED":
            del state[key]
        else:
            assert new is not None
            state[key] = new
    return state


def version(obj: dict[str, Any]) -> int:
    return int(obj["metadata"]["resourceVersion"])


class Changes:
    """Random creations, updates and deletions of 40 objects; notes each as a watch tells it."""

    def __init__(self, registry: Registry, seed: int) -> None:
        self._registry = registry
        self._random = random.Random(seed)
        self._there: set[str] = set()
        self.made: list[tuple[str, str, int]] = []

    async def some(self, count: int) -> None:
        """Make changes of different objects, all at once."""
        names = [f"c{number}" for number in self._random.sample(range(40), count)]
        made = await asyncio.gather(*(self._one(name, self._random.random() < 0.3) for name in names))
        self.made += sorted(made, key=lambda change: change[2])

    async def _one(self, name: str, delete: bool) -> tuple[str, str, int]:
        value = config(name, x=str(self._random.random()))
        if name not in self._there:
            self._there.add(name)
            stored = await self._registry.create(MAPS, "default", value, WriteOptions())
            return "ADDED", name, stored.revision
        if delete:
            self._there.remove(name)
            stored, _ = await self._registry.delete(MAPS, "default", name, DeleteOptions())
            return "DELETED", name, stored.revision
        stored = await self._registry.update(MAPS, "default", name, value, WriteOptions(), status=False)
        return "MODIFIED", name, stored.revision


@asynccontextmanager
async def followed(api: Api, url: str) -> AsyncIterator[tuple[Informer, Seen]]:
    """An informer of the default namespace's config maps through that URL, and what it was told."""
    client = Client([url], token=TOKEN, ca_pem=PKI.ca_pem)
    informer = Informer(client, "configmaps", "default")
    seen: Seen = []
    informer.on_change(lambda kind, old, new: seen.append((kind, old, new)))
    task = asyncio.create_task(informer.run())
    try:
        await asyncio.wait_for(informer.synced(), 10)
        yield informer, seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()


@pytest.fixture(scope="module")
def etcd_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_etcd(Path(tmp_path_factory.mktemp("etcd"))) as url:
        yield url


@pytest.fixture(params=["memory", "etcd"])
def new_store(request: pytest.FixtureRequest) -> Any:
    """Makes the store, inside the test's loop."""
    if request.param == "memory":
        return MemoryStore
    url = request.getfixturevalue("etcd_url")
    return lambda: EtcdStore([url], connect=connector_in(None))


@asynccontextmanager
async def emptied(store: Store) -> AsyncIterator[Store]:
    """A store without anything in it (etcd's is shared by the tests)."""
    for item in (await store.list("/registry/")).items:
        await store.delete(item.key)
    try:
        yield store
    finally:
        await store.close()


def test_every_change_is_told_once_whatever_connections_break(new_store: Any) -> None:
    """As long as history lasts, a watch goes on where it broke: the very same changes arrive, in order."""

    async def scenario() -> None:
        async with emptied(new_store()) as store, running(store) as api:
            relay = Relay(api.port)
            async with relay.running() as url, followed(api, url) as (informer, seen):
                changes = Changes(api.server.registry, seed=1)
                for number in range(CHANGES // TOGETHER):
                    await changes.some(TOGETHER)
                    if number % 50 == 25:
                        relay.cut()
                    if number % 70 == 35:
                        for stream in list(api.server._streams):
                            stream.close()
                    await asyncio.sleep(0)
                await until(lambda: len(seen) >= CHANGES, "all changes told", within_s=30)
                consistent(seen)
                told = [
                    (kind, (new or old or {})["metadata"]["name"], version(new or old or {})) for kind, old, new in seen
                ]
                assert told == changes.made
                await same_as_listed(api, informer)

    asyncio.run(scenario())


def test_after_history_is_lost_the_difference_is_told(new_store: Any) -> None:
    async def scenario() -> None:
        async with emptied(new_store()) as store, running(store) as api:
            relay = Relay(api.port)
            async with relay.running() as url, followed(api, url) as (informer, seen):
                changes = Changes(api.server.registry, seed=2)
                for round_ in range(20):
                    relay.cut()
                    for _ in range(CHANGES // 100 // TOGETHER):
                        await changes.some(TOGETHER)
                    if round_ % 2:
                        await store.compact(await store.revision())
                    for _ in range(CHANGES // 100 // TOGETHER):
                        await changes.some(TOGETHER)

                    async def caught_up() -> bool:
                        listed = (await api.client.list("configmaps", "default"))["items"]
                        return {key_of(obj): obj for obj in listed} == informer.items

                    await until(caught_up, "the informer has what is listed", within_s=20)
                assert consistent(seen) == informer.items

    asyncio.run(scenario())


async def same_as_listed(api: Api, informer: Informer) -> None:
    listed = (await api.client.list("configmaps", "default"))["items"]
    assert {key_of(obj): obj for obj in listed} == informer.items


def test_a_restarted_server_is_followed_on() -> None:
    async def scenario() -> None:
        async with running() as first, followed(first, first.url) as (informer, seen):
            await first.client.create("configmaps", config("a"), "default")
            await until(lambda: len(seen) == 1, "a was told")
            await first.server.stop()
            await until(lambda: informer.failure != "", "the informer noticed")
            async with running(first.store, port=first.port) as second:
                await second.client.create("configmaps", config("b"), "default")
                await until(lambda: len(seen) == 2, "b was told", within_s=15)
                assert [key_of(new or {}) for _, _, new in seen] == ["default/a", "default/b"]
                assert informer.failure == ""

    asyncio.run(scenario())


@served
async def test_handlers_that_come_late_are_told_what_is_known(api: Api) -> None:
    await api.client.create("configmaps", config("a"), "default")
    async with followed(api, api.url) as (informer, seen):
        assert [kind for kind, _, _ in seen] == ["ADDED"]
        late: Seen = []
        informer.on_change(lambda kind, old, new: late.append((kind, old, new)))
        assert [(kind, key_of(new or {})) for kind, _, new in late] == [("ADDED", "default/a")]


@served
async def test_an_object_made_anew_under_its_name_is_another(api: Api) -> None:
    await api.client.create("configmaps", config("a"), "default")
    async with followed(api, api.url) as (_, seen):
        for stream in list(api.server._streams):
            stream.close()
        await api.client.delete("configmaps", "a", "default")
        await api.store.compact(await api.store.revision())
        await api.client.create("configmaps", config("a"), "default")
        await api.store.compact(await api.store.revision())
        await until(lambda: len(seen) >= 3, "deleted and added")
        assert [kind for kind, _, _ in seen] == ["ADDED", "DELETED", "ADDED"]
        consistent(seen)


def test_selected_objects_and_many_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mininetes.apiserver.informer.PAGE", 3)

    async def scenario() -> None:
        async with running() as api:
            for number in range(10):
                await api.client.create("configmaps", config(f"c{number}", {"odd": str(number % 2)}), "default")
            informer = Informer(api.client, "configmaps", labels="odd=1")
            task = asyncio.create_task(informer.run())
            await asyncio.wait_for(informer.synced(), 5)
            assert sorted(informer.items) == [f"default/c{number}" for number in (1, 3, 5, 7, 9)]
            await api.client.patch("configmaps", "c1", {"metadata": {"labels": {"odd": "0"}}}, "default")
            await until(lambda: "default/c1" not in informer.items, "c1 is no longer selected")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
