"""Pods that nobody will end: bound to a node that is gone, or ending without ever having had one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from mininetes.agents.controllers.controller import Controller, Shared
from mininetes.agents.controllers.indexes import Index, by_node
from mininetes.agents.objects import Object, is_deleted, key_of, uid_of
from mininetes.apiserver.errors import ApiError


def is_garbage(pod: Mapping[str, Any], has_node: Callable[[str], bool]) -> bool:
    """Whether no kubelet will ever report the pod's end. Pure."""
    node = by_node(pod)
    return not has_node(node) if node else is_deleted(pod)


class PodGarbage(Controller):
    """Deletes such pods for good, after a grace in which the node may come back."""

    name: ClassVar[str] = "pod-garbage-collector"
    workers: ClassVar[int] = 2

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._pods = shared.informer("pods").items
        self._nodes = shared.informer("nodes").items
        self._on = Index(shared.informer("pods"), by_node)
        self._ripe: dict[str, str] = {}
        shared.informer("pods").on_change(self._pod_changed)
        shared.informer("nodes").on_change(self._node_changed)

    async def sync(self, key: str) -> float | None:
        """Delete one pod when it is garbage; the first look only begins its grace."""
        pod = self._pods.get(key)
        if pod is None or not is_garbage(pod, self._nodes.__contains__):
            self._ripe.pop(key, None)
            return None
        if self._ripe.get(key) != uid_of(pod):
            self._ripe[key] = uid_of(pod)
            return self.shared.settings.orphan_grace_s
        if by_node(pod) and await self._is_there(by_node(pod)):
            return self.shared.settings.orphan_grace_s
        metadata = pod["metadata"]
        try:
            await self.client.delete("pods", metadata["name"], metadata["namespace"], grace_s=0, uid=uid_of(pod))
        except ApiError as refused:
            if refused.code not in (404, 409):
                raise
        self._ripe.pop(key, None)
        self.log.info("Deleted orphaned pod", pod=key, node=by_node(pod))
        return None

    async def _is_there(self, node: str) -> bool:
        """Ask the server itself: an informer may be behind."""
        try:
            await self.client.get("nodes", node)
        except ApiError as refused:
            if refused.code != 404:
                raise
            return False
        return True

    def _pod_changed(self, kind: str, _: Object | None, new: Object | None) -> None:
        if kind == "DELETED" and new is not None:
            self._ripe.pop(key_of(new), None)
        elif new is not None and is_garbage(new, self._nodes.__contains__):
            self._look(key_of(new))

    def _node_changed(self, kind: str, _: Object | None, new: Object | None) -> None:
        if kind == "DELETED" and new is not None:
            for pod in self._on.of(new["metadata"]["name"]):
                self._look(key_of(pod))

    def _look(self, key: str) -> None:
        if key not in self._ripe:
            self.queue.add(key)
