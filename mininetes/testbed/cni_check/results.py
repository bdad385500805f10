"""Result of an ADD in the shape of its version, read and checked (CNI section 5). Pure."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mininetes.testbed.cni_check.rule import Failed, expect, number


@dataclass(frozen=True)
class Address:
    """One of ``ips``: ``cidr`` as given, the gateway or "", the index into the interfaces or None."""

    cidr: str
    gateway: str
    interface: int | None


@dataclass(frozen=True)
class AddResult:
    """A result in one form for all versions; ``interfaces`` is None where the version or the plugin has none."""

    interfaces: list[dict[str, Any]] | None
    addresses: list[Address]
    routes: list[tuple[str, str]]
    dns: dict[str, Any] = field(default_factory=dict)


def read(raw: object, version: str, *, ipam: bool = False) -> AddResult:
    """Check the shape of a result and read it. Raises Failed with the member that is wrong."""
    if not isinstance(raw, dict):
        raise Failed("a JSON object as result", json.dumps(raw))
    dns = raw.get("dns") or {}
    expect(isinstance(dns, dict), "dns is an object", json.dumps(dns))
    if number(version) < (0, 3):
        return _old(raw, dns)
    interfaces = raw.get("interfaces")
    if ipam:
        expect(interfaces is None, "no interfaces in the result of an IPAM plugin", json.dumps(interfaces))
    else:
        _check_interfaces(interfaces)
    ips, routes = raw.get("ips") or [], raw.get("routes") or []
    expect(isinstance(ips, list) and isinstance(routes, list), "ips and routes are lists", json.dumps(raw))
    addresses = [_address(each, version, len(interfaces or []), ipam=ipam) for each in ips]
    return AddResult(interfaces, addresses, [_route(each) for each in routes], dns)


def _old(raw: Mapping[str, Any], dns: dict[str, Any]) -> AddResult:
    """Versions 0.1.0 and 0.2.0: ip4 and ip6, each with an address, a gateway and routes."""
    addresses, routes = [], []
    for key in ("ip4", "ip6"):
        entry = raw.get(key)
        if entry is None:
            continue
        expect(isinstance(entry, dict) and isinstance(entry.get("ip"), str), f"{key} with an ip", json.dumps(entry))
        addresses.append(_checked(Address(entry["ip"], entry.get("gateway") or "", None)))
        routes += [_route(each) for each in entry.get("routes") or []]
    return AddResult(None, addresses, routes, dns)


def _check_interfaces(interfaces: object) -> None:
    if interfaces is None:
        return
    expect(isinstance(interfaces, list), "interfaces is a list", json.dumps(interfaces))
    assert isinstance(interfaces, list)
    for each in interfaces:
        named = isinstance(each, dict) and isinstance(each.get("name"), str) and each["name"]
        expect(named, "each interface is an object with a name", json.dumps(each))


def _address(entry: object, version: str, interfaces: int, *, ipam: bool) -> Address:
    if not isinstance(entry, dict) or not isinstance(entry.get("address"), str):
        raise Failed("each of ips is an object with an address", json.dumps(entry))
    index = entry.get("interface")
    if ipam:
        expect(index is None, "an IPAM plugin's ips without interface", json.dumps(entry))
    elif index is not None:
        right = isinstance(index, int) and 0 <= index < interfaces
        expect(right, f"ips' interface is an index into the {interfaces} interfaces", json.dumps(entry))
    if number(version) < (1, 0):
        right = entry.get("version") == ("6" if ":" in entry["address"] else "4")
        expect(right, f'ips with version "4" or "6" in CNI {version}', json.dumps(entry))
    return _checked(Address(entry["address"], entry.get("gateway") or "", index))


def _checked(address: Address) -> Address:
    try:
        network = ipaddress.ip_interface(address.cidr)
        expect("/" in address.cidr, "an address with its prefix length", address.cidr)
        if address.gateway:
            gateway = ipaddress.ip_address(address.gateway)
            expect(gateway in network.network, f"a gateway in the network of {address.cidr}", address.gateway)
    except ValueError as wrong:
        raise Failed("addresses in CIDR notation, and gateways without", wrong) from None
    return address


def _route(entry: object) -> tuple[str, str]:
    if not isinstance(entry, dict) or not isinstance(entry.get("dst"), str):
        raise Failed("each route is an object with dst", json.dumps(entry))
    try:
        destination = str(ipaddress.ip_network(entry["dst"], strict=False))
        gateway = entry.get("gw") or ""
        if gateway:
            ipaddress.ip_address(gateway)
    except ValueError as wrong:
        raise Failed("routes with dst in CIDR notation and gw an address", wrong) from None
    return destination, gateway
