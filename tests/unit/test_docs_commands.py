"""Every command that a page names, in a block, a table or a sentence, is there, with the options that are named."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from command_lines import calls, parse, parse_named

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "commands.md")]
OTHERS = [ROOT / "Vagrantfile", ROOT / "docs" / "web.yaml", *sorted((ROOT / "topologies" / "clusters").glob("*.yaml"))]
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
_BLOCK = re.compile(r"^ *```(.*)\n((?:.*\n)*?) *```$", re.MULTILINE)
_INLINE = re.compile(r"`([^`\n]+)`")
_NO_SHELL = ("python", "yaml", "json")


def shown(page: Path) -> Iterator[str]:
    """The lines of shell in a page's blocks: of a console those that are typed; what is said behind others is cut."""
    for kind, text in _BLOCK.findall(page.read_text()):
        if kind.strip() in _NO_SHELL:
            continue
        if kind.startswith("console"):
            typed = re.findall(r"^\$ (.*(?:\n> .*)*)", text, re.MULTILINE)
            yield from (line.replace("\n> ", "\n") for line in typed)
        else:
            yield from (part for line in text.splitlines() for part in re.split(r"   +", line) if part)


def named(page: Path) -> Iterator[str]:
    """What a page has between backquotes in its sentences, lists and tables."""
    yield from _INLINE.findall(_BLOCK.sub("", page.read_text()))


def lines_of(page: Path) -> list[str]:
    found = [line for line in [*shown(page), *named(page)] if re.search(r"\b(mininetes|make|mn) ", line)]
    return [line for line in found if not re.search(r"^\s*[-#{]|^\w+/ ", line)]


ALL = [pytest.param(page, line, id=f"{page.stem}: {line[:60]}") for page in PAGES for line in lines_of(page)]


def test_there_are_many() -> None:
    assert len(ALL) > 150
    assert {"setup", "demo", "test", "vm", "check", "bench", "figures"} <= TARGETS


@pytest.mark.parametrize(("page", "line"), ALL)
def test_a_command_that_a_page_names_is_one_that_there_is(page: Path, line: str) -> None:
    for words in calls(line, "mininetes"):
        parse_named(words)
    for words in calls(line, "make"):
        targets = [word for word in words if "=" not in word and not word.startswith("-")]
        assert set(targets) <= TARGETS | {"TARGET"}, line
        for word in words:
            if word.startswith("ARGS="):
                parse(word.removeprefix("ARGS=").split())
    for words in calls(line, "mn"):
        if "--topo" in words:
            path = ROOT / words[words.index("--custom") + 1]
            description = importlib.util.spec_from_file_location("topology", path)
            assert description is not None
            assert description.loader is not None
            module = importlib.util.module_from_spec(description)
            description.loader.exec_module(module)
            assert words[words.index("--topo") + 1].partition(",")[0] in module.topos


@pytest.mark.parametrize("file", OTHERS, ids=lambda file: file.name)
def test_so_is_a_command_in_a_comment(file: Path) -> None:
    text = file.read_text()
    for line in re.findall(r"'(mininetes [^']*)'|`(mininetes [^`]*)`", text):
        for words in calls("".join(line), "mininetes"):
            parse_named(words)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("mininetes up --pods 3", [["up", "--pods", "3"]]),
        ("export A=$(mininetes kubeconfig --path)", [["kubeconfig", "--path"]]),
        ("cd x && mininetes ls | grep a; mininetes down >log", [["ls"], ["down"]]),
        (
            "mininetes exec node1 -- sh -c 'ip route | head; ls'",
            [["exec", "node1", "--", "sh", "-c", "ip route | head; ls"]],
        ),
        ("echo mininetes up", []),
        ("mininetes run NAME ... --resume", [["run", "NAME", "--resume"]]),
    ],
)
def test_how_calls_are_found(line: str, found: list[list[str]]) -> None:
    assert list(calls(line, "mininetes")) == found


@pytest.mark.parametrize(
    "line", ["up --no-such-option", "no-such-command", "probe nothing", "up --nodes many", "run --set", "exec --lab"]
)
def test_a_wrong_command_is_noticed(line: str) -> None:
    with pytest.raises(click.ClickException):
        parse_named(line.split())
