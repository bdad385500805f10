"""Who owns what: the graph behind garbage collection, and what is to become of an object by its owners. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mininetes.agents.objects import Object, is_deleted, uid_of

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"

OwnerState = Literal["solid", "absent", "waiting"]
"""An owner is there, or is gone, or waits in the foreground for its dependents to go."""


@dataclass(frozen=True)
class Member:
    """An object in the graph: the resource's name, the informer's key, and the object as it was last."""

    resource: str
    key: str
    obj: Object


@dataclass
class Verdict:
    """What is to be done: nothing, forget some owners, or delete (``policy`` says how its own dependents fare)."""

    delete: bool = False
    policy: str = "Background"
    forget: list[str] = field(default_factory=list)


class OwnershipGraph:
    """All objects by uid, and the dependents of each owner, whether that is known or not."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._dependents: dict[str, set[str]] = {}

    def put(self, member: Member) -> None:
        """An object is there, or has changed."""
        uid = uid_of(member.obj)
        self.remove(uid)
        self._members[uid] = member
        for owner in owner_uids(member.obj):
            self._dependents.setdefault(owner, set()).add(uid)

    def remove(self, uid: str) -> None:
        """An object is gone. Does nothing when it was not there."""
        member = self._members.pop(uid, None)
        if member is None:
            return
        for owner in owner_uids(member.obj):
            dependents = self._dependents.get(owner)
            if dependents is not None:
                dependents.discard(uid)
                if not dependents:
                    del self._dependents[owner]

    def get(self, uid: str) -> Member | None:
        """The object with that uid."""
        return self._members.get(uid)

    def dependents(self, uid: str) -> list[Member]:
        """What names that uid as an owner, in the order of keys."""
        found = [self._members[each] for each in self._dependents.get(uid, ())]
        return sorted(found, key=lambda member: (member.resource, member.key))

    def blocking(self, uid: str) -> list[Member]:
        """The dependents for whose end the owner's foreground deletion waits."""
        return [
            member
            for member in self.dependents(uid)
            if any(each.get("uid") == uid and each.get("blockOwnerDeletion") for each in references(member.obj))
        ]


def references(obj: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The object's owner references."""
    return obj["metadata"].get("ownerReferences") or ()


def owner_uids(obj: Mapping[str, Any]) -> Iterable[str]:
    """The uids of the object's owners."""
    return (str(each.get("uid", "")) for each in references(obj))


def finalizers(obj: Mapping[str, Any]) -> Sequence[str]:
    """The object's finalizers."""
    return obj["metadata"].get("finalizers") or ()


def waits_for_dependents(obj: Mapping[str, Any]) -> bool:
    """Whether the object is being deleted in the foreground."""
    return is_deleted(obj) and FOREGROUND in finalizers(obj)


def judge(
    obj: Mapping[str, Any], state_of: Callable[[Mapping[str, Any]], OwnerState], *, has_dependents: bool
) -> Verdict:
    """What is to become of an object, given the state of each owner it references.

    While one owner is there the object stays, and forgets those that are not. When all are gone
    (or wait for it to go) it goes too: in the foreground when an owner waits and it has dependents itself.
    """
    states = {str(each.get("uid", "")): state_of(each) for each in references(obj)}
    if not states or is_deleted(obj):
        return Verdict()
    if "solid" in states.values():
        return Verdict(forget=[uid for uid, state in states.items() if state != "solid"])
    waiting = "waiting" in states.values()
    if ORPHAN in finalizers(obj):
        return Verdict(delete=True, policy="Orphan")
    foreground = (waiting and has_dependents) or FOREGROUND in finalizers(obj)
    return Verdict(delete=True, policy="Foreground" if foreground else "Background")
