"""OpenAPI v3 documents, one for each group and version: what kubectl explains, validates and patches by."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any, Final

import orjson

from mininetes.apiserver.discovery import GIT_VERSION, kind_at
from mininetes.apiserver.patches import CONTENT_TYPES
from mininetes.apiserver.resources import RESOURCES, SUBRESOURCES, Resource
from mininetes.apiserver.schema import Field, Type, type_of, types

Document = dict[str, Any]
_SCALARS: Final[dict[str, Document]] = {
    "string": {"type": "string"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "double": {"type": "number", "format": "double"},
    "boolean": {"type": "boolean"},
    "byte": {"type": "string", "format": "byte"},
}
_NAMED_SCALARS: Final[dict[str, tuple[str, Document]]] = {
    "int-or-string": (
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
        {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
    ),
    "quantity": (
        "io.k8s.apimachinery.pkg.api.resource.Quantity",
        {"description": "An amount, as 500m, 2 or 1Gi.", "oneOf": [{"type": "string"}, {"type": "number"}]},
    ),
    "time": ("io.k8s.apimachinery.pkg.apis.meta.v1.Time", {"type": "string", "format": "date-time"}),
    "micro-time": ("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", {"type": "string", "format": "date-time"}),
    "object": ("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", {"type": "object"}),
}
_JSON: Final = "application/json"
_PATH_PARAMETERS: Final = {"name": "The object's name.", "namespace": "The object's namespace."}
_QUERY_PARAMETERS: Final = {
    "list": {
        "allowWatchBookmarks": "boolean",
        "continue": "string",
        "fieldSelector": "string",
        "labelSelector": "string",
        "limit": "integer",
        "resourceVersion": "string",
        "resourceVersionMatch": "string",
        "sendInitialEvents": "boolean",
        "timeoutSeconds": "integer",
        "watch": "boolean",
    },
    "get": {},
    "post": {"dryRun": "string", "fieldManager": "string", "fieldValidation": "string"},
    "put": {"dryRun": "string", "fieldManager": "string", "fieldValidation": "string"},
    "patch": {"dryRun": "string", "fieldManager": "string", "fieldValidation": "string", "force": "boolean"},
    "delete": {
        "dryRun": "string",
        "gracePeriodSeconds": "integer",
        "orphanDependents": "boolean",
        "propagationPolicy": "string",
    },
}


def index() -> Document:
    """GET /openapi/v3: where each document is; its hash changes with it, so that clients may keep it."""
    paths = {}
    for path, document in documents().items():
        digest = hashlib.sha256(orjson.dumps(document)).hexdigest()[:32].upper()
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
    return {"paths": paths}


@cache
def documents() -> dict[str, Document]:
    """The documents by path below /openapi/v3/: ``api/v1``, ``apis/apps/v1``, ... Made once; not to be changed."""
    return {base.strip("/"): _document(base) for base in dict.fromkeys(each.base_path for each in RESOURCES)}


def _document(base: str) -> Document:
    resources = [each for each in RESOURCES if each.base_path == base]
    components = _Components()
    paths: Document = {}
    for resource in resources:
        components.add_resource(resource)
        paths |= _paths(resource, components)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": GIT_VERSION},
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": dict(sorted(components.schemas.items()))},
    }


def _reference(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}


class _Components:
    """The schemas of one document: those asked for, and what they refer to."""

    def __init__(self) -> None:
        self.schemas: Document = {}

    def add(self, kind: Type) -> str:
        """Add a type and what it is made of; returns its name."""
        name = kind.full_name
        if name not in self.schemas:
            schema: Document = {"type": "object"}
            self.schemas[name] = schema
            if kind.about:
                schema["description"] = kind.about
            schema["properties"] = {key: self.property(field) for key, field in kind.fields.items()}
            if kind.required_fields:
                schema["required"] = list(kind.required_fields)
        return name

    def add_kind(self, kind: Type, group: str, version: str, name: str) -> str:
        """Add a type that is a kind of its own."""
        full_name = self.add(kind)
        kinds = self.schemas[full_name].setdefault("x-kubernetes-group-version-kind", [])
        this = {"group": group, "kind": name, "version": version}
        if this not in kinds:
            kinds.append(this)
        return full_name

    def add_resource(self, resource: Resource) -> None:
        """Add a resource's kind, its list, and what is always there."""
        kind = self.add_kind(type_of(resource), resource.group, resource.version, resource.kind)
        self.add_list(resource, kind)
        self.add_kind(types()["meta.v1.Status"], "", "v1", "Status")
        self.add_kind(types()["meta.v1.DeleteOptions"], resource.group, resource.version, "DeleteOptions")
        self.schemas.setdefault("io.k8s.apimachinery.pkg.apis.meta.v1.Patch", {"type": "object"})

    def add_list(self, resource: Resource, kind: str) -> None:
        """Add the kind of a resource's lists."""
        self.schemas[f"{kind}List"] = {
            "type": "object",
            "description": f"Several objects of kind {resource.kind}.",
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"allOf": [_reference(self.add(types()["meta.v1.ListMeta"]))], "default": {}},
                "items": {"type": "array", "items": {"allOf": [_reference(kind)], "default": {}}},
            },
            "required": ["items"],
            "x-kubernetes-group-version-kind": [
                {"group": resource.group, "kind": resource.list_kind, "version": resource.version}
            ],
        }

    def property(self, field: Field) -> Document:
        """One field's schema."""
        inner = self._inner(field)
        about = {"description": field.about} if field.about else {}
        if field.of == "list":
            return {**about, "type": "array", "items": inner, **_list_extensions(field)}
        if field.of == "map":
            return {**about, "type": "object", "additionalProperties": inner}
        retained = {"x-kubernetes-patch-strategy": "retainKeys"} if field.retains_keys else {}
        if "$ref" in inner:  # beside a reference nothing else may stand
            return {**about, "allOf": [inner], **retained}
        return {**about, **inner}

    def _inner(self, field: Field) -> Document:
        if field.type is not None:
            return _reference(self.add(field.type))
        if field.scalar in _NAMED_SCALARS:
            name, schema = _NAMED_SCALARS[field.scalar]
            self.schemas[name] = schema
            return _reference(name)
        return _SCALARS[field.scalar]


def _list_extensions(field: Field) -> Document:
    if field.keys:
        return {
            "x-kubernetes-list-map-keys": list(field.keys),
            "x-kubernetes-list-type": "map",
            "x-kubernetes-patch-merge-key": field.keys[0],
            "x-kubernetes-patch-strategy": "merge,retainKeys" if field.retains_keys else "merge",
        }
    if field.is_set:
        return {"x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge"}
    return {"x-kubernetes-list-type": "atomic"}


def _paths(resource: Resource, components: _Components) -> Document:
    name = type_of(resource).full_name
    kind = (resource.group, resource.version, resource.kind)
    space = "{namespace}" if resource.namespaced else None
    collection, one = resource.path(space), resource.path(space, "{name}")
    found: Document = {
        collection: {
            "get": _operation("list", kind, f"{name}List"),
            "post": _operation("post", kind, name, body=name),
            "delete": _operation("deletecollection", kind, "io.k8s.apimachinery.pkg.apis.meta.v1.Status"),
        },
        one: {
            "get": _operation("get", kind, name),
            "put": _operation("put", kind, name, body=name),
            "patch": _operation("patch", kind, name, body="io.k8s.apimachinery.pkg.apis.meta.v1.Patch"),
            "delete": _operation("delete", kind, "io.k8s.apimachinery.pkg.apis.meta.v1.Status"),
        },
    }
    if resource.namespaced:
        found[resource.path()] = {"get": _operation("list", kind, f"{name}List")}
    for subresource in resource.subresources:
        found[resource.path(space, "{name}", subresource)] = _subresource(resource, subresource, components)
    for path, item in found.items():
        item["parameters"] = [
            {"name": each, "in": "path", "required": True, "description": about, "schema": {"type": "string"}}
            for each, about in _PATH_PARAMETERS.items()
            if f"{{{each}}}" in path
        ]
    return found


_SUBRESOURCE_TYPES: Final = {
    "scale": "autoscaling.v1.Scale",
    "binding": "core.v1.Binding",
    "eviction": "policy.v1.Eviction",
}
_METHODS: Final = {"get": "get", "update": "put", "patch": "patch", "create": "post"}


def _subresource(resource: Resource, name: str, components: _Components) -> Document:
    subresource = SUBRESOURCES[name]
    kind = kind_at(resource, subresource)
    if name in ("log", "exec", "attach"):
        return {_METHODS[verb]: _operation("connect", kind, "") for verb in subresource.verbs}
    shown = type_of(resource) if name == "status" else types()[_SUBRESOURCE_TYPES[name]]
    full_name = components.add_kind(shown, *kind)
    patch = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"
    bodies = {"get": "", "patch": patch, "put": full_name, "post": full_name}
    methods = [_METHODS[verb] for verb in subresource.verbs]
    return {method: _operation(method, kind, full_name, body=bodies[method]) for method in methods}


def _operation(action: str, kind: tuple[str, str, str], answer: str, body: str = "") -> Document:
    group, version, name = kind
    parameters = _QUERY_PARAMETERS.get("list" if action == "deletecollection" else action, {})
    schema = _reference(answer) if answer else {"type": "string"}
    operation: Document = {
        "parameters": [
            {"name": key, "in": "query", "schema": {"type": form, "uniqueItems": True}}
            for key, form in parameters.items()
        ],
        "responses": {"200": {"description": "OK", "content": {_JSON if answer else "*/*": {"schema": schema}}}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": group, "kind": name, "version": version},
    }
    if body:
        media_types = CONTENT_TYPES if action == "patch" else (_JSON,)
        operation["requestBody"] = {
            "required": True,
            "content": {each: {"schema": _reference(body)} for each in media_types},
        }
    return operation
