"""What the known plugins take in their configurations, as data: what is wrong is found before a node has it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from mininetes.agents.cni.configuration import LEAST_MTU, MOST_MTU, NetworkConfiguration
from mininetes.errors import BadInput

KERNEL_FEATURES = {
    "macvlan": "macvlan", "bash-macvlan": "macvlan", "ipvlan": "ipvlan", "bash-ipvlan": "ipvlan", "dummy": "dummy",
    "tap": "tun",
}  # fmt: skip
"""What of the kernel's a plugin makes its interfaces of, by the plugin's name."""

_INTERFACE = re.compile(r"[^\s/:]{1,15}")
_MACVLAN = ("bridge", "private", "vepa", "passthru")
_IPVLAN = ("l2", "l3", "l3s")
_MODES = {"macvlan": _MACVLAN, "bash-macvlan": _MACVLAN, "ipvlan": _IPVLAN, "bash-ipvlan": _IPVLAN}
_BRIDGE_FLAGS = ("isGateway", "isDefaultGateway", "forceAddress", "ipMasq", "hairpinMode", "promiscMode")
_FLAGS = {"bridge": _BRIDGE_FLAGS, "bash-bridge": _BRIDGE_FLAGS, "ptp": ("ipMasq",), "portmap": ("snat",)}
_INTERFACES = {
    "bridge": ("bridge",), "bash-bridge": ("bridge",), "macvlan": ("master",), "bash-macvlan": ("master",),
    "ipvlan": ("master",), "bash-ipvlan": ("master",), "vlan": ("master",),
}  # fmt: skip


def kernel_features(configuration: NetworkConfiguration) -> set[str]:
    """The features of the kernel that the configuration's plugins cannot do without."""
    return {KERNEL_FEATURES[kind] for kind in configuration.types if kind in KERNEL_FEATURES}


def kind_on_the_wire(configuration: NetworkConfiguration) -> str:
    """macvlan or ipvlan where pods' links are of that kind, which a node and its own pods do not cross; else ""."""
    kind = KERNEL_FEATURES.get(str(configuration.plugins[0]["type"]), "")
    return kind if kind in ("macvlan", "ipvlan") else ""


def check_values(configuration: NetworkConfiguration, source: str) -> None:
    """Raises BadInput for a value that a known plugin refuses, or an MTU that no IPv4 link can have.

    Placeholders are to be filled in before. Of plugins that are not known only the MTU is looked at.
    """
    for index, plugin in enumerate(configuration.plugins):
        where, kind = f"{source}: plugins[{index}]", str(plugin["type"])
        _check(plugin, ("mtu",), where, _is_mtu, f"a whole number from {LEAST_MTU} to {MOST_MTU}")
        right = "an interface's name: 1 to 15 characters, no '/', ':' or white space"
        _check(plugin, _INTERFACES.get(kind, ()), where, _is_interface, right)
        _check(plugin, _FLAGS.get(kind, ()), where, lambda value: isinstance(value, bool), "true or false")
        modes = _MODES.get(kind, ())
        _check(plugin, ("mode",) if modes else (), where, modes.__contains__, "one of " + ", ".join(modes))


def _check(
    plugin: Mapping[str, Any], fields: tuple[str, ...], where: str, is_right: Callable[[Any], bool], right: str
) -> None:
    for field in fields:
        if field in plugin and not is_right(plugin[field]):
            raise BadInput(f"{where}.{field}", plugin[field], right)


def _is_mtu(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and (value == 0 or LEAST_MTU <= value <= MOST_MTU)


def _is_interface(value: object) -> bool:
    """An empty one means the plugin's own choice."""
    return isinstance(value, str) and (not value or (bool(_INTERFACE.fullmatch(value)) and value not in (".", "..")))
