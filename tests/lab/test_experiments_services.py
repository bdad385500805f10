"""The experiments on services and pods, each run by the real command at a tiny size."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest
from running_lab import is_left, mininetes

from mininetes.experiments import results
from mininetes.experiments.published import read_verdicts
from mininetes.experiments.results import Row


def ran(name: str, out: Path, *settings: str, repetitions: int = 1) -> list[Row]:
    """The measured rows of a run that must succeed, with a verdict for each claim."""
    words = [word for setting in settings for word in ("--set", setting)]
    done = mininetes("run", name, *words, "--repetitions", str(repetitions), "--out", str(out), timeout_s=280)
    assert done.status == 0, done
    judged = read_verdicts(out)
    assert judged is not None
    assert judged.verdicts
    assert list(out.glob("*.png"))
    return [row for row in results.read(out) if not row.ends_run]


def of(rows: list[Row], metric: str, **wanted: object) -> Iterator[Row]:
    """The rows of a metric that have these labels or parameters."""
    for row in rows:
        known = {**row.cell, **row.measurement.labels}
        if row.measurement.metric == metric and all(known.get(name) == value for name, value in wanted.items()):
            yield row


def values(rows: list[Row], metric: str, **wanted: object) -> list[float | None]:
    return [row.measurement.value for row in of(rows, metric, **wanted)]


def known(rows: list[Row], metric: str, **wanted: object) -> list[float]:
    """The values, all of which must be there."""
    found = values(rows, metric, **wanted)
    assert found
    there = [value for value in found if value is not None]
    assert len(there) == len(found), found
    return there


MODES = ("iptables-nft", "iptables-legacy", "nftables")


def test_every_probed_service_leads_to_both_of_its_endpoints_in_every_mode(tmp_path: Path) -> None:
    rows = ran("first_packet", tmp_path / "out", f"mode={','.join(MODES)}", "services=300", "probes=40", repetitions=2)
    for mode in MODES:
        assert len(known(rows, "one_way_us", mode=mode, path="service")) == 2 * 40
        assert min(known(rows, "one_way_us", mode=mode, path="service")) > 0
        pods = {row.measurement.labels["received_by"] for row in of(rows, "one_way_us", mode=mode, path="service")}
        assert pods == {"pod/node1-2", "pod/node1-3"}
        assert known(rows, "one_way_us", mode=mode, path="bare")
        (rules,) = known(rows, "rules", mode=mode)
        assert 300 + 40 * 7 < rules < 300 * 8


def test_the_whole_ruleset_leads_there_too(tmp_path: Path) -> None:
    rows = ran("first_packet", tmp_path / "out", "mode=iptables-nft", "services=60", "probes=30", "rules=whole")
    known(rows, "one_way_us", path="service")
    assert known(rows, "rules")[0] > 60 * 8


def test_in_a_list_of_rules_later_services_take_longer(tmp_path: Path) -> None:
    rows = ran("first_packet", tmp_path / "out", "mode=iptables-legacy", "services=8000", "probes=90", repetitions=2)
    known(rows, "one_way_us", path="service")
    found = [row.measurement for row in of(rows, "one_way_us", path="service")]
    taken = [(one.labels["place"], one.value) for one in found if one.value is not None]
    early = statistics.median(us for place, us in taken if place < 1 / 3)
    late = statistics.median(us for place, us in taken if place > 2 / 3)
    assert late > 1.5 * early


def test_a_partial_sync_touches_what_changed_and_a_full_one_everything(tmp_path: Path) -> None:
    rows = ran("sync_time", tmp_path / "out", f"mode={','.join(MODES)}", "services=60")
    for mode in MODES:
        assert min(known(rows, "sync_s", mode=mode)) > 0
        touched = {
            row.measurement.labels["sync"]: row.measurement.labels["touched"] for row in of(rows, "sync_s", mode=mode)
        }
        assert touched["full"] >= 60 * 3
        assert 1 <= touched["partial"] <= 5


def test_rules_added_one_by_one_are_as_many_as_those_of_one_restore_and_all_in_the_kernel(tmp_path: Path) -> None:
    rows = ran("append_restore", tmp_path / "out", "services=1,12", "appends=1,4", "one_by_one=12")
    for backend in ("legacy", "nft"):
        there = {}
        for services, appends in ((1, 1), (12, 1), (12, 4)):
            where = {"backend": backend, "services": services, "appends": appends}
            (one_by_one,) = of(rows, "one_by_one_s", **where)
            (restored,) = of(rows, "restore_s", **where)
            assert one_by_one.measurement.labels["rules"] == restored.measurement.labels["rules"] > 8 * services
            assert len(known(rows, "append_s", **where)) == appends
            (there[services, appends],) = known(rows, "rules", **where)
        assert there[12, 1] - there[1, 1] == 11 * 8
        assert there[12, 4] - there[12, 1] == 3


def test_pods_are_attached_side_by_side_and_started_by_the_api(tmp_path: Path) -> None:
    rows = ran("pod_start", tmp_path / "out", "parallel=1,3", "pods=3", repetitions=2)
    for parallel in (1, 3):
        assert len(known(rows, "add_s", parallel=parallel, call="ADD")) == 2 * 3
        assert len(known(rows, "add_s", parallel=parallel, call="VERSION")) == 2 * 3
        assert len(known(rows, "pod_start_s", parallel=parallel)) == 2 * parallel
    for row, together in zip(of(rows, "all_adds_s", parallel=1), (0, 1), strict=True):
        each = [one for one in of(rows, "add_s", parallel=1, call="ADD") if one.repetition == row.repetition]
        alone = sum(one.measurement.value or 0.0 for one in each)
        assert row.measurement.value is not None
        assert row.repetition == together or row.measurement.value >= 0.9 * alone  # one at a time: one after the other


@pytest.mark.parametrize("event", ["link", "node"])
def test_a_lost_node_is_out_of_use_after_its_grace_period_and_comes_back(tmp_path: Path, event: str) -> None:
    rows = ran("convergence", tmp_path / "out", f"event={event}", "mode=iptables", "node_grace_s=2")
    elsewhere = known(rows, "converged_s", change="lost", where="elsewhere")
    assert len(elsewhere) == 4  # a pod and a node twice
    assert min(elsewhere) > 1.0
    assert sum(known(rows, "wrong", change="lost", where="elsewhere")) > 4 * 10
    assert values(rows, "converged_s", change="lost", where="on the lost node") == [None, None]
    assert len(known(rows, "converged_s", change="back", target="service")) == 6
    assert len(known(rows, "converged_s", change="back", target="pod")) == 4


def test_a_lost_endpoint_is_out_of_use_everywhere_and_comes_back(tmp_path: Path) -> None:
    rows = ran("convergence", tmp_path / "out", "event=endpoint", "mode=nftables", "node_grace_s=5", repetitions=2)
    assert len(known(rows, "converged_s", change="lost", where="elsewhere")) == 2 * 6
    assert min(known(rows, "converged_s", change="back")) > 0


def test_a_lab_of_two_nodes_is_counted_in_time_memory_and_pairs(tmp_path: Path) -> None:
    rows = ran("scale", tmp_path / "out", "nodes=2", "pods_per_node=1,3", "most_pairs=30")
    assert min(known(rows, "ready_s")) > 0
    taken = known(rows, "memory_bytes", whose="processes")
    assert all(20 << 20 < each < 2 << 30 for each in taken)
    assert known(rows, "pairs", pods_per_node=1) == known(rows, "pairs_reached", pods_per_node=1) == [12.0]
    assert known(rows, "pairs", pods_per_node=3) == known(rows, "pairs_reached", pods_per_node=3) == [30.0]
    (asked,) = of(rows, "pairs", pods_per_node=3)
    assert asked.measurement.labels["of"] == 8 * 7


def test_nothing_is_left_of_a_run_whose_parameters_cannot_be(tmp_path: Path) -> None:
    done = mininetes("run", "first_packet", "--set", "mode=ipvs", "--out", str(tmp_path / "out"))
    assert done.status == 2
    assert "ipvs" in done.stderr
    assert not (tmp_path / "out" / "rows.jsonl").exists()
    assert not is_left("first-packet")
