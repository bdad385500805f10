"""A blueprint with one node more or less: numbers, addresses, names, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from mininet.topo import Topo

from mininetes import kind_file
from mininetes.errors import BadInput
from mininetes.spec import describe
from mininetes.testbed.blueprint import Blueprint, draw
from mininetes.testbed.blueprint_changes import with_node, without_node


def drawn(**spec: Any) -> Blueprint:
    return draw(describe({"fabric": "vxlan", "underlay": "single_switch", **spec}))


def members(blueprint: Blueprint) -> list[tuple[str, str, str]]:
    return [(each.name, str(each.address), str(each.pod_subnet)) for each in blueprint.view.nodes]


def test_the_lowest_free_number_says_name_address_and_subnet() -> None:
    third = with_node(drawn(nodes={"workers": 1}), None)
    assert members(third.blueprint)[-1] == ("node3", "192.168.1.13", "10.244.3.0/24")
    assert third.host.interfaces[0].mac == "02:00:c0:a8:01:0d"
    again = with_node(without_node(third.blueprint, "node2"), None)
    assert members(again.blueprint)[-1] == ("node2", "192.168.1.12", "10.244.2.0/24")


def _joined(blueprint: Blueprint, often: int) -> list[str]:
    names = []
    for _ in range(often):
        joining = with_node(blueprint, None)
        blueprint = joining.blueprint
        names.append(joining.node.name)
    return names


def kinds(*roles: str) -> Blueprint:
    content = {"kind": "Cluster", "apiVersion": kind_file.API_VERSION, "nodes": [{"role": role} for role in roles]}
    return draw(describe(kind_file.read(content, "k.yaml").spec))


def test_who_joins_a_cluster_of_kinds_is_called_as_kind_would_call_it() -> None:
    assert _joined(kinds("control-plane"), 2) == ["kind-worker", "kind-worker2"]
    assert _joined(kinds("control-plane", "worker"), 2) == ["kind-worker2", "kind-worker3"]
    ha = kinds("control-plane", "control-plane", "control-plane", "worker", "worker")
    assert _joined(ha, 1) == ["kind-worker3"]
    assert _joined(without_node(ha, "kind-worker"), 2) == ["kind-worker", "kind-worker3"]


@pytest.mark.parametrize(
    ("names", "next_one"),
    [
        (["cp", "w1", "w2"], "w3"),
        (["cp", "my-worker1", "my-worker2"], "my-worker3"),
        (["my-control-plane", "my-worker1", "my-worker2"], "my-worker3"),
        (["cp", "my-worker2"], "my-worker1"),
        (["cp", "my-worker"], "my-worker2"),
        (["cp", "w2"], "w1"),
        (["cp", "berlin", "paris"], "node4"),
        (["cp", "berlin"], "node3"),
        (["node1"], "node2"),
        (["node7", "node1"], "node3"),
        (["cp", "node3"], "node1"),
    ],
)
def test_who_joins_is_called_as_other_workers_where_they_have_a_manner(names: list[str], next_one: str) -> None:
    assert _joined(drawn(nodes=[{"name": name} for name in names]), 1) == [next_one]


def test_it_is_the_same_node_as_one_that_was_there_from_the_start() -> None:
    joined, whole = with_node(drawn(nodes={"workers": 1}), None).blueprint, drawn(nodes={"workers": 2})
    assert (joined.view.nodes, joined.plan, joined.pods) == (whole.view.nodes, whole.plan, whole.pods)
    assert joined.underlay.hosts["node3"] == whole.underlay.hosts["node3"]
    devices = [end.device for cable in joined.underlay.cables for end in cable.ends if end.owner == "s1"]
    assert len(devices) == len(set(devices))


def test_a_link_that_joins_is_as_slow_as_the_others() -> None:
    slow = drawn(underlay={"name": "single_switch", "parameters": {"bw": 10}}, nodes={"workers": 1})
    assert with_node(slow, None).cable.shape.bw == 10


def test_joining_and_leaving_is_as_if_nothing_had_been() -> None:
    before = drawn()
    after = without_node(with_node(before, "x").blueprint, "x")
    assert (after.spec, after.underlay, after.view, after.plan, after.pods) == (
        before.spec, before.underlay, before.view, before.plan, before.pods,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["node1", "gw", "s1", "client1", "UP", "-", ""])
def test_names_that_cannot_be_are_refused(name: str) -> None:
    with pytest.raises(BadInput, match="node"):
        with_node(drawn(), name)


def test_no_room_in_the_ranges_is_said_by_field() -> None:
    full = drawn(nodes={"workers": 2}, network={"pods": "10.244.0.0/22"})
    with pytest.raises(BadInput, match=r"spec\.network\.pods"):
        with_node(full, None)


@pytest.mark.parametrize("name", ["node1", "node9"])
def test_who_cannot_leave_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match=name):
        without_node(drawn(), name)


@pytest.mark.parametrize("underlay", ["racks", "leaf_spine"])
def test_who_joins_racks_goes_to_the_end_of_one_after_the_other(underlay: str) -> None:
    found = drawn(underlay=underlay, nodes={"workers": 2})
    for _ in range(3):
        found = with_node(found, None).blueprint
    addresses = {each.name: str(each.address) for each in found.view.nodes}
    assert addresses["node3"] == "192.168.1.139"
    assert [addresses[f"node{number}"] for number in (4, 5, 6)] == ["192.168.1.13", "192.168.1.141", "192.168.1.14"]
    again = with_node(without_node(found, "node3"), None)
    assert (again.node.name, str(again.host.address)) == ("node3", "192.168.1.139")
    switches = {end.owner for end in again.cable.ends} - {"node3"}
    assert switches == {"s2"}


def test_a_rack_that_is_full_is_said_by_the_underlay() -> None:
    full = drawn(underlay="racks", nodes={"workers": 1}, network={"nodes": "192.168.1.0/27"})
    for _ in range(6):
        full = with_node(full, None).blueprint
    with pytest.raises(BadInput, match=r"underlay racks: no node can join: network: 192\.168\.1\.0/28 is too small"):
        with_node(full, None)


def test_an_underlay_that_does_not_say_where_takes_none() -> None:
    silent = dataclasses.replace(drawn(), topo=Topo())
    with pytest.raises(BadInput, match=r"underlay single_switch: no node can join: its Topo has no method place"):
        with_node(silent, None)
