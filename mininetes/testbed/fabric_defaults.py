"""What a fabric decides where the description is silent: the pods' network, and how pods are attached. Pure."""

from __future__ import annotations

from ipaddress import IPv4Network
from types import ModuleType

from mininetes import parts
from mininetes.agents.cni.configuration import NetworkConfiguration
from mininetes.errors import BadInput
from mininetes.spec import ClusterSpec


def with_fabric_defaults(spec: ClusterSpec) -> ClusterSpec:
    """The description with its fabric's POD_NETWORK and CNI, where it names none itself; else the same.

    May be called again. Raises BadInput for a fabric that is not there, or whose POD_NETWORK is no network.
    """
    if not spec.fabric.name:
        return spec
    module = parts.load("fabric", spec.fabric.name, "spec.fabric.name")
    update: dict[str, object] = {}
    network = _network(module, spec.fabric.name)
    if network is not None and "pods" not in spec.network.model_fields_set:
        update["network"] = spec.network.model_copy(update={"pods": network})
    conflist = getattr(module, "CNI", None)
    if conflist is not None and "cni" not in spec.model_fields_set:
        update["cni"] = str(conflist)
    return spec.model_copy(update=update) if update else spec


def check_bridge(spec: ClusterSpec, configuration: NetworkConfiguration) -> None:
    """Raises BadInput when the fabric carries what is on its own bridge, and the configuration puts pods elsewhere."""
    if not spec.fabric.name:
        return
    bridge = getattr(parts.load("fabric", spec.fabric.name), "BRIDGE", None)
    first = configuration.plugins[0]
    if bridge is not None and first.get("bridge") != bridge:
        right = f"a configuration whose plugin has the bridge {bridge!r}: fabric {spec.fabric.name} carries that alone"
        found = first.get("bridge", f"a pod's link by {first['type']}")
        raise BadInput(f"spec.cni: {spec.cni}: bridge", found, right)


def _network(module: ModuleType, name: str) -> IPv4Network | None:
    text = getattr(module, "POD_NETWORK", None)
    try:
        return IPv4Network(text) if text is not None else None
    except ValueError:
        raise BadInput(f"fabric {name}: POD_NETWORK", text, "an IPv4 network such as 10.32.0.0/12") from None
