"""A bound of time on what is awaited.

Not `asyncio.wait_for`: before Python 3.12 a cancellation is lost that comes in the moment in which what it waits for
is done, and whoever cancelled then waits for ever.
"""

from __future__ import annotations

import sys
from contextlib import AbstractAsyncContextManager

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout


def within(timeout_s: float | None) -> AbstractAsyncContextManager[object]:
    """``async with within(5.0):`` cancels what its block awaits after that time (None: never).

    The block then raises asyncio.TimeoutError.
    """
    bound: AbstractAsyncContextManager[object] = timeout(timeout_s)
    return bound
