"""The pods that a cluster file asks for by number, as ordinary objects of the API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from http import HTTPStatus
from typing import Any

from mininetes.apiserver.client import Client
from mininetes.apiserver.errors import ApiError
from mininetes.errors import MininetesError
from mininetes.testbed.blueprint import PodPlan
from mininetes.testbed.cluster_watch import ClusterWatch
from mininetes.testbed.pod_troubles import NO_SANDBOX

IMAGE = "mininetes/responder"
LABELS = {"app": "responder"}
ADDRESS_WITHIN_S = 60.0
LOOK_FOR_REASONS_S = 2.0
_LOOK_S = 0.003
_FOREVER = [{"operator": "Exists"}]


def pod_object(plan: PodPlan) -> dict[str, Any]:
    """The pod as a manifest: bound to its node already, with a responder that answers TCP and UDP."""
    ports = [{"containerPort": plan.port, "protocol": protocol} for protocol in ("TCP", "UDP")]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": plan.name, "namespace": "default", "labels": LABELS},
        "spec": {
            "nodeName": plan.node,
            "tolerations": _FOREVER,
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "responder", "image": IMAGE, "ports": ports}],
        },
    }


async def create_pods(watch: ClusterWatch, plans: Sequence[PodPlan], attached: Callable[[], Collection[str]]) -> None:
    """Create them all; one node's one after the other, so that addresses follow names. Raises MininetesError.

    ``attached`` names the pods that have an address, as the kubelets know it: sooner than the API does.
    Returns when each has its address, not yet when each is ready.
    """
    by_node: dict[str, list[PodPlan]] = {}
    for plan in plans:
        by_node.setdefault(plan.node, []).append(plan)
    await asyncio.gather(*(_create_in_turn(watch, each, attached) for each in by_node.values()))


async def _create(client: Client, plan: PodPlan) -> None:
    """Create a pod, anew where the API has one still of a joining of this node that was broken off."""
    wanted = pod_object(plan)
    try:
        await client.create("pods", wanted)
    except ApiError as refused:
        if refused.code != HTTPStatus.CONFLICT:
            raise
        left = await client.get("pods", plan.name, "default")
        if (left["spec"].get("nodeName"), left["metadata"].get("labels")) != (plan.node, LABELS):
            raise
        await client.delete("pods", plan.name, "default", grace_s=0, uid=left["metadata"]["uid"])
        await client.create("pods", wanted)


async def _create_in_turn(
    watch: ClusterWatch, plans: Iterable[PodPlan], attached: Callable[[], Collection[str]]
) -> None:
    loop = asyncio.get_running_loop()
    for plan in plans:
        title = f"default/{plan.name}"
        await _create(watch.client, plan)
        began = look_for_reasons = loop.time()
        while plan.name not in attached():
            await asyncio.sleep(_LOOK_S)
            if loop.time() > look_for_reasons + LOOK_FOR_REASONS_S:
                look_for_reasons = loop.time()
                await watch.troubles.look([title])
                if watch.troubles.reason(title) == NO_SANDBOX:  # it will not get better
                    raise MininetesError(f"pod {plan.name} {watch.troubles.of(title)}")
            if loop.time() > began + ADDRESS_WITHIN_S:
                why = watch.troubles.of(title) or f"on {plan.node}"
                raise MininetesError(f"no address within {ADDRESS_WITHIN_S:g} s: pod {plan.name} {why}")
