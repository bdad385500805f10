"""Discovery: the documents from which clients learn which kinds there are, at which paths, and what can be done."""

from __future__ import annotations

from typing import Any, Final, Literal

from mininetes.apiserver.resources import RESOURCES, SUBRESOURCES, VERBS, Resource, Subresource

MAJOR: Final = "1"
MINOR: Final = "30"
GIT_VERSION: Final = "v1.30.0+mininetes"
AGGREGATED_TYPES: Final = ("v2", "v2beta1")
Document = dict[str, Any]


def version() -> Document:
    """GET /version: the release of Kubernetes that the server behaves as."""
    return {
        "major": MAJOR,
        "minor": MINOR,
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "none",
        "platform": "linux/amd64",
    }


def documents(server_address: str) -> dict[str, Document]:
    """The documents of unaggregated discovery by URL path: /api, /apis, /api/v1, /apis/GROUP, /apis/GROUP/VERSION.

    ``server_address`` is ``host:port``, as clients without another idea are told to reach the server.
    """
    addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}]
    core = {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}
    groups = [_group(name, versions) for name, versions in _groups().items() if name]
    found: dict[str, Document] = {"/api": core}
    found["/apis"] = {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    for group in groups:
        found[f"/apis/{group['name']}"] = {"kind": "APIGroup", "apiVersion": "v1", **group}
    for name, versions in _groups().items():
        for each in versions:
            base = f"/apis/{name}/{each}" if name else f"/api/{each}"
            found[base] = _resource_list(name, each)
    return found


def aggregated(root: Literal["/api", "/apis"], version: Literal["v2", "v2beta1"]) -> Document:
    """An APIGroupDiscoveryList: everything below ``root`` in one document."""
    items = []
    for name, versions in _groups().items():
        if bool(name) == (root == "/apis"):
            found = [{"version": v, "resources": _discovered(name, v), "freshness": "Current"} for v in versions]
            items.append(
                {"metadata": {**({"name": name} if name else {}), "creationTimestamp": None}, "versions": found}
            )
    api_version = f"apidiscovery.k8s.io/{version}"
    return {"kind": "APIGroupDiscoveryList", "apiVersion": api_version, "metadata": {}, "items": items}


def _groups() -> dict[str, list[str]]:
    """The versions of each group, in the table's order."""
    found: dict[str, list[str]] = {}
    for each in RESOURCES:
        versions = found.setdefault(each.group, [])
        if each.version not in versions:
            versions.append(each.version)
    return found


def _of_group(group: str, version: str) -> list[Resource]:
    return sorted((r for r in RESOURCES if (r.group, r.version) == (group, version)), key=lambda r: r.plural)


def _group(name: str, versions: list[str]) -> Document:
    found = [{"groupVersion": f"{name}/{each}", "version": each} for each in versions]
    return {"name": name, "versions": found, "preferredVersion": found[0]}


def _resource_list(group: str, version: str) -> Document:
    entries = []
    for resource in _of_group(group, version):
        entry: Document = {
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": list(VERBS),
        }
        if resource.short_names:
            entry["shortNames"] = list(resource.short_names)
        if resource.categories:
            entry["categories"] = list(resource.categories)
        entries += [entry, *(_subresource(resource, SUBRESOURCES[name]) for name in resource.subresources)]
    group_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": entries}


def _subresource(resource: Resource, subresource: Subresource) -> Document:
    group, version, kind = kind_at(resource, subresource)
    return {
        "name": f"{resource.plural}/{subresource.name}",
        "singularName": "",
        "namespaced": resource.namespaced,
        **({"group": group, "version": version} if subresource.api_version else {}),
        "kind": kind,
        "verbs": list(subresource.verbs),
    }


def kind_at(resource: Resource, subresource: Subresource) -> tuple[str, str, str]:
    """Group, version and kind of what is sent and received at a subresource."""
    group, _, version = (subresource.api_version or resource.api_version).rpartition("/")
    return group, version, subresource.kind or resource.kind


def _kind(group: str, version: str, kind: str) -> Document:
    return {"group": group, "version": version, "kind": kind}


def _discovered(group: str, version: str) -> list[Document]:
    found = []
    for resource in _of_group(group, version):
        entry: Document = {
            "resource": resource.plural,
            "responseKind": _kind(resource.group, resource.version, resource.kind),
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "singularResource": resource.singular,
            "verbs": list(VERBS),
        }
        if resource.short_names:
            entry["shortNames"] = list(resource.short_names)
        if resource.categories:
            entry["categories"] = list(resource.categories)
        if resource.subresources:
            entry["subresources"] = [
                {
                    "subresource": name,
                    "responseKind": _kind(*kind_at(resource, SUBRESOURCES[name])),
                    "verbs": list(SUBRESOURCES[name].verbs),
                }
                for name in resource.subresources
            ]
        found.append(entry)
    return found
