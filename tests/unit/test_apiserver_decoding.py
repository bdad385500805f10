"""Fields and types of objects: what is refused with 400, what is dropped, what is warned of."""

from __future__ import annotations

from typing import Any

import pytest

from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.resources import by_name
from mininetes.apiserver.validation import check

BEGINNING = 'in version "v1" cannot be handled as a'


def pod(**container: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i", **container}]}}


def refusal(kind: str, obj: dict[str, Any], **options: Any) -> ApiError:
    with pytest.raises(ApiError) as refused:
        check(by_name(kind), obj, **options)
    return refused.value


def test_unknown_fields_are_named_with_their_paths() -> None:
    obj = pod(imagee="x", ports=[{"containerPort": 1, "prot": "TCP"}])
    obj["spec"]["foo"] = 1
    error = refusal("pods", obj)
    assert (error.code, error.reason) == (400, "BadRequest")
    assert error.message == (
        f'Pod {BEGINNING} Pod: strict decoding error: unknown field "spec.containers[0].imagee", '
        'unknown field "spec.containers[0].ports[0].prot", unknown field "spec.foo"'
    )


def test_unknown_fields_are_warned_of_and_dropped() -> None:
    obj = pod(imagee="x")
    assert check(by_name("pods"), obj, field_validation="Warn") == ['unknown field "spec.containers[0].imagee"']
    assert obj == pod()


def test_unknown_fields_are_dropped() -> None:
    obj = pod(imagee="x")
    assert check(by_name("pods"), obj, field_validation="Ignore") == []
    assert obj == pod()


def test_nulls_are_as_if_not_there() -> None:
    obj = {**pod(command=None), "status": None}
    obj["metadata"]["creationTimestamp"] = None
    assert check(by_name("pods"), obj) == []
    assert obj == pod()


@pytest.mark.parametrize(
    ("kind", "obj", "why"),
    [
        (
            "deploy",
            {"spec": {"replicas": "3"}},
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "deploy",
            {"spec": {"replicas": 1.5}},
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "deploy",
            {"spec": {"replicas": 1 << 31}},
            "json: cannot unmarshal number 2147483648 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "deploy",
            {"spec": {"replicas": True}},
            "json: cannot unmarshal bool into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "pods",
            pod(ports=[{"containerPort": "http"}]),
            "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort "
            "of type int32",
        ),
        (
            "pods",
            pod(image=1),
            "json: cannot unmarshal number into Go struct field Container.spec.containers.image of type string",
        ),
        (
            "pods",
            pod(command="sleep 1"),
            "json: cannot unmarshal string into Go struct field Container.spec.containers.command of type []string",
        ),
        (
            "pods",
            {"spec": {"containers": {}}},
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            "pods",
            {"spec": []},
            "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec",
        ),
        (
            "pods",
            {"metadata": {"labels": {"a": 1}}},
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            "pods",
            {"metadata": {"labels": ["a"]}},
            "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            "pods",
            {"spec": {"hostNetwork": "yes"}},
            "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool",
        ),
        (
            "svc",
            {"spec": {"ports": [{"port": 1, "targetPort": True}]}},
            "json: cannot unmarshal bool into Go struct field ServicePort.spec.ports.targetPort "
            "of type intstr.IntOrString",
        ),
        (
            "pods",
            pod(resources={"limits": {"cpu": "many"}}),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            "lease",
            {"spec": {"renewTime": "today"}},
            'parsing time "today" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "today"',
        ),
        ("secret", {"data": {"a": "???"}}, "illegal base64 data"),
        (
            "pods",
            {"spec": {"containers": [None]}},
            "json: cannot unmarshal null into Go struct field PodSpec.spec.containers of type v1.Container",
        ),
    ],
)
def test_wrong_types(kind: str, obj: dict[str, Any], why: str) -> None:
    error = refusal(kind, obj, field_validation="Ignore")
    name = by_name(kind).kind
    assert (error.code, error.message) == (400, f"{name} {BEGINNING} {name}: {why}")


@pytest.mark.parametrize("quantity", ["1", "500m", "1Gi", "0.5", "1e3", "1E3", "2E", "100Ki", ".5", "5.", "+1", 2, 0.5])
def test_quantities(quantity: Any) -> None:
    obj = pod(resources={"requests": {"memory": quantity}})
    assert check(by_name("pods"), obj) == []
    assert obj["spec"]["containers"][0]["resources"]["requests"]["memory"] == str(quantity)


@pytest.mark.parametrize(
    "quantity", ["", "1 Gi", "1gb", "1GiB", "abc", "1..2", "--1", "1Mb", "1" * 41, True, [], "\u0661"]
)
def test_what_is_no_quantity(quantity: Any) -> None:
    assert refusal("pods", pod(resources={"requests": {"memory": quantity}})).code == 400


@pytest.mark.parametrize("time", ["2024-01-01T00:00:00Z", "2024-01-01T00:00:00.123456Z", "2024-01-01T00:00:00+01:00"])
def test_times(time: str) -> None:
    obj = {"metadata": {"name": "a"}, "spec": {"renewTime": time}}
    assert check(by_name("lease"), obj) == []
