"""A proxy mode of one's own, from a file of a new name: found, like what it says it is like, and used as the others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from mininetes import parts
from mininetes.agents.kubeproxy.compiling import compiled, compiler, mode_like, mode_title
from mininetes.agents.kubeproxy.configuration import MODES
from mininetes.agents.kubeproxy.objects import Objects
from mininetes.cli.main import cli
from mininetes.cli.options import description
from mininetes.cli.rules_difference import Rules, use_parts_of
from mininetes.cli.truth_table import _modes
from mininetes.errors import BadInput, MininetesError
from mininetes.lab.state import LabState
from mininetes.spec import describe
from mininetes.testbed import proxying, truth
from mininetes.testbed.blueprint import draw
from mininetes.testbed.preflight import engine_config

NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "node1"},
    "status": {"addresses": [{"type": "InternalIP", "address": "192.168.1.1"}]},
}
HEAD = {"apiVersion": "mininetes/v1", "kind": "Cluster"}
RULES = """
from mininetes.api import IptablesRuleset, Jump
LIKE = "iptables"
def compile_rules(view):
    return IptablesRuleset({("nat", "MINE"): ("-A MINE -j RETURN",)}, (Jump("nat", "OUTPUT", "-j MINE"),))
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """A parts folder with the mode ``mine``."""
    folder = tmp_path / "proxy_rules"
    folder.mkdir()
    (folder / "mine.py").write_text(RULES)
    parts.use([tmp_path])
    yield tmp_path
    parts.use([])


def said(*arguments: str) -> str:
    done = CliRunner().invoke(cli, arguments, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.stdout


def test_it_is_like_the_mode_that_its_file_names(own: Path) -> None:
    assert mode_like("mine") == "iptables"
    assert callable(compiler("mine"))
    assert [mode_like(mode) for mode in MODES] == list(MODES)
    path = str(own / "proxy_rules" / "mine.py")
    assert truth.known_modes(["mine", "nftables", path]) == [path, "nftables"]


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_a_mode_without_iptables_has_no_back_end_of_it(own: Path, backend: str) -> None:
    (own / "proxy_rules" / "other.py").write_text(RULES.replace('"iptables"', '"nftables"', 1))
    for proxy in ({"mode": "nftables"}, {"mode": "other"}, {"config": {"mode": "nftables"}}):
        with pytest.raises(BadInput, match=f"^spec.proxy.backend: '{backend}' .*does not use iptables"):
            draw(describe({"proxy": {**proxy, "backend": backend}}))
    for mode in ("iptables", "ipvs", "userspace", "mine"):
        draw(describe({"proxy": {"mode": mode, "backend": backend}}))


def test_a_file_in_the_place_of_one_of_kube_proxys_is_that_mode(own: Path) -> None:
    (own / "proxy_rules" / "nftables.py").write_text("LIKE = 'ipvs'\n")
    assert mode_like("nftables") == "nftables"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def compile_rules(view): ...", ["LIKE", "one of kube-proxy's modes", "iptables, nftables, ipvs, userspace"]),
        ("LIKE = 'ebpf'\ndef compile_rules(view): ...", ["LIKE: 'ebpf'", "iptables, nftables, ipvs, userspace"]),
        ("LIKE = 'ipvs'", ["other", "compile_rules(view)"]),
    ],
)
def test_what_its_file_lacks_is_said(own: Path, text: str, words: list[str]) -> None:
    (own / "proxy_rules" / "other.py").write_text(text)
    with pytest.raises(BadInput) as refused:
        draw(describe({"proxy": "other"}))
    assert [word for word in words if word not in str(refused.value)] == []


def test_a_name_that_there_is_not_is_refused_with_those_there_are(own: Path) -> None:
    with pytest.raises(BadInput, match=r"spec.proxy.mode: 'ebpf'.*iptables, nftables, ipvs, userspace, mine"):
        draw(describe({"proxy": "ebpf"}))
    with pytest.raises(BadInput, match=r"mode: 'ebpf'.*iptables, nftables, ipvs, userspace, mine"):
        truth.known_modes(["ebpf"])


def test_by_name_it_is_used_wherever_a_mode_is(own: Path, tmp_path: Path) -> None:
    blueprint = draw(describe({"proxy": "mine"}))
    assert "proxy/mine.py" in blueprint.hashes
    steps = said("--parts", str(own), "up", "--proxy", "mine", "--dry-run")
    assert "-A MINE -j RETURN" in steps
    assert "KUBE-SERVICES" not in steps
    said("--parts", str(own), "graph", "--proxy", "mine", "--out", str(tmp_path / "a.svg"))
    assert "kube-proxy mine," in (tmp_path / "a.svg").read_text()


def test_a_cluster_file_may_name_it_or_its_file(own: Path, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    for proxy in ("./proxy_rules/mine.py", {"mode": "proxy_rules/mine.py"}):
        path.write_text(yaml.safe_dump({**HEAD, "spec": {"proxy": proxy}}))
        spec = description(str(path), None)
        assert spec.proxy.mode == str(own / "proxy_rules" / "mine.py")
        assert "proxy/mine.py" in draw(spec).hashes
        assert engine_config(spec)["spec"]["proxy"]["mode"] == spec.proxy.mode
        assert mode_title(proxying.proxy_mode(spec)) == "mine"


def test_a_file_called_as_a_mode_does_not_take_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "iptables").write_text("saved rules")
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump({**HEAD, "spec": {"proxy": "iptables"}}))
    spec = description(str(path), None)
    assert spec.proxy.mode == "iptables"
    draw(spec)


def test_the_schema_with_its_folder_knows_its_name(own: Path) -> None:
    schema = json.loads(said("--parts", str(own), "validate", "--schema"))
    assert {"enum": ["iptables", "ipvs", "mine", "nftables", "userspace"]} in schema["$defs"]["ProxySpec"][
        "properties"
    ]["mode"]["anyOf"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return view.no_such['x']", r"^AttributeError: .*no_such.* \(broken\.py:4\)$"),
        ("return {}['oops']", r"^KeyError: 'oops' \(broken\.py:4\)$"),
        ("raise OSError", r"^OSError \(broken\.py:4\)$"),
        ("return IptablesRuleset({}, ())",
         r"^broken\.py: compile_rules returned IptablesRuleset, LIKE = nftables needs NftablesRuleset$"),
        ("return None", r"^broken\.py: compile_rules returned None, LIKE = nftables needs NftablesRuleset$"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_its_code_is_one_line_with_its_file(own: Path, body: str, words: str) -> None:
    imported = "from mininetes.api import IptablesRuleset\n"
    (own / "proxy_rules" / "broken.py").write_text(
        f"{imported}LIKE = 'nftables'\ndef compile_rules(view):\n    {body}\n"
    )
    (own / "objects.yaml").write_text(yaml.safe_dump_all([NODE]))
    with pytest.raises(MininetesError, match=words) as failed:
        said("--parts", str(own), "rules", "--mode", "broken", "--node", "node1", "-f", str(own / "objects.yaml"))
    assert failed.value.exit_status == 1


def test_a_file_in_the_place_of_a_mode_is_held_against_that_mode(own: Path) -> None:
    path = own / "proxy_rules" / "ipvs.py"
    path.write_text("def compile_rules(view): return 7\n")
    with pytest.raises(MininetesError, match=r"^ipvs\.py: compile_rules returned int, mode ipvs needs IpvsRuleset$"):
        compiled(Objects([], [], [NODE]), "node1", "ipvs", {})


def test_a_lab_gets_its_file_and_knows_it_by_its_name_without_the_folder(own: Path, tmp_path: Path) -> None:
    path = engine_config(describe({"proxy": "mine"}))["spec"]["proxy"]["mode"]
    assert path == str(own / "proxy_rules" / "mine.py")
    parts.use([])
    assert truth.known_modes(["mine", "iptables"], path) == [path, "iptables"]
    assert truth.known_modes(["iptables"], str(tmp_path / "iptables.py")) == ["iptables"]
    with pytest.raises(BadInput, match="mode: 'mine' is not valid"):
        truth.known_modes(["mine"], str(tmp_path / "other.py"))


def test_what_a_file_would_change_is_told_in_a_line_when_the_mode_fails(own: Path) -> None:
    (own / "proxy_rules" / "broken.py").write_text("LIKE = 'ipvs'\ndef compile_rules(view): raise OSError('no')\n")
    rules = Rules("node1", str(own / "proxy_rules" / "broken.py"), {}, [], [], [NODE])
    service = {"metadata": {"namespace": "default", "name": "web"}}
    assert rules.difference(service) == "  no rules: OSError: no (broken.py:2)\n"


def test_what_a_file_would_change_is_told_with_the_labs_own_parts(own: Path, tmp_path: Path) -> None:
    (own / "proxy_rules" / "mine.py").rename(own / "proxy_rules" / "iptables.py")
    with_parts = engine_config(describe({}))["parts"]
    mode = draw(describe({})).files["proxy"]
    parts.use([])
    lab = LabState("lab1", tmp_path)
    lab.describe(parts=[*with_parts, str(tmp_path / "gone")], files={"proxy": mode, "fabric": "/gone/fabric.py"})
    rules = Rules("node1", "iptables", {}, [], [], [NODE])
    before = rules._lines()
    use_parts_of(lab)
    assert "-A MINE -j RETURN" in rules._lines()
    assert "-A MINE -j RETURN" not in before
    Path(mode).unlink()
    with pytest.raises(BadInput, match=r"lab lab1: '.*/iptables\.py' is not valid: a file that is still there"):
        use_parts_of(lab)


def test_the_truth_table_leaves_a_name_that_it_does_not_know_to_the_lab(own: Path) -> None:
    assert _modes(("mine", "theirs", "iptables")) == [str(own / "proxy_rules" / "mine.py"), "theirs", "iptables"]
    (own / "proxy_rules" / "unlike.py").write_text("def compile_rules(view): ...\n")
    with pytest.raises(BadInput, match=r"unlike\.py: LIKE"):
        _modes(("unlike",))


def test_kube_proxys_configuration_may_name_it(own: Path) -> None:
    (own / "objects.yaml").write_text(yaml.safe_dump_all([NODE]))
    given = ("--parts", str(own), "rules", "--node", "node1", "-f", str(own / "objects.yaml"))
    assert "-A MINE -j RETURN" in said(*given, "--set", "mode=mine") == said(*given, "--mode", "mine")
    assert said(*given, "--mode", "mine", "--set", "mode=iptables") == said(*given, "--mode", "mine")
