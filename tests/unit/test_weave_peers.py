"""Networks of weave's peers in memory: all come to know all, through losses, partitions and deaths."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv4Network

import pytest
from weave_network import NETWORK, Network, address_of, pods_of

from mininetes.agents.weave.addresses import Addresses, NoSpace
from mininetes.agents.weave.knowledge import PEER, SERVICES, Malformed
from mininetes.agents.weave.peer import Peer
from mininetes.agents.weave.ring import Range
from mininetes.errors import BadInput, MininetesError


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_all_peers_come_to_know_all(count: int) -> None:
    network = Network(count)
    for number in range(1, count + 1):
        network.take(network.peer(number), f"pod{number}")
    network.peer(1).knowledge.note_services({"default/web": (5, {"type": "ClusterIP"})}, 5)
    network.settle(rounds=1)
    for peer in network.peers.values():
        assert peer.reachable() == set(network.peers)
        assert [len(pods_of(peer, name)) for name in sorted(network.peers)] == [1] * count
        assert dict(peer.knowledge.records[SERVICES].values("")) == {"service/default/web": {"type": "ClusterIP"}}


def test_news_in_a_full_mesh_is_told_once_to_each() -> None:
    network = Network(8)
    network.settle()
    network.take(network.peer(3), "pod")
    assert network.deliver() == 7
    assert network.agree()


def test_where_not_all_are_connected_news_is_passed_on() -> None:
    network = Network(5)
    for one, other in ((1, 2), (2, 3), (3, 4), (4, 5)):  # a line
        network.peer(one).connected(address_of(other).name)
        network.peer(other).connected(address_of(one).name)
    network.deliver()
    network.take(network.peer(1), "pod")
    network.deliver()
    assert all(pods_of(peer, address_of(1).name) == ["10.32.0.1"] for peer in network.peers.values())


@pytest.mark.parametrize("seed", range(25))
def test_lost_and_reordered_messages_are_made_up_for(seed: int) -> None:
    network = Network(5, seed, loss=0.3, shuffle=True)
    chance = random.Random(seed)
    given: dict[str, int] = {}
    for step in range(60):
        peer = chance.choice(list(network.peers.values()))
        held = [holder for holder in given if given[holder] == peer.me.name]
        if held and chance.random() < 0.4:
            holder = chance.choice(held)
            peer.release(holder)
            del given[holder]
        else:
            peer.take(f"h{step}", {"name": f"h{step}"})
            given[f"h{step}"] = peer.me.name
        network.connect()
        network.deliver()
    network.loss = 0.0
    network.settle()
    for peer in network.peers.values():
        assert sum(len(pods_of(peer, name)) for name in network.peers) == len(given)


def test_a_partition_of_two_and_three_works_on_and_heals_to_one_view() -> None:
    network = Network(5)
    network.settle()
    network.partition([1, 2], [3, 4, 5])
    network.connect()
    network.deliver()
    given = {network.take(network.peer(number), f"pod{number}-{i}") for number in range(1, 6) for i in range(3)}
    network.deliver()
    assert len(given) == 15
    assert None not in given
    assert network.agree([1, 2])
    assert network.agree([3, 4, 5])
    assert not network.agree()
    assert network.peer(1).reachable() == {address_of(1).name, address_of(2).name}
    network.partition()
    network.connect()  # the first digests alone do it
    network.deliver()
    assert network.agree()
    assert sum(len(pods_of(network.peer(1), name)) for name in network.peers) == 15
    assert network.peer(4).conflicts() == []


@pytest.mark.parametrize("seed", range(15))
def test_no_address_is_given_twice_whatever_happens(seed: int) -> None:
    """A small network that runs out all the time, with partitions, losses, and peers that die and come back."""
    small = IPv4Network("10.32.0.0/26")
    network = Network(5, seed, network=small, loss=0.1, shuffle=True)
    chance = random.Random(seed)
    files: dict[int, str] = {}
    given: dict[str, tuple[int, IPv4Address]] = {}
    refused = 0
    for step in range(250):
        what = chance.random()
        number = chance.randrange(1, 6)
        if what < 0.04:
            groups: list[list[int]] = [[], []]
            for each in range(1, 6):
                chance.choice(groups).append(each)
            network.partition(*groups)
        elif what < 0.08:
            network.partition()
        elif what < 0.12 and number not in files and len(files) < 3:
            files[number] = network.kill(network.peer(number))
        elif what < 0.2 and number in files:
            network.start(address_of(number), state=files.pop(number))
        elif number not in files:
            peer = network.peer(number)
            held = [holder for holder, (where, _) in given.items() if where == number]
            if held and what < 0.45:
                holder = chance.choice(held)
                assert peer.release(holder) == given.pop(holder)[1]
            else:
                address = network.take(peer, f"h{step}")
                if address is None:
                    refused += 1
                else:
                    assert address in small
                    assert address not in (small.network_address, small.broadcast_address)
                    assert address not in {each for _, each in given.values()}
                    given[f"h{step}"] = (number, address)
        network.connect()
        network.deliver()
    assert refused < 150
    network.partition()
    network.loss = 0.0
    for number, file in files.items():
        network.start(address_of(number), state=file)
    network.settle(rounds=30)
    known = {address for name in network.peers for address in pods_of(network.peer(1), name)}
    assert known == {str(address) for _, address in given.values()}
    assert sum(network.peer(1).ring.owned().values()) == small.num_addresses


def test_a_peer_that_runs_out_gets_space_from_others_until_there_is_none() -> None:
    small = IPv4Network("10.32.0.0/27")
    network = Network(3, network=small)
    network.settle()
    first = network.peer(1)
    given = [network.take(first, f"pod{number}") for number in range(30)]
    assert len(set(given)) == 30
    assert None not in given
    assert network.take(first, "one too many") is None
    assert network.agree()
    assert first.ring.owned()[first.me.name] >= 30
    with pytest.raises(NoSpace, match="no address is left in"):
        network.peer(2).take("x", {})
    first.release("pod7")
    assert network.take(network.peer(3), "elsewhere") == given[7]


def test_a_need_is_passed_on_to_where_there_is_space() -> None:
    small = IPv4Network("10.32.0.0/28")
    network = Network(3, network=small)
    for one, other in ((1, 2), (2, 3)):
        network.peer(one).connected(address_of(other).name)
        network.peer(other).connected(address_of(one).name)
    network.deliver()
    for number in (1, 2):
        peer = network.peer(number)
        while True:
            try:
                peer.take(f"{number}-{len(peer.addresses.held)}", {})
            except NoSpace:
                break
    network.deliver()
    assert network.take(network.peer(1), "more") is not None
    assert network.take(Network(1, network=IPv4Network("10.32.0.0/30")).peer(1), "alone") is not None


def test_a_dead_peers_ranges_can_be_claimed_and_all_forget_it() -> None:
    network = Network(4)
    network.settle()
    network.take(network.peer(3), "pod")
    network.deliver()
    dead = address_of(3)
    one = network.peer(1)
    with pytest.raises(BadInput, match="one that nobody is connected to any more"):
        one.remove("node3")
    network.kill(network.peer(3))
    network.connect()
    network.deliver()
    with pytest.raises(BadInput, match="another than this one"):
        one.remove("node1")
    with pytest.raises(BadInput, match=r"one of .*node3"):
        one.remove("node9")
    one.remove("node3")
    network.settle()
    for peer in network.peers.values():
        assert dead.name not in peer.members()
        assert pods_of(peer, dead.name) == []
        assert peer.ring.ranges(dead.name) == []
    assert one.ring.owned()[one.me.name] == NETWORK.num_addresses - sum(
        one.ring.owned()[address_of(number).name] for number in (2, 4)
    )


def test_a_removed_peer_that_lives_comes_back_without_its_ranges() -> None:
    network = Network(4)
    network.settle()
    network.partition([1, 2, 3], [4])
    network.connect()
    network.deliver()
    lonely = network.peer(4)
    kept = network.take(lonely, "kept")
    network.peer(1).remove("node4")
    network.deliver()
    assert address_of(4).name not in network.peer(2).members()
    network.partition()
    for number in (1, 2, 3):  # the others do not look for it any more; it looks for them
        lonely.connected(address_of(number).name)
        network.peer(number).connected(lonely.me.name)
    network.deliver()
    network.settle()
    assert all(lonely.me.name in peer.members() for peer in network.peers.values())
    assert lonely.ring.ranges(lonely.me.name) == []
    assert pods_of(network.peer(1), lonely.me.name) == [str(kept)]
    fresh = network.take(lonely, "fresh")
    assert fresh is not None
    # what it gave out in its old life is not given out again by the heir
    heir = network.peer(1)
    heir.addresses._last = int(kept or 0) - 1
    assert network.take(heir, "beside") != kept
    assert heir.conflicts() == []


def test_an_address_that_two_gave_out_is_said() -> None:
    network = Network(2)
    network.settle()
    network.partition([1], [2])
    network.connect()
    kept = network.take(network.peer(2), "kept")
    assert kept is not None
    network.peer(1).remove("node2")
    network.peer(1).addresses._last = int(kept) - 1
    assert network.take(network.peer(1), "too early") == kept
    network.partition()
    network.peer(2).connected(address_of(1).name)
    network.peer(1).connected(address_of(2).name)
    network.deliver()
    network.settle()
    assert network.peer(1).conflicts() == network.peer(2).conflicts() == [str(kept)]


def test_a_peer_that_joins_learns_all_and_gets_space() -> None:
    network = Network(3)
    network.settle()
    late = network.start(address_of(4), seed=False)
    assert late.ring.tokens == []
    with pytest.raises(NoSpace, match="no range"):
        late.take("pod", {})
    network.settle()
    assert late.reachable() == set(network.peers)
    address = network.take(late, "pod")
    assert address is not None
    network.deliver()
    assert network.peer(1).ring.owner(int(address)) == late.me.name
    assert pods_of(network.peer(2), late.me.name) == [str(address)]


def test_a_peer_that_is_started_anew_keeps_its_range_and_what_it_gave_out() -> None:
    network = Network(3)
    network.settle()
    before = network.peer(2)
    addresses = [network.take(before, f"pod{number}") for number in range(3)]
    state = network.kill(before)
    network.connect()
    network.deliver()
    after = network.start(before.me, state=state)
    network.settle()
    assert after.ring.ranges(after.me.name) == before.ring.ranges(before.me.name)
    assert [after.take(f"pod{number}", {}) for number in range(3)] == addresses
    assert after.knowledge.value(after.me.name, f"pod/{addresses[0]}") == {"name": "pod0"}
    assert network.take(after, "new") not in addresses
    with pytest.raises(MininetesError, match=r"another network than 10.32.0.0/16"):
        Peer(before.me, [], IPv4Network("10.32.0.0/16"), incarnation=9).resume(before.to_json())
    for wrong in ({"pods": {"x": ["y"]}}, {"ring": 3}, {"pods": {"x": ["10.32.0.300", {}]}}):
        with pytest.raises(Malformed):
            Network(1).peer(1).resume({**before.to_json(), **wrong})


def test_addresses_go_round_and_are_given_back() -> None:
    addresses = Addresses(IPv4Network("10.32.0.0/29"))
    base = int(IPv4Address("10.32.0.0"))
    ranges = [Range(base, base + 8)]
    taken = [str(addresses.take(holder, ranges, lambda _: False)) for holder in "abc"]
    assert taken == ["10.32.0.1", "10.32.0.2", "10.32.0.3"]
    assert str(addresses.take("a", ranges, lambda _: False)) == "10.32.0.1"
    assert addresses.free(ranges) == 3
    assert str(addresses.release("a")) == "10.32.0.1"
    assert addresses.release("a") is None
    rest = [str(addresses.take(holder, ranges, lambda found: str(found) == "10.32.0.5")) for holder in "def"]
    assert rest == ["10.32.0.4", "10.32.0.6", "10.32.0.1"]
    with pytest.raises(NoSpace, match=r"\[10.32.0.0-10.32.0.7\]"):
        addresses.take("g", ranges, lambda found: str(found) == "10.32.0.5")
    assert addresses.spare(ranges) == Range(base + 5, base + 6)
    assert addresses.spare(ranges, [base + 5]) is None
    with pytest.raises(MininetesError, match=r"10.32.0.2 is held by another than z"):
        addresses.hold("z", IPv4Address("10.32.0.2"))


def test_a_message_that_no_agent_would_send_is_refused() -> None:
    peer = Network(2).peer(1)
    for message in (
        {},
        {"type": "hello"},
        {"type": "news", "deltas": 3, "ring": []},
        {"type": "news", "deltas": [{}], "ring": []},
        {"type": "news", "deltas": [], "ring": [["10.99.0.0", 0, 0, "a"]]},
        {"type": "digest", "versions": {"a": [1]}, "ring": "", "answer": False},
        {"type": "digest", "versions": [], "ring": ""},
        {"type": "space", "for": "a"},
    ):
        with pytest.raises(Malformed):
            peer.receive("x", message)
    assert peer.knowledge.value(peer.me.name, PEER)["nickname"] == "node1"


def test_an_address_that_is_elsewhere_than_before_is_said_once() -> None:
    network = Network(3, network=IPv4Network("10.32.0.0/29"))
    network.settle()
    one, two, three = (network.peer(number) for number in (1, 2, 3))
    given = {network.take(one, f"pod{number}") for number in range(6)}
    network.deliver()
    assert len(given) == 6
    assert not one.moved + two.moved + three.moved
    freed = one.release("pod3")
    network.deliver()
    assert network.take(two, "elsewhere") == freed
    network.deliver()
    assert one.moved == two.moved == three.moved == [freed]
