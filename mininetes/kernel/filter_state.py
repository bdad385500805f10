"""All packet filters of a namespace as they are, and putting them back as they were: whatever wrote in between.

iptables of both back ends and IP versions, tables of nftables, ipsets, virtual servers. Counters do not count.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field

from mininetes.kernel.processes import Namespaces, run

IPTABLES = ("iptables-legacy", "iptables-nft", "ip6tables-legacy", "ip6tables-nft")
_OF_IPTABLES = frozenset({"filter", "nat", "mangle", "raw", "security"})
_COUNTERS = re.compile(r" ?\[\d+:\d+\]|counter packets \d+ bytes \d+| expires [0-9hmsd]+")


@dataclass(frozen=True)
class FilterState:
    """What there is: texts of iptables-save by program and table, listings of nft by table, sets, virtual servers."""

    iptables: Mapping[tuple[str, str], str] = field(default_factory=dict)
    nft: Mapping[str, str] = field(default_factory=dict)
    sets: frozenset[str] = frozenset()
    servers: str = ""


def read(where: Namespaces) -> FilterState:
    """Read it. Blocks. Tools that are not there, or that the kernel has nothing for, tell of nothing."""
    iptables = {}
    for program in IPTABLES:
        for table, text in _tables(_said(where, f"{program}-save")).items():
            iptables[program, table] = text
    nft = {}
    for line in _said(where, "nft", "list", "tables").splitlines():
        family, name = line.split()[1:3]
        if family not in ("ip", "ip6") or name not in _OF_IPTABLES:
            nft[f"{family} {name}"] = _COUNTERS.sub("", _said(where, "nft", "list", "table", family, name))
    sets = frozenset(_said(where, "ipset", "list", "-name").split())
    return FilterState(iptables, nft, sets, _said(where, "ipvsadm", "--save", "--numeric"))


def put_back(where: Namespaces, before: FilterState) -> list[str]:
    """Make it what it was; returns what was not. Blocks. Raises ProcessFailed when a tool refuses."""
    now, changed = read(where), []
    for program, table in sorted({*now.iptables, *before.iptables}):
        text = before.iptables.get((program, table), "")
        if now.iptables.get((program, table), "") != text:
            run([f"{program}-restore", "-w", "5"], namespaces=where, stdin=f"*{table}\n{text}COMMIT\n")
            changed.append(f"{program} table {table}")
    for name in sorted({*now.nft, *before.nft}):
        if now.nft.get(name) != before.nft.get(name):
            text = f"table {name}\ndelete table {name}\n{before.nft.get(name, '')}\n"
            run(["nft", "-f", "-"], namespaces=where, stdin=text)
            changed.append(f"table {name}")
    for name in sorted(now.sets - before.sets):
        run(["ipset", "destroy", name], namespaces=where)
        changed.append(f"ipset {name}")
    if now.servers != before.servers:
        run(["ipvsadm", "--clear"], namespaces=where)
        run(["ipvsadm", "--restore"], namespaces=where, stdin=before.servers)
        changed.append("virtual servers")
    return changed


def _said(where: Namespaces, *argv: str) -> str:
    if shutil.which(argv[0]) is None:
        return ""
    done = run(argv, namespaces=where, check=False)
    return done.stdout if done.status == 0 else ""


def _tables(text: str) -> dict[str, str]:
    """The tables of an iptables-save text: chains and rules, without counters. One that is as at first is left out."""
    found = {}
    for part in text.split("\n*")[1:] if not text.startswith("*") else ("\n" + text).split("\n*")[1:]:
        lines = [line for line in part.splitlines()[1:] if line[:1] in (":", "-")]
        bare = [_COUNTERS.sub("", line) for line in lines]
        if any(not line.endswith(" ACCEPT") for line in bare):
            found[part.split("\n", 1)[0]] = "".join(f"{line}\n" for line in bare)
    return found
