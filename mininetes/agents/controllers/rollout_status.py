"""What a Deployment says of itself, so that `kubectl rollout status` and `kubectl wait` know how far it is. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mininetes.agents.controllers.rollout import limits, replicas_of, status_count
from mininetes.agents.objects import Object, parse_time, rfc3339

_COUNTS = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")


def status_of(deployment: Mapping[str, Any], current: Object | None, old: Sequence[Object], now: float) -> Object:
    """The status of a deployment with these ReplicaSets; ``now`` in seconds since the epoch."""
    sets = [*old, *([current] if current is not None else [])]
    before: Mapping[str, Any] = deployment.get("status") or {}
    counts = {
        "replicas": sum(status_count(each, "replicas") for each in sets),
        "updatedReplicas": status_count(current, "replicas") if current is not None else 0,
        "readyReplicas": sum(status_count(each, "readyReplicas") for each in sets),
        "availableReplicas": sum(status_count(each, "availableReplicas") for each in sets),
    }
    missing = max(0, sum(map(replicas_of, sets)) - counts["availableReplicas"])
    status: Object = {"observedGeneration": int(deployment["metadata"].get("generation") or 0), **counts}
    status["unavailableReplicas"] = missing
    if before.get("collisionCount"):
        status["collisionCount"] = before["collisionCount"]
    conditions = {each["type"]: each for each in before.get("conditions") or ()}
    _put(conditions, _available(deployment, counts["availableReplicas"]), now)
    progress = _progress(deployment, current, before, counts, conditions.get("Progressing"), now)
    if progress is not None:
        moved = _moved(before, counts)
        _put(conditions, progress, now, touched=moved and progress["status"] == "True")
    failure = _failure(sets)
    if failure is None:
        conditions.pop("ReplicaFailure", None)
    else:
        _put(conditions, failure, now)
    status["conditions"] = list(conditions.values())
    return status


def is_complete(deployment: Mapping[str, Any], counts: Mapping[str, int]) -> bool:
    """Whether all that is wanted is there, of the new template, and nothing else is left."""
    wanted = replicas_of(deployment)
    return all(counts[name] == wanted for name in ("replicas", "updatedReplicas", "availableReplicas"))


def deadline_left(deployment: Mapping[str, Any], now: float) -> float | None:
    """Seconds until the deployment's progress deadline, 0 when it is past; None when none runs."""
    limit = deployment["spec"].get("progressDeadlineSeconds", 600)
    found = [c for c in (deployment.get("status") or {}).get("conditions") or () if c["type"] == "Progressing"]
    if deployment["spec"].get("paused") or not found or limit is None:
        return None
    if found[0].get("reason") in ("NewReplicaSetAvailable", "ProgressDeadlineExceeded"):
        return None
    return max(0.0, parse_time(str(found[0].get("lastUpdateTime") or "")) + float(limit) - now)


def _available(deployment: Mapping[str, Any], available: int) -> Object:
    if available >= limits(deployment).least_available:
        return _said("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    message = "Deployment does not have minimum availability."
    return _said("Available", "False", "MinimumReplicasUnavailable", message)


def _progress(
    deployment: Mapping[str, Any],
    current: Object | None,
    before: Mapping[str, Any],
    counts: Mapping[str, int],
    last: Object | None,
    now: float,
) -> Object | None:
    if deployment["spec"].get("paused"):
        return _said("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused")
    if current is None:
        return None
    name = current["metadata"]["name"]
    if is_complete(deployment, counts):
        message = f'ReplicaSet "{name}" has successfully progressed.'
        return _said("Progressing", "True", "NewReplicaSetAvailable", message)
    if last is None:
        return _said("Progressing", "True", "NewReplicaSetCreated", f'Created new replica set "{name}"')
    return _underway(deployment, name, before, counts, last, now)


def _underway(
    deployment: Mapping[str, Any],
    name: str,
    before: Mapping[str, Any],
    counts: Mapping[str, int],
    last: Object,
    now: float,
) -> Object:
    observed = before.get("observedGeneration") == deployment["metadata"].get("generation")
    completed = last.get("reason") == "NewReplicaSetAvailable"
    if completed and observed and not _of_another(last, name):
        return last  # it was complete; pods that come and go later are no rollout
    if _moved(before, counts) or not observed or completed or last.get("reason") == "DeploymentPaused":
        return _said("Progressing", "True", "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.')
    if deadline_left(deployment, now) == 0:
        message = f'ReplicaSet "{name}" has timed out progressing.'
        return _said("Progressing", "False", "ProgressDeadlineExceeded", message)
    return last


def _of_another(last: Mapping[str, Any], name: str) -> bool:
    return f'"{name}"' not in str(last.get("message"))


def _moved(before: Mapping[str, Any], counts: Mapping[str, int]) -> bool:
    """Whether the rollout came further: more new pods, more available ones, or fewer old ones."""
    had = {name: int(before.get(name) or 0) for name in _COUNTS}
    return (
        counts["updatedReplicas"] > had["updatedReplicas"]
        or counts["readyReplicas"] > had["readyReplicas"]
        or counts["availableReplicas"] > had["availableReplicas"]
        or counts["replicas"] - counts["updatedReplicas"] < had["replicas"] - had["updatedReplicas"]
    )


def _failure(sets: Sequence[Object]) -> Object | None:
    for each in sets:
        for found in (each.get("status") or {}).get("conditions") or ():
            if found["type"] == "ReplicaFailure" and found["status"] == "True":
                return _said("ReplicaFailure", "True", str(found.get("reason")), str(found.get("message")))
    return None


def _said(kind: str, status: str, reason: str, message: str) -> Object:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def _put(conditions: dict[str, Object], new: Mapping[str, Any], now: float, *, touched: bool = False) -> None:
    """Set a condition: lastTransitionTime moves with the status, lastUpdateTime with anything (or when ``touched``)."""
    old = conditions.get(new["type"])
    said = {name: new[name] for name in ("type", "status", "reason", "message")}
    if old is not None and not touched and all(old.get(name) == value for name, value in said.items()):
        return
    stamp = rfc3339(now)
    since = old.get("lastTransitionTime", stamp) if old is not None and old["status"] == new["status"] else stamp
    conditions[new["type"]] = {**said, "lastUpdateTime": stamp, "lastTransitionTime": since}
