"""An experiment's file for tests of what is made from results, and rows as it would have measured them."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mininetes import parts
from mininetes.experiments.results import Measurement, Row
from tests.unit.made_results import CONTEXT, run_end, write_result

SOURCE = '''"""First packets of services, made up.

Nothing was measured: the values are drawn from `random`, <b>as they are</b>.
"""

from mininetes.api import Published, Verdict, figures, grouping

REPRODUCES = "First-packet latency by number of services"
PUBLISHED = [
    Published(
        REPRODUCES, "a figure that somebody drew", "us",
        [{"mode": mode, "services": size, "value": value} for mode, size, value in
         (("iptables", 1000, 20.0), ("iptables", 10000, 60.0), ("nftables", 1000, 12.0), ("nftables", 10000, 12.0))],
    )
]
PARAMETERS = {"mode": ["iptables", "nftables"], "services": [1000, 10000], "nodes": [3]}
REPETITIONS = 10


def cluster(params):
    return {"nodes": {"controlPlane": 1, "workers": params["nodes"] - 1}, "proxy": {"mode": params["mode"]}}


async def run(lab, params):
    return []


def plot(rows):
    values = grouping.series(rows, "first_us", "mode", "services")
    known = figures.of_published(PUBLISHED[0].figures, "mode", "services")
    return {"first_packet": figures.lines(values, "First packet", "services", "latency in us", published=known)}


def verdicts(rows):
    return [
        Verdict("nftables is flat", "1.00", "1.01 [0.97, 1.05]", "yes"),
        Verdict("iptables grows", "3.0", "1.1 [1.0, 1.2]", "no"),
        Verdict("at 30,000 services", "23", "not measured", "not at this size"),
    ]
'''


@contextlib.contextmanager
def result(folder: Path) -> Iterator[Path]:
    """A result folder of it, and its file in use, until the block ends."""
    before = parts.used()
    use(folder)
    try:
        yield write(folder / "result")
    finally:
        parts.use(before)


def use(folder: Path) -> None:
    """Have ``made`` be an experiment that is found."""
    place = folder / "parts" / "experiments"
    place.mkdir(parents=True, exist_ok=True)
    (place / "made.py").write_text(SOURCE)
    parts.use([folder / "parts"])


def rows_of(cells: Iterable[dict[str, Any]], repetitions: int = 10) -> Iterator[Row]:
    """Latencies, one lost a run, a matrix with one pair lost and one leaked, and a truth table with a wrong line."""
    rng = random.Random(7)
    for cell in cells:
        for repetition in range(repetitions):
            made = list(_run(cell, repetition, rng))
            yield from made
            yield run_end(cell, repetition, rows=len(made))


def _run(cell: dict[str, Any], repetition: int, rng: random.Random) -> Iterator[Row]:
    def row(metric: str, value: float | None, unit: str, **labels: Any) -> Row:
        return Row("made", cell, repetition, Measurement(metric, value, unit, labels))

    size = cell["services"] / 1000 if cell["mode"] == "iptables" else 1
    for sequence in range(30):
        yield row("first_us", (20 + 4 * size) * rng.lognormvariate(0, 0.1), "us", sequence=sequence, path="cross node")
    yield row("first_us", None, "us", sequence=30, path="cross node")
    names = ["node1", "node2", "pod/node1-1", "pod/node2-1"]
    for source in names:
        for target in names:
            if source == target:
                continue
            verdict = {("node1", "node2"): "lost", ("node2", "node1"): "leaked"}.get((source, target), "reached")
            saw = "<i>nothing</i>" if verdict == "lost" else verdict
            reached = float(verdict != "lost")
            yield row(
                "reached", reached, "bool", source=source, target=target, verdict=verdict, saw=saw, protocol="icmp"
            )
    if repetition == 0:
        for place in range(3):
            labels = {
                "mode": cell["mode"],
                "service": f"default/web{place}",
                "source": "pod/node1-1",
                "to": "ClusterIP",
            }
            wrong = "2 refused, not answered" if place == 2 else ""
            yield row("truth", float(not wrong), "bool", **labels, expected="DNAT", measured="DNAT", wrong=wrong)


CELLS = [{"mode": mode, "services": size, "nodes": 3} for mode in ("iptables", "nftables") for size in (1000, 10000)]


def write(folder: Path) -> Path:
    """A whole result of it, with a failed run and a saturated one besides."""
    declared = {"name": "made", "reproduces": "First-packet latency by number of services", "repetitions": 10}
    parameters = {"mode": ["iptables", "nftables"], "services": [1000, 10000], "nodes": [3]}
    facts = {**CONTEXT, "seed": 7, "experiment": {**declared, "parameters": parameters}}
    ends = [run_end(CELLS[0], 10, "failed", "the lab <died>"), run_end(CELLS[1], 10, verdict="saturated")]
    return write_result(folder, [*rows_of(CELLS), *ends], facts)
