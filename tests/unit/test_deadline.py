"""A bound of time: it ends what takes too long, and never swallows a cancellation."""

from __future__ import annotations

import asyncio
import time

import pytest

from mininetes.deadline import within


def test_what_is_done_in_time_is_not_disturbed() -> None:
    async def main() -> str:
        async with within(5):
            await asyncio.sleep(0)
        async with within(None):
            return await asyncio.sleep(0, "done")

    assert asyncio.run(main()) == "done"


def test_what_takes_longer_is_cancelled_and_is_a_timeout() -> None:
    async def main() -> None:
        async with within(0.01):
            await asyncio.sleep(30)

    began = time.monotonic()
    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(main())
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("turns", range(6))
def test_a_cancellation_is_heard_in_whatever_turn_of_the_loop_it_comes(turns: int) -> None:
    async def main() -> str:
        came = asyncio.Event()

        async def waiting() -> str:
            async with within(5):
                await came.wait()
            try:
                await asyncio.sleep(0.2)
            except asyncio.CancelledError:
                return "heard"
            return "lost"

        task = asyncio.ensure_future(waiting())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        came.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        return "heard" if task.cancelled() else task.result()

    assert asyncio.run(main()) == "heard"
