"""What kube-proxy takes from Service and EndpointSlice objects: service ports and endpoints.

By the rules of kube-proxy 1.30 (pkg/proxy/serviceport.go, endpointslicecache.go): which services are
proxied at all, which addresses count, how conditions that are left out are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network
from typing import Any, NamedTuple

from mininetes.errors import BadInput

OTHER_PROXY_LABEL = "service.kubernetes.io/service-proxy-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"
PROXIED = f"!{OTHER_PROXY_LABEL},!{HEADLESS_LABEL}"
"""The label selector with which kube-proxy watches services and endpoint slices."""

_HINTS = ("service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode")
"""The older annotation goes first, also when it is empty."""
_NO_HINTS = frozenset({"", "disabled", "Disabled"})
_PROTOCOLS = frozenset({"TCP", "UDP", "SCTP"})
_AFFINITY_S = 10800


class ServicePort(NamedTuple):
    """One port of one service. ``affinity_s`` is how long a client keeps its endpoint, 0 without affinity.

    ``hints``: the service asks for endpoints of the client's zone. ``health_check_node_port`` and
    ``node_port`` are 0 where there is none. ``protocol`` is in lower case.
    """

    namespace: str
    service: str
    port_name: str
    protocol: str
    cluster_ip: str
    port: int
    node_port: int = 0
    external_ips: tuple[str, ...] = ()
    load_balancer_ips: tuple[str, ...] = ()
    source_ranges: tuple[str, ...] = ()
    health_check_node_port: int = 0
    internal_local: bool = False
    external_local: bool = False
    affinity_s: int = 0
    hints: bool = False

    @property
    def name(self) -> str:
        """As kube-proxy calls it in comments and logs: ``namespace/service:port``, without ``:`` for an unnamed one."""
        colon = f":{self.port_name}" if self.port_name else ""
        return f"{self.namespace}/{self.service}{colon}"

    @property
    def externally_accessible(self) -> bool:
        """Whether it has an address besides the cluster IP."""
        return bool(self.node_port or self.load_balancer_ips or self.external_ips)

    @property
    def uses_cluster_endpoints(self) -> bool:
        """Whether some traffic may go to endpoints anywhere; external Local policies short-circuit to them."""
        return not self.internal_local or self.externally_accessible

    @property
    def uses_local_endpoints(self) -> bool:
        """Whether some traffic may go to this node's endpoints only."""
        return self.internal_local or (self.external_local and self.externally_accessible)

    def allows(self, address: str) -> bool:
        """Whether the source ranges have that address."""
        return any(_holds(network, address) for network in self.source_ranges)


class Endpoint(NamedTuple):
    """An address and port behind a service port, with its node ("" unknown), conditions and zone hints."""

    address: str
    port: int
    node: str = ""
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zones: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


PortKey = tuple[str, str]
"""A service port within its service: port name and protocol (lower case)."""


def _holds(network: str, address: str) -> bool:
    return IPv4Network(f"{address}/32").subnet_of(IPv4Network(network))


def _ipv4(addresses: Iterable[Any]) -> tuple[str, ...]:
    return tuple(str(address) for address in addresses if address and ":" not in str(address))


def key_of(obj: Mapping[str, Any]) -> str:
    """``namespace/name`` of an object; no namespace means default."""
    metadata = obj["metadata"]
    return f"{metadata.get('namespace') or 'default'}/{metadata['name']}"


def is_proxied(service: Mapping[str, Any]) -> bool:
    """Whether kube-proxy writes rules for it: headless ones, ExternalName and those of other proxies are left out."""
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName" or spec.get("clusterIP") in (None, "", "None"):
        return False
    return is_watched(service)


def is_watched(obj: Mapping[str, Any]) -> bool:
    """Whether kube-proxy's watch has that Service or EndpointSlice (`PROXIED`)."""
    labels = obj["metadata"].get("labels") or {}
    return OTHER_PROXY_LABEL not in labels and HEADLESS_LABEL not in labels


def service_ports(service: Mapping[str, Any]) -> tuple[ServicePort, ...]:
    """The ports of a service that are to be proxied; none for those which are not. Raises BadInput.

    A service whose cluster IP is IPv6 is refused by name; other IPv6 addresses of a service are left out. Of files with
    dual-stack services dual_stack.py takes the IPv4 half before.
    """
    if not is_proxied(service):
        return ()
    key, spec, metadata = key_of(service), service["spec"], service["metadata"]
    place = f"service {key}: spec"
    cluster_ip = str(spec["clusterIP"])
    if ":" in cluster_ip:
        raise BadInput(f"{place}.clusterIP", cluster_ip, "an IPv4 address: IPv6 services are not supported yet")
    annotations = metadata.get("annotations") or {}
    hints = next((annotations[name] for name in _HINTS if name in annotations), "")
    reached_from_outside = spec.get("type") in ("NodePort", "LoadBalancer") or bool(spec.get("externalIPs"))
    external_local = spec.get("externalTrafficPolicy") == "Local" and reached_from_outside
    common: dict[str, Any] = {
        "cluster_ip": cluster_ip,
        "external_ips": _ipv4(spec.get("externalIPs") or ()),
        "load_balancer_ips": _load_balancer_ips(service),
        "source_ranges": _source_ranges(spec, place),
        "health_check_node_port": (
            int(spec.get("healthCheckNodePort") or 0) if external_local and spec.get("type") == "LoadBalancer" else 0
        ),
        "internal_local": spec.get("internalTrafficPolicy") == "Local",
        "external_local": external_local,
        "affinity_s": _affinity_s(spec),
        "hints": hints not in _NO_HINTS,
    }
    namespace, _, name = key.partition("/")
    return tuple(
        ServicePort(
            namespace,
            name,
            port.get("name") or "",
            _protocol(port, place),
            port=int(port["port"]),
            node_port=int(port.get("nodePort") or 0),
            **common,
        )
        for port in spec.get("ports") or ()
    )


def _protocol(port: Mapping[str, Any], place: str) -> str:
    protocol = port.get("protocol") or "TCP"
    if protocol not in _PROTOCOLS:
        raise BadInput(f"{place}.ports: protocol", protocol, "TCP, UDP or SCTP")
    return str(protocol).lower()


def _affinity_s(spec: Mapping[str, Any]) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    settings = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return int(settings.get("timeoutSeconds") or _AFFINITY_S)


def _source_ranges(spec: Mapping[str, Any], place: str) -> tuple[str, ...]:
    found = []
    for text in spec.get("loadBalancerSourceRanges") or ():
        if ":" in text:
            continue
        try:
            found.append(str(IPv4Network(text.strip(), strict=False)))
        except ValueError:
            raise BadInput(f"{place}.loadBalancerSourceRanges", text, "networks such as 203.0.113.0/24") from None
    return tuple(found)


def _load_balancer_ips(service: Mapping[str, Any]) -> tuple[str, ...]:
    """The load balancer's addresses, but for those whose traffic is to pass the balancer itself (``ipMode: Proxy``)."""
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return _ipv4(each.get("ip") for each in ingress if each.get("ipMode") in (None, "VIP"))


class Endpoints(NamedTuple):
    """The endpoints of a service port, each ``address:port`` once, sorted as text.

    What slices say twice is taken from the first of them, by name; but a node prefers what puts the endpoint on itself
    (endpointslicecache.go, addEndpoints). ``by_node``: all of them, for each node that sees any otherwise.
    """

    everywhere: tuple[Endpoint, ...] = ()
    by_node: Mapping[str, tuple[Endpoint, ...]] = {}

    def seen_from(self, node: str) -> tuple[Endpoint, ...]:
        """As that node takes them."""
        return self.by_node.get(node, self.everywhere)


def endpoints_by_port(slices: Iterable[Mapping[str, Any]]) -> dict[PortKey, Endpoints]:
    """The endpoints of one service's slices, by port name and protocol."""
    found: dict[PortKey, dict[str, Endpoint]] = {}
    own: dict[PortKey, dict[str, dict[str, Endpoint]]] = {}
    for each in sorted(slices, key=key_of):
        if each.get("addressType", "IPv4") != "IPv4":
            continue
        for port in each.get("ports") or ():
            if port.get("name") is None or not port.get("port"):
                continue
            key = port["name"], (port.get("protocol") or "TCP").lower()
            named = found.setdefault(key, {})
            for endpoint in each.get("endpoints") or ():
                made = _endpoint(endpoint, int(port["port"]))
                if made is None:
                    continue
                text = str(made)
                if named.setdefault(text, made) is not made and made.node:
                    own.setdefault(key, {}).setdefault(made.node, {})[text] = made
    return {
        key: Endpoints(_sorted(named), {node: _sorted({**named, **mine}) for node, mine in own.get(key, {}).items()})
        for key, named in found.items()
    }


def _sorted(named: Mapping[str, Endpoint]) -> tuple[Endpoint, ...]:
    return tuple(named[text] for text in sorted(named))


def _endpoint(endpoint: Mapping[str, Any], port: int) -> Endpoint | None:
    addresses = endpoint.get("addresses") or ()
    if not addresses or ":" in addresses[0]:
        return None
    conditions = endpoint.get("conditions") or {}
    hints = (endpoint.get("hints") or {}).get("forZones") or ()
    return Endpoint(
        addresses[0],
        port,
        endpoint.get("nodeName") or "",
        ready=conditions.get("ready") is not False,
        serving=conditions.get("serving") is not False,
        terminating=conditions.get("terminating") is True,
        zones=frozenset(zone["name"] for zone in hints),
    )
