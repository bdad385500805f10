"""The address ring: which peer owns which addresses of the network. Pure.

    10.32.0.0            10.37.85.0            10.42.170.0         10.47.255.255
    |------ node1 -------|------- node2 -------|------ node3 ------|  (and on with 10.32.0.0)
    token                token                 token

A token opens a range that ends at the next token. Each has an owner, and only the owner changes it: gives it
to another peer, or splits it with a new token. Each change has a higher version, and of two versions of a token
the higher counts. So rings merge in any order and however often, and an address has one owner in each ring.

An owner that died cannot give its ranges away; another peer then claims them in a higher epoch, which counts
more than any version. Should the owner be alive after all, it loses them when it hears of it.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from mininetes.agents.weave.knowledge import Malformed
from mininetes.errors import MininetesError

_ALIGNED = 256


@dataclass(frozen=True)
class Token:
    """Where a range starts, as a number, and whose it is."""

    start: int
    epoch: int
    version: int
    owner: str

    @property
    def rank(self) -> tuple[int, int, str]:
        """Of two states of a token, the one of higher rank counts."""
        return (self.epoch, self.version, self.owner)


@dataclass(frozen=True, order=True)
class Range:
    """Addresses from ``start`` up to, without, ``end``, as numbers."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def __str__(self) -> str:
        return f"[{IPv4Address(self.start)}-{IPv4Address(self.end - 1)}]"


class Ring:
    """A ring over ``network``. It is empty until it is seeded, or merged with one that is not."""

    def __init__(self, network: IPv4Network) -> None:
        self.network = network
        self.first = int(network.network_address)
        self.end = self.first + network.num_addresses
        self.changes = 0
        """Counts how often something was changed."""
        self._tokens: dict[int, Token] = {}

    @property
    def tokens(self) -> list[Token]:
        """All tokens, in order."""
        return [self._tokens[start] for start in sorted(self._tokens)]

    def seed(self, peers: Iterable[str]) -> None:
        """Share the network out evenly; nothing without peers. All who start with the same names make the same ring.

        Raises MininetesError when there are more peers than addresses.
        """
        names = sorted(set(peers))
        size = self.end - self.first
        if len(names) > size:
            raise MininetesError(f"{self.network} is too small for {len(names)} peers")
        for number, name in enumerate(names):
            start = number * size // len(names)
            if size // len(names) >= _ALIGNED:
                start -= start % _ALIGNED
            self._tokens[self.first + start] = Token(self.first + start, 0, 0, name)

    def merge(self, tokens: Iterable[Token]) -> list[Token]:
        """Take over what is newer, and return that."""
        changed = []
        for token in tokens:
            known = self._tokens.get(token.start)
            if known is None or token.rank > known.rank:
                self._tokens[token.start] = token
                changed.append(token)
        self.changes += bool(changed)
        return changed

    def ranges(self, owner: str) -> list[Range]:
        """An owner's ranges, in order; neighbouring ones are one."""
        found: list[Range] = []
        tokens = self.tokens
        for index, token in enumerate(tokens, start=1):
            end = tokens[index].start if index < len(tokens) else self.end
            if token.owner != owner:
                continue
            if found and found[-1].end == token.start:
                found[-1] = Range(found[-1].start, end)
            else:
                found.append(Range(token.start, end))
        # what lies before the first token belongs to the last one: it is a ring
        if tokens and tokens[0].start > self.first and tokens[-1].owner == owner:
            found.insert(0, Range(self.first, tokens[0].start))
        return found

    def owner(self, address: int) -> str | None:
        """Who owns an address; None while the ring is empty."""
        starts = sorted(self._tokens)
        if not starts:
            return None
        return self._tokens[starts[bisect_right(starts, address) - 1]].owner

    def owned(self) -> dict[str, int]:
        """How many addresses each owner has."""
        owners = {token.owner for token in self._tokens.values()}
        return {owner: sum(map(len, self.ranges(owner))) for owner in sorted(owners)}

    def give(self, part: Range, giver: str, taker: str) -> list[Token]:
        """Make a part of one of the giver's ranges the taker's, and return the tokens that say so.

        To be called by the giver alone. Raises MininetesError when the part is not the giver's.
        """
        if not any(each.start <= part.start and part.end <= each.end for each in self.ranges(giver)):
            raise MininetesError(f"{part} is not {giver}'s to give")
        before = self._covering(part.start)
        last = self._covering(part.end - 1)
        inside = [token for token in self.tokens if part.start < token.start < part.end]
        changed = [self._successor(part.start, before, taker)]
        changed += [Token(each.start, each.epoch, each.version + 1, taker) for each in inside]
        if part.end < self.end and part.end not in self._tokens:
            changed.append(Token(part.end, last.epoch, last.version, giver))
        return self.merge(changed)

    def _covering(self, address: int) -> Token:
        starts = sorted(self._tokens)
        return self._tokens[starts[bisect_right(starts, address) - 1]]

    @staticmethod
    def _successor(start: int, covering: Token, owner: str) -> Token:
        """The token at ``start`` with a new owner: the covering one's next version, or a new one behind it."""
        return Token(start, covering.epoch, covering.version + 1, owner)

    def claim(self, dead: str, heir: str) -> list[Token]:
        """Make all that is a dead peer's the heir's, and return the tokens that say so. May be called again."""
        theirs = [token for token in self.tokens if token.owner == dead]
        return self.merge([Token(each.start, each.epoch + 1, each.version + 1, heir) for each in theirs])

    def digest(self) -> str:
        """The same for two rings that are the same."""
        return hashlib.sha256(repr(self.tokens).encode()).hexdigest()[:16]

    def to_json(self) -> list[list[Any]]:
        """As messages and files have it."""
        return tokens_to_json(self.tokens)


def tokens_to_json(tokens: Sequence[Token]) -> list[list[Any]]:
    """Tokens as messages and files have them."""
    return [[str(IPv4Address(each.start)), each.epoch, each.version, each.owner] for each in tokens]


def tokens_from_json(content: Any, network: IPv4Network) -> list[Token]:
    """Read tokens from a message or file. Raises Malformed, also for one outside of the network."""
    try:
        found = [
            Token(int(IPv4Address(start)), int(epoch), int(version), str(owner))
            for start, epoch, version, owner in content
        ]
    except (TypeError, ValueError) as wrong:
        raise Malformed(f"ring: {wrong}") from None
    for token in found:
        if IPv4Address(token.start) not in network:
            raise Malformed(f"ring: {IPv4Address(token.start)} is outside {network}")
    return found
