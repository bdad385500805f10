"""exec and shell: a process of the user's own in a node, a pod, or with Mininet's command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any, NoReturn

import click

from mininetes.cli.options import lab_option
from mininetes.errors import BadInput, one_of
from mininetes.lab import state
from mininetes.lab.asking import ask
from mininetes.lab.entering import enter_lab, enter_node
from mininetes.lab.launcher import package_environment
from mininetes.lab.supervising import check_up

_TARGET = "NODE|pod/NAME|container/NAME"
NODE_ENVIRONMENT = {"KUBECONFIG": "/etc/kubernetes/admin.conf"}
"""With it kubectl works in the control plane's nodes, which have that file; one of the host's labs would be another."""


def argv_in(lab: state.LabState, target: str, command: list[str]) -> list[str]:
    """The argv that runs ``command`` in a node or pod. Raises BadInput that lists what there is."""
    lab_pid = check_up(lab)
    status: dict[str, Any] = ask(lab.control, op="status")
    hosts = {each["name"]: each for each in status["hosts"]}
    pods = {each["name"]: each for each in status["pods"]}
    if target.startswith("pod/"):
        pod = pods.get(target.removeprefix("pod/"))
        if pod is None:
            raise BadInput("pod", target, one_of([f"pod/{name}" for name in pods], target, "none: there are no pods"))
        holder = hosts[pod["node"]]["pid"]
        return enter_node(lab_pid, holder, command, pod_netns=pod["netns"], pause_pid=pod["pid"])
    if target.startswith("container/"):
        containers = {each["name"]: each for each in ask(lab.control, op="container-ls")["containers"]}
        container = containers.get(target.removeprefix("container/"))
        if container is None:
            known = [f"container/{name}" for name in containers]
            raise BadInput("container", target, one_of(known, target, "none: there are no containers"))
        return enter_node(lab_pid, hosts[container["node"]]["pid"], command, pod_netns=container["netns"])
    if target not in hosts:
        raise BadInput("node", target, f"{one_of(hosts, target)}, pod/NAME or container/NAME")
    return enter_node(lab_pid, hosts[target]["pid"], command)


def _become(argv: list[str]) -> NoReturn:
    sys.stdout.flush()
    os.execvpe(argv[0], argv, {**os.environ, "PATH": path_inside(), **NODE_ENVIRONMENT})  # noqa: S606 - we become it


def path_inside() -> str:
    """The caller's PATH, which `main` has completed, with the node's CNI plugins for those who call them by hand."""
    return f"{os.environ.get('PATH', '')}:/opt/cni/bin"


@click.command("exec", context_settings={"ignore_unknown_options": True},
               epilog="Example: mininetes exec node1 -- ip route")  # fmt: skip
@lab_option
@click.argument("target", metavar=_TARGET)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
def exec_command(lab: str | None, target: str, command: tuple[str, ...]) -> None:
    """Run a command in a node or a pod; its exit status is ours."""
    _become(argv_in(state.find(lab), target, list(command)))


@click.command("shell", epilog="Example: mininetes shell --mininet")
@lab_option
@click.option("--mininet", is_flag=True, help="Mininet's command line, with the cluster as `net`.")
@click.argument("target", metavar=_TARGET, required=False)
def shell_command(lab: str | None, mininet: bool, target: str | None) -> int:
    """Open a shell in a node or a pod, or Mininet's command line."""
    if mininet == (target is not None):
        raise BadInput("shell", target, f"either {_TARGET} or --mininet")
    found = state.find(lab)
    if mininet:
        return mininet_command_line(check_up(found))
    assert target is not None
    prompt = f"PS1=\\u@{target}:\\w# "
    _become(argv_in(found, target, ["env", prompt, "bash", "--norc"]))


def mininet_command_line(lab_pid: int) -> int:
    """Run Mininet's command line in the lab whose PID 1 has that pid, and return its status.

    Ctrl-C is for the command line, which ends what runs in a node: we and nsenter, which waits for
    it, get the signal as well and ignore it.
    """
    python_path = package_environment()["PYTHONPATH"]
    environment = ["env", f"PYTHONPATH={python_path}"]
    command = [*enter_lab(lab_pid), *environment, sys.executable, "-m", "mininetes.testbed.mininet_cli"]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.call(command)
    finally:
        signal.signal(signal.SIGINT, before)
