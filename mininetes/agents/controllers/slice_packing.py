"""Endpoints into EndpointSlices: full slices of at most 100, and as few changes as can be. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mininetes.agents.controllers.endpoint_view import Ports, service_labels
from mininetes.agents.objects import SERVICE_NAME, Object, labels_of, owner_reference

SLICES = "endpointslices.discovery.k8s.io"
MOST = 100
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
CONTROLLER = "endpointslice-controller.k8s.io"
MIRRORING = "endpointslicemirroring-controller.k8s.io"


@dataclass
class SliceChanges:
    """What is to be written; objects to create have a generateName, those to update or delete are whole."""

    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)


def slice_ports(ports: Ports) -> list[Object]:
    """The ports of a slice."""
    made = []
    for name, protocol, number, application in ports:
        port: Object = {"name": name, "protocol": protocol, "port": number}
        made.append({**port, "appProtocol": application} if application else port)
    return made


def pack(
    owner: Mapping[str, Any],
    groups: Mapping[Ports, Sequence[Object]],
    existing: Iterable[Object],
    *,
    manager: str = CONTROLLER,
) -> SliceChanges:
    """What makes ``existing`` (the manager's slices of the owner) carry the endpoints of ``groups``.

    Endpoints stay in the slice that they are in; new ones go where something changes anyway, then
    into the fullest slices that have room for some, then into new slices. A service without endpoints keeps one
    empty slice, so that all can see that it has none.
    """
    changes = SliceChanges()
    left = sorted(existing, key=lambda each: each["metadata"]["name"])
    for ports in sorted(groups) if groups else [()]:
        wanted_ports = slice_ports(ports)
        mine = [each for each in left if _same_ports(each.get("ports") or [], wanted_ports)]
        if not groups and not mine:
            mine = left[:1]  # the last endpoint went: its slice becomes the empty one
        left = [each for each in left if not any(each is other for other in mine)]
        _pack_group(owner, wanted_ports, groups.get(ports, ()), mine, manager, changes)
    changes.delete += left
    return changes


def _pack_group(
    owner: Mapping[str, Any],
    ports: list[Object],
    endpoints: Sequence[Object],
    existing: Sequence[Object],
    manager: str,
    changes: SliceChanges,
) -> None:
    wanted = {_identity(each): each for each in endpoints}
    contents: list[list[Object]] = []
    touched: list[bool] = []
    for each in existing:
        old = each.get("endpoints") or []
        new = [wanted.pop(_identity(one)) for one in old if _identity(one) in wanted]
        contents.append(new)
        touched.append(new != old or _is_dressed_wrong(owner, each, ports, manager))
    rest = [wanted[identity] for identity in sorted(wanted)]
    order = sorted(range(len(existing)), key=lambda n: (not touched[n], -len(contents[n]), n))
    for n in order:
        room = MOST - len(contents[n])
        if rest and room > 0 and (touched[n] or len(rest) < MOST):
            contents[n] += rest[:room]
            rest = rest[room:]
            touched[n] = True
    keep_one = not endpoints
    for n, each in enumerate(existing):
        if contents[n] or keep_one:
            keep_one = keep_one and bool(contents[n])
            if touched[n]:
                changes.update.append(_dressed(owner, each, ports, contents[n], manager))
        else:
            changes.delete.append(each)
    for start in range(0, len(rest), MOST):
        changes.create.append(_dressed(owner, {}, ports, rest[start : start + MOST], manager))
    if keep_one:
        changes.create.append(_dressed(owner, {}, ports, [], manager))


def _identity(endpoint: Mapping[str, Any]) -> tuple[str, str]:
    reference = endpoint.get("targetRef") or {}
    return str(endpoint["addresses"][0]), str(reference.get("uid") or reference.get("name") or "")


def _same_ports(first: Iterable[Mapping[str, Any]], second: Iterable[Mapping[str, Any]]) -> bool:
    def key(ports: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, int, str]]:
        return sorted(
            (p.get("name") or "", p.get("protocol") or "TCP", p.get("port") or 0, p.get("appProtocol") or "")
            for p in ports
        )

    return key(first) == key(second)


def _labels(owner: Mapping[str, Any], manager: str) -> dict[str, str]:
    own = service_labels(owner) if owner["kind"] == "Service" else labels_of(owner)
    return {**own, SERVICE_NAME: owner["metadata"]["name"], MANAGED_BY: manager}


def _is_dressed_wrong(owner: Mapping[str, Any], each: Mapping[str, Any], ports: list[Object], manager: str) -> bool:
    references = each["metadata"].get("ownerReferences") or []
    owned = any(reference.get("uid") == owner["metadata"].get("uid") for reference in references)
    return labels_of(each) != _labels(owner, manager) or not owned or not _same_ports(each.get("ports") or [], ports)


def _dressed(
    owner: Mapping[str, Any], old: Mapping[str, Any], ports: list[Object], endpoints: list[Object], manager: str
) -> Object:
    """A slice with what belongs to it around its endpoints; ``old`` empty makes a new one."""
    metadata = owner["metadata"]
    identity = old.get("metadata") or {"generateName": f"{metadata['name']}-", "namespace": metadata["namespace"]}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**identity, "labels": _labels(owner, manager), "ownerReferences": [owner_reference(owner)]},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports,
    }
