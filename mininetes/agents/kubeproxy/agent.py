"""kube-proxy of one node: follows services, endpoint slices and its node, and has the rules written."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from typing import Any, ClassVar

from mininetes.agents.agent import Agent, Placement
from mininetes.agents.klog import AgentLog
from mininetes.agents.kubeproxy.compiling import ModeFailed, compiler, mode_like, mode_sha256, mode_title
from mininetes.agents.kubeproxy.configuration import KubeProxyConfig
from mininetes.agents.kubeproxy.health import (
    ANYWHERE,
    Health,
    ServiceHealthPorts,
    checked_services,
    metrics_handlers,
)
from mininetes.agents.kubeproxy.metrics import Metrics
from mininetes.agents.kubeproxy.restoring import Backend, NodeTools, RestoreFailed
from mininetes.agents.kubeproxy.rule_keeper import RuleKeeper, Synced
from mininetes.agents.kubeproxy.services import PROXIED, key_of
from mininetes.agents.kubeproxy.view_builder import Catalogue, NodeFacts, ViewBuilder, node_facts
from mininetes.agents.running import together
from mininetes.agents.serving import Handler, HttpPort
from mininetes.apiserver.client import Client
from mininetes.apiserver.informer import Informer
from mininetes.deadline import within
from mininetes.errors import BadInput, MininetesError

CHANGED_AT = "endpoints.kubernetes.io/last-change-trigger-time"
_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 5.0
_PORT_RETRY_S = 2.0
_SHARE_OF_WHOLE_SYNCS = 0.1
"""At most this part of the time goes into writing everything anew."""

CATALOGUE = Catalogue()
"""Shared by all kube-proxies of a process, unless they are given another one."""


class KubeProxy(Agent):
    """kube-proxy in one of its modes, or in one of somebody's own. ``backend`` picks the iptables; None: the system's.

    ``executor`` has threads that let themselves into namespaces (`let_thread_enter`). Ending the agent
    leaves the rules in force (mode userspace: its connections end); another one takes them over, or
    takes them away when it has another mode.
    """

    name: ClassVar[str] = "kube-proxy"

    def __init__(
        self,
        place: Placement,
        client: Client,
        log: AgentLog,
        *,
        mode: str,
        config: KubeProxyConfig,
        backend: Backend | None,
        executor: Executor,
        catalogue: Catalogue = CATALOGUE,
    ) -> None:
        super().__init__(place, client, log)
        self.mode, self.config = mode, config
        self.mode_sha256 = mode_sha256(mode)
        """Of the mode's file as this proxy has it."""
        self.metrics = Metrics()
        like = mode_like(mode)
        periods = config.sync_settings(like)
        self._period_s, self._pause_s = periods.sync_period, periods.min_sync_period
        self.health = Health(2 * periods.sync_period)
        self._builder = ViewBuilder(
            NodeFacts(place.node, place.address), like, config, catalogue=catalogue, refused=self._refuse
        )
        tools = NodeTools(place.namespaces, backend)
        self.keeper = RuleKeeper(place, self._builder, compiler(mode), tools, log, self.metrics, executor)
        self._health_ports = ServiceHealthPorts(place.netns, self.health, self._port_taken)
        self._services = Informer(client, "services", labels=PROXIED)
        self._slices = Informer(client, "endpointslices.discovery.k8s.io", labels=PROXIED)
        self._node = Informer(client, "nodes", fields=f"metadata.name={place.node}")
        self._services.on_change(self._on_service)
        self._slices.on_change(self._on_slice)
        self._node.on_change(self._on_node)
        self._changed = asyncio.Event()
        self._whole = True
        self._triggers: list[float] = []
        self._started_s = time.time()
        self.trouble = ""
        """Why the last sync failed; empty when it did not."""
        self.is_hopeless = False
        """Whether it failed by a mistake in its mode's file, so that all others will too."""

    async def run(self) -> None:
        """Work until cancelled. Raises MissingFeature when the node lacks what the mode needs."""
        await self.keeper.check_kernel()
        self.log.info(f"Using {mode_title(self.mode)} Proxier")
        if not self._builder.view().local_traffic.by:
            self.log.info("Defaulting to no-op detect-local", v=0, mode=self.config.detect_local_mode or "ClusterCIDR")
        try:
            await together(
                [
                    self._services.run(),
                    self._slices.run(),
                    self._node.run(),
                    self._keep(),
                    self._watch_for_flushes(),
                    self._serve(self.config.healthz_bind_address,
                                {"/healthz": self.health.healthz, "/livez": self.health.livez}),
                    self._serve(self.config.metrics_bind_address,
                                metrics_handlers(self.metrics, mode_title(self.mode))),
                ]
            )  # fmt: skip
        finally:
            self.keeper.stop()
            await self._health_ports.stop()

    def is_settled(self, services: Iterable[str] = (), slices: Iterable[str] = ()) -> bool:
        """Whether all changes that have come are written, those of these objects (``namespace/name``) among them."""
        metrics = self.metrics
        if metrics.service_changes_pending or metrics.endpoint_changes_pending:
            return False
        return all(key in self._services.items for key in services) and all(key in self._slices.items for key in slices)

    def _refuse(self, key: str, why: str) -> None:
        self.log.error("Service is not proxied", service=key, err=why)

    def _port_taken(self, service: str, port: int, why: str) -> None:
        self.log.error("Failed to start healthcheck", service=service, port=port, err=why)

    def _queue(self) -> None:
        self.metrics.last_queued = time.time()
        self.health.queued()
        self._changed.set()

    def _on_service(self, kind: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        self._builder.set_service(key_of(new or old or {}), None if kind == "DELETED" else new)
        self.metrics.service_changes += 1
        self.metrics.service_changes_pending += 1
        self._queue()

    def _on_slice(self, kind: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        current = None if kind == "DELETED" else new
        self._builder.set_slice(key_of(new or old or {}), current, old or new)
        self.metrics.endpoint_changes += 1
        self.metrics.endpoint_changes_pending += 1
        changed = current and (current["metadata"].get("annotations") or {}).get(CHANGED_AT)
        if changed and self._slices.resource_version:
            with contextlib.suppress(ValueError):
                changed_s = datetime.datetime.fromisoformat(changed.replace("Z", "+00:00")).timestamp()
                if changed_s > self._started_s:
                    self._triggers.append(changed_s)
        self._queue()

    def _on_node(self, kind: str, _: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        if kind == "DELETED" or new is None:
            return
        self.health.set_node(new)
        try:
            facts = node_facts(new, self._builder.node.addresses)
        except BadInput as wrong:
            self.log.error("Node has no address", err=wrong)
            return
        if self._builder.set_node(facts):
            self._whole = True
            self._queue()

    async def _keep(self) -> None:
        """Sync on changes, at most every minSyncPeriod; everything every syncPeriod; again after a failure."""
        await self._services.synced()
        await self._slices.synced()
        await self._node.synced()
        loop = asyncio.get_running_loop()
        retry_s, last, next_whole, again = _FIRST_RETRY_S, -1e9, 0.0, 1e9
        while True:
            wait_s = max(0.0, min(next_whole, again) - loop.time())
            with contextlib.suppress(asyncio.TimeoutError):
                async with within(wait_s):
                    await self._changed.wait()
            await asyncio.sleep(max(0.0, last + self._pause_s - loop.time()))
            self._changed.clear()
            triggers, self._triggers = self._triggers, []
            whole, self._whole = self._whole or loop.time() >= next_whole, False
            last = loop.time()
            try:
                synced = await self.keeper.sync(whole=whole)
            except Exception as failed:
                self._failed(failed, retry_s)
                self._triggers = triggers + self._triggers
                self._whole = True
                self._changed.set()
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, _LAST_RETRY_S)
                continue
            self.trouble, self.is_hopeless = "", False
            retry_s, again = _FIRST_RETRY_S, last + (1e9 if synced.again_s is None else synced.again_s)
            if synced.whole:
                next_whole = loop.time() + max(self._period_s, synced.took_s / _SHARE_OF_WHOLE_SYNCS)
            await self._in_force(synced, triggers)

    def _failed(self, failed: Exception, retry_s: float) -> None:
        values: dict[str, Any] = {"err": failed, "retryAfter": f"{retry_s:g}s"}
        if isinstance(failed, RestoreFailed) and failed.line:
            values |= {"line": failed.line, "rule": failed.text}
        self.trouble, self.is_hopeless = str(failed), isinstance(failed, ModeFailed)
        if not isinstance(failed, (MininetesError, OSError)):
            values["kind"] = type(failed).__name__
            self.trouble = f"{type(failed).__name__}: {failed}"
        self.log.error("Failed to execute sync of proxy rules", **values)

    async def _in_force(self, synced: Synced, triggers: list[float]) -> None:
        """The rules are in the kernel: say so where it shows. ``triggers``: when the changes in them were made."""
        if not self._changed.is_set():
            self.health.updated()
        now = time.time()
        for each in triggers:
            self.metrics.programming_s.observe(max(0.0, now - each))
        addresses = ANYWHERE if synced.view.node_ports_everywhere else synced.view.node_port_ips
        await self._health_ports.set_services(checked_services(synced.view), addresses)

    async def _watch_for_flushes(self) -> None:
        """Write everything anew when somebody flushed the rules: their canary is gone then."""
        while True:
            await asyncio.sleep(self._period_s)
            try:
                intact = not self.metrics.last_synced or await self.keeper.intact()
            except (MininetesError, OSError) as failed:
                self.log.error("Failed to look for the canary", err=failed)
                continue
            if not intact:
                self.log.info("Rules were flushed: writing all of them", v=1, mode=self.mode)
                self._whole = True
                self._queue()

    async def _serve(self, address: str, handlers: Mapping[str, Handler]) -> None:
        """Serve at ADDRESS:PORT for as long as the agent lives; a port that is taken is tried again."""
        if not address:
            return
        host, _, port = address.rpartition(":")
        while True:
            try:
                async with HttpPort(self.place.netns, int(port), handlers, address=host):
                    await asyncio.Event().wait()
            except MininetesError as failed:
                self.log.error("Failed to start server", address=address, err=failed)
                await asyncio.sleep(_PORT_RETRY_S)
