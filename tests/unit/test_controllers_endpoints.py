"""Endpoints and slices of services: which pods, at which ports, in how many slices, for which zones."""

from __future__ import annotations

from typing import Any

import pytest

from mininetes.agents.controllers.endpoint_view import ports_at, selected
from mininetes.agents.controllers.endpoints import subsets_of
from mininetes.agents.controllers.endpointslice_mirroring import mirrored_groups
from mininetes.agents.controllers.endpointslices import groups_of
from mininetes.agents.controllers.slice_packing import MANAGED_BY, SliceChanges, pack
from mininetes.agents.controllers.topology_hints import MODE_ANNOTATIONS, allot, cpu_shares
from mininetes.agents.controllers.trigger_times import CHANGED_AT, TriggerTimes, stamp
from mininetes.agents.objects import SERVICE_NAME

ZONE = "topology.kubernetes.io/zone"


def service(**spec: Any) -> dict[str, Any]:
    spec.setdefault("selector", {"app": "web"})
    spec.setdefault("ports", [{"name": "http", "port": 80, "targetPort": 8080}])
    metadata = {"name": "web", "namespace": "default", "uid": "svc", "labels": {"team": "a"}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def pod(name: str, ip: str = "10.244.1.1", *, ready: bool = True, ending: bool = False, **more: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": "default", "uid": name, "labels": {"app": "web"}}
    if ending:
        metadata["deletionTimestamp"] = "x"
    ports = [{"name": "main", "containerPort": more.pop("port", 8080)}]
    spec = {"nodeName": "node1", "containers": [{"ports": ports}], **more}
    status = {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": str(ready)}]}
    return {"metadata": metadata, "spec": spec, "status": status}


def node(name: str, zone: str, cpu: str = "2", ready: bool = True, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": {ZONE: zone, **labels} if zone else labels}
    status = {"allocatable": {"cpu": cpu}, "conditions": [{"type": "Ready", "status": str(ready)}]}
    return {"metadata": metadata, "spec": {}, "status": status}


CONDITIONS = [
    # the pod, publishNotReadyAddresses, ready, serving, terminating
    (pod("a"), False, True, True, False),
    (pod("a", ready=False), False, False, False, False),
    (pod("a", ending=True), False, False, True, True),
    (pod("a", ending=True, ready=False), False, False, False, True),
    (pod("a", ready=False), True, True, False, False),
    (pod("a", ending=True), True, True, True, True),
]


@pytest.mark.parametrize(("wanted", "publish", "ready", "serving", "terminating"), CONDITIONS)
def test_conditions(wanted: Any, publish: bool, ready: bool, serving: bool, terminating: bool) -> None:
    groups = groups_of(service(publishNotReadyAddresses=publish), [wanted], [])
    (endpoints,) = groups.values()
    assert endpoints[0]["conditions"] == {"ready": ready, "serving": serving, "terminating": terminating}


LEFT_OUT = [
    pod("no address", ""),
    {**pod("finished"), "status": {"phase": "Succeeded", "podIP": "10.244.1.9"}},
    {**pod("another's"), "metadata": {"name": "x", "namespace": "default", "labels": {"app": "db"}}},
]


@pytest.mark.parametrize("wanted", LEFT_OUT, ids=lambda each: each["metadata"]["name"])
def test_pods_that_are_no_endpoints(wanted: Any) -> None:
    assert selected(service(), [wanted]) == []


def test_a_service_without_a_selector_selects_nothing() -> None:
    assert selected(service(selector={}), [pod("a")]) == []


PORTS = [
    ({"port": 80}, [("", "TCP", 80, "")]),
    ({"port": 80, "targetPort": 8080, "name": "n"}, [("n", "TCP", 8080, "")]),
    ({"port": 80, "targetPort": "main"}, [("", "TCP", 9000, "")]),
    ({"port": 80, "targetPort": "other"}, []),
    ({"port": 80, "targetPort": "main", "protocol": "UDP"}, []),
    ({"port": 80, "appProtocol": "http"}, [("", "TCP", 80, "http")]),
]


@pytest.mark.parametrize(("port", "expected"), PORTS)
def test_target_ports_are_resolved_at_each_pod(port: Any, expected: list[Any]) -> None:
    assert list(ports_at(service(ports=[port]), pod("a", port=9000))) == expected


def test_pods_with_other_numbers_for_a_named_port_are_in_other_groups() -> None:
    wanted = service(ports=[{"name": "http", "port": 80, "targetPort": "main"}])
    groups = groups_of(wanted, [pod("a", "10.0.0.1"), pod("b", "10.0.0.2", port=9090), pod("c", "10.0.0.3")], [])
    assert {ports[0][2]: len(found) for ports, found in groups.items()} == {8080: 2, 9090: 1}


def test_an_endpoint_says_node_zone_pod_and_hostname() -> None:
    named = pod("a", hostname="a-0", subdomain="web")
    (endpoints,) = groups_of(service(), [named], [node("node1", "z1")]).values()
    assert endpoints == [
        {
            "addresses": ["10.244.1.1"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "targetRef": {"kind": "Pod", "namespace": "default", "name": "a", "uid": "a"},
            "nodeName": "node1",
            "zone": "z1",
            "hostname": "a-0",
        }
    ]


# Slices


def groups(count: int, start: int = 1) -> dict[Any, list[dict[str, Any]]]:
    numbers = range(start, start + count)
    return groups_of(service(), [pod(f"p{n:04d}", f"10.244.{n >> 8}.{n & 255}") for n in numbers], [])


def stored(changes: SliceChanges, before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the API server would have after the changes."""
    gone = {each["metadata"]["name"] for each in [*changes.update, *changes.delete]}
    kept = [each for each in before if each["metadata"]["name"] not in gone]
    made = []
    for number, each in enumerate(changes.create):
        name = f"web-new{len(before)}{number}"
        made.append({**each, "metadata": {**each["metadata"], "name": name, "resourceVersion": "1"}})
    return [*kept, *changes.update, *made]


def sizes(slices: list[dict[str, Any]]) -> list[int]:
    return sorted(len(each["endpoints"]) for each in slices)


def test_slices_are_full_and_labelled() -> None:
    slices = stored(pack(service(), groups(250), []), [])
    assert sizes(slices) == [50, 100, 100]
    labels = slices[0]["metadata"]["labels"]
    assert labels == {"team": "a", SERVICE_NAME: "web", MANAGED_BY: "endpointslice-controller.k8s.io"}
    assert slices[0]["metadata"]["ownerReferences"][0]["uid"] == "svc"
    assert slices[0]["metadata"]["generateName"] == "web-"
    assert slices[0]["ports"] == [{"name": "http", "protocol": "TCP", "port": 8080}]


def test_nothing_is_written_when_nothing_changes() -> None:
    slices = stored(pack(service(), groups(250), []), [])
    assert pack(service(), groups(250), slices) == SliceChanges()
    assert pack(service(), groups(250), slices[::-1]) == SliceChanges()


def test_one_change_writes_one_slice() -> None:
    slices = stored(pack(service(), groups(250), []), [])
    fewer = pack(service(), {ports: found[:120] + found[121:] for ports, found in groups(250).items()}, slices)
    more = pack(service(), groups(251), slices)
    assert [len(each) for each in (fewer.create, fewer.update, fewer.delete)] == [0, 1, 0]
    assert [len(each) for each in (more.create, more.update, more.delete)] == [0, 1, 0]


def test_slices_that_become_empty_go_but_for_the_last() -> None:
    slices = stored(pack(service(), groups(150), []), [])
    none = pack(service(), {}, slices)
    assert [len(each) for each in (none.create, none.update, none.delete)] == [0, 1, 1]
    assert none.update[0]["endpoints"] == []
    left = stored(none, slices)
    assert pack(service(), {}, left) == SliceChanges()
    assert sizes(stored(pack(service(), groups(10), left), left)) == [10]


def test_a_service_without_endpoints_has_one_empty_slice() -> None:
    changes = pack(service(), {}, [])
    assert [each["endpoints"] for each in changes.create] == [[]]


def test_all_endpoints_are_there_once_after_many_changes() -> None:
    slices: list[dict[str, Any]] = []
    for start, count in ((1, 30), (1, 130), (20, 260), (100, 90), (1, 101), (50, 1)):
        wanted = groups(count, start)
        slices = stored(pack(service(), wanted, slices), slices)
        found = sorted(each["addresses"][0] for piece in slices for each in piece["endpoints"])
        assert found == sorted(each["addresses"][0] for (members) in wanted.values() for each in members)
        assert max(sizes(slices)) <= 100
        assert pack(service(), wanted, slices) == SliceChanges()


# Endpoints


def test_subsets_have_ready_and_other_addresses_and_none_of_pods_that_end() -> None:
    pods = [pod("b", "10.0.0.2"), pod("a", "10.0.0.1"), pod("c", "10.0.0.3", ready=False)]
    subsets, truncated = subsets_of(service(), [*pods, pod("d", "10.0.0.4", ending=True)])
    assert not truncated
    assert len(subsets) == 1
    assert [each["ip"] for each in subsets[0]["addresses"]] == ["10.0.0.1", "10.0.0.2"]
    assert [each["ip"] for each in subsets[0]["notReadyAddresses"]] == ["10.0.0.3"]
    assert subsets[0]["ports"] == [{"port": 8080, "protocol": "TCP", "name": "http"}]


def test_beyond_a_thousand_addresses_those_not_ready_are_left_out() -> None:
    pods = [pod(f"p{n}", f"10.{n >> 8}.{n & 255}.1", ready=n != 0) for n in range(1001)]
    subsets, truncated = subsets_of(service(), pods)
    assert truncated
    assert len(subsets[0]["addresses"]) == 1000
    assert "notReadyAddresses" not in subsets[0]


def test_endpoints_by_hand_are_mirrored() -> None:
    subset = {
        "addresses": [{"ip": "203.0.113.1", "hostname": "h", "nodeName": "node1"}],
        "notReadyAddresses": [{"ip": "203.0.113.2"}],
        "ports": [{"port": 80, "name": "http"}],
    }
    found = mirrored_groups({"subsets": [subset]}, {"node1": "z"})
    ((ports, endpoints),) = found.items()
    assert ports == (("http", "TCP", 80, ""),)
    assert endpoints[0] == {
        "addresses": ["203.0.113.1"],
        "conditions": {"ready": True},
        "nodeName": "node1",
        "zone": "z",
        "hostname": "h",
    }
    assert endpoints[1]["conditions"] == {"ready": False}


# Hints

ALLOTTED = [
    ("in proportion already", "aaabbb", {"a": 0.5, "b": 0.5}, "aaabbb"),
    ("near enough", "aaaabbb", {"a": 0.5, "b": 0.5}, "aaaabbb"),
    ("some are given away", "aaaaab", {"a": 0.5, "b": 0.5}, "aaabbb"),
    ("all in one zone", "aaaa", {"a": 0.5, "b": 0.5}, "aabb"),
    ("by the CPU of the zones", "aaaaaaaabb", {"a": 0.3, "b": 0.7}, "aaabbbbbbb"),
    ("fewer endpoints than zones", "a", {"a": 0.5, "b": 0.5}, None),
    ("no zone would get enough", "abc", {"a": 0.6, "b": 0.2, "c": 0.2}, None),
    ("one zone", "aaa", {"a": 1.0}, None),
    ("an endpoint of a zone without nodes", "aabbx", {"a": 0.5, "b": 0.5}, None),
]


@pytest.mark.parametrize(("zones", "shares", "hints"), [c[1:] for c in ALLOTTED], ids=[c[0] for c in ALLOTTED])
def test_allotment(zones: str, shares: dict[str, float], hints: str | None) -> None:
    found = allot(list(zones), shares)
    if hints is None:
        assert found is None
    else:
        assert found is not None
        assert {zone: found.count(zone) for zone in shares} == {zone: hints.count(zone) for zone in shares}
        kept = sum(mine == own for mine, own in zip(found, zones, strict=True))
        assert kept == sum(min(hints.count(zone), zones.count(zone)) for zone in shares)


SHARES = [
    ([node("a", "z1"), node("b", "z2", "6")], {"z1": 0.25, "z2": 0.75}),
    ([node("a", "z1"), node("b", "z2", ready=False)], {"z1": 1.0}),
    ([node("a", "z1"), node("b", "z2"), node("c", "", **{"node-role.kubernetes.io/control-plane": ""})],
     {"z1": 0.5, "z2": 0.5}),
    ([node("a", "z1"), node("b", "")], {}),
    ([node("a", "z1"), node("b", "z2", "0")], {}),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "shares"), SHARES)
def test_shares_of_cpu(nodes: Any, shares: dict[str, float]) -> None:
    assert cpu_shares(nodes) == shares


@pytest.mark.parametrize("annotation", MODE_ANNOTATIONS)
def test_ready_endpoints_get_hints_where_the_service_asks_for_them(annotation: str) -> None:
    nodes = [node("node1", "z1"), node("node2", "z2")]
    pods = [pod(f"p{n}", f"10.0.0.{n}", nodeName=f"node{n % 2 + 1}", ready=n < 4) for n in range(5)]
    wanted = service()
    wanted["metadata"]["annotations"] = {annotation: "Auto"}
    (endpoints,) = groups_of(wanted, pods, nodes).values()
    hints = [each.get("hints", {}).get("forZones", [{}])[0].get("name", "") for each in endpoints]
    assert hints == ["z1", "z2", "z1", "z2", ""]
    (without,) = groups_of(service(), pods, nodes).values()
    assert not any("hints" in each for each in without)
    wanted["spec"]["internalTrafficPolicy"] = "Local"
    (local,) = groups_of(wanted, pods, nodes).values()
    assert not any("hints" in each for each in local)


def test_traffic_that_prefers_close_gets_its_own_zone() -> None:
    (endpoints,) = groups_of(service(trafficDistribution="PreferClose"), [pod("a")], [node("node1", "z1")]).values()
    assert endpoints[0]["hints"] == {"forZones": [{"name": "z1"}]}


# when what changed happened


def at(second: int) -> str:
    return f"2026-11-26T11:00:{second:02}Z"


def ready_at(name: str, second: int) -> dict[str, Any]:
    made = pod(name)
    made["status"]["conditions"][0]["lastTransitionTime"] = at(second)
    return made


def seconds_of(times: TriggerTimes, wanted: Any, *pods: Any) -> int | None:
    found = times.changed_at("default/web", wanted, pods)
    return None if found is None else found.second


def test_endpoints_count_from_the_earliest_change_in_them() -> None:
    times, wanted = TriggerTimes(), service()
    wanted["metadata"]["creationTimestamp"] = at(5)
    assert seconds_of(times, wanted, ready_at("a", 1)) == 5, "a new service counts from when it was made"
    assert seconds_of(times, wanted, ready_at("a", 1)) is None
    assert seconds_of(times, wanted, ready_at("a", 30), ready_at("b", 20)) == 20
    assert seconds_of(times, wanted, ready_at("b", 20)) is None, "nobody wrote down when a pod went"
    times.forget("default/web")
    assert seconds_of(times, wanted, ready_at("b", 20)) == 5


def test_slices_say_when_what_changed_them_happened_and_no_more_when_that_is_unknown() -> None:
    times, wanted = TriggerTimes(), service()
    wanted["metadata"] |= {"creationTimestamp": at(5), "namespace": "default"}
    changes = pack(wanted, groups_of(wanted, [pod("a")], []), [])
    stamp(changes, times.changed_at("default/web", wanted, []))
    (made,) = changes.create
    assert made["metadata"]["annotations"] == {CHANGED_AT: at(5)}
    made["metadata"] |= {"name": "web-1", "annotations": {**made["metadata"]["annotations"], "mine": "stays"}}
    changes = pack(wanted, groups_of(wanted, [pod("b", "10.244.1.2")], []), [made])
    stamp(changes, None)
    (updated,) = changes.update
    assert updated["metadata"]["annotations"] == {"mine": "stays"}
    assert made["metadata"]["annotations"] == {CHANGED_AT: at(5), "mine": "stays"}
