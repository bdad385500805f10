"""Tasks that live and end together."""

from __future__ import annotations

import asyncio

import pytest

from mininetes.agents import running
from mininetes.agents.running import changed_within, end, together


def test_what_one_raises_ends_all() -> None:
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("other")

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(together([forever(), fails()]))
    assert ended == ["other"]


def test_all_may_end_by_themselves() -> None:
    asyncio.run(together([asyncio.sleep(0), asyncio.sleep(0)]))


def test_a_task_that_misses_its_cancellation_is_ended_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_AGAIN_S", 0.01)
    missed = 0

    async def deaf() -> None:
        nonlocal missed
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                missed += 1
                if missed == 3:
                    raise

    async def main() -> None:
        task = asyncio.ensure_future(deaf())
        await asyncio.sleep(0)
        await end([task])
        assert task.cancelled()
        # and the caller's own cancellation is not held up either
        nonlocal missed
        missed = 0
        outer = asyncio.ensure_future(together([deaf()]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(outer, 5)

    asyncio.run(main())
    assert missed == 3


def test_waiting_for_a_change_ends_with_it_or_in_time() -> None:
    async def main() -> None:
        changed = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.call_soon(changed.set)
        await changed_within(changed, None)
        assert not changed.is_set()
        begun = loop.time()
        await changed_within(changed, 0.02)
        assert loop.time() - begun >= 0.015
        assert not changed.is_set()

    asyncio.run(main())
