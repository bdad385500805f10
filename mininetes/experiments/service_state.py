"""Many services without an API server: their objects in memory, and their rules in one node of a running lab.

A node's kube-proxy writes the same rules for the same objects, wherever those come from. So an experiment on 30,000
services needs no 30,000 objects in a store: it makes them here and keeps the node's rules itself.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
import shlex
import time
import weakref
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from mininetes.addressing import PODS
from mininetes.agents.klog import AgentLog
from mininetes.agents.kubeproxy.compiling import compiler
from mininetes.agents.kubeproxy.configuration import Mode, kube_proxy_config
from mininetes.agents.kubeproxy.metrics import Metrics
from mininetes.agents.kubeproxy.preconditions import needed_features
from mininetes.agents.kubeproxy.restoring import Backend, NodeTools
from mininetes.agents.kubeproxy.rule_keeper import RuleKeeper, Synced
from mininetes.agents.kubeproxy.rulesets import IptablesRuleset, NftablesRuleset, Ruleset, restore_text
from mininetes.agents.kubeproxy.view_builder import NodeFacts, ViewBuilder
from mininetes.errors import BadInput
from mininetes.kernel import features
from mininetes.kernel.processes import Namespaces, let_thread_enter, run
from mininetes.lab.filesystem import node_path

if TYPE_CHECKING:
    from mininetes.agents.agent import Placement
    from mininetes.testbed.testbed import Testbed

MODES: Mapping[str, tuple[Mode, Backend | None]] = {
    "iptables-nft": ("iptables", "nft"),
    "iptables-legacy": ("iptables", "legacy"),
    "nftables": ("nftables", None),
}
"""The ways to write rules that are told apart here: kube-proxy's mode, and the back end of iptables."""

SERVICE_PORT = 80
MOST_SERVICES = 100_000
_FIRST = IPv4Address("10.96.1.0")
_PROGRAM_S = 900.0
_LEFT_OUT = "KUBE-SVC-LEFTOUT"
_NFT_LEFT_OUT = "service-left-out"


def checked_mode(mode: str) -> str:
    """The mode, when it is one of `MODES`. Raises BadInput; ipvs and userspace are refused by name."""
    if mode in MODES:
        return mode
    right = f"one of {', '.join(MODES)}"
    if mode in ("ipvs", "userspace"):
        right += f"; {mode} is left out here, as what it writes is no list of rules in one namespace"
    raise BadInput("mode", mode, right)


def one_node(pods: int = 0) -> dict[str, Any]:
    """The ``spec`` of a cluster for such rules: one node without a control plane, which would write its own."""
    return {
        "nodes": {"controlPlane": 1, "workers": 0},
        "fabric": "static",
        "controlPlane": {"store": "none"},
        "pods": {"perNode": pods},
    }


def require(mode: str) -> None:
    """See that the machine has what a mode needs, by trying it. Blocking. Raises MissingFeature."""
    features.require(needed_features(*MODES[checked_mode(mode)]))


def checked_services(count: int) -> int:
    """The number of services, when there is room for them. Raises BadInput."""
    if not 1 <= count <= MOST_SERVICES:
        raise BadInput("services", count, f"1 to {MOST_SERVICES}")
    return count


def name_of(number: int) -> str:
    """A service's name. Names sort as numbers do, so that the number is the place among the rules."""
    return f"s{number:06d}"


def address_of(number: int) -> str:
    """A service's cluster IP."""
    return str(_FIRST + number)


def spread(services: int, wanted: int, seed: int) -> list[int]:
    """``wanted`` different services, one at random from each of as many equal parts of the rules; all, if fewer."""
    if wanted >= services:
        return list(range(services))
    chance = random.Random(seed)
    edges = [part * services // wanted for part in range(wanted + 1)]
    return [chance.randrange(first, end) for first, end in itertools.pairwise(edges)]


def service(number: int, protocol: str = "TCP") -> dict[str, Any]:
    """A ClusterIP service with one port."""
    return {
        "metadata": {"name": name_of(number), "namespace": "default"},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address_of(number),
            "ports": [{"name": "probe", "port": SERVICE_PORT, "protocol": protocol}],
        },
    }


@dataclass(frozen=True)
class End:
    """An endpoint: its address, and its pod's node."""

    address: str
    node: str


def endpoint_slice(number: int, ends: Sequence[End], port: int, protocol: str = "TCP") -> dict[str, Any]:
    """A service's endpoints, all of them ready."""
    name = name_of(number)
    return {
        "metadata": {
            "name": f"{name}-1",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"name": "probe", "port": port, "protocol": protocol}],
        "endpoints": [{"addresses": [each.address], "nodeName": each.node} for each in ends],
    }


@dataclass(frozen=True)
class Services:
    """What a node's proxy is told: ``count`` services, each with the same endpoints at ``port``."""

    count: int
    ends: tuple[End, ...]
    port: int = 8080
    protocol: str = "TCP"

    def fill(self, builder: ViewBuilder) -> None:
        """Tell a node's view of all of them."""
        for number in range(self.count):
            builder.set_service(f"default/{name_of(number)}", service(number, self.protocol))
            self.set_ends(builder, number, self.ends)

    def set_ends(self, builder: ViewBuilder, number: int, ends: Sequence[End]) -> None:
        """Tell a node's view that one service has these endpoints."""
        slice_ = endpoint_slice(number, ends, self.port, self.protocol)
        builder.set_slice(f"default/{name_of(number)}-1", slice_, slice_)


def view_builder(mode: str, node: NodeFacts, pods: str) -> ViewBuilder:
    """The empty view of one node; ``pods`` is the network whose packets are not masqueraded."""
    return ViewBuilder(node, MODES[checked_mode(mode)][0], kube_proxy_config({"clusterCIDR": pods}))


def compiled(mode: str, services: Services, node: NodeFacts, pods: str) -> Ruleset:
    """All rules of these services on one node."""
    builder = view_builder(mode, node, pods)
    services.fill(builder)
    builder.refresh()
    return compiler(builder.mode)(builder.view())


def compiled_on(place: Placement, mode: str, services: int, ends: Sequence[End]) -> Ruleset:
    """All rules of so many services with these endpoints, on that node."""
    facts = NodeFacts(place.node, place.address, addresses=(place.address,))
    return compiled(mode, Services(services, tuple(ends)), facts, str(PODS))


def lines_of(ruleset: IptablesRuleset) -> list[tuple[str, str]]:
    """Every rule with its table, in the order in which a restore writes them; those of built-in chains come last."""
    lines = [(table, line) for (table, _), rules in ruleset.chains.items() for line in rules]
    return lines + [(jump.table, f"-A {jump.chain} {jump.rule}") for jump in ruleset.jumps]


def without_rules(ruleset: IptablesRuleset) -> str:
    """For iptables-restore: its tables with its chains alone, all of them empty, the built-in ones too."""
    return restore_text(dict.fromkeys(ruleset.chains, ()))


def on_the_way(ruleset: Ruleset, probed: Collection[int]) -> Ruleset:
    """The rules that packets to the ``probed`` services meet, alone: every dispatching rule, and their own chains.

    Dispatching rules (of KUBE-SERVICES, or elements of @service-ips) of other services lead to one empty chain
    instead of their own: a packet that does not match passes by at the same cost wherever a rule leads to.
    """
    addresses = {address_of(number) for number in probed}
    if isinstance(ruleset, IptablesRuleset):
        return _iptables_on_the_way(ruleset, addresses)
    if isinstance(ruleset, NftablesRuleset):
        return _nftables_on_the_way(ruleset, addresses)
    raise BadInput("mode", type(ruleset).__name__, "a mode of which packets pass a list or a map of rules")


def _iptables_on_the_way(ruleset: IptablesRuleset, addresses: Collection[str]) -> IptablesRuleset:
    nat = ("nat", "KUBE-SERVICES")
    kept, lines = set(), []
    for line in ruleset.chains[nat]:
        head, _, target = line.rpartition(" -j ")
        is_service = target.startswith("KUBE-SVC-")
        if is_service and line.split(" ", 4)[3].removesuffix("/32") not in addresses:
            lines.append(f"{head} -j {_LEFT_OUT}")
            continue
        lines.append(line)
        if is_service:
            kept.add(target)
    ends = {
        line.rpartition(" -j ")[2] for name in kept for line in ruleset.chains["nat", name] if " -j KUBE-SEP-" in line
    }
    chains = {
        (table, name): rules
        for (table, name), rules in ruleset.chains.items()
        if not name.startswith(("KUBE-SVC-", "KUBE-SEP-")) or name in kept or name in ends
    }
    return dataclasses.replace(ruleset, chains={**chains, nat: tuple(lines), ("nat", _LEFT_OUT): ()})


def _nftables_on_the_way(ruleset: NftablesRuleset, addresses: Collection[str]) -> NftablesRuleset:
    kept, elements = set(), {}
    for key, rest in ruleset.containers["service-ips"].elements.items():
        if key.split(" . ", 1)[0] in addresses:
            elements[key] = rest
            kept.add(rest.rpartition(" goto ")[2])
        else:
            elements[key] = f" : goto {_NFT_LEFT_OUT}"
    own = {name: rules for name, rules in ruleset.chains.items() if name in kept}
    text = "\n".join(rule for rules in own.values() for rule in rules)
    ends = {word.rstrip(",") for word in text.split() if word.startswith("endpoint-")}
    chains = {
        name: rules
        for name, rules in ruleset.chains.items()
        if not name.startswith(("service-", "endpoint-")) or name in kept or name in ends or "/" not in name
    }
    dispatch = dataclasses.replace(ruleset.containers["service-ips"], elements=elements)
    return dataclasses.replace(
        ruleset,
        chains={**chains, _NFT_LEFT_OUT: ()},
        containers={**ruleset.containers, "service-ips": dispatch},
    )


class NodeRules:
    """The rules of many services in one node of a lab without a control plane, kept as its kube-proxy would.

    One set of rules at a time; `load` it once, then `full` and `partial` write it, or part of it, again.
    """

    def __init__(self, place: Placement, mode: str, services: Services, pods: str) -> None:
        self.mode, self.services = checked_mode(mode), services
        self._place, self._pods = place, pods
        self._log = AgentLog(node_path(place.node, "/var/log/kube-proxy.log"))
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="rules", initializer=let_thread_enter)
        self._builder = view_builder(mode, NodeFacts(place.node, place.address, addresses=(place.address,)), pods)
        self._tools = NodeTools(Namespaces(of_pid=place.holder_pid), MODES[mode][1])
        self._keeper: RuleKeeper | None = None
        self.loaded: Synced | None = None
        """What the first load did."""
        self.kept: dict[str, Any] = {}
        """What an experiment keeps from one repetition in this lab to the next."""

    async def load(self, probed: Collection[int] | None = None) -> Synced:
        """Compile and write the rules: all of them, or those on the way to the ``probed`` services alone.

        Raises MissingFeature when the machine lacks what the mode needs, RestoreFailed when the node's tools refuse
        the rules, ProcessFailed when they take too long.
        """
        await asyncio.to_thread(require, self.mode)
        whole = compiler(self._builder.mode)
        compile_rules = whole if probed is None else lambda view: on_the_way(whole(view), probed)
        await asyncio.to_thread(self.services.fill, self._builder)
        await asyncio.to_thread(self._builder.refresh)  # as no service is news, no flow to it is stale
        self._keeper = RuleKeeper(
            self._place, self._builder, compile_rules, self._tools, self._log, Metrics(), self._threads
        )
        self.loaded = await self._keeper.sync(whole=True)
        return self.loaded

    async def full(self) -> Synced:
        """Write everything again, whatever is there."""
        assert self._keeper is not None, "nothing was loaded"
        return await self._keeper.sync(whole=True)

    async def partial(self, number: int, ends: Sequence[End]) -> Synced:
        """Give one service these endpoints, and write what that changes."""
        assert self._keeper is not None, "nothing was loaded"
        self.services.set_ends(self._builder, number, ends)
        return await self._keeper.sync(whole=False)

    def close(self) -> None:
        """Let go of the log and the thread; the rules stay until the lab ends. May be called twice."""
        self._threads.shutdown(wait=False)
        self._log.close()


_rules: weakref.WeakKeyDictionary[Testbed, NodeRules] = weakref.WeakKeyDictionary()


def rules_in(testbed: Testbed, mode: str, services: Services, node: str = "node1") -> tuple[NodeRules, bool]:
    """The rules of that lab's node, and whether they are new: the first call makes them, later ones find them.

    Raises BadInput when the lab holds other rules already, or has a control plane whose kube-proxies write their own.
    """
    if testbed.control_plane is not None:
        raise BadInput("spec.controlPlane.store", testbed.spec.control_plane.store, "none: rules are written from here")
    there = _rules.get(testbed)
    if there is not None:
        if (there.mode, there.services) != (mode, services):
            raise BadInput("LAB_PER", None, "a lab for each mode and number of services")
        return there, False
    made = NodeRules(testbed.places()[node], mode, services, str(testbed.spec.network.pods))
    _rules[testbed] = made
    return made, True


class RuleTools:
    """The iptables programs of one back end in one node, each call timed with its process. Blocking.

    ``backend`` is legacy or nft. Raises MissingFeature when the machine has not got it.
    """

    def __init__(self, place: Placement, backend: Backend) -> None:
        require(f"iptables-{backend}")
        self._namespaces = Namespaces(of_pid=place.holder_pid)
        self._backend = backend

    def restore_s(self, text: str) -> float:
        """Replace the tables that the text names by what it says; seconds. Raises ProcessFailed."""
        return self._run_s([f"iptables-{self._backend}-restore"], text)

    def append_s(self, table: str, rule: str) -> float:
        """Append one rule (a line ``-A CHAIN ...``) by a process of its own; seconds. Raises ProcessFailed."""
        return self._run_s([f"iptables-{self._backend}", "-t", table, *shlex.split(rule)])

    def rules(self, table: str) -> int:
        """How many rules the kernel has in a table, whatever their chain."""
        text = run([f"iptables-{self._backend}-save", "-t", table], namespaces=self._namespaces).stdout
        return sum(line.startswith("-A ") for line in text.splitlines())

    def _run_s(self, argv: Sequence[str], stdin: str = "") -> float:
        full = [*self._namespaces.prefix(), *argv]
        began = time.perf_counter()
        run(full, stdin=stdin, timeout_s=_PROGRAM_S)
        return time.perf_counter() - began
