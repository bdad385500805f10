"""The table of kinds that the API server knows: their paths, names, short names and subresources.

What is not in the table does not exist: the server answers 404, and a manifest with such a kind is refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from mininetes.errors import BadInput

VERBS: Final = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
"""What every resource in the table can do."""


@dataclass(frozen=True)
class Subresource:
    """What lies below an object's path, such as ``status``: the kind that is sent and received there, and the verbs."""

    name: str
    verbs: tuple[str, ...]
    kind: str = ""
    """The kind at that path; empty means the resource's own."""
    api_version: str = ""
    """The group and version of ``kind``; empty means the resource's own."""


@dataclass(frozen=True)
class Resource:
    """One kind of object. ``group`` is empty for the core group."""

    group: str
    version: str
    plural: str
    singular: str
    kind: str
    namespaced: bool
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    stored_as: str = ""
    """The resource name under which objects are kept, where that is another's: the two groups of events share."""

    # Asked for with every request, so made once.
    @cached_property
    def api_version(self) -> str:
        """Group and version: ``v1``, ``apps/v1``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @cached_property
    def resource_name(self) -> str:
        """The name in error messages: ``pods``, ``deployments.apps``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @cached_property
    def store_name(self) -> str:
        """The name in the store's keys: the resource name, but one for both groups of events."""
        return self.stored_as or self.resource_name

    @cached_property
    def list_kind(self) -> str:
        """The kind of a list of these objects: ``PodList``."""
        return f"{self.kind}List"

    @cached_property
    def base_path(self) -> str:
        """The URL path of the group and version: ``/api/v1``, ``/apis/apps/v1``."""
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"

    def __str__(self) -> str:
        return self.resource_name

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of the collection, of one object, or of what is below it; ``namespace`` None: all of them."""
        space = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        end = "".join(f"/{part}" for part in (name, subresource) if part)
        return f"{self.base_path}{space}/{self.plural}{end}"


SUBRESOURCES: Final = {
    each.name: each
    for each in (
        Subresource("status", ("get", "patch", "update")),
        Subresource("scale", ("get", "patch", "update"), "Scale", "autoscaling/v1"),
        Subresource("log", ("get",)),
        Subresource("exec", ("create", "get"), "PodExecOptions", "v1"),
        Subresource("attach", ("create", "get"), "PodAttachOptions", "v1"),
        Subresource("binding", ("create",), "Binding", "v1"),
        Subresource("eviction", ("create",), "Eviction", "policy/v1"),
    )
}

_ALL = ("all",)

RESOURCES: Final = (
    Resource("", "v1", "namespaces", "namespace", "Namespace", False, ("ns",), (), ("status",)),
    Resource("", "v1", "nodes", "node", "Node", False, ("no",), (), ("status",)),
    Resource(
        "", "v1", "pods", "pod", "Pod", True, ("po",), _ALL, ("attach", "binding", "eviction", "exec", "log", "status")
    ),
    Resource("", "v1", "services", "service", "Service", True, ("svc",), _ALL, ("status",)),
    Resource("", "v1", "endpoints", "endpoints", "Endpoints", True, ("ep",)),
    Resource("", "v1", "configmaps", "configmap", "ConfigMap", True, ("cm",)),
    Resource("", "v1", "events", "event", "Event", True, ("ev",)),
    Resource("", "v1", "serviceaccounts", "serviceaccount", "ServiceAccount", True, ("sa",)),
    Resource("", "v1", "secrets", "secret", "Secret", True),
    Resource("apps", "v1", "deployments", "deployment", "Deployment", True, ("deploy",), _ALL, ("scale", "status")),
    Resource("apps", "v1", "replicasets", "replicaset", "ReplicaSet", True, ("rs",), _ALL, ("scale", "status")),
    Resource("apps", "v1", "daemonsets", "daemonset", "DaemonSet", True, ("ds",), _ALL, ("status",)),
    Resource("discovery.k8s.io", "v1", "endpointslices", "endpointslice", "EndpointSlice", True),
    Resource("coordination.k8s.io", "v1", "leases", "lease", "Lease", True),
    Resource("events.k8s.io", "v1", "events", "event", "Event", True, stored_as="events"),
)

_BY_PATH: Final = {(each.group, each.version, each.plural): each for each in RESOURCES}
_BY_KIND: Final = {(each.api_version, each.kind): each for each in RESOURCES}


def _names(resource: Resource) -> tuple[str, ...]:
    return (*resource.short_names, resource.singular, resource.kind.lower(), resource.plural, resource.resource_name)


# The first one wins: "events" are the core group's.
_BY_NAME: Final = {name: each for each in reversed(RESOURCES) for name in _names(each)}


def by_path(group: str, version: str, plural: str) -> Resource | None:
    """The resource at that path, as written there; None when there is none."""
    return _BY_PATH.get((group, version, plural))


def by_kind(api_version: str, kind: str) -> Resource:
    """The resource of an object's ``apiVersion`` and ``kind``. Raises BadInput, which names them and what there is."""
    found = _BY_KIND.get((api_version, kind))
    if found is None:
        versions = [each.api_version for each in RESOURCES if each.kind == kind]
        if versions:
            raise BadInput("apiVersion", api_version, f"{kind} is known as {' or '.join(versions)}")
        kinds = ", ".join(sorted({each.kind for each in RESOURCES}))
        raise BadInput("kind", f"{kind} ({api_version})", f"this cluster knows {kinds}")
    return found


def by_name(name: str) -> Resource:
    """The resource that a user names: ``deploy``, ``pods``, ``Pod``, ``deployments.apps``, ``deployments.v1.apps``.

    Raises BadInput, which names what there is.
    """
    text = name.lower()
    found = _BY_NAME.get(text)
    if found is None and "." in text:
        short, _, rest = text.partition(".")
        for each in RESOURCES:
            written = (each.group or each.version, f"{each.version}.{each.group}")
            if short in (each.plural, each.singular, *each.short_names) and rest in written:
                return each
    if found is None:
        raise BadInput("kind", name, f"this cluster knows {', '.join(sorted({each.plural for each in RESOURCES}))}")
    return found
