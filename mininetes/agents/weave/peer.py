"""One peer: what it knows and owns, and what it tells whom. Pure: messages in, messages out, no clock, no network.

    news      deltas of records, tokens of the ring: to neighbours as things change. Who hears of something passes it
              on to those neighbours that the teller is not connected to
    digest    versions of all records, and the ring's: at the start of a connection, and from time to time to some
              neighbours. The other answers with what is missing here, and asks for what is missing there
    space     "give me addresses": the neighbour gives a part of its ranges, or passes the question on

Whatever is lost on the way, the next digests make up for.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from mininetes.agents.weave.addresses import Addresses
from mininetes.agents.weave.knowledge import NEVER, PEER, POD, REMOVED, Delta, Knowledge, Malformed, Version
from mininetes.agents.weave.ring import Ring, Token, tokens_from_json, tokens_to_json
from mininetes.errors import BadInput, MininetesError

Message = dict[str, Any]


@dataclass(frozen=True)
class PeerAddress:
    """How a peer is known: its name (a MAC, as weave has it), the node's name, the node's address."""

    name: str
    nickname: str
    address: str

    def __str__(self) -> str:
        return f"{self.name}({self.nickname})"


class Peer:
    """A peer of the network. ``outbox`` collects what it has to say, as (neighbour, message).

    ``listed``: the peers known from the start, this one among them or not. ``incarnation`` is higher than in any
    earlier life. The ``seed`` is the names of the peers that share the network out among them, each coming to the
    same by itself; a peer that joins later has none, and learns the ring from the others.
    """

    def __init__(
        self,
        me: PeerAddress,
        listed: Iterable[PeerAddress],
        network: IPv4Network,
        *,
        incarnation: int,
        seed: Iterable[str] = (),
    ) -> None:
        self.me = me
        self.network = network
        self.knowledge = Knowledge(me.name, incarnation)
        self.ring = Ring(network)
        self.addresses = Addresses(network)
        self.neighbours: set[str] = set()
        self.outbox: list[tuple[str, Message]] = []
        self.moved: list[IPv4Address] = []
        """Addresses that another peer has given out than before: where they are must be learnt anew."""
        self._seen: dict[str, str] = {}
        self._listed = {each.name: each for each in (me, *listed)}
        self._removed: dict[str, int] = {}
        """The last incarnation of each peer that was removed."""
        self._told: Version = NEVER
        self.ring.seed(seed)
        self._say_who_i_am()

    # --- who there is

    def members(self) -> dict[str, PeerAddress]:
        """All peers that are known and were not removed, by name, this one among them."""
        found = {name: each for name, each in self._listed.items() if not self._is_removed(name)}
        for name in self.knowledge.records:
            if (said := self.knowledge.value(name, PEER)) is not None:
                found[name] = PeerAddress(name, str(said["nickname"]), str(said["address"]))
        return found

    def find(self, name: str) -> PeerAddress:
        """A member by name or nickname. Raises BadInput."""
        members = self.members()
        for each in members.values():
            if name in (each.name, each.nickname):
                return each
        raise BadInput("peer", name, "one of " + ", ".join(str(members[each]) for each in sorted(members)))

    def links(self, name: str) -> set[str]:
        """The peers to which one says it is connected."""
        said = self.knowledge.value(name, PEER)
        return set(said["links"]) if said is not None else set()

    def reachable(self) -> set[str]:
        """The peers to which there is a way over connections that are there, as far as is known; this one too."""
        found, waiting = {self.me.name}, [self.me.name]
        while waiting:
            for name in self.links(waiting.pop()) - found:
                found.add(name)
                waiting.append(name)
        return found

    def connected(self, name: str) -> None:
        """There is a connection to a neighbour now."""
        self.neighbours.add(name)
        self._say_who_i_am()
        self._send(name, self._digest(answer=False))

    def disconnected(self, name: str) -> None:
        """There is none any more. Does nothing when there was none."""
        self.neighbours.discard(name)
        self._say_who_i_am()

    def _say_who_i_am(self) -> None:
        value = {"nickname": self.me.nickname, "address": self.me.address, "links": sorted(self.neighbours)}
        self.knowledge.set(PEER, value)

    # --- telling others

    def publish(self) -> None:
        """Tell the neighbours what has changed of the own record since the last time.

        Not of services: all who hear of those from the API would tell it to all at the same time; `exchange` does it.
        """
        news = self.knowledge.delta(self.me.name, self._told)
        self._told = self.knowledge.own.version
        if news is not None:
            self._tell(self.neighbours, [news], ())

    def exchange(self, chance: random.Random) -> None:
        """Compare all that is known with some neighbours: as many as the logarithm of their number."""
        count = math.ceil(math.log2(len(self.neighbours) + 1))
        for name in chance.sample(sorted(self.neighbours), min(count, len(self.neighbours))):
            self._send(name, self._digest(answer=False))

    def _send(self, name: str, message: Message) -> None:
        self.outbox.append((name, message))

    def _tell(self, names: Iterable[str], deltas: list[Delta], tokens: Iterable[Token]) -> None:
        message: Message = {"type": "news", "deltas": [each.to_json() for each in deltas]}
        message["ring"] = tokens_to_json(list(tokens))
        for name in sorted(names):
            self._send(name, message)

    def _digest(self, *, answer: bool) -> Message:
        versions = {owner: list(version) for owner, version in self.knowledge.versions().items()}
        return {"type": "digest", "versions": versions, "ring": self.ring.digest(), "answer": answer}

    # --- hearing from others

    def receive(self, sender: str, message: Message) -> None:
        """Take a neighbour's message. Raises Malformed for one that no agent of this version sends."""
        kind = message.get("type")
        if kind == "news":
            self._hear_news(sender, message)
        elif kind == "digest":
            self._hear_digest(sender, message)
        elif kind == "space":
            self._hear_of_need(message)
        else:
            raise Malformed(f"message: type {kind!r} is none of news, digest, space")

    def _hear_news(self, sender: str, message: Message) -> None:
        deltas = [_checked(Delta.from_json(each)) for each in _list(message, "deltas")]
        tokens = tokens_from_json(_list(message, "ring"), self.network)
        fresh, gap = [], False
        for delta in deltas:
            if self._is_of_removed(delta):
                continue
            outcome = self.knowledge.apply(delta)
            gap = gap or outcome == "gap"
            if outcome == "new":
                fresh.append(delta)
                self._see_pods(delta.owner, (key for key, item in delta.items.items() if item[1] is not None))
        changed = self.ring.merge(tokens)
        self._see_to_removed(fresh)
        if fresh or changed:
            others = self.neighbours - self.links(sender) - {sender}
            self._tell(others, [each for each in fresh if each.owner in self.knowledge.records], changed)
        if gap:
            self._send(sender, self._digest(answer=True))

    def _hear_digest(self, sender: str, message: Message) -> None:
        try:
            theirs = {str(owner): (int(version[0]), int(version[1])) for owner, version in message["versions"].items()}
            other_ring, answer = message["ring"] != self.ring.digest(), bool(message["answer"])
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as wrong:
            raise Malformed(f"digest: {type(wrong).__name__}: {wrong}") from None
        mine = self.knowledge.versions()
        deltas = [self.knowledge.delta(owner, theirs.get(owner, NEVER)) for owner in sorted(mine)]
        news = [each for each in deltas if each is not None]
        if news or other_ring:
            self._tell([sender], news, self.ring.tokens if other_ring else ())
        lacks = any(version > mine.get(owner, NEVER) for owner, version in theirs.items())
        if not answer and (lacks or other_ring):
            self._send(sender, self._digest(answer=True))

    # --- addresses

    def take(self, holder: str, about: Mapping[str, Any]) -> IPv4Address:
        """Give a holder an address of this peer's, and note it with what is said ``about`` it.

        A holder that has one keeps it. Raises NoSpace; `ask_for_space` may help then.
        """
        has = self.addresses.of(holder)
        if has is not None:
            return has
        address = self.addresses.take(holder, self.ring.ranges(self.me.name), self._is_used_elsewhere)
        self.knowledge.set(f"{POD}{address}", dict(about))
        self._see_pods(self.me.name, [f"{POD}{address}"])
        return address

    def _see_pods(self, owner: str, keys: Iterable[str]) -> None:
        """Note where pods are, and which of them were elsewhere before."""
        for key in keys:
            if key.startswith(POD) and self._seen.get(key, owner) != owner:
                self.moved.append(IPv4Address(key[len(POD) :]))
            if key.startswith(POD):
                self._seen[key] = owner

    def release(self, holder: str) -> IPv4Address | None:
        """Take an address back and return it. May be called twice: then None."""
        address = self.addresses.release(holder)
        if address is not None:
            self.knowledge.set(f"{POD}{address}", None)
        return address

    def _is_used_elsewhere(self, address: IPv4Address) -> bool:
        key = f"{POD}{address}"
        others = (name for name in self.knowledge.records if name != self.me.name)
        return any(self.knowledge.value(name, key) is not None for name in others)

    def used_elsewhere(self) -> dict[int, str]:
        """The addresses that other peers say they have given out, with who says so."""
        return {
            int(IPv4Address(address)): name
            for name, record in self.knowledge.records.items()
            if name != self.me.name
            for address, _ in record.values(POD)
        }

    def conflicts(self) -> list[str]:
        """Addresses that several peers have given out: that can come of claiming the ranges of a peer that lives."""
        seen: dict[str, str] = {}
        found = set()
        for name, record in self.knowledge.records.items():
            for address, _ in record.values(POD):
                if seen.setdefault(address, name) != name:
                    found.add(address)
        return sorted(found, key=IPv4Address)

    def ask_for_space(self) -> bool:
        """Ask the neighbour that seems to have most for a part of it; False when there is no neighbour."""
        return self._ask(self.me.name, [self.me.name])

    def _ask(self, needy: str, asked: list[str]) -> bool:
        owned = self.ring.owned()
        given = {name: sum(1 for _ in record.values(POD)) for name, record in self.knowledge.records.items()}
        able = sorted(self.neighbours - set(asked), key=lambda n: (given.get(n, 0) - owned.get(n, 0), n))
        if able:
            self._send(able[0], {"type": "space", "for": needy, "asked": asked})
        return bool(able)

    def _hear_of_need(self, message: Message) -> None:
        try:
            needy, asked = str(message["for"]), [str(each) for each in message["asked"]]
        except (KeyError, TypeError) as wrong:
            raise Malformed(f"space: {type(wrong).__name__}: {wrong}") from None
        part = self.addresses.spare(self.ring.ranges(self.me.name), self.used_elsewhere())
        if part is None or needy == self.me.name:
            self._ask(needy, [*asked, self.me.name])
        else:
            self._tell(self.neighbours, [], self.ring.give(part, self.me.name, needy))

    # --- peers that are no more

    def remove(self, name: str) -> None:
        """Declare a peer dead, by name or nickname: its ranges become this peer's, and all forget it.

        Raises BadInput when it is unknown, is this one, or is alive as far as anybody here knows.
        """
        peer = self.find(name)
        if peer.name == self.me.name:
            raise BadInput("peer", name, "another than this one")
        if peer.name in self.reachable():
            raise BadInput("peer", name, "one that nobody is connected to any more")
        claimed = self.ring.claim(peer.name, self.me.name)
        self._removed[peer.name] = self.knowledge.version(peer.name)[0]
        self.knowledge.set(REMOVED + peer.name, self._removed[peer.name])
        self._see_to_removed(())
        self._tell(self.neighbours, [], claimed)

    def _is_removed(self, name: str) -> bool:
        return name in self._removed and self.knowledge.version(name)[0] <= self._removed[name]

    def _is_of_removed(self, delta: Delta) -> bool:
        return delta.owner != self.me.name and delta.incarnation <= self._removed.get(delta.owner, -1)

    def _see_to_removed(self, deltas: Iterable[Delta]) -> None:
        """Forget the peers of whose removal the deltas tell; of this one's own removal, say that it lives."""
        for delta in deltas:
            for key, (_, incarnation) in delta.items.items():
                if key.startswith(REMOVED) and isinstance(incarnation, int):
                    name = key[len(REMOVED) :]
                    self._removed[name] = max(incarnation, self._removed.get(name, NEVER[0]))
        for name in self._removed:
            if name == self.me.name:
                self.knowledge.reincarnate(self._removed[name] + 1)
            elif self._is_removed(name):
                self.knowledge.forget(name)

    # --- from one life to the next

    def to_json(self) -> dict[str, Any]:
        """What the next life of this peer must know: the ring, and who holds which address."""
        pods = {
            holder: [str(address), self.knowledge.value(self.me.name, f"{POD}{address}")]
            for holder, address in self.addresses.held.items()
        }
        return {"network": str(self.network), "ring": self.ring.to_json(), "pods": pods}

    def resume(self, content: Any) -> None:
        """Go on where an earlier life ended. Raises Malformed, or MininetesError for another network's state."""
        if not isinstance(content, dict) or content.get("network") != str(self.network):
            raise MininetesError(f"state of another network than {self.network}")
        try:
            pods = [(str(holder), IPv4Address(address), about) for holder, (address, about) in content["pods"].items()]
            tokens = tokens_from_json(content["ring"], self.network)
        except (KeyError, TypeError, ValueError, AttributeError) as wrong:
            raise Malformed(f"state: {type(wrong).__name__}: {wrong}") from None
        self.ring.merge(tokens)
        for holder, address, about in pods:
            self.addresses.hold(holder, address)
            self.knowledge.set(f"{POD}{address}", about)


def _list(message: Message, key: str) -> list[Any]:
    found = message.get(key)
    if not isinstance(found, list):
        raise Malformed(f"{message.get('type')}: {key} is no list")
    return found


def _checked(delta: Delta) -> Delta:
    """Return a delta whose peers and pods are some. Raises Malformed."""
    try:
        for key, (_, value) in delta.items.items():
            if key.startswith(POD):
                IPv4Address(key[len(POD) :])
            elif key == PEER and value is not None:
                IPv4Address(value["address"])
                if not isinstance(value["nickname"], str) or not all(isinstance(each, str) for each in value["links"]):
                    raise ValueError(f"{key} {value}")
    except (KeyError, TypeError, ValueError) as wrong:
        raise Malformed(f"delta of {delta.owner}: {wrong}") from None
    return delta
