"""The garbage collector: what nobody owns any more goes, after, before or without its owner, as was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mininetes.agents.controllers.controller import Controller, Shared
from mininetes.agents.controllers.ownership import (
    FOREGROUND,
    ORPHAN,
    Member,
    OwnershipGraph,
    finalizers,
    judge,
    owner_uids,
    references,
    waits_for_dependents,
)
from mininetes.agents.objects import Object, is_deleted, key_of, uid_of
from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.informer import Handler
from mininetes.apiserver.resources import RESOURCES, by_kind, by_name
from mininetes.errors import BadInput

NOT_COLLECTED = ("events", "namespaces")


class GarbageCollector(Controller):
    """Follows all kinds but events. Keys of its queue are uids."""

    name: ClassVar[str] = "garbage-collector"
    workers: ClassVar[int] = 8

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._graph = OwnershipGraph()
        names = dict.fromkeys(each.store_name for each in RESOURCES)
        for resource in names:
            if resource not in NOT_COLLECTED:
                shared.informer(resource).on_change(self._follow(resource))

    async def sync(self, key: str) -> float | None:
        """Decide about one object."""
        member = self._graph.get(key)
        if member is None:
            return None
        if is_deleted(member.obj):
            await self._finish(member)
            return None
        absent = [each for each in references(member.obj) if not await self._exists(member.obj, each)]
        states = {str(each.get("uid", "")): "absent" for each in absent}

        def state_of(reference: Mapping[str, Any]) -> Any:
            uid = str(reference.get("uid", ""))
            owner = self._graph.get(uid)
            if owner is not None and waits_for_dependents(owner.obj):
                return "waiting"
            return states.get(uid, "solid")

        verdict = judge(member.obj, state_of, has_dependents=bool(self._graph.dependents(key)))
        if verdict.delete:
            await self._delete(member, verdict.policy)
        elif verdict.forget:
            kept = [dict(each) for each in references(member.obj) if each.get("uid") not in verdict.forget]
            await self._patch(member, {"ownerReferences": kept})
        return None

    async def _finish(self, member: Member) -> None:
        """An object on its way out: let its dependents go first, or set them free, as its finalizers say."""
        uid, waits = uid_of(member.obj), finalizers(member.obj)
        if ORPHAN in waits:
            for each in self._graph.dependents(uid):
                kept = [dict(one) for one in references(each.obj) if one.get("uid") != uid]
                await self._patch(each, {"ownerReferences": kept})
            await self._patch(member, {"finalizers": [each for each in waits if each != ORPHAN]})
        elif FOREGROUND in waits:
            for each in self._graph.dependents(uid):
                if not is_deleted(each.obj):
                    self.queue.add(uid_of(each.obj))
            if not self._graph.blocking(uid):
                await self._patch(member, {"finalizers": [each for each in waits if each != FOREGROUND]})

    async def _exists(self, obj: Object, reference: Mapping[str, Any]) -> bool:
        """Whether an owner is there, by the server's word when it is not known. Kinds that nobody knows are let be."""
        if self._graph.get(str(reference.get("uid", ""))) is not None:
            return True
        try:
            resource = by_kind(str(reference.get("apiVersion")), str(reference.get("kind")))
        except BadInput:
            return True
        namespace = obj["metadata"].get("namespace") if resource.namespaced else None
        try:
            found = await self.client.get(resource.resource_name, str(reference.get("name")), namespace)
        except ApiError as refused:
            if refused.code != 404:
                raise
            return False
        return uid_of(found) == reference.get("uid")

    async def _delete(self, member: Member, policy: str) -> None:
        metadata = member.obj["metadata"]
        path = by_name(member.resource).path(metadata.get("namespace"), metadata["name"])
        options = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": policy,
            "preconditions": {"uid": uid_of(member.obj)},
        }
        try:
            await self.client.request("DELETE", path, body=options)
        except ApiError as refused:
            if refused.code not in (404, 409):
                raise
        self.log.info("Deleted item", v=2, item=f"{member.resource} {member.key}", propagationPolicy=policy)

    async def _patch(self, member: Member, metadata: Mapping[str, Any]) -> None:
        """Change an object's metadata, if it is still as it was seen: lists are written whole. Raises ApiError 409."""
        old = member.obj["metadata"]
        patch = {"metadata": {**metadata, "uid": uid_of(member.obj), "resourceVersion": old["resourceVersion"]}}
        try:
            await self.client.patch(member.resource, old["name"], patch, old.get("namespace"))
        except ApiError as refused:
            if refused.code != 404:
                raise

    def _follow(self, resource: str) -> Handler:
        def changed(kind: str, old: Object | None, new: Object | None) -> None:
            if kind == "DELETED":
                gone = new or old
                if gone is not None:
                    self._gone(uid_of(gone), old or gone)
            elif new is not None:
                self._graph.put(Member(resource, key_of(new), new))
                if is_deleted(new) or list(owner_uids(new)) != (list(owner_uids(old)) if old is not None else []):
                    self.queue.add(uid_of(new))
                if old is not None and references(old) != references(new):
                    self._nudge(old)

        return changed

    def _gone(self, uid: str, last: Object) -> None:
        for each in self._graph.dependents(uid):
            self.queue.add(uid_of(each.obj))
        self._graph.remove(uid)
        self._nudge(last)

    def _nudge(self, dependent: Object) -> None:
        """Owners that wait for their dependents have one less to wait for."""
        for owner in owner_uids(dependent):
            member = self._graph.get(owner)
            if member is not None and waits_for_dependents(member.obj):
                self.queue.add(owner)
