"""Keeps a node's rules as its view says: compiles, writes the whole or the difference, forgets stale UDP flows.

Everything that blocks runs in the executor's threads, one sync at a time.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Protocol

from mininetes.agents.agent import Placement
from mininetes.agents.klog import AgentLog
from mininetes.agents.kubeproxy import conntrack, leftovers, sysctls
from mininetes.agents.kubeproxy.compiling import Compiler
from mininetes.agents.kubeproxy.configuration import KubeProxyConfig, Mode, port_range
from mininetes.agents.kubeproxy.iptables_applier import IptablesApplier
from mininetes.agents.kubeproxy.ipvs_applier import IpvsApplier
from mininetes.agents.kubeproxy.metrics import Metrics
from mininetes.agents.kubeproxy.nftables_applier import NftablesApplier
from mininetes.agents.kubeproxy.preconditions import check_kernel
from mininetes.agents.kubeproxy.restoring import NodeTools, RestoreFailed
from mininetes.agents.kubeproxy.rulesets import IptablesRuleset, Ruleset, UserspaceRuleset
from mininetes.agents.kubeproxy.userspace_proxy import UserspaceProxy
from mininetes.agents.kubeproxy.view import Fate, NodeView, PortGroup, once
from mininetes.agents.kubeproxy.view_builder import Change, ViewBuilder
from mininetes.agents.running import in_thread
from mininetes.kernel.processes import ProcessFailed
from mininetes.kernel.rtnl import Rtnl


class Applier(Protocol):
    """What puts the rulesets of one mode into the kernel."""

    def whole(self, new: Any, old: Any = None, *, certain: bool = False) -> int:
        """Write all of it, whatever is there; ``certain``: ``old`` is."""

    def difference(self, new: Any, old: Any) -> int:
        """Write what changed since ``old``, which is in force."""

    def intact(self) -> bool:
        """Whether nobody flushed it."""


class UserspaceApplier:
    """The iptables rules of mode userspace."""

    def __init__(self, tools: NodeTools) -> None:
        self._iptables = IptablesApplier(tools)

    def whole(self, new: UserspaceRuleset, old: UserspaceRuleset | None = None, *, certain: bool = False) -> int:
        """See Applier."""
        return self._iptables.whole(new.iptables, old.iptables if old else None, certain=certain)

    def difference(self, new: UserspaceRuleset, old: UserspaceRuleset) -> int:
        """See Applier."""
        return self._iptables.difference(new.iptables, old.iptables)

    def intact(self) -> bool:
        """See Applier."""
        return self._iptables.intact()


def applier_of(mode: Mode, config: KubeProxyConfig, tools: NodeTools) -> Applier:
    """What puts that mode's rulesets into a node's kernel."""
    if mode == "ipvs":
        return IpvsApplier(tools, config.ipvs)
    if mode == "nftables":
        return NftablesApplier(tools)
    return UserspaceApplier(tools) if mode == "userspace" else IptablesApplier(tools)


@once
def _without_local(group: PortGroup, policy: str) -> int:
    """How many ports of a group have endpoints, but none here, and a Local policy for that traffic."""
    if policy == "internal":
        return sum(each.internal is Fate.DROP for each in group.ports)
    return sum(each.external is Fate.DROP and each.port.externally_accessible for each in group.ports)


@dataclass(frozen=True)
class Synced:
    """A sync that succeeded: what is in force now, how long it took (s), and how many chains or lines it wrote.

    ``again_s``: in how many seconds to sync again although nothing changed, as something waits to be deleted.
    """

    view: NodeView
    ruleset: Ruleset
    whole: bool
    took_s: float
    touched: int
    again_s: float | None


class RuleKeeper:
    """The rules of one node. Used in one event loop; ``executor`` has threads that let themselves into namespaces."""

    def __init__(
        self,
        place: Placement,
        builder: ViewBuilder,
        compile_rules: Compiler,
        tools: NodeTools,
        log: AgentLog,
        metrics: Metrics,
        executor: Executor,
    ) -> None:
        self.builder, self._compile, self._tools = builder, compile_rules, tools
        self._place, self._log, self._metrics, self._executor = place, log, metrics, executor
        config, mode = builder.config, builder.mode
        self._mode, self._config = mode, config
        self._applier = applier_of(mode, config, tools)
        self._userspace = (
            UserspaceProxy(
                place.netns, log, ports=port_range(config.port_range), udp_idle_s=config.udp_idle_timeout
            )
            if mode == "userspace"
            else None
        )  # fmt: skip
        self._in_force: Ruleset | None = None
        self._certain = False
        self._flows: dict[tuple[str, ...], None] = {}
        self._cleaned = False

    async def _blocking(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)

    async def sync(self, *, whole: bool) -> Synced:
        """Make the kernel follow the view; ``whole``: write everything, whatever is there.

        Not to be called while another one runs.
        After a failure the next one is whole. Raises RestoreFailed, ProcessFailed, MininetesError, OSError.
        """
        started = time.monotonic()
        self._metrics.begun()
        whole = whole or not self._certain
        await self._blocking(self._refresh, whole)
        ports = {}
        if self._userspace is not None:
            view = await self._blocking(self.builder.view)
            ports = await self._userspace.open((each.port.name, each.port.protocol) for each in view.ports
                                               if each.port.protocol != "sctp")  # fmt: skip
        # the thread cannot be stopped, and nobody else may write meanwhile
        view, ruleset, touched = await in_thread(self._executor, self._write, ports, whole)
        if self._userspace is not None and isinstance(ruleset, UserspaceRuleset):
            self._userspace.set_listeners(ruleset.listeners)
        took_s = time.monotonic() - started
        self._metrics.synced(took_s, whole=whole)
        self._count(view, ruleset)
        self._log.info("SyncProxyRules complete", v=2, elapsed=f"{took_s * 1e3:.3f}ms")
        return Synced(view, ruleset, whole, took_s, touched, getattr(self._applier, "again_s", None))

    def _refresh(self, whole: bool) -> None:
        """Take over what changed, say so in the log, and note the UDP flows that go stale by it."""
        if whole:
            self.builder.set_addresses(self._addresses())
        for change in self.builder.refresh().values():
            self._tell(change)
            self._flows |= dict.fromkeys(conntrack.stale_flows(change.before, change.after))

    def _tell(self, change: Change) -> None:
        before = {(each.port.name, each.port.protocol): each.port for each in change.before}
        after = {(each.port.name, each.port.protocol): each.port for each in change.after}
        for key, port in after.items():
            if key not in before:
                where = f"{port.cluster_ip}:{port.port}/{port.protocol.upper()}"
                self._log.info("Adding new service port", v=1, portName=port.name, servicePort=where)
            elif before[key] != port:
                where = f"{port.cluster_ip}:{port.port}/{port.protocol.upper()}"
                self._log.info("Updating existing service port", v=1, portName=port.name, servicePort=where)
        for key, port in before.items():
            if key not in after:
                self._log.info("Removing service port", v=1, portName=port.name)

    def _write(self, ports: dict[tuple[str, str], int], whole: bool) -> tuple[NodeView, Ruleset, int]:
        """Compile and put into the kernel: in a worker thread."""
        view = self.builder.view(ports)
        ruleset = self._compile(view)
        self._reloading(view, ruleset)
        before, certain = self._in_force, self._certain
        self._certain = False
        try:
            if whole or before is None:
                self._prepare(view)
                touched = self._applier.whole(ruleset, before, certain=certain)
                self._after_whole()
            else:
                touched = self._applier.difference(ruleset, before)
        except (RestoreFailed, ProcessFailed):
            self._metrics.restore_failures += 1
            self._metrics.partial_restore_failures += not whole
            raise
        self._in_force, self._certain = ruleset, True
        self._forget_flows()
        return view, ruleset, touched

    def _prepare(self, view: NodeView) -> None:
        if not self._cleaned:
            for what in leftovers.remove_leftovers(self._tools, self._mode):
                self._log.info("Cleaned up what another mode left", v=1, mode=what)
        for failure in sysctls.set_sysctls(self._place.netns, sysctls.wanted_sysctls(self._config, self._mode, view)):
            if not self._cleaned:
                self._log.error("Failed to set sysctl", err=failure)

    def _after_whole(self) -> None:
        if not self._cleaned:
            for what in leftovers.remove_ipvs(self._tools, self._mode):
                self._log.info("Cleaned up what another mode left", v=1, mode=what)
            self._cleaned = True

    def _forget_flows(self) -> None:
        """Only once new rules are in force: packets in between would bring the old flows back."""
        flows = list(self._flows)
        try:
            conntrack.forget(self._tools, flows)
        except (ProcessFailed, FileNotFoundError) as failed:
            self._log.error("Failed to delete stale UDP connections", err=failed)
        for flow in flows:
            del self._flows[flow]

    def _reloading(self, view: NodeView, ruleset: Ruleset) -> None:
        counts: dict[str, int] = {
            "numServices": sum(len(group.ports) for group in view.groups),
            "numEndpoints": view.endpoints_in_all,
        }
        rules = ruleset if isinstance(ruleset, IptablesRuleset) else getattr(ruleset, "iptables", None)
        if isinstance(rules, IptablesRuleset):
            for table, name in (("filter", "Filter"), ("nat", "NAT")):
                counts[f"num{name}Chains"], counts[f"num{name}Rules"] = rules.counts[table]
        what = "iptables" if self._mode in ("iptables", "userspace") else self._mode
        self._log.info(f"Reloading service {what} data", v=2, **counts)

    def _count(self, view: NodeView, ruleset: Ruleset) -> None:
        self._metrics.no_local_endpoints = {
            "internal": sum(_without_local(group, "internal") for group in view.groups),
            "external": sum(_without_local(group, "external") for group in view.groups),
        }
        rules = ruleset if isinstance(ruleset, IptablesRuleset) else getattr(ruleset, "iptables", None)
        counts = rules.counts if isinstance(rules, IptablesRuleset) else {}
        self._metrics.rules = {table: count for table, (_, count) in counts.items()}

    def _addresses(self) -> tuple[str, ...]:
        """The node's IPv4 addresses but for loopback and those of kube-ipvs0, the primary one first."""
        with Rtnl(self._place.netns) as kernel:
            names = {link["index"]: dict(link["attrs"])["IFLA_IFNAME"] for link in kernel.links()}
            found = [
                str(dict(each["attrs"])["IFA_LOCAL"])
                for each in kernel.addresses()
                if names.get(each["index"]) not in ("lo", "kube-ipvs0")
            ]
        primary = self.builder.node.address
        return tuple(dict.fromkeys(sorted(found, key=lambda ip: (ip != primary, tuple(map(int, ip.split(".")))))))

    async def intact(self) -> bool:
        """Whether nobody flushed the rules."""
        return bool(await self._blocking(self._applier.intact))

    async def check_kernel(self) -> None:
        """Raise MissingFeature when the node's kernel or system lacks what the mode needs."""
        await self._blocking(check_kernel, self._tools, self._mode)

    def stop(self) -> None:
        """End what only the process does (mode userspace); rules stay in force. May be called twice."""
        if self._userspace is not None:
            self._userspace.stop()
