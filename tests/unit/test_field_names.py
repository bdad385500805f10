"""Errors name the whole field of the cluster file, wherever a part or a network is looked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mininetes.agents.kubeproxy.compiling import compiler
from mininetes.errors import BadInput, MininetesError
from mininetes.spec import describe
from mininetes.testbed.preflight import checked

MISSING: dict[str, dict[str, Any]] = {
    "spec.proxy.mode: '/nowhere/mine.py' is not valid: a file that exists": {"proxy": "/nowhere/mine.py"},
    "spec.proxy.mode: 'mine' is not valid: one of iptables": {"proxy": {"mode": "mine"}},
    "spec.cni: 'nope.conflist' is not valid: a file that exists": {"cni": "nope.conflist"},
    "spec.fabric.name: 'nope' is not valid: a file that exists": {"fabric": "nope"},
    "spec.underlay.name: 'nope' is not valid: a file that exists": {"underlay": {"name": "nope"}},
    "spec.containers[0].networks: 'nope' is not valid: a network that there is": {
        "containers": [{"name": "c", "node": "node1", "networks": ["nope"]}]
    },
    "spec.containers[0].networks: 'far' is not valid: a network of node1": {
        "networks": [{"name": "far", "node": "node2"}],
        "containers": [{"name": "c", "node": "node1", "networks": ["far"]}],
    },
}


@pytest.mark.parametrize("said", MISSING)
def test_what_is_not_there_is_named_by_its_field(said: str) -> None:
    with pytest.raises(BadInput) as refused:
        checked(describe(MISSING[said]))
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize("field", ["proxy.mode", "fabric.name", "underlay.name"])
@pytest.mark.parametrize("text", ["x = (", "x = 1"], ids=["broken", "empty"])
def test_so_is_a_file_that_is_no_part(field: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "part.py"
    path.write_text(text)
    section, key = field.split(".")
    with pytest.raises(BadInput) as refused:
        checked(describe({section: {key: str(path)}}))
    assert refused.value.field == f"spec.{field}"


def test_a_mode_is_loaded_once_until_it_changes_and_its_errors_name_who_asked(tmp_path: Path) -> None:
    path = tmp_path / "counted.py"
    text = f"open({str(tmp_path / 'loads')!r}, 'a').write('+')\nLIKE = 'iptables'\ncompile_rules = 1\n"
    for loads, more in (("+", ""), ("++", "# changed\n")):
        path.write_text(text + more)
        for field in ("spec.proxy.mode", "--mode"):
            with pytest.raises(BadInput, match=f"^{field}: .*a file with compile_rules"):
                compiler(str(path), field)
        assert (tmp_path / "loads").read_text() == loads


def test_the_rules_are_those_of_the_file_as_it_is_now(tmp_path: Path) -> None:
    view: Any = None
    path = tmp_path / "edited.py"
    path.write_text("LIKE = 'iptables'\ndef compile_rules(view): raise ValueError('old')\n")
    before = compiler(str(path))
    path.write_text("LIKE = 'iptables'\ndef compile_rules(view): raise ValueError('new')\n")
    for rules, said in ((before, "old"), (compiler(str(path)), "new")):
        with pytest.raises(MininetesError, match=rf"^ValueError: {said} \(edited\.py:2\)$"):
            rules(view)
