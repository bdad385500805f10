"""KubeProxyConfiguration: kube-proxy's settings under its own field names, with its defaults (v1alpha1 of 1.30)."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Mapping
from ipaddress import IPv4Network, ip_address
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, ValidationError, field_validator

from mininetes.agents.kubeproxy.durations import seconds
from mininetes.errors import BadInput
from mininetes.spec_sections import Described

Mode = Literal["iptables", "nftables", "ipvs", "userspace"]
MODES: tuple[Mode, ...] = ("iptables", "nftables", "ipvs", "userspace")
DEFAULT_MODE: Mode = "iptables"
DetectLocalMode = Literal["", "ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"]
Scheduler = Literal["", "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "mh"]

_LONGEST_INTERFACE = 15


def _network(value: object) -> str:
    """A network with its prefix; without one, or with a mask, kube-proxy does not take it either."""
    if isinstance(value, str) and ":" in value:
        raise ValueError("an IPv4 network: IPv6 is not supported yet")
    text = str(value)
    try:
        found = str(IPv4Network(text))
    except ValueError:
        raise ValueError("an IPv4 network such as 10.244.0.0/16") from None
    if not _has_prefix(text):
        raise ValueError(f"a network with its prefix, such as {found}")
    return found


def _has_prefix(text: str) -> bool:
    return text.partition("/")[2].isdecimal()


def _loose_network(value: object) -> str:
    """A network that may be said by any address in it, as kube-proxy takes it: 192.168.1.11/24."""
    text = str(value)
    if isinstance(value, str) and ":" not in text and _has_prefix(text):
        with contextlib.suppress(ValueError):
            return str(IPv4Network(text, strict=False))
    return _network(value)


def _port_range(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(_PORT_RANGE)
    port_range(value)
    return value


_PORT_RANGE = "two ports, such as 30000-30100 or 30000+100"


def port_range(text: str) -> range:
    """The ports of ``portRange``; an empty one means any. Raises ValueError."""
    if text in ("", "0-0"):
        return range(0)
    for sign in "-+":
        first, found, last = text.partition(sign)
        if found and first.isdecimal() and last.isdecimal():
            end = int(last) if sign == "-" else int(first) + int(last)
            if 1 <= int(first) <= end <= 65535:
                return range(int(first), end + 1)
    raise ValueError(_PORT_RANGE)


def _optional_network(value: object) -> str:
    return "" if value in ("", None) else _network(value)


def _endpoint(value: object) -> str:
    """Check an ADDRESS:PORT to serve at."""
    address, colon, port = str(value).rpartition(":")
    try:
        if not colon or not 1 <= int(port) <= 65535 or ip_address(address).version != 4:
            raise ValueError
    except ValueError:
        raise ValueError("an IPv4 address and a port, such as 127.0.0.1:10249") from None
    return str(value)


def _interface(value: object) -> object:
    if isinstance(value, str) and len(value) > _LONGEST_INTERFACE:
        raise ValueError(f"an interface name of at most {_LONGEST_INTERFACE} characters")
    return value


Seconds = Annotated[float, BeforeValidator(seconds)]
Bit = Annotated[StrictInt, Field(ge=0, le=31)]
Network = Annotated[str, BeforeValidator(_network)]
OptionalNetwork = Annotated[str, BeforeValidator(_optional_network)]
LooseNetwork = Annotated[str, BeforeValidator(_loose_network)]
PortRange = Annotated[str, BeforeValidator(_port_range)]
Served = Annotated[str, BeforeValidator(_endpoint)]
Interface = Annotated[str, BeforeValidator(_interface)]


class SyncSettings(Described):
    """How often a mode writes rules: all every ``sync_period`` (s), changes at most every ``min_sync_period`` (s)."""

    sync_period: Seconds = 30.0
    min_sync_period: Seconds = 1.0


class IptablesSettings(SyncSettings):
    """Of mode iptables (and userspace). ``masquerade_bit`` is the bit of the packet mark that asks for SNAT."""

    masquerade_bit: Bit = 14
    masquerade_all: StrictBool = False
    localhost_node_ports: StrictBool = True


class NftablesSettings(SyncSettings):
    """Of mode nftables."""

    masquerade_bit: Bit = 14
    masquerade_all: StrictBool = False


class IpvsSettings(SyncSettings):
    """Of mode ipvs. Timeouts in seconds; 0 leaves the kernel's."""

    min_sync_period: Seconds = 0.0
    scheduler: Scheduler = "rr"
    exclude_cidrs: tuple[LooseNetwork, ...] = Field(default=(), alias="excludeCIDRs")
    strict_arp: StrictBool = Field(default=False, alias="strictARP")
    tcp_timeout: Seconds = 0.0
    tcp_fin_timeout: Seconds = 0.0
    udp_timeout: Seconds = 0.0


class DetectLocal(Described):
    """What the detect-local modes BridgeInterface and InterfaceNamePrefix go by."""

    bridge_interface: Interface = ""
    interface_name_prefix: Interface = ""


class ConntrackSettings(Described):
    """Connection tracking in the node's namespace. Timeouts in seconds; 0 leaves the kernel's value."""

    max_per_core: StrictInt = Field(default=32768, ge=0)
    min: StrictInt = Field(default=131072, ge=0)
    tcp_established_timeout: Seconds = 86400.0
    tcp_close_wait_timeout: Seconds = 3600.0
    tcp_be_liberal: StrictBool = False
    udp_timeout: Seconds = 0.0
    udp_stream_timeout: Seconds = 0.0


class KubeProxyConfig(Described):
    """All settings. Those of real files that mean nothing here are in `NO_EFFECT` and are taken off before.

    ``bind_address`` has no effect either, but must be IPv4: nodes have one address each, which is their InternalIP.
    """

    mode: Literal["", "iptables", "nftables", "ipvs", "userspace"] = ""
    cluster_cidr: OptionalNetwork = Field(default="", alias="clusterCIDR")
    detect_local_mode: DetectLocalMode = ""
    detect_local: DetectLocal = DetectLocal()
    iptables: IptablesSettings = IptablesSettings()
    nftables: NftablesSettings = NftablesSettings()
    ipvs: IpvsSettings = IpvsSettings()
    node_port_addresses: tuple[LooseNetwork, ...] = ()
    conntrack: ConntrackSettings = ConntrackSettings()
    bind_address: str = "0.0.0.0"  # noqa: S104 - kube-proxy's default
    healthz_bind_address: Served = "0.0.0.0:10256"
    metrics_bind_address: Served = "127.0.0.1:10249"
    udp_idle_timeout: Seconds = 0.25
    port_range: PortRange = ""

    @field_validator("bind_address")
    @classmethod
    def _ipv4(cls, value: str) -> str:
        try:
            if ip_address(value).version != 4:
                raise ValueError
        except ValueError:
            raise ValueError("an IPv4 address; IPv6 is not supported yet") from None
        return value

    def sync_settings(self, mode: Mode) -> SyncSettings:
        """The periods of a mode. The userspace mode used those of iptables."""
        return {"nftables": self.nftables, "ipvs": self.ipvs}.get(mode, self.iptables)

    def masquerade_all(self, mode: Mode) -> bool:
        """Whether all traffic to services is masqueraded. ipvs takes iptables' setting, as kube-proxy does."""
        return self.nftables.masquerade_all if mode == "nftables" else self.iptables.masquerade_all

    def masquerade_mark(self, mode: Mode) -> int:
        """The packet mark that asks for masquerading."""
        return 1 << (self.nftables.masquerade_bit if mode == "nftables" else self.iptables.masquerade_bit)


NO_EFFECT = frozenset(
    {
        "apiVersion", "kind", "metadata", "clientConnection", "logging", "hostnameOverride", "oomScoreAdj",
        "enableProfiling", "configSyncPeriod", "bindAddressHardFail", "showHiddenMetricsForVersion",
        "featureGates", "winkernel", "healthzPort", "windowsRunAsService",
    }
)  # fmt: skip
"""Fields of real configuration files that concern the process or Windows, not what it does to packets."""


def kube_proxy_config(values: Mapping[str, Any], *, place: str = "spec.proxy.config") -> KubeProxyConfig:
    """Check a configuration as a file has it. Raises BadInput that names the field; unknown fields are refused.

    ``place``: where it is, before the names of its fields; "" when these say enough.
    """
    before = f"{place}." if place else ""
    try:
        config = KubeProxyConfig.model_validate(_without_defaults(values))
    except ValidationError as wrong:
        raise _say(wrong.errors()[0], before) from None
    local, mode = config.detect_local, config.detect_local_mode
    for wanted, field, name in (
        ("BridgeInterface", "bridgeInterface", local.bridge_interface),
        ("InterfaceNamePrefix", "interfaceNamePrefix", local.interface_name_prefix),
    ):
        if mode == wanted and not name:
            raise BadInput(f"{before}detectLocal.{field}", None, f"needed with detectLocalMode {mode}")
    settings: tuple[tuple[str, SyncSettings], ...] = (
        ("iptables", config.iptables), ("nftables", config.nftables), ("ipvs", config.ipvs),
    )  # fmt: skip
    for name, periods in settings:
        if periods.sync_period < periods.min_sync_period:
            right = f"at least {name}.minSyncPeriod, which is {periods.min_sync_period:g}s"
            raise BadInput(f"{before}{name}.syncPeriod", f"{periods.sync_period:g}s", right)
    return config


def _without_defaults(values: Mapping[str, Any], inside: str = "") -> dict[str, Any]:
    """Leave out what has no effect, and what stands for the default in files that kubeadm writes: null, "", 0s.

    minSyncPeriod is not among them: 0s is taken at its word, and means not to wait.
    """
    kept: dict[str, Any] = {}
    for key, value in values.items():
        if (not inside and key in NO_EFFECT) or value is None:
            continue
        if key == "syncPeriod" and value in ("0s", "0", 0):
            continue
        if key.endswith("BindAddress") or key == "bindAddress":
            if value != "":
                kept[key] = value
        else:
            kept[key] = _without_defaults(value, key) if isinstance(value, Mapping) else value
    return kept


def _known(location: tuple[Any, ...]) -> list[str]:
    model: Any = KubeProxyConfig
    for part in location:
        for name, field in model.model_fields.items():
            if part in (name, field.alias):
                model = field.annotation
    fields = getattr(model, "model_fields", {})
    return [field.alias or name for name, field in fields.items()]


_RIGHT = {
    "tuple_type": "a list, such as [a, b]",
    "model_type": "a mapping, such as {key: value}",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "string_type": "text",
    "less_than_equal": "at most %(le)s",
    "greater_than_equal": "at least %(ge)s",
}
"""What would be right, by pydantic's names of what is wrong."""


def _say(problem: Mapping[str, Any], before: str) -> BadInput:
    location, value = problem["loc"], problem["input"]
    field = before + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    if problem["type"] == "extra_forbidden":
        known = _known(location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
        return BadInput(field, None, f"unknown key; {hint}")
    said, context = str(problem["msg"]).removeprefix("Value error, "), problem.get("ctx", {})
    right = _RIGHT[problem["type"]] % context if problem["type"] in _RIGHT else said[0].lower() + said[1:]
    if problem["type"] == "literal_error":
        right = "one of " + ", ".join(filter(None, re.findall(r"'(\w*)'", context["expected"])))
    return BadInput(field, str(value) if isinstance(value, (dict, list)) else value, right)
