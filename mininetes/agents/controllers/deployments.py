"""Deployments: a ReplicaSet for each template, and the way from one to the next."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import ClassVar

from mininetes.agents.controllers.controller import Controller, Shared
from mininetes.agents.controllers.indexes import Index, by_controller, by_namespace
from mininetes.agents.controllers.pod_sets import adoption, claim, letting_go
from mininetes.agents.controllers.replicasets import REPLICASETS
from mininetes.agents.controllers.rollout import (
    DESIRED,
    MOST,
    REVISION,
    Limits,
    current_set,
    limits,
    new_set,
    outdated,
    replicas_of,
    revision_of,
    scaled,
    set_annotations,
    status_count,
    strategy_of,
)
from mininetes.agents.controllers.rollout_status import deadline_left, status_of
from mininetes.agents.objects import Object, annotations_of, is_deleted, is_finished, key_of, owned_by, uid_of
from mininetes.apiserver.errors import ApiError

DEPLOYMENTS = "deployments.apps"


class Deployments(Controller):
    """Makes, scales and retires ReplicaSets of Deployments."""

    name: ClassVar[str] = "deployment"

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._deployments = self.watch(DEPLOYMENTS)
        replicasets = shared.informer(REPLICASETS)
        self._sets = replicasets.items
        self._by_namespace = Index(replicasets, by_namespace)
        self._pods = Index(shared.informer("pods"), by_namespace)
        self.watch_owned(REPLICASETS, "Deployment")
        shared.informer("pods").on_change(self._pod_gone)

    async def sync(self, key: str) -> float | None:
        """Take one step towards the deployment's template and size."""
        deployment = self._deployments.get(key)
        if deployment is None:
            return None
        sets = await self._claimed(key, deployment)
        current = current_set(deployment, sets)
        if not is_deleted(deployment):
            deployment, current = await self._advance(key, deployment, current, sets)
        return await self._tell(key, deployment, current, _others(sets, current))

    async def _advance(
        self, key: str, deployment: Object, current: Object | None, sets: Sequence[Object]
    ) -> tuple[Object, Object | None]:
        """Make, number, scale and retire sets. Returns the deployment and its current set as they are then."""
        paused = deployment["spec"].get("paused")
        old = _others(sets, current)
        old_ended = self._have_ended(deployment, old)
        if current is None and not paused and (old_ended or strategy_of(deployment) != "Recreate"):
            current = await self._begin(key, deployment, sets)
        if current is not None and not paused:
            deployment, current = await self._annotate(key, deployment, current, old)
        await self._scale(
            key,
            deployment,
            [*old, *([current] if current is not None else [])],
            scaled(deployment, current, old, old_ended=old_ended),
        )
        if current is not None and not paused:
            await self._clean_up(key, deployment, old)
        return deployment, current

    async def _claimed(self, key: str, deployment: Object) -> list[Object]:
        namespace = deployment["metadata"]["namespace"]
        found = claim(deployment, self._by_namespace.of(namespace))
        for replicaset, patch in [
            *((each, adoption(deployment)) for each in found.adopt),
            *((each, letting_go(deployment)) for each in found.release),
        ]:
            changed = await self.client.patch(
                REPLICASETS, replicaset["metadata"]["name"], patch, namespace, kind="strategic"
            )
            self.expectations.written(key, self._sets, changed)
            if replicaset in found.adopt:
                found.owned.append(changed)
        return [each for each in found.owned if not is_deleted(each)]

    def _have_ended(self, deployment: Object, old: Sequence[Object]) -> bool:
        """Whether no pod of these sets is left, not even one that is ending."""
        uids = {uid_of(each) for each in old}
        return all(replicas_of(each) == 0 and status_count(each, "replicas") == 0 for each in old) and not any(
            by_controller(pod) in uids and not is_finished(pod)
            for pod in self._pods.of(deployment["metadata"]["namespace"])
        )

    async def _begin(self, key: str, deployment: Object, sets: Sequence[Object]) -> Object:
        bounds = limits(deployment)
        revision = max(map(revision_of, sets), default=0) + 1
        wanted = new_set(deployment, revision, _first_size(bounds, strategy_of(deployment), sets))
        try:
            made = await self.client.create(REPLICASETS, wanted)
        except ApiError as refused:
            if refused.code != 409:
                raise
            there = await self.client.get(REPLICASETS, wanted["metadata"]["name"], wanted["metadata"]["namespace"])
            if owned_by(there, deployment):
                return there
            await self._count_collision(key, deployment)
            raise
        self.expectations.written(key, self._sets, made)
        self._say_scaled(deployment, made["metadata"]["name"], 0, replicas_of(made))
        return made

    async def _count_collision(self, key: str, deployment: Object) -> None:
        """The name belongs to another: the next hash is made with a larger count."""
        status = dict(deployment.get("status") or {})
        status["collisionCount"] = int(status.get("collisionCount") or 0) + 1
        changed = await self.client.update(DEPLOYMENTS, {**deployment, "status": status}, subresource="status")
        self.expectations.written(key, self._deployments, changed)

    async def _annotate(
        self, key: str, deployment: Object, current: Object, old: Sequence[Object]
    ) -> tuple[Object, Object]:
        """Number the current set, newest last, and the deployment after it."""
        newest = max(map(revision_of, old), default=0)
        revision = max(revision_of(current), newest + 1 if revision_of(current) <= newest else 0, 1)
        annotations = set_annotations(deployment, annotations_of(current), revision)
        min_ready_s = int(deployment["spec"].get("minReadySeconds") or 0)
        changed_ready = int(current["spec"].get("minReadySeconds") or 0) != min_ready_s
        if annotations != annotations_of(current) or changed_ready:
            patch = {"metadata": {"annotations": annotations}, "spec": {"minReadySeconds": min_ready_s}}
            current = await self._patch_set(key, current, patch)
        if annotations_of(deployment).get(REVISION) != str(revision):
            metadata = deployment["metadata"]
            patch = {"metadata": {"annotations": {REVISION: str(revision)}, "uid": metadata["uid"]}}
            deployment = await self.client.patch(DEPLOYMENTS, metadata["name"], patch, metadata["namespace"])
            self.expectations.written(key, self._deployments, deployment)
        return deployment, current

    async def _scale(self, key: str, deployment: Object, sets: Sequence[Object], sizes: Mapping[str, int]) -> None:
        bounds = limits(deployment)
        for replicaset in sets:
            size = sizes.get(key_of(replicaset))
            if size is None:
                continue
            annotations = {DESIRED: str(bounds.desired), MOST: str(bounds.most)}
            patch = {"metadata": {"annotations": annotations}, "spec": {"replicas": size}}
            await self._patch_set(key, replicaset, patch)
            self._say_scaled(deployment, replicaset["metadata"]["name"], replicas_of(replicaset), size)

    async def _patch_set(self, key: str, replicaset: Object, patch: Object) -> Object:
        metadata = replicaset["metadata"]
        patch = {**patch, "metadata": {**patch["metadata"], "uid": uid_of(replicaset)}}
        changed = await self.client.patch(REPLICASETS, metadata["name"], patch, metadata["namespace"])
        self.expectations.written(key, self._sets, changed)
        return changed

    def _say_scaled(self, deployment: Object, name: str, before: int, after: int) -> None:
        if before == after:
            return
        way = "up" if after > before else "down"
        message = f"Scaled {way} replica set {name} to {after} from {before}"
        self.shared.events.record(deployment, "Normal", "ScalingReplicaSet", message)

    async def _clean_up(self, key: str, deployment: Object, old: Sequence[Object]) -> None:
        for each in outdated(deployment, old):
            metadata = each["metadata"]
            try:
                await self.client.delete(REPLICASETS, metadata["name"], metadata["namespace"], uid=uid_of(each))
            except ApiError as refused:
                if refused.code not in (404, 409):
                    raise
            self.expectations.removed(key, self._sets, each)

    async def _tell(self, key: str, deployment: Object, current: Object | None, old: Sequence[Object]) -> float | None:
        if self.expectations.pending(key):
            # What was just written is not in these counts: they are told when it has been seen.
            return self._again(deployment)
        now = time.time()
        status = status_of(deployment, current, old, now)
        if status != deployment.get("status"):
            deployment = await self.client.update(DEPLOYMENTS, {**deployment, "status": status}, subresource="status")
            self.expectations.written(key, self._deployments, deployment)
        return self._again(deployment)

    def _again(self, deployment: Object) -> float | None:
        left = deadline_left(deployment, time.time())
        return None if left is None else left + 1.0

    def _pod_gone(self, kind: str, old: Object | None, _: Object | None) -> None:
        """The end of an old pod is what a deployment with Recreate waits for."""
        if kind != "DELETED" or old is None:
            return
        for deployment in self._deployments.values():
            if deployment["metadata"]["namespace"] == by_namespace(old) and strategy_of(deployment) == "Recreate":
                self.queue.add(key_of(deployment))


def _others(sets: Sequence[Object], current: Object | None) -> list[Object]:
    return [each for each in sets if current is None or uid_of(each) != uid_of(current)]


def _first_size(bounds: Limits, strategy: str, sets: Sequence[Object]) -> int:
    """How many replicas a new set begins with: what the surge leaves."""
    if strategy == "Recreate":
        return bounds.desired
    return max(0, min(bounds.desired, bounds.most - sum(map(replicas_of, sets))))
