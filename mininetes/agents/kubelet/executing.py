"""Running a command in a container that runs already: for exec probes, and for `kubectl exec`."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mininetes.agents.kubelet.context import Context
from mininetes.agents.kubelet.prober import read_all
from mininetes.agents.shim.client import ShimError
from mininetes.deadline import within

_numbers = itertools.count(1)


def new_session() -> str:
    """A name that the shim has not heard from any kubelet before."""
    return f"{os.getpid()}.{next(_numbers)}"


@dataclass(frozen=True)
class Place:
    """Where a container's commands run: its pod's uid, network and pause process, and its own environment."""

    uid: str
    netns: str
    pause: str
    """The shim's name of the pause process; empty when there is none: the rest is the node's then."""
    environment: Mapping[str, str]
    cwd: str


class Execution:
    """A command that runs on descriptors of the caller's. Made by `start`; `close` when done with it."""

    def __init__(self, context: Context, name: str, *, in_sandbox: bool) -> None:
        self._context = context
        self._in_sandbox = in_sandbox
        self.name = name
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        context.shim.on_exit(name, self._end)

    def _end(self, name: str, status: int, _: float) -> None:
        if name == self.name and not self._ended.done():
            self._ended.set_result(status)

    @classmethod
    async def start(
        cls,
        context: Context,
        place: Place,
        argv: Sequence[str],
        stdio: tuple[int, int, int],
        *,
        terminal: bool = False,
    ) -> Execution:
        """Start the command. Raises ShimError when there is no such program, or the pod is gone."""
        name = f"{context.node}/{place.uid}/exec/{new_session()}"
        execution = cls(context, name, in_sandbox=bool(place.pause))
        environment = dict(place.environment)
        if terminal:
            environment.setdefault("TERM", "xterm")
        try:
            await context.shim.exec(
                execution.name,
                sandbox=place.pause or None,
                holder_pid=context.place.holder_pid,
                netns=place.netns,
                argv=argv,
                env=environment,
                cwd=place.cwd,
                stdio=stdio,
                terminal=terminal,
            )
        except BaseException:
            context.shim.on_exit(execution.name, None)
            raise
        return execution

    async def status(self) -> int:
        """Wait for the end; the exit status as shells have it."""
        return await asyncio.shield(self._ended)

    async def kill(self) -> None:
        """Kill it, with all that it has started."""
        with contextlib.suppress(ShimError):
            await self._context.shim.kill(self.name, signal.SIGKILL, whole=True)

    async def close(self) -> None:
        """Kill it if it still runs, and forget it. May be called twice.

        What a command leaves running when it ends goes on, as the sandbox ends it with the pod; without a
        sandbox nothing would, and it is killed.
        """
        self._context.shim.on_exit(self.name, None)
        if not (self._in_sandbox and self._ended.done()):
            await self.kill()
        with contextlib.suppress(ShimError):
            await self._context.shim.forget(self.name)


async def run(context: Context, place: Place, argv: Sequence[str], timeout_s: float | None) -> tuple[int, str]:
    """Run a command to its end; its exit status and output. Raises asyncio.TimeoutError after killing it.

    With a time of None it may take as long as it likes.

    A program that is not there is status 126 or 127 and the reason, as with a shell.
    """
    reading, writing = os.pipe()
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    execution: Execution | None = None
    try:
        try:
            execution = await Execution.start(context, place, argv, (null, writing, writing))
        except ShimError as failed:
            return 126, str(failed)
        finally:
            os.close(writing)
            os.close(null)

        async def to_the_end() -> tuple[int, str]:
            assert execution is not None
            output, status = await asyncio.gather(read_all(reading), execution.status())
            return status, output

        async with within(timeout_s):
            return await to_the_end()
    except asyncio.TimeoutError:
        if execution is not None:
            await execution.kill()
        raise
    finally:
        if execution is not None:
            await execution.close()
        os.close(reading)
