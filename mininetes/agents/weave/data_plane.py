"""A node's part of the one L2 network: the bridge `weave`, and VXLAN tunnels to the other nodes.

    pod 10.32.0.2                                              pod 10.37.85.2
        | eth0                                                     | eth0
    +---+---- weave 10.32.0.1/12 ------+           +---------------+ weave 10.37.85.1/12 --+
    |            |                     |           |        |                              |
    |       vxlan-6784                 |           |   vxlan-6784                          |
    +------------+---------------------+           +--------+------------------------------+
                 +==== UDP 6784, VNI 6784, a copy for each peer ====+

One VXLAN device carries the tunnels to all peers. What is for everybody, or for a MAC that is not known yet, goes out
once to each peer (entries for the MAC 00:00:00:00:00:00: head-end replication). What came in by the device never
leaves by it again, as a bridge does not send a frame back to the port it came from; and as each peer has a
tunnel to each other one, nothing has to. So no loop can form, whatever the peers are connected to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mininetes.errors import MininetesError
from mininetes.kernel.processes import Namespaces, ProcessFailed, run

BRIDGE = "weave"
DEVICE = "vxlan-6784"
UDP_PORT = 6784
VNI = 6784
_FAN_MAP = re.compile(r'("id":\d+)fan-map ')
"""What Ubuntu 22.04's ip (5.15, patched) writes into the JSON of every VXLAN device."""
MTU = 1376
EVERYBODY = "00:00:00:00:00:00"


@dataclass(frozen=True)
class Wanted:
    """What a node shall have: the bridge's MAC and address, this node's end of the tunnels, and the others'."""

    mac: str
    local: str
    address: str | None = None
    """With its prefix; None as long as there is none."""
    remotes: frozenset[str] = frozenset()
    mtu: int = MTU


@dataclass(frozen=True)
class There:
    """What a node has; None for a link that is not there."""

    bridge: Mapping[str, Any] | None = None
    device: Mapping[str, Any] | None = None
    remotes: frozenset[str] = frozenset()

    @property
    def addresses(self) -> list[str]:
        """The bridge's addresses, with their prefixes."""
        found = (self.bridge or {}).get("addr_info", [])
        return [f"{each['local']}/{each['prefixlen']}" for each in found if each["family"] == "inet"]


@dataclass(frozen=True)
class Change:
    """What is to be done, in words of ip(8) or bridge(8)."""

    program: str
    line: str


def changes(wanted: Wanted, there: There) -> list[Change]:
    """What makes of what is there what is wanted; nothing when it is so. Pure."""
    return [*_bridge_changes(wanted, there), *_device_changes(wanted, there), *_remote_changes(wanted, there)]


def _ip(line: str) -> Change:
    return Change("ip", line)


def _is_wrong(device: Mapping[str, Any], wanted: Wanted) -> bool:
    """Whether the tunnels' device is another than ours, which cannot be changed but only made anew."""
    info = device.get("linkinfo", {})
    data = info.get("info_data", {})
    right = ("vxlan", VNI, UDP_PORT, wanted.local)
    return (info.get("info_kind"), data.get("id"), data.get("port"), data.get("local")) != right


def _bridge_changes(wanted: Wanted, there: There) -> list[Change]:
    found: list[Change] = []
    if there.bridge is None:
        found.append(_ip(f"link add name {BRIDGE} mtu {wanted.mtu} address {wanted.mac} type bridge forward_delay 0"))
    elif there.bridge["address"] != wanted.mac or there.bridge["mtu"] != wanted.mtu:
        found.append(_ip(f"link set dev {BRIDGE} mtu {wanted.mtu} address {wanted.mac}"))
    if there.bridge is None or "UP" not in there.bridge["flags"]:
        found.append(_ip(f"link set dev {BRIDGE} up"))
    if wanted.address is not None and wanted.address not in there.addresses:
        found.append(_ip(f"address add {wanted.address} broadcast + dev {BRIDGE}"))
    return found


def _device_changes(wanted: Wanted, there: There) -> list[Change]:
    found: list[Change] = []
    device = there.device
    if device is not None and _is_wrong(device, wanted):
        found.append(_ip(f"link delete dev {DEVICE}"))
        device = None
    if device is None:
        tunnel = f"type vxlan id {VNI} local {wanted.local} dstport {UDP_PORT} learning"
        found.append(_ip(f"link add name {DEVICE} mtu {wanted.mtu} {tunnel}"))
    if device is None or device.get("master") != BRIDGE:
        found.append(_ip(f"link set dev {DEVICE} master {BRIDGE}"))
    if device is not None and device["mtu"] != wanted.mtu:
        found.append(_ip(f"link set dev {DEVICE} mtu {wanted.mtu}"))
    if device is None or "UP" not in device["flags"]:
        found.append(_ip(f"link set dev {DEVICE} up"))
    return found


def _remote_changes(wanted: Wanted, there: There) -> list[Change]:
    known = frozenset() if there.device is None or _is_wrong(there.device, wanted) else there.remotes
    entry = f"{EVERYBODY} dev {DEVICE} dst"
    found = [Change("bridge", f"fdb append {entry} {each}") for each in sorted(wanted.remotes - known)]
    return found + [Change("bridge", f"fdb delete {entry} {each}") for each in sorted(known - wanted.remotes)]


def mac_of(address: str) -> str:
    """The MAC that the plugin bash-bridge gives a pod with this address."""
    return "0a:58:" + ":".join(f"{int(part):02x}" for part in address.split("."))


class DataPlane:
    """The kernel's part, in the namespace at ``netns``. Every method blocks and raises MininetesError."""

    def __init__(self, netns: str, start: Callable[..., Any] = run) -> None:
        self._namespaces = Namespaces(net=netns)
        self._run = start

    def read(self) -> There:
        """What is there."""
        links = self._json(["ip", "-json", "-details", "address", "show"])
        by_name = {link["ifname"]: link for link in links if "ifname" in link}
        remotes: frozenset[str] = frozenset()
        if DEVICE in by_name:
            entries = self._json(["bridge", "-json", "fdb", "show", "dev", DEVICE])
            remotes = frozenset(each["dst"] for each in entries if each["mac"] == EVERYBODY and "dst" in each)
        return There(by_name.get(BRIDGE), by_name.get(DEVICE), remotes)

    def _json(self, argv: list[str]) -> list[dict[str, Any]]:
        text = self._run(argv, namespaces=self._namespaces).stdout
        try:
            found: list[dict[str, Any]] = json.loads(_FAN_MAP.sub(r"\1", text) or "[]")
        except ValueError as wrong:
            raise MininetesError(f"{' '.join(argv)}: not JSON: {wrong}") from None
        return found

    def apply(self, wanted: Wanted, *, leave: bool = False) -> list[str]:
        """Make it as wanted, and return what was done: nothing when it is so. With ``leave``, what is to be done."""
        todo = changes(wanted, self.read())
        for program in ("ip", "bridge") if not leave else ():
            lines = [each.line for each in todo if each.program == program]
            if lines:
                self._run([program, "-batch", "-"], stdin="\n".join(lines) + "\n", namespaces=self._namespaces)
        return [f"{each.program} {each.line}" for each in todo]

    def forget(self, addresses: Iterable[str]) -> None:
        """Forget behind which tunnel these pods were: they are elsewhere now."""
        lines = [
            f"fdb delete {mac_of(each)} dev {DEVICE} {where}" for each in addresses for where in ("self", "master")
        ]
        if lines:
            try:
                self._run(
                    ["bridge", "-force", "-batch", "-"], stdin="\n".join(lines) + "\n", namespaces=self._namespaces
                )
            except ProcessFailed as failed:  # most of them were not known
                if "No such file" not in failed.completed.stderr:
                    raise
