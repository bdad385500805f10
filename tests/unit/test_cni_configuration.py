"""Network configurations as libcni reads them, and their templates."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from mininetes import parts
from mininetes.agents.cni.conf_dir import ConfDir, first_of
from mininetes.agents.cni.configuration import VERSIONS, NetworkConfiguration, fill_in
from mininetes.agents.cni.installation import check, find_plugins
from mininetes.agents.cni.plugin_values import kernel_features
from mininetes.errors import BadInput, MissingFeature
from mininetes.kernel import features
from mininetes.spec import describe
from mininetes.testbed import preflight
from mininetes.testbed.blueprint import draw
from mininetes.testbed.cni_check.subject import find

ROOT = Path(__file__).parents[2]
BRIDGE = {"type": "bridge", "bridge": "cni0", "ipam": {"type": "host-local", "subnet": "10.244.1.0/24"}}
ONE = {"cniVersion": "1.0.0", "name": "pods", **BRIDGE}
LIST = {"cniVersion": "1.0.0", "name": "pods", "plugins": [BRIDGE, {"type": "portmap"}]}


def parse(content: object) -> NetworkConfiguration:
    return NetworkConfiguration.parse(content if isinstance(content, str) else json.dumps(content), "10-x.conflist")


# --- reading ------------------------------------------------------------------------------------------------------


def test_a_list_has_its_plugins_in_order() -> None:
    found = parse(LIST)
    assert (found.name, found.cni_version) == ("pods", "1.0.0")
    assert [plugin["type"] for plugin in found.plugins] == ["bridge", "portmap"]
    assert found.types == ["bridge", "host-local", "portmap"]


def test_a_single_configuration_is_a_list_of_one() -> None:
    found = parse(ONE)
    assert len(found.plugins) == 1
    assert found.plugins[0]["bridge"] == "cni0"
    assert (found.name, found.types) == ("pods", ["bridge", "host-local"])


def test_options_of_a_plugin_go_through_as_they_are() -> None:
    found = parse({**LIST, "plugins": [{**BRIDGE, "mtu": 1400, "x": {"y": [1, None]}}]})
    assert found.plugins[0]["mtu"] == 1400
    assert found.plugins[0]["x"] == {"y": [1, None]}


def test_a_configuration_goes_through_json_and_comes_back() -> None:
    found = parse(LIST)
    assert parse(found.to_json()) == found


@pytest.mark.parametrize("version", VERSIONS)
def test_versions_that_there_are(version: str) -> None:
    assert parse({**LIST, "cniVersion": version}).cni_version == version


@pytest.mark.parametrize(("said", "disabled"), [(True, True), ("true", True), (False, False), ("false", False)])
def test_check_can_be_disabled_as_a_word_too(said: object, disabled: bool) -> None:
    assert parse({**LIST, "disableCheck": said}).disable_check is disabled


@pytest.mark.parametrize("flag", ["disableCheck", "disableGC", "loadOnlyInlinedPlugins"])
def test_flags_are_kept_and_may_be_words_in_any_case(flag: str) -> None:
    found = parse({**LIST, flag: "True"})
    assert [found.disable_check, found.disable_gc, found.only_inlined].count(True) == 1
    assert found.to_json()[flag] is True
    assert parse(found.to_json()) == found


@pytest.mark.parametrize(
    ("content", "versions"),
    [
        ({"cniVersion": "1.0.0"}, ("1.0.0",)),
        ({"cniVersion": "1.0.0", "cniVersions": ["1.1.0", "0.4.0"]}, ("0.4.0", "1.0.0", "1.1.0")),
        ({"cniVersion": "1.1.0", "cniVersions": ["1.0.0", "7.0.0"]}, ("1.0.0", "1.1.0")),
        ({"cniVersion": "7.0.0", "cniVersions": ["1.0.0"]}, ("1.0.0",)),
        ({"cniVersion": None, "cniVersions": ["1.0.0"]}, ("1.0.0",)),
    ],
)
def test_of_several_versions_those_that_are_known(content: dict[str, Any], versions: tuple[str, ...]) -> None:
    found = parse({k: v for k, v in {**LIST, **content}.items() if v is not None})
    assert (found.cni_versions, found.cni_version) == (versions, versions[-1])
    assert found.at("1.0.0").cni_versions == ("1.0.0",)
    assert parse(found.to_json()) == found


BROKEN: dict[str, tuple[object, list[str]]] = {
    "no JSON": ('{"cni', ["not JSON", "line 1"]),
    "empty": ("", ["not JSON"]),
    "a list": ("[]", ["JSON object"]),
    "a word": ('"bridge"', ["JSON object"]),
    "no name": ({**LIST, "name": None}, ["name"]),
    "a name that is none": ({**LIST, "name": "a/b"}, ["name", "a/b"]),
    "a name that is a number": ({**LIST, "name": 5}, ["name", "5"]),
    "a version of the future": ({**LIST, "cniVersion": "9.0.0"}, ["cniVersion", "9.0.0", "1.0.0"]),
    "a version that is a number": ({**LIST, "cniVersion": 1}, ["cniVersion", "1"]),
    "a version that is a list": ({**LIST, "cniVersion": ["1.0.0"]}, ["cniVersion"]),
    "versions that are no list": ({**LIST, "cniVersions": "1.0.0"}, ["cniVersions", "1.0.0"]),
    "a version in a list that is none": ({**LIST, "cniVersions": ["1.0.0", "new"]}, ["cniVersions[1]", "new"]),
    "versions of the future alone": (
        {**LIST, "cniVersion": "8.0.0", "cniVersions": ["9.0.0"]},
        ["cniVersions", "9.0.0", "1.1.0"],
    ),
    "a flag that is none": ({**LIST, "disableCheck": "maybe"}, ["disableCheck", "maybe", "true or false"]),
    "a flag that is a number": ({**LIST, "disableGC": 1}, ["disableGC", "1"]),
    "capabilities that are a list": (
        {**LIST, "plugins": [{"type": "x", "capabilities": ["mac"]}]},
        ["plugins[0].capabilities", "mac"],
    ),
    "neither type nor plugins": ({"cniVersion": "1.0.0", "name": "x"}, ["plugins"]),
    "no plugins": ({**LIST, "plugins": []}, ["plugins", "at least one"]),
    "plugins as an object": ({**LIST, "plugins": {}}, ["plugins", "list"]),
    "a plugin without a type": ({**LIST, "plugins": [{}]}, ["plugins[0].type"]),
    "a plugin that is a word": ({**LIST, "plugins": [BRIDGE, "portmap"]}, ["plugins[1].type"]),
    "a type with a path": ({**LIST, "plugins": [{"type": "../sh"}]}, ["plugins[0].type", "../sh", "path"]),
    "an empty type": ({**LIST, "plugins": [{"type": ""}]}, ["plugins[0].type"]),
    "ipam as a word": ({**LIST, "plugins": [{"type": "x", "ipam": "host-local"}]}, ["plugins[0].ipam", "host-local"]),
    "ipam without a type": ({**LIST, "plugins": [{"type": "x", "ipam": {"a": 1}}]}, ["plugins[0].ipam", "type"]),
    "ipam with a path": ({**LIST, "plugins": [{"type": "x", "ipam": {"type": "../sh"}}]}, ["ipam", "../sh"]),
}


@pytest.mark.parametrize(("content", "words"), BROKEN.values(), ids=list(BROKEN))
def test_broken_ones_are_refused_naming_file_and_field(content: object, words: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        parse(content)
    assert caught.value.exit_status == 2
    text = str(caught.value)
    assert text.startswith("10-x.conflist")
    assert [word for word in words if word not in text] == [], text
    assert "\n" not in text


# --- which of several ---------------------------------------------------------------------------------------------


def put(folder: Path, **named: Any) -> None:
    for name, content in named.items():
        (folder / name.replace("__", ".").replace("_", "-")).write_text(json.dumps(content))


@pytest.mark.parametrize("ending", ["conf", "conflist", "json"])
def test_all_three_endings_are_read(tmp_path: Path, ending: str) -> None:
    put(tmp_path, **{f"10_x__{ending}": LIST if ending == "conflist" else ONE})
    assert first_of(str(tmp_path)).name == "pods"


def test_the_first_by_file_name_counts_whatever_its_ending(tmp_path: Path) -> None:
    put(tmp_path, **{"20_b__conflist": {**LIST, "name": "second"}, "10_z__json": {**ONE, "name": "first"}})
    assert first_of(str(tmp_path)).name == "first"
    put(tmp_path, **{"05_a__conf": {**ONE, "name": "earliest"}})
    assert first_of(str(tmp_path)).name == "earliest"


def test_other_files_are_not_looked_at(tmp_path: Path) -> None:
    for name in ("00-x.conflist.bak", "00-x.conflist~", "00-README", "00-x.yaml"):
        (tmp_path / name).write_text("not JSON")
    put(tmp_path, **{"10_x__conflist": LIST})
    assert first_of(str(tmp_path)).name == "pods"


def test_plugins_of_files_of_their_own_come_after_those_of_the_list(tmp_path: Path) -> None:
    put(tmp_path, **{"10-x.conflist": LIST})
    folder = tmp_path / "pods"
    folder.mkdir()
    put(folder, **{"20-b.conf": {"type": "tuning"}, "10-a.conf": {"type": "firewall"}, "30-c.json": {"type": "no"}})
    assert [each["type"] for each in first_of(str(tmp_path)).plugins] == ["bridge", "portmap", "firewall", "tuning"]
    put(tmp_path, **{"10-x.conflist": {**LIST, "loadOnlyInlinedPlugins": True}})
    assert [each["type"] for each in first_of(str(tmp_path)).plugins] == ["bridge", "portmap"]
    put(tmp_path, **{"10-x.conflist": {"cniVersion": "1.0.0", "name": "pods"}})
    assert [each["type"] for each in first_of(str(tmp_path)).plugins] == ["firewall", "tuning"]
    put(folder, **{"20-b.conf": {"no": "type"}})
    with pytest.raises(BadInput, match=r"pods/20-b\.conf"):
        first_of(str(tmp_path))


def test_folders_are_no_configurations(tmp_path: Path) -> None:
    put(tmp_path, **{"10-x.conflist": LIST})
    (tmp_path / "00-a.conf").mkdir()
    assert first_of(str(tmp_path)).name == "pods"


def test_an_empty_conf_dir_is_an_error_that_names_the_endings(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"\.conf, \.conflist, \.json"):
        first_of(str(tmp_path))


def test_a_broken_first_file_is_named_as_the_node_knows_it(tmp_path: Path) -> None:
    (tmp_path / "10-x.conf").write_text("{")
    with pytest.raises(BadInput, match=r"^/etc/cni/net\.d/10-x\.conf: not JSON"):
        first_of(str(tmp_path))


# --- templates ----------------------------------------------------------------------------------------------------

VALUES = {"POD_CIDR": "10.244.1.0/24", "NODE_NAME": "node1"}


def test_placeholders_are_filled_in_wherever_a_string_is() -> None:
    text = fill_in('{"a": "$POD_CIDR", "b": [{"c": "x-${NODE_NAME}-y", "n": 1, "t": true, "o": null}]}', VALUES, "t")
    assert json.loads(text) == {"a": "10.244.1.0/24", "b": [{"c": "x-node1-y", "n": 1, "t": True, "o": None}]}


def test_without_placeholders_nothing_changes() -> None:
    assert json.loads(fill_in(json.dumps(LIST), VALUES, "t")) == LIST


def test_two_dollars_are_one() -> None:
    assert json.loads(fill_in('{"a": "$$POD_CIDR"}', VALUES, "t")) == {"a": "$POD_CIDR"}


def test_an_unknown_placeholder_is_named_with_those_there_are() -> None:
    with pytest.raises(BadInput) as caught:
        fill_in('{"a": "$POD_CIRD"}', VALUES, "mine.conflist")
    text = str(caught.value)
    assert "mine.conflist" in text
    assert "$POD_CIRD" in text
    assert "$NODE_NAME, $POD_CIDR" in text


def test_a_dollar_that_is_no_placeholder_is_named_and_not_called_bad_json() -> None:
    with pytest.raises(BadInput) as caught:
        fill_in('{"a": "costs 5 $"}', VALUES, "mine.conflist")
    assert "not JSON" not in str(caught.value)
    assert "$" in str(caught.value)


def test_a_template_that_is_no_json_is_called_so() -> None:
    with pytest.raises(BadInput, match=r"mine\.conflist: not JSON"):
        fill_in("{", VALUES, "mine.conflist")


# --- plugins' executables -----------------------------------------------------------------------------------------


def test_own_plugins_are_found_before_the_reference_ones(tmp_path: Path) -> None:
    for name, mode in (("bridge", 0o755), ("mine", 0o755), ("README", 0o644), ("shared.bash", 0o644)):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(mode)
    found = find_plugins([tmp_path])
    assert found["bridge"] == tmp_path / "bridge"
    assert found["mine"] == tmp_path / "mine"
    assert found["shared.bash"] == tmp_path / "shared.bash"
    assert "README" not in found
    assert found["host-local"].parent != tmp_path


def test_folders_that_are_not_there_are_no_error() -> None:
    assert "bridge" in find_plugins([Path("/nothing/there")])


def test_a_missing_executable_is_named_with_those_that_are_installed(tmp_path: Path) -> None:
    template = tmp_path / "mine.conflist"
    template.write_text(json.dumps(LIST))
    with pytest.raises(BadInput) as caught:
        check(template, {"bridge": tmp_path, "host-local": tmp_path, "x.bash": tmp_path})
    text = str(caught.value)
    assert "mine.conflist" in text
    assert "'portmap'" in text
    assert "bridge, host-local" in text
    assert "x.bash" not in text


def test_a_plugin_that_is_there_and_cannot_be_executed_is_said_to_be_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my" / "cni_scripts"
    folder.mkdir(parents=True)
    (folder / "low-ttl").write_text("#!/bin/sh\n")
    (folder / "low.conflist").write_text(json.dumps({**LIST, "plugins": [BRIDGE, {"type": "low-ttl"}]}))
    monkeypatch.chdir(tmp_path)
    parts.use([Path("my")])
    try:
        for call in (lambda: draw(describe({"cni": "low.conflist"})), lambda: find("low.conflist", None)):
            with pytest.raises(BadInput, match=r"'low-ttl' .*cni_scripts/low-ttl is not executable: chmod \+x .*ttl$"):
                call()
    finally:
        parts.use([])
    with pytest.raises(BadInput, match=r"'low-ttl' .*low-ttl is not executable: chmod"):
        find(str(folder / "low.conflist"), None)
    (folder / "low-ttl").unlink()
    with pytest.raises(BadInput, match=r"'low-ttl' .*a plugin that is installed: "):
        find(str(folder / "low.conflist"), None)


def speaker(folder: Path, name: str, versions: str) -> Path:
    """A plugin that knows VERSION, and no more."""
    path = folder / name
    path.write_text(f'#!/bin/sh\necho \'{{"cniVersion": "1.0.0", "supportedVersions": {versions}}}\'\n')
    path.chmod(0o755)
    return path


def test_a_version_that_not_all_plugins_speak_is_refused_with_what_each_speaks(tmp_path: Path) -> None:
    plugins = {
        "bridge": speaker(tmp_path, "bridge", '["1.0.0", "1.1.0"]'),
        "host-local": speaker(tmp_path, "host-local", '["1.0.0"]'),
        "portmap": speaker(tmp_path, "portmap", '["0.4.0", "1.0.0"]'),
    }
    template = tmp_path / "mine.conflist"
    template.write_text(json.dumps({**LIST, "cniVersion": "1.1.0"}))
    with pytest.raises(BadInput, match=r"mine\.conflist: cniVersion: '1\.1\.0'.*portmap speaks 0\.4\.0, 1\.0\.0"):
        check(template, plugins)
    template.write_text(json.dumps({**LIST, "cniVersion": "1.1.0", "cniVersions": ["1.0.0", "0.4.0"]}))
    assert check(template, plugins).cni_version == "1.0.0"


@pytest.mark.parametrize("said", ["", "nonsense", "{}", '{"supportedVersions": []}', '{"supportedVersions": [1]}'])
def test_a_plugin_that_does_not_say_its_version_is_named(tmp_path: Path, said: str) -> None:
    plugin = tmp_path / "mine"
    plugin.write_text(f"#!/bin/sh\necho '{said}'\n")
    plugin.chmod(0o755)
    template = tmp_path / "mine.conflist"
    template.write_text(json.dumps({"cniVersion": "1.0.0", "name": "x", "type": "mine"}))
    with pytest.raises(BadInput, match=r"mine does not answer VERSION"):
        check(template, {"mine": plugin})


@pytest.mark.parametrize("mtu", [67, -1, 65536, "1500", 1400.5, True])
def test_an_mtu_that_no_link_can_have_is_named(tmp_path: Path, mtu: object) -> None:
    template = tmp_path / "mine.conflist"
    template.write_text(json.dumps({**LIST, "plugins": [{"type": "tuning"}, {**BRIDGE, "mtu": mtu}]}))
    with pytest.raises(BadInput, match=r"mine\.conflist: plugins\[1\]\.mtu: .*68 to 65535"):
        check(template, find_plugins([]))


@pytest.mark.parametrize(
    ("plugin", "field", "right"),
    [
        ({"type": "bash-bridge", "bridge": "averyveryverylongname"}, "bridge", "1 to 15 characters"),
        ({"type": "bridge", "bridge": "a/b"}, "bridge", "no '/'"),
        ({"type": "bash-bridge", "isGateway": "yes"}, "isGateway", "true or false"),
        ({"type": "bash-macvlan", "mode": "l2"}, "mode", "one of bridge, private, vepa, passthru"),
        ({"type": "bash-ipvlan", "mode": 2}, "mode", "one of l2, l3, l3s"),
        ({"type": "bash-ipvlan", "master": ["eth0"]}, "master", "an interface's name"),
        ({"type": "portmap", "snat": 1}, "snat", "true or false"),
    ],
)
def test_a_value_that_a_known_plugin_refuses_is_named(
    tmp_path: Path, plugin: dict[str, Any], field: str, right: str
) -> None:
    template = tmp_path / "mine.conflist"
    template.write_text(json.dumps({**LIST, "plugins": [{"type": "tuning"}, plugin]}))
    with pytest.raises(BadInput, match=rf"mine\.conflist: plugins\[1\]\.{field}: .*{right}"):
        check(template, find_plugins([ROOT / "cni_scripts"]))


def test_what_a_plugin_needs_of_the_kernel_is_known_beforehand() -> None:
    plugins = find_plugins([ROOT / "cni_scripts"])
    needed = {path.stem: kernel_features(check(path, plugins)) for path in (ROOT / "cni_scripts").glob("*.conflist")}
    assert {name: found for name, found in needed.items() if found} == {
        "bash-macvlan": {"macvlan"}, "bash-ipvlan": {"ipvlan"},
    }  # fmt: skip


def test_a_cluster_whose_plugins_lack_something_is_refused_before_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks_ipvlan(names: set[str]) -> None:
        if "ipvlan" in names:
            raise MissingFeature("ipvlan", "pods", "another kernel")

    monkeypatch.setattr(features, "require", lacks_ipvlan)
    preflight.checked(describe({"cni": "bash-macvlan.conflist"}))
    with pytest.raises(MissingFeature, match="ipvlan is missing"):
        preflight.checked(describe({"cni": "bash-ipvlan.conflist"}))


@pytest.mark.parametrize("path", sorted((ROOT / "cni_scripts").glob("*.conflist")), ids=lambda path: path.name)
def test_every_shipped_configuration_is_valid_and_its_plugins_are_there(path: Path) -> None:
    assert check(path, find_plugins([ROOT / "cni_scripts"])).plugins


def test_the_configurations_that_the_documents_name_are_shipped() -> None:
    shipped = {path.name for path in (ROOT / "cni_scripts").glob("*.conflist")}
    named = ("bash-bridge", "bridge", "weave", "bash-macvlan", "bash-ipvlan", "chained")
    assert {f"{name}.conflist" for name in named} <= shipped


def test_the_shipped_configurations_speak_the_newest_version_where_their_plugins_do() -> None:
    plugins = find_plugins([ROOT / "cni_scripts"])
    spoken = {path.stem: check(path, plugins).cni_version for path in (ROOT / "cni_scripts").glob("*.conflist")}
    ours = dict.fromkeys(("bash-bridge", "weave", "bash-macvlan", "bash-ipvlan"), "1.1.0")
    asked = {"CNI_COMMAND": "VERSION"}
    said = subprocess.run([plugins["bridge"]], input=b"", env=asked, capture_output=True, check=True, timeout=20)
    theirs = "1.0.0" if "1.0.0" in json.loads(said.stdout)["supportedVersions"] else "0.4.0"  # as Ubuntu 22.04's
    assert spoken == {**ours, "bridge": theirs, "chained": theirs}


# --- read again when a file has changed ---------------------------------------------------------------------------


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second has gone by since the files were touched, or so it seems."""
    now = time.time_ns
    monkeypatch.setattr("mininetes.agents.cni.conf_dir.time.time_ns", lambda: now() + 10**9)


@pytest.mark.usefixtures("later")
def test_what_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    put(tmp_path, **{"10_x__conflist": LIST})
    conf_dir = ConfDir(str(tmp_path))
    first = conf_dir.first()
    assert conf_dir.first() is first
    assert conf_dir.at(first, "1.0.0") is conf_dir.at(first, "1.0.0")


@pytest.mark.parametrize(
    "how", ["written", "written with its old time", "replaced", "an earlier one", "taken away", "beside it"]
)
def test_what_has_changed_is_read_again(tmp_path: Path, how: str) -> None:
    put(tmp_path, **{"20_x__conflist": LIST, "30_y__conflist": {**LIST, "name": "later"}})
    conf_dir = ConfDir(str(tmp_path))
    before = conf_dir.first()
    if how == "written":
        put(tmp_path, **{"20_x__conflist": {**LIST, "name": "dops"}})
    elif how == "written with its old time":
        path = tmp_path / "20-x.conflist"
        stat = path.stat()
        path.write_text(path.read_text().replace("pods", "dops"))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    elif how == "replaced":
        put(tmp_path, new={**LIST, "name": "dops"})
        (tmp_path / "new").rename(tmp_path / "20-x.conflist")
    elif how == "an earlier one":
        put(tmp_path, **{"10_x__conflist": {**LIST, "name": "dops"}})
    elif how == "taken away":
        (tmp_path / "20-x.conflist").unlink()
    else:
        (tmp_path / "pods").mkdir()
        put(tmp_path / "pods", **{"10_x__conf": {"type": "tuning"}})
    assert conf_dir.first() != before
    assert conf_dir.first() == first_of(str(tmp_path))


def test_a_file_written_twice_in_one_tick_is_read_twice(tmp_path: Path) -> None:
    conf_dir = ConfDir(str(tmp_path))
    for name in ("one", "two", "six"):
        put(tmp_path, **{"10_x__conflist": {**LIST, "name": name}})
        assert conf_dir.first().name == name


def test_a_link_to_nowhere_disturbs_nobody(tmp_path: Path) -> None:
    put(tmp_path, **{"10_x__conflist": LIST})
    (tmp_path / "20-gone.conflist").symlink_to("nowhere")
    assert ConfDir(str(tmp_path)).first().name == "pods"
