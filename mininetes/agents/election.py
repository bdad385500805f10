"""Leader election by a Lease, as Kubernetes' components do it (client-go, tools/leaderelection)."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mininetes.agents.klog import AgentLog
from mininetes.agents.objects import SYSTEM, micro_time
from mininetes.apiserver.client import Client
from mininetes.apiserver.errors import ApiError
from mininetes.errors import MininetesError

LEASES = "leases.coordination.k8s.io"
_JITTER = 1.2


@dataclass(frozen=True)
class ElectionTimes:
    """Seconds, with Kubernetes' defaults: a lease not renewed for ``lease_s`` may be taken; a leader that cannot
    renew for ``renew_deadline_s`` stops its work; everybody tries each ``retry_s``."""

    lease_s: float = 15.0
    renew_deadline_s: float = 10.0
    retry_s: float = 2.0


class LeaderElection:
    """One candidate for the lease ``kube-system/COMPONENT``.

    Its identity is made from node and component alone, so that an instance which is started anew
    takes its own lease up again at once; other nodes wait until it has run out. Times are
    measured on this side from when a change of the lease was seen: clocks need not agree.
    """

    def __init__(
        self, client: Client, component: str, node: str, log: AgentLog, times: ElectionTimes | None = None
    ) -> None:
        self.identity = f"{node}_{uuid.uuid5(uuid.NAMESPACE_DNS, f'{component}.{node}')}"
        self.leading = False
        self._client = client
        self._component = component
        self._log = log
        self._times = times or ElectionTimes()
        self._seen: tuple[Any, Any, Any] | None = None
        self._seen_at = 0.0

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run ``work`` whenever this candidate leads, until cancelled. Work that is lost is cancelled and awaited."""
        while True:
            await self._acquire()
            self._log.info("Successfully acquired lease", lock=f"{SYSTEM}/{self._component}")
            self.leading = True
            doing = asyncio.ensure_future(work())
            renewing = asyncio.ensure_future(self._renew())
            try:
                await asyncio.wait((doing, renewing), return_when=asyncio.FIRST_COMPLETED)
            finally:
                self.leading = False
                doing.cancel()
                renewing.cancel()
                ended = await asyncio.gather(doing, renewing, return_exceptions=True)
            if isinstance(ended[0], Exception):
                self._log.error("Work ended unexpectedly, starting anew", err=ended[0])
                await asyncio.sleep(self._times.retry_s)
            else:
                self._log.warning("Leaderelection lost", lock=f"{SYSTEM}/{self._component}")

    async def _acquire(self) -> None:
        while not await self._try():
            await asyncio.sleep(self._times.retry_s * random.uniform(1, _JITTER))

    async def _renew(self) -> None:
        """Renew until that has failed for the whole deadline."""
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        while loop.time() - renewed < self._times.renew_deadline_s:
            await asyncio.sleep(self._times.retry_s)
            attempt = asyncio.ensure_future(self._try())
            try:
                # Not wait_for: before Python 3.12 it may lose a cancellation that comes as the attempt ends.
                await asyncio.wait({attempt}, timeout=renewed + self._times.renew_deadline_s - loop.time())
            finally:
                attempt.cancel()
            if attempt.done() and not attempt.cancelled() and attempt.result():
                renewed = loop.time()

    async def _try(self) -> bool:
        """Take or renew the lease; whether it is ours now. Refusals and an unreachable server are a no."""
        try:
            return await self._take()
        except ApiError as refused:
            if refused.code not in (404, 409):
                self._log.error("Error retrieving or updating lease lock", err=refused)
        except MininetesError as failed:
            self._log.error("Error retrieving or updating lease lock", err=failed)
        return False

    async def _take(self) -> bool:
        loop = asyncio.get_running_loop()
        try:
            lease = await self._client.get(LEASES, self._component, SYSTEM)
        except ApiError as missing:
            if missing.code != 404:
                raise
            await self._client.create(LEASES, self._new_lease())
            return True
        spec = lease.get("spec") or {}
        record = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("leaseTransitions"))
        if record != self._seen:
            self._seen, self._seen_at = record, loop.time()
        ours = record[0] == self.identity
        if record[0] and not ours and loop.time() < self._seen_at + float(spec.get("leaseDurationSeconds") or 0):
            return False
        now = micro_time()
        changed = {
            **spec,
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, round(self._times.lease_s)),
            "renewTime": now,
            "acquireTime": spec.get("acquireTime", now) if ours else now,
            "leaseTransitions": int(spec.get("leaseTransitions") or 0) + (0 if ours else 1),
        }
        await self._client.update(LEASES, {**lease, "spec": changed})
        return True

    def _new_lease(self) -> dict[str, Any]:
        now = micro_time()
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._component, "namespace": SYSTEM},
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": max(1, round(self._times.lease_s)),
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": 0,
            },
        }
