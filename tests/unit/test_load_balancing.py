"""Routes to load balancers' addresses: which host sends to whom, in each underlay."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from mininetes.addressing import LOAD_BALANCERS
from mininetes.spec import describe
from mininetes.testbed.blueprint import draw

THREE = ["192.168.1.11", "192.168.1.12", "192.168.1.13"]


def routes(underlay: str, **spec: object) -> dict[str, list[str]]:
    """The gateways of the route to the load balancers' addresses, by host."""
    drawn = draw(describe({"underlay": {"name": underlay}, "pods": {"perNode": 0}, **spec}))
    return {
        host.name: [str(hop.gateway) for hop in route.hops]
        for host in drawn.underlay.hosts.values()
        for route in host.routes
        if route.destination == LOAD_BALANCERS
    }


def test_the_gateway_sends_to_every_node_on_its_network() -> None:
    assert routes("three_node") == {"gw": THREE}
    assert routes("single_switch", nodes={"workers": 1}) == {"gw": THREE[:2]}


@pytest.mark.parametrize("underlay", ["racks", "leaf_spine"])
def test_behind_routers_each_sends_to_the_nodes_that_it_has(underlay: str) -> None:
    found = routes(underlay, nodes={"workers": 3})
    nodes = {host.name: str(host.address) for host in draw(describe({"underlay": {"name": underlay},
             "nodes": {"workers": 3}})).underlay.with_role("node")}  # fmt: skip
    reached: set[str] = set()
    for host, gateways in found.items():
        assert host not in nodes
        own = set(gateways) & set(nodes.values())
        assert own in (set(), set(gateways)), f"{host} sends to nodes and to routers"
        reached |= own
    assert reached == set(nodes.values())
    assert "gw" in found


def test_only_what_is_asked_for_gets_there() -> None:
    assert routes("three_node", controlPlane={"store": "none"}) == {}
    drawn = draw(describe({"network": {"loadBalancers": "198.18.0.0/28"}, "pods": {"perNode": 0}}))
    assert IPv4Network("198.18.0.0/28") in {route.destination for route in drawn.underlay.hosts["gw"].routes}
