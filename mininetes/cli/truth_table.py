"""truth-table: what every service of a running lab must do for whom, beside what it does."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from mininetes.cli.options import lab_option, output_option
from mininetes.errors import BadInput
from mininetes.lab import state
from mininetes.lab.asking import ask

if TYPE_CHECKING:
    from mininetes.probes.truth_table import Known

_ANSWER_WITHIN_S = 1800.0


def _read_flows(path: Path) -> list[Any]:
    """The flows of a file, checked as far as they can be without a lab."""
    from mininetes.testbed.flow_checks import checked_flows  # noqa: PLC0415

    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as wrong:
        raise BadInput("--flows", str(path), f"a readable file with one JSON object a line ({wrong})") from None
    flows: list[Any] = []
    places: list[int] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            flows.append(json.loads(line))
        except ValueError as wrong:
            raise BadInput(f"--flows, line {number}", None, f"one JSON object a line ({wrong})") from None
        places.append(number)
    if not flows:
        raise BadInput("--flows", str(path), "a file with packet flows; it has none")
    return list(checked_flows(flows, places))


def _read_known(path: Path) -> list[Known]:
    """The declared differences of a file."""
    from mininetes.probes.truth_table import Known  # noqa: PLC0415

    try:
        said = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as wrong:
        why = wrong.strerror if isinstance(wrong, OSError) else str(wrong).splitlines()[0]
        raise BadInput("--known", str(path), f"a readable file of YAML or JSON ({why})") from None
    found = []
    for number, each in enumerate(said if isinstance(said, list) else [said], start=1):
        right = "a mapping with a reason, and patterns for any of subject, service, source, who, to"
        if not isinstance(each, dict) or not all(isinstance(value, str) and value for value in each.values()):
            raise BadInput(f"--known, entry {number}", each, right)
        try:
            found.append(Known(**each))
        except TypeError as wrong:
            raise BadInput(f"--known, entry {number}", each, f"{right} ({wrong})") from None
    return found


def _modes(names: tuple[str, ...]) -> list[str]:
    """The modes to measure in, of which each can work here. Raises BadInput or MissingFeature.

    A name that means nothing here may be the lab's own mode: that is left to the lab.
    """
    from mininetes import parts  # noqa: PLC0415
    from mininetes.agents.kubeproxy.compiling import mode_like  # noqa: PLC0415
    from mininetes.agents.kubeproxy.preconditions import needed_features  # noqa: PLC0415
    from mininetes.kernel import features  # noqa: PLC0415
    from mininetes.testbed.truth import known_modes  # noqa: PLC0415

    here = parts.names("proxy")
    found = []
    for name in names:
        if name in here or name.endswith(".py"):
            found += known_modes([name])
            features.require(needed_features(mode_like(found[-1]), None))
        else:
            found.append(name)
    return found


@click.command("truth-table", epilog="Example: mininetes truth-table --service web --mode iptables --mode nftables")
@lab_option
@click.option("--service", "--include", "services", multiple=True, metavar="[NAMESPACE/]NAME",
              help="Only this service; all of them otherwise.")  # fmt: skip
@click.option("--mode", "modes", multiple=True, metavar="MODE",
              help="Measure in this proxy mode, or in several one after another; the lab's own otherwise.")  # fmt: skip
@click.option("--proxy-exec", "programs", multiple=True, metavar="COMMAND",
              help="Measure with this program in kube-proxy's place on every node too.")  # fmt: skip
@click.option("--known", "known_file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.yaml",
              help="What may be otherwise: a list of reason, subject, service, source, who, to.")  # fmt: skip
@click.option("--flows", "flows_file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.jsonl",
              help="Play these packet flows, one a line, each with a service of its own, instead.")  # fmt: skip
@click.option("--connections", type=int, default=20, show_default=True, help="Tries for each endpoint expected.")
@click.option("--timeout", "timeout_s", type=float, default=1.0, show_default=True, help="Seconds for each.")
@click.option("--wrong", "only_wrong", is_flag=True, help="List only what is not as it must be.")
@click.option("--all", "list_all", is_flag=True, help="List every difference and all that was not asked.")
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Write the rows as JUnit XML too.")  # fmt: skip
@output_option
def truth_table_command(
    lab: str | None,
    services: tuple[str, ...],
    modes: tuple[str, ...],
    programs: tuple[str, ...],
    known_file: Path | None,
    flows_file: Path | None,
    connections: int,
    timeout_s: float,
    only_wrong: bool,
    list_all: bool,
    junit: Path | None,
    output: str,
) -> int:
    """Ask every address of every service from all kinds of clients; status 1 when something else happens.

    Clients are a pod and the node itself on each node, endpoints themselves, and clients outside. A service with a
    health-check node port is asked there too whether its nodes have endpoints: 200 or 503. Where endpoints do not say
    who they are, as a server of one's own does not, the verdict is "connected": which of them answered is not known.
    With several modes or programs it says where they differ; a difference that is not a known one is a failure too.
    Of a program the behaviour of its --proxy-mode is expected, or of the mode in its --config, else that of mode
    iptables.
    """
    from mininetes.probes.service_asking import AskOptions  # noqa: PLC0415
    from mininetes.probes.truth_table import TruthTable  # noqa: PLC0415
    from mininetes.testbed import show_truth  # noqa: PLC0415
    from mininetes.testbed.proxying import proxy_programs  # noqa: PLC0415

    AskOptions(connections, timeout_s)  # checks both before the lab is asked
    if junit is not None and not junit.absolute().parent.is_dir():
        raise BadInput("--junit", str(junit), "a file in a folder that exists")
    flows = _read_flows(flows_file) if flows_file is not None else []
    known = _read_known(known_file) if known_file is not None else []
    outside = [{"argv": each.argv, "title": each.title} for each in proxy_programs(programs)]
    control, in_turn = state.find(lab).control, _modes(modes)
    began = time.monotonic()
    answer = ask(
        control,
        answer_within_s=_ANSWER_WITHIN_S,
        op="truth-table",
        services=list(services),
        modes=in_turn,
        programs=outside,
        flows=flows,
        connections=connections,
        timeout_s=timeout_s,
    )
    took_s = time.monotonic() - began
    measured = TruthTable.from_json(answer).declared(known)
    if junit is not None:
        try:
            junit.write_text(measured.junit(took_s))
        except OSError as failed:
            raise BadInput("--junit", str(junit), f"a file that can be written ({failed.strerror})") from None
    if output == "json":
        click.echo(json.dumps(measured.as_json(), indent=1))
    else:
        most = {"most": sys.maxsize} if list_all else {}
        show_truth.report(measured, everything=not only_wrong, **most)
    return 0 if measured.holds else 1
