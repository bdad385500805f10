"""Which connections the truth table tries, and what is expected of each. Pure.

       who asks                               what is asked
each node, a pod on each,          cluster IP, external IPs, load balancer's addresses,
an endpoint itself on each,   x    the node port of the own node and of another one
clients outside, blocked ones      (the node: on localhost too; from outside: of every node),
                                   and so the health-check node port, once for a service
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mininetes.agents.kubeproxy.configuration import Mode
from mininetes.agents.kubeproxy.view import NodeView, PortTraffic
from mininetes.probes.truth_expectation import (
    LOCALHOST,
    AddressKind,
    Asker,
    Expected,
    Outcome,
    expect,
    takes_node_ports,
)
from mininetes.probes.vantage import Vantage


@dataclass(frozen=True)
class Scene:
    """A cluster as the truth table sees it.

    ``views`` and ``addresses`` (all that a node has) by node. ``responders``: the pod that answers at an endpoint,
    by ``address:port/protocol``. ``entries``: the nodes to which the network leads a packet for an address of a
    service that a host (by name) sends into it, or that its node leaves alone; none when it is not led there.
    ``masquerades``: pods' packets to other nodes' addresses leave as their node's.
    """

    mode: Mode
    views: Mapping[str, NodeView]
    addresses: Mapping[str, frozenset[str]]
    vantages: Sequence[Vantage]
    responders: Mapping[str, str]
    entries: Callable[[str, str], Sequence[str]]
    masquerades: bool = False


@dataclass(frozen=True)
class Path:
    """A node whose rules may translate the packet, what is expected then, and which clients endpoints may see.

    ``as_node``: when it is masqueraded; ``unchanged``: when it is not. ``led_on``: what the node leaves alone comes
    to a node all the same, from off the machine.
    """

    node: str
    expected: Expected
    as_node: frozenset[str]
    unchanged: frozenset[str]
    led_on: bool = False


@dataclass(frozen=True)
class Question:
    """One row to measure: who asks what, and each path that the network may choose.

    ``who`` says what the source is to the service. ``endpoints``: what answers as which pod, by the pod's title;
    ``mute``: the service's endpoints that do not say who they are.
    """

    mode: Mode
    service: str
    source: Vantage
    who: str
    to: AddressKind
    at: str
    address: str
    port: int
    protocol: str
    paths: tuple[Path, ...]
    endpoints: Mapping[str, str]
    mute: frozenset[str] = frozenset()

    def tells(self, path: Path) -> bool:
        """Whether all endpoints of a path say who they are; of one that leads to none, all of the service."""
        return self.mute.isdisjoint(path.expected.endpoints) if path.expected.endpoints else not self.mute


@dataclass(frozen=True)
class Questions:
    """What is asked, and what is not, with the reason."""

    asked: tuple[Question, ...]
    skipped: tuple[str, ...]


def questions(scene: Scene, wanted: Callable[[str], bool] = lambda _: True) -> Questions:
    """All rows for the services (``namespace/name``) that are wanted."""
    asked: list[Question] = []
    skipped: list[str] = []
    if not scene.views:
        return Questions((), ())
    names = {view.node: {_key(each): each for each in view.ports} for view in scene.views.values()}
    health: set[int] = set()
    for key, traffic in next(iter(names.values())).items():
        port = traffic.port
        if not wanted(f"{port.namespace}/{port.service}"):
            continue
        mute = _mute(scene, traffic)
        if port.protocol == "sctp" or (port.protocol == "udp" and mute):
            which = "its" if len(mute) == len(traffic.endpoints) else "some of its"
            why = (
                "nothing here speaks SCTP" if port.protocol == "sctp" else f"{which} endpoints do not say who they are"
            )
            skipped.append(f"{port.name}/{port.protocol}: {why}")
            continue
        by_node = {node: ports[key] for node, ports in names.items() if key in ports}
        asked += _of_port(scene, by_node, mute, skipped)
        if port.health_check_node_port and port.health_check_node_port not in health:
            health.add(port.health_check_node_port)
            asked += _of_health(scene, by_node)
    return Questions(tuple(asked), tuple(skipped))


def _key(traffic: PortTraffic) -> tuple[str, str]:
    return traffic.port.name, traffic.port.protocol


def _endpoint_key(traffic: PortTraffic, endpoint: str) -> str:
    return f"{endpoint}/{traffic.port.protocol}"


def _mute(scene: Scene, traffic: PortTraffic) -> frozenset[str]:
    endpoints = map(str, traffic.endpoints)
    return frozenset(each for each in endpoints if not scene.responders.get(_endpoint_key(traffic, each)))


def _of_port(
    scene: Scene, by_node: Mapping[str, PortTraffic], mute: frozenset[str], skipped: list[str]
) -> Iterator[Question]:
    traffic = next(iter(by_node.values()))
    port = traffic.port
    titles = {str(each): scene.responders.get(_endpoint_key(traffic, str(each)), "") for each in traffic.endpoints}
    endpoints = {title: endpoint for endpoint, title in titles.items() if title}
    addresses = {each.address for each in traffic.endpoints}
    for source, who in _sources(scene, by_node, addresses):
        for to, at, address, number in _targets(scene, traffic, source):
            nodes = _translating(scene, source, to, at, address)
            paths = tuple(_path(scene, by_node[node], source, node, (to, address)) for node in nodes if node in by_node)
            row = f"{port.name}: {source.name} -> {to}{f' of {at}' if at else ''}"
            if not paths:
                skipped.append(f"{row}: the network does not lead there")
            elif any(_comes_back_past_it(path, source, by_node[path.node]) for path in paths):
                skipped.append(f"{row}: replies would not pass {at}, which no mode can help")
            else:
                yield Question(
                    scene.mode, port.name, source, who, to, at, address, number, port.protocol, paths, endpoints, mute
                )


def _of_health(scene: Scene, by_node: Mapping[str, PortTraffic]) -> Iterator[Question]:
    """What a load balancer asks of each node, whoever asks it; the first port stands for its service."""
    kind: AddressKind = "health check node port"
    traffic = next(iter(by_node.values()))
    service, number = traffic.port.name, traffic.port.health_check_node_port
    for source, who in _sources(scene, by_node, {each.address for each in traffic.endpoints}):
        for node in (each for each in _nodes_asked(scene, source) if each in by_node):
            address = scene.views[node].address
            path = _path(scene, by_node[node], source, node, (kind, address))
            yield Question(scene.mode, service, source, who, kind, node, address, number, "tcp", (path,), {})


def _nodes_asked(scene: Scene, source: Vantage) -> list[str]:
    """The nodes whose own addresses a source asks: its own and another one; from outside all."""
    names = list(scene.views)
    if source.kind == "outside":
        return names
    first = names.index(source.node)
    return [*names[first:], *names[:first]][:2]


def _sources(scene: Scene, nodes: Iterable[str], endpoints: set[str]) -> Iterator[tuple[Vantage, str]]:
    """Each node, its first pod that is no endpoint, its first that is one; and all that is outside."""
    for node in nodes:
        pods = [each for each in scene.vantages if each.kind == "pod" and each.node == node]
        yield from ((each, "node") for each in scene.vantages if each.kind == "node" and each.name == node)
        others = [(each, "pod") for each in pods if each.address not in endpoints]
        own = [(each, "endpoint itself") for each in pods if each.address in endpoints]
        yield from [*others[:1], *own[:1]]
    for each in scene.vantages:
        if each.kind == "outside":
            yield each, "outside"


_Target = tuple[AddressKind, str, str, int]


def _targets(scene: Scene, traffic: PortTraffic, source: Vantage) -> Iterator[_Target]:
    """What a source asks: the kind of address, of which node, the address and the port."""
    port = traffic.port
    inside = source.kind != "outside"
    if inside:
        yield "cluster IP", "", port.cluster_ip, port.port
    yield from (("external IP", "", ip, port.port) for ip in port.external_ips)
    yield from (("load balancer", "", ip, port.port) for ip in port.load_balancer_ips)
    if not port.node_port:
        return
    for node in _nodes_asked(scene, source):
        view = scene.views[node]
        yield "node port", node, view.address, port.node_port
        if node == source.node and not takes_node_ports(view, view.address):
            # one of the addresses that do; how others are led there is the fabric's affair
            others = [ip for ip in view.node_port_ips if not ip.startswith("127.")]
            yield from (("node port", node, ip, port.node_port) for ip in others[:1])
    if source.kind == "node" and port.protocol == "tcp":
        yield "localhost", source.node, LOCALHOST, port.node_port


def _translating(scene: Scene, source: Vantage, to: AddressKind, at: str, address: str) -> Sequence[str]:
    """The nodes whose rules the packet may meet: the one whose address it is, or the first that it passes."""
    if to == "node port":
        return [at]
    return [source.node] if source.kind != "outside" else scene.entries(source.name, address)


def _path(scene: Scene, traffic: PortTraffic, source: Vantage, node: str, target: tuple[AddressKind, str]) -> Path:
    to, asked = target
    view = scene.views[node]
    crosses = source.node not in ("", node)
    as_node = crosses and source.kind == "pod" and scene.masquerades
    own = source.kind == "node" and not crosses
    address = scene.views[source.node].address if as_node else source.address
    if own and to == "node port":
        address = asked  # what a node sends to an address of its own comes from that address
    asker = Asker(
        address,
        own=own,
        pod=source.kind == "pod" and not as_node,
        here=source.node == node,
    )
    unchanged = scene.addresses[source.node] if as_node else frozenset({address})
    led_on = to in ("external IP", "load balancer") and bool(scene.entries(node, asked))
    return Path(node, expect(view, traffic, scene.mode, asker, to, asked), scene.addresses[node], unchanged, led_on)


def _comes_back_past_it(path: Path, source: Vantage, traffic: PortTraffic) -> bool:
    """Whether a pod asks another node, which sends it on to a third one as it is: replies go straight to the pod."""
    said = path.expected
    if source.kind != "pod" or source.node == path.node or said.outcome is not Outcome.DNAT or said.masquerade:
        return False
    if source.address not in path.unchanged:
        return False
    return any(str(each) in said.endpoints and each.node != path.node for each in traffic.endpoints)
