"""The agents of a lab, each a task of the engine that can be ended and started anew on its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from mininetes.agents.klog import AgentLog
from mininetes.agents.running import end
from mininetes.errors import BadInput

log = logging.getLogger("mininetes")

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0


class Runs(Protocol):
    """What an agent is here: something that works until it is cancelled."""

    async def run(self) -> None:
        """Work until cancelled."""


Maker = Callable[[], AbstractAsyncContextManager[Runs]]
"""Makes an agent for as long as a block runs, with what it alone uses (its client of the API)."""


@dataclass
class _Seat:
    """An agent's place: how to make one, its log, the one made last, and the task in which it works."""

    node: str
    name: str
    make: Maker
    log: AgentLog
    latest: Runs | None = None
    works: bool = False
    task: asyncio.Task[None] | None = None
    restarts: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        return self.task is not None and not self.task.done() and self.works


class AgentTasks:
    """All agents by node and name. One that fails is started anew after a growing pause, as a kubelet does."""

    def __init__(self) -> None:
        self._seats: dict[tuple[str, str], _Seat] = {}

    def add(self, node: str, name: str, make: Maker, agent_log: AgentLog) -> None:
        """Give an agent its place; `start` makes it work."""
        self._seats[node, name] = _Seat(node, name, make, agent_log)

    def names(self) -> list[tuple[str, str]]:
        """Node and name of each, in the order in which they were added."""
        return list(self._seats)

    def agent(self, node: str, name: str) -> Runs | None:
        """The agent that works there, or worked there last; None before the first."""
        seat = self._seats.get((node, name))
        return seat.latest if seat is not None else None

    def is_alive(self, node: str, name: str) -> bool:
        """Whether that agent works now."""
        seat = self._seats.get((node, name))
        return seat is not None and seat.alive

    def is_working(self, node: str, name: str) -> bool:
        """Whether it was started and not stopped: it may be waiting to be started anew after a failure."""
        seat = self._seats.get((node, name))
        return seat is not None and seat.task is not None

    def failure(self, node: str, name: str) -> str:
        """Why that agent ended last; empty when it works, and before the first time."""
        seat = self._seats.get((node, name))
        return seat.failures[-1] if seat is not None and seat.failures and not seat.alive else ""

    def start(self, node: str, name: str) -> None:
        """Have an agent work. Does nothing when it does. Raises BadInput when there is none of that name."""
        seat = self._seat(node, name)
        if seat.task is None or seat.task.done():
            seat.task = asyncio.get_running_loop().create_task(self._keep(seat), name=f"{name} on {node}")

    def start_all(self, wanted: Iterable[tuple[str, str]] | None = None) -> None:
        """Have all agents (or these) work."""
        for node, name in wanted if wanted is not None else self.names():
            self.start(node, name)

    async def stop(self, node: str, name: str) -> None:
        """End an agent at once, as a kill does: it cleans nothing up. May be called twice. Raises BadInput."""
        seat = self._seat(node, name)
        task, seat.task = seat.task, None
        if task is not None:
            await end([task])

    async def remove(self, node: str) -> None:
        """End all agents of a node, the last added first, and take their places away."""
        for where, name in reversed(self.names()):
            if where == node:
                await self.stop(where, name)
                self._seats.pop((where, name)).log.close()

    async def close(self) -> None:
        """End all, the last added first. May be called twice."""
        for node, name in reversed(self.names()):
            await self.stop(node, name)
        for seat in self._seats.values():
            seat.log.close()

    def rows(self) -> list[dict[str, Any]]:
        """Each agent as plain JSON."""
        return [
            {
                "node": seat.node,
                "name": seat.name,
                "state": "running" if seat.alive else "failing" if seat.task is not None else "stopped",
                "restarts": seat.restarts,
                "failure": seat.failures[-1] if seat.failures else "",
                "log": seat.log.path,
            }
            for seat in self._seats.values()
        ]

    def _seat(self, node: str, name: str) -> _Seat:
        seat = self._seats.get((node, name))
        if seat is None:
            known = ", ".join(sorted({each for where, each in self._seats if where == node}))
            if not known:
                nodes = ", ".join(dict.fromkeys(where for where, _ in self._seats))
                raise BadInput("node", node, f"one that has agents: {nodes or 'none, without a control plane'}")
            raise BadInput("agent", name, f"one of those on {node}: {known}")
        return seat

    async def _keep(self, seat: _Seat) -> None:
        pause = FIRST_PAUSE_S
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                async with seat.make() as agent:
                    seat.latest, seat.works = agent, True
                    await agent.run()
                failure = "ended by itself"
            except Exception as failed:
                failure = f"{type(failed).__name__}: {failed}"
                log.exception("%s on %s failed", seat.name, seat.node)
            finally:
                seat.works = False
            seat.restarts += 1
            seat.failures = [*seat.failures[-4:], failure]
            with contextlib.suppress(OSError):
                seat.log.error("Starting anew after a failure", err=failure)
            if loop.time() - began > LONGEST_PAUSE_S * 2:
                pause = FIRST_PAUSE_S
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)
