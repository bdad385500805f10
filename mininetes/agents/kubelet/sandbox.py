"""A pod's network namespace: made and attached by the node's CNI plugins, and let go. Blocks: for worker threads."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any

from mininetes.agents.cni.runtime import Attachment, CniRuntime
from mininetes.errors import MininetesError
from mininetes.kernel.netns import add_named, delete_named
from mininetes.lab.filesystem import netns_path

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


def make_sandbox(path: str) -> None:
    """Make a pod's network namespace, as a container runtime does: loopback up, and no IPv6.

    Raises OSError; leaves nothing behind when it fails.
    """
    add_named(path, _furnish)


def _furnish() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
    sysctl = os.open("/proc/sys/net/ipv6/conf/all/disable_ipv6", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(sysctl, b"1")
    finally:
        os.close(sysctl)


def attachment(
    container_id: str,
    netns: str,
    *,
    namespace: str,
    name: str,
    uid: str = "",
    capabilities: Mapping[str, Any] | None = None,
) -> Attachment:
    """How the CNI plugins know a pod. ``netns`` is the namespace's name in `ip netns`; without ``uid`` none is said."""
    args = [("IgnoreUnknown", "1"), ("K8S_POD_NAMESPACE", namespace), ("K8S_POD_NAME", name)]
    if uid:
        args += [("K8S_POD_INFRA_CONTAINER_ID", container_id), ("K8S_POD_UID", uid)]
    return Attachment(container_id, f"/run/netns/{netns}", "eth0", tuple(args), capabilities or {})


def attach(runtime: CniRuntime, netns: str, what: Attachment) -> dict[str, Any]:
    """Make the namespace ``netns`` of the runtime's node and attach it. Returns the CNI result, which has an address.

    A namespace of that name that is left from before goes first. Leaves nothing behind when it
    fails. Raises CniFailed, BadInput, MininetesError or OSError.
    """
    path = netns_path(runtime.node, netns)
    if os.path.exists(path):
        detach(runtime, netns, what)
    make_sandbox(path)
    try:
        result = runtime.add(what)
        if not address_of(result):
            raise MininetesError(f"pod {netns}: the CNI plugins gave it no address")
    except BaseException:
        delete_named(path)
        raise
    return result


def detach(runtime: CniRuntime, netns: str, what: Attachment) -> None:
    """Detach a pod and let its namespace go. May be called twice. Raises CniFailed, when the namespace is gone too."""
    try:
        runtime.delete(what)
    finally:
        delete_named(netns_path(runtime.node, netns))


def address_of(result: Mapping[str, Any]) -> str:
    """The first address of a CNI result, without its prefix; "" when there is none."""
    for each in result.get("ips") or []:
        return str(each["address"]).partition("/")[0]
    return ""
