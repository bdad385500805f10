"""The resolver of parts: by name, by path, `--parts` folders first, and errors that list what there is."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mininetes import parts
from mininetes.errors import BadInput

ROOT = Path(__file__).parents[2]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """A researcher's repository with folders of the same names."""
    for folder in ("topologies/fabrics", "topologies/underlays", "cni_scripts", "experiments"):
        (tmp_path / folder).mkdir(parents=True)
    parts.use([tmp_path])
    yield tmp_path
    parts.use([])


def test_the_built_in_parts_are_found_by_name() -> None:
    assert {"none", "static"} <= set(parts.names("fabric"))
    assert {"leaf_spine", "racks", "single_switch", "three_node"} <= set(parts.names("underlay"))
    assert "three-node" in parts.names("cluster")
    assert "quickstart" in parts.names("experiment")
    assert parts.find("fabric", "static").path == ROOT / "topologies/fabrics/static.py"


def test_names_of_all_kinds_can_be_found() -> None:
    for kind in ("underlay", "fabric", "cluster", "cni", "experiment"):
        for name in parts.names(kind):  # type: ignore[arg-type]
            assert parts.find(kind, name).path.is_file()  # type: ignore[arg-type]


def test_a_cni_configuration_is_called_by_its_whole_name_or_without_its_ending(own: Path) -> None:
    path = own / "cni_scripts" / "mine.conflist"
    path.write_text("{}")
    assert "mine.conflist" in parts.names("cni")
    assert parts.find("cni", "mine.conflist").path == path
    assert parts.find("cni", "mine").path == path


def test_a_cni_configuration_goes_before_the_plugin_of_its_name(own: Path) -> None:
    assert parts.find("cni", "bash-bridge").path.name == "bash-bridge.conflist"
    (own / "cni_scripts" / "bash-bridge").write_text("#!/bin/bash\n")
    assert parts.find("cni", "bash-bridge").path == ROOT / "cni_scripts/bash-bridge.conflist"


def test_a_plugin_without_a_cni_configuration_is_said_to_be_one(own: Path) -> None:
    plugin = own / "cni_scripts" / "alone"
    plugin.write_text("#!/bin/bash\n")
    right = r"a configuration \(a plugin is there, and no alone\.conflist\), or one of: bash-bridge\.conflist, "
    with pytest.raises(BadInput, match=rf"^spec\.cni: 'alone' is not valid: {right}"):
        parts.find("cni", "alone", "spec.cni")
    with pytest.raises(BadInput, match=r"^spec\.cni: '.*/alone' is not valid: a configuration, whose name ends in \."):
        parts.find("cni", str(plugin), "spec.cni")


def test_a_name_is_one_wherever_a_file_is_so_called(tmp_path: Path) -> None:
    for name in ("bash-bridge", "mine.conflist"):
        (tmp_path / name).touch()
    assert parts.absolute("bash-bridge", tmp_path) == "bash-bridge"
    assert parts.absolute("mine.conflist", tmp_path) == str(tmp_path / "mine.conflist")
    assert parts.absolute_program("bash-bridge", tmp_path) == str(tmp_path / "bash-bridge")
    assert parts.absolute_program("not-here", tmp_path) == "not-here"


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "special.py"
    path.write_text("CONNECTS_NODES = True\n")
    found = parts.find("fabric", str(path))
    assert (found.name, found.path) == ("special", path)
    assert found.module().CONNECTS_NODES is True


def test_own_folders_go_first(own: Path) -> None:
    (own / "topologies/fabrics/static.py").write_text("MINE = 1\n")
    assert parts.find("fabric", "static").path == own / "topologies/fabrics/static.py"
    assert parts.load("fabric", "static").MINE == 1
    assert parts.find("fabric", "none").path == ROOT / "topologies/fabrics/none.py"


def test_of_several_own_folders_the_first_counts(own: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    for folder in (own, other):
        (folder / "topologies/fabrics").mkdir(parents=True, exist_ok=True)
        (folder / "topologies/fabrics/both.py").write_text("")
    parts.use([other, own])
    assert parts.find("fabric", "both").path == other / "topologies/fabrics/both.py"


def test_own_parts_are_listed_with_the_built_in_ones_and_private_files_are_not(own: Path) -> None:
    (own / "topologies/fabrics/mine.py").write_text("")
    (own / "topologies/fabrics/_shared.py").write_text("")
    assert {"mine", "none", "static"} <= set(parts.names("fabric"))
    assert "_shared" not in parts.names("fabric")


@pytest.mark.parametrize("kind", ["underlay", "fabric", "cluster", "experiment"])
def test_an_unknown_name_lists_those_there_are(kind: parts.Kind) -> None:
    with pytest.raises(BadInput) as caught:
        parts.find(kind, "nonsense")
    text = str(caught.value)
    assert text.startswith(f"{kind}: 'nonsense'")
    assert ", ".join(parts.names(kind)) in text


@pytest.mark.parametrize("path", ["./nothing.py", "/nothing/there.py"])
def test_a_path_to_nothing_lists_the_names_too(path: str) -> None:
    with pytest.raises(BadInput, match="static"):
        parts.find("fabric", path)


def test_a_parts_folder_must_be_there() -> None:
    with pytest.raises(BadInput, match=r"--parts.*/nothing/there.*a folder"):
        parts.use([Path("/nothing/there")])


def test_of_a_labs_folders_those_that_are_gone_are_left_out_unless_the_lab_was_made_of_them(own: Path) -> None:
    there, gone = own / "there", own / "gone"
    there.mkdir()
    parts.use_of_lab("lab1", [str(gone), str(there)], [str(ROOT / "topologies/fabrics/static.py")])
    assert parts.used() == [own, there]
    with pytest.raises(BadInput, match=r"^lab lab1: '.*/gone/mine\.py' is not valid: a file that is still there"):
        parts.use_of_lab("lab1", [str(gone)], [str(gone / "mine.py")])


def test_the_hash_is_that_of_the_file(own: Path) -> None:
    path = own / "topologies/fabrics/mine.py"
    path.write_text("A = 1\n")
    first = parts.find("fabric", "mine").sha256
    assert first == hashlib.sha256(b"A = 1\n").hexdigest()
    path.write_text("A = 2\n")
    assert parts.find("fabric", "mine").sha256 != first


@pytest.mark.parametrize(("text", "why"), [("def plan(:", "SyntaxError"), ("import nonsense_x", "nonsense_x")])
def test_a_part_that_cannot_be_imported_says_why_in_one_line(own: Path, text: str, why: str) -> None:
    path = own / "topologies/fabrics/broken.py"
    path.write_text(text + "\n")
    with pytest.raises(BadInput) as caught:
        parts.load("fabric", "broken")
    assert str(path) in str(caught.value)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_was_changed_within_the_second_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "mine.py"
    for number in (1, 2, 3):
        file.write_text(f"NUMBER = {number}\n")
        assert number == parts.load("experiment", str(file)).NUMBER
