"""A described cluster as an SVG drawing: nodes with their pods, switches, routers, and what lies outside. Pure.

    client1        blocked1          the farthest from the nodes at the top
       |               |
    outside1       outside2
         \\           /
            gw
             |
             s1
       /     |     \\
    node1  node2  node3              nodes with the pods inside them
    ===================              the pod network that the fabric makes, where it joins them
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from mininetes.agents.kubeproxy.compiling import mode_title
from mininetes.cluster.underlay import LINK_MTU, Cable, Underlay
from mininetes.counting import counted
from mininetes.testbed import proxying
from mininetes.testbed.blueprint import Blueprint

MOST_BOXES = 12
"""In one row; of more, the last stands for the rest."""
_MOST_PODS = 24
_POD_COLUMNS = 8

_NODE_W, _BOX_W, _GAP = 152.0, 104.0, 22.0
_ROW_H, _BOX_H = 84.0, 38.0
_MARGIN = 14.0
_LEAST_W = 340.0
_ROLES = {"master": "control plane", "router": "router", "switch": "switch", "client": "outside"}
_POD = 12.0

_STYLE = """
text{font:11px system-ui,'DejaVu Sans',Helvetica,Arial,sans-serif;fill:#1c2733}
.name{font-weight:600;font-size:12px}.small{font-size:10px;fill:#5b6875}
.cable{stroke:#8795a3;stroke-width:1.6;fill:none}
.node{fill:#eef4fb;stroke:#2b6cb0}.master{fill:#e3edfa;stroke:#1a4e8a;stroke-width:2}
.switch{fill:#f3f5f7;stroke:#8795a3}.router{fill:#fff4e0;stroke:#c77d0a}.client{fill:#f0f7ee;stroke:#4d8b3b}
.rest{fill:#ffffff;stroke:#8795a3;stroke-dasharray:4 3}
.pod{fill:#2b6cb0;opacity:.8}.band{fill:#dcebe4;stroke:#3f8f6b}.halo{stroke:#ffffff;stroke-width:3;paint-order:stroke}
"""


@dataclass
class _Box:
    name: str
    kind: str
    lines: Sequence[str] = ()
    hint: str = ""
    pods: Sequence[str] = ()
    stands_for: Sequence[str] = ()
    x: float = 0.0
    y: float = 0.0
    width: float = _BOX_W
    height: float = _BOX_H

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


@dataclass
class _Layout:
    rows: list[list[_Box]] = field(default_factory=list)
    """From the nodes upwards."""
    width: float = 0.0
    height: float = 0.0

    def box_of(self) -> dict[str, _Box]:
        """The box in which each host and switch is."""
        return {name: box for row in self.rows for box in row for name in (box.stands_for or (box.name,))}


def svg(blueprint: Blueprint) -> str:
    """The drawing as a stand-alone SVG element, sized in pixels; the same for the same description."""
    layout = _laid_out(blueprint)
    spec = blueprint.spec
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="topology" role="img" '
        f'width="{layout.width:.0f}" height="{layout.height:.0f}" '
        f'viewBox="0 0 {layout.width:.0f} {layout.height:.0f}">'
    )
    parts = [head, f"<title>{escape(title(blueprint))}</title>", f"<style>{_scoped(_STYLE)}</style>"]
    parts += _cables(blueprint.underlay, layout)
    parts += [_drawn(box) for row in layout.rows for box in row]
    if blueprint.connects_nodes and len(spec.nodes) > 1:
        parts.append(_band(blueprint, layout))
    parts.append(_text(_MARGIN, layout.height - 9, _choices(blueprint), "small"))
    parts.append("</svg>\n")
    return "\n".join(parts)


def title(blueprint: Blueprint) -> str:
    """The cluster in a line."""
    spec = blueprint.spec
    count = f"{len(spec.nodes)} node{'s' if len(spec.nodes) > 1 else ''}"
    return f"{count} on underlay {spec.underlay_name}, fabric {_fabric_title(blueprint)}"


def network_title(blueprint: Blueprint) -> str:
    """The network of the pods in a line."""
    return f"pod network {blueprint.spec.network.pods}: {_fabric_title(blueprint)}, MTU {blueprint.plan.pod_mtu}"


def has_tunnels(blueprint: Blueprint) -> bool:
    """Whether pods' packets cross between nodes inside other packets."""
    return blueprint.fabric.is_weave or any(state.links for state in blueprint.states.values())


def _choices(blueprint: Blueprint) -> str:
    """What no box shows: which plugin, which proxy, which store."""
    spec = blueprint.spec
    if not spec.masters:
        return f"CNI {Path(spec.cni).name}, no control plane"
    proxy = Path(spec.proxy.exec[0]).name if spec.proxy.exec else mode_title(proxying.proxy_mode(spec))
    return f"CNI {Path(spec.cni).name}, kube-proxy {proxy}, objects in {spec.control_plane.store}"


def _scoped(style: str) -> str:
    """Rules that count inside a topology drawing only: a page may have the SVG among others."""
    rules = (rule.strip() for rule in style.replace("\n", "").split("}") if rule.strip())
    return "".join(f".topology {rule}}}" for rule in rules)


def _fabric_title(blueprint: Blueprint) -> str:
    fabric = blueprint.spec.fabric
    return fabric.name or f"of {fabric.exec[0]}"


def _distances(underlay: Underlay) -> dict[str, int]:
    """How many cables lie between each host or switch and the nearest node."""
    neighbours: dict[str, list[str]] = {}
    for cable in underlay.cables:
        one, other = (end.owner for end in cable.ends)
        neighbours.setdefault(one, []).append(other)
        neighbours.setdefault(other, []).append(one)
    found = {host.name: 0 for host in underlay.with_role("node")}
    waiting = list(found)
    while waiting:
        name = waiting.pop(0)
        for other in neighbours.get(name, []):
            if other not in found:
                found[other] = found[name] + 1
                waiting.append(other)
    return found


def _boxes(blueprint: Blueprint) -> dict[str, _Box]:
    underlay, spec = blueprint.underlay, blueprint.spec
    masters = {node.name for node in spec.masters} or {n.name for n in spec.nodes if n.role == "control-plane"}
    subnets = {node.name: node.pod_subnet for node in blueprint.view.nodes}
    pods: dict[str, list[str]] = {}
    for pod in blueprint.pods:
        pods.setdefault(pod.node, []).append(pod.name)
    found = {}
    for host in underlay.hosts.values():
        addresses = [str(each.address) for each in host.interfaces if each.address is not None]
        hint = f"{host.name} ({host.role}): " + ", ".join(addresses)
        if host.role == "node":
            lines = [str(host.address), f"pods {subnets[host.name]}"]
            kind = "master" if host.name in masters else "node"
            own = pods.get(host.name, [])
            hint = f"{host.name}: {addresses[0]}, pods in {subnets[host.name]}"
            found[host.name] = _Box(host.name, kind, lines, hint, own, width=_NODE_W, height=_node_height(own))
        else:
            found[host.name] = _Box(host.name, host.role, [str(host.address)], hint)
    for name in underlay.switches:
        found[name] = _Box(name, "switch", [], f"{name} (switch)", height=26.0)
    for box in found.values():
        box.width = max(box.width, 7.5 * len(box.name) + 6.0 * len(_ROLES.get(box.kind, "")) + 24)
    return found


def _node_height(pods: Sequence[str]) -> float:
    rows = -(-min(len(pods), _MOST_PODS) // _POD_COLUMNS)
    return 58.0 + rows * (_POD + 4) + (16.0 if pods else 0.0)


def _laid_out(blueprint: Blueprint) -> _Layout:
    distances = _distances(blueprint.underlay)
    boxes = _boxes(blueprint)
    levels: dict[int, list[_Box]] = {}
    for name, box in boxes.items():
        levels.setdefault(distances.get(name, 1), []).append(box)
    layout = _Layout()
    beside = _neighbours(blueprint.underlay.cables)
    places: dict[str, float] = {}
    for level in sorted(levels):
        row = levels[level]
        if level:
            row.sort(key=lambda box: _mean([places[name] for name in beside[box.name] if name in places]))
        row = _shortened(row)
        layout.rows.append(row)
        for at, box in enumerate(row):
            for name in box.stands_for or (box.name,):
                places[name] = (at + 0.5) / len(row)
    _place(layout, joined=blueprint.connects_nodes and len(blueprint.spec.nodes) > 1)
    return layout


def _neighbours(cables: Iterable[Cable]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for cable in cables:
        one, other = (end.owner for end in cable.ends)
        found.setdefault(one, []).append(other)
        found.setdefault(other, []).append(one)
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.5


def _shortened(row: list[_Box]) -> list[_Box]:
    """The row with its last boxes as one, where there are too many."""
    if len(row) <= MOST_BOXES:
        return row
    rest = row[MOST_BOXES - 1 :]
    pods = sum(len(box.pods) for box in rest)
    lines = [f"to {rest[-1].name}", *([counted(pods, "pod")] if pods else [])]
    names = [box.name for box in rest]
    many = _Box(f"and {len(rest)} more", "rest", lines, ", ".join(names), (), names, width=rest[0].width)
    many.height = max(_BOX_H + 16 * (len(lines) - 1), rest[0].height)
    return [*row[: MOST_BOXES - 1], many]


def _place(layout: _Layout, *, joined: bool) -> None:
    widths = [sum(box.width for box in row) + _GAP * (len(row) - 1) for row in layout.rows]
    layout.width = max(*widths, _LEAST_W) + 2 * _MARGIN
    y = _MARGIN
    for row, width in zip(reversed(layout.rows), reversed(widths), strict=True):
        spread = (layout.width - 2 * _MARGIN - width) / (len(row) + 1)
        x = _MARGIN + spread
        tallest = max(box.height for box in row)
        for box in row:
            box.x, box.y = x, y + (0 if box.kind in ("node", "master", "rest") else (tallest - box.height) / 2)
            x += box.width + _GAP + spread
        y += max(_ROW_H, tallest + 40)
    last = max(box.y + box.height for box in layout.rows[0])
    layout.height = last + (46.0 if joined else 0.0) + 20 + _MARGIN


def _cables(underlay: Underlay, layout: _Layout) -> list[str]:
    boxes = layout.box_of()
    drawn = {}
    for cable in underlay.cables:
        one, other = (boxes[end.owner] for end in cable.ends)
        if one is other:
            continue
        upper, lower = sorted((one, other), key=lambda box: box.y)
        label = slowed_by(cable)
        drawn[upper.name, lower.name] = (upper, lower, label)
    found = []
    for upper, lower, label in drawn.values():
        x1, y1, x2, y2 = upper.middle, upper.y + upper.height, lower.middle, lower.y
        if upper.y + upper.height > lower.y:  # in one row
            y1, y2 = upper.y + upper.height / 2, lower.y + lower.height / 2
        found.append(f'<path class="cable" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>')
        if label:
            x, y = (x1 + x2) / 2, (y1 + y2) / 2
            found.append(
                f'<text class="small halo" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{escape(label)}</text>'
            )
    return found


def slowed_by(cable: Cable) -> str:
    """What slows a link down, and an MTU that is not the usual one; "" for a plain one."""
    shape = cable.shape
    said = [
        f"{shape.bw:g} Mbit/s" if shape.bw is not None else "",
        shape.delay or "",
        f"{shape.loss:g} % loss" if shape.loss else "",
        f"MTU {cable.mtu}" if cable.mtu != LINK_MTU else "",
    ]
    return ", ".join(each for each in said if each)


def _drawn(box: _Box) -> str:
    is_node = box.kind in ("node", "master")
    role = _ROLES.get(box.kind, "")
    parts = [
        f"<g><title>{escape(box.hint or box.name)}</title>",
        f'<rect class="{box.kind}" x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" '
        f'height="{box.height:.1f}" rx="6"/>',
    ]
    y = box.y + 17
    parts.append(_text(box.x + 9, y, box.name, "name"))
    if role:
        parts.append(_text(box.x + box.width - 8, y, role, "small", "end"))
    for line in box.lines:
        y += 15
        parts.append(_text(box.x + 9, y, line, "" if is_node else "small"))
    if box.pods:
        parts += _pods(box, y + 10)
    parts.append("</g>")
    return "".join(parts)


def _pods(box: _Box, y: float) -> list[str]:
    shown = box.pods[:_MOST_PODS]
    found = []
    for place, name in enumerate(shown):
        x = box.x + 9 + place % _POD_COLUMNS * (_POD + 4)
        at = y + place // _POD_COLUMNS * (_POD + 4)
        found.append(
            f'<rect class="pod" x="{x:.1f}" y="{at:.1f}" width="{_POD:g}" height="{_POD:g}" rx="2">'
            f"<title>pod {escape(name)}</title></rect>"
        )
    under = y + -(-len(shown) // _POD_COLUMNS) * (_POD + 4) + 10
    found.append(_text(box.x + 9, under, f"{len(box.pods)} pod{'s' if len(box.pods) > 1 else ''}", "small"))
    return found


def _band(blueprint: Blueprint, layout: _Layout) -> str:
    first, last = layout.rows[0][0], layout.rows[0][-1]
    y = max(box.y + box.height for box in layout.rows[0]) + 16
    ends = "".join(
        f'<path class="cable" d="M{box.middle:.1f} {box.y + box.height:.1f}V{y:.1f}" stroke-dasharray="3 3"/>'
        for box in layout.rows[0]
    )
    words = network_title(blueprint)
    width = last.x + last.width - first.x
    dashes = ' stroke-dasharray="6 4"' if has_tunnels(blueprint) else ""
    return (
        f"<g><title>{escape(words)}</title>{ends}"
        f'<rect class="band"{dashes} x="{first.x:.1f}" y="{y:.1f}" width="{width:.1f}" height="26" rx="6"/>'
        f"{_text(first.x + width / 2, y + 17, words, '', 'middle')}</g>"
    )


def _text(x: float, y: float, words: str, look: str = "", anchor: str = "") -> str:
    facts: Mapping[str, str] = {"class": look, "text-anchor": anchor}
    more = "".join(f" {key}={quoteattr(value)}" for key, value in facts.items() if value)
    return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{escape(words)}</text>'
