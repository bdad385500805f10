"""Results made by hand, as `mininetes run` would write them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mininetes.experiments.results import ROWS, Measurement, Row

CONTEXT: Mapping[str, Any] = {
    "schema": 1,
    "mininetes": {"version": "0.1.0", "commit": "0123abcd", "dirty": False},
    "kernel": {"release": "6.1.0", "version": "#1 SMP", "machine": "x86_64"},
    "cpu": {"model": "Some CPU", "count": 2, "mitigations": {"meltdown": "Not affected"}},
    "memory_bytes": 8 << 30,
    "root": True,
    "sysctls": {"net.core.rmem_max": "212992"},
    "python": "3.11.2",
    "packages": {"numpy": "2.4.6"},
    "tools": {"nft": "nftables v1.0.6"},
    "experiment": {"name": "made", "reproduces": "nothing published: made up", "parameters": {"mode": ["iptables"]}},
    "parts": {"experiment/made.py": "ab" * 32},
    "seed": 1,
    "complete": True,
    "started": "2026-01-02T03:04:05.678+00:00",
    "duration_s": 12.5,
    "load": {"before": [0.1, 0.1, 0.1], "after": [0.5, 0.2, 0.1]},
}


def run_end(
    cell: Mapping[str, Any], repetition: int, status: str = "ok", error: str = "", verdict: str = "good", rows: int = 0
) -> Row:
    """The row that ends a run."""
    labels = {"status": status, "error": error, "fidelity": {"verdict": verdict, "cpu_busy": 0.4}, "rows": rows}
    return Row("made", cell, repetition, Measurement("run_s", 1.5, "s", labels))


def latency_rows(
    cell: Mapping[str, Any],
    *,
    repetitions: int = 10,
    median_us: float = 100.0,
    between: float = 0.02,
    probes: int = 20,
    seed: int = 1,
    verdict: str = "good",
) -> Iterable[Row]:
    """Repetitions of round trips with noise within them, and a part of ``between`` from one to the next."""
    rng = random.Random(seed)
    for repetition in range(repetitions):
        for path, factor in (("same node", 1.0), ("cross node", 1.4)):
            centre = median_us * factor * rng.lognormvariate(0, between)
            for sequence in range(probes):
                labels = {"path": path, "source": "node1-1", "target": f"t{sequence % 3}", "sequence": sequence}
                yield Row(
                    "made", cell, repetition, Measurement("rtt_us", centre * rng.lognormvariate(0, 0.2), "us", labels)
                )
        yield run_end(cell, repetition, verdict=verdict, rows=2 * probes)


def write_result(folder: Path, rows: Iterable[Row], context: Mapping[str, Any] | None = CONTEXT) -> Path:
    """A result's folder with these rows."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ROWS).open("w") as file:
        file.writelines(json.dumps(row.to_json()) + "\n" for row in rows)
    if context is not None:
        (folder / "context.json").write_text(json.dumps(context))
    return folder
