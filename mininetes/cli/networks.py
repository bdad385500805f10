"""net and container: container networks of a running lab and plain containers on them, in Docker's words."""

from __future__ import annotations

import json
from typing import Any

import click

from mininetes.cli.options import lab_option, output_option
from mininetes.errors import BadInput, one_of
from mininetes.lab import state
from mininetes.lab.asking import ask

_node_option = click.option("--node", metavar="NODE", help="Its node; not needed where no other has one of that name.")


@click.group("net", epilog="Example: mininetes net ls")
def net_command() -> None:
    """Container networks of a lab's nodes: bridge, host, none, macvlan, ipvlan, overlay."""


@net_command.command("create", epilog="Example: mininetes net create lan --driver macvlan --node node1 -o parent=eth0")
@lab_option
@click.argument("name")
@click.option("-d", "--driver", default="bridge", show_default=True, help="bridge, macvlan, ipvlan or overlay.")
@click.option("--node", "nodes", multiple=True, metavar="NODE",
              help="The network's node; an overlay's nodes, one option each (all when none is given).")  # fmt: skip
@click.option("--subnet", metavar="CIDR", help="Its addresses; what is free is chosen when not given.")
@click.option("--ip-range", metavar="CIDR", help="The part of the subnet that containers' addresses are taken from.")
@click.option("--gateway", metavar="ADDRESS", help="The way out; the subnet's first address when not given.")
@click.option("-o", "--opt", "options", multiple=True, metavar="KEY=VALUE",
              help="The driver's: mtu, icc (bridge), parent, mode (bridge or private; l2 or l3).")  # fmt: skip
@click.option("--ipv6", is_flag=True, help="Not supported yet.")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True,
              help="Text for people or JSON for programs; -o is the driver's here, as it is Docker's.")  # fmt: skip
def create(
    lab: str | None, name: str, driver: str, nodes: tuple[str, ...], options: tuple[str, ...], ipv6: bool, output: str,
    **ranges: str | None,
) -> int:  # fmt: skip
    """Make a network."""
    if ipv6:
        raise BadInput("--ipv6", None, "left out: IPv6 is not supported yet")
    wanted = {"name": name, "driver": driver, "nodes": list(nodes), "options": _pairs(options)}
    wanted |= {key: value for key, value in ranges.items() if value is not None}
    spec = _checked("ContainerNetworkSpec", wanted)
    network = ask(state.find(lab).control, op="net-create", spec=spec)["network"]
    if output == "json":
        click.echo(json.dumps(network, indent=2))
    else:
        config = network["IPAM"]["Config"][0]
        click.echo(f"{name} is on {', '.join(network['Nodes'])}: {network['Driver']}, subnet {config['Subnet']}")
    return 0


def _pairs(options: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not key or not equals:
            raise BadInput("-o", option, "KEY=VALUE, such as parent=eth0")
        found[key] = value
    return found


def _checked(section: str, values: dict[str, Any]) -> dict[str, Any]:
    """The section as the lab's engine takes it, checked before the lab is asked. Raises BadInput."""
    from mininetes import spec_sections  # noqa: PLC0415 - pydantic and Mininet take their time
    from mininetes.testbed.networks_catalogue import parsed  # noqa: PLC0415
    from mininetes.testbed.networks_choice import Place  # noqa: PLC0415

    made = parsed(getattr(spec_sections, section), values, Place())
    checked: dict[str, Any] = made.model_dump(mode="json")
    return checked


@net_command.command("ls", epilog="Example: mininetes net ls --node node1")
@lab_option
@click.option("--node", metavar="NODE", help="Those of this node alone.")
@output_option
def list_networks(lab: str | None, node: str | None, output: str) -> int:
    """List the networks, the predefined ones of each node first."""
    rows = ask(state.find(lab).control, op="net-ls")["networks"]
    known = list(dict.fromkeys(each for row in rows for each in row["nodes"]))
    if node is not None and node not in known:
        raise BadInput("--node", node, one_of(known, node))
    rows = [row for row in rows if node is None or node in row["nodes"]]
    if output == "json":
        click.echo(json.dumps(rows, indent=2))
    else:
        from mininetes.testbed import show_networks  # noqa: PLC0415

        show_networks.networks(rows)
    return 0


@net_command.command("inspect", epilog="Example: mininetes net inspect bridge --node node1")
@lab_option
@click.argument("names", nargs=-1, required=True, metavar="NETWORK...")
@_node_option
def inspect(lab: str | None, names: tuple[str, ...], node: str | None) -> int:
    """Print all about networks, with who is on them, as JSON."""
    found = ask(state.find(lab).control, op="net-inspect", names=names, node=node)
    click.echo(json.dumps(found["networks"], indent=2))
    return 0


@net_command.command("rm", epilog="Example: mininetes net rm front")
@lab_option
@click.argument("names", nargs=-1, required=True, metavar="NETWORK...")
@_node_option
def remove(lab: str | None, names: tuple[str, ...], node: str | None) -> int:
    """Take networks away that nobody is on."""
    ask(state.find(lab).control, op="net-rm", names=names, node=node)
    for name in names:
        click.echo(f"{name} is gone")
    return 0


@net_command.command("connect", epilog="Example: mininetes net connect front pod/node1-1")
@lab_option
@click.argument("network")
@click.argument("member", metavar="CONTAINER|pod/NAME")
def connect(lab: str | None, network: str, member: str) -> int:
    """Have a container or a pod join one network more."""
    end = ask(state.find(lab).control, op="net-connect", network=network, member=member)["endpoint"]
    click.echo(f"{end['Owner']} has joined {network}: {end['Interface']} {end['IPv4Address']}")
    return 0


@net_command.command("disconnect", epilog="Example: mininetes net disconnect front pod/node1-1")
@lab_option
@click.argument("network")
@click.argument("member", metavar="CONTAINER|pod/NAME")
def disconnect(lab: str | None, network: str, member: str) -> int:
    """Have a container or a pod leave a network."""
    ask(state.find(lab).control, op="net-disconnect", network=network, member=member)
    click.echo(f"{member} has left {network}")
    return 0


@click.group("container", epilog="Example: mininetes container run web --node node1")
def container_command() -> None:
    """Plain containers: a network namespace each, in which the responder answers."""


@container_command.command("run", epilog="Example: mininetes container run web --node node1 --network front -p 8080:80")
@lab_option
@click.argument("name")
@click.option("--node", metavar="NODE", help="Where it runs; not needed in a lab of one node.")
@click.option(
    "--network", "networks", multiple=True, metavar="NETWORK", help="Which it joins; several, one option each."
)
@click.option("--port", type=int, default=8080, show_default=True, help="At which its responder answers, TCP and UDP.")
@click.option(
    "-p", "--publish", multiple=True, metavar="HOST_PORT:PORT", help="A port of the node that leads to one of it."
)
@output_option
def run(lab: str | None, name: str, networks: tuple[str, ...], output: str, **more: Any) -> int:
    """Start a container; without --network it is on the node's bridge."""
    spec = _checked("ContainerSpec", {"name": name, "networks": networks or ("bridge",), **more})
    made = ask(state.find(lab).control, op="container-run", spec=spec)["container"]
    if output == "json":
        click.echo(json.dumps(made, indent=2))
    else:
        ends = ", ".join(f"{each['name']} {each['address'] or ''}".strip() for each in made["networks"])
        click.echo(f"container/{name} runs on {made['node']}: {ends}")
    return 0


@container_command.command("ls", epilog="Example: mininetes container ls -o json")
@lab_option
@output_option
def list_containers(lab: str | None, output: str) -> int:
    """List the containers with their networks."""
    rows = ask(state.find(lab).control, op="container-ls")["containers"]
    if output == "json":
        click.echo(json.dumps(rows, indent=2))
    else:
        from mininetes.testbed import show_networks  # noqa: PLC0415

        show_networks.containers(rows)
    return 0


@container_command.command("rm", epilog="Example: mininetes container rm web")
@lab_option
@click.argument("names", nargs=-1, required=True, metavar="CONTAINER...")
def remove_container(lab: str | None, names: tuple[str, ...]) -> int:
    """End containers."""
    ask(state.find(lab).control, op="container-rm", names=names)
    for name in names:
        click.echo(f"container/{name} is gone")
    return 0
