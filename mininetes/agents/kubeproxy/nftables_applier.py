"""Puts a table of nftables into a node: whole, or the difference to the one before, as one transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

from mininetes.agents.kubeproxy.restoring import NodeTools, RestoreFailed
from mininetes.agents.kubeproxy.rulesets import NFT_TABLE, NftablesRuleset, NftContainer, added, declared, elements

TIDY_S = 1.0
_NFT = ("nft", "-f", "-")


class NftablesApplier:
    """Blocking; for one thread at a time. After a failure the caller goes on with ``whole``."""

    def __init__(self, tools: NodeTools) -> None:
        self._tools = tools
        self.stale: list[str] = []
        """Commands that delete what nothing refers to any more, which the kernel has refused; tried again next time."""

    @property
    def again_s(self) -> float | None:
        """In how many seconds to write again although nothing changed: while something waits to be deleted."""
        return TIDY_S if self.stale else None

    def whole(self, new: NftablesRuleset, old: NftablesRuleset | None = None, *, certain: bool = False) -> int:
        """Write everything in place of the table that is there; clients keep the endpoints that they have.

        Returns how many chains were written. Raises RestoreFailed.
        """
        kept = {name: each for name, each in new.containers.items() if each.kept}
        filled = {name: replace(each, elements=self._clients(name)) for name, each in kept.items()}
        self._tools.restore(_NFT, replace(new, containers={**new.containers, **filled}).text())
        self.stale = []
        return len(new.chains)

    def _clients(self, name: str) -> dict[str, str]:
        """The clients in an affinity set of the kernel's, with the time that is left to each."""
        done = self._tools.run("nft", "-j", "list", "set", *NFT_TABLE.split(), name, check=False)
        if done.status != 0:
            return {}
        found = {}
        for item in json.loads(done.stdout)["nftables"]:
            for each in item.get("set", {}).get("elem", ()):
                one = each["elem"] if isinstance(each, dict) else {"val": each}
                left = f" expires {one['expires']}s" if "expires" in one else ""
                found[str(one["val"])] = left
        return found

    def difference(self, new: NftablesRuleset, old: NftablesRuleset) -> int:
        """Write what changed since ``old``. Returns how many chains and elements that were. Raises RestoreFailed."""
        lines, stale, touched = difference_lines(new, old)
        # what came back in the meantime is not to go
        names = [(line.rsplit(" ", 1)[1], line) for line in self.stale]
        stale = [line for name, line in names if name not in new.chains and name not in new.containers] + stale
        try:
            if lines or stale:
                self._tools.restore(_NFT, "\n".join([*lines, *stale]) + "\n")
            self.stale = []
        except RestoreFailed:
            if not stale:
                raise
            # kernels before 6.2 hold on to a chain for a moment after the last element that led to it
            if lines:
                self._tools.restore(_NFT, "\n".join(lines) + "\n")
            self.stale = stale
        return touched

    def intact(self) -> bool:
        """Whether the table is still there with its dispatch chain."""
        return self._tools.run("nft", "list", "chain", *NFT_TABLE.split(), "services", check=False).status == 0


def difference_lines(new: NftablesRuleset, old: NftablesRuleset) -> tuple[list[str], list[str], int]:
    """The commands that turn ``old`` into ``new``, those that delete what is then stale, and how much is touched."""
    lines: list[str] = []
    rules: list[str] = []
    touched = 0
    for name, container in new.containers.items():
        before = old.containers.get(name)
        if before is not None and before.declaration == container.declaration:
            continue
        if before is not None:
            # a set cannot change its timeout: made anew, with the chains that use it
            lines += [f"flush chain {NFT_TABLE} {user}" for user in users(old, name)]
            lines.append(f"delete {before.kind} {NFT_TABLE} {name}")
        lines.append(added(name, container))
    remade = {name for name, each in new.containers.items() if _remade(each, old.containers.get(name))}
    known = old.chains.get
    for name, chain in [each for each in new.chains.items() if known(each[0]) is not each[1] or remade]:
        same = known(name)
        if same == chain and not (remade and _uses(chain, remade)):
            continue
        touched += 1
        lines.append(
            declared(name, new.declarations.get(name, "")) if same is None else f"flush chain {NFT_TABLE} {name}"
        )
        rules += [f"add rule {NFT_TABLE} {name} {rule}" for rule in chain]
    put: list[str] = []
    for name, container in new.containers.items():
        gone, more = changed_elements(container, old.containers.get(name))
        touched += len(more) + len(gone)
        lines += elements("delete", name, gone)
        put += elements("add", name, more)
    left = sorted(old.chains.keys() - new.chains.keys())
    lines += [f"flush chain {NFT_TABLE} {name}" for name in left]
    stale = [f"delete chain {NFT_TABLE} {name}" for name in left]
    stale += [
        f"delete {each.kind} {NFT_TABLE} {name}" for name, each in old.containers.items() if name not in new.containers
    ]
    return [*lines, *rules, *put], stale, touched + len(left)


def _remade(new: NftContainer, old: NftContainer | None) -> bool:
    return old is not None and old.declaration != new.declaration


def _uses(rules: Iterable[str], names: set[str]) -> bool:
    return any(f"@{name}" in rule for rule in rules for name in names)


def users(ruleset: NftablesRuleset, name: str) -> list[str]:
    """The chains that use a set or map."""
    return [chain for chain, rules in ruleset.chains.items() if _uses(rules, {name})]


def changed_elements(new: NftContainer, old: NftContainer | None) -> tuple[dict[str, str], dict[str, str]]:
    """The elements to delete (also those whose value changes), and those to add."""
    if old is None or _remade(new, old):
        return {}, dict(new.elements)
    if old.elements == new.elements:
        return {}, {}
    gone = {key: "" for key, rest in old.elements.items() if new.elements.get(key) != rest}
    more = {key: rest for key, rest in new.elements.items() if old.elements.get(key) != rest}
    return gone, more
