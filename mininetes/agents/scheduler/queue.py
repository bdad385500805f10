"""The scheduler's loop: which pods wait for a node, and what became of them."""

from __future__ import annotations

import asyncio
from typing import Any

from mininetes.agents.events import EventRecorder
from mininetes.agents.klog import AgentLog
from mininetes.agents.objects import Object, condition, is_deleted, is_finished, key_of, now_time, uid_of
from mininetes.agents.scheduler.loads import NodeLoad, PodNeeds
from mininetes.agents.scheduler.placement import Decision, place
from mininetes.agents.workqueue import WorkQueue
from mininetes.apiserver.client import Client, Unreachable
from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.informer import Informer
from mininetes.errors import MininetesError

NAME = "default-scheduler"
MOST_BINDINGS = 32
"""Bindings under way at a time."""


class SchedulingQueue:
    """Decides for one waiting pod after the other, and binds them side by side.

    A pod that is about to be bound counts on its node at once. Pods that fit nowhere wait until a
    node changes or a pod goes; then all of them are tried again.
    """

    def __init__(
        self,
        client: Client,
        log: AgentLog,
        events: EventRecorder,
        pods: Informer,
        nodes: Informer,
        counts: dict[str, int],
    ) -> None:
        self._client, self._log, self._events = client, log, events
        self._pods, self._nodes = pods, nodes
        self._counts = counts
        self._queue = WorkQueue()
        self._unplaced: set[str] = set()
        self._loads: dict[str, NodeLoad] = {}
        self._on: dict[str, str] = {}
        self._binding: dict[str, asyncio.Task[None]] = {}
        self._telling: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(MOST_BINDINGS)
        nodes.on_change(self._node_changed)
        pods.on_change(self._pod_changed)

    @property
    def pending(self) -> int:
        """How many pods have no node yet."""
        return len(self._queue) + len(self._unplaced) + len(self._binding)

    async def run(self) -> None:
        """Schedule until cancelled."""
        await self._nodes.synced()
        await self._pods.synced()
        try:
            while True:
                key = await self._queue.get()
                try:
                    self._schedule(key)
                except Exception as failed:  # one odd pod must not keep the others waiting
                    delay_s = self._queue.retry(key)
                    self._log.error("Error scheduling pod; retrying", pod=key, err=repr(failed), retryInSeconds=delay_s)
                finally:
                    self._queue.done(key)
                async with self._room:
                    await asyncio.sleep(0)  # others are to have their turn between two decisions
        finally:
            self._queue.close()
            tasks = [*self._binding.values(), *self._telling]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _waits(self, pod: Object | None) -> bool:
        """Whether a pod is ours to place."""
        if pod is None or is_deleted(pod) or is_finished(pod):
            return False
        spec = pod.get("spec") or {}
        return (
            not spec.get("nodeName")
            and not spec.get("schedulingGates")
            and (spec.get("schedulerName") or NAME) == NAME
            and key_of(pod) not in self._binding
        )

    def _schedule(self, key: str) -> None:
        pod = self._pods.items.get(key)
        if pod is None or not self._waits(pod):
            return
        decision = place(pod, self._loads)
        if decision.node:
            self._put(key, pod, decision.node)
            self._binding[key] = asyncio.ensure_future(self._bind(key, pod, decision))
        else:
            self._unplaced.add(key)
            self._counts["unschedulable"] += 1
            telling = asyncio.ensure_future(self._refuse(key, pod, decision))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)

    async def _bind(self, key: str, pod: Object, decision: Decision) -> None:
        metadata = pod["metadata"]
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": uid_of(pod)},
            "target": {"apiVersion": "v1", "kind": "Node", "name": decision.node},
        }
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/binding"
        try:
            async with self._room:
                await self._client.request("POST", path, body=binding)
        except MininetesError as failed:
            self._binding.pop(key, None)
            self._not_bound(key, pod, failed)
            return
        self._binding.pop(key, None)
        self._queue.forget(key)
        self._counts["scheduled"] += 1
        self._log.info(
            "Successfully bound pod to node", v=2, pod=key, node=decision.node, evaluatedNodes=decision.nodes
        )
        self._events.record(pod, "Normal", "Scheduled", f"Successfully assigned {key} to {decision.node}")

    def _not_bound(self, key: str, pod: Object, failed: MininetesError) -> None:
        """A binding was refused or its answer lost: what the informer says now counts."""
        known = self._pods.items.get(key)
        if known is None or not (known.get("spec") or {}).get("nodeName"):
            self._take_off(key)
        if isinstance(failed, ApiError) and failed.code in (404, 409):
            self._log.info("Binding refused", v=2, pod=key, err=failed)
        else:
            self._counts["error"] += 1
            self._log.error("Error scheduling pod; retrying", pod=key, err=failed)
        if not (isinstance(failed, ApiError) and failed.code == 404):
            self._queue.retry(key)

    async def _refuse(self, key: str, pod: Object, decision: Decision) -> None:
        """Say on the pod that it fits nowhere; once for each new reason."""
        told = condition(pod, "PodScheduled")
        try:
            if told is None or told.get("status") != "False" or told.get("message") != decision.message:
                self._log.info("Unable to schedule pod; no fit; waiting", v=2, pod=key, err=decision.message)
                self._events.record(pod, "Warning", "FailedScheduling", decision.message)
                await self._tell(pod, told, decision.message)
        except Unreachable as failed:
            self._log.error("Error updating pod", pod=key, err=failed)
        except ApiError as refused:
            self._log.info("Error updating pod", v=2, pod=key, err=refused)

    async def _tell(self, pod: Object, told: Object | None, message: str) -> None:
        now = now_time()
        since = told.get("lastTransitionTime") if told is not None and told.get("status") == "False" else now
        said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        patch = {"status": {"conditions": [{**said, "lastProbeTime": None, "lastTransitionTime": since}]}}
        metadata = pod["metadata"]
        await self._client.patch(
            "pods", metadata["name"], patch, metadata["namespace"], kind="strategic", subresource="status"
        )

    def _node_changed(self, _: str, old: Object | None, new: Object | None) -> None:
        name = str((new or old or {})["metadata"]["name"])
        if new is None or name not in self._nodes.items:
            self._loads.pop(name, None)
        elif name in self._loads:
            if not _matters(old, new):
                return
            self._loads[name].update(new)
        else:
            load = self._loads[name] = NodeLoad(new)
            for key, node in self._on.items():
                if node == name and key in self._pods.items:
                    load.add(PodNeeds(self._pods.items[key]))
        self._try_all_again()

    def _pod_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        pod: dict[str, Any] = new or {}
        key = key_of(pod)
        node = (pod.get("spec") or {}).get("nodeName") or ""
        if kind == "DELETED" or is_finished(pod):
            self._unplaced.discard(key)
            self._queue.forget(key)
            if self._take_off(key):
                self._try_all_again()
        elif node:
            self._unplaced.discard(key)
            self._put(key, pod, node)
        elif self._waits(pod) and (old is None or key not in self._unplaced or _asks_otherwise(old, pod)):
            self._unplaced.discard(key)
            self._queue.add(key)

    def _put(self, key: str, pod: Object, node: str) -> None:
        if self._on.get(key, node) != node:
            self._take_off(key)
        self._on[key] = node
        if node in self._loads:
            self._loads[node].add(PodNeeds(pod))

    def _take_off(self, key: str) -> bool:
        node = self._on.pop(key, None)
        if node is not None and node in self._loads:
            self._loads[node].remove(key)
        return node is not None

    def _try_all_again(self) -> None:
        unplaced, self._unplaced = self._unplaced, set()
        for key in sorted(unplaced):
            self._queue.add(key)


def _asks_otherwise(old: Object, new: Object) -> bool:
    """Whether a pod that fits nowhere asks for something else now: its status changes alone are our own doing."""
    return old.get("spec") != new.get("spec") or old["metadata"].get("labels") != new["metadata"].get("labels")


def _matters(old: Object | None, new: Object) -> bool:
    """Whether a node's change can make a difference: its heartbeats do not."""
    if old is None:
        return True

    def view(node: Object) -> tuple[Any, ...]:
        status = node.get("status") or {}
        ready = condition(node, "Ready") or {}
        return (node.get("spec"), node["metadata"].get("labels"), status.get("allocatable"), ready.get("status"))

    return view(old) != view(new)
