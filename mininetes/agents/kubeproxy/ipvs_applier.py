"""Puts virtual servers, ipsets, the addresses of kube-ipvs0 and their iptables rules into a node.

Each is read from the kernel and the difference written, whole and after a change alike. Real servers of TCP that
are to go drain first, as kube-proxy has them do: weight 0 while they have connections, looked at once a minute
at least.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence

from mininetes.agents.kubeproxy.configuration import IpvsSettings
from mininetes.agents.kubeproxy.iptables_applier import IptablesApplier
from mininetes.agents.kubeproxy.ipvs_state import (
    DUMMY,
    OUR_SETS,
    address_lines,
    parse_busy,
    parse_servers,
    parse_sets,
    parse_timeouts,
    server_lines,
    set_lines,
    unwanted,
    wanted_servers,
)
from mininetes.agents.kubeproxy.restoring import NodeTools
from mininetes.agents.kubeproxy.rulesets import IpvsRuleset

DRAIN_CHECK_S = 60.0


def _text(lines: Sequence[str]) -> str:
    return "".join(line + "\n" for line in lines)


class IpvsApplier:
    """Blocking; for one thread at a time. ``settings``: timeouts, and whose virtual servers are somebody else's."""

    def __init__(self, tools: NodeTools, settings: IpvsSettings) -> None:
        self._tools = tools
        self._excluded = settings.exclude_cidrs
        self._timeouts_s = (settings.tcp_timeout, settings.tcp_fin_timeout, settings.udp_timeout)
        self._iptables = IptablesApplier(tools)
        self.again_s: float | None = None
        """In how many seconds to write again although nothing changed: while real servers drain."""

    def whole(self, new: IpvsRuleset, old: IpvsRuleset | None = None, *, certain: bool = False) -> int:
        """Make everything as wanted. Returns how many lines were written. Raises RestoreFailed."""
        self._set_timeouts()
        lines = self._without_rules(new)
        return lines + self._iptables.whole(new.iptables, old.iptables if old else None, certain=certain)

    def difference(self, new: IpvsRuleset, old: IpvsRuleset) -> int:
        """Make everything as wanted, of iptables what changed. Returns how many lines. Raises RestoreFailed."""
        lines = self._without_rules(new)
        return lines + self._iptables.difference(new.iptables, old.iptables)

    def _without_rules(self, new: IpvsRuleset) -> int:
        """Addresses first, so that packets to them are local; then servers; sets last, as rules refer to them."""
        addresses = address_lines(new.addresses, self._addresses())
        if addresses:
            self._tools.restore(("ip", "-batch", "-"), _text(addresses))
        servers = self._servers(new)
        sets = set_lines(new, parse_sets(self._tools.run("ipset", "save").stdout))
        if sets:
            self._tools.restore(("ipset", "-exist", "restore"), _text(sets))
        return len(addresses) + servers + len(sets)

    def _servers(self, new: IpvsRuleset) -> int:
        wanted = wanted_servers(new)
        there = parse_servers(self._tools.run("ipvsadm", "--save", "--numeric").stdout)
        going = unwanted(wanted, there)
        draining = going & parse_busy(self._tools.run("ipvsadm", "--list", "--numeric").stdout) if going else going
        lines = server_lines(wanted, there, self._excluded, draining)
        if lines:
            self._tools.restore(("ipvsadm", "--restore"), _text(lines))
        self.again_s = DRAIN_CHECK_S if draining else None
        return len(lines)

    def _set_timeouts(self) -> None:
        """How long the kernel keeps connections of virtual servers: one setting for a namespace, 0 leaves its own."""
        if not any(self._timeouts_s):
            return
        there = parse_timeouts(self._tools.run("ipvsadm", "--list", "--timeout").stdout)
        wanted = tuple(int(new) or old for new, old in zip(self._timeouts_s, there, strict=True))
        if wanted != there:
            self._tools.run("ipvsadm", "--set", *map(str, wanted))

    def _addresses(self) -> list[str]:
        """What kube-ipvs0 carries; it is made when it is not there."""
        done = self._tools.run("ip", "-json", "-4", "address", "show", "dev", DUMMY, check=False)
        if done.status != 0:
            self._tools.run("ip", "link", "add", DUMMY, "type", "dummy")
            return []
        found = json.loads(done.stdout or "[]")
        return [each["local"] for link in found for each in link.get("addr_info", ())]

    def intact(self) -> bool:
        """Whether nobody flushed iptables' tables."""
        return self._iptables.intact()


def remove_all(tools: NodeTools) -> bool:
    """Take away kube-ipvs0, the virtual servers and our ipsets; True when there was anything.

    The iptables rules that refer to the sets must have gone before. Raises ProcessFailed.
    """
    found = tools.run("ip", "link", "show", "dev", DUMMY, check=False).status == 0
    if found:
        tools.run("ipvsadm", "--clear")
        tools.run("ip", "link", "delete", DUMMY)
    if shutil.which("ipset") is None:
        return found
    names = tools.run("ipset", "list", "-name", check=False).stdout.split()
    ours = [name for name in names if name.startswith(OUR_SETS)]
    for name in ours:
        tools.run("ipset", "destroy", name)
    return found or bool(ours)
