"""The kubelet: makes a node's pods what the API says, and tells the API what they are."""

from mininetes.agents.kubelet.interfaces import (
    BuiltIn,
    BuiltInHandle,
    KubeletOptions,
    PortServer,
    RunningPod,
    StaticPod,
)
from mininetes.agents.kubelet.kubelet import Kubelet
from mininetes.agents.shim.client import Shim

__all__ = ["BuiltIn", "BuiltInHandle", "Kubelet", "KubeletOptions", "PortServer", "RunningPod", "Shim", "StaticPod"]
