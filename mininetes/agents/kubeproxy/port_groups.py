"""Service ports in the order of their services, in groups: a change makes one group anew, not all of them.

With ten thousand services that is what keeps a change cheap: a mode makes the rules of a group once.
"""

from __future__ import annotations

from bisect import bisect_right, insort

from mininetes.agents.kubeproxy.view import PortGroup, PortTraffic

FULL = 256
"""A group of more services is split in two."""


class PortGroups:
    """The ports of services by key, sorted; `groups` gives the same objects as before for what did not change."""

    def __init__(self) -> None:
        self._ports: dict[str, tuple[PortTraffic, ...]] = {}
        self._keys: list[list[str]] = [[]]
        self._made: list[PortGroup | None] = [None]

    def get(self, key: str) -> tuple[PortTraffic, ...]:
        """The ports of a service; none for one that is not there."""
        return self._ports.get(key, ())

    def put(self, key: str, ports: tuple[PortTraffic, ...]) -> None:
        """A service's ports as they are now; none takes it away."""
        at = max(0, bisect_right([keys[0] if keys else "" for keys in self._keys], key) - 1)
        keys = self._keys[at]
        if ports:
            if key not in self._ports:
                insort(keys, key)
            self._ports[key] = ports
        elif self._ports.pop(key, None) is None:
            return
        else:
            keys.remove(key)
        self._made[at] = None
        if len(keys) > FULL:
            half = len(keys) // 2
            self._keys[at : at + 1] = [keys[:half], keys[half:]]
            self._made[at : at + 1] = [None, None]
        elif not keys and len(self._keys) > 1:
            del self._keys[at], self._made[at]

    def groups(self) -> tuple[PortGroup, ...]:
        """All groups in order."""
        for at, made in enumerate(self._made):
            if made is None:
                ports = [each for key in self._keys[at] for each in self._ports[key]]
                self._made[at] = PortGroup(tuple(ports), sum(len(each.endpoints) for each in ports))
        return tuple(made for made in self._made if made is not None and made.ports)
