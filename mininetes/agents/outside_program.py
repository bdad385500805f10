"""An outside program in an agent's place: a real flanneld or kube-proxy, or one of the user's own, on each node."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from functools import partial

from mininetes.agents.agent import Placement
from mininetes.agents.klog import AgentLog
from mininetes.deadline import within
from mininetes.errors import MininetesError
from mininetes.kernel import processes

GRACE_S = 3.0
"""Between SIGTERM and SIGKILL."""


class OutsideProgram:
    """Runs a program in a node's network, mount and UTS namespaces, with the node's name in ``NODE_NAME``.

    What it prints goes to the agent's log file, as it is. `run` ends when the program does: whoever keeps
    agents starts it anew. Cancelling ends the program, with those of its children that it left in its group.
    ``executor`` has threads that let themselves into namespaces (`let_thread_enter`).
    """

    def __init__(
        self,
        place: Placement,
        log: AgentLog,
        argv: Sequence[str],
        *,
        executor: Executor,
        environment: Mapping[str, str],
    ) -> None:
        self._place = place
        self._log = log
        self._argv = list(argv)
        self._executor = executor
        self._environment = {**os.environ, **environment, "NODE_NAME": place.node, "NODE_IP": place.address}

    async def run(self) -> None:
        """Run the program to its end. Raises MininetesError with its status, even 0, or when it cannot be started."""
        loop = asyncio.get_running_loop()
        self._log.info("Starting an outside program", argv=self._argv, node=self._place.node)
        program = await loop.run_in_executor(self._executor, self._start)
        pidfd = os.pidfd_open(program.pid)
        ended = asyncio.Event()
        loop.add_reader(pidfd, ended.set)
        try:
            await ended.wait()
        finally:
            if not ended.is_set():
                await self._end(program.pid, ended)
            loop.remove_reader(pidfd)
            os.close(pidfd)
            status = program.wait()
        raise MininetesError(f"{self._argv[0]} ended with status {status}")

    def _start(self) -> subprocess.Popen[bytes]:
        start = partial(processes.start, namespaces=processes.Namespaces(of_pid=self._place.holder_pid))
        with open(self._log.path, "ab") as output, open(os.devnull, "rb") as nothing:
            try:
                return start(
                    self._argv,
                    stdin=nothing,
                    stdout=output,
                    stderr=output,
                    env=self._environment,
                    start_new_session=True,
                )
            except OSError as failed:
                raise MininetesError(f"{self._argv[0]} on {self._place.node}: {failed.strerror}") from None

    async def _end(self, pid: int, ended: asyncio.Event) -> None:
        """End the program's group, gently at first. It is not yet reaped, so that the pid is still its own."""
        for number, grace_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, None)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)
            with contextlib.suppress(asyncio.TimeoutError):
                async with within(grace_s):
                    await ended.wait()
                break
