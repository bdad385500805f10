"""What is said of a node that leaves: what went with it, in one line."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from mininetes.cli import nodes
from mininetes.cli.nodes import farewell
from mininetes.testbed.node_leaving import unowned

NOTHING: dict[str, list[str]] = {"containers": [], "networks": [], "pods": []}


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ({}, "node3 is gone"),
        ({"networks": ["deep (overlay)"]}, "node3 is gone, and with it network deep (overlay)"),
        (
            {"containers": ["w1", "w2"], "networks": ["near (bridge)"], "pods": ["node3-1"]},
            "node3 is gone, and with it containers w1, w2; network near (bridge); pod node3-1",
        ),
        (
            {"pods": [f"p{number}" for number in range(8)]},
            "node3 is gone, and with it pods p0, p1, p2, p3, p4, p5, p6, p7",
        ),
        ({"pods": [f"p{number}" for number in range(9)]}, "node3 is gone, and with it 9 pods"),
    ],
)
def test_a_node_that_leaves_says_what_went_with_it(gone: dict[str, list[str]], words: str) -> None:
    assert farewell("node3", {**NOTHING, **gone}) == words


def test_programs_get_the_same_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = {**NOTHING, "networks": ["deep (overlay)"], "pods": [f"p{number}" for number in range(9)]}
    monkeypatch.setattr(nodes.state, "find", lambda name: SimpleNamespace(control=name))
    monkeypatch.setattr(nodes, "ask", lambda control, **request: gone)
    done = CliRunner().invoke(nodes.node_command, ["rm", "node3", "-o", "json"], standalone_mode=False)
    assert json.loads(done.stdout) == {"node": "node3", **gone}


def pod(name: str, namespace: str = "default", **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace, **more}}


def test_pods_that_a_controller_makes_again_are_not_lost() -> None:
    owner = [{"kind": "ReplicaSet", "name": "web", "controller": True}]
    pods = [pod("web-x", ownerReferences=owner), pod("late"), pod("bare", "team"), pod("early", ownerReferences=[])]
    assert unowned(pods) == ["early", "late", "team/bare"]
