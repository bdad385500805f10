"""How a Deployment moves from one template to the next: which ReplicaSet gets how many replicas. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from mininetes.agents.controllers.pod_sets import template_hash
from mininetes.agents.objects import Object, annotations_of, key_of, parse_time

HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MOST = "deployment.kubernetes.io/max-replicas"
NOT_COPIED = (
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MOST,
)


@dataclass(frozen=True)
class Limits:
    """Of a rolling update: how many pods at most, and how many available ones at least."""

    desired: int
    most: int
    least_available: int


def replicas_of(obj: Mapping[str, Any]) -> int:
    """How many replicas the object's spec wants."""
    wanted = (obj.get("spec") or {}).get("replicas")
    return 1 if wanted is None else int(wanted)


def status_count(obj: Mapping[str, Any], field: str) -> int:
    """A number of the object's status, 0 when it is not there."""
    return int((obj.get("status") or {}).get(field) or 0)


def strategy_of(deployment: Mapping[str, Any]) -> str:
    """RollingUpdate (the default) or Recreate."""
    return str(((deployment.get("spec") or {}).get("strategy") or {}).get("type") or "RollingUpdate")


def limits(deployment: Mapping[str, Any]) -> Limits:
    """What maxSurge and maxUnavailable (numbers or percentages) come to; never both 0."""
    desired = replicas_of(deployment)
    if strategy_of(deployment) == "Recreate":
        return Limits(desired, desired, 0)
    rolling = ((deployment["spec"].get("strategy") or {}).get("rollingUpdate")) or {}
    surge = _part(rolling.get("maxSurge", "25%"), desired, ROUND_CEILING)
    unavailable = _part(rolling.get("maxUnavailable", "25%"), desired, ROUND_FLOOR)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return Limits(desired, desired + surge, max(0, desired - min(unavailable, desired)))


def _part(value: Any, whole: int, rounding: str) -> int:
    text = str(value)
    if text.endswith("%"):
        return int((Decimal(text[:-1]) * whole / 100).to_integral_value(rounding))
    return int(text)


def same_template(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two pod templates are the same but for the hash label."""
    return _without_hash(first) == _without_hash(second)


def _without_hash(template: Mapping[str, Any]) -> Object:
    metadata = dict(template.get("metadata") or {})
    labels = {name: value for name, value in (metadata.get("labels") or {}).items() if name != HASH}
    metadata["labels"] = labels
    return {**template, "metadata": {name: value for name, value in metadata.items() if value}}


def current_set(deployment: Mapping[str, Any], sets: Iterable[Object]) -> Object | None:
    """The ReplicaSet of the deployment's template as it is now, the oldest of several; None when there is none yet."""
    template = deployment["spec"]["template"]
    wanted = template_hash(_without_hash(template), collisions_of(deployment))
    name = f"{deployment['metadata']['name']}-{wanted}"
    fitting = [
        each for each in sets if same_template(each["spec"]["template"], template) or each["metadata"]["name"] == name
    ]
    return min(fitting, key=_age, default=None)


def collisions_of(deployment: Mapping[str, Any]) -> int:
    """How often the name that the hash gives was taken by another's ReplicaSet."""
    return status_count(deployment, "collisionCount")


def _age(obj: Mapping[str, Any]) -> tuple[float, str]:
    return parse_time(str(obj["metadata"].get("creationTimestamp") or "")), obj["metadata"]["name"]


def revision_of(obj: Mapping[str, Any]) -> int:
    """The revision in the object's annotations; 0 when there is none."""
    text = annotations_of(obj).get(REVISION, "")
    return int(text) if text.isdigit() else 0


def new_set(deployment: Mapping[str, Any], revision: int, replicas: int) -> Object:
    """The ReplicaSet to be made for the deployment's template."""
    metadata, template = deployment["metadata"], _without_hash(deployment["spec"]["template"])
    hashed = template_hash(template, collisions_of(deployment))
    labels = {**(template["metadata"].get("labels") or {}), HASH: hashed}
    selector = deployment["spec"]["selector"]
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{metadata['name']}-{hashed}",
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": set_annotations(deployment, {}, revision),
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": int(deployment["spec"].get("minReadySeconds") or 0),
            "selector": {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), HASH: hashed}},
            "template": {**template, "metadata": {**template["metadata"], "labels": labels}},
        },
    }


def set_annotations(deployment: Mapping[str, Any], old: Mapping[str, str], revision: int) -> dict[str, str]:
    """The annotations of the deployment's current ReplicaSet: the deployment's own, the revision and the sizes.

    A ReplicaSet that becomes current again keeps the revisions that it had in its history.
    """
    bounds = limits(deployment)
    made = {**old, **{k: v for k, v in annotations_of(deployment).items() if k not in NOT_COPIED}}
    before = old.get(REVISION, "")
    if before and before != str(revision):
        made[REVISION_HISTORY] = ",".join(filter(None, [old.get(REVISION_HISTORY, ""), before]))
    return {**made, REVISION: str(revision), DESIRED: str(bounds.desired), MOST: str(bounds.most)}


def scaled(
    deployment: Mapping[str, Any], current: Object | None, old: Sequence[Object], *, old_ended: bool
) -> dict[str, int]:
    """How many replicas each ReplicaSet (by key) is to have next, where that is not what it has.

    ``current`` None: the new one is not there yet. ``old_ended``: no pod of the old ones is left,
    for which Recreate waits. A paused deployment only follows its size, with the newest of the sets that have pods.
    """
    sets = [*old, *([current] if current is not None else [])]
    if deployment["spec"].get("paused"):
        wanted = _paused(deployment, sets)
    elif strategy_of(deployment) == "Recreate":
        wanted = {key_of(each): 0 for each in old}
        if current is not None and old_ended:
            wanted[key_of(current)] = replicas_of(deployment)
    else:
        wanted = _rolling(limits(deployment), current, old) if current is not None else {}
    return {
        key_of(each): wanted[key_of(each)]
        for each in sets
        if wanted.get(key_of(each), replicas_of(each)) != replicas_of(each)
    }


def _paused(deployment: Mapping[str, Any], sets: Sequence[Object]) -> dict[str, int]:
    active = sorted((each for each in sets if replicas_of(each) > 0), key=_age, reverse=True) or sets[-1:]
    missing = replicas_of(deployment) - sum(map(replicas_of, sets))
    sizes = deployment["spec"].get("replicas"), {annotations_of(each).get(DESIRED) for each in active}
    if str(sizes[0]) in sizes[1]:
        return {}  # in the middle of a rollout the sum may differ; the size did not change
    wanted = {}
    for each in active:
        size = max(0, replicas_of(each) + missing)
        missing -= size - replicas_of(each)
        wanted[key_of(each)] = size
    return wanted


def _rolling(bounds: Limits, current: Object, old: Sequence[Object]) -> dict[str, int]:
    """One step of a rolling update: the new set up as far as the surge goes, then the old ones down."""
    total = sum(map(replicas_of, [*old, current]))
    size = replicas_of(current)
    if size > bounds.desired:
        return {key_of(current): bounds.desired}
    if size < bounds.desired and total < bounds.most:
        return {key_of(current): size + min(bounds.most - total, bounds.desired - size)}
    return _old_down(bounds, total, current, old)


def _old_down(bounds: Limits, total: int, current: Object, old: Sequence[Object]) -> dict[str, int]:
    lacking = replicas_of(current) - status_count(current, "availableReplicas")
    most = total - bounds.least_available - lacking
    wanted = {key_of(each): replicas_of(each) for each in old}
    ordered = sorted(old, key=_age)
    for each in ordered:  # replicas that are not available go first: nobody misses them
        unhealthy = replicas_of(each) - status_count(each, "availableReplicas")
        gone = max(0, min(most, unhealthy))
        wanted[key_of(each)] -= gone
        most -= gone
    available = sum(status_count(each, "availableReplicas") for each in [*old, current])
    spare = min(available - bounds.least_available, most)
    for each in ordered:
        gone = max(0, min(spare, wanted[key_of(each)]))
        wanted[key_of(each)] -= gone
        spare -= gone
    return wanted


def outdated(deployment: Mapping[str, Any], old: Sequence[Object]) -> list[Object]:
    """Old ReplicaSets without pods beyond the history that the deployment keeps, the oldest first."""
    kept = deployment["spec"].get("revisionHistoryLimit")
    idle = [
        each
        for each in old
        if replicas_of(each) == 0
        and status_count(each, "replicas") == 0
        and not each["metadata"].get("deletionTimestamp")
        and status_count(each, "observedGeneration") >= int(each["metadata"].get("generation") or 0)
    ]
    idle.sort(key=lambda each: (revision_of(each), _age(each)))
    return idle[: max(0, len(idle) - (10 if kept is None else int(kept)))]
