"""What all parts of one kubelet share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from mininetes.agents.agent import Placement
from mininetes.agents.cni.runtime import CniRuntime
from mininetes.agents.events import EventRecorder
from mininetes.agents.klog import AgentLog
from mininetes.agents.kubelet.environment import references
from mininetes.agents.kubelet.interfaces import BuiltIn, KubeletOptions, PortServer
from mininetes.agents.kubelet.pod_spec import Pod
from mininetes.agents.kubelet.status_writer import StatusWriter
from mininetes.agents.shim.client import Shim
from mininetes.apiserver.client import Client
from mininetes.apiserver.errors import ApiError
from mininetes.errors import MininetesError


@dataclass
class Context:
    """One kubelet's tools. ``network_failure`` says why pods cannot have a network yet; "" when they can."""

    place: Placement
    client: Client
    log: AgentLog
    shim: Shim
    executor: Executor
    port_server: PortServer
    builtins: Mapping[str, BuiltIn]
    options: KubeletOptions
    cni: CniRuntime
    events: EventRecorder
    statuses: StatusWriter
    network_failure: Callable[[], str]
    objects: dict[tuple[str, str, str], Mapping[str, Any] | None] = field(default_factory=dict)
    """The last ConfigMaps and Secrets that were read, by kind, namespace and name: good while the API is away."""

    @property
    def node(self) -> str:
        """The node's name."""
        return self.place.node

    async def objects_of(self, pod: Pod) -> dict[tuple[str, str], Mapping[str, Any] | None]:
        """What the pod refers to, as it is now or, when the API cannot be reached, as it was. Raises Unreachable."""
        namespace = pod["metadata"]["namespace"]
        found: dict[tuple[str, str], Mapping[str, Any] | None] = {}
        for kind, name in sorted(references(pod)):
            key = (kind, namespace, name)
            try:
                self.objects[key] = await self.client.get(kind, name, namespace)
            except ApiError as refused:
                if refused.code != 404:
                    raise
                self.objects[key] = None
            except MininetesError:
                if key not in self.objects:
                    raise
            found[kind, name] = self.objects[key]
        return found
