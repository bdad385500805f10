"""What of ipvs and ipset is in a namespace, and the commands that make it as wanted. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network

from mininetes.agents.kubeproxy.rulesets import IpvsRuleset

DUMMY = "kube-ipvs0"
OUR_SETS = "KUBE-"


@dataclass(frozen=True)
class Servers:
    """Virtual servers by place (``-t 10.96.0.1:443``): the rest of their options, and their real servers."""

    options: Mapping[str, str] = field(default_factory=dict)
    real: Mapping[str, frozenset[str]] = field(default_factory=dict)


def parse_servers(text: str) -> Servers:
    """Read what ``ipvsadm -Sn`` printed."""
    options: dict[str, str] = {}
    real: dict[str, set[str]] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) < 3:
            continue
        place = f"{words[1]} {words[2]}"
        if words[0] == "-A":
            options[place] = " ".join(words[3:])
            real.setdefault(place, set())
        elif words[0] == "-a" and words[3] == "-r":
            real.setdefault(place, set()).add(words[4])
    return Servers(options, {place: frozenset(each) for place, each in real.items()})


def wanted_servers(ruleset: IpvsRuleset) -> Servers:
    """The virtual servers of a ruleset in the same form."""
    options = {server.place: str(server).removeprefix(server.place + " ") for server in ruleset.servers}
    return Servers(options, {server.place: frozenset(real) for server, real in ruleset.servers.items()})


def server_lines(wanted: Servers, there: Servers, excluded: Iterable[str] = ()) -> list[str]:
    """The lines for ``ipvsadm --restore`` that turn ``there`` into ``wanted``; ``excluded`` networks are left alone."""
    networks = [IPv4Network(each) for each in excluded]
    lines = []
    for place, options in wanted.options.items():
        if place not in there.options:
            lines.append(f"-A {place} {options}")
        elif there.options[place] != options:
            lines.append(f"-E {place} {options}")
        before = there.real.get(place, frozenset())
        lines += [f"-a {place} -r {real} -m -w 1" for real in sorted(wanted.real[place] - before)]
        lines += [f"-d {place} -r {real}" for real in sorted(before - wanted.real[place])]
    for place in there.options:
        address = place.split()[1].rpartition(":")[0]
        if place not in wanted.options and not any(IPv4Network(address).subnet_of(each) for each in networks):
            lines.append(f"-D {place}")
    return lines


def parse_sets(text: str) -> dict[str, frozenset[str]]:
    """The members of our ipsets, from ``ipset save``."""
    members: dict[str, set[str]] = {}
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["create"] and words[1].startswith(OUR_SETS):
            members.setdefault(words[1], set())
        elif words[:1] == ["add"] and words[1].startswith(OUR_SETS):
            members.setdefault(words[1], set()).add(words[2])
    return {name: frozenset(each) for name, each in members.items()}


def set_lines(ruleset: IpvsRuleset, there: Mapping[str, frozenset[str]]) -> list[str]:
    """The lines for ``ipset restore`` that make and fill our sets."""
    lines = [f"create {name} {kind}" for name, (kind, _) in ruleset.sets.items() if name not in there]
    for name, (_, members) in ruleset.sets.items():
        before = there.get(name, frozenset())
        lines += [f"add {name} {member}" for member in members if member not in before]
        lines += [f"del {name} {member}" for member in sorted(before - set(members))]
    return lines


def address_lines(wanted: Iterable[str], there: Iterable[str]) -> list[str]:
    """The lines for ``ip -batch`` that give the dummy its addresses."""
    wanted, there = set(wanted), set(there)
    lines = [f"address add {ip}/32 dev {DUMMY}" for ip in sorted(wanted - there)]
    return lines + [f"address del {ip}/32 dev {DUMMY}" for ip in sorted(there - wanted)]
