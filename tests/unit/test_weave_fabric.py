"""The fabric weave in a description: what it decides where nothing is said, and what it refuses."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from mininetes.errors import BadInput
from mininetes.spec import describe
from mininetes.testbed import proxying
from mininetes.testbed.blueprint import draw
from mininetes.testbed.fabric_defaults import with_fabric_defaults

PODS = IPv4Network("10.32.0.0/12")


def test_pods_network_and_configuration_follow_the_fabric() -> None:
    drawn = draw(describe({"fabric": "weave"}))
    assert drawn.spec.network.pods == PODS
    assert drawn.spec.cni == "weave.conflist"
    assert drawn.cni.types == ["bash-bridge", "bash-weave-ipam"]
    assert drawn.fabric.is_weave
    assert drawn.fabric.is_flat
    assert drawn.connects_nodes
    assert drawn.conf_values("node1")["POD_MTU"] == 1376
    assert dict(drawn.states) == {}
    assert str(proxying.proxy_config(drawn.spec).cluster_cidr) == "10.32.0.0/12"


def test_what_is_said_counts_more() -> None:
    asked = {"fabric": "weave", "network": {"pods": "10.64.0.0/16"}, "cni": "bridge.conflist"}
    spec = with_fabric_defaults(describe(asked))
    assert (str(spec.network.pods), spec.cni) == ("10.64.0.0/16", "bridge.conflist")


def test_another_part_of_the_network_may_be_said_alone() -> None:
    spec = with_fabric_defaults(describe({"fabric": "weave", "network": {"services": "10.0.0.0/24"}}))
    assert (spec.network.pods, str(spec.network.services)) == (PODS, "10.0.0.0/24")


def test_it_may_be_asked_for_twice_and_others_are_left_alone() -> None:
    spec = with_fabric_defaults(describe({"fabric": "weave"}))
    assert with_fabric_defaults(spec) == spec
    plain = describe({})
    assert with_fabric_defaults(plain) is plain


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"fabric": {"name": "weave", "parameters": {"mtu": 1451}}}, r"mtu: 1451 is not valid: from 576 to 1450"),
        ({"fabric": {"name": "weave", "parameters": {"mtu": 100}}}, r"mtu: 100 is not valid: from 576 to 1450"),
        ({"fabric": {"name": "weave", "parameters": {"vni": 1}}}, r"unknown parameter of weave; known: mtu"),
        ({"fabric": "weave", "cni": "bash-bridge.conflist"}, r"bash-bridge\.conflist: bridge: 'cni0'.*bridge 'weave'"),
        ({"fabric": "weave", "cni": "chained.conflist"}, r"chained\.conflist: bridge: 'cni0'.*bridge 'weave'"),
        ({"fabric": "weave", "cni": "bash-macvlan.conflist"}, r"a pod's link by bash-macvlan.*bridge 'weave'"),
        (
            {"fabric": "weave", "network": {"services": "10.40.0.0/16"}},
            r"10\.32\.0\.0/12.*10\.40\.0\.0/16|10\.40\.0\.0/16.*10\.32\.0\.0/12",
        ),
    ],
)
def test_what_cannot_be_is_refused(spec: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        draw(describe(spec))


def test_an_mtu_that_fits_reaches_the_pods() -> None:
    assert draw(describe({"fabric": {"name": "weave", "parameters": {"mtu": 1400}}})).plan.pod_mtu == 1400
