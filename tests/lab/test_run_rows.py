"""Rows under hardship: writers that are killed, a disk that is full, and a million of them."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest
from running_lab import MININETES, REPOSITORY, run

from mininetes.experiments.results import ROWS, Measurement, Row, Run, append_to, keep_whole_runs, open_rows, read, runs

ROW = Row("quickstart", {"nodes": 3}, 0, Measurement("rtt_us", 11.9, "us"))
PARTS = REPOSITORY / "tests" / "lab" / "parts"


def write_runs(folder: str, n: int) -> None:
    """Write runs until somebody ends it; each is too large to be written in one go by the kernel."""
    fd = open_rows(Path(folder))
    for repetition in range(100_000):
        padded = Measurement("m", 1.0, "1", {"padding": "x" * 50_000})
        rows = [Row("q", {"nodes": n}, repetition, padded) for _ in range(20)]
        end = Run("q", {"nodes": n}, repetition, 0.5, None, 20, holds=True, fidelity={})
        append_to(fd, [*rows, end.end()])


def test_writers_killed_at_ten_random_moments_leave_whole_runs(tmp_path: Path) -> None:
    chance = random.Random(1)
    spawn = multiprocessing.get_context("spawn")
    path = tmp_path / ROWS
    path.touch()
    before = 0
    for killed in range(10):
        both = [spawn.Process(target=write_runs, args=(str(tmp_path), 2 * killed + n)) for n in range(2)]
        for each in both:
            each.start()
        grown_from = path.stat().st_size
        deadline = time.monotonic() + 60
        while path.stat().st_size <= grown_from + 1_100_000:  # one run whole, the next begun
            assert time.monotonic() < deadline
            time.sleep(0.0005)
        time.sleep(chance.random() * 0.03)
        for each in both:
            _kill(each)
        kept = keep_whole_runs(tmp_path)
        assert len(kept) > before
        before = len(kept)
        assert all(each.rows == 20 for each in kept)
    keys = [each.key for each in kept]
    assert len(keys) == len(set(keys))
    for cell in {each.cell["nodes"] for each in kept}:  # none is lost in between
        found = [each.repetition for each in kept if each.cell["nodes"] == cell]
        assert found == list(range(len(found)))
    assert len(list(read(tmp_path))) == 21 * len(kept)


def _kill(process: SpawnProcess) -> None:
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()


# --- many ---------------------------------------------------------------------------------------------------------

MILLION = """
import resource, sys
from pathlib import Path
from mininetes.experiments.results import read, trusted
rows = trusted(list(read(Path(sys.argv[1]))))
median = sorted(row.measurement.value for row in rows)[len(rows) // 2]
print(len(rows), median, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_a_million_rows_are_read_within_a_gibibyte(tmp_path: Path) -> None:
    with (tmp_path / ROWS).open("w") as file:
        start = json.dumps({**ROW.to_json(), "repetition": 0, "labels": {}})[:-3]
        lines = "".join(
            f'{start}{{"path": "cross node", "source": "n1", "target": "n2-{place % 7}", "sequence": {place}}}}}\n'
            for place in range(50_000)
        )
        for repetition in range(20):
            file.write(lines.replace('"repetition": 0', f'"repetition": {repetition}'))
            end = Run("quickstart", {"nodes": 3}, repetition, 1.0, None, 50_000, holds=True, fidelity={}).end()
            file.write(json.dumps(end.to_json()) + "\n")
    argv = [sys.executable, "-c", MILLION, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    count, median, mib = done.stdout.split()
    assert (int(count), float(median)) == (1_000_020, 11.9)
    assert int(mib) < 700, "a report needs room for its own"


# --- a full disk --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", [100, 3000])
def test_a_full_disk_is_one_clear_error_and_what_was_written_stays_whole(tmp_path: Path, padding: int) -> None:
    """A tmpfs in a mount namespace of its own, copied before it goes; with the large rows not even one run fits."""
    settings = ["--set", "kind=a", "--set", f"padding={padding}", "--repetitions", "40"]
    command = [*MININETES, "--parts", str(PARTS), "run", "drawing_lots", *settings, "--out", "/mnt/out"]
    script = f"""
        mount -t tmpfs tmpfs /run
        mount -t tmpfs -o size=48k tmpfs /mnt
        {shlex.join(command)}
        status=$?
        cp -r /mnt/out {shlex.quote(str(tmp_path))}/
        exit $status
    """
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    done = run(["unshare", "--mount", *as_root, "sh", "-c", script])
    errors = [line for line in done.stderr.splitlines() if line.startswith("mininetes: ")]
    assert done.status == 1, done
    assert "Traceback" not in done.stderr
    assert errors == ["mininetes: rows could not be written: No space left on device; what was written before is whole"]
    written = runs(read(tmp_path / "out"))
    assert all(each.error is None and each.rows == 20 for each in written)
    assert len(written) == 0 if padding == 3000 else 0 < len(written) < 40
    text = (tmp_path / "out" / ROWS).read_text()
    assert len(text.splitlines()) == 21 * len(written)
    assert f"{len(written)} of 40 runs are done; --out /mnt/out --resume goes on" in done.stderr
    again = run([*command[:-2], "--out", str(tmp_path / "out"), "--resume"])
    assert again.status == 0, again
    assert (tmp_path / "out" / ROWS).read_text().startswith(text)
    assert len(runs(read(tmp_path / "out"))) == 40
