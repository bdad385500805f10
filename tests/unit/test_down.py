"""Which labs `mininetes down` ends: the one named, in whichever way, or all."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from mininetes.cli import labs
from mininetes.errors import BadInput
from mininetes.lab import state


@pytest.mark.parametrize(
    ("arguments", "ended"),
    [([], ["of-environment"]), (["mine"], ["mine"]), (["--lab", "mine"], ["mine"]), (["--all"], ["one", "two"])],
)
def test_a_lab_is_named_or_of_the_environment(
    arguments: list[str], ended: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []
    monkeypatch.setenv("MININETES_LAB", "of-environment")
    monkeypatch.setattr(state, "find", lambda name: SimpleNamespace(name=name))
    monkeypatch.setattr(state, "labs", lambda: [SimpleNamespace(name="one"), SimpleNamespace(name="two")])
    monkeypatch.setattr(labs, "end_lab", lambda lab: found.append(lab.name))
    done = CliRunner().invoke(labs.down_command, arguments)
    assert found == ended, done
    assert done.output == "".join(f"{name} is gone\n" for name in ended)


@pytest.mark.parametrize("arguments", [["mine", "--all"], ["--lab", "mine", "--all"], ["--lab", "mine", "other"]])
def test_either_one_or_all_and_one_name(arguments: list[str]) -> None:
    done = CliRunner().invoke(labs.down_command, arguments)
    assert isinstance(done.exception, BadInput)
    assert "'mine'" in str(done.exception)
