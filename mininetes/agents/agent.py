"""What an agent is: a coroutine that does one component's work from one node, ended and started anew at any time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mininetes.agents.klog import AgentLog
from mininetes.kernel.processes import Namespaces

if TYPE_CHECKING:
    from mininetes.apiserver.client import Client


@dataclass(frozen=True)
class Placement:
    """The node on which an agent works. ``netns`` is a path that the engine can open, ``holder_pid`` its process."""

    node: str
    address: str
    netns: str
    holder_pid: int

    @property
    def namespaces(self) -> Namespaces:
        """Where the node's programs run."""
        return Namespaces(of_pid=self.holder_pid or None, net=self.netns)


class Agent(ABC):
    """One component on one node (kubelet, kube-proxy, ...), as a task of the engine.

    An agent keeps nothing that it could not learn again from the API server, the kernel and its
    node's files: whoever ends it and starts another in its place loses nothing.
    """

    name: ClassVar[str]
    """The component's name, as its log and its pod in kube-system have it."""

    def __init__(self, place: Placement, client: Client, log: AgentLog) -> None:
        self.place = place
        self.client = client
        self.log = log

    @abstractmethod
    async def run(self) -> None:
        """Work until cancelled. Goes on with what is known while the API server cannot be reached, and catches up."""
