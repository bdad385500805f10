"""From objects to a node's rules in one step, without a cluster: what `mininetes rules` prints."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
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
from mininetes.errors import BadInput

Compiler = Callable[[NodeView], Ruleset]

RULESET_OF: dict[str, type] = {
    "iptables": IptablesRuleset,
    "nftables": NftablesRuleset,
    "ipvs": IpvsRuleset,
    "userspace": UserspaceRuleset,
}


@functools.lru_cache(maxsize=32)
def _loaded(path: str) -> Any:
    return parts.load("proxy", path)


def compiler(mode: str) -> Compiler:
    """The part that writes a mode's rules, loaded once in a process. Raises BadInput when there is none such."""
    if mode not in MODES:
        raise BadInput("mode", mode, "one of " + ", ".join(MODES))
    module = _loaded(str(parts.find("proxy", mode).path))
    if not callable(getattr(module, "compile_rules", None)):
        raise BadInput("proxy", mode, "a file with compile_rules(view)")
    return cast(Compiler, module.compile_rules)


def compiled(objects: Objects, node: str, mode: Mode, config: Mapping[str, Any]) -> Ruleset:
    """The rules which that node's proxy would write for these objects. Raises BadInput, also for IPv6 services."""
    return compiler(mode)(view_of(objects, node, mode, config))


def view_of(objects: Objects, node: str, mode: Mode, config: Mapping[str, Any]) -> NodeView:
    """What that node's proxy makes of these objects. Raises BadInput, also for IPv6 services."""

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
