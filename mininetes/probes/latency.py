"""Latency percentiles of samples, with count and loss beside them. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from mininetes.probes.outcomes import Sample

if TYPE_CHECKING:
    from rich.table import Table

Metric = Literal["rtt_us", "wire_rtt_us"]
METRICS: tuple[Metric, ...] = ("rtt_us", "wire_rtt_us")


@dataclass(frozen=True, slots=True)
class Summary:
    """The distribution of one metric over one group of samples.

    ``sent`` probes, of which ``lost`` got no answer; percentiles are of those that were answered
    (and, for ``wire_rtt_us``, stamped: ``measured`` of them), and None when there are none.
    """

    group: str
    metric: Metric
    sent: int
    lost: int
    measured: int
    p50: float | None
    p90: float | None
    p99: float | None
    max: float | None

    @property
    def loss(self) -> float:
        """The part that was lost, from 0 to 1."""
        return self.lost / self.sent if self.sent else 0.0

    def row(self) -> dict[str, Any]:
        """Return it as a JSON object, with ``loss``."""
        return {**asdict(self), "loss": self.loss}


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """Return a percentile of values in ascending order, interpolated as numpy does by default; None of none."""
    if not 0 <= percent <= 100:
        raise ValueError(f"percent: {percent} is not valid: 0 to 100")
    if not ordered:
        return None
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def by_placement(sample: Sample) -> str:
    """Group by whether both ends are on one node: ``same node``, ``cross node``, or ``outside`` when one is on none."""
    nodes = sample.flow.source.node, sample.flow.target.node
    if not all(nodes):
        return "outside"
    return "same node" if nodes[0] == nodes[1] else "cross node"


def summarise(
    samples: Iterable[Sample],
    group: Callable[[Sample], str] = by_placement,
    metrics: Sequence[Metric] = METRICS,
) -> list[Summary]:
    """Return a summary for each group and metric, groups in the order of their first sample."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(group(sample), []).append(sample)
    return [_summary(name, metric, members) for name, members in groups.items() for metric in metrics]


def _summary(group: str, metric: Metric, samples: list[Sample]) -> Summary:
    values = sorted(value for sample in samples if (value := getattr(sample, metric)) is not None)
    lost = sum(sample.rtt_us is None for sample in samples)
    p50, p90, p99 = (percentile(values, percent) for percent in (50, 90, 99))
    most = values[-1] if values else None
    return Summary(group, metric, len(samples), lost, len(values), p50, p90, p99, most)


def table(summaries: Iterable[Summary], title: str = "") -> Table:
    """Return the summaries as a table for a terminal, times in microseconds."""
    from rich import box  # noqa: PLC0415 - takes 50 ms, and only terminals need it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    shown = Table(title=Text(title) if title else None, box=box.SIMPLE_HEAD, padding=(0, 1))
    for name in ("", "metric"):
        shown.add_column(name, no_wrap=True)
    for name in ("sent", "lost", "p50", "p90", "p99", "max"):
        shown.add_column(name, justify="right", no_wrap=True)
    for one in summaries:
        times = ["-" if value is None else f"{value:.1f}" for value in (one.p50, one.p90, one.p99, one.max)]
        lost = f"[bold red]{one.lost} ({one.loss:.1%})[/]" if one.lost else "0"
        shown.add_row(Text(one.group), one.metric, str(one.sent), lost, *times)
    return shown
