"""From objects to a node's rules in one step, without a cluster: what `mininetes rules` prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from mininetes import parts
from mininetes.agents.kubeproxy.configuration import MODES, Mode, kube_proxy_config
from mininetes.agents.kubeproxy.objects import Objects
from mininetes.agents.kubeproxy.rulesets import (
    IptablesRuleset,
    IpvsRuleset,
    NftablesRuleset,
    Ruleset,
    UserspaceRuleset,
)
from mininetes.agents.kubeproxy.services import is_proxied, is_watched, key_of
from mininetes.agents.kubeproxy.view import NodeView
from mininetes.agents.kubeproxy.view_builder import ViewBuilder, node_facts
from mininetes.errors import BadInput, MininetesError

Compiler = Callable[[NodeView], Ruleset]

LIKE = "LIKE"
"""What a mode of one's own says in its file: which of kube-proxy's modes it is like in all but its rules."""

_MODES = ", ".join(MODES)

RULESET_OF: dict[str, type] = {
    "iptables": IptablesRuleset,
    "nftables": NftablesRuleset,
    "ipvs": IpvsRuleset,
    "userspace": UserspaceRuleset,
}


class ModeFailed(MininetesError):
    """The file that writes a mode's rules has a mistake: it will fail again, until it is another one."""


_loaded: dict[Path, tuple[str, ModuleType]] = {}


def _module(part: parts.Part) -> ModuleType:
    """A part's file as a module, loaded once in a process, and again when the file has changed."""
    text, module = _loaded.get(part.path, ("", None))
    if module is None or text != part.sha256:
        module = part.module()
        _loaded[part.path] = part.sha256, module
    return module


def compiler(mode: str, field: str = "mode") -> Compiler:
    """What writes a mode's rules, from its part as that is now. Raises BadInput when there is none such.

    When the part fails, or returns something else than its mode's kind of ruleset, it raises ModeFailed with the
    part's file.
    """
    part = _part(mode, field)
    compile_rules = getattr(_module(part), "compile_rules", None)
    if not callable(compile_rules):
        raise BadInput(field, mode, "a file with compile_rules(view)")
    like = mode_like(mode, field)
    wanted = RULESET_OF[like]

    def checked(view: NodeView) -> Ruleset:
        try:
            ruleset = compile_rules(view)
        except MininetesError:
            raise
        except Exception as failed:
            raise ModeFailed(part.told(failed)) from failed
        if not isinstance(ruleset, wanted):
            found = "None" if ruleset is None else type(ruleset).__name__
            whose = f"mode {like}" if mode in MODES else f"{LIKE} = {like}"
            raise ModeFailed(f"{part.path.name}: compile_rules returned {found}, {whose} needs {wanted.__name__}")
        return cast(Ruleset, ruleset)

    return checked


def mode_sha256(mode: str) -> str:
    """The sha256 of the file that writes a mode's rules, as it is now. Raises BadInput when there is none such."""
    return _part(mode, "mode").sha256


def mode_like(mode: str, field: str = "mode") -> Mode:
    """The one of kube-proxy's modes whose settings, tools, kernel features and kind of ruleset a mode has.

    Of kube-proxy's own that is itself, of others what their files say as LIKE. Raises BadInput.
    """
    if mode in MODES:
        return MODES[MODES.index(mode)]
    part = _part(mode, field)
    like = getattr(_module(part), LIKE, None)
    if like not in MODES:
        raise BadInput(
            f"{part.path}: {LIKE}", like, f"one of kube-proxy's modes, whose kind of rules it writes: {_MODES}"
        )
    return MODES[MODES.index(like)]


def placed(mode: str, field: str = "mode") -> str:
    """A mode as a process understands it that has other parts: kube-proxy's by name, others by their files' full paths.

    Raises BadInput for a name that there is not.
    """
    return parts.absolute_mode(mode) if mode in MODES or mode.endswith(".py") else str(_part(mode, field).path)


def mode_title(mode: str) -> str:
    """What people call a mode: its name, or that of its file."""
    return Path(mode).stem if mode.endswith(".py") else mode


def _part(mode: str, field: str) -> parts.Part:
    if mode not in MODES and not mode.endswith(".py"):
        own = [name for name in parts.names("proxy") if name not in MODES]
        if mode not in own:
            raise BadInput(field, mode, ", ".join([f"one of {_MODES}", *own, "or the path of a file, NAME.py"]))
    return parts.find("proxy", mode, field)


def compiled(objects: Objects, node: str, mode: str, config: Mapping[str, Any]) -> Ruleset:
    """The rules which that node's proxy would write for these objects. Raises BadInput as `view_of` does."""
    return compiler(mode)(view_of(objects, node, mode_like(mode), config))


def view_of(objects: Objects, node: str, mode: Mode, config: Mapping[str, Any]) -> NodeView:
    """What that node's proxy makes of these objects. Raises BadInput, also for services of IPv6 alone."""

    def refuse(key: str, why: str) -> None:
        raise BadInput(f"service {key}", None, why.removeprefix(f"service {key}: "))

    for service in objects.services:
        if is_proxied(service) and ":" in str(service["spec"]["clusterIP"]):
            address = str(service["spec"]["clusterIP"])
            raise BadInput(f"service {key_of(service)}: spec.clusterIP", address, "IPv6 services are not supported yet")
    builder = ViewBuilder(node_facts(objects.node(node)), mode, kube_proxy_config(config), refused=refuse)
    for service in objects.services:
        builder.set_service(key_of(service), service)
    for each in filter(is_watched, objects.endpointslices):
        builder.set_slice(key_of(each), each)
    builder.refresh()
    return builder.view()
