"""Tasks that live and end together, and work in threads that is seen to its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Executor
from typing import Any, TypeVar

_T = TypeVar("_T")
_AGAIN_S = 1.0


async def together(works: Iterable[Awaitable[object]]) -> None:
    """Run all until one fails or the caller is cancelled; then none is left running. Raises what the first raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        # not gather(): when it is cancelled, it waits for tasks that may have missed their cancellation
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        failed = [task for task in tasks if task.done()]
    finally:
        await end(tasks)
    for task in failed:
        task.result()


async def end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks and wait until all have ended, however they end.

    A task is cancelled again when it goes on: before Python 3.12 a cancellation is lost that comes
    in the moment in which what `asyncio.wait_for` waits for is done.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_AGAIN_S)


async def changed_within(changed: asyncio.Event, timeout_s: float | None) -> None:
    """Wait until ``changed`` is set, at most ``timeout_s`` (None: without end), and clear it."""
    timer = asyncio.get_running_loop().call_later(timeout_s, changed.set) if timeout_s is not None else None
    try:
        await changed.wait()
    finally:
        if timer is not None:
            timer.cancel()
    changed.clear()


async def in_thread(executor: Executor, work: Callable[..., _T], *arguments: Any) -> _T:
    """Run blocking work in a thread; when cancelled, still wait for its end: nothing is left half-done."""
    future = asyncio.get_running_loop().run_in_executor(executor, work, *arguments)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([future])
        future.exception()  # seen: nobody is left to hear of it
        raise
