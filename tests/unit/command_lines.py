"""Command lines as they stand in pages and help texts: the calls in them, and whether the commands take these."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click

from mininetes.cli.main import cli

_OPERATORS = ";|&()<>"
_BEFORE = {"sudo", "time", "$"}
_PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*")


def calls(line: str, program: str) -> Iterator[list[str]]:
    """The words behind ``program`` wherever a line of shell calls it; redirections and "..." are left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=_OPERATORS)
    lexer.whitespace_split = True
    words: list[str] | None = None
    starts, redirected = True, False
    for token in lexer:
        if set(token) <= set(_OPERATORS):
            redirected = set(token) & {"<", ">"} != set()
            starts = not redirected
            if starts and words is not None:
                yield words
                words = None
        elif redirected:
            redirected = False
        elif starts and token == program:
            words, starts = [], False
        elif words is not None:
            words += [] if token == "..." else [token]
        else:
            starts = starts and (token in _BEFORE or "=" in token or token.endswith("$"))
    if words is not None:
        yield words


def parse(words: list[str]) -> list[str]:
    """Have click read a call without carrying it out; returns the command's path. Raises click.ClickException."""
    path: list[str] = []
    command: click.Command = cli
    context = cli.make_context("mininetes", list(words))
    while isinstance(command, click.Group) and (rest := [*context._protected_args, *context.args]):
        name, found, rest = command.resolve_command(context, rest)
        assert name is not None
        assert found is not None
        path.append(name)
        context, command = found.make_context(name, rest, parent=context), found
    return path


def parse_named(words: list[str]) -> list[str]:
    """The same for a call that stands in a text: FILE and the like are placeholders, N is a number.

    Arguments may be left out; the path is empty then.
    """
    try:
        return parse([_PLACEHOLDER.sub("1", word) if _PLACEHOLDER.fullmatch(word) else word for word in words])
    except click.MissingParameter:
        return []
