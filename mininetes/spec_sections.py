"""The sections of a cluster's description, each as its part of a cluster file has it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, StrictInt, WithJsonSchema
from pydantic.alias_generators import to_camel

from mininetes.addressing import LOAD_BALANCERS, NODE_PREFIX, NODES, PODS, SERVICES

Role = Literal["control-plane", "worker"]

HOST_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LAB_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
LAB_NAME_RIGHT = "up to 40 lower-case letters, digits and '-', starting and ending without '-'"

MOST_NODES = 5000
"""As many as Kubernetes itself is made for; what addresses there are for them is asked later."""

DRIVERS = ("bridge", "macvlan", "ipvlan", "overlay")
"""Of container networks that a file can ask for."""

_OCTET = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
ADDRESS_PATTERN = rf"^({_OCTET}\.){{3}}{_OCTET}$"
NETWORK_PATTERN = rf"^({_OCTET}\.){{3}}{_OCTET}/(3[0-2]|[12]?\d)$"
"""What editors can see of a network; that its host bits are zero is no matter of patterns."""


class Described(BaseModel):
    """The rules that all parts of a description share: frozen, camelCase in files, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


def _network(value: object) -> object:
    if not isinstance(value, (str, IPv4Network)):
        raise ValueError("an IPv4 network such as 10.0.0.0/16")
    if isinstance(value, str) and ":" in value:
        raise ValueError("an IPv4 network: IPv6 is not supported yet")
    if isinstance(value, str):
        try:
            return IPv4Network(value)
        except ValueError:
            pass
        try:
            raise ValueError(f"a network address with its prefix: {IPv4Network(value, strict=False)} holds it")
        except ValueError as wrong:
            if "prefix:" in str(wrong):
                raise
            raise ValueError("an IPv4 network such as 10.0.0.0/16") from None
    return value


Network4 = Annotated[
    IPv4Network,
    BeforeValidator(_network),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": NETWORK_PATTERN}),
]


def _address(value: object) -> object:
    if isinstance(value, str) and ":" in value:
        raise ValueError("an IPv4 address: IPv6 is not supported yet")
    if isinstance(value, str):
        try:
            return IPv4Address(value)
        except ValueError:
            pass
    if not isinstance(value, IPv4Address):
        raise ValueError("an IPv4 address such as 172.20.0.1")
    return value


Address4 = Annotated[
    IPv4Address,
    BeforeValidator(_address),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": ADDRESS_PATTERN}),
]


LABEL_VALUE_PATTERN = "^(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?$"
LABEL_KEY_PATTERN = "^([a-z0-9][-a-z0-9.]*/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$"
"""For editors; what is checked are the rules in field_rules, which have words for what is wrong."""

LabelValue = Annotated[str, WithJsonSchema({"type": "string", "pattern": LABEL_VALUE_PATTERN})]


class NodeSpec(Described):
    """One node: ``name`` is a host name; ``zone`` and ``labels`` become node labels."""

    name: str
    role: Role = "worker"
    zone: LabelValue | None = None
    labels: dict[str, LabelValue] = Field(
        default_factory=dict, json_schema_extra={"propertyNames": {"pattern": LABEL_KEY_PATTERN}}
    )


class NodeCounts(Described):
    """Nodes by number; they are called node1, node2, ..., the control plane first."""

    workers: StrictInt = Field(default=2, ge=0, le=MOST_NODES)
    control_plane: StrictInt = Field(default=1, ge=0, le=MOST_NODES)


class NetworkSpec(Described):
    """The address ranges."""

    nodes: Network4 = NODES
    pods: Network4 = PODS
    node_prefix: StrictInt = Field(default=NODE_PREFIX, json_schema_extra={"minimum": 1, "maximum": 30})
    services: Network4 = SERVICES
    node_ports: str = Field(default="30000-32767", json_schema_extra={"pattern": r"^\d{1,5}-\d{1,5}$"})
    load_balancers: Network4 = LOAD_BALANCERS


class PartSpec(Described):
    """A part (underlay or fabric) by name or path, with its parameters."""

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)


def part_from_name(value: object) -> object:
    """A part's name alone stands for the section."""
    return {"name": value} if isinstance(value, str) else value


_NO_LABEL = re.compile(r"[^a-z0-9]+")
_LONGEST_AGENT = 40
_TAKEN_AGENTS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubelet",
    "weave",
)


def agent_name(argv: Sequence[str], role: str) -> str:
    """What an outside program is called among a node's agents: a DNS label, as its pod's container is named so.

    That is the file's name without its ending; ``role`` goes before one that an agent of ours has.
    """
    name = _NO_LABEL.sub("-", Path(argv[0]).stem.lower()).strip("-")[:_LONGEST_AGENT].strip("-") or "program"
    return f"{role}-{name}" if name in _TAKEN_AGENTS else name


class FabricSpec(PartSpec):
    """How pods' packets cross nodes: a part, or with ``exec`` an outside program (argv) on each node instead.

    With ``repair: false`` what somebody changes by hand stays as it is, and is only reported.
    """

    name: str = ""
    exec: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    repair: bool = True

    @property
    def title(self) -> str:
        """What people call it: its name, or its program's."""
        return self.name or agent_name(self.exec, "fabric")


PartField = Annotated[PartSpec, BeforeValidator(part_from_name)]
"""A part in a file: a mapping, or its name alone."""


def fabric_from_name(value: object) -> object:
    """A fabric's name alone stands for the section; without a name or a program it is static."""
    if isinstance(value, Mapping) and not {"name", "exec"} & set(value):
        return {"name": "static", **value}
    return part_from_name(value)


FabricField = Annotated[FabricSpec, BeforeValidator(fabric_from_name)]
"""The fabric in a file: a mapping, or its name alone."""


class PodsSpec(Described):
    """Ready-made responder pods: how many on each node, and the ports on which they answer.

    ``hold``: what keeps a pod's network namespace, a pause process, or a bind mount (lighter, for scale).
    """

    per_node: StrictInt = Field(default=4, ge=0)
    port: StrictInt = Field(default=8080, ge=1, le=65535)
    hold: Literal["pause", "mount"] = "pause"


class ControlPlaneSpec(Described):
    """The control plane: where its objects are kept, and on how many nodes it runs.

    ``none`` leaves it out: a network with ready-made pods and nothing else. ``replicas`` is the number
    of API servers (and etcd members); without it, each control-plane node has one. A node that has
    not renewed its lease for ``node_grace_seconds`` is no longer ready (kube-controller-manager's
    ``--node-monitor-grace-period``); its kubelet renews four times as often.
    """

    store: Literal["memory", "etcd", "none"] = "memory"
    replicas: StrictInt | None = Field(default=None, ge=1, le=MOST_NODES)
    node_grace_seconds: float = Field(default=40.0, ge=1.0, le=3600.0)


class ProxySpec(Described):
    """kube-proxy: its mode, the iptables back end (the system's when not given), and its own configuration fields.

    Without a mode it is the configuration's, else iptables. With ``exec`` an outside program (argv) runs on each
    node instead.
    """

    mode: str = ""
    backend: Literal["nft", "legacy"] | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    exec: tuple[Annotated[str, Field(min_length=1)], ...] = ()

    @property
    def title(self) -> str:
        """What its agent and its log are called: kube-proxy, or as the outside program."""
        if not self.exec or Path(self.exec[0]).name == "kube-proxy":
            return "kube-proxy"
        return agent_name(self.exec, "proxy")


def proxy_from_mode(value: object) -> object:
    """A proxy's mode alone stands for the section; a program without a word is none."""
    if isinstance(value, Mapping) and list(value) == ["exec"] and not value["exec"]:
        raise ValueError("exec needs a program: [PROGRAM, ARGUMENT, ...]")
    return {"mode": value} if isinstance(value, str) else value


ProxyField = Annotated[ProxySpec, BeforeValidator(proxy_from_mode)]
"""kube-proxy in a file: a mapping, or its mode alone."""


class LoggingSpec(Described):
    """Where each node's agents write their logs, and how much: ``-v`` levels, one for all or by component."""

    directory: str = Field(default="/var/log", json_schema_extra={"pattern": "^/var/log(/[^/]+)*$"})
    level: StrictInt = Field(default=2, ge=0, le=10)
    levels: dict[str, Annotated[StrictInt, Field(ge=0, le=10)]] = Field(default_factory=dict)


class OutsideSpec(Described):
    """Clients outside the cluster, behind the underlay's gateway."""

    clients: StrictInt = Field(default=1, ge=0, le=120)


class ContainerNetworkSpec(Described):
    """A container network, in Docker's words: of one ``node``, or for the driver overlay across ``nodes`` (none: all).

    What is not said is chosen: of ``subnet`` the next that is free, or for macvlan and ipvlan in mode l2 the network
    of their parent. ``options`` are the driver's.
    """

    name: str
    driver: str = Field(default="bridge", json_schema_extra={"enum": list(DRIVERS)})
    node: str | None = None
    nodes: tuple[str, ...] = ()
    subnet: Network4 | None = None
    ip_range: Network4 | None = None
    gateway: Address4 | None = None
    options: dict[str, str] = Field(default_factory=dict)


class ContainerSpec(Described):
    """A plain container: a namespace on a node in which the responder answers at ``port``, joined to ``networks``.

    ``publish`` is Docker's -p: HOST_PORT:PORT, with /udp where it is meant.
    """

    name: str
    node: str | None = None
    networks: tuple[str, ...] = ("bridge",)
    port: StrictInt = Field(default=8080, ge=1, le=65535)
    publish: tuple[str, ...] = ()


def numbered(counts: NodeCounts) -> tuple[NodeSpec, ...]:
    """Nodes by number, as named nodes."""
    total = counts.control_plane + counts.workers
    return tuple(
        NodeSpec(name=f"node{number}", role="control-plane" if number <= counts.control_plane else "worker")
        for number in range(1, total + 1)
    )
