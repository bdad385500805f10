"""What an update may not change."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.resources import by_name
from mininetes.apiserver.validation import check_update

A = {"name": "a", "image": "a:1"}
TOLERATION = {"key": "a", "operator": "Exists"}


def obj(**fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": "x", "namespace": "default", "uid": "1"}, **fields}


def update(kind: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    check_update(by_name(kind), copy.deepcopy(old), copy.deepcopy(new))


ALLOWED = [
    ("pods", obj(spec={"containers": [A]}), obj(spec={"containers": [{**A, "image": "a:2"}]})),
    ("pods", obj(spec={"containers": [A]}), obj(spec={"containers": [A], "tolerations": [TOLERATION]})),
    ("pods", obj(spec={"activeDeadlineSeconds": 9}), obj(spec={"activeDeadlineSeconds": 8})),
    ("pods", obj(spec={"schedulingGates": [{"name": "a"}]}), obj(spec={})),
    ("svc", obj(spec={}), obj(spec={"clusterIP": "10.0.0.1"})),
    ("svc", obj(spec={"clusterIP": "10.0.0.1"}), obj(spec={"type": "ExternalName"})),
    ("no", obj(spec={}), obj(spec={"podCIDR": "10.0.0.0/24"})),
    ("cm", obj(data={"a": "1"}), obj(data={"a": "2"})),
    ("cm", obj(data={"a": "1"}, immutable=True), obj(data={"a": "1"}, immutable=True)),
    ("deploy", obj(spec={"selector": {}, "replicas": 1}), obj(spec={"selector": {}, "replicas": 2})),
    ("lease", obj(spec={"holderIdentity": "a"}), obj(spec={"holderIdentity": "b"})),
]


@pytest.mark.parametrize(("kind", "old", "new"), ALLOWED)
def test_what_may_change(kind: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    update(kind, old, new)


REFUSED = [
    (
        "pods",
        obj(spec={"nodeName": "a"}),
        obj(spec={"nodeName": "b"}),
        "spec: Forbidden: pod updates may not change.*nodeName",
    ),
    (
        "pods",
        obj(spec={"containers": [A]}),
        obj(spec={"containers": [A, A]}),
        "pod updates may not.*changed: containers",
    ),
    ("pods", obj(spec={"containers": [A]}), obj(spec={"containers": [{**A, "tty": True}]}), "changed: containers"),
    ("pods", obj(spec={"tolerations": [TOLERATION]}), obj(spec={}), "spec.tolerations: Forbidden: existing toleration"),
    ("pods", obj(spec={"activeDeadlineSeconds": 9}), obj(spec={}), "must be less than or equal to previous value 9"),
    ("pods", obj(spec={}), obj(spec={"schedulingGates": [{"name": "a"}]}), "spec.schedulingGates: Forbidden"),
    (
        "svc",
        obj(spec={"clusterIP": "10.0.0.1"}),
        obj(spec={"clusterIP": "10.0.0.2"}),
        r'spec.clusterIPs\[0\]: Invalid value: \[\]string{"10.0.0.2"}: may not change once set',
    ),
    ("svc", obj(spec={"clusterIP": "None"}), obj(spec={"clusterIP": "10.0.0.2"}), "may not change once set"),
    (
        "deploy",
        obj(spec={"selector": {"matchLabels": {"a": "1"}}}),
        obj(spec={"selector": {"matchLabels": {"a": "2"}}}),
        r'Deployment.apps "x" is invalid: spec.selector: Invalid value: v1.LabelSelector{MatchLabels:map'
        r'\[string\]string{"a":"2"}, MatchExpressions:\[\]v1.LabelSelectorRequirement\(nil\)}: field is immutable',
    ),
    ("rs", obj(spec={"selector": {}}), obj(spec={"selector": {"matchLabels": {}}}), "spec.selector.*immutable"),
    (
        "no",
        obj(spec={"podCIDR": "10.0.0.0/24"}),
        obj(spec={"podCIDR": "10.0.1.0/24"}),
        "node updates may not change podCIDR",
    ),
    (
        "cm",
        obj(data={}, immutable=True),
        obj(data={"a": "1"}, immutable=True),
        "data: Forbidden: field is immutable when",
    ),
    ("cm", obj(immutable=True), obj(), "immutable: Forbidden: field is immutable when"),
    ("secret", obj(type="Opaque"), obj(type="x"), "type: Invalid value: .*field is immutable"),
    ("endpointslice", obj(addressType="IPv4"), obj(addressType="FQDN"), "addressType: Invalid value.*immutable"),
    ("cm", obj(), {"metadata": {"name": "y", "namespace": "default", "uid": "1"}}, "metadata.name.*immutable"),
    ("cm", obj(), {"metadata": {"name": "x", "namespace": "default", "uid": "2"}}, "metadata.uid.*immutable"),
    (
        "cm",
        {"metadata": {"name": "x", "deletionTimestamp": "2024-01-01T00:00:00Z"}},
        {"metadata": {"name": "x", "finalizers": ["a/b"]}},
        "no new finalizers can be added",
    ),
]


@pytest.mark.parametrize(("kind", "old", "new", "message"), REFUSED)
def test_what_may_not_change(kind: str, old: dict[str, Any], new: dict[str, Any], message: str) -> None:
    with pytest.raises(ApiError) as refused:
        update(kind, old, new)
    assert refused.value.code == 422
    assert re.search(message, refused.value.message, re.DOTALL)
