"""What ADDs of a node gave: /var/lib/cni/results/NETWORK-CONTAINER-INTERFACE, as libcni writes it.

{"kind": "cniCacheV1", "containerId", "config" (the configuration in base64), "ifName", "networkName", "netns",
 "cniArgs", "capabilityArgs", "result"}
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mininetes.lab.filesystem import node_path

CACHE_DIR = "/var/lib/cni/results"
KIND = "cniCacheV1"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


@dataclass(frozen=True)
class Entry:
    """One attachment as its ADD left it. ``configuration`` is the text of a configuration list."""

    network: str
    container_id: str
    interface: str
    netns: str | None
    configuration: str
    args: tuple[tuple[str, str], ...]
    capabilities: Mapping[str, Any]
    result: dict[str, Any]

    @property
    def path(self) -> str:
        """Its file, as the node has it."""
        return f"{CACHE_DIR}/{self.network}-{self.container_id}-{self.interface}"


class ResultCache:
    """The cache of one node. Any thread may call; for one attachment one at a time."""

    def __init__(self, node: str) -> None:
        self._node = node

    def write(self, entry: Entry) -> None:
        """Keep an entry, whole or not at all. Raises OSError."""
        content: dict[str, Any] = {
            "kind": KIND,
            "containerId": entry.container_id,
            "config": base64.b64encode(entry.configuration.encode()).decode(),
            "ifName": entry.interface,
            "networkName": entry.network,
        }
        if entry.netns:
            content["netns"] = entry.netns
        if entry.args:
            content["cniArgs"] = [list(pair) for pair in entry.args]
        if entry.capabilities:
            content["capabilityArgs"] = dict(entry.capabilities)
        content["result"] = entry.result
        path = node_path(self._node, entry.path)
        text = json.dumps(content)
        try:
            new = os.open(path + ".new", _NEW, 0o600)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            new = os.open(path + ".new", _NEW, 0o600)
        with open(new, "w") as file:
            file.write(text)
        os.rename(path + ".new", path)

    def find(self, container_id: str, interface: str) -> Entry | None:
        """The entry of an attachment, to whichever network it is. One that cannot be read counts as none."""
        for entry in self.entries(f"-{container_id}-{interface}"):
            if (entry.container_id, entry.interface) == (container_id, interface):
                return entry
        return None

    def drop(self, network: str, container_id: str, interface: str) -> None:
        """Forget an attachment, if it is known."""
        path = node_path(self._node, f"{CACHE_DIR}/{network}-{container_id}-{interface}")
        if os.path.exists(path):
            os.unlink(path)

    def entries(self, ending: str = "") -> Iterator[Entry]:
        """All that can be read, by name; those alone whose name ends so."""
        folder = node_path(self._node, CACHE_DIR)
        if not os.path.isdir(folder):
            return
        for name in sorted(os.listdir(folder)):
            if name.endswith(ending) and not name.endswith(".new"):
                entry = _read(f"{folder}/{name}")
                if entry is not None:
                    yield entry


def _read(path: str) -> Entry | None:
    try:
        with open(path) as file:
            content = json.load(file)
        if content["kind"] != KIND:
            return None
        return Entry(
            network=content["networkName"],
            container_id=content["containerId"],
            interface=content["ifName"],
            netns=content.get("netns"),
            configuration=base64.b64decode(content["config"]).decode(),
            args=tuple((key, value) for key, value in content.get("cniArgs") or ()),
            capabilities=content.get("capabilityArgs") or {},
            result=content["result"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
