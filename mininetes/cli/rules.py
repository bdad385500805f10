"""rules: what a node's proxy would write for given objects, offline and without root."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
import yaml

from mininetes import parts
from mininetes.errors import BadInput

_SECTIONS = ("ipvsadm", "ipset", "addresses", "iptables")
_CLUSTER_CIDR = "10.244.0.0/16"


def _config(settings: tuple[str, ...]) -> dict[str, Any]:
    """kube-proxy's configuration from FIELD=VALUE pairs with dotted fields. Raises BadInput, also for wrong values."""
    from mininetes.agents.kubeproxy.configuration import kube_proxy_config  # noqa: PLC0415

    config: dict[str, Any] = {"clusterCIDR": _CLUSTER_CIDR}
    for setting in settings:
        field, equals, text = setting.partition("=")
        if not equals or not field:
            raise BadInput("--set", setting, "FIELD=VALUE, such as iptables.masqueradeAll=true")
        *way, last = field.split(".")
        place = config
        for key in way:
            inner = place.setdefault(key, {})
            if not isinstance(inner, dict):
                raise BadInput("--set", setting, f"{key} has no fields of its own")
            place = inner
        try:
            place[last] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise BadInput("--set", setting, "a value that YAML understands") from None
    try:
        named = config.get("mode") in parts.names("proxy")  # one of your own is none of kube-proxy's
        kube_proxy_config({**config, "mode": ""} if named else config, place="")
    except BadInput as wrong:
        raise BadInput(f"--set {wrong.field}", wrong.value, wrong.right) from None
    return config


def _mode(asked: str | None, config: dict[str, Any]) -> str:
    """The mode by --mode, or by the configuration's own field, which is taken out. Raises BadInput for one unknown."""
    from mininetes.agents.kubeproxy.compiling import compiler, mode_like  # noqa: PLC0415
    from mininetes.agents.kubeproxy.configuration import DEFAULT_MODE  # noqa: PLC0415

    configured = config.pop("mode", None)
    mode = asked or configured or DEFAULT_MODE
    compiler(mode, "--mode" if asked else "--set mode")
    if configured and configured not in (mode, mode_like(mode)):
        raise BadInput("--set mode", configured, f"{mode_like(mode)}, as --mode says, or not set")
    return mode


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as wrong:
        raise BadInput("standard input", None, f"text in UTF-8 ({wrong.reason})") from None


def texts_of(ruleset: Any) -> dict[str, str]:
    """The parts of a ruleset as texts, by the name of what reads them."""
    from mininetes.agents.kubeproxy.rulesets import IpvsRuleset, NftablesRuleset  # noqa: PLC0415

    if isinstance(ruleset, IpvsRuleset):
        texts = (ruleset.ipvsadm_text(), ruleset.ipset_text(), ruleset.addresses_text(), ruleset.iptables.text())
        return dict(zip(_SECTIONS, texts, strict=True))
    return {"nft" if isinstance(ruleset, NftablesRuleset) else "iptables": ruleset.text()}


_READERS = {
    "ipvsadm": "ipvsadm --restore",
    "ipset": "ipset restore",
    "addresses": "ip -batch -",
    "iptables": "iptables-restore",
}


@click.command(
    "rules",
    epilog="Example: mininetes rules --mode iptables --node node1 -f objects.json | mininetes exec node1 -- "
    "iptables-restore --test",
)
@click.option("--mode", metavar="MODE",
              help="iptables (the default), nftables, ipvs, userspace, or one of your own.")  # fmt: skip
@click.option("--node", required=True, metavar="NODE", help="The node whose proxy would write the rules.")
@click.option("-f", "--file", "path", required=True, type=click.Path(path_type=Path), metavar="OBJECTS",
              help="Services, EndpointSlices and Nodes: YAML or JSON documents, a List, or lists by kind; - for "
              "standard input.")  # fmt: skip
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE",
              help=f"A field of kube-proxy's configuration. clusterCIDR is {_CLUSTER_CIDR} unless set.")  # fmt: skip
@click.option("--section", type=click.Choice(_SECTIONS), help="Mode ipvs: print one of its four texts alone.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True,
              help="Text to be restored, or JSON with one text for each tool.")  # fmt: skip
def rules_command(
    mode: str | None, node: str, path: Path, settings: tuple[str, ...], section: str | None, output: str
) -> None:
    """Print the rules which NODE's proxy would write for OBJECTS; needs neither a lab nor root.

    They are those of its IPv4 proxy: of a dual-stack Service its IPv4 half; one of IPv6 alone is refused.
    """
    from mininetes.agents.kubeproxy.compiling import compiled  # noqa: PLC0415
    from mininetes.agents.kubeproxy.objects import objects_in, read_objects  # noqa: PLC0415

    config = _config(settings)
    wanted = _mode(mode, config)
    objects = read_objects(path) if str(path) != "-" else objects_in(_standard_input(), "standard input")
    texts = texts_of(compiled(objects, node, wanted, config))
    if section is not None:
        if section not in texts:
            raise BadInput("--section", section, f"one of {', '.join(texts)} in mode {wanted}")
        texts = {section: texts[section]}
    if output == "json":
        click.echo(json.dumps(texts, indent=2))
    elif len(texts) == 1:
        click.echo(next(iter(texts.values())), nl=False)
    else:
        for name, text in texts.items():
            click.echo(f"# {_READERS[name]}\n{text}", nl=False)
