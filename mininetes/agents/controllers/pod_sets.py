"""What ReplicaSets and DaemonSets share: which pods are theirs, which to end first, how new ones look. Pure."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mininetes.agents.objects import (
    Object,
    annotations_of,
    controller_of,
    is_deleted,
    is_true,
    labels_of,
    owner_reference,
    parse_time,
    pod_ready_since,
    uid_of,
)
from mininetes.apiserver.selectors import LabelSelector

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_SAFE = "bcdfghjklmnpqrstvwxz2456789"
"""Letters and digits that make no words: Kubernetes' own choice for generated names."""

_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


@dataclass
class Claim:
    """The pods of an owner: those it has, orphans that it takes, and those that no longer match and are let go."""

    owned: list[Object] = field(default_factory=list)
    adopt: list[Object] = field(default_factory=list)
    release: list[Object] = field(default_factory=list)


def claim(owner: Mapping[str, Any], candidates: Iterable[Object]) -> Claim:
    """Sort out the objects of the owner's namespace by its selector and by who controls them."""
    selector = LabelSelector.of((owner.get("spec") or {}).get("selector"))
    found = Claim()
    for obj in candidates:
        reference = controller_of(obj)
        if reference is not None:
            if reference.get("uid") == uid_of(owner):
                mine = selector.matches(labels_of(obj))
                (found.owned if mine or is_deleted(owner) else found.release).append(obj)
        elif not is_deleted(owner) and not is_deleted(obj) and selector.matches(labels_of(obj)):
            found.adopt.append(obj)
    return found


def adoption(owner: Mapping[str, Any]) -> Object:
    """The strategic patch that makes an orphan the owner's."""
    return {"metadata": {"ownerReferences": [owner_reference(owner)]}}


def letting_go(owner: Mapping[str, Any]) -> Object:
    """The strategic patch that takes the owner's reference away."""
    return {"metadata": {"ownerReferences": [{"$patch": "delete", "uid": uid_of(owner)}]}}


def pod_from_template(owner: Mapping[str, Any], template: Mapping[str, Any]) -> Object:
    """A new pod of the owner, as the API server gets it."""
    metadata = copy.deepcopy({k: v for k, v in (template.get("metadata") or {}).items() if v})
    kept = {name: metadata[name] for name in ("labels", "annotations", "finalizers") if name in metadata}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **kept,
            "generateName": f"{owner['metadata']['name']}-",
            "namespace": owner["metadata"]["namespace"],
            "ownerReferences": [owner_reference(owner)],
        },
        "spec": copy.deepcopy(template.get("spec") or {}),
    }


def template_hash(template: Mapping[str, Any], collisions: int = 0) -> str:
    """Ten letters that stand for a pod template; ``collisions`` makes others for the same one."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":")) + (str(collisions) if collisions else "")
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    letters = []
    for _ in range(10):
        number, digit = divmod(number, len(_SAFE))
        letters.append(_SAFE[digit])
    return "".join(letters)


def first_to_end(pods: Sequence[Object], count: int) -> list[Object]:
    """Which ``count`` of the active pods go when there are too many.

    Kubernetes' order: without a node first, then Pending before Unknown before Running, not ready
    ones, those with the lowest deletion cost, those that share their node with most of the others,
    those ready for the shortest time, with most restarts, and the youngest; then by name. A pod
    counts as sharing its node with those that go after it, so that what is left stays spread.
    """
    ranks = {id(pod): (_usefulness(pod), _standing(pod)) for pod in pods}
    by_node: dict[str, list[Object]] = {}
    for pod in sorted(pods, key=lambda each: ranks[id(each)]):
        by_node.setdefault((pod.get("spec") or {}).get("nodeName") or "", []).append(pod)
    sharing = {id(pod): len(there) - index for there in by_node.values() for index, pod in enumerate(there)}

    def rank(pod: Object) -> tuple[Any, ...]:
        usefulness, standing = ranks[id(pod)]
        return usefulness, -sharing[id(pod)], standing

    return sorted(pods, key=rank)[:count]


def _usefulness(pod: Mapping[str, Any]) -> tuple[Any, ...]:
    phase = (pod.get("status") or {}).get("phase") or "Pending"
    bound = bool((pod.get("spec") or {}).get("nodeName"))
    return bound, _PHASES.get(phase, 2), is_true(pod, "Ready"), _deletion_cost(pod)


def _standing(pod: Mapping[str, Any]) -> tuple[Any, ...]:
    containers = (pod.get("status") or {}).get("containerStatuses") or ()
    restarts = max((int(each.get("restartCount") or 0) for each in containers), default=0)
    born = parse_time(str(pod["metadata"].get("creationTimestamp") or ""))
    return -(pod_ready_since(pod) or 0.0), -restarts, -born, pod["metadata"]["name"]


def availability(pods: Iterable[Object], min_ready_s: float, now: float) -> tuple[int, int, float | None]:
    """How many pods are ready, how many have been for ``min_ready_s``, and in how many seconds the next one will be."""
    ready = available = 0
    next_s: float | None = None
    for pod in pods:
        since = pod_ready_since(pod)
        if since is None:
            continue
        ready += 1
        left = since + min_ready_s - now if min_ready_s > 0 else 0.0
        if left <= 0:
            available += 1
        elif next_s is None or left < next_s:
            next_s = left
    return ready, available, next_s


def _deletion_cost(pod: Mapping[str, Any]) -> int:
    try:
        return int(annotations_of(pod).get(DELETION_COST, "0"))
    except ValueError:
        return 0
