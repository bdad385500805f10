"""What of iptables in a namespace is a proxy's: read from iptables-save, and the text that makes it as wanted."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mininetes.agents.kubeproxy.rulesets import Chain, Chains, IptablesRuleset, Jump, restore_text

_NOT_OURS = frozenset({"KUBE-KUBELET-CANARY", "KUBE-FIREWALL", "KUBE-MARK-DROP", "KUBE-HOSTPORTS", "KUBE-HP"})
"""Chains with our prefix that are the kubelet's, or that it may have as well."""

GUARD = "KUBE-FIREWALL"
"""The kubelet's chain, to which the proxy adds a rule; it is the proxy's alone where there is no iptables kubelet."""
_GUARDS, _KUBELETS = "block incoming localnet connections", "KUBE-KUBELET-CANARY"

CANARY = "KUBE-PROXY-CANARY"
CANARY_TABLES = ("mangle", "nat", "filter")

_TARGET = re.compile(r" -j (\S+)")
_EDIT_AT_LEAST = 32
"""Chains shorter than this are written anew; in longer ones single rules are put in and taken out."""

NOTHING = IptablesRuleset({}, ())


def is_ours(chain: str) -> bool:
    """Whether a chain of that name is a proxy's alone."""
    return chain.startswith("KUBE-") and chain not in _NOT_OURS


@dataclass(frozen=True)
class Saved:
    """Of a namespace: chains of proxies, and the rules in other chains that lead to them (table, chain, rule)."""

    chains: frozenset[Chain] = frozenset()
    jumps: tuple[tuple[str, str, str], ...] = ()


def target_of(rule: str) -> str:
    """The chain that a rule leads to; "" for none."""
    found = _TARGET.search(rule)
    return found[1] if found else ""


def parse(text: str) -> Saved:
    """Read what iptables-save printed."""
    chains, jumps, table = set(), [], ""
    every: set[str] = set()
    guards: list[str] = []
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith(":"):
            name = line[1:].split()[0]
            every.add(name)
            if is_ours(name):
                chains.add((table, name))
        elif line.startswith(f"-A {GUARD} "):
            guards.append(line)
        elif line.startswith("-A "):
            _, chain, rule = line.split(" ", 2)
            target = target_of(" " + rule)
            if target.startswith("KUBE-") and not chain.startswith("KUBE-"):
                jumps.append((table, chain, rule))
    if GUARD in every and _KUBELETS not in every and all(_GUARDS in rule for rule in guards):
        chains.add(("filter", GUARD))
    return Saved(frozenset(chains), tuple(jumps))


def whole_text(new: IptablesRuleset, there: Saved) -> str:
    """The text that turns what is there into ``new``, whatever it was: for ``iptables-restore --noflush``."""
    wanted = {(jump.table, jump.chain, target_of(" " + jump.rule)) for jump in new.jumps}
    found = {(table, chain, target_of(" " + rule)) for table, chain, rule in there.jumps}
    edits: dict[str, list[str]] = {}
    for table, chain, rule in there.jumps:
        key = (table, chain, target_of(" " + rule))
        if key not in wanted and (table, key[2]) in there.chains:
            edits.setdefault(table, []).append(f"-D {chain} {rule}")
    missing = [jump for jump in new.jumps if (jump.table, jump.chain, target_of(" " + jump.rule)) not in found]
    for table, lines in put_in(missing).items():
        edits.setdefault(table, []).extend(lines)
    canaries: dict[Chain, tuple[str, ...]] = {(table, CANARY): () for table in ("nat", "filter")} if new.chains else {}
    gone = sorted(chain for chain in there.chains if chain not in new.chains and chain[1] != CANARY)
    if not new.chains:
        gone = sorted(chain for chain in there.chains if chain[0] in ("nat", "filter"))
    return restore_text({**canaries, **new.chains}, edits=edits, remove=gone)


def repeated_text(new: IptablesRuleset, old: IptablesRuleset) -> str:
    """The text that writes ``new`` over ``old``, which we wrote: refused as a whole when a jump has gone since.

    "" when jumps are to change, which takes knowing what is there.
    """
    if new.jumps != old.jumps:
        return ""
    checks: dict[str, list[str]] = {}
    for jump in new.jumps:
        checks.setdefault(jump.table, []).append(f"-C {jump.chain} {jump.rule}")
    gone = [chain for chain in old.chains if chain not in new.chains and chain not in old.shared]
    canaries: dict[Chain, tuple[str, ...]] = {(table, CANARY): () for table in ("nat", "filter")}
    return restore_text({**canaries, **new.chains}, edits=checks, remove=gone)


def put_in(jumps: list[Jump]) -> dict[str, list[str]]:
    """Lines that put jumps into built-in chains: first ones at the beginning, in their order, last ones at the end."""
    lines: dict[str, list[str]] = {}
    for jump in reversed([each for each in jumps if not each.last]):
        lines.setdefault(jump.table, []).append(f"-I {jump.chain} 1 {jump.rule}")
    for jump in (each for each in jumps if each.last):
        lines.setdefault(jump.table, []).append(f"-A {jump.chain} {jump.rule}")
    return lines


def difference_text(new: IptablesRuleset, old: IptablesRuleset) -> tuple[str, int]:
    """The smallest text that turns ``old``, which is in force, into ``new``, and how many chains it touches.

    Unlike kube-proxy's it leaves top-level chains alone that did not change, and puts single rules
    into and out of long ones.
    """
    written: dict[Chain, tuple[str, ...]] = {}
    edits: dict[str, list[str]] = {}
    touched = 0
    after, past = new.chains, old.chains
    if isinstance(after, Chains) and isinstance(past, Chains):
        after, past = after.beside(past)
    for chain, rules in after.items():
        before = past.get(chain)
        if before is rules or before == rules:
            continue
        touched += 1
        lines = edited(before, rules) if before is not None else None
        if lines is None:
            written[chain] = rules
        else:
            edits.setdefault(chain[0], []).extend(lines)
    gone = sorted(past.keys() - after.keys() - old.shared)
    removed = [jump for jump in old.jumps if jump not in new.jumps]
    for jump in removed:
        edits.setdefault(jump.table, []).append(f"-D {jump.chain} {jump.rule}")
    for table, lines in put_in([jump for jump in new.jumps if jump not in old.jumps]).items():
        edits.setdefault(table, []).extend(lines)
    return restore_text(written, edits=edits, remove=gone), touched + len(gone)


def edited(old: tuple[str, ...], new: tuple[str, ...]) -> list[str] | None:
    """The -D and -I lines that turn one chain's rules into others; None when writing it anew is better or needed."""
    if len(old) < _EDIT_AT_LEAST or len(set(old)) != len(old):
        return None
    before, after = set(old), set(new)
    if len(after) != len(new) or len(before ^ after) * 4 > len(old):
        return None
    if [rule for rule in old if rule in after] != [rule for rule in new if rule in before]:
        return None
    lines = ["-D " + rule.removeprefix("-A ") for rule in old if rule not in after]
    for place, rule in enumerate(new, start=1):
        if rule not in before:
            _, chain, rest = rule.split(" ", 2)
            lines.append(f"-I {chain} {place} {rest}")
    return lines
