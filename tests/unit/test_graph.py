"""A cluster as a graph: the same in every format, byte for byte as in golden data, and good for the programs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
from click.testing import CliRunner

from mininetes.cli.main import cli
from mininetes.errors import BadInput
from mininetes.spec import describe
from mininetes.testbed import graph
from mininetes.testbed.blueprint import Blueprint, draw

CLUSTERS: dict[str, dict[str, Any]] = {
    "three-nodes": {},
    "racks-vxlan": {
        "nodes": {"workers": 3}, "pods": {"perNode": 1}, "fabric": "vxlan",
        "underlay": {"name": "racks", "parameters": {"racks": 2, "bw": 100, "delay": "5ms", "loss": 1.0}},
    },
    "islands": {"fabric": "none", "nodes": {"workers": 1}, "pods": {"perNode": 0}, "outside": {"clients": 0}},
}  # fmt: skip


def blueprint(name: str) -> Blueprint:
    return draw(describe(CLUSTERS[name], "lab1"))


@pytest.mark.parametrize("form", graph.FORMATS)
@pytest.mark.parametrize("name", CLUSTERS)
def test_it_is_as_before(name: str, form: str, golden: Callable[[str, Any], None]) -> None:
    golden(f"graph-{name}-{form}", graph.FORMATS[form](blueprint(name)).splitlines())


@pytest.mark.parametrize("name", CLUSTERS)
def test_all_hosts_switches_and_cables_are_there(name: str) -> None:
    drawn = blueprint(name)
    found = graph.graph_of(drawn)
    names = {vertex.name for vertex in found.vertices} - {"pod network"}
    assert names == {*drawn.underlay.hosts, *drawn.underlay.switches}
    cables = [edge for edge in found.edges if not edge.thick]
    assert len(cables) == len(drawn.underlay.cables)
    assert {end for edge in found.edges for end in edge.ends} <= {vertex.name for vertex in found.vertices}


def test_tunnels_are_dashed_and_routes_are_not() -> None:
    assert graph.mermaid(blueprint("racks-vxlan")).count(" -.- ") == 4
    assert graph.dot(blueprint("racks-vxlan")).count("style=dashed") == 4
    assert "stroke-dasharray" in re.findall(r'<rect class="band"[^>]*>', graph.svg(blueprint("racks-vxlan")))[0]
    assert " -.- " not in graph.mermaid(blueprint("three-nodes"))
    assert "style=dashed" not in graph.dot(blueprint("three-nodes"))
    assert "pod network" not in graph.mermaid(blueprint("islands"))


def test_what_slows_links_down_is_said() -> None:
    for form in graph.FORMATS.values():
        assert "100 Mbit/s, 5ms, 1 % loss" in form(blueprint("racks-vxlan"))


def test_every_kind_of_vertex_is_drawn_in_mermaid_and_dot() -> None:
    kinds = {vertex.kind for name in CLUSTERS for vertex in graph.graph_of(blueprint(name)).vertices}
    assert kinds == {"master", "node", "switch", "router", "client", "network"}


def call(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["graph", *arguments], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.stdout


def test_the_ending_of_the_file_chooses_the_format(tmp_path: Path) -> None:
    for ending, begin in ((".svg", "<svg"), (".mmd", "---\ntitle"), (".dot", "graph cluster {")):
        out = tmp_path / f"a{ending}"
        assert call("three-node", "--out", str(out)) == ""
        assert out.read_text().startswith(begin)
    Xml.parse(tmp_path / "a.svg")
    call("three-node", "--out", str(tmp_path / "a.txt"), "--format", "dot")
    assert (tmp_path / "a.txt").read_text() == call("three-node", "--format", "dot")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "a.png"], ["--out", "a.png", ".svg"]),
        (["--out", "/no/such/folder/a.svg"], ["--out", "No such file"]),
        (["no-such-cluster"], ["no-such-cluster", "three-node"]),
        (["--lab", "a", "three-node"], ["--lab", "either"]),
        (["--lab", "a", "--nodes", "3"], ["--lab", "either"]),
    ],
    ids=str,
)
def test_wrong_wishes_are_refused(arguments: list[str], words: list[str]) -> None:
    with pytest.raises(BadInput) as refused:
        call(*arguments)
    assert [word for word in words if word not in str(refused.value)] == []
