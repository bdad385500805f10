"""Ready-made pods: a network namespace each, attached by the node's CNI plugin, with the built-in responder."""

from __future__ import annotations

import fcntl
import socket
import struct
from dataclasses import dataclass
from typing import Any

from mininetes.agents.cni.runtime import Attachment, CniRuntime
from mininetes.errors import MininetesError
from mininetes.kernel.netns import add_named, delete_named, in_netns
from mininetes.lab.filesystem import netns_path
from mininetes.testbed.blueprint import PodPlan

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


@dataclass(frozen=True)
class Pod:
    """A pod that is up. ``netns`` is a path in the lab; ``result`` what the CNI plugins gave."""

    name: str
    node: str
    port: int
    address: str
    netns: str
    result: dict[str, Any]


def attachment_of(plan: PodPlan) -> Attachment:
    """How the CNI plugins know the pod."""
    args = (("IgnoreUnknown", "1"), ("K8S_POD_NAMESPACE", "default"), ("K8S_POD_NAME", plan.name))
    return Attachment(plan.name, f"/run/netns/{plan.name}", "eth0", args)


def make_sandbox(path: str) -> None:
    """Make a pod's network namespace, as a container runtime does: loopback up, and no IPv6.

    Raises OSError; leaves nothing behind when it fails.
    """
    add_named(path)
    try:
        with in_netns(path):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
                fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
            with open("/proc/sys/net/ipv6/conf/all/disable_ipv6", "w") as sysctl:
                sysctl.write("1")
    except OSError:
        delete_named(path)
        raise


def create(plan: PodPlan, runtime: CniRuntime) -> Pod:
    """Make a pod and attach it. Blocks; may run on several threads. Raises CniFailed, MininetesError or OSError.

    Leaves nothing behind when it fails.
    """
    path = netns_path(plan.node, plan.name)
    make_sandbox(path)
    try:
        result = runtime.add(attachment_of(plan))
        addresses = [str(each["address"]).partition("/")[0] for each in result.get("ips", [])]
        if not addresses:
            raise MininetesError(f"pod {plan.name}: the CNI plugins gave it no address")
    except BaseException:
        delete_named(path)
        raise
    return Pod(plan.name, plan.node, plan.port, addresses[0], path, result)


def delete(plan: PodPlan, runtime: CniRuntime) -> None:
    """Detach a pod and let its namespace go. May be called twice. Raises CniFailed."""
    try:
        runtime.delete(attachment_of(plan))
    finally:
        delete_named(netns_path(plan.node, plan.name))
