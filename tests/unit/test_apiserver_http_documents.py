"""Health, version, metrics, discovery and OpenAPI, as clients ask for them."""

from __future__ import annotations

from tests.unit.running_api import MAPS, Api, config, served


@served
async def test_health(api: Api) -> None:
    for path in ("/healthz", "/livez", "/readyz", "/livez/ping"):
        answer = await api.call("GET", path)
        assert (answer.status, answer.body) == (200, "ok")
    verbose = await api.call("GET", "/readyz?verbose")
    assert "[+]poststarthook/bootstrap-controller ok" in verbose.body
    assert verbose.body.endswith("readyz check passed\n")


@served
async def test_version(api: Api) -> None:
    version = await api.ok("GET", "/version")
    assert (version["major"], version["minor"]) == ("1", "30")


@served
async def test_metrics(api: Api) -> None:
    await api.ok("POST", MAPS, config())
    await api.call("POST", MAPS, config())
    text = await api.ok("GET", "/metrics")
    assert 'apiserver_request_total{code="201",resource="configmaps",verb="CREATE"} 1\n' in text
    assert 'apiserver_request_total{code="409",resource="configmaps",verb="CREATE"} 1\n' in text
    assert "apiserver_current_inflight_requests 1\n" in text


@served
async def test_discovery(api: Api) -> None:
    assert (await api.ok("GET", "/api"))["versions"] == ["v1"]
    groups = {each["name"] for each in (await api.ok("GET", "/apis"))["groups"]}
    assert {"apps", "discovery.k8s.io", "coordination.k8s.io"} <= groups
    core = {each["name"] for each in (await api.ok("GET", "/api/v1"))["resources"]}
    assert {"pods", "pods/log", "pods/exec", "services", "namespaces/status"} <= core
    assert (await api.ok("GET", "/apis/apps"))["name"] == "apps"
    for version in ("v2", "v2beta1"):
        accept = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList,application/json"
        answer = await api.call("GET", "/apis", Accept=accept)
        assert answer.body["apiVersion"] == f"apidiscovery.k8s.io/{version}"
        expected = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
        assert answer.headers["Content-Type"] == expected
    assert "/apis/apps/v1" in (await api.ok("GET", "/"))["paths"]


@served
async def test_openapi(api: Api) -> None:
    index = await api.ok("GET", "/openapi/v3")
    for path, each in index["paths"].items():
        document = await api.ok("GET", each["serverRelativeURL"])
        assert document["openapi"].startswith("3."), path
    assert (await api.ok("GET", "/openapi/v2"))["paths"] == {}
    (await api.unchanged("POST", "/apis", {})).refused(404, "NotFound")
