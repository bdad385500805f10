"""The node in the API: registered, its status and its lease kept fresh."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from mininetes.agents.kubelet import node_status
from mininetes.agents.kubelet.context import Context
from mininetes.agents.objects import conditions_of, rfc3339
from mininetes.agents.running import together
from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.informer import Backoff
from mininetes.errors import MininetesError

LOOK_S = 0.5
"""How often it is looked whether the node has become ready, or is so no more."""


class NodeRegistration:
    """Keeps one Node object and its Lease."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._node: dict[str, Any] = {}

    async def run(self) -> None:
        """Register, then keep status and lease fresh, until cancelled."""
        await self._register()
        await together([self._keep_status(), self._keep_lease()])

    async def _register(self) -> None:
        """Have a Node object with our labels; tries until it is there."""
        context, backoff = self._context, Backoff()
        place, options = context.place, context.options
        context.log.info("Attempting to register node", node=place.node)
        while True:
            try:
                wanted = node_status.node_object(place, options, self._status())
                try:
                    self._node = await context.client.create("nodes", wanted)
                    context.events.record(wanted, "Normal", "Starting", "Starting kubelet.")
                except ApiError as refused:
                    if refused.code != 409:
                        raise
                    labels = {"metadata": {"labels": wanted["metadata"]["labels"]}}
                    self._node = await context.client.patch("nodes", place.node, labels)
                    await self._send()
                context.log.info("Successfully registered node", node=place.node)
                return
            except MininetesError as failed:
                context.log.error("Unable to register node with API server", node=place.node, err=failed)
                await backoff.pause()

    def _status(self) -> dict[str, Any]:
        context = self._context
        return node_status.node_status(
            context.place, context.options, context.network_failure(), rfc3339(time.time()), conditions_of(self._node)
        )

    async def _send(self) -> None:
        """Have the API know the node's status, upon the conditions that it has. Raises MininetesError."""
        context = self._context
        self._node = await context.client.get("nodes", context.node)
        patch = {"status": self._status()}
        self._node = await context.client.patch("nodes", context.node, patch, subresource="status")

    async def _keep_status(self) -> None:
        context = self._context
        sent_failure = context.network_failure()
        due = time.monotonic() + context.options.status_period_s
        while True:
            await asyncio.sleep(min(LOOK_S, max(0.0, due - time.monotonic())))
            failure = context.network_failure()
            if failure == sent_failure and time.monotonic() < due:
                continue
            try:
                await self._send()
                sent_failure = failure
                due = time.monotonic() + context.options.status_period_s
            except ApiError as refused:
                if refused.code == 404:
                    await self._register()
                else:
                    context.log.error("Error updating node status, will retry", err=refused)
                due = time.monotonic() + min(1.0, context.options.status_period_s)
            except MininetesError as failed:
                context.log.error("Error updating node status, will retry", err=failed)
                due = time.monotonic() + min(1.0, context.options.status_period_s)

    async def _keep_lease(self) -> None:
        """Renew the lease each period; what says that the node lives."""
        context = self._context
        while True:
            begun = time.monotonic()
            try:
                await self._renew()
            except MininetesError as failed:
                context.log.error("Failed to update lease", err=failed)
            left_s = context.options.lease_period_s - (time.monotonic() - begun)
            await asyncio.sleep(max(0.05, left_s))

    async def _renew(self) -> None:
        context = self._context
        lease = node_status.lease(context.place, context.options, self._node.get("metadata", {}).get("uid", ""))
        try:
            await context.client.patch(
                "leases.coordination.k8s.io", context.node, {"spec": lease["spec"]}, node_status.LEASES
            )
        except ApiError as refused:
            if refused.code != 404:
                raise
            await context.client.create("leases.coordination.k8s.io", lease)
