"""What ``kubectl get`` shows: objects as a Table, with the columns that Kubernetes' own server prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from mininetes.apiserver.ages import age_of
from mininetes.apiserver.pod_columns import pod_cells
from mininetes.apiserver.resources import Resource
from mininetes.apiserver.selectors import LabelSelector

Object = Mapping[str, Any]
Row = Callable[[Object, datetime], list[Any]]
NONE: Final = "<none>"
_MOST_LISTED: Final = 3


@dataclass(frozen=True)
class Column:
    """One column. ``priority`` 1: with ``-o wide`` only. ``type``: string or integer."""

    name: str
    type: str = "string"
    priority: int = 0

    def definition(self) -> dict[str, Any]:
        """As it stands in a Table."""
        form = "name" if self.name == "Name" else ""
        return {"name": self.name, "type": self.type, "format": form, "description": "", "priority": self.priority}


def table(
    resource: Resource,
    items: Sequence[Object],
    *,
    now: datetime,
    include_object: Literal["Metadata", "Object", "None"] = "Metadata",
    with_columns: bool = True,
    list_metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A meta.k8s.io/v1 Table of the objects; ``now`` is what ages are counted to, and has a time zone.

    ``list_metadata``: the list's resourceVersion, continue, ...; the only object's own where it is left out.
    ``with_columns`` False leaves out the definitions, as a watch does after its first event.
    """
    columns, row = _LAYOUTS[resource.resource_name]
    if list_metadata is None:
        version = items[0]["metadata"].get("resourceVersion") if len(items) == 1 else None
        list_metadata = {"resourceVersion": version} if version else {}
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_metadata,
        "columnDefinitions": [each.definition() for each in columns] if with_columns else [],
        "rows": [_row(row(each, now), each, include_object) for each in items],
    }


def _row(cells: list[Any], obj: Object, include_object: str) -> dict[str, Any]:
    row: dict[str, Any] = {"cells": cells}
    phase = (obj.get("status") or {}).get("phase") if obj.get("kind") == "Pod" else ""
    if phase in ("Succeeded", "Failed"):
        how = "successfully" if phase == "Succeeded" else "unsuccessfully"
        message = f"The pod has completed {how}."
        row["conditions"] = [{"type": "Completed", "status": "True", "reason": phase, "message": message}]
    if include_object == "Metadata":
        metadata = obj["metadata"]
        row["object"] = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
    elif include_object == "Object":
        row["object"] = obj
    return row


def _name_and_age(obj: Object, now: datetime) -> tuple[str, str]:
    metadata = obj["metadata"]
    return metadata.get("name", ""), age_of(metadata.get("creationTimestamp"), now)


def _namespace(obj: Object, now: datetime) -> list[Any]:
    name, age = _name_and_age(obj, now)
    return [name, (obj.get("status") or {}).get("phase", ""), age]


def _node(obj: Object, now: datetime) -> list[Any]:
    name, age = _name_and_age(obj, now)
    status = obj.get("status") or {}
    ready: Object = next((each for each in status.get("conditions") or () if each.get("type") == "Ready"), {})
    states = [{"True": "Ready", "": "Unknown"}.get(ready.get("status", ""), "NotReady")]
    if (obj.get("spec") or {}).get("unschedulable"):
        states.append("SchedulingDisabled")
    info = status.get("nodeInfo") or {}
    addresses = {each.get("type"): each.get("address") for each in reversed(status.get("addresses") or ())}
    return [
        *(name, ",".join(states), ",".join(_roles(obj)) or NONE, age, info.get("kubeletVersion", "")),
        *(addresses.get(kind) or NONE for kind in ("InternalIP", "ExternalIP")),
        *(info.get(field) or "<unknown>" for field in ("osImage", "kernelVersion", "containerRuntimeVersion")),
    ]


def _roles(obj: Object) -> list[str]:
    prefix, found = "node-role.kubernetes.io/", set()
    for key, value in (obj["metadata"].get("labels") or {}).items():
        if key.startswith(prefix) and key != prefix:
            found.add(key[len(prefix) :])
        elif key == "kubernetes.io/role" and value:
            found.add(value)
    return sorted(found)


def _service(obj: Object, now: datetime) -> list[Any]:
    name, age = _name_and_age(obj, now)
    spec = obj.get("spec") or {}
    ports = [
        f"{each['port']}{':' + str(each['nodePort']) if each.get('nodePort') else ''}/{each.get('protocol', 'TCP')}"
        for each in spec.get("ports") or ()
    ]
    return [
        *(name, spec.get("type", "ClusterIP"), spec.get("clusterIP") or NONE, _external_addresses(obj)),
        *(",".join(ports) or NONE, age, _label_text(spec.get("selector"))),
    ]


def _external_addresses(service: Object) -> str:
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName", NONE))
    addresses = list(spec.get("externalIPs") or ())
    if spec.get("type") == "LoadBalancer":
        balancer = (service.get("status") or {}).get("loadBalancer") or {}
        found = [each.get("ip") or each.get("hostname") or "" for each in balancer.get("ingress") or ()]
        return ",".join(filter(None, [*found, *addresses])) or "<pending>"
    return ",".join(addresses) or NONE


def _label_text(labels: Mapping[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or NONE


def _listed(texts: Sequence[str], empty: str) -> str:
    more = f" + {len(texts) - _MOST_LISTED} more..." if len(texts) > _MOST_LISTED else ""
    return ",".join(texts[:_MOST_LISTED]) + more or empty


def _endpoints(obj: Object, now: datetime) -> list[Any]:
    name, age = _name_and_age(obj, now)
    found: list[str] = []
    for subset in obj.get("subsets") or ():
        addresses = [each["ip"] for each in subset.get("addresses") or ()]
        ports = subset.get("ports")
        found += [f"{ip}:{port['port']}" for port in ports for ip in addresses] if ports else addresses
    return [name, _listed(found, NONE), age]


def _endpoint_slice(obj: Object, now: datetime) -> list[Any]:
    name, age = _name_and_age(obj, now)
    ports = [str(each.get("port") or each.get("name") or "*") for each in obj.get("ports") or ()]
    addresses = [address for each in obj.get("endpoints") or () for address in each.get("addresses") or ()]
    return [name, obj.get("addressType", ""), _listed(ports, "<unset>"), _listed(addresses, "<unset>"), age]


def _template_cells(spec: Object) -> list[str]:
    containers = ((spec.get("template") or {}).get("spec") or {}).get("containers") or ()
    names, images = (
        ",".join(each["name"] for each in containers),
        ",".join(each.get("image", "") for each in containers),
    )
    return [names, images, str(LabelSelector.of(spec.get("selector"))) or NONE]


def _deployment(obj: Object, now: datetime) -> list[Any]:
    name, age = _name_and_age(obj, now)
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 1)}"
    counts = (status.get(field, 0) for field in ("updatedReplicas", "availableReplicas"))
    return [name, ready, *counts, age, *_template_cells(spec)]


def _replica_set(obj: Object, now: datetime) -> list[Any]:
    name, age = _name_and_age(obj, now)
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    counts = (status.get(field, 0) for field in ("replicas", "readyReplicas"))
    return [name, spec.get("replicas", 1), *counts, age, *_template_cells(spec)]


def _daemon_set(obj: Object, now: datetime) -> list[Any]:
    name, age = _name_and_age(obj, now)
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    fields = (
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    )
    counts = (status.get(field, 0) for field in fields)
    pod_spec = (spec.get("template") or {}).get("spec") or {}
    return [name, *counts, _label_text(pod_spec.get("nodeSelector")), age, *_template_cells(spec)]


def _config_map(obj: Object, now: datetime) -> list[Any]:
    name, age = _name_and_age(obj, now)
    return [name, len(obj.get("data") or ()) + len(obj.get("binaryData") or ()), age]


def _secret(obj: Object, now: datetime) -> list[Any]:
    name, age = _name_and_age(obj, now)
    return [name, obj.get("type", "Opaque"), len(obj.get("data") or ()), age]


def _service_account(obj: Object, now: datetime) -> list[Any]:
    name, age = _name_and_age(obj, now)
    return [name, len(obj.get("secrets") or ()), age]


def _lease(obj: Object, now: datetime) -> list[Any]:
    name, age = _name_and_age(obj, now)
    return [name, (obj.get("spec") or {}).get("holderIdentity", ""), age]


def _event(obj: Object, now: datetime) -> list[Any]:
    """An event in either group's words."""
    series = obj.get("series") or {}
    event_time = obj.get("eventTime")
    first = obj.get("firstTimestamp") or obj.get("deprecatedFirstTimestamp") or event_time
    last = series.get("lastObservedTime") or obj.get("lastTimestamp") or obj.get("deprecatedLastTimestamp") or first
    about = obj.get("involvedObject") or obj.get("regarding") or {}
    source = obj.get("source") or obj.get("deprecatedSource") or {}
    component = source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or ""
    count = series.get("count") or obj.get("count") or obj.get("deprecatedCount") or 1
    message = obj.get("message") or obj.get("note") or ""
    target = about.get("kind", "").lower() + (f"/{about['name']}" if about.get("name") else "")
    return [
        *(age_of(last, now), obj.get("type", ""), obj.get("reason", ""), target, about.get("fieldPath", "")),
        *(", ".join(filter(None, [component, source.get("host")])), message.strip(), age_of(first, now), count),
        obj["metadata"].get("name", ""),
    ]


def _columns(text: str) -> list[Column]:
    """Columns by name; ``#`` marks whole numbers, ``+`` those for ``-o wide``."""
    columns = []
    for word in text.split(", "):
        name = word.lstrip("#+")
        marks = word[: len(word) - len(name)]
        columns.append(Column(name, "integer" if "#" in marks else "string", 1 if "+" in marks else 0))
    return columns


_OF_NODES: Final = "+Internal-IP, +External-IP, +OS-Image, +Kernel-Version, +Container-Runtime"
_OF_TEMPLATES: Final = "+Containers, +Images, +Selector"
_EVENT_COLUMNS: Final = "Last Seen, Type, Reason, Object, +Subobject, +Source, Message, +First Seen, #+Count, +Name"
_LAYOUTS: Final[dict[str, tuple[list[Column], Row]]] = {
    name: (_columns(columns), row)
    for name, columns, row in (
        ("namespaces", "Name, Status, Age", _namespace),
        (
            "nodes",
            f"Name, Status, Roles, Age, Version, {_OF_NODES}",
            _node,
        ),
        ("pods", "Name, Ready, Status, Restarts, Age, +IP, +Node, +Nominated Node, +Readiness Gates", pod_cells),
        ("services", "Name, Type, Cluster-IP, External-IP, Port(s), Age, +Selector", _service),
        ("endpoints", "Name, Endpoints, Age", _endpoints),
        ("configmaps", "Name, #Data, Age", _config_map),
        ("secrets", "Name, Type, #Data, Age", _secret),
        ("serviceaccounts", "Name, #Secrets, Age", _service_account),
        ("events", _EVENT_COLUMNS, _event),
        ("events.events.k8s.io", _EVENT_COLUMNS, _event),
        ("leases.coordination.k8s.io", "Name, Holder, Age", _lease),
        ("endpointslices.discovery.k8s.io", "Name, AddressType, Ports, Endpoints, Age", _endpoint_slice),
        ("deployments.apps", f"Name, Ready, #Up-to-date, #Available, Age, {_OF_TEMPLATES}", _deployment),
        ("replicasets.apps", f"Name, #Desired, #Current, #Ready, Age, {_OF_TEMPLATES}", _replica_set),
        (
            "daemonsets.apps",
            f"Name, #Desired, #Current, #Ready, #Up-to-date, #Available, Node Selector, Age, {_OF_TEMPLATES}",
            _daemon_set,
        ),
    )
}
