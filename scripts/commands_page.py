"""Writes docs/commands.md: each command with its usage, its options and an example, as the commands have them.

python scripts/commands_page.py            writes the page
python scripts/commands_page.py --print    prints it; a test holds that the page is this
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from mininetes.cli.main import cli

PAGE = Path(__file__).resolve().parent.parent / "docs" / "commands.md"
HEAD = """\
# Commands

Written by `scripts/commands_page.py` from what `mininetes COMMAND --help` says; `-h` and `--help` work everywhere.
On other pages: [exit statuses](../README.md#exit-statuses), [what `run` writes](results.md), [parts](parts.md).
"""


def commands(command: click.Command, parent: click.Context | None = None) -> Iterator[click.Context]:
    """A context of each command, its groups' before their commands'."""
    context = click.Context(command, info_name=command.name if parent else "mininetes", parent=parent)
    yield context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from commands(below, context)


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(_section(context) for context in commands(cli))])


def _section(context: click.Context) -> str:
    command = context.command
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = [f"## {context.command_path}", "", "```", usage, "```", "", _said(command.help or ""), ""]
    options = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    if options:
        rows = [f"| `{_cell(_names(each))}` | {_cell(each.help or '')} |" for each in options]
        lines += ["| option | |", "|---|---|", *rows, ""]
    if command.epilog:
        lines += [_example(command.epilog), ""]
    return "\n".join(lines)


def _names(option: click.Option) -> str:
    """As in the help, but by this file, as versions of click differ."""
    names = ", ".join(option.opts) + "".join(f" / {name}" for name in option.secondary_opts)
    if option.is_flag or option.count:
        return names
    if isinstance(option.type, click.Choice):
        return f"{names} [{'|'.join(map(str, option.type.choices))}]"
    return f"{names} {option.metavar or option.type.name.upper()}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _said(text: str) -> str:
    """Help as paragraphs; what click keeps as it is (after \\b) becomes a block."""
    kept = []
    for paragraph in textwrap.dedent(text).strip().split("\n\n"):
        if paragraph.lstrip().startswith("\b"):
            kept.append(
                "\n".join(["```", *(line.strip() for line in paragraph.splitlines() if line.strip("\b ")), "```"])
            )
        else:
            kept.append(textwrap.fill(" ".join(paragraph.split()), 130, break_on_hyphens=False))
    return "\n\n".join(kept)


def _example(epilog: str) -> str:
    lines = [line.strip() for line in epilog.replace("\b", "").splitlines() if line.strip()]
    if len(lines) == 1:
        return f"Example: `{lines[0].removeprefix('Example: ')}`"
    return "\n".join([lines[0], "", "```", *lines[1:], "```"])


if __name__ == "__main__":
    if sys.argv[1:] == ["--print"]:
        sys.stdout.write(page())
    else:
        PAGE.write_text(page())
