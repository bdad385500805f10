"""A described cluster as a graph for other programs: Mermaid and DOT; with the drawing as SVG, all formats. Pure.

Every host and switch is a node, every cable an edge with what slows it down. The pod network that the fabric makes is
a node of its own, joined to the cluster's nodes: by dashed edges where tunnels make it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mininetes.counting import counted
from mininetes.errors import BadInput
from mininetes.testbed import drawing
from mininetes.testbed.blueprint import Blueprint

_NETWORK = "pod network"


@dataclass(frozen=True)
class Vertex:
    """A host, a switch or the pod network: what it is, and the lines that it shows."""

    name: str
    kind: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Edge:
    """What joins two vertices, with its words; ``dashed`` for what runs through tunnels."""

    ends: tuple[str, str]
    words: str = ""
    dashed: bool = False
    thick: bool = False


@dataclass(frozen=True)
class Graph:
    """What both formats show."""

    title: str
    vertices: Sequence[Vertex]
    edges: Sequence[Edge]


def graph_of(blueprint: Blueprint) -> Graph:
    """The vertices, hosts first in the underlay's order, and the edges."""
    vertices = [*_hosts(blueprint), *(Vertex(name, "switch", ("switch",)) for name in blueprint.underlay.switches)]
    edges = [
        Edge((cable.ends[0].owner, cable.ends[1].owner), drawing.slowed_by(cable))
        for cable in blueprint.underlay.cables
    ]
    if blueprint.connects_nodes and len(blueprint.view.nodes) > 1:
        vertices.append(Vertex(_NETWORK, "network", (drawing.network_title(blueprint).removeprefix(f"{_NETWORK} "),)))
        tunnels = drawing.has_tunnels(blueprint)
        edges += [Edge((_NETWORK, node.name), dashed=tunnels, thick=True) for node in blueprint.view.nodes]
    return Graph(drawing.title(blueprint), vertices, edges)


def _hosts(blueprint: Blueprint) -> Iterator[Vertex]:
    spec = blueprint.spec
    control = {node.name for node in spec.nodes if node.role == "control-plane"}
    subnets = {node.name: node.pod_subnet for node in blueprint.view.nodes}
    for host in blueprint.underlay.hosts.values():
        addresses = tuple(str(each.address) for each in host.interfaces if each.address is not None)
        if host.role != "node":
            yield Vertex(host.name, host.role, ("outside" if host.role == "client" else host.role, *addresses))
            continue
        pods = sum(pod.node == host.name for pod in blueprint.pods)
        where = "no pods" if not pods else counted(pods, "pod")
        role = ("control plane",) if host.name in control else ()
        facts = f"{where} in {subnets[host.name]}"
        yield Vertex(host.name, "master" if host.name in control else "node", (*role, *addresses, facts))


_MERMAID_SHAPES = {
    "master": ("[", "]"), "node": ("[", "]"), "switch": ("([", "])"), "router": ("{{", "}}"), "client": ("(", ")"),
    "network": ("[/", "/]"),
}  # fmt: skip
_COLOURS = {
    "master": ("#e3edfa", "#1a4e8a"), "node": ("#eef4fb", "#2b6cb0"), "switch": ("#f3f5f7", "#8795a3"),
    "router": ("#fff4e0", "#c77d0a"), "client": ("#f0f7ee", "#4d8b3b"), "network": ("#dcebe4", "#3f8f6b"),
}  # fmt: skip
"""Fill and line, as in the drawing."""


def mermaid(blueprint: Blueprint) -> str:
    """A flowchart for Mermaid, as Markdown pages show it."""
    graph = graph_of(blueprint)
    ids = {vertex.name: f"n{number}" for number, vertex in enumerate(graph.vertices)}
    lines = ["---", f"title: {_quoted(graph.title)}", "---", "flowchart TB"]
    for vertex in graph.vertices:
        opened, closed = _MERMAID_SHAPES[vertex.kind]
        words = "<br/>".join([f"<b>{vertex.name}</b>", *vertex.lines])
        lines.append(f'  {ids[vertex.name]}{opened}"{words}"{closed}:::{vertex.kind}')
    for edge in graph.edges:
        stroke = "-.-" if edge.dashed else "===" if edge.thick else "---"
        words = f'|"{edge.words}"|' if edge.words else ""
        lines.append(f"  {ids[edge.ends[0]]} {stroke}{words} {ids[edge.ends[1]]}")
    kinds = {vertex.kind for vertex in graph.vertices}
    for kind, (fill, stroke) in _COLOURS.items():
        if kind in kinds:
            lines.append(f"  classDef {kind} fill:{fill},stroke:{stroke},color:#1c2733")
    return "\n".join(lines) + "\n"


_DOT_SHAPES = {"switch": "ellipse", "router": "hexagon", "client": "box", "network": "box"}


def dot(blueprint: Blueprint) -> str:
    """A graph for Graphviz."""
    graph = graph_of(blueprint)
    lines = [
        "graph cluster {",
        f"  graph [label={_quoted(graph.title)}, labelloc=t, fontname=Helvetica];",
        "  node [shape=box, style=filled, fontname=Helvetica, fontsize=10, margin=0.1];",
        "  edge [fontname=Helvetica, fontsize=9];",
    ]
    for vertex in graph.vertices:
        fill, line = _COLOURS[vertex.kind]
        shape = f", shape={_DOT_SHAPES[vertex.kind]}" if vertex.kind in _DOT_SHAPES else ""
        words = _quoted("\n".join([vertex.name, *vertex.lines]))
        lines.append(f'  {_quoted(vertex.name)} [label={words}, fillcolor="{fill}", color="{line}"{shape}];')
    for edge in graph.edges:
        facts = [f"label={_quoted(edge.words)}"] if edge.words else []
        facts += ["style=dashed"] if edge.dashed else []
        facts += [f'color="{_COLOURS["network"][1]}"', "penwidth=2"] if edge.thick else []
        more = f" [{', '.join(facts)}]" if facts else ""
        lines.append(f"  {_quoted(edge.ends[0])} -- {_quoted(edge.ends[1])}{more};")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def svg(blueprint: Blueprint) -> str:
    """The drawing, on a ground of its own: pages may be dark."""
    return drawing.svg(blueprint).replace('class="topology"', 'class="topology" style="background:#ffffff"', 1)


FORMATS: Mapping[str, Callable[[Blueprint], str]] = {"svg": svg, "mermaid": mermaid, "dot": dot}
_ENDINGS = {".svg": "svg", ".mmd": "mermaid", ".mermaid": "mermaid", ".dot": "dot", ".gv": "dot"}


def format_for(out: Path) -> str:
    """The format that a file's ending asks for. Raises BadInput for another ending."""
    if out.suffix not in _ENDINGS:
        raise BadInput("--out", str(out), f"a file that ends in {', '.join(_ENDINGS)}, or --format with it")
    return _ENDINGS[out.suffix]
