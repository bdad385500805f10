"""The address plan: who has which address, that nothing is given twice, and what does not fit."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from mininetes.addressing import AddressPlan, mac_of
from mininetes.errors import BadInput
from mininetes.spec import describe
from mininetes.testbed.blueprint import draw


def test_macs_are_made_of_the_address() -> None:
    assert mac_of(IPv4Address("192.168.1.11")) == "02:00:c0:a8:01:0b"
    assert mac_of(IPv4Address("10.244.255.1")) == "02:00:0a:f4:ff:01"


def test_macs_are_unicast_and_locally_administered_and_as_unique_as_addresses() -> None:
    addresses = [IPv4Address("192.168.1.11") + step for step in range(2000)]
    macs = [mac_of(address) for address in addresses]
    assert len(set(macs)) == len(addresses)
    assert {int(mac[:2], 16) & 3 for mac in macs} == {2}


def test_node_n_has_the_pods_10_244_n() -> None:
    plan = AddressPlan()
    assert plan.pod_subnet(1) == IPv4Network("10.244.1.0/24")
    assert plan.pod_subnet(255) == IPv4Network("10.244.255.0/24")
    assert plan.pods_per_node == 253


def test_every_node_has_a_subnet_of_its_own_within_the_pods_network() -> None:
    plan = AddressPlan(pods=IPv4Network("10.200.0.0/16"), node_prefix=25)
    subnets = [plan.pod_subnet(number) for number in range(1, plan.pod_subnets)]
    assert len(set(subnets)) == len(subnets) == 511
    assert all(subnet.subnet_of(plan.pods) for subnet in subnets)


def test_a_node_beyond_the_last_subnet_is_refused() -> None:
    plan = AddressPlan()
    with pytest.raises(BadInput, match=r"spec\.network\.pods.*10\.244\.0\.0/16.*node 256"):
        plan.pod_subnet(256)


@pytest.mark.parametrize(("prefix", "pods"), [(24, 253), (25, 125), (29, 5), (30, 1)], ids=str)
def test_how_many_pods_fit_a_prefix(prefix: int, pods: int) -> None:
    plan = AddressPlan(node_prefix=prefix)
    assert plan.pods_per_node == pods
    plan.check(3, pods)
    with pytest.raises(BadInput, match=rf"spec\.pods\.perNode: {pods + 1} .* at most {pods}"):
        plan.check(3, pods + 1)


@pytest.mark.parametrize(("network", "nodes"), [("192.168.1.0/24", 244), ("192.168.0.0/20", 4084), ("10.1.0.0/27", 20)])
def test_how_many_nodes_fit_a_network(network: str, nodes: int) -> None:
    plan = AddressPlan(
        nodes=IPv4Network(network), pods=IPv4Network("172.16.0.0/12"), services=IPv4Network("10.2.0.0/16")
    )
    if nodes < plan.pod_subnets:
        plan.check(nodes, 1)
    with pytest.raises(BadInput):
        plan.check(nodes + 1, 1)


def test_the_nodes_of_the_largest_star_all_have_addresses_of_their_own() -> None:
    nodes = draw(describe({"nodes": {"controlPlane": 1, "workers": 243}})).view.nodes
    assert len(nodes) == 244
    addresses = {node.address for node in nodes}
    assert len(addresses) == 244
    assert max(addresses) < IPv4Address("192.168.1.255")
