"""Making, ending and claiming the pods of an owner, with what is expected to be seen of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mininetes.agents.controllers.controller import Controller
from mininetes.agents.controllers.pod_sets import Claim, adoption, letting_go
from mininetes.agents.objects import Object, uid_of
from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.informer import Known

MOST_AT_ONCE = 64


class PodChanges:
    """Changes the pods of the owners that one controller looks after."""

    def __init__(self, controller: Controller, pods: Known) -> None:
        self._controller = controller
        self._client = controller.client
        self._pods = pods

    async def settle(self, key: str, owner: Mapping[str, Any], claim: Claim) -> list[Object]:
        """Adopt and let go as claimed. Returns the pods that are the owner's then."""
        for pod in claim.adopt:
            claim.owned.append(await self._patch(key, pod, adoption(owner)))
        for pod in claim.release:
            await self._patch(key, pod, letting_go(owner))
        return claim.owned

    async def create(self, key: str, owner: Mapping[str, Any], pods: Sequence[Object]) -> None:
        """Make pods: one, two, four, ... at a time, so that what is refused is not tried for all. Raises ApiError."""
        done, batch = 0, 1
        while done < len(pods):
            part = pods[done : done + batch]
            results = await asyncio.gather(*(self._create(key, owner, pod) for pod in part), return_exceptions=True)
            _raise_first(results)
            done += len(part)
            batch = min(batch * 2, MOST_AT_ONCE)

    async def delete(self, key: str, owner: Mapping[str, Any], pods: Sequence[Object]) -> None:
        """End pods. Those that are gone already are no error. Raises ApiError."""
        for start in range(0, len(pods), MOST_AT_ONCE):
            part = pods[start : start + MOST_AT_ONCE]
            results = await asyncio.gather(*(self._delete(key, owner, pod) for pod in part), return_exceptions=True)
            _raise_first(results)

    async def _patch(self, key: str, pod: Object, patch: Object) -> Object:
        metadata = pod["metadata"]
        patch = {"metadata": {**patch["metadata"], "uid": uid_of(pod)}}
        changed = await self._client.patch("pods", metadata["name"], patch, metadata["namespace"], kind="strategic")
        self._controller.expectations.written(key, self._pods, changed)
        return changed

    async def _create(self, key: str, owner: Mapping[str, Any], pod: Object) -> None:
        events = self._controller.shared.events
        try:
            made = await self._client.create("pods", pod)
        except ApiError as refused:
            events.record(owner, "Warning", "FailedCreate", f"Error creating: {refused}")
            raise
        self._controller.expectations.written(key, self._pods, made)
        events.record(owner, "Normal", "SuccessfulCreate", f"Created pod: {made['metadata']['name']}")

    async def _delete(self, key: str, owner: Mapping[str, Any], pod: Object) -> None:
        metadata = pod["metadata"]
        try:
            await self._client.delete("pods", metadata["name"], metadata["namespace"], uid=uid_of(pod))
        except ApiError as refused:
            if refused.code not in (404, 409):
                raise
            return
        self._controller.expectations.removed(key, self._pods, pod)
        events = self._controller.shared.events
        events.record(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {metadata['name']}")


def _raise_first(results: Iterable[object]) -> None:
    for result in results:
        if isinstance(result, BaseException):
            raise result
