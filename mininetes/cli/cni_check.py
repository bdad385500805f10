"""cni-check: whether a CNI plugin does what the specification says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click

from mininetes.cli.options import output_option
from mininetes.errors import BadInput


@click.command("cni-check", epilog="Example: mininetes cni-check bridge ./my-plugin --junit cni.xml")
@click.argument("targets", nargs=-1, metavar="PLUGIN|CONFLIST...")
@click.option("--config", metavar="FILE", help="The plugin's configuration, or a list in which it has its place.")
@click.option("--rule", "rules", multiple=True, metavar="RULE", help="Try this rule alone; may be repeated.")
@click.option("--cni-version", "versions", multiple=True, metavar="VERSION",
              help="Of the versions that the plugin announces, test this one; may be repeated.")  # fmt: skip
@click.option(
    "--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write the verdicts as JUnit's XML, too."
)
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0, min_open=True), default=15.0, show_default=True,
              metavar="SECONDS", help="One call that takes longer counts as one that does not end.")  # fmt: skip
@click.option("--list", "list_rules", is_flag=True, help="List the rules, and test nothing.")
@output_option
def cni_check_command(
    targets: tuple[str, ...],
    config: str | None,
    rules: tuple[str, ...],
    versions: tuple[str, ...],
    junit: Path | None,
    timeout_s: float,
    list_rules: bool,
    output: str,
) -> int:
    """Try CNI plugins, rule by rule of the specification, in a throw-away lab; status 1 when one fails.

    A PLUGIN is a path, or the name of one that is installed; known kinds get a configuration that suits them. A
    CONFLIST names plugins, each of which is tested in its place. Needs no cluster.
    """
    from rich.console import Console  # noqa: PLC0415

    from mininetes.testbed import show  # noqa: PLC0415
    from mininetes.testbed.cni_check import launching, showing, subject  # noqa: PLC0415
    from mininetes.testbed.cni_check.rule import number  # noqa: PLC0415

    if list_rules:
        if output == "json":
            click.echo(json.dumps(showing.rules_json(), indent=2))
        else:
            show.console.print(showing.rules())
        return 0
    if not targets:
        raise BadInput("PLUGIN|CONFLIST", None, "what to check: a plugin's path or name, or a configuration")
    launching.known_rules(rules)
    for version in versions:
        try:
            number(version)
        except ValueError:
            raise BadInput("--cni-version", version, "a version such as 1.0.0") from None
    if config is not None and len(targets) > 1:
        raise BadInput("--config", config, "for one plugin at a time")
    if junit is not None and not junit.absolute().parent.is_dir():
        raise BadInput("--junit", str(junit), "a file in a folder that exists")
    subjects = [replace(each, timeout_s=timeout_s) for target in targets for each in subject.find(target, config)]
    with Console(stderr=True).status("cni-check: making a lab") as status:
        reports = launching.check(
            subjects,
            rules=rules,
            versions=versions,
            progress=lambda report, verdict: status.update(
                f"{report.subject.name}: {verdict.rule}, CNI {verdict.version}, {len(report.verdicts)} checks done"
            ),
        )
    if junit is not None:
        showing.write_junit(reports, junit)
    if output == "json":
        click.echo(json.dumps([report.to_json() for report in reports], indent=2))
    else:
        for report in reports:
            show.console.print(showing.text(report))
    return 0 if all(report.conforms for report in reports) else 1
