"""Watches: what begins them, what they tell, and how they end."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.unit.running_api import MAPS, PODS, TOKEN, Api, config, pod, served, until

WATCH = MAPS + "?watch=true"


@served
async def test_changes_after_a_version(api: Api) -> None:
    first = await api.ok("POST", MAPS, config("before"))
    version = first["metadata"]["resourceVersion"]
    await api.ok("POST", MAPS, config("a", x="1"))
    async with api.watch(f"{WATCH}&resourceVersion={version}") as events:
        await api.ok("PUT", MAPS + "/a", config("a", x="2"))
        await api.ok("DELETE", MAPS + "/a")
        await api.ok("POST", "/api/v1/namespaces/kube-system/configmaps", config("elsewhere"))
        await api.ok("POST", MAPS, config("b"))
        told = [await events.next() for _ in range(4)]
    assert [(kind, obj["metadata"]["name"]) for kind, obj in told] == [
        ("ADDED", "a"),
        ("MODIFIED", "a"),
        ("DELETED", "a"),
        ("ADDED", "b"),
    ]
    versions = [int(obj["metadata"]["resourceVersion"]) for _, obj in told]
    assert versions == sorted(set(versions)), "the version of a deletion is its own"
    assert told[2][1]["data"] == {"x": "2"}


@served
async def test_without_a_version_it_begins_with_what_there_is(api: Api) -> None:
    await api.ok("POST", MAPS, config("a"))
    for query in ("", "&resourceVersion=", "&resourceVersion=0"):
        async with api.watch(WATCH + query) as events:
            assert await events.names(1) == [("ADDED", "a")]
            await api.ok("POST", MAPS, config("b"))
            assert await events.names(1) == [("ADDED", "b")]
        await api.ok("DELETE", MAPS + "/b")


@served
async def test_initial_events_end_with_a_bookmark(api: Api) -> None:
    await api.ok("POST", MAPS, config("a"))
    query = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion="
    async with api.watch(WATCH + query) as events:
        assert await events.names(1) == [("ADDED", "a")]
        kind, mark = await events.next()
        assert kind == "BOOKMARK"
        assert mark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert mark["metadata"]["resourceVersion"] == str(await api.store.revision())
        await api.ok("POST", MAPS, config("b"))
        assert await events.names(1) == [("ADDED", "b")]


@served
async def test_objects_come_and_go_as_they_match(api: Api) -> None:
    async with api.watch(f"{WATCH}&labelSelector=on%3Dyes") as events:
        await api.ok("POST", MAPS, config("a", {"on": "no"}))
        await api.ok("PUT", MAPS + "/a", config("a", {"on": "yes"}))
        await api.ok("PUT", MAPS + "/a", config("a", {"on": "yes"}, x="1"))
        gone = await api.ok("PUT", MAPS + "/a", config("a", {"on": "no"}))
        await api.ok("PUT", MAPS + "/a", config("a", {"on": "no"}, x="2"))
        await api.ok("DELETE", MAPS + "/a")
        await api.ok("POST", MAPS, config("end", {"on": "yes"}))
        told = [await events.next() for _ in range(4)]
    assert [kind for kind, _ in told] == ["ADDED", "MODIFIED", "DELETED", "ADDED"]
    assert told[2][1]["metadata"]["resourceVersion"] == gone["metadata"]["resourceVersion"]


@served
async def test_a_kubelet_sees_its_pods_arrive(api: Api) -> None:
    async with api.watch("/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dnode1") as events:
        await api.ok("POST", PODS, pod("p"))
        await api.ok("POST", PODS + "/p/binding", {"target": {"kind": "Node", "name": "node1"}})
        assert await events.names(1) == [("ADDED", "p")]


@served
async def test_time_is_up_with_a_last_bookmark(api: Api) -> None:
    started = time.monotonic()
    now = await api.store.revision()
    async with api.watch(f"{WATCH}&resourceVersion={now}&allowWatchBookmarks=true&timeoutSeconds=1") as events:
        kind, mark = await events.next()
        assert (kind, mark["kind"], mark["metadata"]["resourceVersion"]) == ("BOOKMARK", "ConfigMap", str(now))
        with pytest.raises(EOFError):
            await events.next()
    assert 0.9 < time.monotonic() - started < 4
    async with api.watch(f"{WATCH}&timeoutSeconds=1") as events:
        with pytest.raises(EOFError):
            await events.next()


@served
async def test_a_version_that_is_too_old_is_gone(api: Api) -> None:
    then = await api.store.revision()
    await api.ok("POST", MAPS, config("a"))
    await api.store.compact(await api.store.revision())
    async with api.watch(f"{WATCH}&resourceVersion={then}") as events:
        kind, status = await events.next()
        assert (kind, status["kind"], status["code"], status["reason"]) == ("ERROR", "Status", 410, "Expired")
        with pytest.raises(EOFError):
            await events.next()


@served
async def test_tables_are_watched_too(api: Api) -> None:
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    async with api.watch("/api/v1/pods?watch=1", accept=accept) as events:
        await api.ok("POST", PODS, pod("a"))
        await api.ok("POST", PODS, pod("b"))
        _, first = await events.next()
        _, second = await events.next()
    assert [column["name"] for column in first["columnDefinitions"]][:2] == ["Name", "Ready"]
    assert first["rows"][0]["cells"][0] == "a"
    assert not second["columnDefinitions"]
    assert second["rows"][0]["cells"][0] == "b"


@served
async def test_one_object_can_be_watched_by_its_path(api: Api) -> None:
    async with api.watch(MAPS + "/b?watch=1") as events:
        await api.ok("POST", MAPS, config("a"))
        await api.ok("POST", MAPS, config("b"))
        assert await events.names(1) == [("ADDED", "b")]


@served
async def test_a_watcher_that_does_not_read_holds_up_nobody_and_loses_nothing(api: Api) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port, ssl=api.client._tls, limit=1 << 16)
    writer.write(f"GET {WATCH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    async with api.watch(WATCH) as quick:
        for number in range(400):
            started = time.monotonic()
            await api.ok("POST", MAPS, config(f"c{number}", x="a" * 20_000))
            assert await quick.names(1) == [("ADDED", f"c{number}")]
            assert time.monotonic() - started < 2
    seen = b""
    while seen.count(b'"type":"ADDED"') < 400:
        seen += await asyncio.wait_for(reader.read(1 << 20), 5)
    writer.close()


@served
async def test_clients_that_go_are_forgotten(api: Api) -> None:
    for _ in range(5):
        async with api.watch(WATCH):
            pass
    await until(lambda: not api.server._streams, "all watches ended")
    metrics = await api.ok("GET", "/metrics")
    assert 'apiserver_longrunning_requests{resource="configmaps",verb="WATCH"} 0' in metrics
