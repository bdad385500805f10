"""Reading Services, EndpointSlices and Nodes from a file: Kubernetes YAML or JSON, a List, or lists by kind."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mininetes.errors import BadInput

_BY_KIND = {"Service": "services", "EndpointSlice": "endpointslices", "Node": "nodes"}


@dataclass
class Objects:
    """The objects of a file, by kind."""

    services: list[dict[str, Any]] = field(default_factory=list)
    endpointslices: list[dict[str, Any]] = field(default_factory=list)
    nodes: list[dict[str, Any]] = field(default_factory=list)

    def node(self, name: str) -> dict[str, Any]:
        """The Node object of that name. Raises BadInput that lists those there are."""
        for each in self.nodes:
            if each["metadata"]["name"] == name:
                return each
        raise BadInput("--node", name, "one of " + (", ".join(n["metadata"]["name"] for n in self.nodes) or "none"))


def read_objects(path: Path) -> Objects:
    """Read a file. Raises BadInput when it is missing, no YAML or JSON, or has an object of another kind."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as failed:
        raise BadInput("objects", str(path), f"a readable text file ({failed})") from None
    try:
        documents = [json.loads(text)] if text.lstrip().startswith("{") else list(yaml.safe_load_all(text))
    except (yaml.YAMLError, ValueError) as wrong:
        raise BadInput(str(path), None, "neither YAML nor JSON: " + " ".join(str(wrong).split())) from None
    found = Objects()
    for document in documents:
        for kind, obj in _objects(document, path):
            getattr(found, kind).append(obj)
    return found


def _objects(document: Any, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of one document, each with the name of its list in `Objects`."""
    if document is None:
        return
    if not isinstance(document, Mapping):
        raise BadInput(str(path), None, "a Kubernetes object, a List, or {services, endpointslices, nodes}")
    if "kind" not in document:
        unknown = [key for key in document if key not in _BY_KIND.values()]
        if unknown:
            raise BadInput(f"{path}: {unknown[0]}", None, "unknown key; known here: " + ", ".join(_BY_KIND.values()))
        for kind, listed in document.items():
            for each in listed:
                yield kind, _checked(each, path)
        return
    if str(document["kind"]).endswith("List"):
        of = str(document["kind"]).removesuffix("List")
        for each in document.get("items") or ():
            yield from _objects({"kind": of, **each} if of else each, path)
        return
    if document["kind"] not in _BY_KIND:
        raise BadInput(f"{path}: kind", document["kind"], "one of " + ", ".join(_BY_KIND))
    yield _BY_KIND[document["kind"]], _checked(document, path)


def _checked(obj: Any, path: Path) -> dict[str, Any]:
    if not isinstance(obj, dict) or not isinstance(obj.get("metadata"), dict) or not obj["metadata"].get("name"):
        raise BadInput(f"{path}: metadata.name", None, "every object needs a name")
    return obj
