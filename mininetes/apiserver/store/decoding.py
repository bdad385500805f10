"""Objects as they lie in etcd, decoded once for each revision."""

from __future__ import annotations

from typing import Any

import orjson

from mininetes.apiserver.store.gateway import from_base64
from mininetes.apiserver.store.interface import StoreError
from mininetes.apiserver.store.stored import Stored


class Decoded:
    """The latest known revision of each object, so that reads, writes and events share one `Stored` (and its JSON)."""

    def __init__(self) -> None:
        self._known: dict[str, Stored] = {}

    def stored(self, pair: dict[str, Any]) -> Stored:
        """What a key-value pair of etcd holds. Raises StoreError when that is no JSON object."""
        key = from_base64(pair["key"]).decode(errors="replace")
        revision = int(pair["mod_revision"])
        known = self._known.get(key)
        if known is not None and known.revision == revision:
            return known
        try:
            value = orjson.loads(from_base64(pair.get("value", "")))
        except orjson.JSONDecodeError:
            value = None
        if not isinstance(value, dict):
            raise StoreError(f"etcd: {key}: revision {revision} is no JSON object; delete it with etcdctl")
        return Stored(key, value, revision)

    def remember(self, stored: Stored) -> None:
        """Keep an object that is there now; an older revision of it is forgotten."""
        known = self._known.get(stored.key)
        if known is None or known.revision < stored.revision:
            self._known[stored.key] = stored

    def forget(self, key: str) -> None:
        """The object is gone."""
        self._known.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        self._known.clear()
