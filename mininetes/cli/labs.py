"""up, down, ls, status: the life of a lab."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from mininetes.cli.options import cluster_options, description, lab_option, output_option
from mininetes.errors import BadInput, MininetesError
from mininetes.lab import state
from mininetes.lab.asking import ask
from mininetes.lab.supervising import Supervised, supervise
from mininetes.spec import ClusterSpec
from mininetes.testbed import show

DOWN_TIMEOUT_S = 30.0


@click.command(
    "up",
    epilog="""\b
Examples:
  mininetes up --nodes 5 --fabric none --lab quiet
  mininetes up leaf-spine --set controlPlane.store=etcd
  mininetes up two-racks --dry-run | less""",
)
@cluster_options
@click.option("--mininet", is_flag=True, help="Stay in front with Mininet's command line; the lab ends with it.")
@click.option("--api-port", type=click.IntRange(0, 65535), default=0, metavar="PORT",
              help="Port of 127.0.0.1 for kubectl. Default: any that is free.")  # fmt: skip
@click.option("--keep", is_flag=True,
              help="Leave a lab that does not come up for looking at; `mininetes down` ends it.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print what would be done to the kernel, as commands, and do nothing.")
@output_option
def up_command(
    cluster_file: str | None, mininet: bool, api_port: int, keep: bool, dry_run: bool, output: str, **flags: Any
) -> int:
    """Bring a cluster up in a lab of its own, and leave it running.

    CLUSTER.yaml is a cluster file, the name of a ready-made one, or - for standard input. Flags count more than it.
    """
    if mininet and keep:
        raise BadInput("--keep", None, "left out with --mininet: a lab in front ends with its command line")
    spec = description(cluster_file, flags.pop("lab"), **flags)
    from mininetes.testbed import preflight  # noqa: PLC0415 - imports Mininet

    if dry_run:
        return _rehearse(spec, output)
    blueprint = preflight.checked(spec)
    spec = blueprint.spec
    preflight.require_agents_features(spec)
    if output == "text":
        for note in preflight.notes(blueprint):
            click.echo(f"note: {note}", err=True)
    wanted_port = api_port if spec.masters else None
    entry = "mininetes.testbed.engine:serve"
    config = preflight.engine_config(spec, files=dict(blueprint.files), keep=keep)
    with Supervised(spec.name, entry, config, api_port=wanted_port) as supervised:
        if mininet:
            return _in_front(supervised, spec)
        status = supervise(supervised, lambda: _follow(supervised, show.progress if output == "text" else _ignore))
    if "kept" in status:
        click.echo(f"mininetes: {status['kept']}", err=True)
        hint = f"lab {spec.name} is left as it is, for exec and shell; 'mininetes down {spec.name}' ends it"
        click.echo(hint, err=True)
        return int(status["status"])
    show.ready(status, output)
    return 0


def _rehearse(spec: ClusterSpec, output: str) -> int:
    """Print all that would be done to the kernel, as commands; what it lacks is not looked for."""
    from mininetes.testbed import dry_run  # noqa: PLC0415
    from mininetes.testbed.blueprint import draw  # noqa: PLC0415

    steps = dry_run.steps(draw(spec))
    click.echo(
        dry_run.text(steps) if output == "text" else json.dumps(dry_run.rows(steps), indent=2), nl=output != "text"
    )
    return 0


def _ignore(_: str) -> None:
    pass


def _follow(supervised: Supervised, progress: Callable[[str], None]) -> dict[str, Any]:
    """Follow the bring-up and return the engine's status when it is ready. Raises MininetesError with its failure.

    Of a lab that is kept in spite of one, it returns the failure, as ``kept``, and the exit status.
    """
    for event in supervised.events():
        if "step" in event:
            progress(event["step"])
        elif "trouble" in event:
            click.echo(f"still waiting: {event['trouble']}", err=True)
        elif "ready" in event:
            ready: dict[str, Any] = event["ready"]
            return ready
        elif "kept" in event:
            return event
    raise MininetesError(f"the lab ended before it was ready{supervised.last_words()}")


def _in_front(supervised: Supervised, spec: ClusterSpec) -> int:
    """Keep the lab in front with Mininet's command line; it ends when that does."""
    lab = supervised.start()
    show.ready(_follow(supervised, show.progress), "text", hints=False)
    from mininetes.cli.entering import mininet_command_line  # noqa: PLC0415

    status = mininet_command_line(lab.pid)
    lab.end()
    return status


@click.command("down", epilog="Example: mininetes down lab1")
@click.argument("name", required=False)
@lab_option
@click.option("--all", "every", is_flag=True, help="End all labs of this user.")
@output_option
def down_command(name: str | None, lab: str | None, every: bool, output: str) -> int:
    """End a lab and all that is in it."""
    said = click.get_current_context().get_parameter_source("lab") is ParameterSource.COMMANDLINE
    given = name or (lab if said else None)
    if given is not None and every:
        raise BadInput("--all", given, "either a name or --all")
    if name and said and name != lab:
        raise BadInput("--lab", lab, f"the same as NAME, {name}: both are given")
    labs = state.labs() if every else [state.find(name or lab)]
    for each in labs:
        end_lab(each)
        if output == "text":
            click.echo(f"{each.name} is gone")
    if output == "json":
        click.echo(json.dumps([each.name for each in labs]))
    return 0


def end_lab(lab: state.LabState) -> None:
    """Ask a lab's supervisor to end it, and wait until it has. Raises MininetesError when it does not."""
    supervisor = int(lab.facts().get("supervisor", 0))
    if not supervisor:
        raise MininetesError(f"lab {lab.name} is not up yet: try again")
    try:
        process = os.pidfd_open(supervisor)
    except ProcessLookupError:
        return
    try:
        # Held while we looked the pid up, so that the descriptor is that of the holder.
        if not lab.is_up():
            return
        signal.pidfd_send_signal(process, signal.SIGTERM)
        ended, _, _ = select.select([process], [], [], DOWN_TIMEOUT_S)
    finally:
        os.close(process)
    if not ended:
        raise MininetesError(f"lab {lab.name} did not end within {DOWN_TIMEOUT_S:g} s: see {lab.log}")


@click.command("ls", epilog="Example: mininetes ls -o json")
@output_option
def ls_command(output: str) -> int:
    """List the labs that are up."""
    rows = []
    for lab in state.labs():
        facts = lab.facts()
        rows.append(
            {"name": lab.name, "started": facts.get("started"), "pid": facts.get("pid"), **facts.get("cluster", {})}
        )
    show.labs(rows, output)
    return 0


@click.command("status", epilog="Example: mininetes status lab1 -o json")
@click.argument("name", required=False)
@lab_option
@output_option
def status_command(name: str | None, lab: str | None, output: str) -> int:
    """Show a lab's nodes and pods, and what differs from what was declared (drift); drift ends it with status 1."""
    found = state.find(name or lab)
    status = ask(found.control, op="status")
    status["drift"] = ask(found.control, op="drift")["drift"]
    if output == "json":
        click.echo(json.dumps(status, indent=2))
    else:
        show.status(status)
    return 1 if status["drift"] else 0
