"""What is to be said of a node that is silent, and the taints that follow from a node's conditions. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mininetes.agents.objects import Object, condition, conditions_of

KINDS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_PRESSURES = {
    "MemoryPressure": "node.kubernetes.io/memory-pressure",
    "DiskPressure": "node.kubernetes.io/disk-pressure",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
    "NetworkUnavailable": "node.kubernetes.io/network-unavailable",
}
MANAGED = {NOT_READY, UNREACHABLE, UNSCHEDULABLE, *_PRESSURES.values()}
"""The taints that the controller sets and takes away; all others are somebody else's."""


def ready_status(node: Mapping[str, Any]) -> str:
    """True, False or Unknown; Unknown also when the node says nothing."""
    ready = condition(node, "Ready")
    return str(ready.get("status")) if ready is not None else "Unknown"


def silent_conditions(node: Mapping[str, Any], now: str) -> list[Object] | None:
    """The conditions of a node from which nothing is heard; None when they say so already."""
    found = {each["type"]: each for each in conditions_of(node)}
    changed = False
    for kind in KINDS:
        old = found.get(kind)
        if old is not None and old["status"] == "Unknown":
            continue
        changed = True
        if old is None:
            reason, message = "NodeStatusNeverUpdated", "Kubelet never posted node status."
            heartbeat: Object = {"lastHeartbeatTime": node["metadata"].get("creationTimestamp") or now}
        else:
            reason, message = "NodeStatusUnknown", "Kubelet stopped posting node status."
            heartbeat = {"lastHeartbeatTime": old["lastHeartbeatTime"]} if old.get("lastHeartbeatTime") else {}
        said = {"type": kind, "status": "Unknown", "reason": reason, "message": message}
        found[kind] = {**said, **heartbeat, "lastTransitionTime": now}
    return list(found.values()) if changed else None


def heartbeat_of(node: Mapping[str, Any] | None, lease: Mapping[str, Any] | None) -> tuple[Any, ...]:
    """What changes when a node gives a sign of life: its lease, or the status it posts."""
    ready = condition(node, "Ready") if node is not None else None
    posted = ready.get("lastHeartbeatTime") if ready is not None else None
    return posted, ((lease or {}).get("spec") or {}).get("renewTime")


def tainted(node: Mapping[str, Any], now: str) -> list[Object]:
    """The taints that the node is to have: others' as they are, those for its conditions as these are now."""
    spec = node.get("spec") or {}
    old: list[Object] = spec.get("taints") or []
    wanted: list[Object] = []
    status = ready_status(node)
    if status != "True":
        key = NOT_READY if status == "False" else UNREACHABLE
        wanted += [{"key": key, "effect": "NoSchedule"}, {"key": key, "effect": "NoExecute"}]
    if spec.get("unschedulable"):
        wanted.append({"key": UNSCHEDULABLE, "effect": "NoSchedule"})
    for kind, key in _PRESSURES.items():
        said = condition(node, kind)
        if said is not None and said["status"] == "True":
            wanted.append({"key": key, "effect": "NoSchedule"})
    there = {(each["key"], each["effect"]) for each in wanted}
    kept = [each for each in old if each["key"] not in MANAGED or (each["key"], each["effect"]) in there]
    known = {(each["key"], each["effect"]) for each in kept}
    new = [{**each, "timeAdded": now} for each in wanted if (each["key"], each["effect"]) not in known]
    return [*kept, *new]
