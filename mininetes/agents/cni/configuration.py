"""Network configurations: .conf, .json and .conflist, as libcni reads them, and templates of them for nodes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from string import Template
from typing import Any

from mininetes.errors import BadInput

ENDINGS = (".conf", ".conflist", ".json")
VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""Those that the runtime speaks, oldest first."""
FIRST_WITH_CHECK, FIRST_WITH_GC = "0.4.0", "1.1.0"
LEAST_MTU, MOST_MTU = 68, 65535
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_FLAGS = {"disableCheck": "disable_check", "disableGC": "disable_gc", "loadOnlyInlinedPlugins": "only_inlined"}


def knows(version: str, first: str) -> bool:
    """Whether a version of the specification is ``first`` or newer."""
    return _numbers(version) >= _numbers(first)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(each) for each in version.split("."))


@dataclass(frozen=True)
class NetworkConfiguration:
    """A list of plugins to run in order (CNI section 1). ``plugins`` are their configurations, as in the file.

    ``cni_version`` is the newest of ``cni_versions``, which are those the file allows and the runtime speaks, oldest
    first.
    """

    name: str
    cni_versions: tuple[str, ...]
    plugins: tuple[Mapping[str, Any], ...]
    disable_check: bool = False
    disable_gc: bool = False
    only_inlined: bool = False

    @property
    def cni_version(self) -> str:
        """The version that plugins are called with."""
        return self.cni_versions[-1]

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

    def at(self, version: str) -> NetworkConfiguration:
        """The same with this version alone."""
        return self if self.cni_versions == (version,) else replace(self, cni_versions=(version,))

    def to_json(self) -> dict[str, Any]:
        """As a configuration list with all its plugins in it."""
        content: dict[str, Any] = {"cniVersion": self.cni_version}
        if len(self.cni_versions) > 1:
            content["cniVersions"] = list(self.cni_versions)
        content |= {"name": self.name, "plugins": [dict(each) for each in self.plugins]}
        return content | {key: True for key, field in _FLAGS.items() if getattr(self, field)}

    @cached_property
    def text(self) -> str:
        """`to_json` as text."""
        return json.dumps(self.to_json())

    @classmethod
    def parse(cls, text: str, source: str, more: Sequence[tuple[str, Mapping[str, Any]]] = ()) -> NetworkConfiguration:
        """Read a configuration or a list of them. Raises BadInput that names ``source`` and the field.

        ``more`` are plugins of files of their own, with the files' names; they come after those of the list.
        """
        content = json_object(text, source)
        flags = {field: _flag(content, key, source) for key, field in _FLAGS.items()}
        plugins = content.get("plugins", [content] if "type" in content else None)
        if plugins is None and more and not flags["only_inlined"]:
            plugins = []
        elif not isinstance(plugins, list) or not plugins:
            raise BadInput(f"{source}: plugins", plugins, "a list of at least one plugin configuration")
        name = content.get("name")
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise BadInput(f"{source}: name", name, "a network name: letters, digits, '_', '.', '-', no other first")
        placed = [(f"{source}: plugins[{index}]", plugin) for index, plugin in enumerate(plugins)]
        if not flags["only_inlined"]:
            placed += more
        for where, plugin in placed:
            _check_plugin(where, plugin)
        return cls(name, _versions(content, source), tuple(plugin for _, plugin in placed), **flags)


def json_object(text: str, source: str) -> dict[str, Any]:
    """A configuration as text, read. Raises BadInput that names ``source``."""
    try:
        content = json.loads(text)
    except ValueError as wrong:
        raise BadInput(source, None, f"not JSON: {wrong}") from None
    if not isinstance(content, dict):
        raise BadInput(source, None, "a JSON object with cniVersion, name and plugins")
    return content


def _flag(content: Mapping[str, Any], key: str, source: str) -> bool:
    """A flag is true or false, or one of these as a word."""
    said = content.get(key, False)
    word = said.lower() if isinstance(said, str) else said
    if word in ("true", "false"):
        return bool(word == "true")
    if not isinstance(word, bool):
        raise BadInput(f"{source}: {key}", said, "true or false")
    return word


def _versions(content: Mapping[str, Any], source: str) -> tuple[str, ...]:
    """The versions of cniVersion and cniVersions that the runtime speaks; one that it does not is let be in a list."""
    several = content.get("cniVersions", [])
    right = "one of " + ", ".join(VERSIONS)
    if not isinstance(several, list):
        raise BadInput(f"{source}: cniVersions", several, "a list of versions such as 1.0.0")
    for index, version in enumerate(several):
        if not isinstance(version, str) or not _VERSION.fullmatch(version):
            raise BadInput(f"{source}: cniVersions[{index}]", version, right)
    version = content.get("cniVersion", several[0] if several else "0.3.1")
    if version not in VERSIONS and not (several and isinstance(version, str) and _VERSION.fullmatch(version)):
        raise BadInput(f"{source}: cniVersion", version, right)
    known = tuple(each for each in VERSIONS if each in {version, *several})
    if not known:
        raise BadInput(f"{source}: cniVersions", several, right)
    return known


def _check_plugin(where: str, plugin: object) -> None:
    kind = plugin.get("type") if isinstance(plugin, dict) else None
    if not isinstance(plugin, dict) or not isinstance(kind, str) or not kind or "/" in kind:
        raise BadInput(f"{where}.type", kind, "the name of an executable, without a path")
    ipam = plugin.get("ipam", {})
    ipam_kind = ipam.get("type", "") if isinstance(ipam, dict) else None
    if not isinstance(ipam_kind, str) or "/" in ipam_kind or (ipam and not ipam_kind):
        raise BadInput(f"{where}.ipam", ipam, "an object with the type of an address plugin")
    capabilities = plugin.get("capabilities", {})
    if not isinstance(capabilities, dict) or not all(isinstance(each, bool) for each in capabilities.values()):
        raise BadInput(f"{where}.capabilities", capabilities, 'an object such as {"portMappings": true}')


def read_text(path: Path, source: str) -> str:
    """Read a configuration's file. Raises BadInput that names ``source``."""
    try:
        return path.read_text()
    except OSError as failed:
        raise BadInput(source, None, f"a readable file ({failed.strerror})") from None
    except UnicodeDecodeError as wrong:
        raise BadInput(source, None, f"not JSON: not text in UTF-8: {wrong.reason}") from None


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
