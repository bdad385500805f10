"""Configurations for plugins that are known by their type, each ready for a throw-away host.

uplink0 (a veth end with 10.89.0.1/24) is the master of what needs one; 10.88.0.0/24 is the containers' network
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mininetes.testbed.cni_check.rule import Kind

SUBNET = "10.88.0.0/24"
DNS = {"nameservers": ["10.88.0.1"], "search": ["check.test"]}


def addresses(kind: str) -> dict[str, Any]:
    """An address plugin's section, with a default route."""
    return {"type": kind, "ranges": [[{"subnet": SUBNET}]], "routes": [{"dst": "0.0.0.0/0"}]}


@dataclass(frozen=True)
class Template:
    """A plugin's configuration, what goes before it in a chain, and what the kernel must have for it."""

    kind: Kind
    plugin: Mapping[str, Any]
    behind: Sequence[Mapping[str, Any]] = ()
    features: tuple[str, ...] = ()
    ifname: str = "eth0"
    needs: str = field(default="", metadata={"doc": "what no throw-away host has: refused, with this text"})


def _interface(address_plugin: str, features: tuple[str, ...] = (), **plugin: Any) -> Template:
    return Template("interface", {**plugin, "ipam": addresses(address_plugin), "dns": DNS}, features=features)


def _bridge(kind: str, address_plugin: str) -> dict[str, Any]:
    options = {"bridge": "cni0", "isGateway": True, "hairpinMode": True}
    return {"type": kind, **options, "ipam": addresses(address_plugin)}


REFERENCE_FIRST = [_bridge("bridge", "host-local")]


def _chained(*features: str, **plugin: Any) -> Template:
    return Template("chained", plugin, REFERENCE_FIRST, features)


_BRIDGE: dict[str, Any] = {"bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipMasq": True}

TEMPLATES: Mapping[str, Template] = {
    "bash-bridge": _interface("bash-host-local", **_BRIDGE),
    "bash-macvlan": _interface("bash-host-local", ("macvlan",), master="uplink0", mode="bridge"),
    "bash-ipvlan": _interface("bash-host-local", ("ipvlan",), master="uplink0", mode="l2"),
    "bash-host-local": Template("ipam", {"type": "bash-bridge", "ipam": addresses("bash-host-local")}),
    "bridge": _interface("host-local", **_BRIDGE),
    "ptp": _interface("host-local", ipMasq=True),
    "macvlan": _interface("host-local", ("macvlan",), master="uplink0", mode="bridge"),
    "ipvlan": _interface("host-local", ("ipvlan",), master="uplink0", mode="l2"),
    "host-local": Template("ipam", {"type": "bridge", "ipam": addresses("host-local")}),
    "static": Template(
        "ipam",
        {
            "type": "bridge",
            "ipam": {"type": "static", "addresses": [{"address": "10.88.0.9/24", "gateway": "10.88.0.1"}]},
        },
    ),
    "portmap": _chained(capabilities={"portMappings": True}),
    "bandwidth": _chained("ifb", capabilities={"bandwidth": True}),
    "firewall": _chained(),
    "tuning": _chained(sysctl={"net.ipv4.conf.all.log_martians": "1"}),
    "sbr": _chained(),
    "loopback": Template("chained", {}, ifname="lo"),
    "dhcp": Template("ipam", {}, needs="a DHCP server and its daemon"),
    "bash-weave-ipam": Template("ipam", {}, needs="the agent of the fabric weave"),
    "weave": Template("interface", {}, needs="the agent of the fabric weave"),
    "host-device": Template("interface", {}, needs="a device of the host for each container"),
    "vlan": Template("interface", {}, needs="a VLAN for each container"),
    "vrf": Template("chained", {}, needs="the kernel's VRF devices"),
}
