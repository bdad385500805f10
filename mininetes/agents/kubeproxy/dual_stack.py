"""The IPv4 half of dual-stack objects, which is what kube-proxy's IPv4 proxier goes by. Pure.

Objects here are not checked yet: what is not as it should be stays as it is, to be refused by its name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack")


def is_ipv6_slice(kind: str, obj: dict[str, Any]) -> bool:
    """Whether it is an EndpointSlice of IPv6: those of a dual-stack service are made for each family."""
    return kind == "EndpointSlice" and obj.get("addressType") == "IPv6"


def take_ipv4_half(kind: str, obj: dict[str, Any]) -> None:
    """Take IPv6 off a Service or Node that has both families. What has IPv6 alone is left as it is."""
    spec = obj.get("spec")
    if not isinstance(spec, dict):
        return
    if kind == "Service":
        _of_service(spec)
    elif kind == "Node":
        networks = _ipv4(spec.get("podCIDRs"))
        if networks:
            spec["podCIDRs"], spec["podCIDR"] = networks, networks[0]


def _of_service(spec: dict[str, Any]) -> None:
    """By the address of its family, as kube-proxy has it (GetClusterIPByFamily)."""
    families, listed = spec.get("ipFamilies"), spec.get("clusterIPs")
    addresses = listed if isinstance(listed, list) and listed else [spec.get("clusterIP")]
    two = isinstance(families, list) and set(map(str, families)) == {"IPv4", "IPv6"}
    if not (two or len(addresses) > 1 or spec.get("ipFamilyPolicy") in _FAMILY_POLICIES):
        return
    mine = _ipv4(addresses)
    if not mine:
        return
    spec["clusterIP"] = mine[0]
    if listed:
        spec["clusterIPs"] = mine
    if two:
        spec["ipFamilies"] = ["IPv4"]
    if spec.get("ipFamilyPolicy") in _FAMILY_POLICIES:
        spec["ipFamilyPolicy"] = "SingleStack"
    for field in ("externalIPs", "loadBalancerSourceRanges"):
        if isinstance(spec.get(field), list):
            spec[field] = _ipv4(spec[field])


def _ipv4(values: Any) -> list[Any]:
    """Those of a list of addresses or networks that are no IPv6."""
    if not isinstance(values, Iterable):
        return []
    return [each for each in values if each and not (isinstance(each, str) and ":" in each)]
