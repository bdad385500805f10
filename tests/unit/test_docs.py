"""README and guide against the repository: links hold, commands and parts are all there, quotations are right."""

from __future__ import annotations

import importlib.util
import inspect
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from mininetes import parts
from mininetes.agents.kubeproxy.configuration import MODES
from mininetes.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
_FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
_NAMED_BY_TOOLS = {
    "LICENSE", "MANIFEST.in", "Makefile", "Vagrantfile", "conftest.py", "py.typed", "pyproject.toml", "setup.py",
    "__init__.py", "__main__.py",
}  # fmt: skip
"""Files that tools look for by these names."""


def _anchors(page: Path) -> set[str]:
    """The names that a page's headings have in links."""
    headings = re.findall(r"^#+ +(.+)$", _FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _links(page: Path) -> Iterator[str]:
    yield from re.findall(r"\[[^\]]+\]\(([^)\s]+)\)", _FENCED.sub("", page.read_text()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for link in _links(page):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            wrong.append(f"{link}: no such file")
        elif anchor and anchor not in _anchors(target):
            wrong.append(f"{link}: no such heading; there are {sorted(_anchors(target))}")
    assert not wrong, "\n".join(wrong)


def test_all_pages_are_in_the_guides_index() -> None:
    linked = set(_links(DOCS / "README.md"))
    assert {page.name for page in DOCS.glob("*.md")} - linked - {"README.md"} == set()


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    description = importlib.util.spec_from_file_location("commands_page", ROOT / "scripts" / "commands_page.py")
    assert description is not None
    assert description.loader is not None
    script = importlib.util.module_from_spec(description)
    description.loader.exec_module(script)
    page = (DOCS / "commands.md").read_text()
    assert page == script.page(), "out of date: python scripts/commands_page.py writes it anew"
    lacking = [
        f"{context.command_path} {name}"
        for context in script.commands(cli)
        for option in context.command.params
        for name in option.opts
        if name.startswith("-") and name not in page.split(f"\n## {context.command_path}\n")[1].split("\n## ")[0]
    ]
    assert not lacking
    no_example = [
        context.command_path
        for context in script.commands(cli)
        if not context.command.epilog and not hasattr(context.command, "commands")
    ]
    assert no_example == []


@pytest.mark.parametrize("kind", ["underlay", "fabric", "cluster", "cni"])
def test_each_part_has_its_paragraph(kind: parts.Kind) -> None:
    told = set(re.findall(r"\*\*([\w.-]+)\*\*", (DOCS / "parts.md").read_text()))
    assert [name for name in parts.names(kind) if name not in told] == []


def test_each_proxy_mode_has_its_paragraphs() -> None:
    told = set(re.findall(r"\*\*([\w.-]+)\*\*", (DOCS / "parts.md").read_text()))
    headings = _anchors(DOCS / "services.md")
    assert [mode for mode in MODES if mode not in told or mode not in headings] == []
    assert sorted(parts.names("proxy")) == sorted(MODES)


def test_each_experiment_has_its_paragraph() -> None:
    told = set(re.findall(r"`experiments/(\w+)\.py`", (DOCS / "reproducing.md").read_text()))
    assert told == set(parts.names("experiment"))


def test_each_published_figure_is_on_the_page() -> None:
    page = (DOCS / "reproducing.md").read_text()
    lacking = [
        name
        for name in parts.names("experiment")
        if not str(parts.load("experiment", name).REPRODUCES).startswith("nothing published")
        and f"`experiments/{name}.py`" not in page.split("## Nothing published")[0]
    ]
    assert lacking == []


def test_what_is_quoted_of_the_cni_script_is_in_it() -> None:
    page = (DOCS / "cni-script.md").read_text()
    script = (ROOT / "cni_scripts" / "bash-bridge").read_text()
    whole = script + "".join(path.read_text() for path in (ROOT / "cni_scripts").glob("*") if path.is_file())
    blocks = [each for each in re.findall(r"^ *```bash\n(.*?)^ *```$", page, re.M | re.S) if not each.startswith("#!")]
    quoted = [line.strip() for block in blocks for line in block.splitlines()]
    assert len(quoted) > 5
    assert [line for line in quoted if line not in script] == []
    named = set(re.findall(r"`((?:bridge|host_local|ipam|conf|cni|json)_\w+)`", page))
    assert len(named) > 20
    assert sorted(name for name in named if not re.search(rf"^{name}\(\)", whole, re.MULTILINE)) == []


def test_the_scripts_parts_are_told_in_their_order() -> None:
    page = (DOCS / "cni-script.md").read_text().split("## The script, part by part")[1]
    script = (ROOT / "cni_scripts" / "bash-bridge").read_text()
    order = ["bridge_pipe", "bridge_early", "bridge_add", "bridge_configuration", "bridge_del",
             "bridge_masq_names", "bridge_undo", "bridge_gc", "bridge_serve"]  # fmt: skip
    told = [page.index(f"`{name}`") for name in order]
    written = [re.search(rf"^{name}\(\)", script, re.MULTILINE) for name in order]
    assert told == sorted(told)
    assert [each.start() for each in written if each] == sorted(each.start() for each in written if each)
    assert all(written)


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    version = re.search(r'^__version__ = "(.+)"$', (ROOT / "mininetes/__init__.py").read_text(), re.MULTILINE)
    assert version is not None
    assert (citation["cff-version"], citation["version"]) == ("1.2.0", version.group(1))


def test_no_file_is_there_that_nothing_names() -> None:
    """By its name, or without its ending, in another file. Tests and golden files are found by folder."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
    files = [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]
    texts = {path: path.read_text(errors="replace") for path in files if path.stat().st_size < 2_000_000}
    words = {path: set(re.findall(r"[\w.-]+", text)) | set(re.findall(r"\w+", text)) for path, text in texts.items()}
    unnamed = [
        str(path.relative_to(ROOT))
        for path in files
        if path.name not in _NAMED_BY_TOOLS
        and not path.name.startswith(("test_", "."))
        and not path.is_relative_to(ROOT / "tests" / "golden")
        and not any({path.name, path.stem} & words[other] for other in words if other != path)
    ]
    assert unnamed == []


def _paragraph(name: str) -> str:
    """What docs/parts.md says of a part: the item of a list that begins with its name."""
    found = re.search(rf"^- \*\*{re.escape(name)}\*\*.*?(?=\n- |\n\n)", (DOCS / "parts.md").read_text(), re.M | re.S)
    assert found, name
    return found.group()


def _parameters(kind: parts.Kind, name: str) -> dict[str, object]:
    """A part's own parameters with their defaults, as its function takes them."""
    module = parts.load(kind, name)
    takes = module.plan if kind == "fabric" else next(iter(module.topos.values())).build
    given = ("self", "view", "nodes", "network", "gateway")
    return {key: each.default for key, each in inspect.signature(takes).parameters.items() if key not in given}


@pytest.mark.parametrize(
    ("kind", "name"),
    [pytest.param(kind, name, id=name) for kind in ("underlay", "fabric") for name in parts.names(kind)],  # type: ignore[arg-type]
)
def test_each_parts_paragraph_has_its_parameters_and_no_others(kind: parts.Kind, name: str) -> None:
    text = _paragraph(name).partition("Parameter")[2]
    wanted = _parameters(kind, name)
    assert [key for key in wanted if f"`{key}`" not in text] == []
    shown = dict(re.findall(r"`(\w+)`\s+\(([\w.]+)", text))
    assert shown == {key: str(value).lower() for key, value in wanted.items() if value is not None}
    assert set(re.findall(r"`([a-zA-Z]+)`", text)) <= set(wanted)


def test_no_file_names_a_package_registrys_host() -> None:
    hosts = [".".join(words) for words in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("ghcr", "io"))]
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
    names = [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]
    texts = {name: (ROOT / name).read_text(errors="replace") for name in names}
    assert [(name, word) for name, text in texts.items() for word in hosts if word in text] == []
