"""The end of a pod or of one of its containers: hooks, SIGTERM, a grace period, SIGKILL, and what is left to undo."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mininetes.agents.kubelet import checkpoint
from mininetes.agents.kubelet.container_record import ContainerRecord
from mininetes.agents.kubelet.hooks import run_hook
from mininetes.agents.kubelet.pod_spec import full_name, grace_s, specs_by_name, uid_of
from mininetes.agents.running import changed_within
from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.informer import Backoff
from mininetes.errors import MininetesError

if TYPE_CHECKING:
    from mininetes.agents.kubelet.pod_worker import PodWorker

REMOVED_GRACE_S = 1.0
"""For a pod that was taken out of the API without waiting for it."""


class PodEnding:
    """Ends the pod of a worker, or a container of it."""

    def __init__(self, worker: PodWorker) -> None:
        self._worker = worker
        self._context = worker.context

    async def run(self) -> None:
        """End all of the pod, and have the API forget it. Tries for as long as something is left."""
        worker = self._worker
        await self.stop_all()
        await self._undo()
        self._context.statuses.forget(uid_of(worker.pod))
        await self._forget_processes()
        worker.runs.drop_logs()
        checkpoint.drop(self._context.node, uid_of(worker.pod))
        await self._delete_object()
        self._context.log.info("Pod has been terminated", v=2, pod=full_name(worker.pod))

    async def stop_all(self) -> None:
        """End all containers: sidecars once the others have ended, one by one from the last (KEP-753).

        The grace period is that of all together. May be called twice.
        """
        worker, begun = self._worker, time.monotonic()
        worker.runs.stop_all_probes()
        records = list(worker.record.containers.values())
        sidecars = [[each] for each in reversed(records) if each.is_sidecar]
        for group in ([each for each in records if not each.is_sidecar], *sidecars):
            running = [each for each in group if each.state == "running"]
            for record in running:
                worker.event("Normal", "Killing", f"Stopping container {record.name}")
            await self._end(running, lambda: REMOVED_GRACE_S if worker.removed else grace_s(worker.pod), begun)

    async def end_one(self, record: ContainerRecord, why: str) -> None:
        """End one container, which may be started again then."""
        if record.state == "running":
            self._worker.event("Normal", "Killing", why)
            await self._end([record], lambda: grace_s(self._worker.pod), time.monotonic())
        self._worker.runs.stop_probing(record.name)

    async def _end(self, running: Sequence[ContainerRecord], grace: Callable[[], float], begun: float) -> None:
        """End containers; ``grace`` says how many seconds they have in all, which may become less meanwhile."""
        specs = specs_by_name(self._worker.pod)
        hooks = asyncio.gather(*(self._before_stop(each, specs[each.name]) for each in running))
        while not hooks.done() and (left_s := begun + grace() - time.monotonic()) > 0:
            hooks.add_done_callback(lambda _: self._worker.changed.set())
            await changed_within(self._worker.changed, left_s)
        hooks.cancel()
        await asyncio.gather(hooks, return_exceptions=True)
        for record in running:
            if record.state == "running":
                await self._worker.runs.ask_to_end(record)
        while any(each.state == "running" for each in running):
            left_s = begun + grace() - time.monotonic()
            if left_s <= 0:
                break
            await changed_within(self._worker.changed, left_s)
        for record in running:
            if record.state == "running":
                await self._worker.runs.kill(record)
        while any(each.state == "running" for each in running):
            await changed_within(self._worker.changed, None)
        self._worker.changed.set()  # what else was heard meanwhile is to be acted on

    async def _before_stop(self, record: ContainerRecord, spec: Mapping[str, Any]) -> None:
        """Run a container's preStop hook."""
        worker = self._worker
        hook = (spec.get("lifecycle") or {}).get("preStop")
        if hook and (wrong := await run_hook(self._context, worker.runs, spec, hook, grace_s(worker.pod))):
            worker.event("Warning", "FailedPreStopHook", f"PreStopHook failed: {wrong}")

    async def _undo(self) -> None:
        """Let the sandbox go. A plugin that fails is called again later: the address is its to give back."""
        backoff = Backoff()
        while True:
            try:
                await self._worker.sandbox.remove()
                return
            except (MininetesError, OSError) as failed:
                self._context.log.error("Failed to stop sandbox", pod=full_name(self._worker.pod), err=failed)
                self._worker.event("Warning", "FailedKillPod", f"error killing pod: {failed}")
                await backoff.pause()

    async def _forget_processes(self) -> None:
        shim = self._context.shim
        prefix = f"{self._context.node}/{uid_of(self._worker.pod)}/"
        for name in await shim.processes(prefix):
            await shim.forget(name)

    async def _delete_object(self) -> None:
        """Take the pod out of the API, if it is still there and still this one; tries until it was possible."""
        metadata = self._worker.pod["metadata"]
        backoff = Backoff()
        while not self._worker.removed:
            try:
                await self._context.client.delete(
                    "pods", metadata["name"], metadata["namespace"], grace_s=0, uid=metadata["uid"]
                )
                return
            except ApiError as refused:
                if refused.code in (404, 409):
                    return
                self._context.log.error("Failed to delete pod", pod=full_name(self._worker.pod), err=refused)
            except MininetesError as failed:
                self._context.log.warning("Failed to delete pod", pod=full_name(self._worker.pod), err=failed)
            await backoff.pause()
