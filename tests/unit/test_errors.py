"""What errors say of the choices that there are."""

from __future__ import annotations

from mininetes.errors import one_of

PODS = [f"pod/node{node}-{pod}" for node in range(1, 11) for pod in range(1, 101)]


def test_few_are_all_named() -> None:
    assert one_of(["node1", "node2"], "node9") == "one of node1, node2"


def test_none_is_said() -> None:
    assert one_of([], "x", "none: there are no pods") == "none: there are no pods"


def test_of_many_those_that_look_alike_are_named_and_the_others_counted() -> None:
    said = one_of(PODS, "pod/node7-1000")
    assert said.startswith("one of pod/node7-100, ")
    assert said.endswith(" and 980 more")
    assert said.count("pod/") == 20
    assert one_of(PODS, "\x00" * 4).endswith(" and 980 more")
