"""The store in etcd when the network fails it: answers that are lost, members that are silent, streams that break."""

from __future__ import annotations

import asyncio
import base64
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from etcd_process import free_ports, local_member, running_etcd
from meddling_proxy import MeddlingProxy

from mininetes.apiserver import etcd
from mininetes.apiserver.etcd import EtcdMember, EtcdProcesses, arguments
from mininetes.apiserver.store import (
    Compacted,
    EtcdStore,
    KeyExists,
    KeyMissing,
    RevisionConflict,
    Store,
    StoreError,
    StoreEvent,
    StoreUnavailable,
    Watch,
    connector_in,
)
from mininetes.apiserver.store.gateway import Gateway, to_base64
from mininetes.errors import MininetesError, MissingFeature
from mininetes.kernel.processes import Namespaces

_numbers = itertools.count(1)
KEY = "/registry/things/ns/"


@pytest.fixture(scope="module")
def etcd_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_etcd(tmp_path_factory.mktemp("etcd")) as url:
        yield url


@pytest.fixture
def meddle(etcd_url: str) -> Callable[..., None]:
    """Run a scenario with a store behind a proxy, another that is not, and the proxy."""

    def run(scenario: Callable[[EtcdStore, EtcdStore, MeddlingProxy], Awaitable[None]], **options: Any) -> None:
        async def main() -> None:
            async with MeddlingProxy(int(etcd_url.rsplit(":", 1)[1])) as proxy:
                store, other = EtcdStore([proxy.url], **options), EtcdStore([etcd_url])
                try:
                    await store.start()
                    await asyncio.wait_for(scenario(store, other, proxy), 30)
                finally:
                    await store.close()
                    await other.close()

        asyncio.run(main())

    return run


def thing(**more: Any) -> dict[str, Any]:
    return {"kind": "Thing", "metadata": {"name": "a"}, **more}


def fresh_key() -> str:
    return f"{KEY}{next(_numbers)}"


def in_body(key: str) -> bytes:
    """The key as it stands in a request."""
    return base64.b64encode(key.encode())


async def nothing() -> None:
    """What happens while an answer is lost, when nothing does."""


async def history(store: Store, key: str) -> list[StoreEvent]:
    """All that ever happened to a key."""
    now = await store.revision()
    found: list[StoreEvent] = []
    async with store.watch(KEY, after=0) as watch:
        await store.create(f"{KEY}end-{now}", thing())
        while not any(each.stored.key == f"{KEY}end-{now}" for each in found):
            found += [each for each in await watch.__anext__() if isinstance(each, StoreEvent)]
    return [each for each in found if each.stored.key == key]


def test_a_create_whose_answer_is_lost_is_done_once_and_known(meddle: Callable[..., None]) -> None:
    async def scenario(store: EtcdStore, other: EtcdStore, proxy: MeddlingProxy) -> None:
        key = fresh_key()
        proxy.on, proxy.lose_answer = in_body(key), nothing
        made = await store.create(key, thing())
        assert proxy.lose_answer is None
        assert [each.revision for each in await history(other, key)] == [made.revision]
        with pytest.raises(KeyExists):
            await store.create(key, thing())

    meddle(scenario)


def test_a_create_whose_answer_is_lost_is_not_done_again_when_somebody_deleted_the_object(
    meddle: Callable[..., None],
) -> None:
    async def scenario(store: EtcdStore, other: EtcdStore, proxy: MeddlingProxy) -> None:
        key = fresh_key()

        async def delete() -> None:
            await other.delete(key)

        proxy.on, proxy.lose_answer = in_body(key), delete
        made = await store.create(key, thing())
        events = await history(other, key)
        assert [(each.type, each.revision) for each in events] == [
            ("PUT", made.revision),
            ("DELETE", made.revision + 1),
        ]

    meddle(scenario)


def test_a_create_that_comes_late_to_etcd_is_stopped(meddle: Callable[..., None]) -> None:
    async def scenario(store: EtcdStore, other: EtcdStore, proxy: MeddlingProxy) -> None:
        key = fresh_key()
        release = asyncio.Event()
        proxy.on, proxy.hold = in_body(key), release
        made = await store.create(key, thing())
        await store.delete(key, expected=made.revision)
        release.set()
        assert proxy.held is not None
        assert b"200 OK" in await proxy.held
        assert await other.get(key) is None
        assert [each.type for each in await history(other, key)] == ["PUT", "DELETE"]

    meddle(scenario)


def test_creates_beside_one_whose_answer_is_lost_are_done_too(meddle: Callable[..., None]) -> None:
    async def scenario(store: EtcdStore, other: EtcdStore, proxy: MeddlingProxy) -> None:
        keys = [fresh_key() for _ in range(40)]
        proxy.on, proxy.lose_answer = in_body(keys[20]), nothing
        made = await asyncio.gather(*(store.create(key, thing()) for key in keys))
        for key, stored in zip(keys, made, strict=True):
            got = await other.get(key)
            assert got is not None
            assert got.revision == stored.revision

    meddle(scenario)


def test_an_update_whose_answer_is_lost_is_done_once_and_known(meddle: Callable[..., None]) -> None:
    async def scenario(store: EtcdStore, other: EtcdStore, proxy: MeddlingProxy) -> None:
        key = fresh_key()
        made = await store.create(key, thing())
        proxy.on, proxy.lose_answer = in_body(key), nothing
        changed = await store.update(key, thing(size=2), expected=made.revision)
        assert [each.revision for each in await history(other, key)] == [made.revision, changed.revision]

    meddle(scenario)


def test_an_update_whose_answer_is_lost_is_known_though_others_wrote_since(meddle: Callable[..., None]) -> None:
    async def scenario(store: EtcdStore, other: EtcdStore, proxy: MeddlingProxy) -> None:
        key = fresh_key()
        made = await store.create(key, thing())

        async def write() -> None:
            await other.update(key, thing(size=3), expected=made.revision + 1)

        proxy.on, proxy.lose_answer = in_body(key), write
        changed = await store.update(key, thing(size=2), expected=made.revision)
        assert changed.revision == made.revision + 1
        assert [each.stored.value.get("size") for each in await history(other, key)] == [None, 2, 3]

    meddle(scenario)


@pytest.mark.parametrize("method", ["update", "delete"])
def test_a_write_that_never_arrived_and_came_too_late_is_a_conflict(meddle: Callable[..., None], method: str) -> None:
    async def scenario(store: EtcdStore, other: EtcdStore, proxy: MeddlingProxy) -> None:
        key = fresh_key()
        made = await store.create(key, thing())
        proxy.swallow = True
        write = store.update(key, thing(size=2), expected=made.revision)
        if method == "delete":
            write.close()
            writing = asyncio.ensure_future(store.delete(key, expected=made.revision))
        else:
            writing = asyncio.ensure_future(write)
        before = proxy.connections
        while proxy.connections == before:  # a second attempt: the first had no answer
            await asyncio.sleep(0.01)
        await other.update(key, thing(size=3), expected=made.revision)
        proxy.swallow = False
        with pytest.raises(RevisionConflict):
            await writing
        got = await other.get(key)
        assert got is not None
        assert got.value["size"] == 3

    meddle(scenario, deadline_s=6.0)


def test_a_delete_whose_answer_is_lost_is_done_once_and_known(meddle: Callable[..., None]) -> None:
    async def scenario(store: EtcdStore, other: EtcdStore, proxy: MeddlingProxy) -> None:
        key = fresh_key()
        made = await store.create(key, thing(size=1))
        proxy.on, proxy.lose_answer = in_body(key), nothing
        gone = await store.delete(key, expected=made.revision)
        assert (gone.revision, gone.value) == (made.revision + 1, thing(size=1))
        assert [each.revision for each in await history(other, key)] == [made.revision, gone.revision]
        with pytest.raises(KeyMissing):
            await store.delete(key, expected=made.revision)

    meddle(scenario)


def test_a_silent_etcd_is_unavailable_within_the_deadline(meddle: Callable[..., None]) -> None:
    async def scenario(store: EtcdStore, other: EtcdStore, proxy: MeddlingProxy) -> None:
        key = fresh_key()
        proxy.swallow = True
        for call in (store.get(key), store.list(KEY), store.create(key, thing()), store.revision()):
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match="etcd"):
                await call
            assert time.monotonic() - began < 5
        proxy.swallow = False
        assert await other.get(key) is None
        await store.create(key, thing())

    meddle(scenario, deadline_s=1.0)


def test_the_next_member_is_asked_when_one_is_silent_or_gone(etcd_url: str) -> None:
    async def main() -> None:
        [closed] = free_ports(1)
        async with MeddlingProxy(int(etcd_url.rsplit(":", 1)[1])) as proxy:
            proxy.swallow = True
            store = EtcdStore([f"http://127.0.0.1:{closed}", proxy.url, etcd_url], deadline_s=4.0)
            try:
                key = fresh_key()
                made = await store.create(key, thing())
                got = await store.get(key)
                assert got is not None
                assert got.revision == made.revision
            finally:
                await store.close()

    asyncio.run(main())


async def take(watch: Watch, count: int) -> list[int]:
    """The revisions of the next events."""
    found: list[int] = []
    while len(found) < count:
        found += [each.revision for each in await watch.__anext__() if isinstance(each, StoreEvent)]
    return found


def test_watches_go_on_without_a_gap_or_a_double_over_broken_connections(meddle: Callable[..., None]) -> None:
    async def scenario(store: EtcdStore, other: EtcdStore, proxy: MeddlingProxy) -> None:
        chance = random.Random(5)
        made = []
        async with store.watch(KEY, after=await store.revision()) as watch:
            for _ in range(300):
                made.append((await other.create(fresh_key(), thing())).revision)
                if chance.random() < 0.05:
                    proxy.cut()
            assert await take(watch, 300) == made

    meddle(scenario)


def test_a_stream_that_is_dead_without_a_word_is_replaced(meddle: Callable[..., None]) -> None:
    async def scenario(store: EtcdStore, other: EtcdStore, proxy: MeddlingProxy) -> None:
        async with store.watch(KEY, after=await store.revision()) as watch:
            made = [(await other.create(fresh_key(), thing())).revision]
            assert await take(watch, 1) == made
            proxy.freeze()
            made = [(await other.create(fresh_key(), thing())).revision for _ in range(3)]
            assert await asyncio.wait_for(take(watch, 3), 15) == made

    meddle(scenario)


def test_a_watch_whose_missing_part_was_compacted_ends(meddle: Callable[..., None]) -> None:
    async def scenario(store: EtcdStore, other: EtcdStore, proxy: MeddlingProxy) -> None:
        async with store.watch(KEY, after=await store.revision()) as watch:
            proxy.swallow = True
            proxy.cut()
            for _ in range(3):
                last = (await other.create(fresh_key(), thing())).revision
            await other.compact(last)
            proxy.swallow = False
            with pytest.raises(Compacted):
                await watch.__anext__()
        async with store.watch(KEY, after=last) as fresh:
            made = (await other.create(fresh_key(), thing())).revision
            assert await take(fresh, 1) == [made]

    meddle(scenario)


def test_what_others_write_into_etcd_is_not_taken_for_objects(etcd_url: str) -> None:
    async def main() -> None:
        store = EtcdStore([etcd_url])
        somebody = Gateway([etcd_url], connector_in(None), deadline_s=5.0)
        try:
            await store.start()
            async with store.watch("/registry/odd/", after=await store.revision()) as watch:
                for key in ("somewhere/else", "/registry/odd/a"):
                    put = {"key": to_base64(key), "value": to_base64("no JSON")}
                    await somebody.call("/v3/kv/put", put, repeatable=True)
                made = await store.create("/registry/odd/b", thing())
                assert await take(watch, 1) == [made.revision]
                with pytest.raises(StoreError, match=r"/registry/odd/a: revision .* is no JSON object"):
                    await store.list("/registry/odd/")
                await somebody.call("/v3/kv/deleterange", {"key": to_base64("/registry/odd/a")}, repeatable=True)
                assert len((await store.list("/registry/odd/")).items) == 1
        finally:
            await somebody.close()
            await store.close()

    asyncio.run(main())


def test_an_object_that_is_too_large_is_refused(meddle: Callable[..., None]) -> None:
    async def scenario(store: EtcdStore, other: EtcdStore, proxy: MeddlingProxy) -> None:
        with pytest.raises(StoreError, match=r"etcd: .*large"):
            await store.create(fresh_key(), thing(data="x" * (5 << 20)))

    meddle(scenario)


def test_the_command_line_of_a_member() -> None:
    members = [EtcdMember.on_node(f"node{n}", f"192.168.1.{10 + n}", 100 + n) for n in (1, 2, 3)]
    flags = dict(each[2:].split("=", 1) for each in arguments(members[1], members)[1:])
    assert flags["name"] == "node2"
    assert flags["data-dir"] == "/var/lib/etcd"
    assert flags["listen-client-urls"] == "http://192.168.1.12:2379,http://127.0.0.1:2379"
    assert flags["listen-peer-urls"] == flags["initial-advertise-peer-urls"] == "http://192.168.1.12:2380"
    assert flags["initial-cluster"] == (
        "node1=http://192.168.1.11:2380,node2=http://192.168.1.12:2380,node3=http://192.168.1.13:2380"
    )
    assert members[1].namespaces == Namespaces(of_pid=102)
    assert members[1].log_path.endswith("/node2/var/log/etcd.log")
    assert EtcdProcesses(members).endpoints("node2") == [
        "http://127.0.0.1:2379",
        "http://192.168.1.11:2379",
        "http://192.168.1.13:2379",
    ]


def test_an_etcd_that_cannot_start_says_why(tmp_path: Path) -> None:
    member = local_member(tmp_path)
    (tmp_path / "data").write_text("not a directory")
    with pytest.raises(MininetesError, match=r"one: etcd ended with status .*data"):
        asyncio.run(EtcdProcesses([member]).start())


@pytest.mark.parametrize("said", ["etcd Version: 3.3.25", "nonsense", ""])
def test_an_etcd_that_is_too_old_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    old = tmp_path / "etcd"
    old.write_text(f"#!/bin/sh\necho '{said}'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(MissingFeature, match=r"etcd 3\.4 .*store: etcd.*install etcd-server"):
        etcd.check_version()


def test_a_machine_without_etcd_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingFeature, match="install etcd-server"):
        etcd.check_version()
