"""Scale, binding, eviction, and what a kubelet answers: logs and exec."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.kubelets import Kubelets
from tests.unit.running_api import DEPLOYMENTS, PKI, PODS, TOKEN, Api, deployment, listening, pod, running, served

MERGE = "application/merge-patch+json"


@served
async def test_scale(api: Api) -> None:
    await api.ok("POST", DEPLOYMENTS, deployment())
    path = DEPLOYMENTS + "/a/scale"
    scale = await api.ok("GET", path)
    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert (scale["spec"], scale["status"]) == ({"replicas": 2}, {"replicas": 0, "selector": "app=a"})
    scale["spec"]["replicas"] = 4
    assert (await api.ok("PUT", path, scale))["spec"]["replicas"] == 4
    (await api.unchanged("PUT", path, scale)).refused(409, "Conflict")
    assert (await api.ok("PATCH", path, {"spec": {"replicas": 1}}, content_type=MERGE))["spec"]["replicas"] == 1
    current = await api.ok("GET", DEPLOYMENTS + "/a")
    assert (current["spec"]["replicas"], current["metadata"]["generation"]) == (1, 3)
    for wrong, code in (({"replicas": -1}, 422), ({"replicas": "x"}, 400), ([], 400)):
        answer = await api.unchanged("PUT", path, {"metadata": {"name": "a"}, "spec": wrong})
        assert answer.status == code, answer.body
    (await api.unchanged("PUT", path, {"kind": "Deployment", "metadata": {"name": "a"}})).refused(400, "BadRequest")
    (await api.unchanged("GET", DEPLOYMENTS + "/b/scale")).refused(404, "NotFound")


@served
async def test_binding(api: Api) -> None:
    made = await api.ok("POST", PODS, pod())
    binding = {
        "kind": "Binding",
        "apiVersion": "v1",
        "metadata": {"name": "a"},
        "target": {"kind": "Node", "name": "n1"},
    }
    other = {**binding, "metadata": {"name": "a", "uid": "other"}}
    (await api.unchanged("POST", PODS + "/a/binding", other)).refused(409, "Conflict")
    answer = await api.call("POST", PODS + "/a/binding", binding)
    assert (answer.status, answer.body["status"]) == (201, "Success")
    bound = await api.ok("GET", PODS + "/a")
    assert bound["spec"]["nodeName"] == "n1"
    assert bound["metadata"]["uid"] == made["metadata"]["uid"]
    assert [(each["type"], each["status"]) for each in bound["status"]["conditions"]] == [("PodScheduled", "True")]
    message = (await api.unchanged("POST", PODS + "/a/binding", binding)).refused(409, "Conflict")
    assert message.endswith('pod a is already assigned to node "n1"')
    (await api.unchanged("POST", PODS + "/a/binding", {"target": {}})).refused(422, "Invalid")
    (await api.unchanged("POST", PODS + "/b/binding", {"target": {"name": "n1"}})).refused(404, "NotFound")


@served
async def test_eviction(api: Api) -> None:
    await api.ok("POST", PODS, pod(nodeName="n1"))
    eviction = {
        "kind": "Eviction",
        "apiVersion": "policy/v1",
        "metadata": {"name": "a"},
        "deleteOptions": {"gracePeriodSeconds": 7},
    }
    await api.ok("POST", PODS + "/a/eviction", eviction)
    assert (await api.ok("GET", PODS + "/a"))["metadata"]["deletionGracePeriodSeconds"] == 7


class Kubelet:
    """Answers as a kubelet does, on a port of loopback; notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[web.Request] = []

    async def logs(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        if request.match_info["container"] == "broken":
            return web.Response(status=404, text='container "broken" has no log')
        response = web.StreamResponse()
        await response.prepare(request)
        for line in (b"one\n", b"two\n"):
            await response.write(line)
        return response

    async def exec(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        if "refuse" in request.query.getall("command"):
            status = ApiError(500, "InternalError", "the container does not run").to_status()
            return web.json_response(status, status=500)
        socket = web.WebSocketResponse(protocols=("v5.channel.k8s.io", "v4.channel.k8s.io"))
        await socket.prepare(request)
        async for frame in socket:
            if frame.type == WSMsgType.TEXT:
                await socket.send_str(frame.data.upper())
            elif frame.type == WSMsgType.BINARY and frame.data[0] == 0:
                await socket.send_bytes(b"\x01" + frame.data[1:].upper())
            elif frame.type == WSMsgType.BINARY and frame.data[0] == 255:
                await socket.send_bytes(b"\x03" + b'{"status":"Success"}')
                break
        await socket.close()
        return socket


@asynccontextmanager
async def with_kubelet() -> AsyncIterator[tuple[Api, Kubelet]]:
    """A server whose node "n1" has the kubelet."""
    kubelet = Kubelet()
    app = web.Application()
    app.router.add_get("/containerLogs/{ns}/{pod}/{container}", kubelet.logs)
    app.router.add_route("*", "/exec/{ns}/{pod}/{container}", kubelet.exec)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    sock = listening()
    context = PKI.issue_kubelet("n1", "127.0.0.1").server_context()
    await web.SockSite(runner, sock, ssl_context=context).start()
    try:
        async with running() as api:
            port = sock.getsockname()[1]
            own = Kubelets(api.server.registry, ca_pem=PKI.ca_pem, token="k", netns=None, port=port)
            await api.server._kubelets.close()
            api.server._kubelets = own
            node: dict[str, Any] = {"metadata": {"name": "n1"}}
            node["status"] = {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]}
            await api.ok("POST", "/api/v1/nodes", node)
            await api.ok("POST", PODS, pod("p", nodeName="n1"))
            yield api, kubelet
    finally:
        await runner.cleanup()


def on_node(test: Any) -> Any:
    async def scenario() -> None:
        async with with_kubelet() as (api, kubelet):
            await asyncio.wait_for(test(api, kubelet), 30)

    def run() -> None:
        asyncio.run(scenario())

    run.__name__ = test.__name__
    return run


@on_node
async def test_logs_come_from_the_kubelet(api: Api, kubelet: Kubelet) -> None:
    answer = await api.call("GET", PODS + "/p/log?follow=true&tailLines=5")
    assert (answer.status, answer.body) == (200, "one\ntwo\n")
    asked = kubelet.asked[0]
    assert asked.path == "/containerLogs/default/p/c"
    assert (asked.query["follow"], asked.query["tailLines"]) == ("true", "5")
    assert asked.headers["Authorization"] == "Bearer k"


@on_node
async def test_logs_that_there_are_not(api: Api, kubelet: Kubelet) -> None:
    await api.ok("POST", PODS, pod("free"))
    two = pod("two", nodeName="n1")
    two["spec"]["containers"].append({"name": "broken", "image": "x"})
    await api.ok("POST", PODS, two)
    for path, code, words in (
        ("/nope/log", 404, 'pods "nope" not found'),
        ("/free/log", 400, "pod free does not have a host assigned"),
        ("/p/log?container=x", 400, "container x is not valid for pod p"),
        ("/two/log", 400, "a container name must be specified for pod two, choose one of: [c broken]"),
        ("/two/log?container=broken", 404, 'container "broken" has no log'),
    ):
        answer = await api.unchanged("GET", PODS + path)
        assert (answer.status, answer.body["message"]) == (code, words)


@on_node
async def test_exec_passes_frames_both_ways(api: Api, kubelet: Kubelet) -> None:
    url = api.url + PODS + "/p/exec?command=cat&command=-&stdin=true&stdout=true&container=c"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    for protocols in (("v5.channel.k8s.io", "v4.channel.k8s.io"), ("v4.channel.k8s.io",)):
        async with api.session.ws_connect(url, headers=headers, protocols=protocols) as socket:
            assert socket.protocol == protocols[0]
            await socket.send_bytes(b"\x00hello")
            assert await socket.receive_bytes() == b"\x01HELLO"
            await socket.send_str("text")  # what the Python client sends
            assert await socket.receive_str() == "TEXT"
            await socket.send_bytes(b"\xff\x00")  # v5: stdin is at its end
            assert await socket.receive_bytes() == b'\x03{"status":"Success"}'
            assert (await socket.receive(timeout=5)).type in (WSMsgType.CLOSE, WSMsgType.CLOSED)
    asked = kubelet.asked[0]
    assert asked.path == "/exec/default/p/c"
    assert asked.query.getall("command") == ["cat", "-"]
    assert (asked.query["stdin"], asked.query["input"], asked.query["output"]) == ("true", "1", "1")


@on_node
async def test_exec_without_websocket_is_told_what_is_needed(api: Api, kubelet: Kubelet) -> None:
    path = PODS + "/p/exec?command=ls"
    message = (await api.unchanged("POST", path, Connection="Upgrade", Upgrade="SPDY/3.1")).refused(400, "BadRequest")
    assert "WebSocket" in message
    assert "kubectl 1.30" in message
    assert (await api.unchanged("GET", path)).refused(400, "BadRequest") == "Upgrade request required"
    websocket = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Protocol": "v1.channel.k8s.io"}
    assert "v5.channel.k8s.io" in (await api.unchanged("GET", path, **websocket)).refused(400, "BadRequest")
    assert not kubelet.asked


@on_node
async def test_exec_that_the_kubelet_refuses(api: Api, kubelet: Kubelet) -> None:
    path = PODS + "/p/exec?command=refuse"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await api.session.ws_connect(api.url + path, headers=headers, protocols=("v5.channel.k8s.io",))
    assert refused.value.status == 500
    # kubectl tries again with SPDY then, and shows what it is told there.
    spdy = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1"}
    again = await api.call("POST", path, **spdy)
    assert again.refused(500, "InternalError") == "the container does not run"
    assert "WebSocket" in (await api.call("POST", path, **spdy)).refused(400, "BadRequest")
    assert len(kubelet.asked) == 1


@served
async def test_a_kubelet_that_does_not_answer(api: Api) -> None:
    node = {"metadata": {"name": "n1"}, "status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]}}
    await api.ok("POST", "/api/v1/nodes", node)
    await api.ok("POST", PODS, pod(nodeName="n1"))
    sock = listening()
    port = sock.getsockname()[1]
    sock.close()
    api.server._kubelets._port = port
    message = (await api.call("GET", PODS + "/a/log")).refused(503, "ServiceUnavailable")
    assert f"https://127.0.0.1:{port}/containerLogs/default/a/c" in message
