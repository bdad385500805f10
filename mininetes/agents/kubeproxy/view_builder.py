"""From Service, EndpointSlice and Node objects to a node's view, kept up to date object by object.

What does not depend on the node is made once in a process (`Catalogue`), for all of its kube-proxies.
"""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from typing import Any

from mininetes.agents.kubeproxy.configuration import KubeProxyConfig, Mode
from mininetes.agents.kubeproxy.port_groups import PortGroups
from mininetes.agents.kubeproxy.services import (
    Endpoints,
    ServicePort,
    endpoints_by_port,
    key_of,
    service_ports,
)
from mininetes.agents.kubeproxy.view import LocalTraffic, NodeView, PortTraffic, traffic_to
from mininetes.agents.objects import SERVICE_NAME
from mininetes.errors import BadInput

ZONE_LABEL = "topology.kubernetes.io/zone"
_LOOPBACK = "127.0.0.1"
_EVERYTHING = "0.0.0.0/0"
_MANY = 1000
_pausing = threading.Lock()
_paused: list[bool] = []
"""For each thread that has the collection paused now: whether it was enabled."""


@dataclass(frozen=True)
class NodeFacts:
    """A node: its name, InternalIP, zone, pod network ("" unknown), and its addresses but for loopback."""

    name: str
    address: str
    zone: str = ""
    pod_cidr: str = ""
    addresses: tuple[str, ...] = ()


def node_facts(node: Mapping[str, Any], addresses: Iterable[str] | None = None) -> NodeFacts:
    """What a Node object says; ``addresses`` are those that the node really has, where they are known.

    Raises BadInput when it has no IPv4 InternalIP.
    """
    metadata, status = node["metadata"], node.get("status") or {}
    internal = [
        each["address"]
        for each in status.get("addresses") or ()
        if each.get("type") == "InternalIP" and ":" not in each["address"]
    ]
    if not internal:
        raise BadInput(f"node {metadata['name']}: status.addresses", None, "an InternalIP (IPv4) is needed")
    networks = [each for each in (node.get("spec") or {}).get("podCIDRs") or () if ":" not in each]
    return NodeFacts(
        metadata["name"],
        internal[0],
        (metadata.get("labels") or {}).get(ZONE_LABEL, ""),
        networks[0] if networks else (node.get("spec") or {}).get("podCIDR") or "",
        tuple(internal if addresses is None else addresses),
    )


class ServiceState:
    """One service with its endpoints, the same for all nodes. ``error`` says why it cannot be proxied, if so."""

    def __init__(self, service: Mapping[str, Any], slices: list[Mapping[str, Any]]) -> None:
        self.error = ""
        self.ports: tuple[tuple[ServicePort, Endpoints], ...] = ()
        self._shared: dict[ServicePort, PortTraffic] = {}
        try:
            ports = service_ports(service)
            found = endpoints_by_port(slices) if ports else {}
            self.ports = tuple((port, found.get((port.port_name, port.protocol), Endpoints())) for port in ports)
        except BadInput as wrong:
            self.error = str(wrong)

    def traffic(self, node: str, zone: str) -> tuple[PortTraffic, ...]:
        """Its ports as that node sees them."""
        made = []
        for port, endpoints in self.ports:
            traffic = self._shared.get(port)
            if traffic is None:
                traffic, by_node = traffic_to(port, endpoints.seen_from(node), node, zone)
                if not (by_node or endpoints.by_node):
                    self._shared[port] = traffic
            made.append(traffic)
        return tuple(made)


@dataclass(frozen=True)
class Change:
    """The ports of a service before and after: empty where there was, or is, none."""

    before: tuple[PortTraffic, ...]
    after: tuple[PortTraffic, ...]


class Catalogue:
    """The service states of a process, by the versions of the objects that they are made from."""

    def __init__(self) -> None:
        self._states: weakref.WeakValueDictionary[tuple[Any, ...], ServiceState] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()

    def state(self, service: Mapping[str, Any], slices: list[Mapping[str, Any]]) -> ServiceState:
        """The state of a service; objects without a resource version are not shared."""
        versions = [
            (each["metadata"].get("uid"), each["metadata"].get("resourceVersion")) for each in (service, *slices)
        ]
        if not all(version for _, version in versions):
            return ServiceState(service, slices)
        key = (key_of(service), *versions)
        with self._lock:
            state = self._states.get(key)
            if state is None:
                state = self._states[key] = ServiceState(service, slices)
        return state


@contextlib.contextmanager
def garbage_later() -> Iterator[None]:
    """No garbage collection meanwhile: what is made stays, and looking through it takes half the time."""
    with _pausing:
        _paused.append(gc.isenabled())
        gc.disable()
    try:
        yield
    finally:
        with _pausing:
            enabled = _paused.pop()
            if _paused:  # others, in threads of their own; the last one enables it again
                _paused[0] = _paused[0] or enabled
            elif enabled:
                gc.enable()


class ViewBuilder:
    """The view of one node. Objects may be set from one thread while another one makes views.

    ``refused(key, why)`` is told of services that cannot be proxied.
    """

    def __init__(
        self,
        node: NodeFacts,
        mode: Mode,
        config: KubeProxyConfig,
        *,
        catalogue: Catalogue | None = None,
        refused: Callable[[str, str], None] = lambda key, why: None,
    ) -> None:
        self.node, self.mode, self.config = node, mode, config
        self._catalogue = catalogue or Catalogue()
        self._refused = refused
        self._services: dict[str, Mapping[str, Any]] = {}
        self._slices: dict[str, dict[str, Mapping[str, Any]]] = {}
        self._states: dict[str, ServiceState] = {}
        self._traffic = PortGroups()
        self._stale: set[str] = set()
        self._lock = threading.Lock()

    def set_node(self, node: NodeFacts) -> bool:
        """Take over what the node is now; True when that changes anything."""
        if node == self.node:
            return False
        with self._lock:
            if (node.name, node.zone) != (self.node.name, self.node.zone):
                self._stale |= set(self._services)
            self.node = node
        return True

    def set_addresses(self, addresses: tuple[str, ...]) -> None:
        """Take over the addresses that the node has now."""
        with self._lock:
            self.node = replace(self.node, addresses=addresses)

    def set_service(self, key: str, service: Mapping[str, Any] | None) -> None:
        """Take over a service as it is now; None: it is gone."""
        with self._lock:
            if service is None:
                self._services.pop(key, None)
            else:
                self._services[key] = service
            self._stale.add(key)

    def set_slice(self, key: str, of: Mapping[str, Any] | None, old: Mapping[str, Any] | None = None) -> None:
        """Take over an endpoint slice as it is now (``old``: as it was); None: it is gone."""
        with self._lock:
            for each in (old, of):
                name = each and (each["metadata"].get("labels") or {}).get(SERVICE_NAME)
                if each is None or not name:
                    continue
                service = f"{key.partition('/')[0]}/{name}"
                slices = self._slices.setdefault(service, {})
                slices.pop(key, None)
                if each is of:
                    slices[key] = of
                elif not slices:
                    del self._slices[service]
                self._stale.add(service)

    def refresh(self) -> dict[str, Change]:
        """Work out what changed since the last call: services by key, with their ports before and after."""
        with self._lock:
            stale, self._stale = self._stale, set()
            node = self.node
        changes: dict[str, Change] = {}
        with garbage_later() if len(stale) >= _MANY else contextlib.nullcontext():
            for key in sorted(stale):
                before, after = self._traffic.get(key), self._now(key, node)
                self._traffic.put(key, after)
                if before or after:
                    changes[key] = Change(before, after)
        return changes

    def _now(self, key: str, node: NodeFacts) -> tuple[PortTraffic, ...]:
        with self._lock:
            service = self._services.get(key)
            slices = [each for _, each in sorted(self._slices.get(key, {}).items())]
        if service is None:
            self._states.pop(key, None)
            return ()
        state = self._states[key] = self._catalogue.state(service, slices)
        if state.error:
            self._refused(key, state.error)
        return state.traffic(node.name, node.zone)

    def view(self, proxy_ports: Mapping[tuple[str, str], int] | None = None) -> NodeView:
        """The view as of the last refresh. ``proxy_ports`` (mode userspace): where the process listens."""
        networks, node = self.config.node_port_addresses, self.node
        everywhere = _EVERYTHING in networks or (not networks and self.mode != "nftables")
        return NodeView(
            node=node.name,
            address=node.address,
            masquerade_mark=self.config.masquerade_mark(self.mode),
            masquerade_all=self.config.masquerade_all(self.mode),
            local_traffic=local_traffic(self.config, node),
            node_ports_everywhere=everywhere,
            node_port_ips=_within(networks, node, primary_only=self.mode == "nftables"),
            local_addresses=node.addresses,
            localhost_node_ports=self.config.iptables.localhost_node_ports
            and (everywhere or any(map(_is_of_loopback, networks))),
            drop_invalid=not self.config.conntrack.tcp_be_liberal,
            scheduler=self.config.ipvs.scheduler or "rr",
            groups=self._traffic.groups(),
            proxy_ports=tuple((name, protocol, port) for (name, protocol), port in sorted((proxy_ports or {}).items())),
        )


def _is_of_loopback(network: str) -> bool:
    """Whether it begins with loopback addresses, or has 127.0.0.0 in it (NodePortAddresses.ContainsIPv4Loopback)."""
    found = IPv4Network(network)
    return found.network_address.is_loopback or IPv4Network("127.0.0.0/32").subnet_of(found)


def _held(networks: Iterable[str], addresses: Iterable[str]) -> tuple[str, ...]:
    found = [IPv4Network(each) for each in networks]
    return tuple(ip for ip in addresses if any(IPv4Network(ip).subnet_of(network) for network in found))


def _within(networks: tuple[str, ...], node: NodeFacts, *, primary_only: bool) -> tuple[str, ...]:
    """The node's addresses that take node ports; without a wish all, or in mode nftables the primary one."""
    if not networks:
        return (node.address,) if primary_only else node.addresses
    return _held(networks, (_LOOPBACK, *sorted(set(node.addresses), key=lambda ip: tuple(map(int, ip.split("."))))))


def local_traffic(config: KubeProxyConfig, node: NodeFacts) -> LocalTraffic:
    """How this node's pods are told from others, by the detect-local mode."""
    mode = config.detect_local_mode or "ClusterCIDR"
    by, value = {
        "ClusterCIDR": ("network", config.cluster_cidr),
        "NodeCIDR": ("network", node.pod_cidr),
        "BridgeInterface": ("bridge", config.detect_local.bridge_interface),
        "InterfaceNamePrefix": ("prefix", config.detect_local.interface_name_prefix),
    }[mode]
    return LocalTraffic(by, value) if value else LocalTraffic()
