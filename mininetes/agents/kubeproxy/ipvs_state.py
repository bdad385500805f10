"""What of ipvs and ipset is in a namespace, and the commands that make it as wanted. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network

from mininetes.agents.kubeproxy.rulesets import IpvsRuleset

DUMMY = "kube-ipvs0"
OUR_SETS = "KUBE-"
WEIGHT = 1
"""Of every real server that is to get connections."""


@dataclass(frozen=True)
class Servers:
    """Virtual servers by place (``-t 10.96.0.1:443``): the rest of their options, and their real servers' weights."""

    options: Mapping[str, str] = field(default_factory=dict)
    real: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def parse_servers(text: str) -> Servers:
    """Read what ``ipvsadm -Sn`` printed."""
    options: dict[str, str] = {}
    real: dict[str, dict[str, int]] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) < 3:
            continue
        place = f"{words[1]} {words[2]}"
        if words[0] == "-A":
            options[place] = " ".join(words[3:])
            real.setdefault(place, {})
        elif words[0] == "-a" and words[3] == "-r":
            weight = int(words[words.index("-w") + 1]) if "-w" in words else WEIGHT
            real.setdefault(place, {})[words[4]] = weight
    return Servers(options, real)


Real = tuple[str, str]
"""A real server: its virtual server's place, and its own address and port."""


def parse_busy(text: str) -> frozenset[Real]:
    """The real servers of TCP that have connections, established or ending, from what ``ipvsadm -Ln`` printed."""
    found, place = set(), ""
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["->"] and len(words) == 6 and words[4].isdigit():
            if place and int(words[4]) + int(words[5]) > 0:
                found.add((place, words[1]))
        elif words:
            place = f"-t {words[1]}" if words[0] == "TCP" else ""
    return frozenset(found)


def parse_timeouts(text: str) -> tuple[int, int, int]:
    """Seconds for TCP, TCP after a FIN and UDP, from what ``ipvsadm -L --timeout`` printed; 0 where it printed none."""
    found = re.search(r"(\d+) (\d+) (\d+)\s*$", text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else (0, 0, 0)


def unwanted(wanted: Servers, there: Servers) -> frozenset[Real]:
    """The real servers that are to go from virtual servers which stay."""
    return frozenset(
        (place, real)
        for place in wanted.options
        for real in there.real.get(place, {}).keys() - wanted.real[place].keys()
    )


def wanted_servers(ruleset: IpvsRuleset) -> Servers:
    """The virtual servers of a ruleset in the same form."""
    options = {server.place: str(server).removeprefix(server.place + " ") for server in ruleset.servers}
    return Servers(options, {server.place: dict.fromkeys(real, WEIGHT) for server, real in ruleset.servers.items()})


def server_lines(
    wanted: Servers, there: Servers, excluded: Iterable[str] = (), busy: frozenset[Real] = frozenset()
) -> list[str]:
    """The lines for ``ipvsadm --restore`` that turn ``there`` into ``wanted``; ``excluded`` networks are left alone.

    Real servers that are to go and are ``busy`` stay with weight 0: they keep their connections and get no new ones.
    """
    networks = [IPv4Network(each) for each in excluded]
    lines = []
    for place, options in wanted.options.items():
        if place not in there.options:
            lines.append(f"-A {place} {options}")
        elif there.options[place] != options:
            lines.append(f"-E {place} {options}")
        before, after = there.real.get(place, {}), wanted.real[place]
        for real in sorted(after):
            if before.get(real) != after[real]:
                lines.append(f"-{'e' if real in before else 'a'} {place} -r {real} -m -w {after[real]}")
        for real in sorted(before.keys() - after.keys()):
            if (place, real) not in busy:
                lines.append(f"-d {place} -r {real}")
            elif before[real]:
                lines.append(f"-e {place} -r {real} -m -w 0")
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
