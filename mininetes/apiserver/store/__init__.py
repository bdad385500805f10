"""Where the API server keeps its objects: one interface, in memory or in a real etcd, with watch.

store = MemoryStore()
made = await store.create("/registry/pods/default/a", pod)
page = await store.list("/registry/pods/", limit=500)
async for batch in store.watch("/registry/pods/", after=page.revision): ...
"""

from mininetes.apiserver.store.etcd_store import EtcdStore, connector_in
from mininetes.apiserver.store.interface import (
    Compacted,
    FutureRevision,
    KeyExists,
    KeyMissing,
    Overrun,
    Page,
    RevisionConflict,
    Store,
    StoreError,
    StoreUnavailable,
)
from mininetes.apiserver.store.memory import MemoryStore
from mininetes.apiserver.store.stored import Progress, Stored, StoreEvent
from mininetes.apiserver.store.watching import Batch, Watch

__all__ = [
    "Batch",
    "Compacted",
    "EtcdStore",
    "FutureRevision",
    "KeyExists",
    "KeyMissing",
    "MemoryStore",
    "Overrun",
    "Page",
    "Progress",
    "RevisionConflict",
    "Store",
    "StoreError",
    "StoreEvent",
    "StoreUnavailable",
    "Stored",
    "Watch",
    "connector_in",
]
