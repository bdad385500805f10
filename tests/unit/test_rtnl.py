"""Messages made from a template are those that pyroute2 would encode."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ndmsg import ndmsg

from mininetes.kernel import rtnl
from mininetes.kernel import rtnl_entries as entries


@pytest.mark.parametrize("destination", ["10.244.2.0/24", "1.2.3.3/32", "2.0.0.0/8", "3.3.3.3/32", "1.1.1.1/32"])
@pytest.mark.parametrize("gateway", ["192.168.1.12", "1.1.1.1", "2.2.2.2", "3.3.3.3"])
@pytest.mark.parametrize("index", [2, 1000, 0x01010101, 0x02020202])
def test_a_route_from_the_template_is_the_one_that_pyroute2_encodes(destination: str, gateway: str, index: int) -> None:
    text, _, prefix = destination.partition("/")
    body = rtnl._route_head(int(prefix))
    body["scope"] = rtnl.RT_SCOPE_UNIVERSE
    body["attrs"] = [("RTA_DST", text), ("RTA_GATEWAY", gateway), ("RTA_OIF", index)]
    body["header"] = {"type": rtnl.RTM_NEWROUTE, "flags": 0, "sequence_number": 0, "pid": 0}
    body.encode()
    assert rtnl.route(destination, [(gateway, index)]).body == bytes(body.data)[16:]


def encoded(body: Any) -> bytes:
    body["header"] = {"type": 0, "flags": 0, "sequence_number": 0, "pid": 0}
    body.encode()
    return bytes(body.data)[16:]


def test_neighbours_forwarding_entries_and_onlink_routes_are_packed_as_pyroute2_encodes_them() -> None:
    address, remote, mac = IPv4Address("10.244.2.0"), IPv4Address("192.168.1.12"), "02:00:0a:f4:02:00"
    neighbour = ndmsg()
    neighbour["family"], neighbour["ifindex"], neighbour["state"] = socket.AF_INET, 7, entries.NUD_PERMANENT
    neighbour["attrs"] = [("NDA_DST", str(address)), ("NDA_LLADDR", mac)]
    assert entries.pack_neighbour(address, mac, 7) == encoded(neighbour)
    fdb = ndmsg()
    fdb["family"], fdb["ifindex"], fdb["state"], fdb["flags"] = entries.AF_BRIDGE, 7, entries.NUD_PERMANENT, 2
    fdb["attrs"] = [("NDA_LLADDR", mac), ("NDA_DST", str(remote))]
    assert entries.pack_fdb(mac, remote, 7) == encoded(fdb)
    body = rtnl._route_head(24)
    body["flags"] = entries.RTNH_F_ONLINK
    body["attrs"] = [("RTA_DST", "10.244.2.0"), ("RTA_GATEWAY", "10.244.2.0"), ("RTA_OIF", 7)]
    assert entries.pack_gateway_route(IPv4Network("10.244.2.0/24"), address, 7, onlink=True) == encoded(body)
