"""The verbs of the API over a store: what create, update, patch and delete do, whoever asks and however."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mininetes.apiserver.allocators import ServiceAllocator, ServiceRanges, Settlement
from mininetes.apiserver.defaults import set_defaults
from mininetes.apiserver.deletion import DeleteOptions, marked, may_go
from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.metadata import Object, begin, carry_over, check_type, set_name, set_namespace
from mininetes.apiserver.namespaces import Namespaces
from mininetes.apiserver.resources import RESOURCES, Resource
from mininetes.apiserver.selectors import FieldSelector, LabelSelector
from mininetes.apiserver.store import KeyExists, KeyMissing, RevisionConflict, Store, Stored, StoreUnavailable
from mininetes.apiserver.strategies import Strategy, strategy_of
from mininetes.apiserver.validation import FieldValidation, check, check_update

_NAME_TRIES = 8
_PAUSE_EVERY = 50
_WRITE_TRIES = 50
"""A write is computed anew when the object changed meanwhile, so often at most."""

Change = Callable[[Stored], Object]
"""From an object as it is to what it is to become. Must not change what it is given."""


@dataclass
class WriteOptions:
    """How a write is meant. ``warnings`` collects what the client is to be told."""

    dry_run: bool = False
    field_validation: FieldValidation = "Warn"
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Selection:
    """Which objects of a list or watch are wanted; both None: all."""

    labels: LabelSelector | None = None
    fields: FieldSelector | None = None

    @property
    def everything(self) -> bool:
        """Nothing is left out."""
        return self.labels is None and self.fields is None

    def __call__(self, value: Object) -> bool:
        """Whether the object is one of them."""
        if self.labels is not None and not self.labels.matches(value["metadata"].get("labels")):
            return False
        return self.fields is None or self.fields.matches(value)


def prefix_of(resource: Resource, namespace: str | None) -> str:
    """Where the store keeps the objects of a kind (in one namespace, or in all)."""
    return f"/registry/{resource.store_name}/{namespace}/" if namespace else f"/registry/{resource.store_name}/"


def key_of(resource: Resource, namespace: str | None, name: str) -> str:
    """Where the store keeps one object."""
    return (
        f"/registry/{resource.store_name}/{namespace}/{name}"
        if namespace
        else f"/registry/{resource.store_name}/{name}"
    )


class Registry:
    """The objects of one store. Several may work on one store, in one process or in many.

    All methods raise ApiError when they refuse, and StoreUnavailable; a refusal leaves the store as
    it was. Bodies that are handed in belong to the registry.
    """

    def __init__(self, store: Store, ranges: ServiceRanges, namespaces: Namespaces) -> None:
        self.store = store
        self.services = ServiceAllocator(store, ranges)
        self._namespaces = namespaces
        self._strategies = {resource.resource_name: strategy_of(resource) for resource in RESOURCES}

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Stored:
        """Read one object. Raises ApiError 404."""
        stored = await self.store.get(key_of(resource, namespace, name))
        if stored is None:
            raise ApiError.not_found(resource, name)
        return stored

    async def create(self, resource: Resource, namespace: str | None, body: Any, options: WriteOptions) -> Stored:
        """Make a new object; its name may be made from ``generateName``."""
        obj = check_type(resource, body)
        metadata = obj["metadata"]
        set_namespace(resource, metadata, namespace)
        generated = set_name(metadata)
        options.warnings += check(resource, obj, field_validation=options.field_validation)
        if namespace is not None:
            await self._namespaces.check_usable(resource, namespace, metadata["name"])
        strategy = self._strategies[resource.resource_name]
        begin(metadata, generation=strategy.counts_generations)
        strategy.prepare_create(obj)
        set_defaults(resource, obj)
        settlement = await self._settle(resource, obj, None, options)
        try:
            if options.dry_run:
                return await self._as_if_created(resource, namespace, obj)
            return await self._store_new(resource, namespace, obj, generated=generated)
        except StoreUnavailable:
            raise  # it may be stored all the same: what it has is taken back later, if it is not
        except BaseException:
            if settlement is not None:
                await settlement.undo()
            raise

    async def _store_new(self, resource: Resource, namespace: str | None, obj: Object, *, generated: bool) -> Stored:
        metadata = obj["metadata"]
        for left in range(_NAME_TRIES if generated else 1, 0, -1):
            try:
                return await self.store.create(key_of(resource, namespace, metadata["name"]), obj)
            except KeyExists:
                if left == 1:
                    break
                del metadata["name"]
                set_name(metadata)
        raise ApiError.already_exists(resource, metadata["name"])

    async def _as_if_created(self, resource: Resource, namespace: str | None, obj: Object) -> Stored:
        key = key_of(resource, namespace, obj["metadata"]["name"])
        if await self.store.get(key) is not None:
            raise ApiError.already_exists(resource, obj["metadata"]["name"])
        return Stored(key, obj, await self.store.revision())

    async def _settle(
        self, resource: Resource, new: Object, old: Object | None, options: WriteOptions
    ) -> Settlement | None:
        if resource.resource_name != "services":
            return None
        return await self.services.settle(new, old, trial=options.dry_run)

    async def update(
        self, resource: Resource, namespace: str | None, name: str, body: Any, options: WriteOptions, *, status: bool
    ) -> Stored:
        """Replace an object (or its status). Raises ApiError 409 when the body names another resourceVersion."""
        obj = check_type(resource, body)
        wanted = obj["metadata"].get("resourceVersion") or None
        first = True

        def change(current: Stored) -> Object:
            nonlocal first
            if wanted is not None and wanted != str(current.revision):
                raise ApiError.modified(resource, name)
            # Only a second attempt needs a fresh copy: what follows works in place.
            fresh, first = first, False
            return obj if fresh else Stored("", obj, 0).copy()

        return await self.modify(resource, namespace, name, change, options, status=status)

    async def modify(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        change: Change,
        options: WriteOptions,
        *,
        status: bool = False,
    ) -> Stored:
        """Change an object by a function, which is called again when the object changed meanwhile."""
        key = key_of(resource, namespace, name)
        for attempt in range(_WRITE_TRIES):
            current = await self.store.get(key)
            if current is None:
                raise ApiError.not_found(resource, name)
            changed = change(current)
            wanted = changed["metadata"].get("resourceVersion") or None
            if wanted is not None and wanted != str(current.revision):
                raise ApiError.modified(resource, name)
            try:
                return await self._write(resource, key, current, changed, options, status=status)
            except KeyMissing:
                raise ApiError.not_found(resource, name) from None
            except RevisionConflict:
                # The more writers there are, the less they are to meet again at once.
                await asyncio.sleep(0.001 * attempt)
        raise ApiError.modified(resource, name)

    async def rewrite(self, resource: Resource, namespace: str | None, name: str, change: Change) -> Stored:
        """Change an object as `modify` does, without the rules for clients' updates: for the server's own use."""
        key = key_of(resource, namespace, name)
        for attempt in range(_WRITE_TRIES):
            current = await self.get(resource, namespace, name)
            try:
                return await self.store.update(key, change(current), expected=current.revision)
            except KeyMissing:
                raise ApiError.not_found(resource, name) from None
            except RevisionConflict:
                await asyncio.sleep(0.001 * attempt)
        raise ApiError.modified(resource, name)

    async def _write(
        self, resource: Resource, key: str, current: Stored, new: Object, options: WriteOptions, *, status: bool
    ) -> Stored:
        old = current.value
        strategy = self._strategies[resource.resource_name]
        new = self._prepared(resource, strategy, old, new, options, status=status)
        if new == old:
            return current
        if may_go(resource, new):
            return current if options.dry_run else await self._remove(resource, current)
        settlement = None if status else await self._settle(resource, new, old, options)
        try:
            if options.dry_run:
                return Stored(key, new, current.revision)
            stored = await self.store.update(key, new, expected=current.revision)
        except StoreUnavailable:
            raise  # it may be stored all the same: what it has is taken back later, if it is not
        except BaseException:
            if settlement is not None:
                await settlement.undo()
            raise
        if settlement is not None:
            await settlement.finish()
        return stored

    def _prepared(
        self, resource: Resource, strategy: Strategy, old: Object, new: Object, options: WriteOptions, *, status: bool
    ) -> Object:
        """The new object as it would be stored."""
        check_type(resource, new)
        carry_over(resource, old["metadata"]["name"], old["metadata"], new["metadata"])
        if status:
            new = strategy.status_update(old, new)
            check(resource, new, field_validation=options.field_validation)
            return new
        strategy.prepare_update(old, new)
        options.warnings += check(resource, new, field_validation=options.field_validation)
        set_defaults(resource, new)
        check_update(resource, old, new)
        strategy.count_generation(old, new)
        return new

    async def delete(
        self, resource: Resource, namespace: str | None, name: str, options: DeleteOptions
    ) -> tuple[Stored, bool]:
        """Delete an object. Returns it as it is now (or was last), and whether it is gone."""
        key = key_of(resource, namespace, name)
        for attempt in range(_WRITE_TRIES):
            current = await self.store.get(key)
            if current is None:
                raise ApiError.not_found(resource, name)
            options.check(resource, current)
            kept = marked(resource, current.value, options)
            try:
                if options.dry_run:
                    return current, kept is None
                if kept is None:
                    return await self._remove(resource, current), True
                if kept is current.value:
                    return current, False
                stored = await self.store.update(key, kept, expected=current.revision)
                if resource.resource_name == "namespaces":
                    self._namespaces.forget(name)
                return stored, False
            except KeyMissing:
                raise ApiError.not_found(resource, name) from None
            except RevisionConflict:
                await asyncio.sleep(0.001 * attempt)
        raise ApiError.modified(resource, name)

    async def _remove(self, resource: Resource, current: Stored) -> Stored:
        gone = await self.store.delete(current.key, expected=current.revision)
        if resource.resource_name == "services":
            await self.services.release(current.value)
        return gone

    async def delete_all(
        self, resource: Resource, namespace: str | None, selection: Selection, options: DeleteOptions
    ) -> list[Stored]:
        """Delete all that are selected. Those that another deletes meanwhile are no error."""
        page = await self.store.list(prefix_of(resource, namespace))
        deleted: list[Stored] = []
        for number, item in enumerate(page.items):
            if number % _PAUSE_EVERY == 0:
                await asyncio.sleep(0)  # a store in memory never waits: others are to have their turn
            if not selection(item.value):
                continue
            metadata = item.value["metadata"]
            try:
                stored, _ = await self.delete(resource, metadata.get("namespace"), metadata["name"], options)
            except ApiError as refused:
                if refused.code != 404:
                    raise
            else:
                deleted.append(stored)
        return deleted
