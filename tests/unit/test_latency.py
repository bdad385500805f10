"""Percentiles and loss of latency samples."""

from __future__ import annotations

import io
import json
import random

import numpy as np
import pytest
from rich.console import Console

from mininetes.probes.latency import by_placement, percentile, summarise, table
from mininetes.probes.outcomes import Sample, Seen
from mininetes.probes.vantage import Flow, Target, Vantage

HERE = Vantage("a", "pod", "node1", "10.0.0.1", "")
NEAR = Target("b", "pod", "node1", "10.0.0.2")
FAR = Target("c", "pod", "node2", "10.0.0.3")
SERVICE = Target("web", "service", "", "10.96.0.10")


def samples(target: Target, times: list[float | None]) -> list[Sample]:
    return [
        Sample(Flow(HERE, target), n, Seen.NO_ANSWER)
        if time is None
        else Sample(Flow(HERE, target), n, Seen.ANSWERED, time, time - 1)
        for n, time in enumerate(times)
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 10, 99, 100, 101])
@pytest.mark.parametrize("percent", [0, 50, 90, 99, 100])
def test_percentiles_are_numpys(count: int, percent: float) -> None:
    values = sorted(random.Random(count).uniform(1, 1000) for _ in range(count))
    assert percentile(values, percent) == pytest.approx(float(np.percentile(values, percent)))


def test_a_percentile_of_nothing_is_none_and_a_wrong_one_is_refused() -> None:
    assert percentile([], 50) is None
    for wrong in (-1, 101):
        with pytest.raises(ValueError, match="0 to 100"):
            percentile([1.0], wrong)


def test_loss_is_counted_and_is_no_zero_in_the_percentiles() -> None:
    rtt, wire = summarise(samples(NEAR, [10.0, None, 30.0, None]))
    assert (rtt.group, rtt.metric, rtt.sent, rtt.lost, rtt.measured) == ("same node", "rtt_us", 4, 2, 2)
    assert (rtt.p50, rtt.max, rtt.loss) == (20.0, 30.0, 0.5)
    assert (wire.metric, wire.p50, wire.lost) == ("wire_rtt_us", 19.0, 2)


def test_when_all_is_lost_there_is_a_row_without_times() -> None:
    rtt, _ = summarise(samples(FAR, [None] * 3))
    assert (rtt.sent, rtt.lost, rtt.measured, rtt.loss) == (3, 3, 0, 1.0)
    assert (rtt.p50, rtt.p90, rtt.p99, rtt.max) == (None, None, None, None)
    assert json.loads(json.dumps(rtt.row()))["p50"] is None


def test_a_sample_without_a_send_stamp_is_no_loss() -> None:
    one = Sample(Flow(HERE, NEAR), 0, Seen.ANSWERED, 10.0, None)
    rtt, wire = summarise([one])
    assert (rtt.lost, rtt.measured) == (0, 1)
    assert (wire.lost, wire.measured, wire.p50) == (0, 0, None)


@pytest.mark.parametrize(("target", "group"), [(NEAR, "same node"), (FAR, "cross node"), (SERVICE, "outside")])
def test_placement(target: Target, group: str) -> None:
    assert by_placement(samples(target, [1.0])[0]) == group


def test_groups_keep_the_order_of_their_first_sample_and_may_be_any() -> None:
    mixed = [*samples(FAR, [5.0]), *samples(NEAR, [1.0]), *samples(FAR, [7.0])]
    assert [one.group for one in summarise(mixed, metrics=["rtt_us"])] == ["cross node", "same node"]
    by_name = summarise(mixed, group=lambda sample: sample.flow.target.name, metrics=["rtt_us"])
    assert [(one.group, one.sent, one.max) for one in by_name] == [("c", 2, 7.0), ("b", 1, 1.0)]


def test_the_table_has_count_and_loss_beside_the_times() -> None:
    text = io.StringIO()
    mixed = [*samples(NEAR, [10.0, 20.0]), *samples(FAR, [None, 40.0]), *samples(SERVICE, [None])]
    Console(file=text, width=120).print(table(summarise(mixed, metrics=["rtt_us"]), "latency, us"))
    lines = [line for line in text.getvalue().splitlines() if "rtt_us" in line]
    rows = {line.split("rtt_us")[0].strip(): line for line in lines}
    assert "15.0" in rows["same node"]
    assert "1 (50.0%)" in rows["cross node"]
    assert rows["outside"].count("-") == 4
