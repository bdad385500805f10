"""Every command's help has an example, and every example is one that the command takes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest
from command_lines import calls, parse

from mininetes.cli.main import cli


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if path:
        yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, (*path, name))


COMMANDS = {" ".join(path): command for path, command in commands(cli)}


def examples(epilog: str) -> list[list[list[str]]]:
    """The words behind ``mininetes`` of each call in each line of an epilog."""
    text = epilog.replace("\b", "").strip()
    assert re.match(r"Examples?:", text), "an epilog begins with Example: or Examples:"
    lines = re.sub(r"^Examples?:", "", text).splitlines()
    return [[*calls(line, "mininetes")] for line in lines if line.strip()]


def test_there_are_commands() -> None:
    assert {"up", "run", "graph", "net create", "validate"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_an_example_that_it_takes(name: str) -> None:
    epilog = COMMANDS[name].epilog
    assert epilog, "no example"
    lines = examples(epilog)
    assert lines, epilog
    for line in lines:
        paths = [" ".join(parse(words)) for words in line]
        assert paths, epilog
        assert paths[0].startswith(name), f"{line[0]} is an example of {paths[0]}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_command_says_what_it_does(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    for each in command.params:
        if isinstance(each, click.Option):
            assert each.help, f"{each.opts} has no help"


def test_a_wrong_example_is_noticed() -> None:
    with pytest.raises(click.UsageError):
        parse(["up", "--no-such-option"])
