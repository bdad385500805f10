"""The addresses that one peer has given out, of the ranges that the ring says are its own. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from itertools import pairwise

from mininetes.agents.weave.ring import Range
from mininetes.errors import MininetesError

_ALIGNED = 256
EXPOSE = "weave:expose"
"""The holder of the address that the node's own bridge has."""


class NoSpace(MininetesError):
    """No address is left in the ranges of this peer."""


class Addresses:
    """Who holds which address: holders are keys of the caller's choice, each with one address.

    Addresses go round: the next one is behind the last that was given out, so that one which was just given back
    rests. The network's first and last address are never given out.
    """

    def __init__(self, network: IPv4Network) -> None:
        self._barred = {int(network.network_address), int(network.broadcast_address)}
        self._by_holder: dict[str, int] = {}
        self._taken: list[int] = []
        self._last = 0

    def of(self, holder: str) -> IPv4Address | None:
        """A holder's address."""
        address = self._by_holder.get(holder)
        return None if address is None else IPv4Address(address)

    @property
    def held(self) -> Mapping[str, IPv4Address]:
        """All holders, with their addresses."""
        return {holder: IPv4Address(address) for holder, address in self._by_holder.items()}

    def hold(self, holder: str, address: IPv4Address) -> None:
        """Note what was given out in an earlier life. Raises MininetesError when another has the address."""
        at = bisect_left(self._taken, int(address))
        if self._by_holder.get(holder, int(address)) != int(address):
            raise MininetesError(f"{holder} holds {self.of(holder)} already")
        if at < len(self._taken) and self._taken[at] == int(address):
            if self._by_holder.get(holder) != int(address):
                raise MininetesError(f"{address} is held by another than {holder}")
            return
        self._taken.insert(at, int(address))
        self._by_holder[holder] = int(address)
        self._last = int(address)

    def take(self, holder: str, ranges: Iterable[Range], is_used: Callable[[IPv4Address], bool]) -> IPv4Address:
        """Give a holder the next free address of the ranges, but none that ``is_used`` elsewhere.

        A holder that has one keeps it. Raises NoSpace.
        """
        has = self.of(holder)
        if has is not None:
            return has
        owned = list(ranges)
        behind = [Range(max(each.start, self._last + 1), each.end) for each in owned if each.end > self._last + 1]
        before = [Range(each.start, min(each.end, self._last + 1)) for each in owned if each.start <= self._last]
        for part in (*behind, *before):
            for address in self._free_in(part):
                found = IPv4Address(address)
                if not is_used(found):
                    self.hold(holder, found)
                    return found
        raise NoSpace(f"no address is left in {', '.join(map(str, owned)) or 'no range'}")

    def _free_in(self, part: Range) -> Iterable[int]:
        at = bisect_left(self._taken, part.start)
        for address in range(part.start, part.end):
            if at < len(self._taken) and self._taken[at] == address:
                at += 1
            elif address not in self._barred:
                yield address

    def release(self, holder: str) -> IPv4Address | None:
        """Take back a holder's address and return it. May be called twice: then None."""
        address = self._by_holder.pop(holder, None)
        if address is None:
            return None
        del self._taken[bisect_left(self._taken, address)]
        return IPv4Address(address)

    def free(self, ranges: Iterable[Range]) -> int:
        """How many addresses of the ranges can still be given out."""
        count = 0
        for each in ranges:
            taken = bisect_left(self._taken, each.end) - bisect_left(self._taken, each.start)
            barred = sum(each.start <= address < each.end for address in self._barred)
            count += len(each) - taken - barred
        return count

    def spare(self, ranges: Iterable[Range], used: Collection[int] = ()) -> Range | None:
        """What to give a peer that needs addresses: half of the longest run of free ones, its end.

        ``used``: addresses in use elsewhere, which are not given away. None when there is no free address.
        """
        best = Range(0, 0)
        taken = sorted({*self._taken, *used, *self._barred})
        for each in ranges:
            cuts = [each.start - 1, *taken[bisect_left(taken, each.start) : bisect_left(taken, each.end)], each.end]
            for low, high in pairwise(cuts):
                if high - low - 1 > len(best):
                    best = Range(low + 1, high)
        if not len(best):
            return None
        middle = best.start + len(best) // 2
        if len(best) > 4 * _ALIGNED:
            middle += -middle % _ALIGNED
        return Range(middle, best.end)
