"""Puts a ruleset of iptables into a node: whole, or the difference to the one before; each table one transaction.

With iptables-nft the kernel takes no large transaction from an ordinary user (a message of a netlink socket, bounded by
net.core.wmem_max, which root alone may exceed): those get it in parts, and for that moment services are incomplete.
"""

from __future__ import annotations

from collections.abc import Sequence

from mininetes.agents.kubeproxy.iptables_state import (
    CANARY,
    CANARY_TABLES,
    NOTHING,
    Saved,
    difference_text,
    parse,
    repeated_text,
    whole_text,
)
from mininetes.agents.kubeproxy.restoring import Backend, NodeTools, RestoreFailed, parts_of
from mininetes.agents.kubeproxy.rulesets import IptablesRuleset

_MANGLES_CANARY = f"*mangle\n:{CANARY} - [0:0]\nCOMMIT\n"
"""The other tables' canaries are among their chains."""


def saved(tools: NodeTools, backend: Backend | None = None) -> Saved:
    """What of iptables in the node is a proxy's, in all tables that are in use."""
    return parse(tools.run(tools.iptables("save", backend)).stdout)


class IptablesApplier:
    """Blocking; for one thread at a time. After a failure the caller goes on with ``whole``."""

    def __init__(self, tools: NodeTools) -> None:
        self._tools = tools
        self._argv = (tools.iptables("restore"), "--noflush", "-w", "5")

    def whole(self, new: IptablesRuleset, old: IptablesRuleset | None = None, *, certain: bool = False) -> int:
        """Write everything, and take away what is a proxy's and not in ``new``. Returns how many chains were written.

        ``old`` is what was in force before, so that a refused text leaves all of it in force; when
        that is ``certain``, the kernel is not asked which chains there are. Raises RestoreFailed.
        """
        if not (old is not None and certain and self._repeated(new, old)):
            self._restore(_MANGLES_CANARY + whole_text(new, saved(self._tools)), new, old)
        return len(new.chains)

    def _repeated(self, new: IptablesRuleset, old: IptablesRuleset) -> bool:
        """Write everything, supposing that the jumps are there; False, and nothing written, when they are not."""
        text = repeated_text(new, old)
        if not text:
            return False
        try:
            self._tools.restore(self._argv, _MANGLES_CANARY + text)
        except RestoreFailed:
            return False
        return True

    def difference(self, new: IptablesRuleset, old: IptablesRuleset) -> int:
        """Write what changed since ``old``. Returns how many chains that were. Raises RestoreFailed."""
        text, touched = difference_text(new, old)
        if text:
            self._restore(text, new, old)
        return touched

    def _restore(self, text: str, new: IptablesRuleset, old: IptablesRuleset | None) -> None:
        try:
            self._tools.restore(self._argv, text)
        except RestoreFailed as refused:
            # tables are separate transactions: those before the refused one have changed already
            if refused.is_too_long:
                _restore_in_parts(self._tools, self._argv, _MANGLES_CANARY + whole_text(new, saved(self._tools)))
                return
            if old is not None:
                self._tools.restore(self._argv, whole_text(old, saved(self._tools)))
            raise

    def intact(self) -> bool:
        """Whether nobody flushed the tables: every canary chain is still there."""
        program = self._tools.iptables()
        return all(
            self._tools.run(program, "-w", "5", "-t", table, "-S", CANARY, check=False).status == 0
            for table in CANARY_TABLES
        )


def _restore_in_parts(tools: NodeTools, argv: Sequence[str], text: str) -> None:
    for part in parts_of(text):
        tools.restore(argv, part)


def remove_all(tools: NodeTools, backend: Backend | None = None) -> bool:
    """Take away all that is a proxy's in one back end's tables; True when there was anything. Raises RestoreFailed."""
    there = saved(tools, backend)
    if not there.chains and not there.jumps:
        return False
    argv = [tools.iptables("restore", backend), "--noflush", "-w", "5"]
    try:
        tools.restore(argv, _removal_text(there))
    except RestoreFailed as refused:
        if not refused.is_too_long:
            raise
        _restore_in_parts(tools, argv, _removal_text(saved(tools, backend)))
    return True


def _removal_text(there: Saved) -> str:
    others = sorted(table for table, name in there.chains if table not in ("nat", "filter") and name == CANARY)
    canaries = "".join(f"*{table}\n:{CANARY} - [0:0]\n-X {CANARY}\nCOMMIT\n" for table in others)
    return whole_text(NOTHING, there) + canaries
