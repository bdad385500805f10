"""Rules for services, endpoints and endpoint slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mininetes.apiserver.container_rules import PROTOCOLS
from mininetes.apiserver.metadata_rules import check_labels
from mininetes.apiserver.problems import Problems
from mininetes.field_rules import (
    IPV6_REFUSED,
    dns_label_problem,
    dns_subdomain_problem,
    endpoint_ip_problem,
    ipv4_network_problem,
    ipv4_problem,
    port_name_problem,
    port_problem,
    qualified_name_problem,
)

Object = Mapping[str, Any]
_TYPES: Final = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_POLICIES: Final = ("Cluster", "Local")
_LONGEST_AFFINITY_S: Final = 86_400
_MOST_ENDPOINTS: Final = 1000
_MOST_ADDRESSES: Final = 100
_MOST_SLICE_PORTS: Final = 20_000


def check_service(service: Object, problems: Problems) -> None:
    """A service."""
    spec = service.get("spec") or {}
    kind = spec.get("type", "ClusterIP")
    problems.unsupported("spec.type", kind, _TYPES)
    check_labels(spec.get("selector"), "spec.selector", problems)
    headless = spec.get("clusterIP") == "None" or spec.get("clusterIPs") == ["None"]
    if not spec.get("ports") and not headless and kind != "ExternalName":
        problems.required("spec.ports")
    if headless and kind in ("NodePort", "LoadBalancer"):
        problems.invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services")
    _check_ports(spec.get("ports") or (), kind, problems)
    _check_addresses(spec, kind, problems)
    _check_families(spec, problems)
    _check_affinity(spec, problems)
    _check_traffic(spec, kind, problems)
    _check_balancer(spec, kind, problems)


def _check_ports(ports: Sequence[Object], kind: str, problems: Problems) -> None:
    for at, port in enumerate(ports):
        where = f"spec.ports[{at}]"
        name = port.get("name")
        if name:
            problems.invalid(f"{where}.name", name, dns_label_problem(name))
        elif len(ports) > 1:
            problems.required(f"{where}.name")
        number = port.get("port", 0)
        problems.invalid(f"{where}.port", number, port_problem(number))
        if (protocol := port.get("protocol")) is not None:
            problems.unsupported(f"{where}.protocol", protocol, PROTOCOLS)
        if target := port.get("targetPort"):
            problem = port_name_problem(target) if isinstance(target, str) else port_problem(target)
            problems.invalid(f"{where}.targetPort", target, problem)
        if application := port.get("appProtocol"):
            problems.invalid(f"{where}.appProtocol", application, qualified_name_problem(application))
        if node_port := port.get("nodePort"):
            if kind in ("ClusterIP", "ExternalName"):
                problems.forbidden(f"{where}.nodePort", f"may not be used when `type` is '{kind}'")
            problems.invalid(f"{where}.nodePort", node_port, port_problem(node_port))
    protocols = [each.get("protocol", "TCP") for each in ports]
    problems.unique("spec.ports", (each.get("name") or None for each in ports), ".name")
    node_ports = [
        (p.get("nodePort"), kind) if p.get("nodePort") else None for p, kind in zip(ports, protocols, strict=True)
    ]
    _refuse_twins("spec.ports", node_ports, ".nodePort", problems)
    _refuse_twins("spec.ports", [(p.get("port"), kind) for p, kind in zip(ports, protocols, strict=True)], "", problems)


def _refuse_twins(field: str, keys: Sequence[tuple[Any, str] | None], inner: str, problems: Problems) -> None:
    """Number and protocol together may come only once."""
    seen = set()
    for at, key in enumerate(keys):
        if key is not None and key in seen:
            problems.duplicate(f"{field}[{at}]{inner}", key[0] if inner else {"protocol": key[1], "port": key[0]})
        seen.add(key)


def _check_addresses(spec: Object, kind: str, problems: Problems) -> None:
    address, addresses = spec.get("clusterIP", ""), spec.get("clusterIPs") or []
    if kind == "ExternalName":
        if address or addresses:
            problems.forbidden("spec.clusterIPs", "may not be set for ExternalName services")
        name = spec.get("externalName", "")
        if not name:
            problems.required("spec.externalName")
        else:
            problems.invalid("spec.externalName", name, dns_subdomain_problem(name.removesuffix(".").lower()))
        return
    for at, each in enumerate(addresses):
        if each != "None":
            problems.invalid(f"spec.clusterIPs[{at}]", each, ipv4_problem(each))
    if len(addresses) > 1:
        problems.invalid("spec.clusterIPs", addresses, f"one address is what there can be: {IPV6_REFUSED}")
    if addresses and address and addresses[0] != address:
        problems.invalid("spec.clusterIPs", addresses, "element [0] must match clusterIP")
    if address and address != "None" and not addresses:
        problems.invalid("spec.clusterIP", address, ipv4_problem(address))
    for at, each in enumerate(spec.get("externalIPs") or ()):
        problems.invalid(f"spec.externalIPs[{at}]", each, endpoint_ip_problem(each))


def _check_families(spec: Object, problems: Problems) -> None:
    for at, family in enumerate(spec.get("ipFamilies") or ()):
        if family == "IPv6":
            problems.invalid(f"spec.ipFamilies[{at}]", family, IPV6_REFUSED)
        else:
            problems.unsupported(f"spec.ipFamilies[{at}]", family, ("IPv4",))
    policy = spec.get("ipFamilyPolicy")
    if policy == "RequireDualStack":
        problems.invalid("spec.ipFamilyPolicy", policy, f"two families cannot be had: {IPV6_REFUSED}")
    elif policy is not None:
        problems.unsupported("spec.ipFamilyPolicy", policy, ("SingleStack", "PreferDualStack"))


def _check_affinity(spec: Object, problems: Problems) -> None:
    affinity = spec.get("sessionAffinity")
    if affinity:
        problems.unsupported("spec.sessionAffinity", affinity, ("ClientIP", "None"))
    timeout = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    if timeout is not None and not 0 < timeout <= _LONGEST_AFFINITY_S:
        field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        problems.invalid(field, timeout, f"must be greater than 0 and less than {_LONGEST_AFFINITY_S}")
    if timeout is not None and affinity in (None, "None"):
        problems.forbidden("spec.sessionAffinityConfig", "must not be set when session affinity is None")


def _check_traffic(spec: Object, kind: str, problems: Problems) -> None:
    external = spec.get("externalTrafficPolicy")
    reachable = kind in ("NodePort", "LoadBalancer") or bool(spec.get("externalIPs"))
    if external and not reachable:
        why = "may only be set for externally-accessible services"
        problems.invalid("spec.externalTrafficPolicy", external, why)
    elif external:
        problems.unsupported("spec.externalTrafficPolicy", external, _POLICIES)
    if internal := spec.get("internalTrafficPolicy"):
        problems.unsupported("spec.internalTrafficPolicy", internal, _POLICIES)
    if health := spec.get("healthCheckNodePort"):
        if kind != "LoadBalancer" or external != "Local":
            why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
            problems.invalid("spec.healthCheckNodePort", health, why)
        else:
            problems.invalid("spec.healthCheckNodePort", health, port_problem(health))
    if distribution := spec.get("trafficDistribution"):
        problems.unsupported("spec.trafficDistribution", distribution, ("PreferClose",))


def _check_balancer(spec: Object, kind: str, problems: Problems) -> None:
    ranges = spec.get("loadBalancerSourceRanges") or ()
    if ranges and kind != "LoadBalancer":
        problems.forbidden("spec.LoadBalancerSourceRanges", "may only be used when `type` is 'LoadBalancer'")
    for at, each in enumerate(ranges):
        problems.invalid(f"spec.loadBalancerSourceRanges[{at}]", each, ipv4_network_problem(each.strip()))
    for field in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
        if spec.get(field) is not None and kind != "LoadBalancer":
            problems.forbidden(f"spec.{field}", "may only be used when `type` is 'LoadBalancer'")
    if address := spec.get("loadBalancerIP"):
        problems.invalid("spec.loadBalancerIP", address, ipv4_problem(address))


def check_endpoints(endpoints: Object, problems: Problems) -> None:
    """Endpoints."""
    for at, subset in enumerate(endpoints.get("subsets") or ()):
        where = f"subsets[{at}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            problems.required(where, "must specify `addresses` or `notReadyAddresses`")
        for group in ("addresses", "notReadyAddresses"):
            for index, address in enumerate(subset.get(group) or ()):
                if ip := address.get("ip"):
                    problems.invalid(f"{where}.{group}[{index}].ip", ip, endpoint_ip_problem(ip))
        ports = subset.get("ports") or ()
        for index, port in enumerate(ports):
            field = f"{where}.ports[{index}]"
            if (number := port.get("port")) is not None:
                problems.invalid(f"{field}.port", number, port_problem(number))
            if (protocol := port.get("protocol")) is not None:
                problems.unsupported(f"{field}.protocol", protocol, PROTOCOLS)
            if name := port.get("name"):
                problems.invalid(f"{field}.name", name, dns_label_problem(name))
            elif len(ports) > 1:
                problems.required(f"{field}.name")


def check_endpoint_slice(slice_: Object, problems: Problems) -> None:
    """An endpoint slice."""
    family, endpoints, ports = slice_.get("addressType"), slice_.get("endpoints") or (), slice_.get("ports") or ()
    if family == "IPv6":
        problems.invalid("addressType", family, IPV6_REFUSED)
    elif family:
        problems.unsupported("addressType", family, ("FQDN", "IPv4"))
    for field, items, most in (("endpoints", endpoints, _MOST_ENDPOINTS), ("ports", ports, _MOST_SLICE_PORTS)):
        if len(items) > most:
            problems.invalid(field, len(items), f"must have at most {most} items")
    for at, endpoint in enumerate(endpoints):
        _check_endpoint(endpoint, f"endpoints[{at}]", family, problems)
    problems.unique("ports", (each.get("name", "") for each in ports), ".name")
    for at, port in enumerate(ports):
        if name := port.get("name"):
            problems.invalid(f"ports[{at}].name", name, dns_label_problem(name))
        if (protocol := port.get("protocol")) is not None:
            problems.unsupported(f"ports[{at}].protocol", protocol, PROTOCOLS)
        if (number := port.get("port")) is not None:
            problems.invalid(f"ports[{at}].port", number, port_problem(number))


def _check_endpoint(endpoint: Object, field: str, family: str | None, problems: Problems) -> None:
    addresses = endpoint.get("addresses") or ()
    if len(addresses) > _MOST_ADDRESSES:
        problems.invalid(f"{field}.addresses", len(addresses), f"must have at most {_MOST_ADDRESSES} items")
    rule = {"IPv4": endpoint_ip_problem, "FQDN": dns_subdomain_problem}.get(family or "")
    for at, address in enumerate(addresses if rule else ()):
        assert rule is not None
        problems.invalid(f"{field}.addresses[{at}]", address, rule(address))
    for name in ("hostname", "nodeName"):
        if value := endpoint.get(name):
            problem = dns_label_problem(value) if name == "hostname" else dns_subdomain_problem(value)
            problems.invalid(f"{field}.{name}", value, problem)
