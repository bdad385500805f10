"""The status of a pod from what its containers do. Pure: the clock is handed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mininetes.agents.kubelet.container_record import ContainerRecord
from mininetes.agents.kubelet.pod_spec import Pod, containers, init_containers, is_sidecar, qos_class, restart_policy
from mininetes.agents.objects import is_finished, rfc3339

DEADLINE_EXCEEDED: Mapping[str, str] = {
    "reason": "DeadlineExceeded",
    "message": "Pod was active on the node longer than the specified deadline",
}
OWN_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


def is_done(spec: Mapping[str, Any], record: ContainerRecord) -> bool:
    """Whether an init container lets the next ones begin: it ended well, or (a sidecar) it has started."""
    if is_sidecar(spec):
        return record.started
    return record.state == "terminated" and record.exit_code == 0


def phase(pod: Pod, records: Mapping[str, ContainerRecord]) -> str:
    """The pod's phase, by Kubernetes' rules (kubelet's getPhase)."""
    policy = restart_policy(pod)
    for spec in () if has_begun(pod, records) else init_containers(pod):
        record = records[spec["name"]]
        if is_done(spec, record):
            continue
        failed = record.state == "terminated" and record.exit_code != 0 and not is_sidecar(spec)
        return "Failed" if failed and policy == "Never" else "Pending"
    return _main_phase([records[spec["name"]] for spec in containers(pod)], policy)


def has_begun(pod: Pod, records: Mapping[str, ContainerRecord]) -> bool:
    """Whether a main container was started ever: what its sidecars do says nothing of the phase then."""
    return any(records[spec["name"]].starts for spec in containers(pod))


def _main_phase(states: Sequence[ContainerRecord], policy: str) -> str:
    """The phase once the init containers are done."""
    if any(each.state == "running" for each in states):
        return "Running"
    if any(not each.starts for each in states):
        return "Pending"
    if policy != "Always" and all(each.state == "terminated" for each in states):
        if all(each.exit_code == 0 for each in states):
            return "Succeeded"
        if policy == "Never":
            return "Failed"
    return "Running"


def conditions(
    pod: Pod,
    records: Mapping[str, ContainerRecord],
    pod_phase: str,
    now: float,
    *,
    has_sandbox: bool,
    before: Sequence[Mapping[str, Any]] = (),
) -> list[dict[str, Any]]:
    """The pod's conditions: those of others as the API has them, ours with the time of their last change.

    ``before`` are those that were reported last.
    """
    known = {each["type"]: each for each in pod.get("status", {}).get("conditions") or []}
    ours_before = {**known, **{each["type"]: each for each in before if each["type"] in OWN_CONDITIONS}}
    inits = () if has_begun(pod, records) else init_containers(pod)
    pending_inits = [spec["name"] for spec in inits if not is_done(spec, records[spec["name"]])]
    if pod_phase == "Succeeded":
        why, message = "PodCompleted", ""
        initialized = ("True", "PodCompleted", "")
    else:
        lasting = [*filter(is_sidecar, init_containers(pod)), *containers(pod)]
        unready = [spec["name"] for spec in lasting if not records[spec["name"]].ready]
        why = "ContainersNotReady" if unready else ""
        message = f"containers with unready status: [{' '.join(unready)}]" if unready else ""
        incomplete = f"containers with incomplete status: [{' '.join(pending_inits)}]"
        initialized = ("False", "ContainersNotInitialized", incomplete) if pending_inits else ("True", "", "")
        if pod_phase == "Failed":
            why, message = "PodFailed", ""
    containers_ready = ("False", why, message) if why else ("True", "", "")
    ready = containers_ready
    if not why:
        gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates") or []]
        missing = [gate for gate in gates if known.get(gate, {}).get("status") != "True"]
        if missing:
            text = "; ".join(f'the status of pod readiness gate "{gate}" is not "True"' for gate in missing)
            ready = ("False", "ReadinessGatesNotReady", text)
    wanted = {
        "PodReadyToStartContainers": ("True" if has_sandbox else "False", "", ""),
        "Initialized": initialized,
        "Ready": ready,
        "ContainersReady": containers_ready,
        "PodScheduled": ("True", "", ""),
    }
    ours = [_condition(kind, *values, ours_before.get(kind), now) for kind, values in wanted.items()]
    return ours + [dict(each) for kind, each in known.items() if kind not in OWN_CONDITIONS]


def _condition(
    kind: str, status: str, reason: str, message: str, before: Mapping[str, Any] | None, now: float
) -> dict[str, Any]:
    same = before is not None and before.get("status") == status
    return {
        "type": kind,
        "status": status,
        "lastProbeTime": None,
        "lastTransitionTime": before.get("lastTransitionTime") if same and before else rfc3339(now),
        **({"reason": reason} if reason else {}),
        **({"message": message} if message else {}),
    }


def pod_status(
    pod: Pod,
    records: Mapping[str, ContainerRecord],
    *,
    now: float,
    start_time: str,
    host_address: str,
    pod_address: str,
    has_sandbox: bool,
    before: Sequence[Mapping[str, Any]] = (),
    failure: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The whole status of a pod, as it is sent to the API.

    ``failure`` is the reason and message of a pod that has failed whatever its containers did.
    """
    pod_phase = "Failed" if failure else phase(pod, records)
    if pod_phase in ("Succeeded", "Failed") and any(each.state == "running" for each in records.values()):
        pod_phase, failure = "Running", None  # sidecars are being ended, or all are
    if is_finished(pod):  # for good
        shown = pod["status"]
        pod_phase, failure = shown["phase"], {key: shown[key] for key in ("reason", "message") if shown.get(key)}
    return {
        "phase": pod_phase,
        **(failure or {}),
        "conditions": conditions(pod, records, pod_phase, now, has_sandbox=has_sandbox, before=before),
        "hostIP": host_address,
        "hostIPs": [{"ip": host_address}],
        **({"podIP": pod_address, "podIPs": [{"ip": pod_address}]} if pod_address else {}),
        "startTime": start_time,
        "qosClass": qos_class(pod),
        **_statuses("initContainerStatuses", init_containers(pod), records),
        **_statuses("containerStatuses", containers(pod), records),
    }


def _statuses(
    key: str, specs: Sequence[Mapping[str, Any]], records: Mapping[str, ContainerRecord]
) -> dict[str, list[dict[str, Any]]]:
    return {key: [records[spec["name"]].status() for spec in specs]} if specs else {}


def differs(shown: Mapping[str, Any], sent: Mapping[str, Any]) -> bool:
    """Whether the API shows something else than was sent, in what others may have changed."""

    def essence(status: Mapping[str, Any]) -> tuple[Any, ...]:
        states = {each["type"]: each["status"] for each in status.get("conditions") or []}
        return (status.get("phase"), status.get("podIP"), states.get("Ready"), states.get("ContainersReady"))

    return essence(shown) != essence(sent)


def is_ready(status: Mapping[str, Any]) -> bool:
    """Whether a status says that the pod is ready."""
    return any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or [])
