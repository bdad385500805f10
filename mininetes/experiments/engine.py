"""The engine of `mininetes run`, inside the lab: some runs of an experiment, one after the other, on one cluster.

It tells the launcher, a JSON object each: {"step": ...} in the bring-up, {"ready": seconds}, for each run
{"begin": number} and {"run": number, "seconds", "failed", "rows", "holds", "verdict", "load"}, and {"done": true} in
the end. A warm-up has a negative number. After a run that failed it ends: the next one gets a fresh lab.
{"unwritten": why} when rows could not be written.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import math
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mininetes.errors import MininetesError
from mininetes.experiments import definition, fidelity, results
from mininetes.experiments.definition import Experiment
from mininetes.experiments.lab import Lab
from mininetes.experiments.results import Measurement, Row, Run
from mininetes.testbed.engine import Reporter, run_engine
from mininetes.testbed.testbed import Testbed

log = logging.getLogger(__name__)


class _Failed(Exception):
    """A run that failed, with what to tell about it."""


@dataclass
class Engine:
    """What the runs of a lab share."""

    experiment: Experiment
    lab: Lab
    config: Mapping[str, Any]
    reporter: Reporter

    async def all(self) -> int:
        """Warm up, do the runs, and return the exit status."""
        cells = self.config["cells"]
        for number, (index, repetition, seed) in enumerate(self.config["warm_up"], start=1):
            self.reporter.say(begin=-number)
            try:
                await self._measured(cells[index], repetition, seed)
            except _Failed as failed:
                self.reporter.say(error=f"warm-up: {failed}", status=1)
                return 1
        for number, (index, repetition, seed) in enumerate(self.config["runs"]):
            self.reporter.say(begin=number)
            run = await self._run(cells[index], repetition, seed)
            self.reporter.say(
                run=number,
                seconds=run.seconds,
                failed=run.error,
                rows=run.rows,
                holds=run.holds,
                verdict=run.fidelity["verdict"],
                load=run.fidelity.get("load", 0.0),
            )
            if run.error is not None:
                return 1
        self.reporter.say(done=True)
        return 0

    async def _run(self, cell: Mapping[str, Any], repetition: int, seed: int) -> Run:
        """Do a run and write it."""
        watch = fidelity.Watch(self.config)
        watch.start()
        start, error = time.monotonic(), None
        measured: list[Measurement] = []
        try:
            measured = await self._measured(cell, repetition, seed)
        except _Failed as failed:
            error = str(failed)
        finally:
            seconds = time.monotonic() - start
            seen = watch.stop()
        name = self.experiment.name
        verdict = fidelity.judge(seen, saturates=self.experiment.saturates)
        run = Run(name, cell, repetition, seconds, error, len(measured), self.lab.holds, verdict)
        try:
            rows = [Row(name, cell, repetition, each) for each in measured]
            results.append_to(self.config["fds"]["rows"], [*rows, run.end()])
        except MininetesError as full:
            self.reporter.say(unwritten=str(full))
            raise
        return run

    async def _measured(self, cell: Mapping[str, Any], repetition: int, seed: int) -> list[Measurement]:
        """What the experiment returns, checked. Raises _Failed; cancelled when the lab shall end."""
        self.lab.begin(repetition, seed)
        task = asyncio.ensure_future(self._call(cell))
        try:
            await asyncio.wait({task}, timeout=self.experiment.timeout_s)
        except asyncio.CancelledError:
            # the lab ends: whatever the experiment makes of it is no result
            await _end(task)
            raise
        if not task.done():
            await _end(task)
            raise _Failed(f"not over after {self.experiment.timeout_s:g} s")
        try:
            return task.result()
        except asyncio.CancelledError:
            raise _Failed("it cancelled itself") from None
        except Exception as failed:
            log.exception("the run failed")
            raise _Failed(self.experiment.part.told(failed)) from failed

    async def _call(self, cell: Mapping[str, Any]) -> list[Measurement]:
        return checked(await self.experiment.run(self.lab, copy.deepcopy(dict(cell))))


async def _end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait({task}, timeout=5.0)


def checked(measured: object) -> list[Measurement]:
    """What an experiment's ``run`` returned, as rows can hold it. Raises MininetesError naming what is wrong."""
    if not isinstance(measured, Iterable):
        raise MininetesError(f"run returned {type(measured).__name__}, not Measurements")
    return [_checked(each) for each in measured]


def _checked(one: object) -> Measurement:
    if not isinstance(one, Measurement):
        raise MininetesError(f"run returned a {type(one).__name__} where a Measurement belongs")
    if one.metric == results.RUN:
        raise MininetesError(f"metric {results.RUN} is the runner's own: choose another name")
    try:
        value = None if one.value is None else float(one.value)
    except (TypeError, ValueError):
        raise MininetesError(f"metric {one.metric}: {one.value!r} is no number") from None
    if value is not None and not math.isfinite(value):
        raise MininetesError(f"metric {one.metric}: {value} is no measured value; None says that there is none")
    try:
        return Measurement(one.metric, value, one.unit, results.plain(one.labels))
    except (TypeError, ValueError) as wrong:
        raise MininetesError(f"metric {one.metric}: labels that JSON cannot hold: {wrong}") from None


def main(config: Mapping[str, Any], channel: socket.socket) -> int:
    """Bring the cluster up and do the runs; status 1 when one failed."""

    async def work(testbed: Testbed, reporter: Reporter) -> int:
        reporter.say(ready=testbed.ready_s)
        return await Engine(definition.load(config["experiment"]), Lab(testbed), config, reporter).all()

    return run_engine(config, channel, work)
