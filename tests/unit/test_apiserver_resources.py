"""The table of kinds: how kinds are found, and that it is whole."""

from __future__ import annotations

import pytest

from mininetes.apiserver import schema
from mininetes.apiserver.resources import RESOURCES, SUBRESOURCES, Resource, by_kind, by_name, by_path
from mininetes.errors import BadInput


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("po", "pods"),
        ("Pod", "pods"),
        ("pods", "pods"),
        ("pods.v1", "pods"),
        ("svc", "services"),
        ("ep", "endpoints"),
        ("deploy", "deployments.apps"),
        ("deployments.apps", "deployments.apps"),
        ("deploy.apps", "deployments.apps"),
        ("deployments.v1.apps", "deployments.apps"),
        ("ds", "daemonsets.apps"),
        ("events", "events"),
        ("ev", "events"),
        ("events.events.k8s.io", "events.events.k8s.io"),
        ("endpointslice", "endpointslices.discovery.k8s.io"),
        ("leases.coordination.k8s.io", "leases.coordination.k8s.io"),
    ],
)
def test_names_that_users_know(name: str, found: str) -> None:
    assert by_name(name).resource_name == found


@pytest.mark.parametrize("name", ["ingress", "pods.apps", "deployments.v2.apps", ""])
def test_unknown_names_are_refused_and_the_known_ones_named(name: str) -> None:
    with pytest.raises(BadInput, match=r"this cluster knows .*deployments.*services") as refused:
        by_name(name)
    assert refused.value.field == "kind"


def test_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match=r"Ingress \(networking.k8s.io/v1\).*Deployment"):
        by_kind("networking.k8s.io/v1", "Ingress")


def test_a_known_kind_of_another_version_is_told_the_right_one() -> None:
    with pytest.raises(BadInput, match="apiVersion: 'extensions/v1beta1' is not valid: Deployment is known as apps/v1"):
        by_kind("extensions/v1beta1", "Deployment")


def test_both_groups_of_events_share_their_place_in_the_store() -> None:
    core, new = by_kind("v1", "Event"), by_kind("events.k8s.io/v1", "Event")
    assert core is not new
    assert core.store_name == new.store_name == "events"


def test_there_is_nothing_at_other_paths() -> None:
    assert by_path("", "v1", "pods") is by_name("pods")
    assert by_path("apps", "v1", "pods") is None
    assert by_path("", "v1", "po") is None


@pytest.mark.parametrize(
    ("name", "arguments", "path"),
    [
        ("pods", (), "/api/v1/pods"),
        ("pods", ("default",), "/api/v1/namespaces/default/pods"),
        ("pods", ("default", "a", "log"), "/api/v1/namespaces/default/pods/a/log"),
        ("nodes", (None, "node1", "status"), "/api/v1/nodes/node1/status"),
        ("deploy", ("x", "a", "scale"), "/apis/apps/v1/namespaces/x/deployments/a/scale"),
    ],
)
def test_paths(name: str, arguments: tuple[str | None, ...], path: str) -> None:
    assert by_name(name).path(*arguments) == path


@pytest.mark.parametrize("resource", RESOURCES, ids=str)
def test_every_kind_has_its_fields_and_known_subresources(resource: Resource) -> None:
    fields = schema.type_of(resource).fields
    assert {"apiVersion", "kind", "metadata"} <= fields.keys()
    assert ("status" in resource.subresources) == ("status" in fields)
    assert set(resource.subresources) <= SUBRESOURCES.keys()
    assert resource.list_kind == f"{resource.kind}List"


def test_merge_keys_are_fields_of_what_they_tell_apart() -> None:
    wrong = [
        f"{kind.name}.{field.name}: {key}"
        for kind in schema.types().values()
        for field in kind.fields.values()
        for key in field.keys
        if field.of != "list" or field.type is None or key not in field.type.fields
    ]
    assert wrong == []
