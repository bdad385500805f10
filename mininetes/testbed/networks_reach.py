"""Whom each kind of container network reaches: declared as data, and measured with packets from guests of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mininetes.errors import BadInput
from mininetes.probes.connections import ConnectOptions
from mininetes.probes.matrix import Expectation, Verdict
from mininetes.probes.outcomes import Outcome
from mininetes.probes.reachability import SweepOptions
from mininetes.probes.vantage import Flow, Target, Vantage
from mininetes.spec_sections import ContainerSpec
from mininetes.testbed.networks import GATEWAY_BRIDGE, PREDEFINED, Network
from mininetes.testbed.networks_catalogue import Catalogue

if TYPE_CHECKING:
    from mininetes.testbed.testbed import Testbed  # which has the networks

OWN, OTHER, HOST, OTHER_NODE, OUTSIDE = "own network", "other network", "host", "other node", "outside"
LOOPBACK, OWN_PORT = "node's loopback", "own port"
"""Of a port that a member publishes: the node asks at 127.0.0.1, and the member itself at the node's address."""
DESTINATIONS = (OWN, OTHER, HOST, OTHER_NODE, OUTSIDE, LOOPBACK, OWN_PORT)
_PORT, _FIRST_PORT = 8080, 61001
"""At which guests answer, and where they publish: beyond the ports that kernels and node ports take from."""
NOBODY = "0.0.0.0"  # noqa: S104 - the address of who has none, not one to listen at


def _yes(reason: str) -> Expectation:
    return Expectation(True, reason)


def _no(reason: str) -> Expectation:
    return Expectation(False, reason)


_AS_NODE = _yes("leaves as its node")
_ON_WIRE = _yes("is on the node's own wire")
_NO_ROUTER = _no("nobody routes its subnet")
_NOT_TO_PARENT = _no("a child and its parent do not meet")
_NOTHING = _no("has loopback alone")
_WAY_OUT = _yes("leaves by docker_gwbridge")
_ON_LAN = {OWN: _yes("one wire"), HOST: _NOT_TO_PARENT, OTHER_NODE: _ON_WIRE, OUTSIDE: _ON_WIRE}
_APART_FROM_LAN = {OWN: _yes("one wire"), HOST: _NOT_TO_PARENT, OTHER_NODE: _NO_ROUTER, OUTSIDE: _NO_ROUTER}
_PRIVATE = {OWN: _no("mode private keeps its members apart")}
_BRIDGE = {
    OWN: _yes("one bridge"),
    HOST: _yes("the node is the gateway"),
    OTHER_NODE: _AS_NODE,
    OUTSIDE: _AS_NODE,
    LOOPBACK: _yes("the bridge routes loopback addresses"),
    OWN_PORT: _yes("its port of the bridge sends back"),
}
_ICC_FALSE = _no("icc=false drops what comes back to its bridge")
_NODE = _yes("is the node")

REACHES: Mapping[str, Mapping[str, Expectation]] = {
    "bridge": _BRIDGE,
    "bridge, icc false": {
        **_BRIDGE,
        OWN: _no("icc=false keeps its members apart"),
        OWN_PORT: _ICC_FALSE,
    },
    "host": {HOST: _NODE, OTHER_NODE: _NODE, OUTSIDE: _NODE},
    "none": {HOST: _NOTHING, OTHER_NODE: _NOTHING, OUTSIDE: _NOTHING},
    "macvlan bridge": _ON_LAN,
    "macvlan private": {**_ON_LAN, **_PRIVATE},
    "macvlan bridge, own subnet": _APART_FROM_LAN,
    "macvlan private, own subnet": {**_APART_FROM_LAN, **_PRIVATE},
    "ipvlan l2": _ON_LAN,
    "ipvlan l2, own subnet": _APART_FROM_LAN,
    "ipvlan l3": {
        OWN: _yes("routed by the parent"),
        HOST: _no("the node has no way back"),
        OTHER_NODE: _NO_ROUTER,
        OUTSIDE: _NO_ROUTER,
    },
    "overlay": {
        OWN: _yes("VXLAN between the nodes"),
        HOST: _WAY_OUT,
        OTHER_NODE: _WAY_OUT,
        OUTSIDE: _WAY_OUT,
        LOOPBACK: _yes("docker_gwbridge routes loopback addresses"),
        OWN_PORT: _ICC_FALSE,
    },
}
"""By kind of network and destination; other networks are in `MEETS`. What is not there cannot be asked for: ports are
published of members of bridges alone, docker_gwbridge among them.
"""

MEETS: Mapping[tuple[str, str], str] = {
    ("host", "bridge"): "the node is the gateway",
    ("host", "bridge, icc false"): "the node is the gateway",
    ("macvlan bridge", "macvlan bridge"): "one wire, one subnet",
    ("ipvlan l2", "ipvlan l2"): "one wire, one subnet",
}
"""The kinds of which one network reaches another of the same node; no others do."""


@dataclass(frozen=True)
class Row:
    """One question of the table, and what was measured: does ``network``'s member on ``node`` reach ``target``?

    Of the destination `LOOPBACK` it is the node that asks, for a port of ``network``'s member.
    """

    network: str
    kind: str
    node: str
    destination: str
    target: str
    address: str
    expected: bool
    reason: str
    reached: bool
    detail: str = ""

    @property
    def verdict(self) -> Verdict:
        """How the two compare."""
        if self.expected:
            return Verdict.REACHED if self.reached else Verdict.LOST
        return Verdict.LEAKED if self.reached else Verdict.UNREACHED

    def as_json(self) -> dict[str, Any]:
        """The row with its verdict, as plain JSON."""
        return {**asdict(self), "verdict": self.verdict.value}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Row:
        """The row of its JSON."""
        return cls(**{key: value for key, value in row.items() if key != "verdict"})


def expect(network: Network, destination: str, other: Network | None = None) -> Expectation:
    """What is declared for a network's members; ``other`` is the other network. Raises KeyError for what is not."""
    if other is None:
        return REACHES[network.kind][destination]
    reason = MEETS.get((network.kind, other.kind))
    return _yes(reason) if reason is not None else _no("networks are kept apart")


@dataclass(frozen=True, eq=False)
class _Question:
    network: Network
    destination: str
    flow: Flow
    expected: Expectation
    answers: str = ""
    """Who alone is to answer at a port."""

    def answered(self, outcome: Outcome) -> Row:
        target, detail = self.flow.target, "" if outcome.reached else str(outcome)
        reached = outcome.reached
        if self.answers and reached and (outcome.answer is None or outcome.answer.pod != self.answers):
            reached, detail = False, f"{outcome.answer.pod if outcome.answer else 'another'} answered"
        return Row(
            self.network.name,
            self.network.kind,
            self.flow.source.node,
            self.destination,
            target.name,
            target.address,
            self.expected.reached,
            self.expected.reason,
            reached,
            detail,
        )


async def measure(testbed: Testbed, names: Sequence[str] = (), options: SweepOptions | None = None) -> list[Row]:
    """Ask from every network (or these) whom its members reach. Raises BadInput for a name that no network has.

    Two guests join each network for as long as it takes, and what was made for them goes with them.
    """
    networks = testbed.container_networks()
    wanted = guests_of(_asked(await networks.complete(), networks.catalogue, names), networks.catalogue)
    options = options or SweepOptions()
    patience = ConnectOptions(timeout_s=min(60.0, options.attempts * options.timeout_s))
    async with networks.guests(wanted) as found:
        guests = [
            Guest(end.network, end.node, netns, str(end.address or NOBODY), end.owner, spec.publish)
            for spec, (end, netns) in zip(wanted, found, strict=True)
        ]
        questions = _questions(testbed, guests, names)
        packets = [each for each in questions if not each.answers]
        ports = [each for each in questions if each.answers]
        heard = await testbed.prober.sweep([each.flow for each in packets], options)
        heard += await testbed.prober.connect([each.flow for each in ports], patience)
    rows = {each: each.answered(outcome) for each, outcome in zip([*packets, *ports], heard, strict=True)}
    return [rows[each] for each in questions]


def _asked(all_networks: Catalogue, made: Catalogue, names: Sequence[str]) -> list[Network]:
    """The networks that get guests: those that were made, and the predefined ones of their nodes, or of the first."""
    known = sorted({each.name for each in all_networks.networks if each.name != GATEWAY_BRIDGE})
    for name in names:
        if name not in known:
            raise BadInput("NETWORK", name, f"a network that there is: {', '.join(known)}")
    nodes = [each.nodes[0] for each in made.networks if each.name != GATEWAY_BRIDGE]
    nodes = nodes or [all_networks.networks[0].nodes[0]]
    found = [each for each in all_networks.networks if each.name != GATEWAY_BRIDGE]
    return [each for each in found if not each.is_predefined or each.node in nodes]


def guests_of(networks: Iterable[Network], made: Catalogue) -> list[ContainerSpec]:
    """The guests: two on a network, of an overlay one more on each other node; one on none, and no one on host.

    The first of those of which ports can be published has one of its node that no container has.
    """
    taken = {each.host_port for container in made.containers.values() for each in container.publish}
    free = (port for port in range(_FIRST_PORT, 65536) if port not in taken)
    wanted: list[ContainerSpec] = []
    for network in networks:
        if network.driver == "host":
            continue
        publish = (f"{next(free)}:{_PORT}",) if OWN_PORT in REACHES[network.kind] else ()
        for node in network.nodes[:1] if network.driver == "null" else (network.nodes[0], *network.nodes):
            name = f"probe-{len(wanted) + 1}"
            wanted.append(ContainerSpec(name=name, node=node, networks=(network.name,), port=_PORT, publish=publish))
            publish = ()
    return wanted


@dataclass(frozen=True)
class Guest:
    """Who stands for a network on a node: a container that was made for it."""

    network: Network
    node: str
    netns: str
    address: str
    owner: str = ""
    publish: tuple[str, ...] = ()

    @property
    def vantage(self) -> Vantage:
        """It as an end of packets."""
        return Vantage(f"{self.network.name} on {self.node}", "pod", self.node, self.address, self.netns)


def _questions(testbed: Testbed, guests: Sequence[Guest], names: Sequence[str]) -> list[_Question]:
    nodes = {each.name: each for each in testbed.vantages("node")}
    outside = [each for each in testbed.vantages("outside") if not each.name.startswith("blocked")][:1]
    by_network: dict[Network, list[Guest]] = {}
    for guest in guests:
        by_network.setdefault(guest.network, []).append(guest)
    for node in {members[0].node: None for members in by_network.values()}:  # on host, the node itself stands for it
        host = Network("host", PREDEFINED["host"], (node,))
        by_network[host] = [Guest(host, node, nodes[node].netns, nodes[node].address)]
    questions = []
    for network, members in by_network.items():
        if names and network.name not in names:
            continue
        source = members[0]
        ends: list[tuple[str, Target, Expectation]] = [
            (OWN, each.vantage, expect(network, OWN)) for each in members[1:]
        ]
        for other, strangers in by_network.items():
            near = [each for each in strangers if each.node == source.node and each.address != NOBODY]
            if other != network and near and other.driver != "host":
                target = Target(f"{other.name} on {source.node}", "pod", source.node, near[0].address)
                ends.append((OTHER, target, expect(network, OTHER, other)))
        ends.append((HOST, nodes[source.node], expect(network, HOST)))
        elsewhere = [each for name, each in nodes.items() if name != source.node]
        ends += [(OTHER_NODE, each, expect(network, OTHER_NODE)) for each in elsewhere[:1]]
        ends += [(OUTSIDE, each, expect(network, OUTSIDE)) for each in outside]
        questions += [
            _Question(network, destination, Flow(source.vantage, target), expected)
            for destination, target, expected in ends
        ]
        questions += _port_questions(source, nodes[source.node])
    return questions


def _port_questions(guest: Guest, node: Vantage) -> list[_Question]:
    """Does what a guest publishes answer at its node's loopback, and to itself?"""
    found = []
    for host_port in (int(text.partition(":")[0]) for text in guest.publish):
        title = f"port {host_port} of {guest.node}"
        for destination, source, address in (
            (LOOPBACK, node, "127.0.0.1"),
            (OWN_PORT, guest.vantage, node.address),
        ):
            flow = Flow(source, Target(title, "node", guest.node, address), "tcp", host_port)
            found.append(_Question(guest.network, destination, flow, expect(guest.network, destination), guest.owner))
    return found


async def rows_of(testbed: Testbed, request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The table as JSON, as the control socket gives it."""
    options = SweepOptions(attempts=request["attempts"], timeout_s=request["timeout_s"])
    return [row.as_json() for row in await measure(testbed, request["names"], options)]


def holds(rows: Iterable[Row]) -> bool:
    """Whether everything is as declared."""
    return all(row.verdict.holds for row in rows)
