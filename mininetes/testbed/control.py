"""The control socket: what commands on the host ask of a running engine. One JSON object a line, both ways."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from mininetes.errors import BadInput, MininetesError
from mininetes.probes.latency import summarise
from mininetes.probes.pacing import Pacing
from mininetes.probes.reachability import SweepOptions
from mininetes.testbed import measuring
from mininetes.testbed.testbed import Testbed

log = logging.getLogger("mininetes")

Request = dict[str, Any]
Answer = dict[str, Any]


async def _status(testbed: Testbed, _: Request) -> Answer:
    return testbed.status()


async def _drift(testbed: Testbed, _: Request) -> Answer:
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(None, testbed.drift)
    return {"drift": {host: [str(change) for change in changes] for host, changes in found.items()}}


async def _reachability(testbed: Testbed, request: Request) -> Answer:
    options = SweepOptions(attempts=request["attempts"], timeout_s=request["timeout_s"])
    matrix = await measuring.reachability(testbed, protocol=request["protocol"], options=options)
    return {"cells": matrix.rows()}


async def _latency(testbed: Testbed, request: Request) -> Answer:
    pacing = Pacing(request["interval_s"], request["count"], request["payload_bytes"])
    samples = await measuring.latency(testbed, pacing)
    return {"summaries": [summary.row() for summary in summarise(samples)]}


_OPERATIONS: dict[str, Callable[[Testbed, Request], Awaitable[Answer]]] = {
    "status": _status,
    "drift": _drift,
    "reachability": _reachability,
    "latency": _latency,
}


def answering(testbed: Testbed) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """The handler of one connection: answers requests until the client goes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await _answer(testbed, line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError) as gone:
            log.info("a client of the control socket went, or sent a line that is too long: %s", gone)
        finally:
            writer.close()

    return serve


async def _answer(testbed: Testbed, line: bytes) -> Answer:
    try:
        request = json.loads(line)
        return await _OPERATIONS[request["op"]](testbed, request)
    except MininetesError as failed:
        return {"error": str(failed), "status": failed.exit_status}
    except (ValueError, KeyError, TypeError) as wrong:
        return {"error": f"request: {type(wrong).__name__}: {wrong}", "status": BadInput.exit_status}
    except OSError as failed:
        return {"error": str(failed), "status": 1}
