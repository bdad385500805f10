"""The row of a pod in ``kubectl get pods``: its state in one word, out of its phase, conditions and containers.

The rules are those of Kubernetes' printer (pkg/printers/internalversion, printPod).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from mininetes.apiserver.ages import age_of

Object = Mapping[str, Any]
NONE: Final = "<none>"
_ENDED: Final = ("Succeeded", "Failed")


def pod_cells(pod: Object, now: datetime) -> list[Any]:
    """The cells, ``-o wide`` ones last."""
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    summary = summary_of(pod)
    restarts = str(summary.restarts)
    if summary.restarts and summary.last_restart:
        restarts += f" ({age_of(summary.last_restart, now)} ago)"
    return [
        metadata.get("name", ""),
        f"{summary.ready}/{summary.total}",
        summary.reason,
        restarts,
        age_of(metadata.get("creationTimestamp"), now),
        status.get("podIP") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _gates(spec, status),
    ]


def _gates(spec: Object, status: Object) -> str:
    gates = [each["conditionType"] for each in spec.get("readinessGates") or ()]
    met = [gate for gate in gates if _condition(status, gate).get("status") == "True"]
    return f"{len(met)}/{len(gates)}" if gates else NONE


def _condition(status: Object, kind: str) -> Object:
    return next((each for each in status.get("conditions") or () if each.get("type") == kind), {})


@dataclass
class PodSummary:
    """A pod in short. ``last_restart`` is when the container that ended last did so, or empty."""

    reason: str
    ready: int = 0
    total: int = 0
    restarts: int = 0
    last_restart: str = ""

    def count(self, container: Object) -> None:
        """Add a container's restarts."""
        self.restarts += container.get("restartCount", 0)
        ended = ((container.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or ""
        self.last_restart = max(self.last_restart, ended)


def summary_of(pod: Object) -> PodSummary:
    """The pod's state as kubectl's STATUS, READY and RESTARTS show it."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    summary = PodSummary(status.get("reason") or status.get("phase") or "", total=len(spec.get("containers") or ()))
    if _condition(status, "PodScheduled").get("reason") == "SchedulingGated":
        summary.reason = "SchedulingGated"
    initializing = _initializing(spec, status, summary)
    if not initializing or _condition(status, "Initialized").get("status") == "True":
        _running(spec, status, summary)
    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            summary.reason = "Unknown"
        elif status.get("phase") not in _ENDED:
            summary.reason = "Terminating"
    return summary


def _sidecars(spec: Object) -> set[str]:
    return {each["name"] for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"}


def _initializing(spec: Object, status: Object, summary: PodSummary) -> bool:
    """Whether the pod is still at its init containers; then the summary says at which, or how it failed."""
    sidecars = _sidecars(spec)
    summary.total += len(sidecars)
    for number, container in enumerate(status.get("initContainerStatuses") or ()):
        summary.count(container)
        state = container.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting") or {}
        if terminated is not None and terminated.get("exitCode") == 0:
            continue
        if container.get("name") in sidecars and container.get("started"):
            summary.ready += bool(container.get("ready"))
            continue
        if terminated is not None:
            summary.reason = f"Init:{_how_it_ended(terminated)}"
        elif waiting.get("reason") not in (None, "", "PodInitializing"):
            summary.reason = f"Init:{waiting['reason']}"
        else:
            summary.reason = f"Init:{number}/{len(spec.get('initContainers') or ())}"
        return True
    return False


def _how_it_ended(terminated: Object) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _running(spec: Object, status: Object, summary: PodSummary) -> None:
    """The containers' states; the first container's counts most, as it is looked at last."""
    # Restarts of init containers are shown only while the pod is at them, but those of sidecars always.
    sidecars = _sidecars(spec)
    summary.restarts, summary.last_restart = 0, ""
    for container in status.get("initContainerStatuses") or ():
        if container.get("name") in sidecars:
            summary.count(container)
    has_running = False
    for container in reversed(status.get("containerStatuses") or ()):
        summary.count(container)
        state = container.get("state") or {}
        waiting, terminated = state.get("waiting") or {}, state.get("terminated")
        if waiting.get("reason"):
            summary.reason = waiting["reason"]
        elif terminated is not None:
            summary.reason = _how_it_ended(terminated)
        elif container.get("ready") and state.get("running") is not None:
            has_running = True
            summary.ready += 1
    if summary.reason == "Completed" and has_running:
        summary.reason = "Running" if _condition(status, "Ready").get("status") == "True" else "NotReady"
