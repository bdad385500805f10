"""new: the beginning of a repository for experiments of one's own."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mininetes import __version__
from mininetes.cli.options import output_option
from mininetes.errors import BadInput

if TYPE_CHECKING:
    from importlib.abc import Traversable

_TEMPLATES = "new_repository"
_ENDING = ".in"
_HIDDEN = {"gitignore"}
"""Files whose names begin with a dot where they are made."""
NAME = re.compile(r"[a-zA-Z0-9]([-_.a-zA-Z0-9]{0,62}[a-zA-Z0-9])?")


@click.command("new", epilog="Example: mininetes new tunnels && cd tunnels && make figures")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--name", metavar="NAME", help="What README.md calls it. Default: the folder's name.")
@output_option
def new_command(folder: Path, name: str | None, output: str) -> int:
    """Begin a repository for experiments of your own: the four folders with an example each, a Makefile, a test.

    DIR must not exist yet, or be empty.
    """
    files = make(folder, name)
    if output == "json":
        click.echo(json.dumps({"folder": str(folder), "files": files}, indent=1))
        return 0
    click.echo("\n".join(f"  {file}" for file in files))
    click.echo(f"Next: cd {folder} && make figures")
    return 0


def make(folder: Path, name: str | None = None) -> list[str]:
    """Write the files of a new repository, and return their names. Raises BadInput, before anything is written."""
    field, name = ("--name", name) if name is not None else ("DIR", folder.absolute().name)
    if not NAME.fullmatch(name):
        right = "a name of up to 64 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"
        raise BadInput(field, name, right)
    if folder.exists() and not folder.is_dir():
        raise BadInput("DIR", str(folder), "a folder that is empty, or one that does not exist yet")
    if folder.is_dir() and any(folder.iterdir()):
        raise BadInput("DIR", str(folder), "a folder that is empty: this one has files, which stay as they are")
    texts = {
        path: text.replace("@NAME@", name).replace("@VERSION@", __version__)
        for path, text in _texts(resources.files("mininetes.cli") / _TEMPLATES)
    }
    for path, text in texts.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return sorted(texts)


def _texts(place: Traversable, inside: str = "") -> list[tuple[str, str]]:
    """The templates below a folder of the package, by the names of the files that they become."""
    found = []
    for entry in place.iterdir():
        if entry.is_dir():
            found += _texts(entry, f"{inside}{entry.name}/")
        elif entry.name.endswith(_ENDING):
            plain = entry.name.removesuffix(_ENDING)
            found.append((f"{inside}{'.' if plain in _HIDDEN else ''}{plain}", entry.read_text(encoding="utf-8")))
    return found
