"""The testbed's own eye on the API: what nodes and pods there are, and waiting until they are as they should be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any

from mininetes.agents.running import end, together
from mininetes.apiserver.client import Client
from mininetes.apiserver.informer import Informer
from mininetes.errors import MininetesError
from mininetes.testbed.pod_troubles import PodTroubles

TROUBLES_EVERY_S = 5.0
"""Who waits so long is told why, and again when that changes."""
_MOST_NAMED = 8


def is_ready(obj: Mapping[str, Any] | None) -> bool:
    """Whether a pod or node has the condition Ready."""
    conditions = (obj or {}).get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


class ClusterWatch:
    """Nodes, pods and deployments as the API has them, kept up to date until `close`.

    ``trouble`` hears what keeps pods from getting ready that are waited for long. Pods and deployments whose label
    ``k8s-app`` is among ``unawaited`` are never waited for.
    """

    def __init__(
        self, client: Client, trouble: Callable[[str], None] = lambda _: None, unawaited: Collection[str] = ()
    ) -> None:
        self.client = client
        self.troubles = PodTroubles(client, trouble)
        self._unawaited = frozenset(unawaited)
        self._nodes = Informer(client, "nodes")
        self._pods = Informer(client, "pods")
        self._deployments = Informer(client, "deployments.apps")
        self._waiting: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        for informer in self._informers:
            informer.on_change(self._changed)

    def _changed(self, *_: Any) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)

    @property
    def _informers(self) -> tuple[Informer, ...]:
        return (self._nodes, self._pods, self._deployments)

    @property
    def nodes(self) -> Mapping[str, dict[str, Any]]:
        """Node objects by name."""
        return self._nodes.items

    @property
    def pods(self) -> Mapping[str, dict[str, Any]]:
        """Pod objects by "namespace/name"."""
        return self._pods.items

    async def start(self) -> None:
        """Begin to watch, and return when all there is has been seen."""
        running = together(informer.run() for informer in self._informers)
        self._task = asyncio.get_running_loop().create_task(running, name="cluster watch")
        await asyncio.gather(*(informer.synced() for informer in self._informers))

    async def until(
        self,
        lacks: Callable[[], Iterable[str]],
        what: str,
        *,
        within_s: float,
        meanwhile: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Wait until ``lacks()`` names nothing any more. Raises MininetesError with what it still names then.

        ``meanwhile`` is done every few seconds of it.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + within_s
        look = loop.time() + TROUBLES_EVERY_S
        while missing := list(lacks()):
            change = loop.create_future()
            self._waiting.append(change)
            await asyncio.wait([change], timeout=max(0.0, min(end, look) - loop.time()))
            if meanwhile is not None and loop.time() >= min(look, end):
                await meanwhile()
                look = loop.time() + TROUBLES_EVERY_S
            if loop.time() >= end and (missing := list(lacks())):
                more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
                said = ", ".join(missing[:_MOST_NAMED]) + more
                raise MininetesError(f"not within {within_s:g} s: {what}: {said}")

    async def ready(self, nodes: Iterable[str], *, within_s: float, but: str = "", with_all_pods: bool = True) -> None:
        """Wait until these nodes, all pods and deployments are ready. Raises MininetesError that names what is not.

        Pods that have ended, and those whose label ``k8s-app`` is ``but``, are not waited for. Without
        ``with_all_pods`` only the pods of these nodes are, and no deployment.
        """
        wanted = list(nodes)
        unawaited = self._unawaited | ({but} if but else set())

        def is_awaited(pod: Mapping[str, Any]) -> bool:
            if _app(pod) in unawaited or pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
                return False
            return with_all_pods or _node_of(pod) in wanted

        def unready() -> dict[str, dict[str, Any]]:
            return {name: pod for name, pod in self.pods.items() if is_awaited(pod) and not is_ready(pod)}

        def lacks() -> Iterable[str]:
            yield from (f"node {name}{_unready(self.nodes.get(name))}" for name in wanted
                        if not is_ready(self.nodes.get(name)))  # fmt: skip
            yield from (f"pod {name}{self._why(name, pod)}" for name, pod in unready().items())
            for name, deployment in self._deployments.items.items() if with_all_pods else ():
                available = deployment.get("status", {}).get("availableReplicas", 0)
                if _app(deployment) not in unawaited and available < deployment["spec"]["replicas"]:
                    yield f"deployment {name}"

        async def meanwhile() -> None:
            await self.troubles.look(unready())

        await self.until(lacks, "nodes, pods and deployments are ready", within_s=within_s, meanwhile=meanwhile)

    def _why(self, name: str, pod: Mapping[str, Any]) -> str:
        said = self.troubles.of(name)
        return f" ({said})" if said else _why(pod)

    async def close(self) -> None:
        """Watch no more. May be called twice."""
        if self._task is not None:
            await end([self._task])
            self._task = None
        await self.client.close()


def _app(pod: Mapping[str, Any]) -> str:
    return str((pod["metadata"].get("labels") or {}).get("k8s-app", ""))


def _node_of(pod: Mapping[str, Any]) -> str:
    """The node that a pod is on, or is to be on, as those of daemon sets say while they wait for the scheduler."""
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or []
    names = [name for term in terms for field in term.get("matchFields") or [] for name in field.get("values") or []]
    return str(pod["spec"].get("nodeName") or (names[0] if len(names) == 1 else ""))


def _unready(node: Mapping[str, Any] | None) -> str:
    """What a node says of why it is not ready, in brackets; empty when it says nothing."""
    for condition in (node or {}).get("status", {}).get("conditions", []):
        if condition["type"] == "Ready" and condition.get("message"):
            return f" ({condition['message']})"
    return ""


def _why(pod: Mapping[str, Any]) -> str:
    """What a pod says of why it is not ready, in brackets; empty when it says nothing."""
    status = pod.get("status", {})
    for container in status.get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting")
        if waiting:
            return f" ({waiting.get('reason', '')}: {waiting.get('message', '')})"
    for condition in status.get("conditions", []):
        if condition["status"] == "False" and condition.get("message"):
            return f" ({condition['message']})"
    return f" ({status.get('phase', 'no status')})"
