"""Runs of a few milliseconds that draw numbers from their seed: for tests of the runner.

A run fails, waits, dies, burns time, or waits for one of another lab where its parameters say so.
"""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mininetes.api import BadInput, Lab, Measurement, Published, Row, Verdict

REPRODUCES = "nothing: it draws lots"
PUBLISHED = [Published(REPRODUCES, "this file", "1", [{"kind": "a", "value": 0.5}])]
PARAMETERS = {
    "kind": ["a", "b"],
    "draws": [20],
    "bad": ["none"],
    "pause_s": [0.0],
    "padding": [0],
    "folder": [""],
}
FIGURE_SIZE = {"draws": [5], "repetitions": 2}
REPETITIONS = 4
WARM_UP = 1
LAB_PER = ("kind",)
TIMEOUT_S = 30


def cluster(params: Mapping[str, Any]) -> dict[str, Any]:
    """The smallest there is."""
    if params["draws"] < 1:
        raise BadInput("draws", params["draws"], "at least 1")
    return {"nodes": {"controlPlane": 1, "workers": 0}, "controlPlane": {"store": "none"}, "pods": {"perNode": 1}}


async def run(lab: Lab, params: Mapping[str, Any]) -> list[Measurement]:
    """Draw, and note in the folder that it did."""
    if params["folder"]:
        Path(params["folder"], f"{params['kind']}-{lab.repetition}").touch()
    await asyncio.sleep(params["pause_s"])
    bad, chance = params["bad"], random.Random(lab.seed)
    if bad == "raises" and lab.repetition == 1:
        raise RuntimeError("lots are out")
    if bad == "dies" and lab.repetition == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if bad == "nan":
        return [Measurement("lot", float("nan"), "1", {})]
    other = Path(params["folder"], f"{'ab'.replace(params['kind'], '')}-{lab.repetition}")
    while bad == "meets" and not other.exists():
        await asyncio.sleep(0.01)  # until the time-out
    if bad == "burns":
        await _burn()
    return [
        Measurement("lot", chance.random(), "1", {"draw": draw, "padding": "x" * params["padding"]})
        for draw in range(params["draws"])
    ]


async def _burn() -> None:
    """Keep every processor busy for a second."""
    argv = [sys.executable, "-c", "while True: pass"]
    burning = [await asyncio.create_subprocess_exec(*argv) for _ in range((os.cpu_count() or 1) + 1)]
    await asyncio.sleep(1.0)
    for each in burning:
        each.kill()
        await each.wait()


def plot(rows: list[Row]) -> dict[str, Any]:
    """No figures."""
    return {}


def verdicts(rows: list[Row]) -> list[Verdict]:
    """Lots lie between 0 and 1."""
    lots = [row.measurement.value for row in rows if row.measurement.metric == "lot"]
    inside = all(lot is not None and 0 <= lot < 1 for lot in lots)
    return [Verdict("lots lie between 0 and 1", "0 to 1", f"{len(lots)} lots", "yes" if inside else "no")]
