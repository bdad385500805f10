"""The pods that a cluster file asks for by number, as ordinary objects of the API."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from mininetes.errors import MininetesError
from mininetes.testbed.blueprint import PodPlan
from mininetes.testbed.cluster_watch import ClusterWatch

IMAGE = "mininetes/responder"
LABELS = {"app": "responder"}
ADDRESS_WITHIN_S = 60.0
LOOK_FOR_REASONS_S = 2.0
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


async def create_pods(watch: ClusterWatch, plans: Sequence[PodPlan]) -> None:
    """Create them all; one node's one after the other, so that addresses follow names. Raises MininetesError.

    Returns when each has its address, not yet when each is ready.
    """
    by_node: dict[str, list[PodPlan]] = {}
    for plan in plans:
        by_node.setdefault(plan.node, []).append(plan)
    await asyncio.gather(*(_create_in_turn(watch, each) for each in by_node.values()))


async def _create_in_turn(watch: ClusterWatch, plans: Iterable[PodPlan]) -> None:
    for plan in plans:
        await watch.client.create("pods", pod_object(plan))

        def lacks(plan: PodPlan = plan) -> list[str]:
            pod = watch.pods.get(f"default/{plan.name}", {})
            return [] if pod.get("status", {}).get("podIP") else [plan.name]

        for _ in range(round(ADDRESS_WITHIN_S / LOOK_FOR_REASONS_S) - 1):
            try:
                await watch.until(lacks, "a ready-made pod has its address", within_s=LOOK_FOR_REASONS_S)
                break
            except MininetesError:
                await _raise_why(watch, plan)
        else:
            await watch.until(lacks, "a ready-made pod has its address", within_s=LOOK_FOR_REASONS_S)


async def _raise_why(watch: ClusterWatch, plan: PodPlan) -> None:
    """Raise MininetesError with what the kubelet says, when it could not make the pod: it will not get better."""
    events = await watch.client.list("events", "default", fields=f"involvedObject.name={plan.name}")
    for event in events["items"]:
        if event.get("reason") == "FailedCreatePodSandBox":
            raise MininetesError(f"pod {plan.name}: {event.get('message', '')}")
