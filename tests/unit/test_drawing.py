"""The drawing of a described cluster: everything that is described is in it, and it is well-formed and pure."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as Xml

import pytest

from mininetes.spec import describe
from mininetes.testbed import drawing
from mininetes.testbed.blueprint import draw

SVG = "{http://www.w3.org/2000/svg}"

SHAPED = {"name": "leaf_spine", "parameters": {"bw": 100, "delay": "5ms", "loss": 1.0}}


def drawn(spec: dict[str, Any]) -> Xml.Element:
    return Xml.fromstring(drawing.svg(draw(describe(spec))))


def words(svg: Xml.Element) -> list[str]:
    return [each.text or "" for each in svg.iter(f"{SVG}text")]


def boxes(svg: Xml.Element, kind: str) -> list[Xml.Element]:
    return [each for each in svg.iter(f"{SVG}rect") if each.get("class") == kind]


def test_everything_of_three_nodes_is_there() -> None:
    svg = drawn({})
    said = words(svg)
    for each in ("node1", "node2", "node3", "s1", "gw", "client1", "blocked1", "192.168.1.12", "pods 10.244.3.0/24"):
        assert each in said
    assert "pod network 10.244.0.0/16: static, MTU 1500" in said
    assert said.count("4 pods") == 3
    assert "CNI bash-bridge.conflist, kube-proxy iptables, objects in memory" in said
    assert len(boxes(svg, "pod")) == 12
    assert (len(boxes(svg, "master")), len(boxes(svg, "node")), len(boxes(svg, "router"))) == (1, 2, 1)
    cables = [each for each in svg.iter(f"{SVG}path") if each.get("stroke-dasharray") is None]
    assert len(cables) == 8


def test_links_say_what_slows_them_down() -> None:
    said = words(drawn({"nodes": {"workers": 3}, "underlay": SHAPED, "fabric": "vxlan"}))
    assert said.count("100 Mbit/s, 5ms, 1 % loss") == 6
    assert "pod network 10.244.0.0/16: vxlan, MTU 1450" in said


def test_nodes_that_nothing_joins_have_no_pod_network_between_them() -> None:
    assert not boxes(drawn({"fabric": "none"}), "band")
    assert not boxes(drawn({"nodes": {"workers": 0}}), "band")


def test_many_nodes_are_drawn_as_a_few_and_the_rest() -> None:
    svg = drawn({"nodes": {"workers": 39}, "pods": {"perNode": 30}})
    said = words(svg)
    assert len(boxes(svg, "node")) == drawing.MOST_BOXES - 2
    assert "and 29 more" in said
    assert "to node40" in said
    assert f"{29 * 30} pods" in said
    assert said.count("30 pods") == drawing.MOST_BOXES - 1


@pytest.mark.parametrize("spec", [{}, {"underlay": "racks"}, {"nodes": {"workers": 39}}, {"pods": {"perNode": 0}}])
def test_boxes_lie_within_the_drawing_and_apart_from_each_other(spec: dict[str, Any]) -> None:
    svg = drawn(spec)
    kinds = ("node", "master", "switch", "router", "client", "rest")
    places = [
        tuple(float(each.get(side, "")) for side in ("x", "y", "width", "height"))
        for kind in kinds
        for each in boxes(svg, kind)
    ]
    for number, (x, y, w, h) in enumerate(places):
        assert x >= 0
        assert y >= 0
        assert x + w <= float(svg.get("width", ""))
        assert y + h <= float(svg.get("height", ""))
        for x2, y2, w2, h2 in places[number + 1 :]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y


def test_the_same_description_gives_the_same_drawing() -> None:
    blueprint = draw(describe({"underlay": "racks"}))
    assert drawing.svg(blueprint) == drawing.svg(draw(describe({"underlay": "racks"})))


def test_names_are_escaped() -> None:
    assert "<script>" not in drawing.svg(draw(describe({"fabric": {"exec": ["/bin/true", "<script>"]}})))
