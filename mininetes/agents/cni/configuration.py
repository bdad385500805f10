"""Network configurations: .conf, .json and .conflist, as libcni reads them, and templates of them for nodes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from mininetes.errors import BadInput

ENDINGS = (".conf", ".conflist", ".json")
VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


@dataclass(frozen=True)
class NetworkConfiguration:
    """A list of plugins to run in order (CNI section 1). ``plugins`` are their configurations, as in the file."""

    name: str
    cni_version: str
    plugins: tuple[Mapping[str, Any], ...]
    disable_check: bool = False

    @property
    def types(self) -> list[str]:
        """The executables it needs: plugins and their address plugins."""
        found = []
        for plugin in self.plugins:
            found.append(str(plugin["type"]))
            ipam = plugin.get("ipam")
            if isinstance(ipam, dict) and ipam.get("type"):
                found.append(str(ipam["type"]))
        return found

    def to_json(self) -> dict[str, Any]:
        """As a configuration list."""
        return {"cniVersion": self.cni_version, "name": self.name, "plugins": [dict(each) for each in self.plugins]}

    @classmethod
    def parse(cls, text: str, source: str) -> NetworkConfiguration:
        """Read a configuration or a list of them. Raises BadInput that names ``source`` and the field."""
        try:
            content = json.loads(text)
        except ValueError as wrong:
            raise BadInput(source, None, f"not JSON: {wrong}") from None
        if not isinstance(content, dict):
            raise BadInput(source, None, "a JSON object with cniVersion, name and plugins")
        plugins = content.get("plugins", [content] if "type" in content else None)
        name, version = content.get("name"), content.get("cniVersion", "0.3.1")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise BadInput(f"{source}: name", name, "a network name: letters, digits, '_', '.', '-', no other first")
        if version not in VERSIONS:
            raise BadInput(f"{source}: cniVersion", version, "one of " + ", ".join(VERSIONS))
        if not isinstance(plugins, list) or not plugins:
            raise BadInput(f"{source}: plugins", plugins, "a list of at least one plugin configuration")
        for index, plugin in enumerate(plugins):
            kind = plugin.get("type") if isinstance(plugin, dict) else None
            if not isinstance(kind, str) or not kind or "/" in kind:
                raise BadInput(f"{source}: plugins[{index}].type", kind, "the name of an executable, without a path")
            ipam = plugin.get("ipam", {})
            ipam_kind = ipam.get("type", "") if isinstance(ipam, dict) else None
            if not isinstance(ipam_kind, str) or "/" in ipam_kind or (ipam and not ipam_kind):
                raise BadInput(f"{source}: plugins[{index}].ipam", ipam, "an object with the type of an address plugin")
        disabled = content.get("disableCheck", False)
        return cls(name, version, tuple(plugins), disabled in (True, "true"))


def read_text(path: Path, source: str) -> str:
    """Read a configuration's file. Raises BadInput that names ``source``."""
    try:
        return path.read_text()
    except OSError as failed:
        raise BadInput(source, None, f"a readable file ({failed.strerror})") from None
    except UnicodeDecodeError as wrong:
        raise BadInput(source, None, f"not JSON: not text in UTF-8: {wrong.reason}") from None


def first_of(folder: str) -> NetworkConfiguration:
    """The first configuration of a conf dir, by file name, as a kubelet picks it. Raises BadInput."""
    files = sorted(path for path in Path(folder).iterdir() if path.suffix in ENDINGS)
    if not files:
        raise BadInput("network configuration", None, f"no {', '.join(ENDINGS)} file in /etc/cni/net.d")
    source = f"/etc/cni/net.d/{files[0].name}"
    return NetworkConfiguration.parse(read_text(files[0], source), source)


def fill_in(text: str, values: Mapping[str, str | int], source: str) -> str:
    """Replace ``$NAME`` placeholders in the strings of a JSON template. Raises BadInput for an unknown one.

    A string that is nothing but a placeholder whose value is a number becomes that number.
    """

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(each) for key, each in value.items()}
        if isinstance(value, list):
            return [walk(each) for each in value]
        if not isinstance(value, str):
            return value
        alone = values.get(value[1:]) if value.startswith("$") else None
        return alone if isinstance(alone, int) else Template(value).substitute(values)

    try:
        content = json.loads(text)
    except ValueError as wrong:
        raise BadInput(source, None, f"not JSON: {wrong}") from None
    right = "a placeholder that is known: " + ", ".join(f"${name}" for name in sorted(values)) + "; $$ for a plain $"
    try:
        return json.dumps(walk(content), indent=2) + "\n"
    except KeyError as unknown:
        raise BadInput(source, f"${unknown.args[0]}", right) from None
    except ValueError as wrong:
        raise BadInput(source, str(wrong), right) from None
