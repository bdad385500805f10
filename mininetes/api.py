"""What parts may import of the engine: fabrics, proxy modes and experiments find all they need here.

Names are loaded when they are first used, so that a fabric does not wait for an experiment's libraries.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mininetes.addressing import AddressPlan
    from mininetes.agents.kubeproxy.rulesets import (
        ChainPart,
        Chains,
        IptablesRuleset,
        IpvsRuleset,
        Jump,
        Listener,
        NftablesRuleset,
        NftContainer,
        UserspaceRuleset,
        VirtualServer,
    )
    from mininetes.agents.kubeproxy.services import Endpoint, ServicePort
    from mininetes.agents.kubeproxy.view import Fate, LocalTraffic, NodeView, PortGroup, PortTraffic, once
    from mininetes.errors import BadInput
    from mininetes.experiments import (
        claims,
        figures,
        first_packets,
        grouping,
        lab_memory,
        loads,
        loads_paths,
        loads_services,
        mishaps,
        outages,
        pod_starts,
        service_state,
        statistics,
    )
    from mininetes.experiments.lab import Lab
    from mininetes.experiments.published import Published, Verdict
    from mininetes.experiments.results import Measurement, Row
    from mininetes.kernel.netstate import Chain, FdbEntry, Hop, Neighbour, NetState, Route, Vxlan
    from mininetes.probes.pacing import Pacing
    from mininetes.probes.vantage import Flow
    from mininetes.spec import ClusterSpec
    from mininetes.testbed.fabric import FabricNode, FabricPlan, FabricView
    from mininetes.testbed.fabric_flannel import flannel_plan

__all__ = [
    "AddressPlan",
    "BadInput",
    "Chain",
    "ChainPart",
    "Chains",
    "ClusterSpec",
    "Endpoint",
    "FabricNode",
    "FabricPlan",
    "FabricView",
    "Fate",
    "FdbEntry",
    "Flow",
    "Hop",
    "IptablesRuleset",
    "IpvsRuleset",
    "Jump",
    "Lab",
    "Listener",
    "LocalTraffic",
    "Measurement",
    "Neighbour",
    "NetState",
    "NftContainer",
    "NftablesRuleset",
    "NodeView",
    "Pacing",
    "PortGroup",
    "PortTraffic",
    "Published",
    "Route",
    "Row",
    "ServicePort",
    "UserspaceRuleset",
    "Verdict",
    "VirtualServer",
    "Vxlan",
    "claims",
    "figures",
    "first_packets",
    "flannel_plan",
    "grouping",
    "lab_memory",
    "loads",
    "loads_paths",
    "loads_services",
    "mishaps",
    "once",
    "outages",
    "pod_starts",
    "service_state",
    "statistics",
]

_FROM = {
    "AddressPlan": "mininetes.addressing",
    "BadInput": "mininetes.errors",
    "Chain": "mininetes.kernel.netstate",
    "ClusterSpec": "mininetes.spec",
    "Endpoint": "mininetes.agents.kubeproxy.services",
    "FabricNode": "mininetes.testbed.fabric",
    "FabricPlan": "mininetes.testbed.fabric",
    "FabricView": "mininetes.testbed.fabric",
    "Fate": "mininetes.agents.kubeproxy.view",
    "FdbEntry": "mininetes.kernel.netstate",
    "Flow": "mininetes.probes.vantage",
    "Hop": "mininetes.kernel.netstate",
    "ChainPart": "mininetes.agents.kubeproxy.rulesets",
    "Chains": "mininetes.agents.kubeproxy.rulesets",
    "IptablesRuleset": "mininetes.agents.kubeproxy.rulesets",
    "IpvsRuleset": "mininetes.agents.kubeproxy.rulesets",
    "Jump": "mininetes.agents.kubeproxy.rulesets",
    "Lab": "mininetes.experiments.lab",
    "Listener": "mininetes.agents.kubeproxy.rulesets",
    "LocalTraffic": "mininetes.agents.kubeproxy.view",
    "Measurement": "mininetes.experiments.results",
    "Neighbour": "mininetes.kernel.netstate",
    "NetState": "mininetes.kernel.netstate",
    "NftContainer": "mininetes.agents.kubeproxy.rulesets",
    "NftablesRuleset": "mininetes.agents.kubeproxy.rulesets",
    "NodeView": "mininetes.agents.kubeproxy.view",
    "Pacing": "mininetes.probes.pacing",
    "PortGroup": "mininetes.agents.kubeproxy.view",
    "PortTraffic": "mininetes.agents.kubeproxy.view",
    "Published": "mininetes.experiments.published",
    "Route": "mininetes.kernel.netstate",
    "Row": "mininetes.experiments.results",
    "ServicePort": "mininetes.agents.kubeproxy.services",
    "UserspaceRuleset": "mininetes.agents.kubeproxy.rulesets",
    "Verdict": "mininetes.experiments.published",
    "VirtualServer": "mininetes.agents.kubeproxy.rulesets",
    "Vxlan": "mininetes.kernel.netstate",
    "claims": "mininetes.experiments",
    "figures": "mininetes.experiments",
    "first_packets": "mininetes.experiments",
    "flannel_plan": "mininetes.testbed.fabric_flannel",
    "grouping": "mininetes.experiments",
    "lab_memory": "mininetes.experiments",
    "loads": "mininetes.experiments",
    "loads_paths": "mininetes.experiments",
    "loads_services": "mininetes.experiments",
    "mishaps": "mininetes.experiments",
    "once": "mininetes.agents.kubeproxy.view",
    "outages": "mininetes.experiments",
    "pod_starts": "mininetes.experiments",
    "service_state": "mininetes.experiments",
    "statistics": "mininetes.experiments",
}


def __getattr__(name: str) -> Any:
    if name not in _FROM:
        raise AttributeError(f"mininetes.api has no {name!r}; it has {', '.join(__all__)}")
    module = importlib.import_module(_FROM[name])
    return getattr(module, name) if hasattr(module, name) else importlib.import_module(f"{_FROM[name]}.{name}")
