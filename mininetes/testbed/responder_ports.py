"""The built-in responder, as kubelets use it."""

from __future__ import annotations

from collections.abc import Sequence

from mininetes.agents.kubelet import RunningPod
from mininetes.probes.responder_client import Responder, ServedPort


class ResponderPorts:
    """Serves ports of pods by the lab's one responder; of protocols that it does not speak, none."""

    def __init__(self, responder: Responder) -> None:
        self._responder = responder

    async def serve(self, pod: str, *, node: str, netns: str, ports: Sequence[tuple[int, str]]) -> None:
        """Answer at these ports in place of what the pod had. Raises ResponderError, for example when one is taken."""
        await self._responder.serve(pod, node=node, netns=netns, ports=_spoken(ports))

    async def serve_all(self, pods: Sequence[RunningPod]) -> None:
        """Answer at the ports of several pods. Raises ResponderError; the pods before one that fails are served."""
        await self._responder.serve_all([(pod.title, pod.node, pod.netns, _spoken(pod.ports)) for pod in pods])

    async def stop(self, pod: str) -> None:
        """Close a pod's ports. Does nothing when there are none."""
        await self._responder.stop(pod)


def _spoken(ports: Sequence[tuple[int, str]]) -> list[ServedPort]:
    return [ServedPort(port, "UDP" if protocol == "UDP" else "TCP") for port, protocol in ports if protocol != "SCTP"]
