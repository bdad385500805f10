"""What a store holds and what its watchers are told; each object's JSON is made once and shared by all readers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

Value = dict[str, Any]
"""An object as Kubernetes JSON."""


class Stored:
    """An object at one revision.

    ``value``, ``object`` and ``encoded`` are shared by everybody who reads this revision, now and
    later: nobody may change them. `copy` gives one's own.
    """

    __slots__ = ("_encoded", "_object", "key", "revision", "value")

    def __init__(self, key: str, value: Value, revision: int) -> None:
        self.key = key
        self.value = value
        """Without ``metadata.resourceVersion``."""
        self.revision = revision
        """The store's revision at which this was written (or, in a DELETE event, at which it was deleted)."""
        self._object: Value | None = None
        self._encoded: bytes | None = None

    @property
    def object(self) -> Value:
        """The object as clients see it: with ``metadata.resourceVersion``. Made once."""
        if self._object is None:
            metadata = {**self.value.get("metadata", {}), "resourceVersion": str(self.revision)}
            self._object = {**self.value, "metadata": metadata}
        return self._object

    @property
    def encoded(self) -> bytes:
        """The JSON text of `object`. Made once."""
        if self._encoded is None:
            self._encoded = orjson.dumps(self.object)
        return self._encoded

    def copy(self) -> Value:
        """A copy of `object` through and through, which the caller may change."""
        copied: Value = orjson.loads(self.encoded)
        return copied

    def __repr__(self) -> str:
        return f"Stored({self.key!r}, revision={self.revision})"


def without_revision(value: Mapping[str, Any]) -> Value:
    """The value as a store keeps it: ``metadata.resourceVersion`` is never part of it."""
    metadata = value.get("metadata")
    if isinstance(metadata, dict) and "resourceVersion" in metadata:
        return {**value, "metadata": {k: v for k, v in metadata.items() if k != "resourceVersion"}}
    return value if isinstance(value, dict) else dict(value)


@dataclass(frozen=True)
class StoreEvent:
    """One write. Of a DELETE, ``stored`` is the last value with the revision of the deletion."""

    type: Literal["PUT", "DELETE"]
    stored: Stored
    previous: Stored | None
    """What was there before; None when the key was new."""

    @property
    def revision(self) -> int:
        """The store's revision that this write made."""
        return self.stored.revision


@dataclass(frozen=True)
class Progress:
    """Everything up to this revision that concerns the watch has been delivered (a bookmark can say so)."""

    revision: int
