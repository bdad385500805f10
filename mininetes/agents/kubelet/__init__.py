"""The kubelet: makes a node's pods what the API says, and tells the API what they are.

What others exchange with it is here; the agent itself is in `kubelet.kubelet`, whose libraries a lab
without a control plane need not wait for.
"""

from mininetes.agents.kubelet.interfaces import (
    BuiltIn,
    BuiltInHandle,
    KubeletOptions,
    PortServer,
    RunningPod,
    StaticPod,
)

__all__ = ["BuiltIn", "BuiltInHandle", "KubeletOptions", "PortServer", "RunningPod", "StaticPod"]
