"""The fabric of a running cluster: what each host was given last, and giving it what a new view asks for."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mininetes.cluster.underlay import Underlay
from mininetes.kernel import applier
from mininetes.kernel.netstate import Change, NetState
from mininetes.kernel.packet_rules import Backend, Iptables
from mininetes.kernel.processes import Namespaces
from mininetes.lab.filesystem import node_path
from mininetes.testbed.fabric import Fabric, FabricNode, FabricPlan, FabricView


class Hosts(Protocol):
    """Where the hosts' namespaces are: each one's holder, and the path of its network namespace."""

    holders: dict[str, int]

    def netns(self, name: str) -> str:
        """The path of a host's network namespace."""


@dataclass(frozen=True)
class Brought:
    """What was changed on a host; ``drifted``: although nothing new was asked for, somebody had changed it."""

    changes: Sequence[Change]
    drifted: bool


class RunningFabric:
    """Puts plans into the hosts and remembers what it put there, for all agents that come and go.

    Methods that block may be called on any threads; one host is worked on by one of them at a time.
    """

    def __init__(self, fabric: Fabric, view: FabricView, hosts: Hosts, backend: Backend | None = None) -> None:
        self.fabric = fabric
        self.underlay = view.underlay
        self.members = view.nodes
        """The nodes of the view that was asked for last."""
        self.following = asyncio.Event()
        """Set once the API knows all nodes: from then on its nodes are the members."""
        self._view = view
        self._hosts = hosts
        self._backend = backend
        self._planning = threading.Lock()
        self._planned: tuple[FabricView, FabricPlan] | None = None
        self._declared: dict[str, NetState] = {}
        self._before: dict[str, NetState] = {}
        """By host: what may still be in the kernel of states before the declared one."""
        self._files: dict[str, Mapping[str, str]] = {}
        """By host: its files, by path, as they were written last."""
        self._turns: dict[str, threading.Lock] = {}

    def set_underlay(self, underlay: Underlay) -> None:
        """Plan on this underlay from now on."""
        self.underlay = underlay

    def plan(self, members: tuple[FabricNode, ...]) -> FabricPlan:
        """The plan for those of these nodes that are there, made once for all who ask. Blocks. Raises BadInput."""
        with self._planning:
            members = tuple(each for each in members if each.name in self.underlay.hosts)
            planned = self._planned
            if planned is None or planned[0].nodes != members or planned[0].underlay is not self.underlay:
                view = dataclasses.replace(self._view, nodes=members, underlay=self.underlay)
                planned = self._planned = view, self.fabric.plan(view)
            return planned[1]

    def declared(self, host: str) -> NetState:
        """What the host was given last."""
        return self._declared.get(host, applier.NOTHING)

    def bring(self, host: str, members: tuple[FabricNode, ...], *, repair: bool = True) -> Brought:
        """Give a host what the plan for these nodes has for it; its drift is left as it is without ``repair``.

        Blocks; may be called at any time. Raises MininetesError or OSError, and finishes the work when called again.
        """
        plan = self.plan(members)
        wanted = plan.state(host)
        with self._turn(host):
            before = self._before.get(host, applier.NOTHING)
            drifted = self._declared.get(host) == wanted and before == wanted
            ground = self._ground(host)
            if drifted and not repair:
                return Brought([*self._drift(host, ground.merged(wanted)), *self._changed_files(host)], drifted=True)
            self._declared[host] = wanted
            self._before[host] = _either(before, wanted)
            both, earlier = ground.merged(wanted), ground.merged(before)
            changes = applier.apply(self._hosts.netns(host), both, earlier, iptables=self._iptables(host))
            self._before[host] = wanted
            if drifted:
                changes = [*changes, *self._changed_files(host)]
            for path, text in plan.files.get(host, {}).items():
                _write(node_path(host, path), text)
            self._files[host] = plan.files.get(host, {})
        self.members = members
        return Brought(changes, drifted)

    def _changed_files(self, host: str) -> list[Change]:
        """What has to be done to the host's files so that they say what they were given last."""
        found = []
        for path, text in self._files.get(host, {}).items():
            said = _read(node_path(host, path))
            if said != text:
                found.append(Change("file", "add" if said is None else "change", path))
        return found

    def _ground(self, host: str) -> NetState:
        """The underlay's routes of a host, which go with a link that is set down as the fabric's do."""
        description = self.underlay.hosts.get(host)
        return NetState(routes=frozenset(description.routes)) if description is not None else applier.NOTHING

    def drift(self, host: str, besides: NetState = applier.NOTHING) -> list[Change]:
        """What a host has otherwise than it was given, or than the state ``besides``. Blocks."""
        return [*self._drift(host, besides.merged(self.declared(host))), *self._changed_files(host)]

    def _drift(self, host: str, wanted: NetState) -> list[Change]:
        return applier.drift(self._hosts.netns(host), wanted, iptables=self._iptables(host))

    def behind(self, members: tuple[FabricNode, ...]) -> list[str]:
        """The hosts that do not have yet what the plan for these nodes has for them. Blocks."""
        plan = self.plan(members)
        return [host for host, state in plan.states.items() if self._before.get(host, applier.NOTHING) != state]

    def forget(self, host: str) -> None:
        """The host has gone."""
        for known in (self._declared, self._before, self._files, self._turns):
            known.pop(host, None)

    def annotations(self, node: str) -> Mapping[str, str]:
        """What the object of a node in the API shall be annotated with. Blocks."""
        return self.plan(self.members).annotations.get(node, {})

    @contextlib.contextmanager
    def _turn(self, host: str) -> Iterator[None]:
        with self._turns.setdefault(host, threading.Lock()):
            yield

    def _iptables(self, host: str) -> Iptables:
        return Iptables(Namespaces(of_pid=self._hosts.holders[host]), self._backend)


def _either(first: NetState, second: NetState) -> NetState:
    """What may be there of two states of which it is not known how far the second one got."""
    return dataclasses.replace(first, sysctls={}).merged(second)


def _read(path: str) -> str | None:
    """What a file says; None when there is none, or no text in it."""
    try:
        with open(path) as file:
            return file.read()
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def _write(path: str, text: str) -> None:
    """Write a file at once, where it does not say so already."""
    if _read(path) == text:
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".new", "w") as file:
        file.write(text)
    os.rename(path + ".new", path)
