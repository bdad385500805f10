"""What parts may import of the engine: fabrics, proxy modes and experiments find all they need here.

Names are loaded when they are first used, so that a fabric does not wait for an experiment's libraries.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mininetes.addressing import AddressPlan
    from mininetes.errors import BadInput
    from mininetes.experiments import figures
    from mininetes.experiments.lab import Lab
    from mininetes.experiments.results import Measurement, Row
    from mininetes.kernel.netstate import Hop, NetState, Route
    from mininetes.probes.pacing import Pacing
    from mininetes.spec import ClusterSpec
    from mininetes.testbed.fabric import FabricNode, FabricView

__all__ = [
    "AddressPlan",
    "BadInput",
    "ClusterSpec",
    "FabricNode",
    "FabricView",
    "Hop",
    "Lab",
    "Measurement",
    "NetState",
    "Pacing",
    "Route",
    "Row",
    "figures",
]

_FROM = {
    "AddressPlan": "mininetes.addressing",
    "BadInput": "mininetes.errors",
    "ClusterSpec": "mininetes.spec",
    "FabricNode": "mininetes.testbed.fabric",
    "FabricView": "mininetes.testbed.fabric",
    "Hop": "mininetes.kernel.netstate",
    "Lab": "mininetes.experiments.lab",
    "Measurement": "mininetes.experiments.results",
    "NetState": "mininetes.kernel.netstate",
    "Pacing": "mininetes.probes.pacing",
    "Route": "mininetes.kernel.netstate",
    "Row": "mininetes.experiments.results",
    "figures": "mininetes.experiments",
}


def __getattr__(name: str) -> Any:
    if name not in _FROM:
        raise AttributeError(f"mininetes.api has no {name!r}; it has {', '.join(__all__)}")
    module = importlib.import_module(_FROM[name])
    return getattr(module, name) if hasattr(module, name) else importlib.import_module(f"{_FROM[name]}.{name}")
