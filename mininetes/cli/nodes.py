"""node: nodes that join a running lab, and leave it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import click

from mininetes.cli.options import lab_option, output_option
from mininetes.counting import counted
from mininetes.lab import state
from mininetes.lab.asking import ask

_MOST_NAMED = 8
"""Of a kind; of more the number says more."""


@click.group("node", epilog="Example: mininetes node add")
def node_command() -> None:
    """Add nodes to a running lab, and take them away."""


@node_command.command("add", epilog="Example: mininetes node add")
@lab_option
@click.argument("name", required=False)
@output_option
def add_node(lab: str | None, name: str | None, output: str) -> int:
    """Have a worker join: with the lowest number that is free, and a name that goes with it unless NAME is given."""
    made = ask(state.find(lab).control, op="node-add", name=name)
    host = made["host"]
    if output == "json":
        click.echo(json.dumps(host, indent=2))
    else:
        click.echo(f"{made['name']} has joined: {host['address']}, pods {host['podSubnet']}")
    return 0


@node_command.command("rm", epilog="Example: mininetes node rm node3")
@lab_option
@click.argument("name")
@output_option
def remove_node(lab: str | None, name: str, output: str) -> int:
    """Have a worker leave: its pods end, its object and all that it was are gone.

    So are its containers, networks that are on no other node, and pods that no controller makes again elsewhere:
    which ones, it says.
    """
    gone = ask(state.find(lab).control, op="node-rm", name=name)
    click.echo(json.dumps({"node": name, **gone}, indent=2) if output == "json" else farewell(name, gone))
    return 0


def farewell(node: str, gone: Mapping[str, Sequence[str]]) -> str:
    """What went with a node, in one line."""
    lost = [_named(kind, gone[f"{kind}s"]) for kind in ("container", "network", "pod") if gone[f"{kind}s"]]
    return f"{node} is gone" + (f", and with it {'; '.join(lost)}" if lost else "")


def _named(kind: str, names: Sequence[str]) -> str:
    if len(names) > _MOST_NAMED:
        return counted(len(names), kind)
    return f"{kind}{'s' if len(names) > 1 else ''} {', '.join(names)}"
