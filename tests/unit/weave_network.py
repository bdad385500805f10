"""A network of weave's peers in memory: who can hear whom, what is lost, and in which order messages come."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

from mininetes.agents.weave.addresses import NoSpace
from mininetes.agents.weave.knowledge import POD
from mininetes.agents.weave.peer import Message, Peer, PeerAddress

NETWORK = IPv4Network("10.32.0.0/12")


def address_of(number: int) -> PeerAddress:
    return PeerAddress(f"06:00:c0:a8:01:{10 + number:02x}", f"node{number}", f"192.168.1.{10 + number}")


class Network:
    """Peers 1 to ``count``, each of which can hear each other unless it was cut off.

    With ``loss`` messages get lost, with ``shuffle`` those of a connection come in any order, which TCP would
    never do: the peers must bear it all the same.
    """

    def __init__(
        self, count: int, seed: int = 0, *, network: IPv4Network = NETWORK, loss: float = 0.0, shuffle: bool = False
    ) -> None:
        self.chance = random.Random(seed)
        self.network = network
        self.loss = loss
        self.shuffle = shuffle
        self.delivered = 0
        self._lives = 0
        self._on_the_way: list[tuple[str, str, str]] = []
        self._cut: set[frozenset[str]] = set()
        self.listed = [address_of(number) for number in range(1, count + 1)]
        self.peers: dict[str, Peer] = {}
        for each in self.listed:
            self.start(each)

    def start(self, who: PeerAddress, *, seed: bool = True, state: str | None = None) -> Peer:
        """Let a peer live, for the first time or anew with what an earlier life has left."""
        self._lives += 1
        names = [each.name for each in self.listed] if seed else []
        peer = Peer(who, self.listed, self.network, incarnation=self._lives, seed=names)
        if state is not None:
            peer.resume(json.loads(state))
        self.peers[who.name] = peer
        return peer

    def kill(self, peer: Peer) -> str:
        """End a peer at once; returns what its file holds."""
        del self.peers[peer.me.name]
        for other in self.peers.values():
            if peer.me.name in other.neighbours:
                other.disconnected(peer.me.name)
        return json.dumps(peer.to_json())

    def peer(self, number: int) -> Peer:
        return self.peers[address_of(number).name]

    def can_hear(self, one: str, other: str) -> bool:
        return one in self.peers and other in self.peers and frozenset((one, other)) not in self._cut

    def partition(self, *groups: Iterable[int]) -> None:
        """From now on only peers of one group hear each other; without groups all do."""
        sides = [{address_of(number).name for number in group} for group in groups]
        self._cut = {
            frozenset((one, other))
            for index, side in enumerate(sides)
            for rest in sides[index + 1 :]
            for one in side
            for other in rest
        }

    def connect(self) -> None:
        """Notice which connections are gone, and make those that are wanted and can be made."""
        for name, peer in self.peers.items():
            for other in sorted(peer.neighbours):
                if not self.can_hear(name, other):
                    peer.disconnected(other)
        for name, peer in list(self.peers.items()):
            for other in sorted(peer.members()):
                if other != name and self.can_hear(name, other) and other not in peer.neighbours:
                    peer.connected(other)
                    self.peers[other].connected(name)

    def deliver(self) -> int:
        """Carry all messages that were said, and those said in answer, to the end; returns how many arrived."""
        before = self.delivered
        while True:
            for name, peer in self.peers.items():
                peer.publish()
                self._on_the_way += [(name, to, json.dumps(message)) for to, message in peer.outbox]
                peer.outbox.clear()
            if not self._on_the_way:
                return self.delivered - before
            at = self.chance.randrange(len(self._on_the_way)) if self.shuffle else 0
            sender, to, text = self._on_the_way.pop(at)
            if not self.can_hear(sender, to) or self.chance.random() < self.loss:
                continue
            message: Message = json.loads(text)
            self.peers[to].receive(sender, message)
            self.delivered += 1

    def settle(self, rounds: int = 12) -> None:
        """Connections, and as many rounds of exchange as it may take until all know the same."""
        for _ in range(rounds):
            self.connect()
            self.deliver()
            if self.agree():
                return
            for peer in self.peers.values():
                peer.exchange(self.chance)
            self.deliver()
        assert self.agree(), self.difference()

    def agree(self, numbers: Iterable[int] | None = None) -> bool:
        """Whether all (or these) peers know the same of records and ring."""
        return not self.difference(numbers)

    def difference(self, numbers: Iterable[int] | None = None) -> str:
        peers = [self.peer(number) for number in numbers] if numbers is not None else list(self.peers.values())
        first = peers[0]
        for peer in peers[1:]:
            for owner in {*first.knowledge.records, *peer.knowledge.records}:
                one, other = view(first, owner), view(peer, owner)
                if one != other:
                    return f"{first.me} and {peer.me} of {owner}: {one} and {other}"
            if first.ring.tokens != peer.ring.tokens:
                return f"{first.me} and {peer.me} have different rings: {first.ring.tokens}, {peer.ring.tokens}"
        return ""

    def take(self, peer: Peer, holder: str) -> IPv4Address | None:
        """An address for a holder, asking others for space as the agent does; None when there is none anywhere."""
        for _ in range(len(self.peers)):
            try:
                return peer.take(holder, {"name": holder})
            except NoSpace:
                if not peer.ask_for_space():
                    return None
                self.deliver()
        try:
            return peer.take(holder, {"name": holder})
        except NoSpace:
            return None


def view(peer: Peer, owner: str) -> object:
    """What a peer knows of an owner, without what is remembered of things that went."""
    record = peer.knowledge.records.get(owner)
    return (record.version, sorted(record.values(""), key=lambda item: item[0])) if record is not None else None


def pods_of(peer: Peer, owner: str) -> list[str]:
    """The pods' addresses that a peer knows of an owner."""
    record = peer.knowledge.records.get(owner)
    return sorted(address for address, _ in record.values(POD)) if record is not None else []
