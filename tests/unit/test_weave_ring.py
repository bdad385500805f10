"""The address ring: each address has one owner, in every ring, whatever is merged in which order."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv4Network

import pytest

from mininetes.agents.weave.knowledge import Malformed
from mininetes.agents.weave.ring import Range, Ring, Token, tokens_from_json
from mininetes.errors import MininetesError

NETWORK = IPv4Network("10.32.0.0/12")
SMALL = IPv4Network("10.32.0.0/24")


def number(text: str) -> int:
    return int(IPv4Address(text))


def seeded(*peers: str, network: IPv4Network = SMALL) -> Ring:
    ring = Ring(network)
    ring.seed(peers)
    return ring


def owners(ring: Ring) -> list[str | None]:
    return [ring.owner(address) for address in range(ring.first, ring.end)]


def test_the_network_is_shared_out_evenly_and_the_same_by_all() -> None:
    ring = seeded("b", "a", "c", network=NETWORK)
    assert [(str(IPv4Address(each.start)), each.owner) for each in ring.tokens] == [
        ("10.32.0.0", "a"),
        ("10.37.85.0", "b"),
        ("10.42.170.0", "c"),
    ]
    assert ring.digest() == seeded("c", "b", "a", network=NETWORK).digest()
    assert sum(ring.owned().values()) == NETWORK.num_addresses
    with pytest.raises(MininetesError, match="too small for 5 peers"):
        seeded(*"abcde", network=IPv4Network("10.32.0.0/30"))


@pytest.mark.parametrize(
    ("part", "left"),
    [
        (Range(0, 10), [Range(10, 128)]),
        (Range(100, 128), [Range(0, 100)]),
        (Range(50, 60), [Range(0, 50), Range(60, 128)]),
        (Range(0, 128), []),
    ],
)
def test_a_part_is_given_and_the_rest_stays(part: Range, left: list[Range]) -> None:
    ring = seeded("a", "b")
    base = ring.first
    before = owners(ring)
    ring.give(Range(base + part.start, base + part.end), "a", "c")
    assert ring.ranges("c") == [Range(base + part.start, base + part.end)]
    assert ring.ranges("a") == [Range(base + each.start, base + each.end) for each in left]
    assert ring.ranges("b") == [Range(base + 128, base + 256)]
    after = owners(ring)
    assert [x for x, (old, new) in enumerate(zip(before, after, strict=True)) if old != new] == list(
        range(part.start, part.end)
    )


def test_nobody_gives_what_another_has() -> None:
    ring = seeded("a", "b")
    with pytest.raises(MininetesError, match=r"\[10.32.0.120-10.32.0.139\] is not a's to give"):
        ring.give(Range(ring.first + 120, ring.first + 140), "a", "c")


def test_a_given_part_may_be_given_on_and_back() -> None:
    ring = seeded("a", "b")
    base = ring.first
    ring.give(Range(base + 64, base + 128), "a", "b")
    assert ring.ranges("b") == [Range(base + 64, base + 256)]
    ring.give(Range(base + 100, base + 200), "b", "a")
    assert ring.ranges("a") == [Range(base, base + 64), Range(base + 100, base + 200)]
    assert ring.ranges("b") == [Range(base + 64, base + 100), Range(base + 200, base + 256)]


def test_a_dead_peers_ranges_go_to_the_heir_against_whatever_the_dead_one_did() -> None:
    alive, dead = seeded("a", "b", "c"), seeded("a", "b", "c")
    theirs = dead.ranges("b")[0]
    for _ in range(5):  # changes that nobody heard of
        dead.give(theirs, "b", "b")
    claimed = alive.claim("b", "c")
    assert alive.ranges("b") == []
    assert alive.claim("b", "c") == []
    assert dead.merge(claimed) == claimed
    alive.merge(dead.tokens)
    assert alive.digest() == dead.digest()
    assert alive.ranges("b") == []


def test_two_heirs_that_do_not_know_of_each_other_come_to_one() -> None:
    one, other = seeded("a", "b", "c"), seeded("a", "b", "c")
    one.claim("b", "a")
    other.claim("b", "c")
    tokens = one.tokens
    one.merge(other.tokens)
    other.merge(tokens)
    assert one.digest() == other.digest()
    assert "b" not in one.owned()


@pytest.mark.parametrize("seed", range(30))
def test_rings_that_are_changed_apart_merge_to_one_without_an_address_that_two_own(seed: int) -> None:
    """Every peer changes its own copy; merged in any order and doubly, all come to the same, and nobody loses.

    What a peer owns in its own copy when all is merged is exactly what everybody says that it owns.
    """
    chance = random.Random(seed)
    names = list("abcdef")
    rings = {name: seeded(*names) for name in names}
    for _ in range(200):
        name = chance.choice(names)
        if chance.random() < 0.6:
            if owned := rings[name].ranges(name):
                of = chance.choice(owned)
                start = chance.randrange(of.start, of.end)
                part = Range(start, chance.randrange(start + 1, of.end + 1))
                rings[name].give(part, name, chance.choice(names))
        else:
            tokens = rings[chance.choice(names)].tokens
            chance.shuffle(tokens)
            rings[name].merge(tokens)
        # what peers own by their own rings never overlaps: nobody gives out an address that another may
        taken: list[int] = [
            x for each in names for part in rings[each].ranges(each) for x in range(part.start, part.end)
        ]
        assert len(taken) == len(set(taken))
    everything = [token for ring in rings.values() for token in ring.tokens] * 2
    for ring in rings.values():
        chance.shuffle(everything)
        ring.merge(everything)
    assert len({ring.digest() for ring in rings.values()}) == 1
    assert sum(rings["a"].owned().values()) == SMALL.num_addresses


def test_what_no_agent_would_send_is_refused() -> None:
    for wrong in (
        None,
        [["10.32.0.0", 0, 0]],
        [["x", 0, 0, "a"]],
        [["10.32.0.0", "?", 0, "a"]],
        [["10.99.0.0", 0, 0, "a"]],
    ):
        with pytest.raises(Malformed, match="ring"):
            tokens_from_json(wrong, NETWORK)
    found = tokens_from_json([["10.32.0.0", 1, 2, "a"]], NETWORK)
    assert found == [Token(number("10.32.0.0"), 1, 2, "a")]
