"""Patches, server-side apply, deletion, namespaces that end."""

from __future__ import annotations

import asyncio

from mininetes.apiserver.housekeeping import EVENT_LIFE, Housekeeping
from mininetes.apiserver.metadata import utc_now
from tests.unit.running_api import DEPLOYMENTS, MAPS, PODS, Api, config, deployment, pod, served, until

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"


@served
async def test_three_kinds_of_patch(api: Api) -> None:
    await api.ok("POST", DEPLOYMENTS, deployment())
    path = DEPLOYMENTS + "/a"
    merged = await api.ok(
        "PATCH", path, {"spec": {"replicas": 3}, "metadata": {"labels": {"x": "y"}}}, content_type=MERGE
    )
    assert (merged["spec"]["replicas"], merged["metadata"]["generation"]) == (3, 2)
    containers = {
        "spec": {"template": {"spec": {"containers": [{"name": "c", "image": "z"}, {"name": "d", "image": "e"}]}}}
    }
    strategic = await api.ok("PATCH", path, containers, content_type=STRATEGIC)
    found = strategic["spec"]["template"]["spec"]["containers"]
    assert {each["name"]: each["image"] for each in found} == {"c": "z", "d": "e"}
    steps = [{"op": "replace", "path": "/spec/replicas", "value": 5}, {"op": "remove", "path": "/metadata/labels/x"}]
    patched = await api.ok("PATCH", path, steps, content_type=JSON_PATCH)
    assert patched["spec"]["replicas"] == 5
    assert "x" not in patched["metadata"].get("labels", {})


@served
async def test_patches_that_cannot_be_done_change_nothing(api: Api) -> None:
    await api.ok("POST", DEPLOYMENTS, deployment())
    path = DEPLOYMENTS + "/a"
    for body, content_type, code in (
        ([{"op": "test", "path": "/spec/replicas", "value": 7}], JSON_PATCH, 422),
        ([{"op": "remove", "path": "/spec/nothing"}], JSON_PATCH, 422),
        ({"op": "add"}, JSON_PATCH, 400),
        ([], MERGE, 400),
        (b"{", MERGE, 400),
        ({"spec": {"replicas": "many"}}, MERGE, 400),
        ({"spec": {"replicas": -1}}, MERGE, 422),
        ({"spec": None}, MERGE, 422),
        ({"metadata": {"name": "b"}}, MERGE, 400),
        ({"metadata": {"uid": "other"}}, MERGE, 409),
        ({"kind": "Pod"}, MERGE, 400),
    ):
        answer = await api.unchanged("PATCH", path + "?fieldValidation=Strict", body, content_type=content_type)
        assert answer.status == code or (code == 400 and answer.status in (400, 422)), (body, answer.body)
        assert answer.body["kind"] == "Status"


@served
async def test_a_patch_may_insist_on_a_version(api: Api) -> None:
    first = await api.ok("POST", MAPS, config())
    version = first["metadata"]["resourceVersion"]
    patch = {"metadata": {"resourceVersion": version}, "data": {"x": "1"}}
    await api.ok("PATCH", MAPS + "/a", patch, content_type=MERGE)
    (await api.unchanged("PATCH", MAPS + "/a", patch, content_type=MERGE)).refused(409, "Conflict")


@served
async def test_patches_at_once_all_count(api: Api) -> None:
    await api.ok("POST", MAPS, config())
    bodies = [{"data": {f"k{number}": "v"}} for number in range(40)]
    await asyncio.gather(*(api.ok("PATCH", MAPS + "/a", body, content_type=MERGE) for body in bodies))
    assert len((await api.ok("GET", MAPS + "/a"))["data"]) == 40


@served
async def test_apply_makes_and_changes(api: Api) -> None:
    path = MAPS + "/a?fieldManager=tests"
    made = await api.call("PATCH", path, config(x="1"), content_type=APPLY)
    assert made.status == 201
    assert made.body["metadata"]["managedFields"][0]["manager"] == "tests"
    again = await api.call("PATCH", path, config(x="2"), content_type=APPLY)
    assert (again.status, again.body["data"]) == (200, {"x": "2"})
    (await api.unchanged("PATCH", MAPS + "/a", config(), content_type=APPLY)).refused(400, "BadRequest")
    nowhere = "/api/v1/namespaces/nope/configmaps/a?fieldManager=tests"
    (await api.unchanged("PATCH", nowhere, config(), content_type=APPLY)).refused(404, "NotFound")


@served
async def test_deleting_answers_with_a_status(api: Api) -> None:
    uid = (await api.ok("POST", DEPLOYMENTS, deployment()))["metadata"]["uid"]
    answer = await api.ok("DELETE", DEPLOYMENTS + "/a")
    assert answer["status"] == "Success"
    assert answer["details"] == {"name": "a", "group": "apps", "kind": "deployments", "uid": uid}
    (await api.unchanged("GET", DEPLOYMENTS + "/a")).refused(404, "NotFound")


@served
async def test_a_pod_goes_when_its_kubelet_says_so(api: Api) -> None:
    await api.ok("POST", PODS, pod(nodeName="node1", terminationGracePeriodSeconds=20))
    going = await api.ok("DELETE", PODS + "/a")
    assert going["metadata"]["deletionGracePeriodSeconds"] == 20
    assert going["metadata"]["deletionTimestamp"] > going["metadata"]["creationTimestamp"]
    assert (await api.unchanged("DELETE", PODS + "/a")).status == 200
    assert (await api.unchanged("DELETE", PODS + "/a", {"gracePeriodSeconds": 60})).body["metadata"][
        "deletionGracePeriodSeconds"
    ] == 20
    sooner = await api.ok("DELETE", PODS + "/a?gracePeriodSeconds=5")
    assert sooner["metadata"]["deletionGracePeriodSeconds"] == 5
    updated = await api.ok("PUT", PODS + "/a/status", {**pod(), "status": {"phase": "Running"}})
    assert updated["metadata"]["deletionTimestamp"], "a status report does not bring it back"
    await api.ok("DELETE", PODS + "/a", {"gracePeriodSeconds": 0, "preconditions": {"uid": going["metadata"]["uid"]}})
    (await api.unchanged("GET", PODS + "/a")).refused(404, "NotFound")


@served
async def test_a_pod_that_no_kubelet_has_goes_at_once(api: Api) -> None:
    await api.ok("POST", PODS, pod())
    assert (await api.ok("DELETE", PODS + "/a"))["metadata"]["name"] == "a"
    (await api.unchanged("GET", PODS + "/a")).refused(404, "NotFound")
    await api.ok("POST", PODS, pod(nodeName="node1"))
    await api.ok("PUT", PODS + "/a/status", {**pod(), "status": {"phase": "Succeeded"}})
    await api.ok("DELETE", PODS + "/a")
    (await api.unchanged("GET", PODS + "/a")).refused(404, "NotFound")


@served
async def test_preconditions_of_a_deletion(api: Api) -> None:
    made = await api.ok("POST", MAPS, config())
    for wrong in ({"uid": "other"}, {"resourceVersion": "1"}):
        message = (await api.unchanged("DELETE", MAPS + "/a", {"preconditions": wrong})).refused(409, "Conflict")
        assert "Precondition failed" in message
    right = {"uid": made["metadata"]["uid"], "resourceVersion": made["metadata"]["resourceVersion"]}
    await api.ok("DELETE", MAPS + "/a", {"preconditions": right})


@served
async def test_finalizers_are_waited_for(api: Api) -> None:
    made = config()
    made["metadata"]["finalizers"] = ["example.com/wait"]
    await api.ok("POST", MAPS, made)
    going = await api.ok("DELETE", MAPS + "/a")
    assert going["metadata"]["deletionTimestamp"]
    assert (await api.unchanged("DELETE", MAPS + "/a")).status == 200
    await api.ok("PATCH", MAPS + "/a", {"metadata": {"finalizers": None}}, content_type=MERGE)
    (await api.unchanged("GET", MAPS + "/a")).refused(404, "NotFound")


@served
async def test_foreground_and_orphan_leave_word_for_the_collector(api: Api) -> None:
    for policy, finalizer in (("Foreground", "foregroundDeletion"), ("Orphan", "orphan")):
        await api.ok("POST", DEPLOYMENTS, deployment())
        going = await api.ok("DELETE", DEPLOYMENTS + "/a", {"propagationPolicy": policy})
        assert going["metadata"]["finalizers"] == [finalizer]
        going["metadata"]["finalizers"] = []
        await api.ok("PUT", DEPLOYMENTS + "/a", going)
        (await api.unchanged("GET", DEPLOYMENTS + "/a")).refused(404, "NotFound")


@served
async def test_collections_are_deleted_by_selector(api: Api) -> None:
    for number in range(4):
        await api.ok("POST", MAPS, config(f"c{number}", {"odd": str(number % 2)}))
    deleted = await api.ok("DELETE", MAPS + "?labelSelector=odd%3D1")
    assert [item["metadata"]["name"] for item in deleted["items"]] == ["c1", "c3"]
    left = await api.ok("GET", MAPS)
    assert [item["metadata"]["name"] for item in left["items"]] == ["c0", "c2"]


@served
async def test_a_namespace_ends_when_it_is_empty(api: Api) -> None:
    await api.ok("POST", "/api/v1/namespaces", {"metadata": {"name": "x"}})
    base = "/api/v1/namespaces/x"
    await api.ok("POST", base + "/configmaps", config())
    await api.ok("POST", base + "/pods", pod(nodeName="node1"))
    ending = await api.ok("DELETE", base)
    assert ending["status"]["phase"] == "Terminating"
    refused = await api.call("POST", base + "/configmaps", config("late"))
    assert "because it is being terminated" in refused.refused(403, "Forbidden")
    assert refused.body["details"]["causes"][0]["reason"] == "NamespaceTerminating"

    async def emptied() -> bool:
        return (await api.call("GET", base + "/configmaps/a")).status == 404

    await until(emptied, "what is in it is deleted")
    assert (await api.call("GET", base)).status == 200, "a pod is still there"
    assert (await api.ok("GET", base + "/pods/a"))["metadata"]["deletionTimestamp"]
    await api.ok("DELETE", base + "/pods/a?gracePeriodSeconds=0")

    async def gone() -> bool:
        return (await api.call("GET", base)).status == 404

    await until(gone, "the namespace is gone")
    (await api.unchanged("POST", base + "/configmaps", config())).refused(404, "NotFound")


@served
async def test_some_namespaces_stay(api: Api) -> None:
    for name in ("default", "kube-system", "kube-public"):
        message = (await api.unchanged("DELETE", f"/api/v1/namespaces/{name}")).refused(403, "Forbidden")
        assert message == f'namespaces "{name}" is forbidden: this namespace may not be deleted'


@served
async def test_old_events_are_forgotten(api: Api) -> None:
    events = "/api/v1/namespaces/default/events"
    about = {"involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "R", "message": "m"}
    await api.ok("POST", events, {"metadata": {"name": "old"}, "lastTimestamp": "2020-01-01T00:00:00Z", **about})
    await api.ok("POST", events, {"metadata": {"name": "new"}, **about})
    assert await Housekeeping(api.store).delete_old_events(utc_now() - EVENT_LIFE) == 1
    assert [item["metadata"]["name"] for item in (await api.ok("GET", events))["items"]] == ["new"]
