"""Server-side apply: merging, and taking away what a manager no longer wants."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.patches import apply_server_side
from mininetes.apiserver.resources import by_name

POD = by_name("pods")
NOW = "2024-01-01T00:00:00Z"


def pod(*containers: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", **metadata},
        "spec": {"containers": list(containers)},
    }


def applied(current: dict[str, Any] | None, wanted: dict[str, Any], manager: str = "me", now: str = NOW) -> Any:
    return apply_server_side(POD, current, json.dumps(wanted).encode(), manager=manager, now=now)


def container(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": "x", **fields}


def test_what_is_not_there_is_created() -> None:
    wanted = pod(container("a"), labels={"x": "1"})
    result = applied(None, wanted)
    entry = result["metadata"].pop("managedFields")
    assert result == wanted
    assert entry == [
        {
            "manager": "me",
            "operation": "Apply",
            "apiVersion": "v1",
            "time": NOW,
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {"f:x": {}}},
                "f:spec": {"f:containers": {'k:{"name":"a"}': {".": {}, "f:name": {}, "f:image": {}}}},
            },
        }
    ]


def test_yaml_is_taken() -> None:
    patch = b"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n"
    assert apply_server_side(POD, None, patch, manager="me", now=NOW)["metadata"]["name"] == "p"


def test_what_the_manager_leaves_out_goes() -> None:
    first = pod(container("a", command=["x"]), container("b"), labels={"x": "1", "y": "2"}, finalizers=["k/a", "k/b"])
    second = pod(container("a"), labels={"x": "1"}, finalizers=["k/b"])
    result = applied(applied(None, first), second)
    assert result["metadata"]["labels"] == {"x": "1"}
    assert result["metadata"]["finalizers"] == ["k/b"]
    assert result["spec"]["containers"] == [container("a")]


def test_what_others_set_stays() -> None:
    current = applied(None, pod(container("a"), labels={"x": "1"}))
    current["metadata"]["labels"]["theirs"] = "2"
    current["spec"]["nodeName"] = "node1"
    result = applied(current, pod(container("a")))
    assert result["metadata"]["labels"] == {"theirs": "2"}
    assert result["spec"]["nodeName"] == "node1"


def test_what_another_manager_applied_too_stays() -> None:
    both = pod(container("a"), labels={"x": "1"})
    current = applied(applied(None, both, "me"), both, "you")
    result = applied(current, pod(container("a")), "me")
    assert result["metadata"]["labels"] == {"x": "1"}
    assert [each["manager"] for each in result["metadata"]["managedFields"]] == ["you", "me"]


def test_ports_are_told_apart_by_number_and_protocol() -> None:
    first = pod(container("a", ports=[{"containerPort": 53}]))
    current = applied(None, first)
    current["spec"]["containers"][0]["ports"][0]["protocol"] = "TCP"  # the default
    both = pod(container("a", ports=[{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}]))
    ports = applied(current, both)["spec"]["containers"][0]["ports"]
    assert ports == [{"containerPort": 53, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP"}]


def test_applying_the_same_again_changes_nothing() -> None:
    current = applied(None, pod(container("a")))
    assert applied(current, pod(container("a")), now="2025-01-01T00:00:00Z") == current


@pytest.mark.parametrize(
    ("patch", "manager", "message", "code"),
    [
        (b"a: [", "me", "error decoding YAML", 400),
        (b"{", "me", "error decoding YAML", 400),
        (b"a: &x [1]\nb: [*x, *x]", "me", "aliases are not taken", 400),
        (b"[" * 1100, "me", "error decoding YAML", 400),
        (b"\xff", "me", "error decoding YAML", 400),
        (b"- a", "me", "it must be an object", 400),
        (b"kind: Pod", "me", "apiVersion of the applied object must be v1", 400),
        (b"{kind: Service, apiVersion: v1}", "me", "kind of the applied object must be Pod", 400),
        (b"{kind: Pod, apiVersion: v1, metadata: {managedFields: [{}]}}", "me", "managedFields must be nil", 400),
        (b"{kind: Pod, apiVersion: v1, metadata: x}", "me", "cannot unmarshal string into Go struct field", 400),
        (b"{kind: Pod, apiVersion: v1, spec: {containers: [x]}}", "me", "of type v1.Container", 400),
        (b"{kind: Pod, apiVersion: v1, 1: x}", "me", "error decoding YAML", 400),
        (b"{kind: Pod, apiVersion: v1}", "", "fieldManager: Required value", 422),
    ],
)
def test_what_is_refused(patch: bytes, manager: str, message: str, code: int) -> None:
    with pytest.raises(ApiError, match=message) as refused:
        apply_server_side(POD, None, patch, manager=manager, now=NOW)
    assert refused.value.code == code
