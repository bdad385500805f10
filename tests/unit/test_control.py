"""The control socket while a lab comes up: of its nodes it tells, and everything else is refused at once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mininetes.cli.api_access import kubeconfig_of
from mininetes.errors import BadInput, MininetesError
from mininetes.lab.state import LabState
from mininetes.testbed import control


def asked(operation: str, *, ready_s: float | None = None, net: object = None) -> dict[str, Any]:
    testbed: Any = SimpleNamespace(ready_s=ready_s, net=net, spec=SimpleNamespace(name="lab7"), status=lambda: {"a": 1})
    return asyncio.run(control._answer(testbed, json.dumps({"op": operation}).encode()))


def test_as_soon_as_there_are_nodes_they_are_told() -> None:
    assert asked("status") == {"error": "lab lab7 is not up yet", "status": 1}
    assert asked("status", net="a network") == {"a": 1} == asked("status", net="a network", ready_s=1.0)


@pytest.mark.parametrize("operation", sorted(set(control._OPERATIONS) - {"status"}))
def test_all_else_is_refused_until_the_lab_is_up(operation: str) -> None:
    right = "; exec and shell reach its nodes already"
    assert asked(operation) == {"error": "lab lab7 is not up yet", "status": 1}
    assert asked(operation, net="a network")["error"] == f"lab lab7 is not up yet{right}"


def test_an_api_server_that_is_not_there_yet_is_none_that_never_will_be(tmp_path: Path) -> None:
    lab = LabState("lab7", tmp_path)
    with pytest.raises(BadInput, match="a lab with a control plane"):
        kubeconfig_of(lab)
    lab.kubeconfig.touch()  # `up` makes it, and the engine fills it in
    with pytest.raises(MininetesError, match=r"^lab lab7 is not up yet$"):
        kubeconfig_of(lab)
