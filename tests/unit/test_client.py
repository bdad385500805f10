"""The client: calls, refusals, several servers, deadlines, watches that break."""

from __future__ import annotations

import asyncio
import socket

import pytest

from mininetes.apiserver.client import Client, Unreachable
from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.pki import Pki
from mininetes.errors import BadInput
from tests.unit.running_api import PKI, TOKEN, Api, config, deployment, listening, pod, running, served


@served
async def test_all_verbs(api: Api) -> None:
    client = api.client
    made = await client.create("configmaps", config(x="1"), "default")
    assert await client.get("configmaps", "a", "default") == made
    made["data"] = {"x": "2"}
    made = await client.update("configmaps", made)
    patched = await client.patch("configmaps", "a", {"data": {"y": "3"}}, "default")
    assert patched["data"] == {"x": "2", "y": "3"}
    listed = await client.list("configmaps", labels="", fields="metadata.name=a")
    assert [item["data"] for item in listed["items"]] == [patched["data"]]
    await client.delete("configmaps", "a", "default", uid=made["metadata"]["uid"])
    with pytest.raises(ApiError) as refused:
        await client.get("configmaps", "a", "default")
    assert (refused.value.code, refused.value.reason, str(refused.value)) == (
        404,
        "NotFound",
        'configmaps "a" not found',
    )
    assert refused.value.details["name"] == "a"
    await client.create("deployments.apps", deployment(), "default")
    status = {**deployment(), "status": {"replicas": 1}}
    status["metadata"]["namespace"] = "default"
    assert (await client.update("deployments.apps", status, subresource="status"))["status"]["replicas"] == 1
    steps = [{"op": "replace", "path": "/spec/replicas", "value": 7}]
    assert (await client.patch("deploy", "a", steps, "default", kind="json"))["spec"]["replicas"] == 7
    await client.create("pods", pod(nodeName="n1"), "default")
    gone = await client.delete("pods", "a", "default", grace_s=3)
    assert gone["metadata"]["deletionGracePeriodSeconds"] == 3
    assert await client.request("GET", "/healthz") == "ok"


@served
async def test_pages(api: Api) -> None:
    for number in range(3):
        await api.client.create("configmaps", config(f"c{number}"), "default")
    first = await api.client.list("configmaps", "default", limit=2)
    rest = await api.client.list("configmaps", "default", limit=2, continue_=first["metadata"]["continue"])
    assert [item["metadata"]["name"] for item in (*first["items"], *rest["items"])] == ["c0", "c1", "c2"]


@served
async def test_a_watch(api: Api) -> None:
    await api.client.create("configmaps", config("a", x="z" * 300_000), "default")
    seen = []
    async for kind, obj in api.client.watch("configmaps", "default", resource_version="0", timeout_s=1):
        seen.append((kind, obj["metadata"].get("name")))
    assert seen[0] == ("ADDED", "a")
    assert seen[-1] == ("BOOKMARK", None), "the server ends it, and says how far it came"
    await api.store.compact(await api.store.revision())
    with pytest.raises(ApiError) as lost:
        async for _ in api.client.watch("configmaps", resource_version="1"):
            pass
    assert lost.value.code == 410


@served
async def test_unknown_kinds_and_wrong_tokens(api: Api) -> None:
    with pytest.raises(BadInput):
        await api.client.get("widgets", "a")
    stranger = Client([api.url], token="wrong", ca_pem=PKI.ca_pem)
    with pytest.raises(ApiError) as refused:
        await stranger.list("pods")
    assert refused.value.code == 401
    await stranger.close()


def unused_url() -> str:
    sock = listening()
    url = f"https://127.0.0.1:{sock.getsockname()[1]}"
    sock.close()
    return url


@served
async def test_the_next_server_is_tried_and_then_preferred(api: Api) -> None:
    client = Client([unused_url(), unused_url(), api.url], token=TOKEN, ca_pem=PKI.ca_pem)
    await client.create("configmaps", config(), "default")
    assert (await client.get("configmaps", "a", "default"))["metadata"]["name"] == "a"
    assert client._preferred == 2
    await client.close()


def test_no_server_at_all() -> None:
    async def scenario() -> None:
        urls = [unused_url(), unused_url()]
        client = Client(urls, token="t", ca_pem=PKI.ca_pem)
        with pytest.raises(Unreachable) as failed:
            await client.get("pods", "a", "default")
        assert all(url in str(failed.value) for url in urls)
        assert not failed.value.sent
        await client.close()
        await client.close()

    asyncio.run(scenario())


def test_a_server_that_says_nothing_has_a_deadline() -> None:
    """It accepts connections and is silent, as behind a link that was cut."""

    async def scenario() -> None:
        silent = listening()
        async with running() as api:
            loop = asyncio.get_running_loop()
            url = f"https://127.0.0.1:{silent.getsockname()[1]}"
            client = Client([url], token=TOKEN, ca_pem=PKI.ca_pem)
            started = loop.time()
            with pytest.raises(Unreachable):
                await client.request("GET", "/version", timeout_s=0.5)
            assert loop.time() - started < 2
            both = Client([url, api.url], token=TOKEN, ca_pem=PKI.ca_pem)
            assert (await both.request("GET", "/version", timeout_s=2))["minor"] == "30"
            await client.close()
            await both.close()
        silent.close()

    asyncio.run(scenario())


def test_a_server_of_another_lab_is_not_trusted() -> None:
    async def scenario() -> None:
        async with running() as api:
            client = Client([api.url], token=TOKEN, ca_pem=Pki().ca_pem)
            with pytest.raises(Unreachable, match="certificate"):
                await client.list("pods")
            await client.close()

    asyncio.run(scenario())


def test_a_watch_that_breaks_is_unreachable() -> None:
    async def scenario() -> None:
        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"typ\r\n')
            await writer.drain()
            writer.close()

        sock: socket.socket = listening()
        context = PKI.issue_api_server("node1", []).server_context()
        async with await asyncio.start_server(serve, sock=sock, ssl=context):
            client = Client([f"https://127.0.0.1:{sock.getsockname()[1]}"], token="t", ca_pem=PKI.ca_pem)
            with pytest.raises(Unreachable, match="broke"):
                async for _ in client.watch("pods", resource_version="1"):
                    pass
            await client.close()

    asyncio.run(scenario())
