"""JSON patches, merge patches and strategic merge patches, against their documented semantics."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.patches import JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, apply_patch
from mininetes.apiserver.resources import by_name

POD = by_name("pods")
DEPLOYMENT = by_name("deployments.apps")


def patched(content_type: str, current: Any, patch: Any, resource: Any = POD) -> Any:
    before = copy.deepcopy(current)
    result = apply_patch(content_type, resource, current, json.dumps(patch).encode())
    assert current == before, "the object was changed in place"
    return result


# The examples of RFC 7396, appendix A, as far as both sides are objects.
@pytest.mark.parametrize(
    ("current", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches(current: Any, patch: Any, result: Any) -> None:
    assert patched(MERGE_PATCH, current, patch) == result


@pytest.mark.parametrize(
    ("patch", "result"),
    [
        ([{"op": "add", "path": "/c", "value": 1}], {"a": {"b": [1, 2]}, "c": 1}),
        ([{"op": "add", "path": "/a/b/-", "value": 3}], {"a": {"b": [1, 2, 3]}}),
        ([{"op": "add", "path": "/a/b/0", "value": 0}], {"a": {"b": [0, 1, 2]}}),
        ([{"op": "remove", "path": "/a/b/0"}], {"a": {"b": [2]}}),
        ([{"op": "replace", "path": "/a/b", "value": []}], {"a": {"b": []}}),
        ([{"op": "move", "from": "/a/b", "path": "/b"}], {"a": {}, "b": [1, 2]}),
        ([{"op": "copy", "from": "/a/b", "path": "/b"}], {"a": {"b": [1, 2]}, "b": [1, 2]}),
        ([{"op": "test", "path": "/a/b/0", "value": 1}], {"a": {"b": [1, 2]}}),
        ([{"op": "add", "path": "/x~1y", "value": 1}], {"a": {"b": [1, 2]}, "x/y": 1}),
    ],
)
def test_json_patches(patch: Any, result: Any) -> None:
    assert patched(JSON_PATCH, {"a": {"b": [1, 2]}}, patch) == result


@pytest.mark.parametrize(
    ("patch", "code"),
    [
        ([{"op": "test", "path": "/a", "value": 2}], 422),
        ([{"op": "remove", "path": "/x"}], 422),
        ([{"op": "replace", "path": "/x/y", "value": 1}], 422),
        ([{"op": "add", "path": "/a/b", "value": 1}], 422),
        ([{"op": "replace", "path": "", "value": [1]}], 422),
        ([{"op": "nonsense", "path": "/a"}], 400),
        ([{"path": "/a"}], 400),
        ([1], 400),
        ({"op": "remove", "path": "/a"}, 400),
        ([{"op": "test", "path": "/a", "value": 1}] * 10_001, 413),
    ],
)
def test_json_patches_that_are_refused(patch: Any, code: int) -> None:
    with pytest.raises(ApiError) as refused:
        patched(JSON_PATCH, {"a": 1}, patch)
    assert refused.value.code == code


def spec(**fields: Any) -> dict[str, Any]:
    return {"spec": fields}


A, B, C = ({"name": name, "image": f"{name}:1"} for name in "abc")

# What a strategic merge patch of a pod does, by name.
STRATEGIC = {
    "fields are set, and null takes them away": (
        spec(nodeName="x", hostname="h"),
        spec(nodeName="y", hostname=None),
        spec(nodeName="y"),
    ),
    "objects are merged": (
        {"metadata": {"labels": {"a": "1", "b": "2"}}},
        {"metadata": {"labels": {"b": None, "c": "3"}}},
        {"metadata": {"labels": {"a": "1", "c": "3"}}},
    ),
    "nulls in new objects are nothing": (
        {},
        {"metadata": {"labels": {"a": None, "b": "1"}}},
        {"metadata": {"labels": {"b": "1"}}},
    ),
    "elements with the same key are merged": (
        spec(containers=[A, B]),
        spec(containers=[{"name": "a", "image": "a:2"}]),
        spec(containers=[{"name": "a", "image": "a:2"}, B]),
    ),
    "elements within elements are merged": (
        spec(containers=[{"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]}]),
        spec(containers=[{"name": "a", "env": [{"name": "Y", "value": "3"}]}]),
        spec(containers=[{"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "3"}]}]),
    ),
    "new elements come before those that the patch does not name": (
        spec(containers=[A]),
        spec(containers=[B]),
        spec(containers=[B, A]),
    ),
    "a list that is not there begins": (spec(), spec(containers=[A]), spec(containers=[A])),
    "delete takes an element away": (
        spec(containers=[A, B]),
        spec(containers=[{"name": "a", "$patch": "delete"}]),
        spec(containers=[B]),
    ),
    "delete of what is not there is no harm": (
        spec(containers=[A]),
        spec(containers=[{"name": "b", "$patch": "delete"}]),
        spec(containers=[A]),
    ),
    "replace in a list replaces the list": (
        spec(containers=[A, B]),
        spec(containers=[C, {"$patch": "replace"}]),
        spec(containers=[C]),
    ),
    "replace in an object replaces the object": (
        {"metadata": {"labels": {"a": "1"}}},
        {"metadata": {"labels": {"$patch": "replace", "b": "2"}}},
        {"metadata": {"labels": {"b": "2"}}},
    ),
    "delete in an object takes the object away": (
        spec(securityContext={"runAsUser": 1}, nodeName="x"),
        spec(securityContext={"$patch": "delete"}),
        spec(nodeName="x"),
    ),
    "merge in an object merges": (
        {"metadata": {"labels": {"a": "1"}}},
        {"metadata": {"labels": {"$patch": "merge", "b": "2"}}},
        {"metadata": {"labels": {"a": "1", "b": "2"}}},
    ),
    "lists without a key are replaced": (
        spec(tolerations=[{"key": "a"}]),
        spec(tolerations=[{"key": "b"}]),
        spec(tolerations=[{"key": "b"}]),
    ),
    "lists of plain values are replaced": (
        spec(containers=[{"name": "a", "command": ["x", "y"]}]),
        spec(containers=[{"name": "a", "command": ["z"]}]),
        spec(containers=[{"name": "a", "command": ["z"]}]),
    ),
    "sets are united": (
        {"metadata": {"finalizers": ["a", "b"]}},
        {"metadata": {"finalizers": ["b", "c"]}},
        {"metadata": {"finalizers": ["a", "b", "c"]}},
    ),
    "values are taken out of sets": (
        {"metadata": {"finalizers": ["a", "b", "c"]}},
        {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a", "x"]}},
        {"metadata": {"finalizers": ["b", "c"]}},
    ),
    "values are taken out and put in": (
        {"metadata": {"finalizers": ["a", "b"]}},
        {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}},
        {"metadata": {"finalizers": ["c", "b"]}},
    ),
    "the order is set": (
        spec(containers=[A, B, C]),
        spec(**{"$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}]}),
        spec(containers=[C, B, A]),
    ),
    "what is new stands where the order says": (
        spec(containers=[A, C]),
        spec(**{"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}], "containers": [B]}),
        spec(containers=[A, B, C]),
    ),
    "what the order does not name keeps its place": (
        spec(containers=[A, B, C]),
        spec(**{"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}]}),
        spec(containers=[B, C, A]),
    ),
    "the order of a set": (
        {"metadata": {"finalizers": ["a", "b"]}},
        {"metadata": {"$setElementOrder/finalizers": ["c", "b", "a"], "finalizers": ["c"]}},
        {"metadata": {"finalizers": ["c", "b", "a"]}},
    ),
    "only the keys that are retained stay": (
        spec(volumes=[{"name": "v", "emptyDir": {}}]),
        spec(volumes=[{"name": "v", "hostPath": {"path": "/x"}, "$retainKeys": ["name", "hostPath"]}]),
        spec(volumes=[{"name": "v", "hostPath": {"path": "/x"}}]),
    ),
    "directives in what is new leave no trace": (
        spec(),
        spec(volumes=[{"name": "v", "emptyDir": {"sizeLimit": None}, "$retainKeys": ["name", "emptyDir"]}]),
        spec(volumes=[{"name": "v", "emptyDir": {}}]),
    ),
    "ports that share a number are told apart where the patch says which": (
        spec(containers=[{"name": "a", "ports": [{"containerPort": 53, "protocol": p} for p in ("TCP", "UDP")]}]),
        spec(containers=[{"name": "a", "ports": [{"containerPort": 53, "protocol": "UDP", "name": "dns"}]}]),
        spec(
            containers=[
                {
                    "name": "a",
                    "ports": [
                        {"containerPort": 53, "protocol": "TCP"},
                        {"containerPort": 53, "protocol": "UDP", "name": "dns"},
                    ],
                }
            ]
        ),
    ),
}


@pytest.mark.parametrize("case", STRATEGIC)
def test_strategic_merge_patches(case: str) -> None:
    current, patch, result = STRATEGIC[case]
    assert patched(STRATEGIC_MERGE_PATCH, current, patch) == result


def test_a_patch_can_replace_the_whole_object() -> None:
    assert patched(STRATEGIC_MERGE_PATCH, {"a": 1}, {"$patch": "replace", "b": {"c": None}}) == {"b": {}}


def test_the_strategy_of_a_deployment_retains_keys() -> None:
    current = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}, "replicas": 2}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    result = patched(STRATEGIC_MERGE_PATCH, current, patch, DEPLOYMENT)
    assert result == {"spec": {"strategy": {"type": "Recreate"}, "replicas": 2}}


def test_templates_know_the_keys_of_pods() -> None:
    current = {"spec": {"template": {"spec": {"containers": [A, B]}}}}
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "b", "image": "b:2"}]}}}}
    result = patched(STRATEGIC_MERGE_PATCH, current, patch, DEPLOYMENT)
    assert result["spec"]["template"]["spec"]["containers"] == [A, {"name": "b", "image": "b:2"}]


def test_the_ports_of_a_service_are_told_apart_by_number() -> None:
    current = {"spec": {"ports": [{"port": 80, "nodePort": 30080, "name": "a"}, {"port": 443, "name": "b"}]}}
    patch = {"spec": {"ports": [{"port": 80, "name": "web"}, {"port": 443, "$patch": "delete"}]}}
    result = patched(STRATEGIC_MERGE_PATCH, current, patch, by_name("svc"))
    assert result["spec"]["ports"] == [{"port": 80, "nodePort": 30080, "name": "web"}]


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        (spec(containers=[{"image": "x"}]), "does not contain declared merge key: name"),
        (spec(containers=["x"]), "elements of containers must be objects"),
        ({"$patch": "nonsense"}, "Unknown patch type found: nonsense"),
        (spec(containers=[{"name": "a", "$patch": "merge"}]), "cannot be used in an element"),
        (spec(volumes=[{"name": "v", "emptyDir": {}, "$retainKeys": ["name"]}]), "emptyDir is missing"),
        (spec(volumes=[{"name": "v", "$retainKeys": "name"}]), "must be a list of field names"),
        (spec(**{"$setElementOrder/containers": "a"}), "must be a list"),
        ({"metadata": {"$deleteFromPrimitiveList/finalizers": "a"}}, "must be a list"),
        ({"metadata": {"finalizers": [{"a": 1}]}}, "unhashable"),
        ([], "it must be an object, not list"),
    ],
)
def test_strategic_merge_patches_that_are_refused(patch: Any, message: str) -> None:
    current = {"metadata": {"finalizers": []}, "spec": {"containers": [A], "volumes": [{"name": "v"}]}}
    with pytest.raises(ApiError, match=message.replace("$", r"\$")) as refused:
        patched(STRATEGIC_MERGE_PATCH, current, patch)
    assert refused.value.code == 400


@pytest.mark.parametrize("content_type", [JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH])
@pytest.mark.parametrize("patch", [b"{", b"", b"\xff", b'{"a":' * 600 + b"1" + b"}" * 600])
def test_a_patch_must_be_json_and_not_nested_without_end(content_type: str, patch: bytes) -> None:
    with pytest.raises(ApiError, match="error decoding patch") as refused:
        apply_patch(content_type, POD, {}, patch)
    assert refused.value.code == 400


def test_other_types_of_patches_are_refused() -> None:
    with pytest.raises(ApiError, match=r"application/json.*application/merge-patch") as refused:
        apply_patch("application/json", POD, {}, b"{}")
    assert refused.value.code == 415


def test_a_content_type_may_have_parameters() -> None:
    assert apply_patch("application/merge-patch+json; charset=utf-8", POD, {}, b'{"a": 1}') == {"a": 1}
