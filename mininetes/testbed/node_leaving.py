"""What the API has of a node that leaves: its pods are ended, what is left of them and the node itself deleted."""

from __future__ import annotations

import contextlib
from typing import Any

from mininetes.agents.kubelet.pod_spec import is_mirror
from mininetes.apiserver.errors import ApiError
from mininetes.errors import MininetesError
from mininetes.testbed.cluster_watch import ClusterWatch

EVICT_GRACE_S = 1
EVICT_WITHIN_S = 15.0
GONE_WITHIN_S = 15.0


def _on(watch: ClusterWatch, node: str, *, mirrors: bool) -> list[dict[str, Any]]:
    found = [pod for pod in watch.pods.values() if pod["spec"].get("nodeName") == node]
    return [pod for pod in found if mirrors or not is_mirror(pod)]


def _titles(pods: list[dict[str, Any]]) -> list[str]:
    return [f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in pods]


async def _delete(watch: ClusterWatch, pods: list[dict[str, Any]], grace_s: int) -> None:
    for pod in pods:
        metadata = pod["metadata"]
        try:
            await watch.client.delete(
                "pods", metadata["name"], metadata["namespace"], grace_s=grace_s, uid=metadata["uid"]
            )
        except ApiError as refused:
            if refused.code not in (404, 409):
                raise


def unowned(pods: list[dict[str, Any]]) -> list[str]:
    """Of pods, by their titles, those that no controller makes again elsewhere."""
    alone = [pod for pod in pods if not pod["metadata"].get("ownerReferences")]
    return sorted(title.removeprefix("default/") for title in _titles(alone))


async def empty_node(watch: ClusterWatch, name: str) -> list[str]:
    """Let no pod come to a node any more, and have those on it end; a kubelet that is dead loses them.

    Returns those that nobody makes again. Raises MininetesError when the API cannot be reached.
    """
    if name not in watch.nodes:
        return []
    await watch.client.patch("nodes", name, {"spec": {"unschedulable": True}})
    leaving = _on(watch, name, mirrors=False)
    await _delete(watch, leaving, EVICT_GRACE_S)
    with contextlib.suppress(MininetesError):  # nobody there to end them: `delete_node` takes them out of the API
        await watch.until(
            lambda: _titles(_on(watch, name, mirrors=False)), f"pods of {name} have ended", within_s=EVICT_WITHIN_S
        )
    return unowned(leaving)


async def delete_node(watch: ClusterWatch, name: str) -> None:
    """Delete a node's object and what is left of its pods, whose kubelet has stopped. Raises MininetesError."""
    try:
        await watch.client.delete("nodes", name)
    except ApiError as refused:
        if refused.code != 404:
            raise
    await _delete(watch, _on(watch, name, mirrors=True), 0)
    await watch.until(
        lambda: [*_titles(_on(watch, name, mirrors=True)), *(each for each in watch.nodes if each == name)],
        f"{name} is gone from the API",
        within_s=GONE_WITHIN_S,
    )
