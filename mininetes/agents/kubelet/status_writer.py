"""Sending pods' statuses to the API: the last one of each pod, when it differs from what the API has."""

from __future__ import annotations

import asyncio
from typing import Any

from mininetes.agents.klog import AgentLog
from mininetes.agents.kubelet.pod_spec import Pod, full_name, uid_of
from mininetes.apiserver.client import Client
from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.informer import Backoff
from mininetes.errors import MininetesError

AT_ONCE = 8


class StatusWriter:
    """Patches statuses in the background. `put` never waits; while the API is away only the last status is kept."""

    def __init__(self, client: Client, log: AgentLog) -> None:
        self._client = client
        self._log = log
        self._due: dict[str, tuple[Pod, dict[str, Any]]] = {}
        self._sent: dict[str, dict[str, Any]] = {}
        self._some = asyncio.Event()

    def put(self, pod: Pod, status: dict[str, Any]) -> None:
        """Have the API show this status of the pod. Nothing is sent when it was sent last."""
        uid = uid_of(pod)
        if uid not in self._due and self._sent.get(uid) == status:
            return
        self._due[uid] = (pod, status)
        self._some.set()

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        self._due.pop(uid, None)
        self._sent.pop(uid, None)

    def resend(self, uid: str) -> None:
        """What was sent last is no longer what the API has: the next `put` sends again."""
        self._sent.pop(uid, None)

    async def run(self) -> None:
        """Send until cancelled, several at once."""
        backoff = Backoff()
        while True:
            if not self._due:
                self._some.clear()
                await self._some.wait()
            batch = [self._due.pop(uid) for uid in list(self._due)[:AT_ONCE]]
            done = await asyncio.gather(*(self._send(pod, status) for pod, status in batch))
            if all(done):
                backoff.reset()
                continue
            for pod, status in (each for each, sent in zip(batch, done, strict=True) if not sent):
                self._due.setdefault(uid_of(pod), (pod, status))
            await backoff.pause()

    async def _send(self, pod: Pod, status: dict[str, Any]) -> bool:
        """Send one; False when it is to be tried again."""
        name, namespace, uid = pod["metadata"]["name"], pod["metadata"]["namespace"], uid_of(pod)
        patch = {"metadata": {"uid": uid}, "status": status}
        try:
            await self._client.patch("pods", name, patch, namespace, subresource="status")
        except ApiError as refused:
            if refused.code == 404 or (refused.code in (409, 422) and "uid" in refused.message.lower()):
                return True  # gone, or another pod's name by now
            self._log.error("Failed to update status for pod", pod=full_name(pod), err=refused)
            return False
        except MininetesError as failed:
            self._log.warning("Failed to update status for pod", pod=full_name(pod), err=failed)
            return False
        self._sent[uid] = status
        self._log.info("Status for pod updated successfully", v=3, pod=full_name(pod), phase=status["phase"])
        return True
