"""Node lifecycle: a node from which nothing is heard becomes unknown, is tainted, and its pods count as not ready."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import ClassVar

from mininetes.agents.controllers.controller import Controller, Shared
from mininetes.agents.controllers.indexes import Index, by_node
from mininetes.agents.controllers.node_conditions import heartbeat_of, ready_status, silent_conditions, tainted
from mininetes.agents.election import LEASES
from mininetes.agents.objects import Object, is_true, now_time
from mininetes.apiserver.client import Unreachable
from mininetes.apiserver.errors import ApiError

LEASE_NAMESPACE = "kube-node-lease"


class NodeLifecycle(Controller):
    """Watches the heartbeats of nodes, by this side's clock: those of the nodes need not agree with it.

    A controller that has just begun gives every node the whole grace period.
    """

    name: ClassVar[str] = "node-lifecycle"

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._nodes = shared.informer("nodes").items
        self._leases = shared.informer(LEASES).items
        self._pods = Index(shared.informer("pods"), by_node)
        self._sources = (shared.informer("nodes"), shared.informer(LEASES))
        self._heard: dict[str, tuple[tuple[object, ...], float]] = {}
        self._told: dict[str, str] = {}
        shared.informer("nodes").on_change(self._node_changed)
        shared.informer(LEASES).on_change(self._lease_changed)

    async def sync(self, key: str) -> float | None:
        """Judge one node. Looks again when its grace period ends."""
        node = self._nodes.get(key)
        if node is None:
            self._heard.pop(key, None)
            self._told.pop(key, None)
            return None
        self._listen(key)
        left_s = self._heard[key][1] + self.shared.settings.node_grace_s - asyncio.get_running_loop().time()
        if left_s <= 0 and any(informer.failure for informer in self._sources):
            return self._begin_anew(key)
        if left_s <= 0:
            node = await self._unknown(key, node)
        await self._taint(key, node)
        await self._mark_pods(key, node)
        return left_s if left_s > 0 else None

    async def _unknown(self, key: str, node: Object) -> Object:
        conditions = silent_conditions(node, now_time())
        if conditions is None:
            return node
        status = {**(node.get("status") or {}), "conditions": conditions}
        try:
            changed = await self.client.update("nodes", {**node, "status": status}, subresource="status")
        except Unreachable:
            self._begin_anew(key)
            raise
        self.log.info("Node hasn't been updated for the grace period: its conditions are Unknown now", node=key)
        return changed

    def _begin_anew(self, name: str) -> float:
        """While the API server is away, silence says nothing of the node: its grace period begins again."""
        self._heard[name] = (self._heard[name][0], asyncio.get_running_loop().time())
        return self.shared.settings.node_grace_s

    async def _taint(self, key: str, node: Object) -> None:
        taints = tainted(node, now_time())
        if taints != ((node.get("spec") or {}).get("taints") or []):
            spec = {**(node.get("spec") or {}), "taints": taints}
            await self.client.update("nodes", {**node, "spec": spec})
            self.log.info("Updated taints of node", v=2, node=key, taints=[each["key"] for each in taints])

    async def _mark_pods(self, key: str, node: Object) -> None:
        """Once for each time a node stops being ready: its kubelet says what its pods are when it is back."""
        status = ready_status(node)
        before = self._told.get(key)
        if status in ("True", before):
            self._told[key] = status
            return
        if before == "True":
            self.shared.events.record(node, "Normal", "NodeNotReady", f"Node {key} status is now: NodeNotReady")
        pods = [pod for pod in self._pods.of(key) if is_true(pod, "Ready")]
        await self._not_ready(pods)
        self._told[key] = status

    async def _not_ready(self, pods: Iterable[Object]) -> None:
        now = now_time()
        said = {"type": "Ready", "status": "False", "lastTransitionTime": now}
        for pod in pods:
            metadata = pod["metadata"]
            patch = {"metadata": {"uid": metadata["uid"]}, "status": {"conditions": [said]}}
            try:
                await self.client.patch(
                    "pods", metadata["name"], patch, metadata["namespace"], kind="strategic", subresource="status"
                )
            except ApiError as refused:
                if refused.code not in (404, 409):
                    raise
            else:
                self.shared.events.record(pod, "Warning", "NodeNotReady", "Node is not ready")

    def _listen(self, name: str) -> bool:
        """Note a sign of life that is new. Returns whether there was one."""
        sign = heartbeat_of(self._nodes.get(name), self._leases.get(f"{LEASE_NAMESPACE}/{name}"))
        if name in self._heard and self._heard[name][0] == sign:
            return False
        self._heard[name] = (sign, asyncio.get_running_loop().time())
        return True

    def _node_changed(self, kind: str, _: Object | None, new: Object | None) -> None:
        if new is not None:
            name = new["metadata"]["name"]
            if kind != "DELETED":
                self._listen(name)
            self.queue.add(name)

    def _lease_changed(self, kind: str, _: Object | None, new: Object | None) -> None:
        if new is None or kind == "DELETED" or new["metadata"].get("namespace") != LEASE_NAMESPACE:
            return
        name = new["metadata"]["name"]
        # A lease that is renewed in time changes nothing: the timer finds it. One after silence does.
        if name in self._nodes and self._listen(name) and ready_status(self._nodes[name]) == "Unknown":
            self.queue.add(name)
