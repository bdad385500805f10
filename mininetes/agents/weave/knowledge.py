"""What a peer knows: for each owner a record of items, versioned, the newest wins. Pure.

Only an owner changes its own record, one number higher each time, so that two copies of a record differ
in age alone, and what has happened since a number can be passed on as a delta:

    record of node1      incarnation 7   number 12
      peer               number 3        {nickname, address, links}
      pod/10.32.0.2      number 9        {name}
      pod/10.32.0.3      number 12       nothing any more: others must hear that it went

An owner that is started anew takes a higher incarnation; its record then replaces the older one as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mininetes.errors import MininetesError

PEER = "peer"
POD = "pod/"
REMOVED = "removed/"
SERVICE = "service/"
SERVICES = "services"
"""The owner of what the API server says of services: its resource versions are the record's numbers."""

GONE_KEPT = 128
"""Items that went are remembered, for deltas, up to this many; whoever is further behind gets the whole record."""

Version = tuple[int, int]
"""Incarnation and number."""

NEVER: Version = (-1, -1)


class Malformed(MininetesError):
    """A message that no agent of this version sends."""


@dataclass(frozen=True)
class Delta:
    """Changes of a record with the numbers after ``since``, up to ``to``; the whole record when ``since`` is None."""

    owner: str
    incarnation: int
    since: int | None
    to: int
    items: Mapping[str, tuple[int, Any]]

    @property
    def version(self) -> Version:
        """What the receiver has afterwards."""
        return (self.incarnation, self.to)

    def to_json(self) -> dict[str, Any]:
        """As a message has it."""
        items = {key: list(item) for key, item in self.items.items()}
        return {
            "owner": self.owner,
            "incarnation": self.incarnation,
            "since": self.since,
            "to": self.to,
            "items": items,
        }

    @classmethod
    def from_json(cls, content: Any) -> Delta:
        """Read it from a message. Raises Malformed."""
        try:
            since = content["since"]
            items = {str(key): (int(number), value) for key, (number, value) in content["items"].items()}
            return cls(
                str(content["owner"]),
                int(content["incarnation"]),
                None if since is None else int(since),
                int(content["to"]),
                items,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as wrong:
            raise Malformed(f"delta: {type(wrong).__name__}: {wrong}") from None


@dataclass
class Record:
    """One owner's items with their numbers; a value of None is an item that went."""

    incarnation: int
    number: int = 0
    floor: int = 0
    """Deltas can be made since this number, or a later one."""
    items: dict[str, tuple[int, Any]] = field(default_factory=dict)

    @property
    def version(self) -> Version:
        """Incarnation and number."""
        return (self.incarnation, self.number)

    def values(self, prefix: str) -> Iterator[tuple[str, Any]]:
        """What there is below a prefix: the key's rest, and the value."""
        for key, (_, value) in self.items.items():
            if value is not None and key.startswith(prefix):
                yield key[len(prefix) :], value

    def forget_gone(self) -> None:
        """Forget the older half of the items that went, when there are too many."""
        gone = sorted((number, key) for key, (number, value) in self.items.items() if value is None)
        if len(gone) <= GONE_KEPT:
            return
        for number, key in gone[: len(gone) // 2]:
            del self.items[key]
            self.floor = max(self.floor, number)


Outcome = Literal["new", "known", "gap"]
"""What a delta was: news; nothing new; or too new, as something before it is missing."""


class Knowledge:
    """The records of all owners that one peer has heard of, its own (``me``) among them."""

    def __init__(self, me: str, incarnation: int) -> None:
        self.me = me
        self.records: dict[str, Record] = {me: Record(incarnation)}

    @property
    def own(self) -> Record:
        """This peer's record."""
        return self.records[self.me]

    def value(self, owner: str, key: str) -> Any:
        """An item's value; None when there is none."""
        record = self.records.get(owner)
        return record.items.get(key, (0, None))[1] if record is not None else None

    def set(self, key: str, value: Any) -> bool:
        """Change an item of the own record (None: it went); False when it was so already."""
        record = self.own
        if record.items.get(key, (0, None))[1] == value:
            return False
        record.number += 1
        record.items[key] = (record.number, value)
        record.forget_gone()
        return True

    def note_services(self, services: Mapping[str, tuple[int, Any]], revision: int) -> bool:
        """Take over all services there are at a revision of the API server, each with its own; False when that is old.

        Whoever asks the API hears the same of a revision: so this one record may be written by any agent. But
        what came and went between two revisions is not known here, so that no deltas can be made since older ones.
        """
        if (0, revision) <= self.version(SERVICES):
            return False
        items = {SERVICE + name: found for name, found in services.items()}
        self.records[SERVICES] = Record(0, revision, revision, items)
        return True

    def version(self, owner: str) -> Version:
        """The version of an owner's record; NEVER when there is none."""
        record = self.records.get(owner)
        return record.version if record is not None else NEVER

    def versions(self) -> dict[str, Version]:
        """The version of each record: compared with another peer's, it says who lacks what."""
        return {owner: record.version for owner, record in self.records.items()}

    def delta(self, owner: str, since: Version = NEVER) -> Delta | None:
        """What of an owner's record is newer than a version; None when nothing is."""
        record = self.records.get(owner)
        if record is None or record.version <= since:
            return None
        incarnation, number = since
        if incarnation == record.incarnation and number >= record.floor:
            items = {key: item for key, item in record.items.items() if item[0] > number}
            return Delta(owner, record.incarnation, number, record.number, items)
        there = {key: item for key, item in record.items.items() if item[1] is not None}
        return Delta(owner, record.incarnation, None, record.number, there)

    def apply(self, delta: Delta) -> Outcome:
        """Take over what is newer. A delta of the own record (an earlier life's) changes its incarnation alone."""
        record = self.records.get(delta.owner)
        if record is not None and delta.version <= record.version:
            return "known"
        if delta.owner == self.me:
            # others have heard of a later life than this one, so the clock has gone back: this one is later now
            self.reincarnate(delta.incarnation + 1)
            return "known"
        if delta.since is None:
            self.records[delta.owner] = Record(delta.incarnation, delta.to, delta.to, dict(delta.items))
            return "new"
        if record is None or record.incarnation != delta.incarnation or record.number < delta.since:
            return "gap"
        record.items.update({key: item for key, item in delta.items.items() if item[0] > record.number})
        record.number = delta.to
        record.forget_gone()
        return "new"

    def reincarnate(self, incarnation: int) -> None:
        """Have the own record replace, as a whole, any copy of it with a lower incarnation."""
        self.own.incarnation = max(incarnation, self.own.incarnation)

    def forget(self, owner: str) -> None:
        """Drop a record. Does nothing when there is none."""
        if owner != self.me:
            self.records.pop(owner, None)
