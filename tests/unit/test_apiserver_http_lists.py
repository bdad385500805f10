"""Lists: pages, selectors, versions, and the forms that kubectl asks for."""

from __future__ import annotations

from tests.unit.running_api import DEPLOYMENTS, MAPS, PODS, Api, config, deployment, pod, served

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


def names(listed: dict) -> list[str]:
    return [item["metadata"]["name"] for item in listed["items"]]


async def make(api: Api, count: int) -> None:
    for number in range(count):
        await api.ok("POST", MAPS, config(f"c{number}", {"odd": str(number % 2), "number": str(number)}))


@served
async def test_a_list_has_kind_version_and_items(api: Api) -> None:
    await make(api, 2)
    listed = await api.ok("GET", MAPS)
    assert (listed["kind"], listed["apiVersion"]) == ("ConfigMapList", "v1")
    assert listed["metadata"] == {"resourceVersion": str(await api.store.revision())}
    assert names(listed) == ["c0", "c1"]
    assert (await api.ok("GET", DEPLOYMENTS))["items"] == []


@served
async def test_lists_of_one_namespace_and_of_all(api: Api) -> None:
    await make(api, 1)
    await api.ok("POST", "/api/v1/namespaces/kube-system/configmaps", config("s"))
    assert names(await api.ok("GET", "/api/v1/configmaps")) == ["c0", "s"]
    assert names(await api.ok("GET", "/api/v1/namespaces/kube-system/configmaps")) == ["s"]
    assert names(await api.ok("GET", "/api/v1/namespaces/nope/configmaps")) == []


@served
async def test_pages_are_one_consistent_list(api: Api) -> None:
    await make(api, 5)
    first = await api.ok("GET", MAPS + "?limit=2")
    assert (names(first), first["metadata"]["remainingItemCount"]) == (["c0", "c1"], 3)
    await api.ok("DELETE", MAPS + "/c4")
    await api.ok("POST", MAPS, config("c3a"))
    second = await api.ok("GET", f"{MAPS}?limit=2&continue={first['metadata']['continue']}")
    assert names(second) == ["c2", "c3"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    last = await api.ok("GET", f"{MAPS}?limit=2&continue={second['metadata']['continue']}")
    assert names(last) == ["c4"]
    assert "continue" not in last["metadata"]
    assert "remainingItemCount" not in last["metadata"]


@served
async def test_pages_of_selected_objects(api: Api) -> None:
    await make(api, 7)
    found, token = [], ""
    while True:
        page = await api.ok("GET", f"{MAPS}?limit=2&labelSelector=odd%3D0&continue={token}")
        assert "remainingItemCount" not in page["metadata"]
        found.append(names(page))
        token = page["metadata"].get("continue", "")
        if not token:
            break
    assert found == [["c0", "c2"], ["c4", "c6"]]


@served
async def test_a_page_whose_history_is_lost_is_expired(api: Api) -> None:
    await make(api, 3)
    first = await api.ok("GET", MAPS + "?limit=2")
    await make_more(api)
    await api.store.compact(await api.store.revision())
    answer = await api.call("GET", f"{MAPS}?limit=2&continue={first['metadata']['continue']}")
    assert "too old to display a consistent list" in answer.refused(410, "Expired")


async def make_more(api: Api) -> None:
    for number in range(3):
        await api.ok("POST", MAPS, config(f"more{number}"))


@served
async def test_selectors(api: Api) -> None:
    await make(api, 4)
    for selector, expected in (
        ("odd=1", ["c1", "c3"]),
        ("odd!=1", ["c0", "c2"]),
        ("number in (0,3)", ["c0", "c3"]),
        ("odd=1,number notin (1)", ["c3"]),
        ("!odd", []),
    ):
        found = [n for n in names(await api.ok("GET", f"{MAPS}?labelSelector={selector}")) if n.startswith("c")]
        assert found == expected, selector
    assert names(await api.ok("GET", f"{MAPS}?fieldSelector=metadata.name=c2")) == ["c2"]
    await api.ok("POST", PODS, pod("on1", nodeName="node1"))
    await api.ok("POST", PODS, pod("free"))
    assert names(await api.ok("GET", "/api/v1/pods?fieldSelector=spec.nodeName=node1")) == ["on1"]
    assert names(await api.ok("GET", "/api/v1/pods?fieldSelector=spec.nodeName=,status.phase=Pending")) == ["free"]


@served
async def test_lists_at_a_version(api: Api) -> None:
    await make(api, 1)
    then = await api.store.revision()
    await make_more(api)
    exact = await api.ok("GET", f"{MAPS}?resourceVersion={then}&resourceVersionMatch=Exact")
    assert names(exact) == ["c0"]
    assert exact["metadata"]["resourceVersion"] == str(then)
    for query in (
        f"resourceVersion={then}",
        f"resourceVersion={then}&resourceVersionMatch=NotOlderThan",
        "resourceVersion=0",
    ):
        assert len((await api.ok("GET", f"{MAPS}?{query}"))["items"]) == 4
    for query in ("resourceVersion=999999", "resourceVersion=999999&resourceVersionMatch=Exact"):
        message = (await api.call("GET", f"{MAPS}?{query}")).refused(504, "Timeout")
        assert message.startswith("Too large resource version: 999999, current: ")
    await api.store.compact(await api.store.revision())
    answer = await api.call("GET", f"{MAPS}?resourceVersion={then}&resourceVersionMatch=Exact")
    answer.refused(410, "Expired")


@served
async def test_tables(api: Api) -> None:
    await api.ok("POST", DEPLOYMENTS, deployment())
    shown = await api.ok("GET", DEPLOYMENTS, Accept=TABLE)
    assert (shown["kind"], shown["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert [column["name"] for column in shown["columnDefinitions"]][:3] == ["Name", "Ready", "Up-to-date"]
    assert shown["rows"][0]["cells"][:2] == ["a", "0/2"]
    assert shown["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    assert shown["metadata"]["resourceVersion"]
    one = await api.ok("GET", DEPLOYMENTS + "/a?includeObject=Object", Accept=TABLE)
    assert one["rows"][0]["object"]["spec"]["replicas"] == 2
    older = await api.ok("GET", DEPLOYMENTS, Accept="application/json;as=Table;v=v1beta1;g=meta.k8s.io")
    assert older["apiVersion"] == "meta.k8s.io/v1beta1"


@served
async def test_metadata_alone(api: Api) -> None:
    await make(api, 1)
    accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    listed = await api.ok("GET", MAPS, Accept=accept)
    assert (listed["kind"], listed["apiVersion"]) == ("PartialObjectMetadataList", "meta.k8s.io/v1")
    assert listed["items"][0]["kind"] == "PartialObjectMetadata"
    assert "data" not in listed["items"][0]
    one = await api.ok("GET", MAPS + "/c0", Accept=accept.replace("List", ""))
    assert (one["kind"], one["metadata"]["name"]) == ("PartialObjectMetadata", "c0")


@served
async def test_large_lists_come_whole(api: Api) -> None:
    for number in range(60):
        await api.ok("POST", MAPS, config(f"c{number:02}", x="a" * 20_000))
    listed = await api.ok("GET", MAPS)
    assert len(listed["items"]) == 60
    assert all(len(item["data"]["x"]) == 20_000 for item in listed["items"])
