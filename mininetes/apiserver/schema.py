"""The fields of the Kubernetes API's types, as read from the data file that scripts/kubernetes_schema.py writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files
from typing import Any, Final

import orjson

from mininetes.apiserver.resources import RESOURCES, Resource

SCALARS: Final = frozenset(
    (
        "string",
        "int32",
        "int64",
        "double",
        "boolean",
        "object",
        "int-or-string",
        "quantity",
        "time",
        "micro-time",
        "byte",
    )
)


@dataclass(frozen=True)
class Field:
    """One field. ``scalar`` is one of SCALARS, or empty where ``type`` says what is in it."""

    name: str
    scalar: str
    type: Type | None
    of: str
    """``list``, ``map`` (by string), or empty."""
    required: bool
    keys: tuple[str, ...]
    """What tells the elements of a list apart; the first one is the key of strategic merge patches."""
    is_set: bool
    """A list of scalars that holds each only once, and is merged so."""
    retains_keys: bool
    """Strategic merge patches replace which fields are set, with ``$retainKeys``."""
    about: str


@dataclass(frozen=True, eq=False)
class Type:
    """One object type: ``core.v1.PodSpec``, ``meta.v1.ObjectMeta``."""

    name: str
    about: str
    fields: dict[str, Field] = field(default_factory=dict, repr=False)

    @property
    def short_name(self) -> str:
        """``PodSpec``."""
        return self.name.rpartition(".")[2]

    @property
    def go_name(self) -> str:
        """The name in Kubernetes' own messages: ``v1.PodSpec``."""
        return self.name.partition(".")[2]

    @property
    def full_name(self) -> str:
        """The name in OpenAPI documents: ``io.k8s.api.core.v1.PodSpec``."""
        machinery = self.name.startswith("meta.")
        return f"io.k8s.apimachinery.pkg.apis.{self.name}" if machinery else f"io.k8s.api.{self.name}"

    @cached_property
    def required_fields(self) -> tuple[str, ...]:
        """The names of the fields that must be there."""
        return tuple(each.name for each in self.fields.values() if each.required)


def _field(name: str, entry: dict[str, Any], types: dict[str, Type]) -> Field:
    scalar = entry["type"] if entry["type"] in SCALARS else ""
    return Field(
        name,
        scalar,
        None if scalar else types[entry["type"]],
        entry.get("of", ""),
        entry.get("required", False),
        tuple(entry.get("keys", ())),
        entry.get("set", False),
        entry.get("retain", False),
        entry.get("about", ""),
    )


@cache
def types() -> dict[str, Type]:
    """Every type, by name. Read once."""
    data = orjson.loads(files("mininetes.apiserver").joinpath("kubernetes-1.30.json").read_bytes())
    entries: dict[str, dict[str, Any]] = data["types"]
    found = {name: Type(name, entry.get("about", "")) for name, entry in entries.items()}
    for name, entry in entries.items():
        for key, value in entry["fields"].items():
            found[name].fields[key] = _field(key, value, found)
    return found


def _type_of(resource: Resource) -> Type:
    package = resource.group.removesuffix(".k8s.io") or "core"
    return types()[f"{package}.{resource.version}.{resource.kind}"]


@cache
def _types_of_resources() -> dict[Resource, Type]:
    return {each: _type_of(each) for each in RESOURCES}


def type_of(resource: Resource) -> Type:
    """The type of a resource's objects."""
    return _types_of_resources()[resource]
