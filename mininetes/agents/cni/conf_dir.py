"""A node's /etc/cni/net.d: which configuration an ADD goes by, read again when a file of it has changed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mininetes.agents.cni.configuration import ENDINGS, NAME, NetworkConfiguration, json_object, read_text
from mininetes.errors import BadInput

_TICKS_NS = 50_000_000
"""A file that has changed just now may change once more without its time telling: the kernel's clock has ticks."""


_State = tuple[tuple[str, int, int, int, int], ...]


class ConfDir:
    """The conf dir at ``folder``. Any thread may call."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._reading = threading.Lock()
        self._read: tuple[_State, NetworkConfiguration] | None = None
        self._chosen: tuple[NetworkConfiguration, NetworkConfiguration] | None = None

    def first(self) -> NetworkConfiguration:
        """As `first_of`, and the same object as before when no file has changed. Raises BadInput, OSError."""
        try:
            state = _state_of(self._folder)
        except OSError:  # a link to nowhere, say, which `first_of` may have no need of
            return first_of(self._folder)
        with self._reading:
            if self._read is None or self._read[0] != state:
                configuration = first_of(self._folder)
                if time.time_ns() - max((changed for *_, changed in state), default=0) < _TICKS_NS:
                    return configuration
                self._read = (state, configuration)
            return self._read[1]

    def at(self, configuration: NetworkConfiguration, version: str) -> NetworkConfiguration:
        """A configuration of `first` with this version alone; asked again, the same object."""
        chosen = self._chosen
        if chosen is None or chosen[0] is not configuration or chosen[1].cni_version != version:
            chosen = self._chosen = (configuration, configuration.at(version))
        return chosen[1]


def first_of(folder: str) -> NetworkConfiguration:
    """The first configuration of a conf dir, by file name, as a kubelet picks it. Raises BadInput.

    Files NAME/*.conf beside it, where NAME is that of the network, add plugins, unless it says loadOnlyInlinedPlugins.
    """
    files = sorted(path for path in Path(folder).iterdir() if path.suffix in ENDINGS and path.is_file())
    if not files:
        raise BadInput("network configuration", None, f"no {', '.join(ENDINGS)} file in /etc/cni/net.d")
    source = f"/etc/cni/net.d/{files[0].name}"
    text = read_text(files[0], source)
    return NetworkConfiguration.parse(text, source, _beside(Path(folder), json_object(text, source)))


def _state_of(folder: str, *, folders_too: bool = True) -> _State:
    """Of the folder's files and those in its folders: name, inode, size, when content and anything changed, in ns."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            stat = entry.stat()
            found.append((entry.path, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
            if folders_too and entry.is_dir():
                found += _state_of(entry.path, folders_too=False)
    return tuple(sorted(found))


def _beside(folder: Path, content: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The plugins of files of their own, for a list. A name that is none is left to whoever reads the rest."""
    name = content.get("name")
    if "type" in content or not isinstance(name, str) or not NAME.fullmatch(name) or not (folder / name).is_dir():
        return []
    found: list[tuple[str, Mapping[str, Any]]] = []
    for path in sorted((folder / name).glob("*.conf")):
        source = f"/etc/cni/net.d/{name}/{path.name}"
        found.append((source, json_object(read_text(path, source), source)))
    return found
