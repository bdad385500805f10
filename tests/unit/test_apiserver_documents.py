"""Discovery and OpenAPI documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mininetes.apiserver import discovery, openapi
from mininetes.apiserver.resources import RESOURCES, Resource

SERVER = "192.168.1.11:6443"


def test_the_version_is_that_of_the_release() -> None:
    assert (discovery.version()["major"], discovery.version()["minor"]) == ("1", "30")


def test_groups() -> None:
    documents = discovery.documents(SERVER)
    assert documents["/api"]["versions"] == ["v1"]
    assert documents["/api"]["serverAddressByClientCIDRs"][0]["serverAddress"] == SERVER
    groups = [group["name"] for group in documents["/apis"]["groups"]]
    assert groups == ["apps", "discovery.k8s.io", "coordination.k8s.io", "events.k8s.io"]
    assert documents["/apis/apps"]["preferredVersion"] == {"groupVersion": "apps/v1", "version": "v1"}


@pytest.mark.parametrize("resource", RESOURCES, ids=str)
def test_every_resource_is_listed_where_it_is_served(resource: Resource) -> None:
    document = discovery.documents(SERVER)[resource.base_path]
    assert document["groupVersion"] == resource.api_version
    entries = {entry["name"]: entry for entry in document["resources"]}
    entry = entries[resource.plural]
    assert (entry["kind"], entry["namespaced"]) == (resource.kind, resource.namespaced)
    assert entry["singularName"] == resource.singular
    assert tuple(entry.get("shortNames", ())) == resource.short_names
    assert "watch" in entry["verbs"]
    assert {f"{resource.plural}/{each}" for each in resource.subresources} <= entries.keys()


def test_scales_are_of_another_group() -> None:
    entries = {e["name"]: e for e in discovery.documents(SERVER)["/apis/apps/v1"]["resources"]}
    scale = entries["deployments/scale"]
    assert (scale["group"], scale["version"], scale["kind"]) == ("autoscaling", "v1", "Scale")
    assert "group" not in entries["deployments/status"]


@pytest.mark.parametrize("version", discovery.AGGREGATED_TYPES)
def test_aggregated_discovery_says_the_same(version: Any) -> None:
    found = set()
    for root in ("/api", "/apis"):
        document = discovery.aggregated(root, version)  # type: ignore[arg-type]
        assert document["apiVersion"] == f"apidiscovery.k8s.io/{version}"
        for group in document["items"]:
            for each in group["versions"]:
                for entry in each["resources"]:
                    name = (group["metadata"].get("name", ""), each["version"], entry["resource"])
                    subresources = tuple(sub["subresource"] for sub in entry.get("subresources", ()))
                    found.add((*name, entry["scope"] == "Namespaced", subresources))
    assert found == {(r.group, r.version, r.plural, r.namespaced, r.subresources) for r in RESOURCES}


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


@pytest.mark.parametrize("path", openapi.documents())
def test_references_lead_somewhere(path: str) -> None:
    document = openapi.documents()[path]
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known


def test_the_index_names_each_document_with_its_hash() -> None:
    paths = openapi.index()["paths"]
    assert set(paths) == {each.base_path.strip("/") for each in RESOURCES}
    for path, entry in paths.items():
        assert entry["serverRelativeURL"].startswith(f"/openapi/v3/{path}?hash=")
    assert len({entry["serverRelativeURL"].partition("=")[2] for entry in paths.values()}) == len(paths)


@pytest.mark.parametrize("resource", RESOURCES, ids=str)
def test_kubectl_finds_what_it_looks_for(resource: Resource) -> None:
    """It wants a PATCH of the kind that takes fieldValidation, and the schema of the kind."""
    document = openapi.documents()[resource.base_path.strip("/")]
    kind = {"group": resource.group, "kind": resource.kind, "version": resource.version}
    patches = [
        path["patch"]
        for path in document["paths"].values()
        if path.get("patch", {}).get("x-kubernetes-group-version-kind") == kind
    ]
    assert patches
    for patch in patches:
        assert "fieldValidation" in [parameter["name"] for parameter in patch["parameters"]]
        assert "application/strategic-merge-patch+json" in patch["requestBody"]["content"]
    schemas = document["components"]["schemas"].values()
    assert len([s for s in schemas if kind in s.get("x-kubernetes-group-version-kind", ())]) == 1


def property_of(path: str, kind: str, name: str) -> Any:
    return openapi.documents()[path]["components"]["schemas"][kind]["properties"][name]


def test_lists_say_how_they_are_merged() -> None:
    containers = property_of("apis/apps/v1", "io.k8s.api.core.v1.PodSpec", "containers")
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert containers["x-kubernetes-patch-strategy"] == "merge"
    volumes = property_of("api/v1", "io.k8s.api.core.v1.PodSpec", "volumes")
    assert volumes["x-kubernetes-patch-strategy"] == "merge,retainKeys"
    ports = property_of("api/v1", "io.k8s.api.core.v1.ServiceSpec", "ports")
    assert ports["x-kubernetes-list-map-keys"] == ["port", "protocol"]
    finalizers = property_of("api/v1", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "finalizers")
    assert finalizers["x-kubernetes-list-type"] == "set"
    strategy = property_of("apis/apps/v1", "io.k8s.api.apps.v1.DeploymentSpec", "strategy")
    assert strategy["x-kubernetes-patch-strategy"] == "retainKeys"


@pytest.mark.parametrize(
    ("kind", "name", "schema"),
    [
        ("Container", "args", {"type": "array", "items": {"type": "string"}}),
        ("ContainerPort", "containerPort", {"type": "integer", "format": "int32"}),
        ("PodSpec", "terminationGracePeriodSeconds", {"type": "integer", "format": "int64"}),
        ("PodSpec", "nodeSelector", {"type": "object", "additionalProperties": {"type": "string"}}),
        ("Secret", "data", {"type": "object", "additionalProperties": {"type": "string", "format": "byte"}}),
    ],
)
def test_types_of_fields(kind: str, name: str, schema: dict[str, Any]) -> None:
    assert schema.items() <= property_of("api/v1", f"io.k8s.api.core.v1.{kind}", name).items()
