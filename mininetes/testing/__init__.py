"""Testing a CNI plugin, proxy or application of one's own on an emulated cluster (see docs/testing-your-own.md).

The types of the fixtures, for annotations; each is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mininetes.testing.cluster import Cluster, Place
    from mininetes.testing.probing import Answer, Probe
    from mininetes.testing.sandbox import Sandbox

__all__ = ["Answer", "Cluster", "Place", "Probe", "Sandbox"]

_FROM = {"Answer": "probing", "Cluster": "cluster", "Place": "cluster", "Probe": "probing", "Sandbox": "sandbox"}


def __getattr__(name: str) -> Any:
    if name not in _FROM:
        raise AttributeError(f"mininetes.testing has no {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"mininetes.testing.{_FROM[name]}"), name)
