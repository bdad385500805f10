"""agents: the components of a running lab's control plane and nodes, one by one."""

from __future__ import annotations

import json

import click

from mininetes.cli.options import lab_option, output_option
from mininetes.lab import state
from mininetes.lab.asking import ask
from mininetes.testbed import show


@click.group("agents", epilog="Example: mininetes agents ls -o json")
def agents_command() -> None:
    """List, stop and start single agents: API server, scheduler, kubelets, ..."""


@agents_command.command("ls", epilog="Example: mininetes agents ls")
@lab_option
@output_option
def list_agents(lab: str | None, output: str) -> int:
    """List the agents of all nodes; status 1 when one fails."""
    rows = ask(state.find(lab).control, op="agents")["agents"]
    if output == "json":
        click.echo(json.dumps(rows, indent=1))
    else:
        show.agents(rows)
    return 1 if any(row["state"] == "failing" for row in rows) else 0


def _change(lab: str | None, node: str, name: str, verb: str) -> int:
    ask(state.find(lab).control, op="agent", node=node, name=name, verb=verb)
    done = {"stop": "stopped", "start": "started", "restart": "started anew"}[verb]
    click.echo(f"{name} on {node} is {done}")
    return 0


@agents_command.command("stop", epilog="Example: mininetes agents stop node2 kubelet")
@lab_option
@click.argument("node")
@click.argument("name")
def stop_agent(lab: str | None, node: str, name: str) -> int:
    """End an agent at once, as a kill does; what it made stays."""
    return _change(lab, node, name, "stop")


@agents_command.command("start", epilog="Example: mininetes agents start node2 kubelet")
@lab_option
@click.argument("node")
@click.argument("name")
def start_agent(lab: str | None, node: str, name: str) -> int:
    """Start an agent that was stopped."""
    return _change(lab, node, name, "start")


@agents_command.command("restart", epilog="Example: mininetes agents restart node1 kube-apiserver")
@lab_option
@click.argument("node")
@click.argument("name")
def restart_agent(lab: str | None, node: str, name: str) -> int:
    """End an agent and start another in its place."""
    return _change(lab, node, name, "restart")
