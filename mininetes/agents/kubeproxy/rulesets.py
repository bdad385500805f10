"""What a proxy mode answers: desired state, as values that can be compared and printed.

The texts are those that iptables-restore, nft -f, ipvsadm --restore and ipset restore read.
"""

from __future__ import annotations

import functools
from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from dataclasses import dataclass, field

from mininetes.agents.kubeproxy.services import Endpoint

Chain = tuple[str, str]
"""A chain of iptables: table and name."""

NFT_TABLE = "ip kube-proxy"


@dataclass(frozen=True)
class Jump:
    """A rule in a built-in chain that leads to one of ours. ``rule`` as after ``-A CHAIN``.

    ``last``: it belongs to the end of the built-in chain; otherwise to its beginning.
    """

    table: str
    chain: str
    rule: str
    last: bool = False


class ChainPart(dict[Chain, tuple[str, ...]]):
    """Chains with their rules, of some services. Not to be changed once it is made."""

    @functools.cached_property
    def counts(self) -> tuple[int, int, int, int]:
        """How many chains of filter, their rules; how many chains of nat, their rules."""
        in_filter = [rules for (table, _), rules in self.items() if table == "filter"]
        all_rules, filter_rules = sum(map(len, self.values())), sum(map(len, in_filter))
        return len(in_filter), filter_rules, len(self) - len(in_filter), all_rules - filter_rules


class Chains(Mapping[Chain, tuple[str, ...]]):
    """Chains with their rules, in parts; no chain is in two of them.

    A part in which nothing has changed is the same object in the next ruleset, so that what
    is other among tens of thousands of chains is found without a look at each.
    """

    def __init__(self, parts: Iterable[ChainPart]) -> None:
        self.parts = tuple(parts)

    @functools.cached_property
    def _all(self) -> dict[Chain, tuple[str, ...]]:
        found: dict[Chain, tuple[str, ...]] = {}
        for part in self.parts:
            found.update(part)
        return found

    def __getitem__(self, chain: Chain) -> tuple[str, ...]:
        return self._all[chain]

    def __iter__(self) -> Iterator[Chain]:
        return iter(self._all)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def items(self) -> ItemsView[Chain, tuple[str, ...]]:
        """As a dict's, which is quicker than a Mapping's."""
        return self._all.items()

    def values(self) -> ValuesView[tuple[str, ...]]:
        """As a dict's."""
        return self._all.values()

    def beside(self, other: Chains) -> tuple[ChainPart, ChainPart]:
        """The chains of the parts that only this one has, and of those that only the other one has."""
        same = set(map(id, self.parts)) & set(map(id, other.parts))
        found = (ChainPart(), ChainPart())
        for chains, mine in zip((self, other), found, strict=True):
            for part in chains.parts:
                if id(part) not in same:
                    mine.update(part)
        return found


@dataclass(frozen=True)
class IptablesRuleset:
    """Chains of ours with their rules (whole lines, ``-A CHAIN ...``), and the jumps to them, first ones first.

    ``shared``: chains that others may use as well: they are made and filled, but never removed.
    """

    chains: Mapping[Chain, tuple[str, ...]]
    jumps: tuple[Jump, ...]
    shared: frozenset[Chain] = frozenset()

    @functools.cached_property
    def counts(self) -> Mapping[str, tuple[int, int]]:
        """By table: how many chains, and how many rules in them."""
        parts = self.chains.parts if isinstance(self.chains, Chains) else [ChainPart(self.chains)]
        filter_chains, filter_rules, nat_chains, nat_rules = map(
            sum, zip(*(part.counts for part in parts), strict=True)
        )
        return {"filter": (filter_chains, filter_rules), "nat": (nat_chains, nat_rules)}

    @property
    def rules(self) -> int:
        """How many rules there are, those in built-in chains included."""
        return sum(rules for _, rules in self.counts.values()) + len(self.jumps)

    def text(self) -> str:
        """All of it for ``iptables-restore`` in a namespace that has none of it yet."""
        return restore_text(
            self.chains, extra={table: [f"-A {jump.chain} {jump.rule}" for jump in self.jumps if jump.table == table]
                                for table in ("filter", "nat")}
        )  # fmt: skip


def restore_text(
    chains: Mapping[Chain, Iterable[str]],
    *,
    extra: Mapping[str, Iterable[str]] | None = None,
    remove: Iterable[Chain] = (),
    edits: Mapping[str, Iterable[str]] | None = None,
) -> str:
    """For ``iptables-restore --noflush``: chains emptied and filled, then ``edits``, ``extra`` lines, and removals."""
    lines: list[str] = []
    for table in ("filter", "nat"):
        mine = [(name, rules) for (of, name), rules in chains.items() if of == table]
        gone = [name for of, name in remove if of == table]
        more = [*(edits or {}).get(table, ()), *(extra or {}).get(table, ())]
        if not (mine or gone or more):
            continue
        lines.append(f"*{table}")
        lines += [f":{name} - [0:0]" for name, _ in mine]
        lines += [f":{name} - [0:0]" for name in gone]
        for _, rules in mine:
            lines += rules
        lines += more
        lines += [f"-X {name}" for name in gone]
        lines.append("COMMIT")
    return "\n".join(lines) + "\n" if lines else ""


@dataclass(frozen=True)
class NftContainer:
    """A set or map of nftables: how it is declared, and its elements (key -> what follows the key)."""

    kind: str
    """``set`` or ``map``."""
    declaration: str
    elements: Mapping[str, str] = field(default_factory=dict)
    kept: bool = False
    """The kernel fills it (session affinity): its elements are not ours to remove."""


@dataclass(frozen=True)
class NftablesRuleset:
    """Table ``ip kube-proxy``: chains with their declarations ("" for plain ones) and rules, sets and maps."""

    comment: str
    declarations: Mapping[str, str]
    chains: Mapping[str, tuple[str, ...]]
    containers: Mapping[str, NftContainer]

    @property
    def rules(self) -> int:
        """How many rules and elements there are."""
        return sum(map(len, self.chains.values())) + sum(len(each.elements) for each in self.containers.values())

    def text(self) -> str:
        """All of it for ``nft -f``, in place of a table that may be there."""
        lines = [f"add table {NFT_TABLE}", f"delete table {NFT_TABLE}"]
        lines.append(f'add table {NFT_TABLE} {{ comment "{self.comment}" ; }}')
        lines += [added(name, each) for name, each in self.containers.items()]
        lines += [declared(name, self.declarations.get(name, "")) for name in self.chains]
        for name, rules in self.chains.items():
            lines += [f"add rule {NFT_TABLE} {name} {rule}" for rule in rules]
        for name, each in self.containers.items():
            lines += elements("add", name, each.elements)
        return "\n".join(lines) + "\n"


ELEMENTS_A_LINE = 500


def added(name: str, container: NftContainer) -> str:
    """The command that makes a set or map."""
    return f"add {container.kind} {NFT_TABLE} {name} {{ {container.declaration} }}"


def declared(name: str, declaration: str) -> str:
    """The command that makes a chain."""
    return f"add chain {NFT_TABLE} {name}" + (f" {{ {declaration} }}" if declaration else "")


def elements(action: str, name: str, chosen: Mapping[str, str]) -> list[str]:
    """The commands that add elements to a set or map, or delete them (by key)."""
    texts = [key + (chosen[key] if action == "add" else "") for key in chosen]
    return [
        f"{action} element {NFT_TABLE} {name} {{ {', '.join(texts[at : at + ELEMENTS_A_LINE])} }}"
        for at in range(0, len(texts), ELEMENTS_A_LINE)
    ]


@dataclass(frozen=True, order=True)
class VirtualServer:
    """A virtual server of ipvs. ``persistent_s`` is 0 without session affinity; ``flags`` as ipvsadm's ``-b``."""

    protocol: str
    address: str
    port: int
    scheduler: str
    persistent_s: int = 0
    flags: str = ""

    @property
    def place(self) -> str:
        """Protocol option, address and port, as ipvsadm has them."""
        option = {"tcp": "-t", "udp": "-u", "sctp": "--sctp-service"}[self.protocol]
        return f"{option} {self.address}:{self.port}"

    def __str__(self) -> str:
        persistence = f" -p {self.persistent_s}" if self.persistent_s else ""
        return f"{self.place} -s {self.scheduler}{persistence}" + (f" -b {self.flags}" if self.flags else "")


@dataclass(frozen=True)
class IpvsRuleset:
    """Virtual servers with their real ones (``address:port``), ipsets, addresses of kube-ipvs0, iptables rules."""

    servers: Mapping[VirtualServer, tuple[str, ...]]
    sets: Mapping[str, tuple[str, tuple[str, ...]]]
    """By name: what follows the name in ``create``, and the members."""
    addresses: tuple[str, ...]
    iptables: IptablesRuleset

    @property
    def rules(self) -> int:
        """How many virtual and real servers, set members and iptables rules there are."""
        servers = len(self.servers) + sum(map(len, self.servers.values()))
        return servers + sum(len(members) for _, members in self.sets.values()) + self.iptables.rules

    def ipvsadm_text(self) -> str:
        """For ``ipvsadm --restore``."""
        lines = []
        for server, real in self.servers.items():
            lines.append(f"-A {server}")
            lines += [f"-a {server.place} -r {each} -m -w 1" for each in real]
        return "".join(line + "\n" for line in lines)

    def ipset_text(self) -> str:
        """For ``ipset restore``."""
        lines = []
        for name, (kind, members) in self.sets.items():
            lines.append(f"create {name} {kind}")
            lines += [f"add {name} {member}" for member in members]
        return "".join(line + "\n" for line in lines)

    def addresses_text(self) -> str:
        """For ``ip -batch``."""
        lines = [
            "link add kube-ipvs0 type dummy",
            *(f"address add {each}/32 dev kube-ipvs0" for each in self.addresses),
        ]
        return "".join(line + "\n" for line in lines)


@dataclass(frozen=True)
class Listener:
    """A port on which the userspace proxy accepts traffic of one service port, and hands it on.

    ``proxy_port`` is where it listens; ``affinity_s`` how long a client keeps its endpoint (0: round robin).
    """

    name: str
    protocol: str
    proxy_port: int
    endpoints: tuple[Endpoint, ...]
    affinity_s: int = 0


@dataclass(frozen=True)
class UserspaceRuleset:
    """Listeners of the proxy process, and the rules that lead traffic to them."""

    iptables: IptablesRuleset
    listeners: tuple[Listener, ...]

    @property
    def rules(self) -> int:
        """How many iptables rules there are."""
        return self.iptables.rules

    def text(self) -> str:
        """The rules for ``iptables-restore``; the listeners are comments before them."""
        said = [
            f"# {each.name} {each.protocol}: {each.proxy_port} -> {', '.join(map(str, each.endpoints)) or 'nobody'}"
            for each in self.listeners
        ]
        return "".join(line + "\n" for line in said) + self.iptables.text()


Ruleset = IptablesRuleset | NftablesRuleset | IpvsRuleset | UserspaceRuleset
