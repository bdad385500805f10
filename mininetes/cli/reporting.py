"""compare and report: what two results say about each other, and what results say to their readers."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mininetes.cli.options import output_option


@click.command("compare", epilog="Example: mininetes compare results/before results/after --threshold 0.03")
@click.argument("a", type=click.Path(path_type=Path), metavar="A")
@click.argument("b", type=click.Path(path_type=Path), metavar="B")
@click.option("--threshold", type=float, default=0.05, show_default=True, metavar="PART",
              help="Changes smaller than this part are of no interest.")  # fmt: skip
@click.option("--alpha", type=float, default=0.01, show_default=True, metavar="PART",
              help="Part of false ones among the alarms; where nothing changed, the chance of any alarm.")  # fmt: skip
@click.option("--saturated", is_flag=True, help="Let runs count in which the machine was too busy.")
@click.option("--all", "everything", is_flag=True, help="List what did not change, too.")
@output_option
def compare_command(
    a: Path, b: Path, threshold: float, alpha: float, saturated: bool, everything: bool, output: str
) -> int:
    """Say what changed beyond noise from result A to result B; status 1 when something did.

    Each repetition counts as one value; a cell needs at least ten of them in both results. Status 2 when
    nothing could be compared.
    """
    from mininetes.experiments import comparing, show_comparison  # noqa: PLC0415

    found = comparing.compare(a, b, comparing.Limits(alpha, threshold, saturated))
    if output == "json":
        click.echo(json.dumps(found.as_json(), indent=2))
    else:
        show_comparison.show(found, everything=everything)
    if not found.tested:
        click.echo(f"mininetes: {show_comparison.nothing_compared(found)}", err=True)
        return 2
    return 1 if found.changed else 0


@click.command("report", epilog="Example: mininetes report results/first_packet results/proxy_modes --out paper.html")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR...")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.html",
              help="Where the page goes. Default: report.html in DIR, or in what holds them all.")  # fmt: skip
@click.option("--saturated", is_flag=True, help="Let runs count in which the machine was too busy.")
@output_option
def report_command(folders: tuple[Path, ...], out: Path | None, saturated: bool, output: str) -> int:
    """Make one self-contained HTML page of results, from their rows alone.

    A DIR is a result, or a folder with results in it. Each result also gets its figures as PNG, SVG and PDF,
    and rows.csv and summary.csv.
    """
    from mininetes.experiments import report  # noqa: PLC0415
    from mininetes.testbed import show  # noqa: PLC0415

    made = report.write(folders, out, saturated=saturated, progress=show.progress)
    counts = {holds: made.verdicts[holds] for holds in ("yes", "no", "not at this size")}
    if output == "json":
        facts = {"page": str(made.page), "experiments": made.experiments, "verdicts": counts}
        click.echo(json.dumps({**facts, "failed": made.failed, "saturated": made.saturated}, indent=2))
        return 0
    click.echo(f"{made.page}")
    if made.verdicts:
        said = ", ".join(f"{count} {holds}" for holds, count in counts.items() if count)
        click.echo(f"published shapes: {said}")
    if made.failed or made.saturated:
        click.echo(f"runs that do not count: {made.failed} failed, {made.saturated} saturated", err=True)
    return 0
