"""Putting plugins and a network configuration where a node has them, as an installer of a CNI plugin does."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from mininetes.agents.cni.configuration import NetworkConfiguration, fill_in, read_text
from mininetes.agents.cni.plugin_values import check_values
from mininetes.agents.cni.runtime import BIN_DIR, CONF_DIR
from mininetes.agents.cni.versions import announced, newest_common, speakers
from mininetes.errors import BadInput, MininetesError
from mininetes.lab.filesystem import node_path

REFERENCE_PLUGINS = (Path("/usr/lib/cni"), Path("/usr/libexec/cni"), Path("/opt/cni/bin"))
"""Where distributions put the reference plugins; first found, first used."""

EXAMPLE_VALUES: Mapping[str, str | int] = {
    "POD_CIDR": "10.244.1.0/24",
    "POD_FIRST": "10.244.1.2",
    "POD_LAST": "10.244.1.254",
    "POD_NETWORK": "10.244.0.0/16",
    "POD_MTU": 1500,
    "NODE_NAME": "node1",
}


def find_plugins(script_folders: Iterable[Path]) -> dict[str, Path]:
    """All plugins there are, by name: ours first (with the files that they source), then the reference ones."""
    found: dict[str, Path] = {}
    for folder in (*script_folders, *REFERENCE_PLUGINS):
        if not folder.is_dir():
            continue
        for path in sorted(folder.iterdir()):
            if path.is_file() and (os.access(path, os.X_OK) or path.suffix == ".bash"):
                found.setdefault(path.name, path.resolve())
    return found


def not_there(kind: str, plugins: Mapping[str, object], folders: Iterable[Path], source: str) -> BadInput:
    """What to say of a plugin that is none of ``plugins``: it may lie in one of the folders and not be executable."""
    for folder in folders:
        path = folder / kind
        if "/" not in kind and path.is_file() and not os.access(path, os.X_OK):
            return BadInput(f"{source}: type", kind, f"{path} is not executable: chmod +x {path}")
    there = ", ".join(sorted(name for name in plugins if "." not in name))
    return BadInput(f"{source}: type", kind, f"a plugin that is installed: {there}")


def check(template: Path, plugins: Mapping[str, Path], folders: Iterable[Path] = ()) -> NetworkConfiguration:
    """Read a configuration's template as a node would get it, and ask its plugins for their versions.

    ``folders`` are where ``plugins`` were looked for.

    Raises BadInput, also for a missing plugin binary and for a version that not all of them speak.
    """
    source = template.name
    configuration = NetworkConfiguration.parse(fill_in(read_text(template, source), EXAMPLE_VALUES, source), source)
    check_values(configuration, source)
    for kind in configuration.types:
        if kind not in plugins:
            raise not_there(kind, plugins, folders, source)
    try:
        spoken = speakers(configuration, lambda kind: announced(str(plugins[kind])))
    except (MininetesError, OSError) as failed:
        raise BadInput(f"{source}: type", None, f"plugins that run: {failed}") from None
    version = newest_common(configuration, spoken)
    if version is None:
        said = "; ".join(f"{kind} speaks {', '.join(sorted(versions))}" for kind, versions in spoken.items())
        raise BadInput(f"{source}: cniVersion", configuration.cni_version, f"one that all its plugins speak: {said}")
    return configuration.at(version)


def install(node: str, name: str, template: str, values: Mapping[str, str | int], plugins: Mapping[str, Path]) -> None:
    """Give a node its bin dir and its configuration as /etc/cni/net.d/10-NAME. May be called again."""
    bin_dir = Path(node_path(node, BIN_DIR))
    for plugin, path in plugins.items():
        link = bin_dir / plugin
        if not link.is_symlink():
            link.symlink_to(path)
    target = Path(node_path(node, CONF_DIR)) / f"10-{name}"
    target.write_text(fill_in(template, values, name))
