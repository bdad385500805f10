"""`mininetes new`: what is written, and what is refused before anything is."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from mininetes import parts
from mininetes.cli.main import cli
from mininetes.cli.new import make
from mininetes.errors import BadInput
from mininetes.spec import describe, read_cluster_file
from mininetes.testbed.blueprint import draw

FOLDERS = {"topologies", "cni_scripts", "proxy_rules", "experiments", "tests"}


def test_all_four_folders_and_no_place_holder_is_left(tmp_path: Path) -> None:
    files = make(tmp_path / "paper")
    assert {file.split("/")[0] for file in files if "/" in file} == FOLDERS
    assert {"Makefile", "README.md", ".gitignore", "pytest.ini"} <= set(files)
    written = sorted(str(f.relative_to(tmp_path / "paper")) for f in (tmp_path / "paper").rglob("*") if f.is_file())
    assert written == files
    for file in files:
        text = (tmp_path / "paper" / file).read_text()
        assert "@NAME@" not in text
        assert "@VERSION@" not in text
    assert (tmp_path / "paper" / "README.md").read_text().startswith("# paper\n")


def test_its_parts_are_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "paper")
    monkeypatch.setattr(parts, "_extra", [tmp_path / "paper"])
    assert parts.find("fabric", "direct").module().__doc__
    assert parts.find("experiment", "first").module().REPRODUCES
    name, spec = read_cluster_file(parts.find("cluster", "two-nodes").path)
    assert len(draw(describe({**spec, "fabric": "direct"}, name)).spec.nodes) == 2
    assert json.loads(parts.find("cni", "small-packets.conflist").path.read_text())["plugins"]
    for file in (tmp_path / "paper").rglob("*.py"):
        imported = {each.module for each in ast.walk(ast.parse(file.read_text())) if isinstance(each, ast.ImportFrom)}
        assert imported <= {"mininetes.api"}
    assert yaml.safe_load((tmp_path / "paper" / "topologies" / "clusters" / "two-nodes.yaml").read_text())


def test_an_empty_folder_will_do_and_a_name_can_be_given(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    make(tmp_path / "empty", "Tunnels-2")
    assert (tmp_path / "empty" / "README.md").read_text().startswith("# Tunnels-2\n")


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/b", "ä", "a\n", "a" * 65, "$(x)"])
def test_names_that_cannot_be_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match=r"--name"):
        make(tmp_path / "x", name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(BadInput, match="a folder that is empty: this one has files"):
        make(tmp_path, "name")
    with pytest.raises(BadInput, match="a folder that is empty, or one that does not exist yet"):
        make(tmp_path / "mine")
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]


def test_the_command_as_json(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["new", str(tmp_path / "paper"), "-o", "json"])
    assert done.exit_code == 0
    assert "experiments/first.py" in json.loads(done.output)["files"]
