"""The command group, what all commands share, and how errors end them."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from mininetes import __version__, parts
from mininetes.errors import BadInput, MininetesError
from mininetes.kernel.features import complete_path

_COMMANDS = {
    "up": "labs",
    "down": "labs",
    "ls": "labs",
    "status": "labs",
    "kubeconfig": "objects",
    "get": "objects",
    "apply": "objects",
    "delete": "objects",
    "agents": "agents",
    "node": "nodes",
    "net": "networks",
    "container": "networks",
    "exec": "entering",
    "shell": "entering",
    "probe": "measuring",
    "run": "running",
    "compare": "reporting",
    "report": "reporting",
    "graph": "graphing",
    "rules": "rules",
    "truth-table": "truth_table",
    "cni-check": "cni_check",
    "doctor": "checking",
    "validate": "checking",
    "new": "new",
}


class LazyGroup(click.Group):
    """Imports a command's module when the command is called: `--help` and `exec` need not wait for the rest."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of a first day with them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        function = f"{cmd_name.replace('-', '_')}_command"
        command: click.Command = getattr(importlib.import_module(f"mininetes.cli.{module}"), function)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mininetes")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.option("--parts", "part_folders", multiple=True, type=click.Path(path_type=Path), metavar="DIR",
              help="Look for underlays, fabrics, experiments, ... in DIR first.")  # fmt: skip
@click.pass_context
def cli(context: click.Context, debug: bool, part_folders: tuple[Path, ...]) -> None:
    """Kubernetes cluster networking, emulated on one Linux kernel with Mininet.

    \b
    mininetes up                        three nodes with four pods each
    mininetes get pods -A -o wide       what the API server knows
    mininetes exec node1 -- ip route    look around in a node
    mininetes probe reachability        who reaches whom, measured
    mininetes down                      gone without a trace
    """
    context.obj = {"debug": debug}
    parts.use(list(part_folders))


def _plain_distutils() -> None:
    """Have Mininet find Python's own distutils, where there is one: setuptools' takes a quarter of a second more."""
    shim = sys.modules.get("_distutils_hack")
    if sys.version_info < (3, 12) and shim is not None:
        shim.remove_shim()


def main() -> None:
    """Run a command. Errors end it with one line on stderr and their exit status."""
    debug = "--debug" in sys.argv
    _plain_distutils()
    complete_path()
    try:
        result: Any = cli(standalone_mode=False)
        status = result if isinstance(result, int) else 0
    except MininetesError as failed:
        if debug:
            raise
        click.echo(f"mininetes: {failed}", err=True)
        status = failed.exit_status
    except click.exceptions.Exit as left:
        status = left.exit_code
    except click.exceptions.NoArgsIsHelpError as asked:
        asked.show()
        status = 2
    except click.ClickException as wrong:
        click.echo(f"mininetes: {_in_a_line(wrong)}", err=True)
        status = 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("mininetes: interrupted", err=True)
        status = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except OSError as failed:
        if debug:
            raise
        given = _argument_of(failed)
        click.echo(f"mininetes: {failed if given is None else given}", err=True)
        status = 1 if given is None else given.exit_status
    sys.exit(status)


def _in_a_line(wrong: click.ClickException) -> str:
    """What is wrong with the words of a command, and where the right ones are."""
    text = " ".join(wrong.format_message().split())
    if isinstance(wrong, click.UsageError) and wrong.ctx is not None:
        return f"{text}{'' if text.endswith(('.', ')')) else '.'} See '{wrong.ctx.command_path} --help'."
    return text


def _argument_of(failed: OSError) -> BadInput | None:
    """What is wrong with a file or folder that an argument names, when it is that; not with a file of our own."""
    path = failed.filename
    if not isinstance(path, str):
        return None
    for word in (each for argument in sys.argv[1:] for each in (argument, argument.partition("=")[2])):
        if word and Path(path).absolute().is_relative_to(Path(word).absolute()):
            where = "" if path == word else f"{path}: "
            return BadInput("path", word, f"one that can be used here: {where}{failed.strerror}")
    return None
