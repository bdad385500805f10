"""What kubectl get shows."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from mininetes.apiserver.ages import age_of, age_text
from mininetes.apiserver.resources import RESOURCES, Resource, by_kind, by_name
from mininetes.apiserver.tables import table

NOW = datetime(2024, 1, 1, 12, 0, 0, tzinfo=timezone.utc)
CREATED = "2024-01-01T11:59:15Z"  # 45 seconds before
MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-2, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (2 * MINUTE, "2m"),
        (3 * MINUTE + 12, "3m12s"),
        (10 * MINUTE + 12, "10m"),
        (3 * HOUR - 1, "179m"),
        (3 * HOUR, "3h"),
        (3 * HOUR + 5 * MINUTE, "3h5m"),
        (8 * HOUR + 5 * MINUTE, "8h"),
        (47 * HOUR, "47h"),
        (2 * DAY, "2d"),
        (2 * DAY + 3 * HOUR, "2d3h"),
        (8 * DAY + 3 * HOUR, "8d"),
        (729 * DAY, "729d"),
        (730 * DAY, "2y"),
        (735 * DAY, "2y5d"),
        (9 * 365 * DAY + DAY, "9y"),
    ],
)
def test_ages(seconds: int, text: str) -> None:
    assert age_text(seconds) == text


@pytest.mark.parametrize(
    ("timestamp", "age"),
    [
        (CREATED, "45s"),
        ("2024-01-01T11:59:15.123456Z", "44s"),
        ("2024-01-01T11:59:15.5Z", "44s"),
        ("2024-01-01T12:59:15+01:00", "45s"),
        (None, "<unknown>"),
        ("", "<unknown>"),
    ],
)
def test_ages_of_times(timestamp: str | None, age: str) -> None:
    assert age_of(timestamp, NOW) == age


def shown(kind: str, obj: dict[str, Any], *, wide: bool = False) -> dict[str, Any]:
    """The columns of an object by their heading."""
    metadata = {"name": "x", "namespace": "default", "creationTimestamp": CREATED, **obj.pop("metadata", {})}
    made = table(by_name(kind), [{"kind": by_name(kind).kind, "metadata": metadata, **obj}], now=NOW)
    columns = made["columnDefinitions"]
    cells = made["rows"][0]["cells"]
    assert len(columns) == len(cells)
    pairs = zip(columns, cells, strict=True)
    return {column["name"].upper(): cell for column, cell in pairs if wide or not column["priority"]}


def status(name: str = "c", ready: bool = False, restarts: int = 0, **state: Any) -> dict[str, Any]:
    return {"name": name, "ready": ready, "restartCount": restarts, "state": state}


RUNNING = {"running": {"startedAt": CREATED}}
TWO = {"containers": [{"name": "a"}, {"name": "c"}]}
WITH_INIT = {"containers": [{"name": "c"}], "initContainers": [{"name": "i"}, {"name": "j"}]}


def ended(**fields: Any) -> dict[str, Any]:
    return {"terminated": fields}


def waiting(reason: str) -> dict[str, Any]:
    return {"waiting": {"reason": reason}}


# metadata, spec, status of a pod; then what READY, STATUS and RESTARTS say.
PODS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], tuple[str, str, str]]] = {
    "new": ({}, TWO, {"phase": "Pending"}, ("0/2", "Pending", "0")),
    "being created": (
        {},
        TWO,
        {"phase": "Pending", "containerStatuses": [status(**waiting("ContainerCreating"))] * 2},
        ("0/2", "ContainerCreating", "0"),
    ),
    "running": (
        {},
        TWO,
        {"phase": "Running", "containerStatuses": [status(ready=True, **RUNNING), status(**RUNNING)]},
        ("1/2", "Running", "0"),
    ),
    "crashing": (
        {},
        TWO,
        {
            "phase": "Running",
            "containerStatuses": [
                {
                    **status(restarts=3, **waiting("CrashLoopBackOff")),
                    "lastState": ended(finishedAt="2024-01-01T11:59:50Z", exitCode=1),
                },
                status(ready=True, **RUNNING),
            ],
        },
        ("1/2", "CrashLoopBackOff", "3 (10s ago)"),
    ),
    "failed": (
        {},
        TWO,
        {"phase": "Failed", "containerStatuses": [status(**ended(exitCode=2, reason="Error"))]},
        ("0/2", "Error", "0"),
    ),
    "ended with a status only": (
        {},
        TWO,
        {"phase": "Failed", "containerStatuses": [status(**ended(exitCode=2))]},
        ("0/2", "ExitCode:2", "0"),
    ),
    "ended by a signal": (
        {},
        TWO,
        {"phase": "Failed", "containerStatuses": [status(**ended(exitCode=137, signal=9))]},
        ("0/2", "Signal:9", "0"),
    ),
    "completed": (
        {},
        TWO,
        {"phase": "Succeeded", "containerStatuses": [status(**ended(exitCode=0, reason="Completed"))] * 2},
        ("0/2", "Completed", "0"),
    ),
    "one completed, the pod ready": (
        {},
        TWO,
        {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [
                status(**ended(exitCode=0, reason="Completed")),
                status(ready=True, **RUNNING),
            ],
        },
        ("1/2", "Running", "0"),
    ),
    "one completed, the pod not ready": (
        {},
        TWO,
        {
            "phase": "Running",
            "containerStatuses": [
                status(**ended(exitCode=0, reason="Completed")),
                status(ready=True, **RUNNING),
            ],
        },
        ("1/2", "NotReady", "0"),
    ),
    "evicted": ({}, TWO, {"phase": "Failed", "reason": "Evicted"}, ("0/2", "Evicted", "0")),
    "terminating": (
        {"deletionTimestamp": CREATED},
        TWO,
        {"phase": "Running", "containerStatuses": [status(ready=True, **RUNNING)]},
        ("1/2", "Terminating", "0"),
    ),
    "ended while it was deleted": (
        {"deletionTimestamp": CREATED},
        TWO,
        {"phase": "Succeeded", "containerStatuses": [status(**ended(exitCode=0, reason="Completed"))]},
        ("0/2", "Completed", "0"),
    ),
    "lost with its node": (
        {"deletionTimestamp": CREATED},
        TWO,
        {"phase": "Running", "reason": "NodeLost"},
        ("0/2", "Unknown", "0"),
    ),
    "gated": (
        {},
        TWO,
        {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]},
        ("0/2", "SchedulingGated", "0"),
    ),
    "at its first init container": (
        {},
        WITH_INIT,
        {
            "phase": "Pending",
            "initContainerStatuses": [status("i", **RUNNING), status("j", **waiting("PodInitializing"))],
        },
        ("0/1", "Init:0/2", "0"),
    ),
    "at its second init container": (
        {},
        WITH_INIT,
        {
            "phase": "Pending",
            "initContainerStatuses": [status("i", **ended(exitCode=0)), status("j", **waiting("PodInitializing"))],
        },
        ("0/1", "Init:1/2", "0"),
    ),
    "failed at an init container": (
        {},
        WITH_INIT,
        {"phase": "Pending", "initContainerStatuses": [status("i", restarts=2, **ended(exitCode=1))]},
        ("0/1", "Init:ExitCode:1", "2"),
    ),
    "crashing at an init container": (
        {},
        WITH_INIT,
        {"phase": "Pending", "initContainerStatuses": [status("i", **waiting("CrashLoopBackOff"))]},
        ("0/1", "Init:CrashLoopBackOff", "0"),
    ),
    "with a sidecar": (
        {},
        {"containers": [{"name": "c"}], "initContainers": [{"name": "i", "restartPolicy": "Always"}]},
        {
            "phase": "Running",
            "initContainerStatuses": [{**status("i", ready=True, **RUNNING), "started": True}],
            "containerStatuses": [status(ready=True, **RUNNING)],
        },
        ("2/2", "Running", "0"),
    ),
}


@pytest.mark.parametrize("case", PODS)
def test_pods(case: str) -> None:
    metadata, spec, pod_status, expected = PODS[case]
    cells = shown("pods", {"metadata": metadata, "spec": spec, "status": pod_status})
    assert (cells["READY"], cells["STATUS"], cells["RESTARTS"]) == expected
    assert list(cells) == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]


def test_pods_in_full() -> None:
    cells = shown(
        "pods",
        {
            "spec": {**TWO, "nodeName": "node1", "readinessGates": [{"conditionType": "g"}]},
            "status": {"phase": "Running", "podIP": "10.244.1.2", "conditions": [{"type": "g", "status": "True"}]},
        },
        wide=True,
    )
    assert list(cells)[5:] == ["IP", "NODE", "NOMINATED NODE", "READINESS GATES"]
    assert list(cells.values())[5:] == ["10.244.1.2", "node1", "<none>", "1/1"]


def test_nodes() -> None:
    node = {
        "metadata": {"labels": {"node-role.kubernetes.io/control-plane": "", "node-role.kubernetes.io/a": ""}},
        "spec": {"unschedulable": True},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "192.168.1.11"}],
            "nodeInfo": {
                "kubeletVersion": "v1.30.0",
                "osImage": "Debian",
                "kernelVersion": "6",
                "containerRuntimeVersion": "m://1",
            },
        },
    }
    assert shown("no", node, wide=True) == {
        "NAME": "x",
        "STATUS": "Ready,SchedulingDisabled",
        "ROLES": "a,control-plane",
        "AGE": "45s",
        "VERSION": "v1.30.0",
        "INTERNAL-IP": "192.168.1.11",
        "EXTERNAL-IP": "<none>",
        "OS-IMAGE": "Debian",
        "KERNEL-VERSION": "6",
        "CONTAINER-RUNTIME": "m://1",
    }


@pytest.mark.parametrize(("ready", "text"), [("True", "Ready"), ("False", "NotReady"), ("Unknown", "NotReady")])
def test_whether_a_node_is_ready(ready: str, text: str) -> None:
    assert shown("no", {"status": {"conditions": [{"type": "Ready", "status": ready}]}})["STATUS"] == text


def test_a_node_that_said_nothing() -> None:
    cells = shown("no", {})
    assert (cells["STATUS"], cells["ROLES"]) == ("Unknown", "<none>")


@pytest.mark.parametrize(
    ("spec", "status", "cells"),
    [
        ({"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}, {}, ["ClusterIP", "10.96.0.1", "<none>", "80/TCP"]),
        ({"clusterIP": "None"}, {}, ["ClusterIP", "None", "<none>", "<none>"]),
        (
            {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}, {"port": 53, "protocol": "UDP"}]},
            {},
            ["NodePort", "<none>", "<none>", "80:30080/TCP,53/UDP"],
        ),
        ({"type": "LoadBalancer"}, {}, ["LoadBalancer", "<none>", "<pending>", "<none>"]),
        (
            {"type": "LoadBalancer", "externalIPs": ["1.1.1.1"]},
            {"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}},
            ["LoadBalancer", "<none>", "198.51.100.1,1.1.1.1", "<none>"],
        ),
        ({"type": "ExternalName", "externalName": "a.b"}, {}, ["ExternalName", "<none>", "a.b", "<none>"]),
    ],
)
def test_services(spec: dict[str, Any], status: dict[str, Any], cells: list[str]) -> None:
    found = shown("svc", {"spec": spec, "status": status})
    assert list(found) == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert list(found.values()) == ["x", *cells, "45s"]


def test_the_selector_of_a_service_is_shown_in_full() -> None:
    assert shown("svc", {"spec": {"selector": {"b": "2", "a": "1"}}}, wide=True)["SELECTOR"] == "a=1,b=2"


TEMPLATE = {
    "selector": {"matchLabels": {"app": "web"}},
    "template": {"spec": {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "j"}]}},
}
ENDED = {"CONTAINERS": "a,b", "IMAGES": "i,j", "SELECTOR": "app=web"}
NINE = {"addresses": [{"ip": f"10.0.0.{i}"} for i in range(1, 6)], "ports": [{"port": 80}]}
OTHERS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "deployment": (
        "deploy",
        {
            "spec": {**TEMPLATE, "replicas": 3},
            "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1},
        },
        {"NAME": "x", "READY": "2/3", "UP-TO-DATE": 3, "AVAILABLE": 1, "AGE": "45s", **ENDED},
    ),
    "replica set": (
        "rs",
        {"spec": {**TEMPLATE, "replicas": 3}, "status": {"replicas": 2, "readyReplicas": 1}},
        {"NAME": "x", "DESIRED": 3, "CURRENT": 2, "READY": 1, "AGE": "45s", **ENDED},
    ),
    "daemon set": (
        "ds",
        {"spec": TEMPLATE, "status": {"desiredNumberScheduled": 3, "currentNumberScheduled": 2, "numberReady": 1}},
        {
            **{"NAME": "x", "DESIRED": 3, "CURRENT": 2, "READY": 1, "UP-TO-DATE": 0, "AVAILABLE": 0},
            **{"NODE SELECTOR": "<none>", "AGE": "45s", **ENDED},
        },
    ),
    "endpoints": (
        "ep",
        {"subsets": [NINE]},
        {"NAME": "x", "ENDPOINTS": "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more...", "AGE": "45s"},
    ),
    "no endpoints": ("ep", {}, {"NAME": "x", "ENDPOINTS": "<none>", "AGE": "45s"}),
    "endpoint slice": (
        "endpointslice",
        {"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}]},
        {"NAME": "x", "ADDRESSTYPE": "IPv4", "PORTS": "80", "ENDPOINTS": "10.0.0.1", "AGE": "45s"},
    ),
    "empty endpoint slice": (
        "endpointslice",
        {"addressType": "IPv4", "endpoints": [], "ports": []},
        {"NAME": "x", "ADDRESSTYPE": "IPv4", "PORTS": "<unset>", "ENDPOINTS": "<unset>", "AGE": "45s"},
    ),
    "config map": ("cm", {"data": {"a": ""}, "binaryData": {"b": ""}}, {"NAME": "x", "DATA": 2, "AGE": "45s"}),
    "secret": (
        "secret",
        {"type": "Opaque", "data": {"a": ""}},
        {"NAME": "x", "TYPE": "Opaque", "DATA": 1, "AGE": "45s"},
    ),
    "service account": ("sa", {}, {"NAME": "x", "SECRETS": 0, "AGE": "45s"}),
    "namespace": ("ns", {"status": {"phase": "Active"}}, {"NAME": "x", "STATUS": "Active", "AGE": "45s"}),
    "lease": ("lease", {"spec": {"holderIdentity": "node1"}}, {"NAME": "x", "HOLDER": "node1", "AGE": "45s"}),
    "event": (
        "ev",
        {
            "type": "Normal",
            "reason": "Started",
            "message": "It began\n",
            "count": 2,
            "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{a}"},
            "source": {"component": "kubelet", "host": "node1"},
            "firstTimestamp": "2024-01-01T11:50:00Z",
            "lastTimestamp": CREATED,
        },
        {
            **{"LAST SEEN": "45s", "TYPE": "Normal", "REASON": "Started", "OBJECT": "pod/p"},
            **{"SUBOBJECT": "spec.containers{a}", "SOURCE": "kubelet, node1", "MESSAGE": "It began"},
            **{"FIRST SEEN": "10m", "COUNT": 2, "NAME": "x"},
        },
    ),
    "event of the newer group": (
        "events.events.k8s.io",
        {"note": "It began", "regarding": {"kind": "Node"}, "eventTime": CREATED, "reportingController": "me"},
        {
            **{"LAST SEEN": "45s", "TYPE": "", "REASON": "", "OBJECT": "node", "SUBOBJECT": "", "SOURCE": "me"},
            **{"MESSAGE": "It began", "FIRST SEEN": "45s", "COUNT": 1, "NAME": "x"},
        },
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_kinds(case: str) -> None:
    kind, obj, cells = OTHERS[case]
    assert shown(kind, dict(obj), wide=True) == cells


@pytest.mark.parametrize("resource", RESOURCES, ids=str)
def test_every_kind_has_columns_and_can_be_shown_with_nothing_in_it(resource: Resource) -> None:
    made = table(resource, [{"metadata": {"name": "x"}}], now=NOW)
    assert len(made["rows"][0]["cells"]) == len(made["columnDefinitions"])
    kinds = {"string": str, "integer": int}
    for column, cell in zip(made["columnDefinitions"], made["rows"][0]["cells"], strict=True):
        assert isinstance(cell, kinds[column["type"]])


def test_a_table_carries_what_was_asked_for() -> None:
    pods = [{"kind": "Pod", "metadata": {"name": name, "resourceVersion": "7"}} for name in "ab"]
    pod = by_kind("v1", "Pod")
    made = table(pod, pods, now=NOW, list_metadata={"resourceVersion": "9"})
    assert made["metadata"] == {"resourceVersion": "9"}
    assert made["rows"][0]["object"] == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": pods[0]["metadata"],
    }
    assert table(pod, pods, now=NOW, include_object="Object")["rows"][1]["object"] is pods[1]
    assert "object" not in table(pod, pods, now=NOW, include_object="None")["rows"][0]
    assert table(pod, pods[:1], now=NOW)["metadata"] == {"resourceVersion": "7"}
    assert table(pod, pods, now=NOW, with_columns=False)["columnDefinitions"] == []


def test_pods_that_have_ended_are_marked() -> None:
    pod = {"kind": "Pod", "metadata": {"name": "a"}, "status": {"phase": "Succeeded"}}
    row = table(by_kind("v1", "Pod"), [pod], now=NOW)["rows"][0]
    assert row["conditions"][0]["type"] == "Completed"


def test_what_is_reported_piece_by_piece_can_be_shown() -> None:
    pieces = {"conditions": [{}, {"type": "Ready"}], "addresses": [{}], "containerStatuses": [{}]}
    assert shown("pods", {"spec": TWO, "status": pieces})["READY"] == "0/2"
    assert shown("no", {"status": pieces})["STATUS"] == "Unknown"
