"""The engine of a lab: the process that builds a cluster, answers its control socket, and ends it.

Entry of `mininetes up` (`serve`); experiments run the same engine around their own work.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from mininetes import parts
from mininetes.errors import MininetesError
from mininetes.kernel.processes import lift_file_limit
from mininetes.lab.engine_side import InitSocket
from mininetes.spec import ClusterSpec
from mininetes.testbed import control
from mininetes.testbed.blueprint import draw
from mininetes.testbed.host_api import HostApi
from mininetes.testbed.reporting import Progress, Reporter, start_logging
from mininetes.testbed.testbed import Testbed

__all__ = ["Reporter", "phase", "run_engine", "running", "serve"]

log = logging.getLogger("mininetes")


def phase(name: str) -> None:
    """Log that a phase of the lab's life begins: bring-up, run, tear-down."""
    log.info("phase %s", name)


def _telling(reporter: Reporter) -> Progress:
    def step(name: str) -> None:
        log.info("step %s", name)
        reporter.say(step=name)

    def trouble(text: str) -> None:
        log.warning("waiting: %s", text)
        reporter.say(trouble=text)

    return Progress(step, trouble)


def _look_for_garbage() -> None:
    """From now on. What there is stays: looking through it all would hold the loop for tens of milliseconds."""
    gc.freeze()
    gc.enable()


@contextlib.asynccontextmanager
async def running(config: Mapping[str, Any], channel: socket.socket, reporter: Reporter) -> AsyncIterator[Testbed]:
    """Bring up the cluster of ``config["spec"]``, answer the control socket, and tear down in the end.

    The block is cancelled (as asyncio cancels) when PID 1 asks for the end.
    """
    gc.disable()  # nothing that is made in the bring-up is garbage soon
    parts.use([Path(folder) for folder in config.get("parts", [])])
    init = InitSocket(channel)
    phase("bring-up")
    blueprint = draw(ClusterSpec.model_validate(config["spec"]))
    testbed = Testbed(blueprint, init, config["neighbour_limit"], HostApi.of(config["fds"]))
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()

    def hear() -> None:
        init.hear()
        if init.end_asked:
            loop.remove_reader(init.fileno())
            task.cancel()

    def listen() -> None:
        loop.add_reader(init.fileno(), hear)
        if init.end_asked:  # already, while the nodes were made
            task.cancel()

    server = None
    try:
        if "control" in config["fds"]:
            listener = socket.socket(fileno=config["fds"]["control"])
            server = await asyncio.start_unix_server(control.answering(testbed), sock=listener)
        try:
            await testbed.bring_up(_telling(reporter), listen)
        except MininetesError as failed:
            if not config.get("keep"):
                raise
            log.error("kept, though it is not up: %s", failed)
            reporter.say(kept=str(failed), status=failed.exit_status)
            listen()  # where that was not reached
            _look_for_garbage()
            await asyncio.Event().wait()
        _look_for_garbage()
        phase("run")
        try:
            yield testbed
        finally:
            phase("tear-down")
    finally:
        if server is not None:
            server.close()
        loop.remove_reader(init.fileno())
        await testbed.close()
        log.info("torn down")


def run_engine(
    config: Mapping[str, Any], channel: socket.socket, work: Callable[[Testbed, Reporter], Awaitable[int]]
) -> int:
    """Run a lab's engine to its end around ``work`` and return the exit status."""
    fds = config["fds"]
    start_logging(fds.get("log"))
    lift_file_limit()
    reporter = Reporter(fds.get("report"))

    async def main() -> int:
        async with running(config, channel, reporter) as testbed:
            return await work(testbed, reporter)

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        reporter.say(ended=True)
        return 0
    except MininetesError as failed:
        log.error("%s", failed)
        reporter.say(error=str(failed), status=failed.exit_status)
        return failed.exit_status
    except Exception as failed:
        log.exception("the engine failed")
        text = traceback.format_exc() if config.get("debug") else f"{type(failed).__name__}: {failed}"
        reporter.say(error=text, status=1)
        return 1


async def _stay(testbed: Testbed, reporter: Reporter) -> int:
    """Say that the cluster is ready, and stay until PID 1 asks for the end."""
    reporter.say(ready=testbed.status())
    reporter.close()
    await asyncio.Event().wait()
    return 0


def serve(config: Mapping[str, Any], channel: socket.socket) -> int:
    """The engine of `mininetes up`."""
    return run_engine(config, channel, _stay)
