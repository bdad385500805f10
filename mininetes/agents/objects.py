"""Reading Kubernetes objects (plain JSON): keys, conditions, owners, times. Pure, but for telling the time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

Object = dict[str, Any]

SYSTEM = "kube-system"
"""The namespace of the cluster's own objects."""

SERVICE_NAME = "kubernetes.io/service-name"
"""The label of an endpoint slice that names its service."""

MIRROR = "kubernetes.io/config.mirror"
"""The annotation of a pod that shows a kubelet's static pod."""


def key_of(obj: Mapping[str, Any]) -> str:
    """``namespace/name``, or ``name`` for what has no namespace: the key that informers use."""
    metadata = obj["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


def uid_of(obj: Mapping[str, Any]) -> str:
    """The object's uid; empty when it has none."""
    return str(obj["metadata"].get("uid", ""))


def version_of(obj: Mapping[str, Any]) -> int:
    """The object's resourceVersion as a number (it is one in both of our stores); 0 without one."""
    text = str(obj["metadata"].get("resourceVersion", ""))
    return int(text) if text.isdigit() else 0


def labels_of(obj: Mapping[str, Any]) -> dict[str, str]:
    """The object's labels."""
    return obj["metadata"].get("labels") or {}


def service_of_slice(found: Mapping[str, Any]) -> str:
    """The key of the service that an endpoint slice is for; it ends with "/" where it is for none."""
    return f"{found['metadata'].get('namespace', '')}/{labels_of(found).get(SERVICE_NAME, '')}"


def annotations_of(obj: Mapping[str, Any]) -> dict[str, str]:
    """The object's annotations."""
    return obj["metadata"].get("annotations") or {}


def is_deleted(obj: Mapping[str, Any]) -> bool:
    """Whether the object is on its way out (has a deletionTimestamp)."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def conditions_of(obj: Mapping[str, Any]) -> list[Object]:
    """The conditions in the object's status."""
    return (obj.get("status") or {}).get("conditions") or []


def condition(obj: Mapping[str, Any], kind: str) -> Object | None:
    """The condition of that type, or None."""
    return next((each for each in conditions_of(obj) if each.get("type") == kind), None)


def is_true(obj: Mapping[str, Any], kind: str) -> bool:
    """Whether the condition of that type says True."""
    found = condition(obj, kind)
    return found is not None and found.get("status") == "True"


def with_condition(conditions: Sequence[Object], new: Mapping[str, Any], now: str) -> list[Object]:
    """The conditions with ``new`` (type, status, reason, message) put in.

    lastTransitionTime changes with the status alone, and lastUpdateTime (where the condition has
    one) with anything. An equal condition is left as it is.
    """
    result = []
    old: Object | None = None
    for each in conditions:
        if each.get("type") == new["type"]:
            old = dict(each)
        else:
            result.append(dict(each))
    if old is not None and all(old.get(field) == new.get(field) for field in ("status", "reason", "message")):
        return [*map(dict, conditions)]
    made = dict(new)
    same = old is not None and old.get("status") == new["status"]
    made["lastTransitionTime"] = old.get("lastTransitionTime", now) if old is not None and same else now
    if old is None:
        return [*result, made]
    place = [each.get("type") for each in conditions].index(new["type"])
    return [*result[:place], made, *result[place:]]


def controller_of(obj: Mapping[str, Any]) -> Object | None:
    """The owner reference that says ``controller: true``, or None."""
    references = obj["metadata"].get("ownerReferences") or ()
    return next((each for each in references if each.get("controller")), None)


def owned_by(obj: Mapping[str, Any], owner: Mapping[str, Any]) -> bool:
    """Whether ``owner`` is the controller of the object, by uid."""
    reference = controller_of(obj)
    return reference is not None and reference.get("uid") == uid_of(owner)


def owner_reference(owner: Mapping[str, Any]) -> Object:
    """The reference that an object made by ``owner``'s controller carries."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": uid_of(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def is_finished(pod: Mapping[str, Any]) -> bool:
    """Whether the pod has run to its end, well or not."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def is_active(pod: Mapping[str, Any]) -> bool:
    """Whether the pod counts as one of its owner's replicas: neither finished nor being deleted."""
    return not is_finished(pod) and not is_deleted(pod)


def pod_ready_since(pod: Mapping[str, Any]) -> float | None:
    """When the pod became ready, in seconds since the epoch; None when it is not ready."""
    ready = condition(pod, "Ready")
    if ready is None or ready.get("status") != "True":
        return None
    return parse_time(str(ready.get("lastTransitionTime") or ""))


def equals_selected(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a service's selector (label equality) takes these labels; an empty one takes none."""
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def parse_time(text: str) -> float:
    """A Kubernetes time (RFC 3339) in seconds since the epoch; 0.0 for an empty or unreadable one."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0


def rfc3339(seconds: float) -> str:
    """Seconds since the epoch as Kubernetes writes times."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def now_time() -> str:
    """The time, to the second."""
    return rfc3339(time.time())


def micro_time() -> str:
    """The time with microseconds, as leases and events have it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
