"""run: experiments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mininetes import parts
from mininetes.cli.options import output_option
from mininetes.errors import BadInput, MininetesError
from mininetes.testbed import show

if TYPE_CHECKING:
    from mininetes.experiments.definition import Experiment
    from mininetes.experiments.published import Judgement
    from mininetes.experiments.runner import Finished

_MOST_FAILURES = 20


@click.command(
    "run",
    epilog="""\b
Examples:
  mininetes run quickstart --set fabric=none --out results/none
  mininetes run proxy_modes --size figures --out results/modes --resume
  mininetes run fabrics --dry-run --verbose
  mininetes run --list""",
)
@click.argument("experiment", required=False)
@click.option("--list", "wanted_list", is_flag=True, help="List the experiments that there are, and run none.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE",
              help="Another value of a parameter, or several: KEY=V1,V2.")  # fmt: skip
@click.option("--size", type=click.Choice(["full", "figures"]), default="full", show_default=True,
              help="All of the experiment's parameters, or a selection for minutes in place of hours.")  # fmt: skip
@click.option("--repetitions", type=int, metavar="N", help="Runs of each cell. Default: the experiment's own number.")
@click.option("--seed", type=int, default=1, show_default=True,
              help="Decides the order of the runs and all that is random in them.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Where results go. Default: results/...")
@click.option("--resume", is_flag=True, help="Go on with the result in --out DIR; an empty DIR is started.")
@click.option("--retry-failed", is_flag=True, help="With --resume: run again what failed.")
@click.option("--jobs", type=click.IntRange(1), multiple=True, metavar="N",
              help="Labs beside each other. To be said twice where they would disturb what is measured.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print the runs in their order with their clusters, and run none.")
@click.option("-v", "--verbose", is_flag=True, help="With --dry-run: print what each lab does to the kernel, as well.")
@click.option("--show", "shown", is_flag=True, help="Show what the experiment prints, also with several runs.")
@output_option
def run_command(experiment: str | None, wanted_list: bool, settings: tuple[str, ...], output: str, **flags: Any) -> int:
    """Run an experiment: each combination of its parameters, so many times, in labs of their own.

    Runs come in an order that the seed decides, and each is on the disk when it is over: a run that was
    ended goes on with --resume. Status 1 when a run failed, or something expected did not hold.
    """
    if wanted_list:
        return _list(output)
    if experiment is None:
        raise BadInput("EXPERIMENT", None, "one of: " + ", ".join(parts.names("experiment")) + "; or a path")
    from mininetes.cli.run_progress import watcher  # noqa: PLC0415
    from mininetes.experiments import definition, runner  # noqa: PLC0415

    if flags["retry_failed"] and not flags["resume"]:
        raise BadInput("--retry-failed", None, "together with --resume")
    jobs = flags.pop("jobs")
    dry_run, verbose = flags.pop("dry_run"), flags.pop("verbose")
    if verbose and not dry_run:
        raise BadInput("--verbose", None, "together with --dry-run")
    shown = flags.pop("shown")
    found = definition.load(experiment, settings, size=flags["size"], repetitions=flags.pop("repetitions"))
    if dry_run:
        from mininetes.cli.rehearsing import show_runs  # noqa: PLC0415

        show_runs(found, flags["seed"], output, verbose=verbose)
        return 0
    runs = len(found.all_cells()) * found.repetitions
    options = runner.Options(
        **flags,
        jobs=jobs[-1] if jobs else 1,
        insisted=len(jobs) > 1,
        quiet=output == "json" or not (shown or runs == 1),
    )
    watch = watcher(found.grid, runs, shown=shown)
    try:
        done = runner.run(found, options, watch)
    except (KeyboardInterrupt, SystemExit, MininetesError):
        if watch.folder is not None and watch.done < watch.all:
            click.echo(f"{watch.done} of {watch.all} runs are done; --out {watch.folder} --resume goes on", err=True)
        raise
    if output == "json":
        click.echo(json.dumps(_facts(done), indent=2))
    else:
        show.results(done.folder, done.figures, done.seconds, several=runs > 1)
        if done.judgement is not None:
            _show_verdicts(done.judgement)
    _warn(done, [key for key, values in found.grid.items() if len(values) > 1])
    return 0 if done.holds else 1


def _facts(done: Finished) -> dict[str, Any]:
    verdicts = [] if done.judgement is None else [vars(each) for each in done.judgement.verdicts]
    return {
        "folder": str(done.folder),
        "figures": [str(path) for path in done.figures],
        "runs": len(done.runs),
        "failed": [{"cell": dict(run.cell), "repetition": run.repetition, "error": run.error} for run in done.failed],
        "saturated": len(done.saturated),
        "left_out": list(done.left_out),
        "verdicts": verdicts,
        "holds": done.holds,
        "seconds": round(done.seconds, 3),
    }


def _show_verdicts(judgement: Judgement) -> None:
    """A table: what was published, what came out, and whether the shape holds."""
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=f"Published: {judgement.reproduces}", title_justify="left", title_style="bold", box=box.SIMPLE)
    for column in ("claim", "published", "measured", "holds"):
        table.add_column(column.upper(), overflow="fold")
    colours = {"yes": "green", "no": "red", "not at this size": "yellow"}
    for each in judgement.verdicts:
        table.add_row(each.claim, each.published, each.measured, f"[{colours[each.holds]}]{each.holds}[/]")
    show.console.print(table)


def _warn(done: Finished, varying: list[str]) -> None:
    """What a reader of the results has to know, on stderr."""
    from mininetes.cli.run_progress import called  # noqa: PLC0415

    for cell in done.left_out:
        click.echo(f"mininetes: left out: {cell}", err=True)
    if done.saturated:
        many = len(done.saturated)
        said = (
            f"the machine did not keep up in {many} of {len(done.runs)} runs ({done.saturated[0].fidelity['why'][0]})"
        )
        counted_in = done.judgement is not None and done.judgement.saturated
        meaning = "verdicts count them in, as there are too few others" if counted_in else "they are marked"
        click.echo(f"mininetes: {said}: {meaning}", err=True)
    for run in done.failed[:_MOST_FAILURES]:
        click.echo(f"mininetes: failed: {called(run.cell, varying, run.repetition)}: {run.error}", err=True)
    if len(done.failed) > _MOST_FAILURES:
        click.echo(f"mininetes: and {len(done.failed) - _MOST_FAILURES} more failed runs", err=True)


def _list(output: str) -> int:
    """Every experiment there is, with its size; those that cannot be read with their error, and status 2."""
    from mininetes.experiments import definition  # noqa: PLC0415

    found: dict[str, Experiment | BadInput] = {}
    for name in parts.names("experiment"):
        try:
            found[name] = definition.load(name)
        except BadInput as wrong:
            found[name] = wrong
    if output == "json":
        click.echo(json.dumps([_listed(name, each) for name, each in found.items()], indent=2))
    else:
        table = show.table(None, "name", "cells", "repetitions", "title")
        for name, each in found.items():
            if isinstance(each, BadInput):
                table.add_row(name, "", "", f"[red]{each}[/]")
            else:
                table.add_row(name, str(len(each.all_cells())), str(each.repetitions), each.title)
        show.console.print(table)
    return 2 if any(isinstance(each, BadInput) for each in found.values()) else 0


def _listed(name: str, found: Experiment | BadInput) -> dict[str, Any]:
    if isinstance(found, BadInput):
        return {"name": name, "error": str(found)}
    return {
        "name": name,
        "title": found.title,
        "reproduces": found.reproduces,
        "parameters": dict(found.grid),
        "repetitions": found.repetitions,
    }
