"""What bad requests get: the right Status, and a store that is as it was."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl

import pytest

from tests.unit.running_api import MAPS, PKI, PODS, TOKEN, Api, config, pod, served

LIMIT = 3 << 20


@served
async def test_malformed_json(api: Api) -> None:
    for body in (b"", b"{", b'{"a":}', b"\xff\xfe", b"nonsense"):
        message = (await api.unchanged("POST", MAPS, body)).refused(400, "BadRequest")
        assert "must be of type ConfigMap" in message
    for body in (b"[]", b"7", b"null", b'"text"'):
        (await api.unchanged("POST", MAPS, body)).refused(400, "BadRequest")
    (await api.unchanged("POST", MAPS, b"[" * 100_000)).refused(400, "BadRequest")


@served
async def test_wrong_types_and_missing_fields(api: Api) -> None:
    for field, value in (("metadata", []), ("data", "text"), ("data", {"a": 1}), ("kind", 3), ("apiVersion", {})):
        answer = await api.unchanged("POST", MAPS, {**config(), field: value})
        assert answer.status in (400, 422), answer.body
        assert answer.body["kind"] == "Status"
    for field, value in (("name", 3), ("labels", []), ("labels", {"a": 1}), ("finalizers", "x"), ("annotations", 3)):
        made = config()
        made["metadata"][field] = value
        for method, path in (("POST", MAPS), ("POST", "/api/v1/namespaces")):
            body = made if path == MAPS else {**made, "kind": "Namespace"}
            answer = await api.unchanged(method, path, body)
            assert answer.status in (400, 422), (field, value, answer.body)
    message = (await api.unchanged("POST", PODS, {"metadata": {"name": "a"}})).refused(422, "Invalid")
    assert "spec.containers: Required value" in message
    (await api.unchanged("POST", MAPS, {"data": {}})).refused(422, "Invalid")


@served
async def test_wrong_types_in_updates(api: Api) -> None:
    """Whatever shape an update has, it is refused as such: no internal error."""
    kinds = {
        MAPS: config(),
        PODS: pod(),
        "/api/v1/namespaces": {"metadata": {"name": "a"}},
        "/api/v1/namespaces/default/services": {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}},
    }
    for path, made in kinds.items():
        await api.ok("POST", path, made)
        for field in ("metadata", "spec", "status", "data"):
            for value in ([], "text", 3, {"ports": 3}, {"ports": [3]}, {"labels": [], "name": "a"}):
                for where in ("/a", "/a/status"):
                    if path == MAPS and where == "/a/status":
                        continue
                    answer = await api.call("PUT", path + where, {**made, field: value})
                    assert answer.status < 500, (path, field, value, answer.body)


@served
async def test_bodies_that_are_too_large(api: Api) -> None:
    large = json.dumps(config(x="a" * LIMIT)).encode()
    message = (await api.unchanged("POST", MAPS, large)).refused(413, "RequestEntityTooLarge")
    assert str(LIMIT) in message

    async def chunks():  # noqa: ANN202
        for _ in range(50):
            yield b" " * 100_000

    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    async with api.session.post(api.url + MAPS, data=chunks(), headers=headers) as response:
        assert response.status == 413
    await api.ok("POST", MAPS, config(x="a" * 500_000))


@served
async def test_formats_that_are_not_taken(api: Api) -> None:
    for content_type in ("text/plain", "application/cbor", "application/x-www-form-urlencoded"):
        answer = await api.unchanged("POST", MAPS, b"k8s\0", content_type=content_type)
        assert "application/json" in answer.refused(415, "UnsupportedMediaType")
    (await api.unchanged("PATCH", MAPS + "/a", {})).refused(415, "UnsupportedMediaType")
    (await api.unchanged("GET", MAPS, Accept="application/vnd.kubernetes.protobuf")).refused(406, "NotAcceptable")
    both = "application/vnd.kubernetes.protobuf, application/json"
    assert (await api.call("GET", MAPS, Accept=both)).body["kind"] == "ConfigMapList"


@served
async def test_yaml_bodies(api: Api) -> None:
    text = b"metadata: {name: y}\ndata:\n  x: |\n    two\n    lines\n"
    made = await api.ok("POST", MAPS, text, content_type="application/yaml")
    assert made["data"] == {"x": "two\nlines\n"}
    long = b"metadata: {name: long}\ndata:\n" + b"".join(b"  k%d: v\n" % n for n in range(3000))
    assert len((await api.ok("POST", MAPS, long, content_type="application/yaml"))["data"]) == 3000
    bomb = b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n"
    for body in (bomb, b"a: [", b"{1: 2}\n", b"a: .inf\nb: !!python/object:os.system x\n", b"a: 1\n---\nb: 2\n"):
        (await api.unchanged("POST", MAPS, body, content_type="application/yaml")).refused(400, "BadRequest")


@served
async def test_who_has_no_token_is_nobody(api: Api) -> None:
    for authorization in ("", "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer"):
        for method, path in (("GET", MAPS), ("POST", MAPS), ("GET", "/apis"), ("GET", "/metrics"), ("GET", "/nothing")):
            body = config() if method == "POST" else None
            answer = await api.unchanged(method, path, body, Authorization=authorization)
            assert answer.refused(401, "Unauthorized") == "Unauthorized"
    assert (await api.call("GET", "/healthz", Authorization="")).body == "ok"
    assert (await api.call("GET", MAPS, Authorization=f"bearer {TOKEN}")).status == 200


@served
async def test_queries_that_make_no_sense(api: Api) -> None:
    for query in (
        "limit=-1",
        "limit=x",
        "resourceVersion=x",
        "labelSelector=a%20b%20c",
        "fieldSelector=spec.nothing=3",
        "continue=rubbish",
        "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiIvcmVnaXN0cnkvc2VjcmV0cy8ifQ",
        "watch=true&timeoutSeconds=-3",
        "watch=true&resourceVersion=%C3%A4",
        "includeObject=Everything",
    ):
        (await api.unchanged("GET", f"{PODS}?{query}")).refused(400, "BadRequest")
    for query in (
        "resourceVersionMatch=Exact",
        "resourceVersionMatch=Maybe&resourceVersion=1",
        "watch=1&sendInitialEvents=1",
    ):
        (await api.unchanged("GET", f"{PODS}?{query}")).refused(422, "Invalid")
    for body in (
        {"propagationPolicy": "Sometimes"},
        {"gracePeriodSeconds": "x"},
        {"kind": "Pod"},
        [],
        {"preconditions": 3},
    ):
        (await api.unchanged("DELETE", f"{MAPS}/a", body)).refused(400, "BadRequest")


@served
async def test_bytes_that_are_no_http(api: Api) -> None:
    """The server answers 400 or hangs up, and goes on."""
    context = ssl.create_default_context(cadata=PKI.ca_pem)
    for junk in (
        b"\x00" * 100,
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"GET /%zz%00 HTTP/1.1\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port, ssl=context)
        writer.write(junk)
        answer = await asyncio.wait_for(reader.read(64), 5)
        assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer
        writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)  # no TLS
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        assert not (await asyncio.wait_for(reader.read(64), 5)).startswith(b"HTTP")
    writer.close()
    assert (await api.call("GET", "/healthz")).status == 200


@pytest.mark.parametrize("name", ["a/b", "a%2fb", "a%00b"])
def test_names_cannot_leave_their_place(name: str) -> None:
    async def ask(api: Api) -> None:
        answer = await api.unchanged("GET", f"{MAPS}/{name}")
        assert answer.status in (400, 404)

    served(ask)()
