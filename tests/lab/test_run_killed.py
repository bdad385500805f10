"""`mininetes run` killed at random moments, and gone on with."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_traces import Traces
from waiting import wait_until

from mininetes.experiments import results
from mininetes.experiments.definition import load
from mininetes.experiments.results import ROWS, Row
from mininetes.experiments.schedule import schedule, seed_of

PARTS = Path(__file__).parent / "parts"
COMMAND = ("--parts", str(PARTS), "run", "drawing_lots")


@pytest.fixture
def traces() -> Iterator[Traces]:
    """Commands of which nothing may be left when the test is over."""
    with Traces() as found:
        yield found
        found.wait_until_gone()


def rows_of(folder: Path) -> list[Row]:
    return list(results.read(folder))


def test_killed_at_ten_random_moments_no_row_is_lost_doubled_or_torn(traces: Traces, tmp_path: Path) -> None:
    """Six while it starts or runs, four as soon as a row was written, so that some come amid a write."""
    out, chance = tmp_path / "out", random.Random(6)
    settings = ["padding=5000", "pause_s=0.2", "draws=60"]  # a run has 300 kB
    arguments = [*COMMAND, "--out", str(out), "--resume", "--repetitions", "60"]
    arguments += [word for setting in settings for word in ("--set", setting)]
    experiment = load(str(PARTS / "experiments" / "drawing_lots.py"), settings, repetitions=60)
    planned = [run.key for lab in schedule(experiment, 1) for run in lab.runs]
    known: list[str] = []
    for kill in range(10):
        started = traces.start(*arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if kill % 5 < 3:
            time.sleep(chance.uniform(0.0, 4.0))
        else:
            size = _size(out)
            wait_until(lambda size=size: _size(out) > size, "a row", within_s=60, every_s=0.0005)
            time.sleep(chance.uniform(0.0, 0.02))
        assert started.poll() is None, "it ended before it was killed: give it more to do"
        started.kill()
        started.wait()
        if kill % 2:  # else the next start comes while the lab may still be dying
            wait_until(lambda: not traces.left(), "the lab's end", within_s=30)
        whole = [json.dumps(row.to_json()) for row in rows_of(out)] if (out / ROWS).exists() else []
        assert whole[: len(known)] == known, "rows of before are lost"
        known = whole
    done = traces.run(*arguments)
    assert done.status == 0, done
    ended = results.runs(rows_of(out))
    assert [run.key for run in ended] == planned
    assert all(run.error is None and run.rows == 60 for run in ended)
    assert len((out / ROWS).read_text().splitlines()) == 61 * 120
    firsts = [row for row in rows_of(out) if row.measurement.labels.get("draw") == 0]
    assert len(firsts) == 120
    assert all(row.measurement.value == random.Random(seed_of(1, row.repetition)).random() for row in firsts)


def _size(out: Path) -> int:
    path = out / ROWS
    return path.stat().st_size if path.exists() else 0
