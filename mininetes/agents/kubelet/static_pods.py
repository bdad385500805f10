"""The node's own agents as pods of kube-system: mirror pods, which show and decide nothing."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mininetes.agents.agent import Placement
from mininetes.agents.klog import AgentLog
from mininetes.agents.kubelet.container_record import RUNTIME
from mininetes.agents.kubelet.interfaces import StaticPod
from mininetes.agents.objects import MIRROR, SYSTEM, rfc3339
from mininetes.agents.running import changed_within
from mininetes.apiserver.client import Client
from mininetes.apiserver.errors import ApiError
from mininetes.errors import MininetesError

LOOK_S = 1.0
"""How often the agents are looked after: what they do is not told, they are asked."""


class StaticPods:
    """Keeps the mirror pods of a node's agents in the API, with their state.

    `changed` is called with each of the node's mirror pods that the API has or loses.
    """

    def __init__(self, place: Placement, client: Client, log: AgentLog, pods: Sequence[StaticPod]) -> None:
        self._place = place
        self._client = client
        self._log = log
        self._pods = {pod.pod_name or f"{pod.name}-{place.node}": pod for pod in pods}
        self._known: dict[str, dict[str, Any]] = {}
        self._alive: dict[str, bool] = {}
        self._since: dict[str, float] = {}
        self._starts: dict[str, int] = {}
        self._wake = asyncio.Event()

    def find(self, namespace: str, name: str) -> StaticPod | None:
        """The agent behind a mirror pod."""
        return self._pods.get(name) if namespace == SYSTEM else None

    def changed(self, pod: dict[str, Any], *, gone: bool) -> None:
        """The API has a mirror pod like this now, or has it no more."""
        name = pod["metadata"]["name"]
        if gone:
            self._known.pop(name, None)
        else:
            self._known[name] = pod
        self._wake.set()

    def objects(self) -> list[dict[str, Any]]:
        """The mirror pods that the API has."""
        return list(self._known.values())

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            for name, pod in self._pods.items():
                try:
                    await self._keep(name, pod)
                except ApiError as refused:
                    if refused.code not in (404, 409):  # it went or came meanwhile: the informer will say
                        self._log.error("Failed creating a mirror pod", pod=f"{SYSTEM}/{name}", err=refused)
                except MininetesError as failed:
                    self._log.warning("Failed creating a mirror pod", pod=f"{SYSTEM}/{name}", err=failed)
            await changed_within(self._wake, LOOK_S)

    async def _keep(self, name: str, pod: StaticPod) -> None:
        """Bring one mirror pod up to date."""
        self._note(name, pod.is_alive())
        known = self._known.get(name)
        wanted = await self._manifest(name, pod) if known is None else {}
        if known is not None and _is_other(known, pod):
            uid = known["metadata"]["uid"]
            await self._client.delete("pods", name, SYSTEM, grace_s=0, uid=uid)
            return
        if known is None:
            known = self._known[name] = await self._client.create("pods", wanted)
            self._log.info("Created mirror pod", v=2, pod=f"{SYSTEM}/{name}")
        status = self._status(name, pod, known)
        if _shown(known.get("status") or {}) != _shown(status):
            self._known[name] = await self._client.patch("pods", name, {"status": status}, SYSTEM, subresource="status")

    def _note(self, name: str, alive: bool) -> None:
        if self._alive.get(name) == alive:
            return
        self._alive[name] = alive
        self._since[name] = time.time()
        if alive:
            self._starts[name] = self._starts.get(name, -1) + 1

    async def _manifest(self, name: str, pod: StaticPod) -> dict[str, Any]:
        identity = hashlib.sha256(f"{name}/{list(pod.command)}".encode()).hexdigest()[:32]
        container: dict[str, Any] = {"name": pod.component, "image": _image(pod)}
        if pod.command:
            container["command"] = list(pod.command)
        if pod.ports:
            container["ports"] = [{"name": each, "containerPort": n, "hostPort": n} for each, n in pod.ports]
        annotations = {
            "kubernetes.io/config.hash": identity,
            MIRROR: identity,
            "kubernetes.io/config.seen": rfc3339(time.time()),
            "kubernetes.io/config.source": "file",
        }
        metadata: dict[str, Any] = {"name": name, "namespace": SYSTEM, "labels": dict(pod.labels)}
        metadata["annotations"] = annotations
        if owner := await self._owner(pod):
            metadata["ownerReferences"] = [owner]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {
                "containers": [container],
                "hostNetwork": True,
                "nodeName": self._place.node,
                "priorityClassName": "system-node-critical",
                "tolerations": [{"operator": "Exists", "effect": "NoExecute"}],
            },
        }

    async def _owner(self, pod: StaticPod) -> dict[str, Any] | None:
        if pod.owner is None:
            return None
        kind, name = pod.owner
        try:
            found = await self._client.get(f"{kind.lower()}s.apps", name, SYSTEM)
        except ApiError as refused:
            if refused.code == 404:
                return None
            raise
        uid = found["metadata"]["uid"]
        return {"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": True}

    def _status(self, name: str, pod: StaticPod, known: Mapping[str, Any]) -> dict[str, Any]:
        alive, since = self._alive[name], rfc3339(self._since[name])
        never = name not in self._starts
        if alive:
            state: dict[str, Any] = {"running": {"startedAt": since}}
        elif never:
            state = {"waiting": {"reason": "ContainerCreating"}}
        else:
            state = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": since}}
        identity = hashlib.sha256(f"{name}/{self._starts.get(name, 0)}".encode()).hexdigest()
        container = {
            "name": pod.component,
            "state": state,
            "lastState": {},
            "ready": alive,
            "started": alive,
            "restartCount": max(0, self._starts.get(name, 0)),
            "image": _image(pod),
            "imageID": f"{RUNTIME}://{_image(pod)}",
            "containerID": "" if never else f"{RUNTIME}://{identity}",
        }
        address = self._place.address
        return {
            "phase": "Pending" if never else "Running",
            "conditions": [
                _condition("Initialized", True, since),
                _condition("Ready", alive, since),
                _condition("ContainersReady", alive, since),
                _condition("PodScheduled", True, since),
            ],
            "hostIP": address,
            "hostIPs": [{"ip": address}],
            "podIP": address,
            "podIPs": [{"ip": address}],
            "startTime": (known.get("status") or {}).get("startTime") or since,
            "qosClass": "BestEffort",
            "containerStatuses": [container],
        }


def _image(pod: StaticPod) -> str:
    return pod.image or f"mininetes/{pod.component}"


def _is_other(known: Mapping[str, Any], pod: StaticPod) -> bool:
    """Whether a pod of the mirror's name is on its way out, or runs something else than the agent does."""
    containers = known["spec"].get("containers") or [{}]
    changed = list(containers[0].get("command") or []) != list(pod.command)
    return changed or bool(known["metadata"].get("deletionTimestamp"))


def _shown(status: Mapping[str, Any]) -> Any:
    """What of a status is worth an update."""
    states = {each["type"]: each["status"] for each in status.get("conditions") or []}
    containers = status.get("containerStatuses") or []
    return (status.get("phase"), status.get("podIP"), states, [(c["ready"], c["restartCount"]) for c in containers])


def _condition(kind: str, holds: bool, since: str) -> dict[str, Any]:
    text = {} if holds else {"reason": "ContainersNotReady"}
    return {"type": kind, "status": "True" if holds else "False", "lastTransitionTime": since, **text}
