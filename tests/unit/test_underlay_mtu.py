"""The MTU of an underlay's links: given once, it is that of the fabric's view and of pods."""

from __future__ import annotations

from typing import Any

import pytest

from mininetes import parts
from mininetes.errors import BadInput
from mininetes.spec import describe
from mininetes.testbed.blueprint import Blueprint, draw
from mininetes.testbed.blueprint_changes import with_node


def drawn(underlay: str, fabric: Any = "static", **parameters: Any) -> Blueprint:
    spec = {
        "nodes": {"controlPlane": 0, "workers": 3},
        "controlPlane": {"store": "none"},
        "underlay": {"name": underlay, "parameters": parameters},
        "fabric": fabric,
    }
    return draw(describe(spec, "t"))


@pytest.mark.parametrize("name", parts.names("underlay"))
def test_every_underlay_has_one_for_all_its_links(name: str) -> None:
    assert drawn(name).view.mtu == 1500
    jumbo = drawn(name, mtu=9000)
    assert jumbo.view.mtu == jumbo.plan.pod_mtu == 9000
    assert jumbo.conf_values("node1")["POD_MTU"] == 9000
    clients = {host.name for host in jumbo.underlay.with_role("client")}
    for cable in jumbo.underlay.cables:
        names = {end.owner for end in cable.ends}
        outside = names & clients or any(each.startswith("outside") for each in names)
        assert cable.mtu == (1500 if outside else 9000), cable


def test_tunnels_take_their_headers_off() -> None:
    assert drawn("single_switch", "vxlan", mtu=9000).plan.pod_mtu == 8950
    assert drawn("single_switch", {"name": "weave", "parameters": {"mtu": 8916}}, mtu=8966).plan.pod_mtu == 8916
    with pytest.raises(BadInput, match="mtu"):
        drawn("single_switch", {"name": "weave", "parameters": {"mtu": 8916}}, mtu=8965)


@pytest.mark.parametrize("mtu", [575, 65536, -1])
def test_what_no_link_can_have_is_refused(mtu: int) -> None:
    with pytest.raises(BadInput, match=r"mtu.*576 to 65535"):
        drawn("single_switch", mtu=mtu)


def test_only_a_number_is_one() -> None:
    with pytest.raises(BadInput, match="mtu"):
        drawn("single_switch", mtu="9000")


@pytest.mark.parametrize("name", ["single_switch", "three_node"])
def test_a_node_that_joins_has_a_link_like_the_others(name: str) -> None:
    joining = with_node(drawn(name, mtu=9000), None)
    assert joining.cable.mtu == 9000
    assert joining.blueprint.plan.pod_mtu == 9000


@pytest.mark.parametrize("fabric", ["vxlan", "weave"])
def test_an_underlay_too_narrow_for_the_fabric_is_what_is_named(fabric: str) -> None:
    with pytest.raises(BadInput, match=rf"^spec\.underlay\.parameters\.mtu: 600 .* at least 626 under .* {fabric}$"):
        drawn("single_switch", fabric, mtu=600)
    assert drawn("single_switch", {"name": "vxlan"}, mtu=626).plan.pod_mtu == 576
