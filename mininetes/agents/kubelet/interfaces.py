"""What a kubelet is given, and what it shows of its pods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol


class PortServer(Protocol):
    """The built-in responder: answers at ports of pods whose containers have no command."""

    async def serve(self, pod: str, *, node: str, netns: str, ports: Sequence[tuple[int, str]]) -> None:
        """Answer at these (port, protocol) in the namespace at ``netns``, in place of what the pod had.

        ``pod`` is the pod's name, with "NAMESPACE/" before it outside of `default`. All ports or
        none. Raises MininetesError, for example when a port is taken.
        """

    async def stop(self, pod: str) -> None:
        """Close a pod's ports. Does nothing when there are none."""


class BuiltInHandle(Protocol):
    """A built-in program that runs in a pod."""

    async def stop(self) -> None:
        """End it and close its sockets. May be called twice."""


class BuiltIn(Protocol):
    """A program of the engine's own that an image name stands for, such as the DNS server."""

    async def start(self, netns: str, pod: Mapping[str, Any], log: Callable[[str], None]) -> BuiltInHandle:
        """Serve in the pod's namespace at ``netns``; each call of ``log`` is a line of the container's log.

        Called again, after a `stop` that may have been missed, when a kubelet is started anew.
        Raises MininetesError when it cannot.
        """


@dataclass(frozen=True)
class StaticPod:
    """An agent of the node, shown as a pod of kube-system.

    ``name`` is the component's; the pod's is NAME-NODE, or ``pod_name`` where that is given.
    ``owner`` ("DaemonSet", NAME) makes the pod the child of that object while it exists.
    """

    name: str
    component: str
    log_path: str
    """As the engine opens it: plain lines of klog's."""
    command: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Sequence[tuple[str, int]] = ()
    """Names and TCP ports at which it listens."""
    is_alive: Callable[[], bool] = lambda: True
    image: str = ""
    pod_name: str = ""
    owner: tuple[str, str] | None = None


@dataclass(frozen=True)
class KubeletOptions:
    """How a kubelet behaves. Times are in seconds; the field names of its own configuration are in brackets."""

    control_plane: bool = False
    """Label and taint the node as one of the control plane."""
    tainted: bool = True
    """Whether a control-plane node keeps ordinary pods away."""
    zone: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    max_pods: int = 110
    hold: Literal["process", "mount"] = "process"
    """What holds a pod's namespaces: a pause process, or (for scale, where no command runs) a mount alone."""
    cluster_dns: str = ""
    cluster_domain: str = "cluster.local"
    service_host: str = ""
    """The address of the service `kubernetes`, for the containers' environment."""
    service_port: int = 443
    status_period_s: float = 10.0
    """[nodeStatusUpdateFrequency]"""
    lease_period_s: float = 10.0
    lease_duration_s: int = 40
    """[nodeLeaseDurationSeconds]"""
    backoff_s: float = 10.0
    """Before a container that ended is started again; doubles up to ``backoff_max_s``."""
    backoff_max_s: float = 300.0
    retry_s: float = 2.0
    """Before a sandbox that could not be made is tried again; doubles up to a minute."""
    port: int = 10250
    health_port: int = 10248
    memory_bytes: int = 0
    """Reported as capacity; 0: what the machine has."""


@dataclass(frozen=True)
class RunningPod:
    """A pod that has its network namespace."""

    namespace: str
    name: str
    uid: str
    node: str
    address: str
    netns: str
    """A path that the engine can open."""
    pause_pid: int | None
    """Holds the pod's mount, PID, UTS and IPC namespaces; None when there is no pause process."""
    ports: tuple[tuple[int, str], ...]
    """What its containers declare: (port, protocol)."""
    host_network: bool
    ready: bool
    result: Mapping[str, Any]
    """What the CNI plugins gave; empty with the host's network."""

    @property
    def title(self) -> str:
        """The name that people use: with the namespace before it, except in `default`."""
        return self.name if self.namespace == "default" else f"{self.namespace}/{self.name}"
