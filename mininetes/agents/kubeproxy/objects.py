"""Reading Services, EndpointSlices and Nodes from a file: Kubernetes YAML or JSON, a List, or lists by kind."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mininetes.agents.kubeproxy.dual_stack import is_ipv6_slice, take_ipv4_half
from mininetes.agents.kubeproxy.services import key_of
from mininetes.apiserver import validation
from mininetes.apiserver.defaults import set_defaults
from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.resources import by_kind
from mininetes.errors import BadInput, one_of

_BY_KIND = {"Service": "services", "EndpointSlice": "endpointslices", "Node": "nodes"}
_KINDS = {name: kind for kind, name in _BY_KIND.items()}
_VERSIONS = {"Service": "v1", "EndpointSlice": "discovery.k8s.io/v1", "Node": "v1"}


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
        if not self.nodes:
            raise BadInput("objects", None, f"they have no Node; that of {name} is needed, with its address")
        raise BadInput("--node", name, one_of([n["metadata"]["name"] for n in self.nodes], name))


def read_objects(path: Path) -> Objects:
    """Read a file, as `objects_in` does. Raises BadInput, also when it is missing."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as failed:
        raise BadInput("objects", str(path), f"a readable text file ({failed})") from None
    return objects_in(text, str(path))


def objects_in(text: str, source: str) -> Objects:
    """Read a text; errors say that it is from ``source``.

    Raises BadInput when it is no YAML or JSON, has an object of another kind, or one twice. So it does for an object
    that the API server would not take: these are checked by the same rules. Of dual-stack objects the IPv4 half is
    taken; a service of IPv6 alone is refused.
    """
    try:
        documents = [json.loads(text)] if text.lstrip().startswith("{") else list(yaml.safe_load_all(text))
    except (yaml.YAMLError, ValueError) as wrong:
        raise BadInput(source, None, "neither YAML nor JSON: " + " ".join(str(wrong).split())) from None
    found = Objects()
    seen = set()
    for document in documents:
        for name, obj in _objects(document, source):
            title = f"{_KINDS[name].lower()} {obj['metadata']['name'] if name == 'nodes' else key_of(obj)}"
            if title in seen:
                raise BadInput(title, None, "OBJECTS has it twice")
            seen.add(title)
            if is_ipv6_slice(_KINDS[name], obj):
                continue
            getattr(found, name).append(_taken(obj, _KINDS[name], title))
    return found


def _objects(document: Any, source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of one document, each with the name of its list in `Objects`."""
    if document is None:
        return
    if not isinstance(document, Mapping):
        raise BadInput(source, None, "a Kubernetes object, a List, or {services, endpointslices, nodes}")
    if "kind" not in document:
        unknown = [key for key in document if key not in _BY_KIND.values()]
        if unknown:
            raise BadInput(f"{source}: {unknown[0]}", None, "unknown key; known here: " + ", ".join(_BY_KIND.values()))
        for kind, listed in document.items():
            if not isinstance(listed, list):
                raise BadInput(f"{source}: {kind}", str(listed), "a list of objects")
            for each in listed:
                yield kind, _checked(each, source)
        return
    if str(document["kind"]).endswith("List"):
        of = str(document["kind"]).removesuffix("List")
        items = document.get("items") or []
        if not isinstance(items, list):
            raise BadInput(f"{source}: items", str(items), "a list of objects")
        for each in items:
            yield from _objects({"kind": of, **each} if of and isinstance(each, Mapping) else each, source)
        return
    if document["kind"] not in _BY_KIND:
        raise BadInput(f"{source}: kind", document["kind"], "one of " + ", ".join(_BY_KIND))
    yield _BY_KIND[document["kind"]], _checked(document, source)


def _taken(obj: Mapping[str, Any], kind: str, title: str) -> dict[str, Any]:
    """The object as the API server would take it, with its defaults; fields that it does not know are passed over.

    Addresses and node ports, which it would choose, must be there.
    """
    version = obj.get("apiVersion") or _VERSIONS[kind]
    whole = {"apiVersion": version, "kind": kind, **copy.deepcopy(dict(obj))}
    take_ipv4_half(kind, whole)
    try:
        validation.check(by_kind(str(version), kind), whole, field_validation="Ignore")
    except ApiError as refused:
        spec = whole.get("spec")  # of which IPv6 is off, where it has both families
        address = str(spec.get("clusterIP")) if isinstance(spec, Mapping) and kind == "Service" else ""
        if ":" in address:
            raise BadInput(f"{title}: spec.clusterIP", address, "IPv6 services are not supported yet") from None
        causes = refused.details.get("causes") or ()
        for cause in causes[:1]:
            raise BadInput(f"{title}: {cause['field']}", None, cause["message"]) from None
        raise BadInput(title, None, refused.message.rpartition(f"as a {kind}: ")[2]) from None
    set_defaults(by_kind(str(version), kind), whole)
    if kind == "Service":
        spec = whole["spec"]
        if spec["type"] != "ExternalName" and not spec.get("clusterIP"):
            right = 'an address, which in a cluster the API server chooses, or "None"'
            raise BadInput(f"{title}: spec.clusterIP", None, right)
        for index, port in enumerate(spec.get("ports") or ()):
            if spec["type"] == "NodePort" and not port.get("nodePort"):
                right = "a port from 30000 to 32767, which in a cluster the API server chooses"
                raise BadInput(f"{title}: spec.ports[{index}].nodePort", None, right)
    return whole


def _checked(obj: Any, source: str) -> dict[str, Any]:
    if not isinstance(obj, dict) or not isinstance(obj.get("metadata"), dict) or not obj["metadata"].get("name"):
        raise BadInput(f"{source}: metadata.name", None, "every object needs a name")
    return obj
