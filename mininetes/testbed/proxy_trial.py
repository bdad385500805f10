"""An outside program as the proxy of every node of a running lab, for a while: started, waited for, ended, cleaned up.

no rules of services ── program started ── its rules settle ── measured ── ended ── packet filters as before
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from mininetes.agents.agent import Placement
from mininetes.agents.kubeproxy.leftovers import remove_everything
from mininetes.agents.kubeproxy.restoring import NodeTools
from mininetes.agents.running import end
from mininetes.errors import MininetesError
from mininetes.kernel import filter_state
from mininetes.kernel.filter_state import FilterState
from mininetes.testbed.control_plane import ControlPlane
from mininetes.testbed.proxying import ProxyProgram

log = logging.getLogger("mininetes")

SETTLED_WITHIN_S = 30.0
QUIET_S = 2.0
"""Rules that have not changed for so long are all that there will be ..."""
ANSWERED_QUIET_S = 0.3
"""... and where every service answers, for so long."""
_LOOK_S = 0.1
_LAST_LINES = 5
_Made = TypeVar("_Made")


class Trial:
    """A program on all nodes."""

    def __init__(self, plane: ControlPlane, program: ProxyProgram, number: int) -> None:
        self.program, self._plane = program, plane
        self._places: dict[str, Placement] = dict(plane.places)
        directory = plane.spec.logging.directory
        self._log_name = f"proxy-exec-{number}"
        self._logs = {place.node: plane.agent_log(place, self._log_name) for place in self._places.values()}
        self._shown = f"{directory}/{self._log_name}.log"
        self._written = {node: Path(each.path).stat().st_size for node, each in self._logs.items()}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._before: dict[str, FilterState] = {}

    async def start(self) -> None:
        """Clear each node of kube-proxies' rules, and start the program there."""
        await self._everywhere(self._clear)
        self._before = await self._everywhere(lambda place: filter_state.read(place.namespaces))
        for node, place in self._places.items():
            running = self._plane.proxy_seats.program(place, self._logs[node], self.program.argv)
            self._tasks[node] = asyncio.ensure_future(running.run())

    async def stop(self) -> None:
        """End the programs, and take away all that they left. May be called at any time."""
        await end(list(self._tasks.values()))
        await self._everywhere(self._clear)
        for node, changed in (await self._everywhere(self._put_back)).items():
            if changed:
                log.info("%s left on %s, and it was taken away: %s", self.program.title, node, ", ".join(changed))
        for each in self._logs.values():
            each.close()

    def _clear(self, place: Placement) -> list[str]:
        return remove_everything(NodeTools(place.namespaces))

    def _put_back(self, place: Placement) -> list[str]:
        before = self._before.get(place.node)
        return [] if before is None else filter_state.put_back(place.namespaces, before)

    async def _everywhere(self, work: Callable[[Placement], _Made]) -> dict[str, _Made]:
        made = await self._plane.blocking([lambda place=place: work(place) for place in self._places.values()])  # type: ignore[misc]
        return dict(zip(self._places, made, strict=True))

    async def settle(self, unanswered: Callable[[], Awaitable[set[str]]]) -> None:
        """Wait until the programs' rules stay as they are; ``unanswered`` names the nodes where a service is mute.

        Raises MininetesError when one has written nothing in time, and no service answers there.
        """
        loop = asyncio.get_running_loop()
        end_at = loop.time() + SETTLED_WITHIN_S
        last, since = self._before, loop.time()
        mute = set(self._places)
        while loop.time() < end_at:
            found = await self._everywhere(lambda place: filter_state.read(place.namespaces))
            if found != last:
                last, since = found, loop.time()
            quiet_s = loop.time() - since
            if quiet_s >= QUIET_S and all(found[node] != self._before[node] for node in found):
                return
            if quiet_s >= ANSWERED_QUIET_S:
                mute = await unanswered()
                if not mute:
                    return
            await asyncio.sleep(_LOOK_S)
        silent = [node for node in sorted(mute) if last[node] == self._before[node]]
        if silent:
            what = f"{self.program.title}: no rules and no answer within {SETTLED_WITHIN_S:g} s"
            raise MininetesError(f"{what} on {', '.join(silent)}: {self._last_lines(silent[0])}")
        log.warning("%s is measured while it still writes rules", self.program.title)

    async def during(self, work: Coroutine[Any, Any, _Made]) -> _Made:
        """Do something while the programs work. Raises MininetesError as soon as one has ended."""
        doing = asyncio.ensure_future(work)
        try:
            await asyncio.wait({doing, *self._tasks.values()}, return_when=asyncio.FIRST_COMPLETED)
            for node, task in self._tasks.items():
                if task.done():
                    failure = task.exception() or "it ended"
                    raise MininetesError(f"on {node}: {failure}: {self._last_lines(node)}")
            return await doing
        finally:
            doing.cancel()
            await asyncio.wait({doing})

    def _last_lines(self, node: str) -> str:
        """What the program said last, in one line, and where all of it is."""
        with open(self._logs[node].path, "rb") as file:
            file.seek(self._written[node])
            lines = file.read().decode(errors="replace").splitlines()
        own = [line for line in lines if "Starting an outside program" not in line and line.strip()]
        said = " | ".join(own[-_LAST_LINES:]) or "it said nothing"
        return f"{said} ({self._shown} there)"


@contextlib.asynccontextmanager
async def tried(plane: ControlPlane, program: ProxyProgram, number: int) -> AsyncIterator[Trial]:
    """The program works on every node for as long as the block runs; it is the lab's ``number``-th such.

    The lab's own proxies must be away. Nothing of what the program wrote is left afterwards.
    """
    trial = Trial(plane, program, number)
    try:
        await trial.start()
        yield trial
    finally:
        await trial.stop()
