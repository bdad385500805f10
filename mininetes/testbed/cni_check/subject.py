"""What is tested: an executable, how it is configured, and what goes before it. From names and files on the host."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mininetes import parts
from mininetes.agents.cni.configuration import NetworkConfiguration, fill_in, read_text
from mininetes.agents.cni.installation import EXAMPLE_VALUES, REFERENCE_PLUGINS, not_there
from mininetes.errors import BadInput
from mininetes.kernel import features
from mininetes.testbed.cni_check import templates
from mininetes.testbed.cni_check.rule import Kind

_CONFIGURATIONS = (".conf", ".conflist", ".json")
_NOT_IN_LABS = ("/run/", "/var/run/")
TIMEOUT_S = 15.0
"""How long one call of a plugin may take, unless told otherwise."""


@dataclass(frozen=True)
class Subject:
    """A plugin under test. ``plugin`` is its configuration, or for kind ipam that of the plugin that would call it.

    ``timeout_s``: one call that takes longer counts as one that does not end.
    """

    name: str
    executable: str
    kind: Kind
    network: str
    plugin: Mapping[str, Any]
    behind: tuple[Mapping[str, Any], ...] = ()
    ifname: str = "eth0"
    hint: str = ""
    timeout_s: float = TIMEOUT_S

    def to_json(self) -> dict[str, Any]:
        """For the lab's engine."""
        return asdict(self)

    @classmethod
    def from_json(cls, known: Mapping[str, Any]) -> Subject:
        """What `to_json` gave."""
        return cls(**{**known, "behind": tuple(known["behind"])})

    @property
    def ipam(self) -> Mapping[str, Any]:
        """The configuration of the addresses; empty when there are none."""
        found = self.plugin.get("ipam")
        return found if isinstance(found, dict) else {}

    @property
    def fixed(self) -> bool:
        """Whether the configuration says which address a container gets, so that all get the same one."""
        return bool(self.ipam.get("addresses"))

    @property
    def masters(self) -> list[str]:
        """The host's interfaces that the configurations name, which a throw-away host has to get."""
        named = (plugin.get("master") for plugin in (*self.behind, self.plugin))
        return sorted({name for name in named if isinstance(name, str) and name})


def folders() -> list[Path]:
    """Where plugins are looked for by their names: ours, then where distributions have the reference ones."""
    return [folder for folder in (*parts.folders("cni"), *REFERENCE_PLUGINS) if folder.is_dir()]


def installed(own: Path | None = None) -> dict[str, str]:
    """All plugins there are, by name, with the files that they source; ``own`` and those beside it go first."""
    found: dict[str, str] = {}
    beside = [] if own is None or str(own.parent) in os.get_exec_path() else [own.parent]
    if own is not None:
        found[own.name] = str(own.resolve())
    for folder in [*beside, *folders()]:
        for path in sorted(folder.iterdir()):
            if path.is_file() and (os.access(path, os.X_OK) or path.suffix == ".bash"):
                found.setdefault(path.name, str(path.resolve()))
    return found


def find(target: str, config: str | None) -> list[Subject]:
    """The subjects that a plugin's name, a path or a configuration stand for. Raises BadInput or MissingFeature."""
    if target.endswith(_CONFIGURATIONS):
        if config is not None:
            raise BadInput("--config", config, "for a plugin; this is a configuration itself")
        return [_checked(subject) for subject in _of_configuration(_read(target), Path(target).name, _beside(target))]
    executable = _executable(target)
    if config is not None:
        if not Path(config).is_file():
            raise BadInput("--config", config, "a file that exists")
        return [_configured(executable, _read(config), config)]
    return [_known(executable)]


def _beside(target: str) -> Path | None:
    """A configuration's own path, beside which its plugins may lie."""
    return Path(target).absolute() if Path(target).is_file() else None


def _executable(target: str) -> Path:
    if "/" not in target and not Path(target).is_file():
        plugins = installed()
        if target not in plugins or target.endswith(".bash"):
            names = ", ".join(sorted(name for name in plugins if "." not in name))
            raise BadInput("plugin", target, f"a path, or one of those installed: {names}")
        return Path(plugins[target])
    path = Path(target)
    if not path.exists():
        raise BadInput("plugin", target, "no such file")
    if not path.is_file():
        raise BadInput("plugin", target, "an executable file")
    if not os.access(path, os.X_OK):
        raise BadInput("plugin", target, f"executable: chmod +x {target}, or a configuration named *.conflist")
    path = path.absolute()
    if str(path.resolve()).startswith(_NOT_IN_LABS):
        raise BadInput("plugin", target, "a file outside /run, which every lab has for itself")
    return path


def _read(target: str) -> NetworkConfiguration:
    """A configuration by path, or by the name of one of ours. Raises BadInput that names file and field."""
    path = Path(target) if Path(target).is_file() else parts.find("cni", target).path
    text = fill_in(read_text(path, path.name), EXAMPLE_VALUES, path.name)
    return NetworkConfiguration.parse(text, path.name)


def _of_configuration(configuration: NetworkConfiguration, source: str, own: Path | None = None) -> Iterator[Subject]:
    """Each plugin of a list in its place, and each address plugin that they call. Raises BadInput."""
    plugins = installed(own)
    for each in configuration.types:
        if each not in plugins:
            raise not_there(each, plugins, [*([own.parent] if own else []), *folders()], source)
    before: tuple[Mapping[str, Any], ...] = ()
    for plugin in configuration.plugins:
        name, ipam = str(plugin["type"]), plugin.get("ipam") or {}
        template = templates.TEMPLATES.get(name)
        kind: Kind = "chained" if before or (template is not None and template.kind == "chained") else "interface"
        ifname = template.ifname if template is not None else "eth0"
        yield Subject(name, plugins[name], kind, configuration.name, plugin, before, ifname)
        if ipam:
            address_plugin = str(ipam["type"])
            yield Subject(address_plugin, plugins[address_plugin], "ipam", configuration.name, plugin)
        before = (*before, plugin)


def _configured(executable: Path, configuration: NetworkConfiguration, source: str) -> Subject:
    """A plugin with a user's own configuration, in which it is looked up by its type."""
    for subject in _of_configuration(configuration, source, executable):
        if subject.name == executable.name:
            return subject
    there = ", ".join(configuration.types)
    raise BadInput(f"{source}: type", there, f"one of the types is the plugin's name, {executable.name}")


def _known(executable: Path) -> Subject:
    """A plugin with the built-in configuration of its type; one of an unknown type gets a plain one, and a hint."""
    name = executable.name
    template = templates.TEMPLATES.get(name)
    if template is None:
        plain = {"type": name, "ipam": templates.addresses("bash-host-local"), "dns": templates.DNS}
        hint = (
            f"{name} is no plugin that is known here: tested as one that makes an interface, with a plain "
            "configuration; --config FILE gives its own"
        )
        return Subject(name, str(executable), "interface", "cni-check", plain, hint=hint)
    plugin = {"type": name, **template.plugin}
    subject = Subject(
        name, str(executable), template.kind, "cni-check", plugin, tuple(template.behind), template.ifname
    )
    return _checked(subject)


def _checked(subject: Subject) -> Subject:
    """The subject, if a throw-away host can have what it needs. Raises BadInput or MissingFeature."""
    template = templates.TEMPLATES.get(subject.name)
    if template is not None and template.needs:
        raise BadInput("plugin", subject.name, f"one that a throw-away host can serve: it needs {template.needs}")
    if template is not None and template.features:
        features.require(template.features)
    return subject
