"""Objects, lists and watch events as the bytes of an answer, in the form that was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

import orjson

from mininetes.apiserver.event_groups import from_stored, stored_resource
from mininetes.apiserver.metadata import utc_now
from mininetes.apiserver.requests import Form
from mininetes.apiserver.resources import Resource
from mininetes.apiserver.store import Stored
from mininetes.apiserver.tables import table

_ROWS = 200
"""So many rows of a table are made in one go."""

IncludeObject = Literal["Metadata", "Object", "None"]


class Rendering:
    """Turns stored objects of one resource into bytes. What is stored as it is shown is encoded once for all."""

    def __init__(self, resource: Resource, form: Form, include_object: IncludeObject = "Metadata") -> None:
        self.resource = resource
        self._form = form
        self._include = include_object
        self._as_stored = not form.kind and stored_resource(resource) is resource
        self._columns_sent = False

    def one(self, stored: Stored) -> bytes:
        """One object."""
        if self._as_stored:
            return stored.encoded
        if self._form.kind == "Table":
            shown = self._table([stored], {"resourceVersion": str(stored.revision)}, with_columns=True)
            return orjson.dumps(shown)
        return orjson.dumps(self._shown(from_stored(self.resource, stored.object)))

    async def many(self, items: Sequence[Stored], metadata: dict[str, Any]) -> bytes:
        """A list with this metadata (resourceVersion, continue, remainingItemCount)."""
        if self._form.kind == "Table":
            return await self._large_table(items, metadata)
        kind, version = self.resource.list_kind, self.resource.api_version
        if self._form.kind:
            kind, version = "PartialObjectMetadataList", f"meta.k8s.io/{self._form.version}"
        parts = [item.encoded for item in items] if self._as_stored else [self.one(item) for item in items]
        head = orjson.dumps({"kind": kind, "apiVersion": version, "metadata": metadata})
        return b"".join((head[:-1], b',"items":[', b",".join(parts), b"]}"))

    def event(self, kind: str, stored: Stored) -> bytes:
        """A line of a watch: what happened, and the object. Of tables only the first one has the columns."""
        if self._form.kind == "Table":
            metadata = {"resourceVersion": str(stored.revision)}
            shown = orjson.dumps(self._table([stored], metadata, with_columns=not self._columns_sent))
            self._columns_sent = True
        else:
            shown = stored.encoded if self._as_stored else self.one(stored)
        return b'{"type":"%b","object":%b}\n' % (kind.encode(), shown)

    def bookmark(self, revision: int, *, initial_end: bool = False) -> bytes:
        """The line that says how far the watch has come."""
        metadata: dict[str, Any] = {"resourceVersion": str(revision), "creationTimestamp": None}
        if initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        kind, version = self.resource.kind, self.resource.api_version
        if self._form.kind == "Table":
            kind, version = "Table", f"meta.k8s.io/{self._form.version}"
            metadata.pop("creationTimestamp")
        elif self._form.kind:
            kind, version = "PartialObjectMetadata", f"meta.k8s.io/{self._form.version}"
        shown: dict[str, Any] = {"kind": kind, "apiVersion": version, "metadata": metadata}
        if self._form.kind == "Table":
            shown |= {"columnDefinitions": None, "rows": []}
        return orjson.dumps({"type": "BOOKMARK", "object": shown}) + b"\n"

    async def _large_table(self, items: Sequence[Stored], metadata: dict[str, Any]) -> bytes:
        """A table of any length, without holding the loop: a row takes 50 us."""
        whole = self._table(items[:_ROWS], metadata, with_columns=True)
        for start in range(_ROWS, len(items), _ROWS):
            await asyncio.sleep(0)
            whole["rows"] += self._table(items[start : start + _ROWS], metadata, with_columns=False)["rows"]
        return orjson.dumps(whole)

    def _table(self, items: Sequence[Stored], metadata: dict[str, Any], *, with_columns: bool) -> dict[str, Any]:
        shown = table(
            self.resource,
            [from_stored(self.resource, item.object) for item in items],
            now=utc_now(),
            include_object=self._include,
            with_columns=with_columns,
            list_metadata=metadata,
        )
        shown["apiVersion"] = f"meta.k8s.io/{self._form.version}"
        return shown

    def _shown(self, obj: dict[str, Any]) -> dict[str, Any]:
        if not self._form.kind:
            return obj
        version = f"meta.k8s.io/{self._form.version}"
        return {"kind": "PartialObjectMetadata", "apiVersion": version, "metadata": obj["metadata"]}
