"""doctor and validate: what this machine can do, and whether a cluster file is right."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from mininetes import parts
from mininetes.cli.options import description, output_option, source_of
from mininetes.counting import counted
from mininetes.errors import BadInput, MissingFeature
from mininetes.kernel import features


@click.command("doctor", epilog="Example: mininetes doctor -o json")
@output_option
def doctor_command(output: str) -> int:
    """Try every kernel feature and look for every program; status 3 when the main job lacks one."""
    verdicts = features.check_all()
    if output == "json":
        click.echo(json.dumps([asdict(verdict) for verdict in verdicts], indent=2))
    else:
        from mininetes.testbed import show  # noqa: PLC0415

        show.doctor(verdicts)
    missing = any(verdict.required and not verdict.here for verdict in verdicts if verdict.kind != "information")
    return MissingFeature.exit_status if missing else 0


@click.command("validate", epilog="Example: mininetes validate my-cluster.yaml; mininetes validate --schema")
@click.argument("cluster_file", required=False, metavar="CLUSTER.yaml")
@click.option("--schema", is_flag=True, help="Print the JSON schema of cluster files, for editors; takes no file.")
@output_option
def validate_command(cluster_file: str | None, schema: bool, output: str) -> int:
    """Check a cluster file as `up` would, and build nothing; status 2 when it is wrong.

    CLUSTER.yaml is a cluster file, the name of a ready-made one, or - for standard input. Status 3 when it is right,
    and this machine lacks what it needs: that is said on standard error.
    """
    if schema:
        from mininetes.cluster_schema import cluster_schema  # noqa: PLC0415

        if cluster_file is not None:
            right = f"left out with --schema, which checks no file; 'mininetes validate {cluster_file}' does"
            raise BadInput("CLUSTER.yaml", cluster_file, right)
        click.echo(json.dumps(cluster_schema(parts.names("proxy")), indent=2))
        return 0
    if cluster_file is None:
        raise BadInput("CLUSTER.yaml", None, "a cluster file, - for standard input, or --schema alone")
    from mininetes.testbed.preflight import lacking  # noqa: PLC0415

    blueprint, missing = lacking(description(cluster_file, None))
    spec = blueprint.spec
    if output == "json":
        click.echo(json.dumps(spec.model_dump(mode="json", by_alias=True), indent=2))
    else:
        nodes, pods = counted(len(spec.nodes), "node"), counted(spec.pods.per_node, "pod")
        each = " each" if len(spec.nodes) > 1 else ""
        click.echo(f"{source_of(cluster_file)} is valid: {nodes} with {pods}{each}, fabric {spec.fabric.title}")
    if missing is not None:
        click.echo(f"mininetes: valid, but `up` would refuse it on this machine: {missing}", err=True)
        return missing.exit_status
    return 0
