"""node: nodes that join a running lab, and leave it."""

from __future__ import annotations

import json

import click

from mininetes.cli.options import lab_option, output_option
from mininetes.lab import state
from mininetes.lab.asking import ask


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
def remove_node(lab: str | None, name: str) -> int:
    """Have a worker leave: its pods end, its object and all that it was are gone."""
    ask(state.find(lab).control, op="node-rm", name=name)
    click.echo(f"{name} is gone")
    return 0
