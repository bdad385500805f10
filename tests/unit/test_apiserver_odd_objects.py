"""Whatever is sent, it is taken or refused with the API's own error: nothing else may come out."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest

from mininetes.apiserver.defaults import set_defaults
from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.patches import CONTENT_TYPES, JSON_PATCH, apply_patch, apply_server_side
from mininetes.apiserver.resources import RESOURCES, Resource
from mininetes.apiserver.schema import Field, Type, type_of
from mininetes.apiserver.tables import table
from mininetes.apiserver.validation import check, check_update

NOW = datetime(2024, 1, 1, tzinfo=timezone.utc)
ODD: list[Any] = [
    None,
    "",
    "x",
    "10.0.0.1",
    "fd00::1",
    0,
    -1,
    80,
    1 << 40,
    1.5,
    True,
    [],
    {},
    [None],
    [{}],
    ["x"],
    {"a": "b"},
]
ROUNDS = 60
DEPTH = 7

SAMPLES: dict[str, Any] = {
    "string": "a",
    "int32": 1,
    "int64": 1,
    "double": 1.0,
    "boolean": True,
    "object": {},
    "int-or-string": 1,
    "quantity": "1",
    "time": "2024-01-01T00:00:00Z",
    "micro-time": "2024-01-01T00:00:00.000000Z",
    "byte": "YQ==",
}


def sample(kind: Type, depth: int = DEPTH) -> dict[str, Any]:
    """An object with every field that there is, to some depth; its types are right."""
    return {name: value_of(field, depth) for name, field in kind.fields.items() if depth or field.scalar}


def value_of(field: Field, depth: int) -> Any:
    inner = SAMPLES[field.scalar] if field.type is None else sample(field.type, depth - 1)
    return [inner] if field.of == "list" else {"a": inner} if field.of == "map" else inner


def whole(resource: Resource) -> dict[str, Any]:
    return {**sample(type_of(resource)), "apiVersion": resource.api_version, "kind": resource.kind}


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a value, with a key or index of it."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(entries):
        yield value, key
        yield from places(inner)


@pytest.mark.parametrize("resource", RESOURCES, ids=str)
def test_an_object_with_every_field_there_is_has_no_wrong_types(resource: Resource) -> None:
    with pytest.raises(ApiError) as refused:
        check(resource, {**whole(resource), "metadata": {"name": "-"}})
    assert refused.value.code == 422  # not 400: the fields are right, their values are not


@pytest.mark.parametrize("resource", RESOURCES, ids=str)
@pytest.mark.parametrize("with_everything", [True, False])
def test_odd_objects_are_taken_or_refused(resource: Resource, with_everything: bool) -> None:
    chance = random.Random(resource.resource_name)
    taken = 0
    for _ in range(ROUNDS):
        obj = copy.deepcopy(whole(resource) if with_everything else right(resource))
        for _ in range(chance.randint(1, 4)):
            inside, key = chance.choice(list(places({"object": obj}))[1:] or [(obj, "metadata")])
            if chance.random() < 0.3 and isinstance(inside, dict):
                inside.pop(key, None)
            else:
                inside[key] = copy.deepcopy(chance.choice(ODD))
        try:
            check(resource, obj, field_validation="Warn")
        except ApiError:
            continue
        taken += 1
        set_defaults(resource, obj)
        other = copy.deepcopy(obj)
        set_defaults(resource, other)
        assert other == obj
        check(resource, other)
        check_update(resource, obj, other)
        table(resource, [obj], now=NOW)
    assert taken or with_everything


def right(resource: Resource) -> dict[str, Any]:
    """An object that may be stored, with a status in which everything is."""
    spec = type_of(resource).fields.get("spec")
    obj: dict[str, Any] = {"metadata": {"name": "a", "creationTimestamp": SAMPLES["time"]}}
    if spec is not None:
        labels = {"app": "web"}
        pod: dict[str, Any] = {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}
        template = {"metadata": {"labels": labels}, "spec": pod}
        specs = {
            "Pod": {**pod, "readinessGates": [{"conditionType": "g"}]},
            "Service": {"ports": [{"port": 80}], "selector": labels},
            "Node": {"podCIDR": "10.244.1.0/24"},
            "Namespace": {},
            "Lease": {"holderIdentity": "a"},
        }
        obj["spec"] = specs.get(resource.kind, {"selector": {"matchLabels": labels}, "template": template})
    if "status" in type_of(resource).fields:
        obj["status"] = value_of(type_of(resource).fields["status"], DEPTH)
    others = {
        "EndpointSlice": {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]},
        "Endpoints": {"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]},
        "ConfigMap": {"data": {"a": "b"}},
        "Secret": {"data": {"a": "Yg=="}, "stringData": {"b": "c"}},
    }
    obj |= others.get(resource.kind, {})
    if resource.resource_name == "events":
        obj |= {"involvedObject": {"kind": "Pod", "name": "p"}, "count": 1}
    elif resource.kind == "Event":
        obj |= {"regarding": {"kind": "Pod", "name": "p"}, "eventTime": SAMPLES["micro-time"]}
    return obj


@pytest.mark.parametrize("resource", RESOURCES, ids=str)
@pytest.mark.parametrize("content_type", [each for each in CONTENT_TYPES if each.startswith("application/")])
def test_odd_patches_are_taken_or_refused(resource: Resource, content_type: str) -> None:
    chance = random.Random(resource.resource_name + content_type)
    current = whole(resource)
    for _ in range(ROUNDS // 3):
        patch: Any = copy.deepcopy(current)
        for _ in range(chance.randint(1, 4)):
            inside, key = chance.choice(list(places(patch)))
            inside[key] = copy.deepcopy(chance.choice(ODD))
            if isinstance(inside, dict) and chance.random() < 0.5:
                directive = chance.choice(["$patch", "$retainKeys", "$setElementOrder/x", f"$setElementOrder/{key}"])
                inside[directive] = copy.deepcopy(chance.choice([*ODD, "delete", "replace"]))
        if content_type == JSON_PATCH:
            patch = [
                {"op": chance.choice(["add", "test", 1]), "path": chance.choice(["/spec", "/a/b", 1]), "value": patch}
            ]
        try:
            if "apply" in content_type:
                apply_server_side(resource, current, json.dumps(patch).encode(), manager="me", now="x")
            else:
                apply_patch(content_type, resource, current, json.dumps(patch).encode())
        except ApiError:
            continue
    assert current == whole(resource)
