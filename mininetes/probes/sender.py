"""The engine's prober: probes on a worker thread of its own, so that the event loop goes on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mininetes.probes.connections import ConnectOptions, connect
from mininetes.probes.outcomes import Outcome, Sample
from mininetes.probes.pacing import Pacing, measure
from mininetes.probes.packets import prepare
from mininetes.probes.reachability import SweepOptions, sweep
from mininetes.probes.vantage import Flow

_T = TypeVar("_T")


class Prober:
    """Sends probes from any number of namespaces, one kind of work at a time.

    One per engine: two measurements at once would disturb each other, so they queue. Works inside
    a user namespace (needs CAP_NET_RAW and CAP_SYS_ADMIN there). Use as an async context manager
    or call `close`.
    """

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="probes")

    async def prepare(self) -> None:
        """Have the usual packets built (0.4 s), so that the first probes need not wait; good during bring-up."""
        await self._run(lambda _: prepare())

    async def sweep(self, flows: Sequence[Flow], options: SweepOptions | None = None) -> list[Outcome]:
        """Ask every flow until it is answered; return one outcome each, in the same order.

        Raises OSError when a source's namespace is gone or file descriptors run out.
        Cancelling stops the sending.
        """
        wanted = options or SweepOptions()
        return await self._run(lambda stop: sweep(flows, wanted, stop_fd=stop))

    async def latency(self, flows: Sequence[Flow], pacing: Pacing | None = None) -> list[Sample]:
        """Send paced probes along every flow; return ``count`` samples each, lost ones among them."""
        wanted = pacing or Pacing()
        return await self._run(lambda stop: measure(flows, wanted, stop_fd=stop))

    async def connect(self, flows: Sequence[Flow], options: ConnectOptions | None = None) -> list[Outcome]:
        """Open a real TCP connection along every flow and read the responder's line."""
        wanted = options or ConnectOptions()
        return await self._run(lambda stop: connect(flows, wanted, stop_fd=stop))

    async def _run(self, work: Callable[[int], _T]) -> _T:
        """Run ``work`` on the worker; when the caller is cancelled, tell it so by its eventfd."""
        stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        future = self._worker.submit(work, stop)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            os.eventfd_write(stop, 1)
            raise
        finally:
            future.add_done_callback(lambda _: os.close(stop))  # not before the worker has let go of it

    async def close(self) -> None:
        """End the worker, once it is done. May be called twice."""
        await asyncio.to_thread(self._worker.shutdown)

    async def __aenter__(self) -> Prober:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
