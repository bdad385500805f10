"""Creating, reading, replacing objects: what the server fills in, keeps and refuses."""

from __future__ import annotations

import asyncio
import re
import time

from mininetes.apiserver.bootstrap import LEASE_S, LEASES, bootstrap, live_servers
from tests.unit.running_api import (
    DEPLOYMENTS,
    MAPS,
    PODS,
    SERVICES,
    Api,
    config,
    deployment,
    pod,
    running,
    served,
    service,
    until,
)

JSON = "application/json"


@served
async def test_a_new_object_gets_its_identity_from_the_server(api: Api) -> None:
    made = config("a", x="y")
    made["metadata"] |= {"uid": "mine", "creationTimestamp": "1999-01-01T00:00:00Z", "generation": 7}
    answer = await api.call("POST", MAPS, made)
    assert answer.status == 201
    metadata = answer.body["metadata"]
    assert re.fullmatch(r"[0-9a-f-]{36}", metadata["uid"])
    assert metadata["creationTimestamp"] > "2020"
    assert "generation" not in metadata
    assert metadata["namespace"] == "default"
    assert await api.ok("GET", MAPS + "/a") == answer.body


@served
async def test_names_can_be_made(api: Api) -> None:
    made = config()
    made["metadata"] = {"generateName": "web-"}
    names = {(await api.ok("POST", MAPS, made))["metadata"]["name"] for _ in range(20)}
    assert len(names) == 20
    assert all(re.fullmatch(r"web-[bcdfghjklmnpqrstvwxz2456789]{5}", name) for name in names)


@served
async def test_the_status_is_not_the_clients_to_create_or_update(api: Api) -> None:
    made = {**pod(), "status": {"phase": "Running", "podIP": "10.0.0.1"}}
    created = await api.ok("POST", PODS, made)
    assert created["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    created["status"]["podIP"] = "10.0.0.2"
    created["metadata"]["labels"] = {"a": "b"}
    updated = await api.ok("PUT", PODS + "/a", created)
    assert "podIP" not in updated["status"]
    assert updated["metadata"]["labels"] == {"a": "b"}


@served
async def test_a_status_update_changes_the_status_alone(api: Api) -> None:
    created = await api.ok("POST", DEPLOYMENTS, deployment())
    created["spec"]["replicas"] = 9
    created["metadata"]["labels"] = {"not": "this"}
    created["status"] = {"replicas": 2, "observedGeneration": 1}
    updated = await api.ok("PUT", DEPLOYMENTS + "/a/status", created)
    assert updated["spec"]["replicas"] == 2
    assert updated["status"]["replicas"] == 2
    assert "labels" not in updated["metadata"]
    assert updated["metadata"]["generation"] == 1


@served
async def test_generations_count_changes_of_the_spec(api: Api) -> None:
    created = await api.ok("POST", DEPLOYMENTS, deployment())
    assert created["metadata"]["generation"] == 1
    same = await api.ok("PUT", DEPLOYMENTS + "/a", deployment())
    assert same == created, "an update that changes nothing writes nothing"
    updated = await api.ok("PUT", DEPLOYMENTS + "/a", deployment(replicas=3))
    assert updated["metadata"]["generation"] == 2
    assert updated["metadata"]["uid"] == created["metadata"]["uid"]


@served
async def test_an_update_of_what_changed_meanwhile_is_refused(api: Api) -> None:
    first = await api.ok("POST", MAPS, config(x="1"))
    second = await api.ok("PUT", MAPS + "/a", {**first, "data": {"x": "2"}})
    message = (await api.unchanged("PUT", MAPS + "/a", {**first, "data": {"x": "3"}})).refused(409, "Conflict")
    assert message == (
        'Operation cannot be fulfilled on configmaps "a": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    # Without a version, the last one wins.
    assert (await api.ok("PUT", MAPS + "/a", config(x="4")))["data"] == {"x": "4"}
    assert second["metadata"]["resourceVersion"] > first["metadata"]["resourceVersion"]


@served
async def test_another_object_of_the_same_name_is_not_the_same(api: Api) -> None:
    first = await api.ok("POST", MAPS, config())
    await api.ok("DELETE", MAPS + "/a")
    await api.ok("POST", MAPS, config())
    first["metadata"].pop("resourceVersion")
    message = (await api.unchanged("PUT", MAPS + "/a", first)).refused(409, "Conflict")
    assert "Precondition failed: UID in precondition" in message


@served
async def test_refusals_have_kubernetes_words(api: Api) -> None:
    await api.ok("POST", MAPS, config())
    taken = await api.unchanged("POST", MAPS, config())
    assert taken.refused(409, "AlreadyExists") == 'configmaps "a" already exists'
    assert taken.body["details"] == {"name": "a", "kind": "configmaps"}
    missing = await api.unchanged("GET", DEPLOYMENTS + "/b")
    assert missing.refused(404, "NotFound") == 'deployments.apps "b" not found'
    assert missing.body["details"] == {"name": "b", "group": "apps", "kind": "deployments"}
    for method in ("PUT", "DELETE"):
        answer = await api.unchanged(method, MAPS + "/b", config("b") if method == "PUT" else None)
        assert answer.refused(404, "NotFound") == 'configmaps "b" not found'
    patched = await api.unchanged("PATCH", MAPS + "/b", {}, content_type="application/merge-patch+json")
    patched.refused(404, "NotFound")
    nowhere = await api.unchanged("POST", "/api/v1/namespaces/nope/configmaps", config())
    assert nowhere.refused(404, "NotFound") == 'namespaces "nope" not found'


@served
async def test_what_does_not_fit_the_path_is_refused(api: Api) -> None:
    await api.ok("POST", MAPS, config())
    elsewhere = config()
    elsewhere["metadata"]["namespace"] = "kube-system"
    message = (await api.unchanged("POST", MAPS, elsewhere)).refused(400, "BadRequest")
    assert message == "the namespace of the provided object does not match the namespace sent on the request"
    message = (await api.unchanged("PUT", MAPS + "/a", config("b"))).refused(400, "BadRequest")
    assert message == "the name of the object (b) does not match the name on the URL (a)"
    (await api.unchanged("POST", MAPS, pod())).refused(400, "BadRequest")
    (await api.unchanged("POST", MAPS, {**config(), "apiVersion": "v2"})).refused(400, "BadRequest")
    versioned = config("c")
    versioned["metadata"]["resourceVersion"] = "1"
    message = (await api.unchanged("POST", MAPS, versioned)).refused(400, "BadRequest")
    assert message == "resourceVersion should not be set on objects to be created"


@served
async def test_paths_that_are_not_served(api: Api) -> None:
    for path in (
        "/api/v1/widgets",
        "/apis/batch/v1/jobs",
        "/api/v2/pods",
        "/apis/apps/v1/namespaces/default/deployments/a/widget",
        "/api/v1/pods/a",
        "/api/v1/namespaces/default/nodes",
        "/api/v1/namespaces//pods",
        "/nothing",
        PODS + "/a/b/c/d",
    ):
        message = (await api.unchanged("GET", path)).refused(404, "NotFound")
        assert message == "the server could not find the requested resource"
    for method, path in (
        ("POST", PODS + "/a"),
        ("PUT", PODS),
        ("PATCH", PODS),
        ("POST", "/api/v1/pods"),
        ("DELETE", "/api/v1/pods"),
        ("POST", DEPLOYMENTS + "/a/scale"),
        ("GET", PODS + "/a/binding"),
    ):
        (await api.unchanged(method, path, {})).refused(405, "MethodNotAllowed")


@served
async def test_dry_runs_store_nothing(api: Api) -> None:
    made = await api.unchanged("POST", SERVICES + "?dryRun=All", service())
    assert made.status == 201
    assert made.body["spec"]["clusterIP"].startswith("10.96.")
    (await api.unchanged("GET", SERVICES + "/a")).refused(404, "NotFound")
    assert not (await api.store.list("/registry/services/default/a")).items
    await api.ok("POST", MAPS, config(x="1"))
    changed = await api.unchanged("PUT", MAPS + "/a?dryRun=All", config(x="2"))
    assert changed.body["data"] == {"x": "2"}
    assert (await api.unchanged("DELETE", MAPS + "/a?dryRun=All")).status == 200
    (await api.unchanged("POST", MAPS + "?dryRun=All", config())).refused(409, "AlreadyExists")
    (await api.unchanged("POST", MAPS + "?dryRun=Some", config("b"))).refused(400, "BadRequest")


@served
async def test_unknown_fields_are_refused_warned_of_or_ignored(api: Api) -> None:
    made = {**config(), "datum": {}}
    assert 'unknown field "datum"' in (await api.unchanged("POST", MAPS + "?fieldValidation=Strict", made)).refused(
        400, "BadRequest"
    )
    warned = await api.call("POST", MAPS + "?fieldValidation=Warn", made)
    assert warned.status == 201
    assert warned.headers["Warning"] == '299 - "unknown field \\"datum\\""'
    assert "datum" not in warned.body
    ignored = await api.call("POST", MAPS + "?fieldValidation=Ignore", {**config("b"), "datum": {}})
    assert ignored.status == 201
    assert "Warning" not in ignored.headers
    (await api.unchanged("POST", MAPS + "?fieldValidation=Maybe", config("c"))).refused(400, "BadRequest")


@served
async def test_invalid_objects_name_field_and_kind(api: Api) -> None:
    wrong = pod("Not_A_Name")
    answer = await api.unchanged("POST", PODS, wrong)
    assert answer.refused(422, "Invalid").startswith('Pod "Not_A_Name" is invalid: metadata.name: Invalid value')
    assert answer.body["details"]["causes"][0]["field"] == "metadata.name"
    created = await api.ok("POST", DEPLOYMENTS, deployment())
    created["spec"]["selector"] = {"matchLabels": {"app": "other"}}
    (await api.unchanged("PUT", DEPLOYMENTS + "/a", created)).refused(422, "Invalid")


@served
async def test_events_are_one_kind_in_two_groups(api: Api) -> None:
    newer = "/apis/events.k8s.io/v1/namespaces/default/events"
    event = {
        "metadata": {"name": "e"},
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
        "note": "hello",
        "reason": "Said",
        "type": "Normal",
        "action": "Say",
        "reportingController": "tests",
        "reportingInstance": "tests-1",
        "eventTime": "2024-01-01T00:00:00.000000Z",
    }
    made = await api.ok("POST", newer, event)
    assert (made["apiVersion"], made["note"], made["regarding"]["name"]) == ("events.k8s.io/v1", "hello", "p")
    core = await api.ok("GET", "/api/v1/namespaces/default/events/e")
    assert (core["apiVersion"], core["message"], core["involvedObject"]["name"]) == ("v1", "hello", "p")
    patch = {"note": "again"}
    await api.ok("PATCH", newer + "/e", patch, content_type="application/merge-patch+json")
    assert (await api.ok("GET", "/api/v1/namespaces/default/events/e"))["message"] == "again"
    listed = await api.ok("GET", newer)
    assert [item["note"] for item in listed["items"]] == ["again"]
    selected = await api.ok("GET", "/api/v1/events?fieldSelector=involvedObject.name=p")
    assert len(selected["items"]) == 1


@served
async def test_pods_tolerate_a_node_that_is_not_ready_for_a_while(api: Api) -> None:
    own = {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
    made = await api.ok("POST", PODS, pod(tolerations=[own]))
    seconds = {each["key"]: each["tolerationSeconds"] for each in made["spec"]["tolerations"]}
    assert seconds == {"node.kubernetes.io/not-ready": 5, "node.kubernetes.io/unreachable": 300}


def test_a_server_can_be_ended_and_another_started_on_its_store() -> None:
    async def scenario() -> None:
        async with running() as first:
            await first.ok("POST", SERVICES, service(type="NodePort"))
            before = await first.ok("GET", "/api/v1/services")
        async with running(first.store, port=first.port) as second:
            assert (await second.ok("GET", "/api/v1/services"))["items"] == before["items"]

    asyncio.run(scenario())


def test_three_servers_that_start_at_once_agree() -> None:
    async def scenario() -> None:
        async with running() as first, running(first.store) as second, running(first.store) as third:
            for api in (first, second, third):
                names = [item["metadata"]["name"] for item in (await api.ok("GET", "/api/v1/namespaces"))["items"]]
                assert names == ["default", "kube-node-lease", "kube-public", "kube-system"]
                kubernetes = await api.ok("GET", SERVICES + "/kubernetes")
                assert kubernetes["spec"]["clusterIP"] == "10.96.0.1"
                assert [port["port"] for port in kubernetes["spec"]["ports"]] == [443]
                slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
                assert (await api.ok("GET", slices))["endpoints"][0]["addresses"] == ["192.168.1.11"]

    asyncio.run(scenario())


def test_the_endpoints_of_kubernetes_follow_the_servers() -> None:
    async def scenario() -> None:
        async with running() as first:
            wider = ["192.168.1.11", "192.168.1.12"]
            await bootstrap(first.server.registry, wider)
            endpoints = await first.ok("GET", "/api/v1/namespaces/default/endpoints/kubernetes")
            assert [each["ip"] for each in endpoints["subsets"][0]["addresses"]] == wider
            revision = await first.store.revision()
            await bootstrap(first.server.registry, wider)
            assert await first.store.revision() == revision, "nothing is written when nothing changed"

    asyncio.run(scenario())


@served
async def test_a_server_that_is_gone_is_no_endpoint_for_long(api: Api) -> None:
    await api.store.create(LEASES + "192.168.1.12", {"renewed": time.time()})
    await api.store.create(LEASES + "192.168.1.13", {"renewed": time.time() - LEASE_S})
    assert await live_servers(api.store, "192.168.1.11") == ["192.168.1.11", "192.168.1.12"]


@served
async def test_the_service_kubernetes_comes_back(api: Api) -> None:
    await api.ok("DELETE", SERVICES + "/kubernetes")

    async def back() -> bool:
        return (await api.call("GET", SERVICES + "/kubernetes")).status == 200

    await until(back, "it is made anew", within_s=10)


def test_stopping_ends_watches_and_connections_soon() -> None:
    async def scenario() -> None:
        async with running() as api, api.watch("/api/v1/pods?watch=1") as events:
            loop = asyncio.get_running_loop()
            started = loop.time()
            await api.server.stop()
            assert loop.time() - started < 3
            await until(events._response.content.at_eof, "the watch ended")

    asyncio.run(scenario())
