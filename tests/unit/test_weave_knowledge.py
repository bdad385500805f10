"""Records and deltas: whatever comes in which order, the newest wins, and nothing that went comes back."""

from __future__ import annotations

import json
import random

import pytest

from mininetes.agents.weave.knowledge import GONE_KEPT, NEVER, SERVICES, Delta, Knowledge, Malformed


def carried(delta: Delta | None) -> Delta:
    """As it arrives elsewhere."""
    assert delta is not None
    return Delta.from_json(json.loads(json.dumps(delta.to_json())))


def values(knowledge: Knowledge, owner: str) -> dict[str, object]:
    return dict(knowledge.records[owner].values("")) if owner in knowledge.records else {}


def test_a_change_is_told_as_a_delta() -> None:
    mine, other = Knowledge("a", 1), Knowledge("b", 1)
    mine.set("pod/10.32.0.2", {"name": "x"})
    assert other.apply(carried(mine.delta("a"))) == "new"
    seen = other.version("a")
    assert not mine.set("pod/10.32.0.2", {"name": "x"})
    assert mine.delta("a", seen) is None
    mine.set("pod/10.32.0.2", None)
    mine.set("pod/10.32.0.3", {"name": "y"})
    delta = carried(mine.delta("a", seen))
    assert delta.since == seen[1]
    assert set(delta.items) == {"pod/10.32.0.2", "pod/10.32.0.3"}
    assert other.apply(delta) == "new"
    assert other.apply(delta) == "known"
    assert values(other, "a") == {"pod/10.32.0.3": {"name": "y"}}


def test_what_comes_too_early_waits_until_what_was_before_is_there() -> None:
    mine, other = Knowledge("a", 1), Knowledge("b", 1)
    mine.set("x", 1)
    other.apply(carried(mine.delta("a")))
    before = other.version("a")
    mine.set("x", None)
    lost = mine.version("a")
    mine.set("y", 2)
    assert other.apply(carried(mine.delta("a", lost))) == "gap"
    assert values(other, "a") == {"x": 1}
    assert other.apply(carried(mine.delta("a", before))) == "new"
    assert values(other, "a") == {"y": 2}


def test_a_later_life_replaces_all_of_an_earlier_one() -> None:
    first, second, other = Knowledge("a", 1), Knowledge("a", 2), Knowledge("b", 1)
    for name in ("x", "y", "z"):
        first.set(name, 1)
    other.apply(carried(first.delta("a")))
    second.set("w", 1)
    assert other.apply(carried(second.delta("a", other.version("a")))) == "new"
    assert values(other, "a") == {"w": 1}
    assert other.apply(carried(first.delta("a"))) == "known"
    assert values(other, "a") == {"w": 1}


def test_a_life_whose_clock_went_back_still_becomes_the_later_one() -> None:
    first, second, other = Knowledge("a", 9), Knowledge("a", 3), Knowledge("b", 1)
    first.set("x", 1)
    other.apply(carried(first.delta("a")))
    second.set("y", 1)
    assert other.apply(carried(second.delta("a"))) == "known"
    second.apply(carried(other.delta("a")))
    assert other.apply(carried(second.delta("a", other.version("a")))) == "new"
    assert values(other, "a") == {"y": 1}


def test_what_went_is_not_remembered_without_end_and_still_does_not_come_back() -> None:
    mine, other = Knowledge("a", 1), Knowledge("b", 1)
    mine.set("old", 1)
    other.apply(carried(mine.delta("a")))
    mine.set("old", None)
    for number in range(GONE_KEPT * 2):
        mine.set(f"k{number}", 1)
        mine.set(f"k{number}", None)
    assert len(mine.own.items) <= GONE_KEPT + 1
    delta = carried(mine.delta("a", other.version("a")))
    assert delta.since is None
    assert other.apply(delta) == "new"
    assert values(other, "a") == {}


def test_services_are_the_same_whoever_of_several_heard_of_them() -> None:
    one, two, other = Knowledge("a", 1), Knowledge("b", 1), Knowledge("c", 1)
    assert one.note_services({"default/x": (5, {"type": "ClusterIP"}), "default/y": (3, {"type": "ClusterIP"})}, 7)
    assert not one.note_services({}, 7)
    other.apply(carried(one.delta(SERVICES)))
    assert two.note_services({"default/x": (8, {"type": "NodePort"})}, 9)
    other.apply(carried(two.delta(SERVICES, other.version(SERVICES))))
    one.apply(carried(other.delta(SERVICES, one.version(SERVICES))))
    assert values(one, SERVICES) == values(other, SERVICES) == {"service/default/x": {"type": "NodePort"}}


@pytest.mark.parametrize("seed", range(40))
def test_deltas_in_any_order_with_some_lost_bring_everybody_to_the_same(seed: int) -> None:
    chance = random.Random(seed)
    owner = Knowledge("a", 1)
    others = [Knowledge(f"b{number}", 1) for number in range(3)]
    deltas: list[Delta] = []
    for _ in range(150):
        if chance.random() < 0.02:
            before = values(owner, "a")
            owner = Knowledge("a", owner.own.incarnation + 1)
            for key, value in before.items():
                owner.set(key, value)
        owner.set(f"k{chance.randrange(10)}", chance.choice([None, 1, 2]))
        # what somebody may have been told, from any state that somebody may have been in
        for source in (owner, *others):
            since = chance.choice([owner, *others]).version("a")
            if (delta := source.delta("a", since)) is not None:
                deltas.append(carried(delta))
        for other in others:
            if deltas and chance.random() < 0.7:
                other.apply(chance.choice(deltas))
    for other in others:
        if (delta := owner.delta("a", other.version("a"))) is not None:
            assert other.apply(carried(delta)) == "new"
        assert values(other, "a") == values(owner, "a")
        assert other.delta("a", owner.version("a")) is None


def test_a_message_that_no_agent_would_send_is_refused() -> None:
    right = {"owner": "a", "incarnation": 1, "since": None, "to": 3, "items": {"x": [3, 1]}}
    assert Delta.from_json(right).version == (1, 3)
    for key, wrong in {"owner": None, "incarnation": "x", "to": None, "items": {"x": 3}}.items():
        content = {**right, key: wrong} if wrong is not None else {k: v for k, v in right.items() if k != key}
        with pytest.raises(Malformed, match="delta"):
            Delta.from_json(content)
    assert Knowledge("a", 1).delta("b", NEVER) is None
