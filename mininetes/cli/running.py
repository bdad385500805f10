"""run: experiments."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mininetes.cli.options import output_option
from mininetes.testbed import show


@click.command("run", epilog="Example: mininetes run experiments/quickstart.py --set fabric=none --out results/none")
@click.argument("experiment")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE",
              help="Another value of a parameter, or several: KEY=V1,V2.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Where results go. Default: results/...")
@click.option("--seed", type=int, default=1, show_default=True, help="Decides the order of the cells.")
@output_option
def run_command(experiment: str, settings: tuple[str, ...], out: Path | None, seed: int, output: str) -> int:
    """Run an experiment in labs of its own; status 1 when something expected did not hold."""
    from mininetes.experiments import definition, runner  # noqa: PLC0415

    found = definition.load(experiment, settings)
    done = runner.run(found, out, seed=seed, progress=show.progress, quiet=output == "json")
    if output == "json":
        facts = {"folder": str(done.folder), "figures": [str(path) for path in done.figures], "holds": done.holds}
        click.echo(json.dumps({**facts, "seconds": round(done.seconds, 3)}, indent=2))
    else:
        show.results(done.folder, done.figures, done.seconds)
    return 0 if done.holds else 1
