"""A kernel on paper: what is asked of it is written down as commands, in order, and nothing is done.

It takes what the real one is given (messages, desired states), and knows of its namespaces what it was told.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mininetes.kernel import applier, rtnl
from mininetes.kernel.commands import command, link_deleted, link_renamed, links_made
from mininetes.kernel.netstate import Found, NetState
from mininetes.kernel.packet_rules import Backend, Iptables, restore_text

OUTERMOST = ""
"""The namespace in which all of it happens: a lab's own."""

_HAS_NETNS_OPTION = ("ip", "bridge", "tc")


@dataclass(frozen=True)
class Step:
    """One command: in which namespace (by its name in ``ip netns``), and what it reads from standard input.

    A step without a command is a ``note`` for people alone. ``section``: what it is part of.
    """

    section: str
    command: str
    place: str = OUTERMOST
    stdin: str = ""
    note: str = ""

    def text(self) -> str:
        """As a shell takes it."""
        lines = [f"# {line}".rstrip() for line in self.note.splitlines()]
        if self.command:
            lines.append(self._placed())
        return "\n".join(lines)

    def _placed(self) -> str:
        program, _, rest = self.command.partition(" ")
        text = self.command
        if self.place and program in _HAS_NETNS_OPTION:
            text = f"{program} -n {shlex.quote(self.place)} {rest}"
        elif self.place:
            text = f"ip netns exec {shlex.quote(self.place)} {self.command}"
        return f"{text} <<'END'\n{self.stdin.rstrip()}\nEND" if self.stdin else text


@dataclass
class _Namespace:
    links: dict[str, int] = field(default_factory=lambda: {"lo": 1})
    told: NetState = applier.NOTHING

    def found(self) -> Found:
        rules: dict[tuple[str, str], tuple[str, ...]] = {}
        for chain in sorted(self.told.chains):
            rules[chain.table, chain.name] = chain.rules
            for where, rule in chain.jumps:
                rules[chain.table, where] = (*rules.get((chain.table, where), ()), rule)
        told = self.told
        return Found(
            dict(self.links), told.up, told.addresses, told.routes, told.sysctls, told.links, told.neighbours,
            told.fdb, rules, told.bridges,
        )  # fmt: skip


class Rehearsal:
    """Takes what would be done, and keeps it as ``steps``."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.section = ""
        self._namespaces: dict[str, _Namespace] = {OUTERMOST: _Namespace()}

    def note(self, text: str) -> None:
        """Something for people to know at this place."""
        self.steps.append(Step(self.section, "", note=text))

    def run(self, place: str, text: str, stdin: str = "") -> None:
        """A command in a namespace."""
        self.steps.append(Step(self.section, text, place, stdin))

    def add_namespace(self, name: str) -> None:
        """Make a network namespace."""
        self._namespaces[name] = _Namespace()
        self.run(OUTERMOST, f"ip netns add {shlex.quote(name)}")

    def index(self, place: str, link: str) -> int:
        """The index of a link that is there."""
        return self._namespaces[place].links[link]

    def batch(self, place: str, requests: Sequence[rtnl.Request], namespaces: Mapping[int, str] = {}) -> None:
        """Messages, as `Rtnl.batch` sends them; ``namespaces`` by the descriptors that they name."""
        for request in requests:
            links = {number: name for name, number in self._namespaces[place].links.items()}
            self.run(place, command(request, links, namespaces))
            self._follow(place, request, namespaces)

    def _follow(self, place: str, request: rtnl.Request, namespaces: Mapping[int, str]) -> None:
        """Note the links that come, go and get other names."""
        links = self._namespaces[place].links
        gone, renamed = link_deleted(request), link_renamed(request)
        for index, new in ((gone, None), renamed or (None, None)):
            if index is not None:
                del links[next(name for name, number in links.items() if number == index)]
                if new is not None:
                    links[new] = index
        for name, number, netns in links_made(request):
            there = self._namespaces[place if netns is None else namespaces[netns]].links
            there[name] = number or max(there.values()) + 1

    def apply(
        self, place: str, desired: NetState, previous: NetState = applier.NOTHING, *, backend: Backend | None = None
    ) -> None:
        """Make a namespace as desired, as `applier.apply` does; ``backend`` of iptables when it is not the system's."""
        namespace = self._namespaces[place]
        found = namespace.found()
        for key, value in applier.sysctls_to_write(desired, found).items():
            self.run(place, sysctl(key, value))
        for requests_for in applier.LINK_STEPS:
            self.batch(place, requests_for(place, desired, found, previous))
            found = namespace.found()
        self.batch(place, applier.other_requests(desired, found, previous))
        tables = restore_text(desired.chains, previous.chains, found.rules)
        if tables:
            self.run(place, shlex.join(Iptables(backend=backend).restore_argv), "".join(tables.values()))
        namespace.told = namespace.told.merged(desired)


def sysctl(key: str, value: str) -> str:
    """The command that sets a sysctl, by its path below /proc/sys/net."""
    name = f"net/{key}" if "." in key else f"net.{key.replace('/', '.')}"
    return f"sysctl -q -w {shlex.quote(f'{name}={value}')}"
