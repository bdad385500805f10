"""Objects of an informer, grouped: by namespace, by node, by controller."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mininetes.agents.objects import Object, controller_of, key_of
from mininetes.apiserver.informer import Informer

Grouping = Callable[[Mapping[str, Any]], str]


def by_namespace(obj: Mapping[str, Any]) -> str:
    """The object's namespace."""
    return str(obj["metadata"].get("namespace", ""))


def by_node(pod: Mapping[str, Any]) -> str:
    """The node that the pod is bound to; empty for none."""
    return str((pod.get("spec") or {}).get("nodeName") or "")


def by_controller(obj: Mapping[str, Any]) -> str:
    """The uid of the object's controller; empty for none."""
    owner = controller_of(obj)
    return str(owner.get("uid", "")) if owner is not None else ""


class Index:
    """The groups of an informer's objects, kept up to date. Handlers registered after it see it as it is then."""

    def __init__(self, informer: Informer, grouping: Grouping) -> None:
        self._grouping = grouping
        self._groups: dict[str, dict[str, Object]] = {}
        informer.on_change(self._changed)

    def of(self, group: str) -> list[Object]:
        """The objects of a group; a copy, as it changes while others await."""
        return list(self._groups.get(group, {}).values())

    def _changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        if old is not None:
            group = self._grouping(old)
            members = self._groups.get(group)
            if members is not None:
                members.pop(key_of(old), None)
                if not members:
                    del self._groups[group]
        if kind != "DELETED" and new is not None:
            self._groups.setdefault(self._grouping(new), {})[key_of(new)] = new
