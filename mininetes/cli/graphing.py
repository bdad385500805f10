"""graph: a cluster's topology as a drawing, or for programs that draw graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mininetes.cli.options import cluster_arguments, description
from mininetes.errors import BadInput
from mininetes.lab import state
from mininetes.lab.asking import ask


@click.command("graph", epilog="Example: mininetes graph two-racks --fabric vxlan --out racks.svg")
@cluster_arguments
@click.option("--lab", metavar="NAME", help="Draw this running lab, with the nodes and pods that it has now.")
@click.option("--format", "form", type=click.Choice(["svg", "mermaid", "dot"]),
              help="Default: what the ending of --out says, else mermaid.")  # fmt: skip
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="FILE", help="Where to write. Default: print it.")
def graph_command(cluster_file: str | None, lab: str | None, form: str | None, out: Path | None, **flags: Any) -> int:
    """Draw a cluster: nodes with addresses, pod subnets and pods, what joins them, and what lies outside.

    CLUSTER.yaml is a cluster file, the name of a ready-made one, or - for standard input; without it the flags alone
    count. Nothing is built.
    """
    from mininetes.testbed import graph  # noqa: PLC0415 - imports Mininet
    from mininetes.testbed.blueprint import draw  # noqa: PLC0415

    wanted = form or (graph.format_for(out) if out is not None else "mermaid")
    if lab is not None:
        if cluster_file is not None or any(flags.values()):
            raise BadInput("--lab", lab, "either a running lab, or a cluster file and flags")
        text = ask(state.find(lab).control, op="graph", format=wanted)["text"]
    else:
        text = graph.FORMATS[wanted](draw(description(cluster_file, None, **flags)))
    if out is None:
        click.echo(text, nl=False)
        return 0
    try:
        out.write_text(text)
    except OSError as failed:
        raise BadInput("--out", str(out), f"a file that can be written ({failed.strerror})") from None
    return 0
