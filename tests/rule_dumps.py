"""Dumps of rules as values that are equal when they mean the same: for golden tests of proxy modes.

What does not count: packet counters, probes' canary chains, the order in which chains are declared, the order
of elements, and in chains that hold one block of lines per service the order of those lines. All else counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

Meaning = dict[tuple[str, ...], Any]

ONE_BLOCK_PER_SERVICE = ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL")
CANARIES = ("KUBE-PROXY-CANARY", "KUBE-KUBELET-CANARY")
_RESOLUTION = 1 << 31


def iptables(text: str) -> Meaning:
    """Chains by table and name with their rules; of the built-in chains those that have any."""
    found: dict[tuple[str, ...], list[str]] = {}
    table = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":KUBE"):
            found.setdefault((table, line[1:].split()[0]), [])
        elif line.startswith("-A ") and table:
            found.setdefault((table, line.split()[1]), []).append(_rule(line))
    kept = {key: rules for key, rules in found.items() if key[1] not in CANARIES}
    return {key: _ordered(key, rules) for key, rules in kept.items()}


def _ordered(key: tuple[str, ...], rules: list[str]) -> Any:
    if key[1] not in ONE_BLOCK_PER_SERVICE:
        return rules
    last = rules[-1] if key == ("nat", "KUBE-SERVICES") and rules else None
    return sorted(rules), last


def _rule(line: str) -> str:
    """A rule with its probability as the kernel keeps it: in steps of 2^-31."""
    line = re.sub(r"\[\d+:\d+\] ?", "", line)
    return re.sub(r"--probability (\S+)", lambda m: f"--probability {round(float(m[1]) * _RESOLUTION)}", line)


def nftables(text: str) -> Meaning:
    """Chains, sets and maps of a ``nft list`` by kind and name: rules, or declaration and elements."""
    found: Meaning = {}
    text = re.sub(r"counter packets \d+ bytes \d+ ?", "", text)
    for kind, name, body in re.findall(r"^\t(chain|set|map) (\S+) \{\n(.*?)^\t\}", text, re.S | re.M):
        lines = [" ".join(line.split()) for line in body.splitlines()]
        if kind == "chain":
            found[kind, name] = lines
            continue
        joined = " ".join(lines)
        declaration, _, elements = joined.partition("elements = {")
        each = [" ".join(one.split()) for one in elements.rstrip(" }").split(",") if one.strip()]
        found[kind, name] = (declaration.strip(), sorted(each))
    return found


def ipvs(text: str) -> Meaning:
    """Virtual servers with their real ones, ipsets with their members, kube-ipvs0's addresses, and iptables."""
    found = iptables(text)
    server = ""
    servers: dict[str, list[str]] = {}
    sets: dict[str, tuple[str, list[str]]] = {}
    for line in map(str.strip, text.splitlines()):
        words = line.split()
        if line.startswith("-A -"):
            server = line
            servers[server] = []
        elif line.startswith("-a -"):
            servers[server].append(line)
        elif line.startswith("create KUBE"):
            sets[words[1]] = (re.sub(r" (bucketsize|initval) \S+", "", " ".join(words[2:])), [])
        elif line.startswith("add KUBE"):
            sets[words[1]][1].append(words[2])
    found["servers",] = {name: sorted(real) for name, real in servers.items()}
    found["sets",] = {name: (kind, sorted(members)) for name, (kind, members) in sets.items()}
    found["addresses",] = sorted(
        re.findall(r"inet (\S+) scope", text) or re.findall(r"^address add (\S+) dev kube-ipvs0", text, re.M)
    )
    return found


def differences(ours: Meaning, theirs: Meaning) -> Iterable[str]:
    """One text for each chain, set or server list that differs."""
    for key in sorted({*ours, *theirs}):
        if ours.get(key) != theirs.get(key):
            yield f"{' '.join(key)}:\n  ours   {ours.get(key)}\n  theirs {theirs.get(key)}"
