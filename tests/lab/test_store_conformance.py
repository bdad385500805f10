"""What every store does, in memory and in a real etcd: the same tests for both."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from etcd_process import running_etcd

from mininetes.apiserver.store import (
    Batch,
    Compacted,
    EtcdStore,
    FutureRevision,
    KeyExists,
    KeyMissing,
    MemoryStore,
    Overrun,
    Progress,
    RevisionConflict,
    Store,
    StoreEvent,
    Watch,
)

Scenario = Callable[[Store], Awaitable[None]]
Check = Callable[..., None]
DEADLINE_S = 20.0
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def etcd_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_etcd(tmp_path_factory.mktemp("etcd")) as url:
        yield url


@pytest.fixture(params=["memory", "etcd"])
def check(request: pytest.FixtureRequest) -> Check:
    """Run a scenario on a store of each kind; options go to the store."""
    url = request.getfixturevalue("etcd_url") if request.param == "etcd" else ""

    def run(scenario: Scenario, **options: Any) -> None:
        async def main() -> None:
            store: Store = EtcdStore([url], **options) if url else MemoryStore(**options)
            try:
                await store.start()
                await asyncio.wait_for(scenario(store), DEADLINE_S)
            finally:
                await store.close()

        asyncio.run(main())

    return run


@pytest.fixture
def at() -> str:
    """A prefix that no other test uses: the etcd is shared."""
    return f"/registry/things{next(_numbers)}/"


def thing(name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Thing", "metadata": {"name": name}, **more}


async def events_of(watch: Watch, count: int) -> list[StoreEvent]:
    """The next events, this many."""
    found: list[StoreEvent] = []
    while len(found) < count:
        found += [each for each in await watch.__anext__() if isinstance(each, StoreEvent)]
    assert len(found) == count
    return found


@asynccontextmanager
async def following(store: Store, prefix: str) -> AsyncIterator[Watch]:
    async with store.watch(prefix, after=await store.revision()) as watch:
        yield watch


def shape(events: list[StoreEvent]) -> list[tuple[str, str, int, bool]]:
    """Events as type, last part of the key, revision, and whether something was there before."""
    return [(e.type, e.stored.key.rsplit("/", 1)[1], e.revision, e.previous is not None) for e in events]


def test_an_object_is_made_read_changed_and_deleted(check: Check, at: str) -> None:
    async def scenario(store: Store) -> None:
        start = await store.revision()
        made = await store.create(at + "a", thing("a", size=1))
        assert made.revision == start + 1
        assert await store.revision() == made.revision
        got = await store.get(at + "a")
        assert got is not None
        assert (got.key, got.value, got.revision) == (at + "a", thing("a", size=1), made.revision)
        changed = await store.update(at + "a", thing("a", size=2), expected=made.revision)
        assert changed.revision == made.revision + 1
        gone = await store.delete(at + "a", expected=changed.revision)
        assert (gone.value["size"], gone.revision) == (2, changed.revision + 1)
        assert await store.get(at + "a") is None

    check(scenario)


def test_clients_see_the_revision_in_the_object_and_the_store_keeps_it_out(check: Check, at: str) -> None:
    async def scenario(store: Store) -> None:
        value = thing("a")
        value["metadata"]["resourceVersion"] = "7"
        made = await store.create(at + "a", value)
        got = await store.get(at + "a")
        assert got is not None
        for stored in (made, got):
            assert stored.value == thing("a")
            assert stored.object["metadata"] == {"name": "a", "resourceVersion": str(made.revision)}
            assert orjson.loads(stored.encoded) == stored.object
            assert stored.encoded is stored.encoded
        own = got.copy()
        own["metadata"]["name"] = "changed"
        assert got.object["metadata"]["name"] == "a"

    check(scenario)


def test_create_refuses_a_key_that_is_there_and_changes_nothing(check: Check, at: str) -> None:
    async def scenario(store: Store) -> None:
        made = await store.create(at + "a", thing("a", size=1))
        with pytest.raises(KeyExists, match=r"things.*/a: exists already"):
            await store.create(at + "a", thing("a", size=2))
        got = await store.get(at + "a")
        assert got is not None
        assert got.value["size"] == 1
        assert await store.revision() == made.revision

    check(scenario)


@pytest.mark.parametrize("shift", [-1, 1])
def test_writes_name_the_revision_that_they_replace(check: Check, at: str, shift: int) -> None:
    async def scenario(store: Store) -> None:
        made = await store.create(at + "a", thing("a"))
        wrong = made.revision + shift
        with pytest.raises(RevisionConflict, match=f"expected revision {wrong}, found {made.revision}"):
            await store.update(at + "a", thing("a", size=2), expected=wrong)
        with pytest.raises(RevisionConflict):
            await store.delete(at + "a", expected=wrong)
        got = await store.get(at + "a")
        assert got is not None
        assert got.value == thing("a")
        assert await store.revision() == made.revision

    check(scenario)


@pytest.mark.parametrize("expected", [0, 1])
def test_what_is_not_there_cannot_be_changed_or_deleted(check: Check, at: str, expected: int) -> None:
    async def scenario(store: Store) -> None:
        before = await store.revision()
        with pytest.raises(KeyMissing):
            await store.update(at + "a", thing("a"), expected=expected)
        with pytest.raises(KeyMissing):
            await store.delete(at + "a", expected=expected)
        with pytest.raises(KeyMissing):
            await store.delete(at + "a")
        assert await store.revision() == before

    check(scenario)


def test_of_many_who_write_one_key_one_wins(check: Check, at: str) -> None:
    async def scenario(store: Store) -> None:
        made = await asyncio.gather(
            *(store.create(at + "a", thing("a", by=n)) for n in range(8)), return_exceptions=True
        )
        assert sum(isinstance(each, KeyExists) for each in made) == 7
        got = await store.get(at + "a")
        assert got is not None
        changed = await asyncio.gather(
            *(store.update(at + "a", thing("a", by=n), expected=got.revision) for n in range(8)),
            return_exceptions=True,
        )
        assert sum(isinstance(each, RevisionConflict) for each in changed) == 7
        assert await store.revision() == got.revision + 1

    check(scenario)


def test_delete_without_a_revision_deletes_what_is_there_while_others_write(check: Check, at: str) -> None:
    async def scenario(store: Store) -> None:
        made = await store.create(at + "a", thing("a"))
        gone, changed = await asyncio.gather(
            store.delete(at + "a"),
            store.update(at + "a", thing("a", size=2), expected=made.revision),
            return_exceptions=True,
        )
        assert not isinstance(gone, BaseException)
        assert isinstance(changed, KeyMissing) or gone.value["size"] == 2  # type: ignore[index]
        assert await store.get(at + "a") is None

    check(scenario)


def test_a_list_holds_its_prefix_in_the_order_of_keys(check: Check, at: str) -> None:
    async def scenario(store: Store) -> None:
        for key in ("b/2", "a/1", "b/1", "c/1", "b/10", "bb/1"):
            await store.create(at + key, thing(key))
        everything = await store.list(at)
        assert [each.key.removeprefix(at) for each in everything.items] == ["a/1", "b/1", "b/10", "b/2", "bb/1", "c/1"]
        assert everything.revision == await store.revision()
        assert (everything.continue_key, everything.remaining) == (None, None)
        assert [each.key.removeprefix(at) for each in (await store.list(at + "b/")).items] == ["b/1", "b/10", "b/2"]
        assert (await store.list(at + "d/")).items == []

    check(scenario)


@pytest.mark.parametrize("limit", [1, 3, 5, 7, 100])
def test_pages_fit_together_though_the_store_goes_on(check: Check, at: str, limit: int) -> None:
    async def scenario(store: Store) -> None:
        names = [f"{n:02}" for n in range(12)]
        for name in names:
            await store.create(at + name, thing(name, size=1))
        page = await store.list(at, limit=limit)
        found = list(page.items)
        first = page.revision
        while page.continue_key is not None:
            assert len(page.items) == limit
            assert page.remaining == len(names) - len(found)
            at_hand = {each.key: each for each in (await store.list(at)).items}
            victims = sorted(at_hand)
            await store.delete(victims[-1])
            await store.update(victims[0], thing("x", size=2), expected=at_hand[victims[0]].revision)
            await store.create(f"{at}new{len(found)}", thing("new"))
            page = await store.list(at, limit=limit, start_key=page.continue_key, revision=first)
            assert page.revision == first
            found += page.items
        assert [(each.value["metadata"]["name"], each.value["size"]) for each in found] == [(n, 1) for n in names]

    check(scenario)


def test_a_long_list_is_whole(check: Check, at: str) -> None:
    async def scenario(store: Store) -> None:
        await asyncio.gather(*(store.create(f"{at}{n:04}", thing(str(n))) for n in range(700)))
        assert [each.value["metadata"]["name"] for each in (await store.list(at)).items] == [str(n) for n in range(700)]
        page = await store.list(at, limit=600)
        assert (len(page.items), page.remaining) == (600, 100)

    check(scenario)


def test_a_list_of_the_past_needs_its_history(check: Check, at: str) -> None:
    async def scenario(store: Store) -> None:
        first = await store.create(at + "a", thing("a", size=1))
        second = await store.update(at + "a", thing("a", size=2), expected=first.revision)
        await store.delete(at + "a")
        assert [each.value["size"] for each in (await store.list(at, revision=first.revision)).items] == [1]
        assert [each.revision for each in (await store.list(at, revision=second.revision)).items] == [second.revision]
        await store.compact(second.revision)
        with pytest.raises(Compacted):
            await store.list(at, revision=first.revision)
        assert len((await store.list(at, revision=second.revision)).items) == 1
        with pytest.raises(FutureRevision):
            await store.list(at, revision=await store.revision() + 5)

    check(scenario)


def test_a_watch_tells_every_write_below_its_prefix_in_order(check: Check, at: str) -> None:
    async def scenario(store: Store) -> None:
        async with following(store, at + "x/") as watch:
            made = await store.create(at + "x/a", thing("a", size=1))
            await store.create(at + "y/a", thing("a"))
            changed = await store.update(at + "x/a", thing("a", size=2), expected=made.revision)
            gone = await store.delete(at + "x/a")
            events = await events_of(watch, 3)
        assert shape(events) == [
            ("PUT", "a", made.revision, False),
            ("PUT", "a", changed.revision, True),
            ("DELETE", "a", gone.revision, True),
        ]
        assert [each.stored.value["size"] for each in events] == [1, 2, 2]
        assert events[1].previous is not None
        assert events[1].previous.value["size"] == 1
        assert events[2].stored.object["metadata"]["resourceVersion"] == str(gone.revision)

    check(scenario)


def test_a_watch_can_begin_in_the_past_and_joins_a_list_without_a_gap(check: Check, at: str) -> None:
    async def scenario(store: Store) -> None:
        await store.create(at + "a", thing("a"))
        page = await store.list(at)
        later = [await store.create(f"{at}{n}", thing(str(n))) for n in range(5)]
        async with store.watch(at, after=page.revision) as watch:
            later += [await store.create(f"{at}more{n}", thing(str(n))) for n in range(5)]
            events = await events_of(watch, 10)
        assert [each.revision for each in events] == [each.revision for each in later]
        async with store.watch(at, after=later[3].revision) as watch:
            assert [each.revision for each in await events_of(watch, 6)] == [each.revision for each in later[4:]]

    check(scenario)


def test_a_watch_may_begin_at_a_revision_to_come(check: Check, at: str) -> None:
    async def scenario(store: Store) -> None:
        now = await store.revision()
        async with store.watch(at, after=now + 2) as watch:
            for n in range(3):
                await store.create(f"{at}{n}", thing(str(n)))
            assert [each.revision for each in await events_of(watch, 1)] == [now + 3]

    check(scenario)


def test_watchers_and_readers_share_one_object_and_its_json(check: Check, at: str) -> None:
    async def scenario(store: Store) -> None:
        now = await store.revision()
        async with store.watch(at, after=now) as one, store.watch(at, after=now) as other:
            await store.create(at + "a", thing("a"))
            [first], [second] = await events_of(one, 1), await events_of(other, 1)
            assert first.stored is second.stored
            assert first.stored.encoded is second.stored.encoded
            assert (await store.get(at + "a")) is first.stored
            assert (await store.list(at)).items[0] is first.stored

    check(scenario)


def test_a_watch_from_before_the_compaction_is_refused(check: Check, at: str) -> None:
    async def scenario(store: Store) -> None:
        first = await store.create(at + "a", thing("a"))
        second = await store.create(at + "b", thing("b"))
        async with store.watch(at, after=first.revision) as begun:
            await store.compact(second.revision)
            await store.compact(second.revision)
            assert shape(await events_of(begun, 1)) == [("PUT", "b", second.revision, False)]
        async with store.watch(at, after=first.revision) as late:
            with pytest.raises(Compacted, match=f"revision {first.revision} has been compacted"):
                await late.__anext__()
            with pytest.raises(Compacted):
                await late.__anext__()
        async with store.watch(at, after=second.revision) as fitting:
            await store.delete(at + "a")
            assert [each.type for each in await events_of(fitting, 1)] == ["DELETE"]

    check(scenario)


def test_a_reader_that_lags_too_far_is_ended_and_the_others_get_everything(check: Check, at: str) -> None:
    async def scenario(store: Store) -> None:
        async with following(store, at) as slow, following(store, at) as quick:
            taken = []
            for n in range(30):
                await store.create(f"{at}{n:02}", thing(str(n)))
                taken += await events_of(quick, 1)
            assert len(taken) == 30
            with pytest.raises(Overrun, match="more than 20 events"):
                await slow.__anext__()

    check(scenario, bound=20)


def test_history_beyond_the_window_is_refused_not_thinned(check: Check, at: str) -> None:
    async def scenario(store: Store) -> None:
        async with following(store, at) as held:
            start = await store.revision()
            for n in range(40):
                await store.create(f"{at}{n:02}", thing(str(n)))
            assert len(await events_of(held, 40)) == 40
        async with store.watch(at, after=start) as late:
            with pytest.raises(Compacted):
                await late.__anext__()
        async with store.watch(at, after=start + 30) as fitting:
            assert len(await events_of(fitting, 10)) == 10

    check(scenario, window=20)


def test_progress_comes_behind_what_was_delivered(check: Check, at: str) -> None:
    async def scenario(store: Store) -> None:
        async with following(store, at) as watch, following(store, at + "other/") as quiet:
            made = await store.create(at + "a", thing("a"))
            assert shape(await events_of(watch, 1)) == [("PUT", "a", made.revision, False)]
            quiet.request_progress()
            batch: Batch = await quiet.__anext__()
            assert batch == [Progress(made.revision)]

    check(scenario)


def test_a_closed_watch_ends_and_cancelling_a_reader_loses_nothing(check: Check, at: str) -> None:
    async def scenario(store: Store) -> None:
        watch = store.watch(at, after=await store.revision())
        reading = asyncio.ensure_future(watch.__anext__())
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await store.create(at + "a", thing("a"))
        assert len(await events_of(watch, 1)) == 1
        watch.close()
        watch.close()
        assert [batch async for batch in watch] == []

    check(scenario)


def test_closing_the_store_ends_its_watches(check: Check, at: str) -> None:
    async def scenario(store: Store) -> None:
        watch = store.watch(at, after=await store.revision())
        await store.close()
        await store.close()
        assert [batch async for batch in watch] == []

    check(scenario)


def test_names_and_values_may_be_any_text(check: Check, at: str) -> None:
    async def scenario(store: Store) -> None:
        value = thing("ä", data={"text": 'quote " slash / \n € 𝄞', "big": 2**53, "none": None, "long": "x" * 200_000})
        await store.create(at + "ä-\u2028", value)
        async with store.watch(at, after=await store.revision() - 1) as watch:
            [event] = await events_of(watch, 1)
        assert event.stored.value == value
        assert [each.value for each in (await store.list(at)).items] == [value]

    check(scenario)


def test_objects_of_the_largest_size_that_the_api_takes_are_kept_listed_and_told(check: Check, at: str) -> None:
    async def scenario(store: Store) -> None:
        async with following(store, at) as watch:
            for n in range(6):
                await store.create(f"{at}{n}", thing(str(n), data="x" * (3 << 20)))
            assert [len(each.stored.value["data"]) for each in await events_of(watch, 6)] == [3 << 20] * 6
        assert [len(each.value["data"]) for each in (await store.list(at)).items] == [3 << 20] * 6
        for each in (await store.list(at)).items:
            await store.delete(each.key)  # the etcd is shared

    check(scenario)
