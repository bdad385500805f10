"""probe: measurements of a running lab."""

from __future__ import annotations

import json

import click

from mininetes.cli.options import lab_option, output_option
from mininetes.lab import state
from mininetes.lab.asking import ask
from mininetes.testbed import show


@click.group("probe", epilog="Example: mininetes probe reachability")
def probe_command() -> None:
    """Measure a running lab with packets."""


@probe_command.command("reachability", epilog="Example: mininetes probe reachability --protocol udp")
@lab_option
@click.option("--protocol", type=click.Choice(["icmp", "udp", "tcp"]), default="icmp", show_default=True,
              help="ICMP asks nodes and pods; UDP and TCP ask the pods' responders.")  # fmt: skip
@click.option("--attempts", type=int, default=2, show_default=True, help="Probes before a pair counts as lost.")
@click.option("--timeout", "timeout_s", type=float, default=0.5, show_default=True, help="Seconds for each.")
@output_option
def reachability(lab: str | None, protocol: str, attempts: int, timeout_s: float, output: str) -> int:
    """Measure who reaches whom; status 1 when it is not as expected."""
    from mininetes.probes.matrix import ReachabilityMatrix  # noqa: PLC0415
    from mininetes.probes.reachability import SweepOptions  # noqa: PLC0415

    SweepOptions(attempts=attempts, timeout_s=timeout_s)  # checks both before the lab is asked
    control = state.find(lab).control
    answer = ask(control, op="reachability", protocol=protocol, attempts=attempts, timeout_s=timeout_s)
    matrix = ReachabilityMatrix.unpacked(answer)
    if output == "json":
        click.echo(json.dumps(matrix.rows(), indent=1))
    else:
        show.matrix(matrix)
    return 0 if matrix.holds else 1


@probe_command.command("latency", epilog="Example: mininetes probe latency --count 200 --interval 0.05")
@lab_option
@click.option("--count", type=int, default=100, show_default=True, help="Probes along each flow.")
@click.option("--interval", "interval_s", type=float, default=0.01, show_default=True, help="Seconds between them.")
@click.option("--size", "payload_bytes", type=int, default=56, show_default=True, help="Payload, as ping -s.")
@output_option
def latency(lab: str | None, count: int, interval_s: float, payload_bytes: int, output: str) -> int:
    """Measure latency between pods on one node and on two; status 1 when probes were lost."""
    from mininetes.probes import latency as latencies  # noqa: PLC0415
    from mininetes.probes.pacing import Pacing  # noqa: PLC0415

    Pacing(interval_s, count, payload_bytes)  # checks all three before the lab is asked
    answer = ask(
        state.find(lab).control,
        answer_within_s=count * interval_s * 20 + 300,
        op="latency",
        count=count,
        interval_s=interval_s,
        payload_bytes=payload_bytes,
    )
    rows = answer["summaries"]
    found = [latencies.Summary(**{key: value for key, value in row.items() if key != "loss"}) for row in rows]
    if output == "json":
        click.echo(json.dumps(rows, indent=1))
    else:
        show.console.print(latencies.table(found, "Latency in microseconds"))
    return 1 if any(summary.lost for summary in found) else 0


@probe_command.command("ports", epilog="Example: mininetes probe ports --timeout 3")
@lab_option
@click.option("--timeout", "timeout_s", type=float, default=1.5, show_default=True, help="Seconds for a connection.")
@output_option
def ports(lab: str | None, timeout_s: float, output: str) -> int:
    """Measure who reaches which component's port on which node; status 1 when it is not as the table has it."""
    from mininetes.probes.ports import PortOptions, PortsReport  # noqa: PLC0415
    from mininetes.testbed import show_ports  # noqa: PLC0415

    PortOptions(timeout_s=timeout_s)  # checks it before the lab is asked
    answer = ask(state.find(lab).control, answer_within_s=300 + 60 * timeout_s, op="ports", timeout_s=timeout_s)
    report = PortsReport.from_rows(answer["rows"])
    if output == "json":
        click.echo(json.dumps(report.rows(), indent=1))
    else:
        show_ports.report(report)
    return 0 if report.holds else 1


@probe_command.command("networks", epilog="Example: mininetes probe networks front back")
@lab_option
@click.argument("names", nargs=-1, metavar="[NETWORK]...")
@click.option("--attempts", type=int, default=3, show_default=True, help="Probes before a question counts as lost.")
@click.option("--timeout", "timeout_s", type=float, default=0.5, show_default=True, help="Seconds for each.")
@output_option
def networks(lab: str | None, names: tuple[str, ...], attempts: int, timeout_s: float, output: str) -> int:
    """Measure whom members of each container network reach; status 1 when it is not as declared."""
    from mininetes.probes.reachability import SweepOptions  # noqa: PLC0415
    from mininetes.testbed import networks_reach, show_networks  # noqa: PLC0415

    SweepOptions(attempts=attempts, timeout_s=timeout_s)  # checks both before the lab is asked
    control = state.find(lab).control
    answer = ask(control, op="probe-networks", names=names, attempts=attempts, timeout_s=timeout_s)
    rows = [networks_reach.Row.from_json(row) for row in answer["rows"]]
    if output == "json":
        click.echo(json.dumps(answer["rows"], indent=1))
    else:
        show_networks.reach(rows)
    return 0 if networks_reach.holds(rows) else 1
