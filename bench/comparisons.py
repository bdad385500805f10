"""`mininetes compare` on real measurements: how often like with like alarms, and how often a tenth slower is found.

One lab measures the CPU time of round trips between two pods, of so many or of a tenth more, against that of a
reference load, which is always the same and done in between, a few round trips of each in turn: a machine whose
processors are slower for a while (other guests', other threads' work) is slower for both. The CPU time alone, which
is measured too, says how large that noise is. Ten repetitions after each other are one result, so that whatever
drifts on the machine drifts between results too.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from mininetes.experiments import results
from mininetes.experiments.comparing import LEAST_REPETITIONS, Compared, Limits, compare_gathered
from mininetes.experiments.gathering import gather
from mininetes.experiments.results import Row
from mininetes.experiments.statistics import median, percentile

COMPARISONS = 20
MOST_ALARMS, LEAST_FOUND = 1, 19
FAST, SLOW = 800, 880
EXPERIMENT = f'''"""Round trips between two pods, so many in a row."""

import socket
import time

from mininetes.api import Measurement
from mininetes.kernel.netns import socket_in

REPRODUCES = "nothing published: like with like, and a tenth slower"
PARAMETERS = {{"rounds": [{FAST}, {SLOW}]}}
REFERENCE = {FAST}
TURNS = 40
LAB_PER = ()


def cluster(params):
    workers = {{"controlPlane": 1, "workers": 1}}
    return {{"nodes": workers, "controlPlane": {{"store": "none"}}, "pods": {{"perNode": 1}}}}


def end(pod):
    found = socket_in(pod.netns, socket.AF_INET, socket.SOCK_DGRAM, 0)
    found.bind((str(pod.address), 0))
    found.settimeout(5)
    return found


def there_and_back(a, b, times):
    at_a, at_b = a.getsockname(), b.getsockname()
    for _ in range(times):
        a.sendto(b"x", at_b)
        b.recv(9)
        b.sendto(b"x", at_a)
        a.recv(9)


async def run(lab, params):
    a, b = (end(each) for each in lab.testbed.vantages() if each.kind == "pod")
    with a, b:
        there_and_back(a, b, 50)
        rows = []
        for batch in range(25):
            load_s = reference_s = 0.0
            for _ in range(TURNS):
                start = time.thread_time()
                there_and_back(a, b, REFERENCE // TURNS)
                between = time.thread_time()
                there_and_back(a, b, params["rounds"] // TURNS)
                reference_s += between - start
                load_s += time.thread_time() - between
            rows.append(Measurement("cpu_us", load_s * 1e6, "us", {{"sequence": batch}}))
            rows.append(Measurement("of_reference", load_s / reference_s, "1", {{"sequence": batch}}))
    return rows


def plot(rows):
    return {{}}
'''


def measured(repetitions: int) -> list[Row]:
    """The rows of one run of the experiment, of its saturated runs too."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "experiments"
        place.mkdir()
        (place / "echoes.py").write_text(EXPERIMENT)
        command = [str(Path(sys.executable).parent / "mininetes"), "--parts", folder, "run", "echoes"]
        out = Path(folder) / "result"
        command += ["--repetitions", str(repetitions), "--out", str(out), "-o", "json"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return list(results.read(out))


def blocks(rows: Iterable[Row], rounds: int, metric: str) -> list[list[Row]]:
    """Ten repetitions after each other at a time, each as a result of its own, in which nothing but ``metric`` is."""
    runs: dict[int, list[Row]] = {}
    for row in rows:
        if row.cell["rounds"] == rounds and not row.ends_run and row.measurement.metric == metric:
            runs.setdefault(row.repetition, []).append(row)
    order = sorted(runs)
    found = []
    for start in range(0, len(order) - LEAST_REPETITIONS + 1, LEAST_REPETITIONS):
        taken = order[start : start + LEAST_REPETITIONS]
        found.append([replace(row, cell={}, repetition=place) for place, at in enumerate(taken) for row in runs[at]])
    return found


def compared(a: Sequence[Row], b: Sequence[Row]) -> Compared:
    """What `mininetes compare` says of two results."""
    (found,), _ = compare_gathered(gather(a), gather(b), Limits())
    return found


def spread(rows: Sequence[Row]) -> float:
    """How far the middle half of a result's repetitions lies apart, as a part of their median."""
    runs: dict[int, list[float]] = {}
    for row in rows:
        runs.setdefault(row.repetition, []).append(row.measurement.value or 0.0)
    medians = [median(values) for values in runs.values()]
    return (percentile(medians, 75) - percentile(medians, 25)) / median(medians)


def main() -> int:
    """Measure, compare, print; status 1 where a floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparisons", type=int, default=COMPARISONS)
    wanted = parser.parse_args().comparisons
    rows = measured(LEAST_REPETITIONS * (wanted + 1))
    good = results.trusted(rows)
    fast, slow = blocks(good, FAST, "of_reference"), blocks(good, SLOW, "of_reference")
    few = min(len(fast), len(slow)) - 1
    if few < 1:
        busy = sum(run.is_saturated for run in results.runs(rows))
        print(f"the machine was too busy in {busy} of {len(results.runs(rows))} runs: nothing to compare")
        return 1
    like = [compared(one, other) for one, other in pairwise(fast[: few + 1])]
    slower = [compared(one, other) for one, other in zip(fast[:few], slow[1:], strict=False)]
    alarms = sum(each.change in ("higher", "lower") for each in like)
    found = sum(each.change == "higher" for each in slower)
    noise, left = (median([spread(each) for each in found_of]) for found_of in (blocks(good, FAST, "cpu_us"), fast))
    print(f"noise: the middle half of ten repetitions lies {noise:.1%} apart, and {left:.1%} against the reference")
    print(f"like with like: {alarms} of {few} alarm (at most {MOST_ALARMS} of {COMPARISONS})")
    print(f"a tenth slower: {found} of {few} found (at least {LEAST_FOUND} of {COMPARISONS})")
    print("ratios of the slow ones: " + " ".join(f"{each.ratio.value:.2f}" for each in slower))
    missed = alarms * COMPARISONS > MOST_ALARMS * few or found * COMPARISONS < LEAST_FOUND * few
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
