"""Puts a ruleset of iptables into a node: whole, or the difference to the one before; each table one transaction."""

from __future__ import annotations

from collections.abc import Callable

from mininetes.agents.kubeproxy.iptables_state import (
    CANARY,
    CANARY_TABLES,
    NOTHING,
    Saved,
    difference_text,
    parse,
    whole_text,
)
from mininetes.agents.kubeproxy.restoring import Backend, NodeTools, RestoreFailed
from mininetes.agents.kubeproxy.rulesets import IptablesRuleset

Told = Callable[[str], None]


def saved(tools: NodeTools, backend: Backend | None = None) -> Saved:
    """What of iptables in the node is a proxy's, in all tables that are in use."""
    return parse(tools.run(tools.iptables("save", backend)).stdout)


class IptablesApplier:
    """Blocking; for one thread at a time. After a failure the caller goes on with ``whole``."""

    def __init__(self, tools: NodeTools) -> None:
        self._tools = tools

    def whole(self, new: IptablesRuleset, old: IptablesRuleset | None = None, *, certain: bool = False) -> int:
        """Write everything, and take away what is a proxy's and not in ``new``. Returns how many chains were written.

        ``old`` is what was in force before, so that a refused text leaves all of it in force; when
        that is ``certain``, the kernel is not asked which chains there are. Raises RestoreFailed.
        """
        there = saved(self._tools) if old is None or not certain else self._as_known(old)
        self._restore(whole_text(new, there), old)
        self._make_canaries()
        return len(new.chains)

    def difference(self, new: IptablesRuleset, old: IptablesRuleset) -> int:
        """Write what changed since ``old``. Returns how many chains that were. Raises RestoreFailed."""
        text, touched = difference_text(new, old)
        if text:
            self._restore(text, old)
        return touched

    def _restore(self, text: str, old: IptablesRuleset | None) -> None:
        argv = [self._tools.iptables("restore"), "--noflush", "-w", "5"]
        try:
            self._tools.restore(argv, text)
        except RestoreFailed:
            if old is not None:
                # tables are separate transactions: those before the refused one have changed already
                self._tools.restore(argv, whole_text(old, saved(self._tools)))
            raise

    def _as_known(self, old: IptablesRuleset) -> Saved:
        """The chains that we wrote, and the jumps that are there: iptables-nft need not read the rest for that."""
        if not self._tools.is_nft:
            return saved(self._tools)
        program = self._tools.iptables()
        jumps: list[tuple[str, str, str]] = []
        for table, chain in sorted({(jump.table, jump.chain) for jump in old.jumps}):
            said = self._tools.run(program, "-w", "5", "-t", table, "-S", chain).stdout
            jumps += parse(f"*{table}\n{said}").jumps
        return Saved(frozenset(old.chains) - old.shared, tuple(jumps))

    def _make_canaries(self) -> None:
        text = "".join(f"*{table}\n:{CANARY} - [0:0]\nCOMMIT\n" for table in CANARY_TABLES if table == "mangle")
        self._tools.restore([self._tools.iptables("restore"), "--noflush", "-w", "5"], text)

    def intact(self) -> bool:
        """Whether nobody flushed the tables: every canary chain is still there."""
        program = self._tools.iptables()
        return all(
            self._tools.run(program, "-w", "5", "-t", table, "-S", CANARY, check=False).status == 0
            for table in CANARY_TABLES
        )


def remove_all(tools: NodeTools, backend: Backend | None = None) -> bool:
    """Take away all that is a proxy's in one back end's tables; True when there was anything. Raises RestoreFailed."""
    there = saved(tools, backend)
    if not there.chains and not there.jumps:
        return False
    text = whole_text(NOTHING, there)
    others = sorted(table for table, name in there.chains if table not in ("nat", "filter") and name == CANARY)
    text += "".join(f"*{table}\n:{CANARY} - [0:0]\n-X {CANARY}\nCOMMIT\n" for table in others)
    tools.restore([tools.iptables("restore", backend), "--noflush", "-w", "5"], text)
    return True
