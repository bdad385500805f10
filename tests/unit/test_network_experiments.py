"""The network experiments as far as they are pure: they load, plan clusters that can be, draw, and judge by a table."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import pytest
from matplotlib.figure import Figure

from mininetes import parts
from mininetes.errors import BadInput
from mininetes.experiments import definition
from mininetes.experiments.published import Verdict
from mininetes.experiments.results import Measurement, Row
from mininetes.spec import describe
from mininetes.testbed.blueprint import draw

NAMES = ("fabrics", "fairness", "mtu", "proxy_modes", "reachability")
NOISE = (0.98, 1.0, 1.01, 0.99, 1.02)
"""One factor for each repetition: the same for all conditions of a run, so that ratios stay exact."""

MINUTES = 8


def module(name: str) -> ModuleType:
    return parts.find("experiment", name).module()


def rows(
    experiment: str,
    cell: Mapping[str, Any],
    values: Mapping[tuple[tuple[str, Any], ...], float],
    runs: int = len(NOISE),
) -> list[Row]:
    """Rows of each run: ``values`` by (("metric", M), (label, value)...)."""
    found = []
    for repetition in range(runs):
        for key, value in values.items():
            labels = dict(key)
            metric = labels.pop("metric")
            one = Measurement(metric, value * NOISE[repetition % len(NOISE)], "1", {**labels, "index": 0})
            found.append(Row(experiment, dict(cell), repetition, one))
    return found


def key(metric: str, **labels: Any) -> tuple[tuple[str, Any], ...]:
    return (("metric", metric), *labels.items())


def fabric_rows(fabric: str, gbps: Sequence[float], us: Sequence[float], runs: int = 5) -> list[Row]:
    """One fabric's: throughput and round trips of the bare nodes, inside a node, across nodes."""
    paths = ("bare", "same node", "cross node")
    values = {key("tcp_gbps", path=path): value for path, value in zip(paths, gbps, strict=True)}
    for path, value in zip((*paths, "loopback"), (*us, 5.0), strict=True):
        values |= {key(metric, path=path, percentile="p50"): value for metric in ("rr_us", "crr_us")}
    return rows("fabrics", {"fabric": fabric}, values, runs)


def mode_rows(mode: str, direct: float, service: float, runs: int = 5) -> list[Row]:
    values = {}
    for path, (through, value) in itertools.product(
        ("same node", "cross node"), (("direct", direct), ("service", service))
    ):
        values[key("tcp_gbps", path=path, through=through)] = value
        for metric in ("rr_us", "crr_us"):
            values[key(metric, path=path, through=through, percentile="p50")] = 100 / value
    return rows("proxy_modes", {"mode": mode}, values, runs)


def mtu_rows(fabric: str, mbps: Mapping[int, float], runs: int = 5) -> list[Row]:
    found = []
    for mtu, value in mbps.items():
        cell = {"fabric": fabric, "mtu": mtu}
        values = {key("udp_mbps", path=path): value for path in ("bare", "cross node")}
        found += rows("mtu", cell, values, runs)
    return found


def choice_rows(mode: str, endpoints: int, choices: Sequence[int | None]) -> list[Row]:
    cell = {"mode": mode, "endpoints": endpoints}
    return [
        Row("fairness", cell, 0, Measurement("endpoint", None if c is None else float(c), "number", {"sequence": n}))
        for n, c in enumerate(choices)
    ]


def reached_rows(fabric: str, verdict: str) -> list[Row]:
    labels = {"source": "node1", "target": "node2", "protocol": "icmp", "expected": True, "saw": ""}
    cell = {"fabric": fabric, "underlay": "racks"}
    good = Measurement("reached", 1.0, "bool", {**labels, "verdict": "reached"})
    other = Measurement("reached", 0.0, "bool", {**labels, "source": "node2", "target": "node1", "verdict": verdict})
    return [Row("reachability", cell, 0, each) for each in (good, other)]


MADE_UP: dict[str, list[Row]] = {
    "fabrics": [*fabric_rows("vxlan", (31, 33, 20), (10, 9, 16)), *fabric_rows("static", (31, 33, 25), (10, 9, 12))],
    "proxy_modes": [*mode_rows("userspace", 10, 3.6), *mode_rows("iptables", 10, 9.6), *mode_rows("ipvs", 10, 9.8)],
    "mtu": [*mtu_rows("weave", {1376: 1800, 8916: 9500}), *mtu_rows("static", {1376: 2000, 8916: 10000})],
    "fairness": [*choice_rows("iptables", 2, [0, 1, 1, 0] * 50), *choice_rows("ipvs", 2, [0, 1] * 100)],
    "reachability": [*reached_rows("static", "reached"), *reached_rows("none", "lost")],
}


@pytest.mark.parametrize("size", ["full", "figures"])
@pytest.mark.parametrize("name", NAMES)
def test_every_cell_is_a_cluster_that_can_be(name: str, size: definition.Size) -> None:
    experiment = definition.load(name, size=size)
    assert experiment.reproduces
    assert experiment.title.endswith(".")
    for cell in experiment.all_cells():
        assert draw(describe(experiment.cluster(cell), "t")).pods


@pytest.mark.parametrize("name", NAMES)
def test_cells_that_share_a_lab_have_the_same_cluster(name: str) -> None:
    experiment = definition.load(name)
    if experiment.lab_per is None:
        return
    clusters: dict[tuple[Any, ...], list[Any]] = {}
    for cell in experiment.all_cells():
        clusters.setdefault(tuple(cell[each] for each in experiment.lab_per), []).append(experiment.cluster(cell))
    for found in clusters.values():
        assert all(each == found[0] for each in found)


def test_all_figures_fit_their_time() -> None:
    """By what a run was seen to take on two quiet cores: what their loads last, and a little around each."""
    seconds = 0.0
    for name in NAMES:
        experiment = definition.load(name, size="figures")
        for cell in experiment.all_cells():
            loads = {"fabrics": (3, 16), "proxy_modes": (4, 16), "mtu": (2, 0)}.get(name, (0, 0))
            turn = loads[0] * (cell.get("stream_s", 0) + 0.25) + loads[1] * (cell.get("messages_s", 0) + 0.06)
            seconds += 3 + experiment.repetitions * cell.get("rounds", 1) * turn
    assert seconds < MINUTES * 60


@pytest.mark.parametrize("name", NAMES)
def test_figures_are_made_from_rows_alone(name: str) -> None:
    drawn = module(name).plot(MADE_UP[name])
    assert drawn
    assert all(isinstance(figure, Figure) for figure in drawn.values())


@pytest.mark.parametrize("name", NAMES)
def test_nothing_measured_is_no_error(name: str) -> None:
    assert module(name).verdicts([]) == []
    assert all(isinstance(figure, Figure) for figure in module(name).plot([]).values())


def judged(name: str, measured: Sequence[Row], part: str) -> Verdict:
    """The one verdict whose claim has this part."""
    verdicts: list[Verdict] = module(name).verdicts(list(measured))
    (found,) = [each for each in verdicts if part in each.claim]
    return found


SLOWER = fabric_rows("vxlan", (30, 33, 20), (10, 9, 20))
VERDICTS: list[tuple[str, list[Row], str, str]] = [
    ("fabrics", SLOWER, "bare nodes have more throughput", "yes"),
    ("fabrics", fabric_rows("vxlan", (20, 33, 30), (10, 9, 20)), "bare nodes have more throughput", "no"),
    ("fabrics", fabric_rows("vxlan", (30, 33, 20), (10, 9, 20), runs=2), "bare nodes have more", "not at this size"),
    ("fabrics", SLOWER, "inside a node is shorter", "yes"),
    ("fabrics", fabric_rows("vxlan", (30, 33, 20), (10, 25, 20)), "inside a node is shorter", "no"),
    ("fabrics", SLOWER, "an overlay has less throughput", "yes"),
    ("fabrics", fabric_rows("vxlan", (30, 33, 31), (10, 9, 20)), "an overlay has less throughput", "no"),
    ("fabrics", SLOWER, "an overlay has a longer round trip", "yes"),
    ("fabrics", fabric_rows("vxlan", (30, 33, 20), (10, 9, 9)), "an overlay has a longer round trip", "no"),
    ("fabrics", SLOWER, "request/response gains more", "yes"),
    ("fabrics", fabric_rows("vxlan", (30, 33, 15), (10, 9, 12)), "request/response gains more", "no"),
    ("fabrics", [*SLOWER, *fabric_rows("static", (30, 33, 25), (10, 9, 12))], "static routes have a shorter", "yes"),
    ("fabrics", [*SLOWER, *fabric_rows("static", (30, 33, 25), (10, 9, 25))], "static routes have a shorter", "no"),
    ("proxy_modes", mode_rows("userspace", 10, 3.6), "userspace: at most 0.7", "yes"),
    ("proxy_modes", mode_rows("userspace", 10, 8), "userspace: at most 0.7", "no"),
    ("proxy_modes", mode_rows("iptables", 10, 8.7), "iptables: at least 0.85", "yes"),
    ("proxy_modes", mode_rows("iptables", 10, 8), "iptables: at least 0.85", "no"),
    ("proxy_modes", mode_rows("iptables", 10, 8, runs=1), "iptables: at least 0.85", "not at this size"),
    ("proxy_modes", mode_rows("nftables", 10, 9.5), "at least 0.9 of the direct", "yes"),
    ("proxy_modes", mode_rows("ipvs", 10, 8.7), "at least 0.9 of the direct", "no"),
    ("mtu", mtu_rows("weave", {1376: 1809, 8916: 9593}), "weave", "yes"),
    ("mtu", mtu_rows("weave", {1376: 1809, 8916: 3000}), "weave", "no"),
    ("mtu", mtu_rows("weave", {1376: 1809}), "weave", "not at this size"),
    ("fairness", choice_rows("iptables", 2, [0, 1, 1, 0] * 100), "at random", "yes"),
    ("fairness", choice_rows("iptables", 2, [0, 1, 1, 1] * 100), "at random", "no"),
    ("fairness", choice_rows("nftables", 2, [0, 1] * 200), "at random", "no"),
    ("fairness", choice_rows("ipvs", 3, [2, 0, 1] * 100), "in turn", "yes"),
    ("fairness", choice_rows("userspace", 2, [0, 0, 1, 1] * 100), "in turn", "no"),
    ("fairness", choice_rows("userspace", 2, [None, 0, 1, 0, 1]), "in turn", "no"),
    ("reachability", reached_rows("static", "reached"), "static", "yes"),
    ("reachability", reached_rows("static", "unreached"), "static", "yes"),
    ("reachability", reached_rows("static", "lost"), "static", "no"),
    ("reachability", reached_rows("static", "leaked"), "static", "no"),
]


@pytest.mark.parametrize(("name", "measured", "part", "holds"), VERDICTS)
def test_verdicts(name: str, measured: list[Row], part: str, holds: str) -> None:
    verdict = judged(name, measured, part)
    assert verdict.holds == holds, verdict
    assert verdict.measured
    assert verdict.published


def test_every_experiment_has_a_verdict_of_each_kind() -> None:
    for name in NAMES:
        assert {"yes", "no"} <= {holds for each, _, _, holds in VERDICTS if each == name}


def test_a_reachability_mismatch_is_drawn() -> None:
    assert set(module("reachability").plot(MADE_UP["reachability"])) == {"as_described", "reached", "none_racks_icmp"}


def test_ratios_are_those_of_one_run_whatever_the_machine_did() -> None:
    """A machine that becomes five times slower from run to run changes no ratio."""
    slower = [
        Row(row.experiment, row.cell, row.repetition, Measurement(
            row.measurement.metric,
            (row.measurement.value or 0) * 5.0**row.repetition * (-1 if row.measurement.metric == "x" else 1),
            "1",
            row.measurement.labels,
        ))
        for row in SLOWER
    ]  # fmt: skip
    before, after = (judged("fabrics", each, "less throughput") for each in (SLOWER, slower))
    assert before.measured == after.measured


@pytest.mark.parametrize(
    ("name", "settings", "field"),
    [
        ("fabrics", {"fabric": "none"}, "fabric"),
        ("fabrics", {"stream_s": 601}, "duration_s"),
        ("fabrics", {"messages_s": 0.0}, "duration_s"),
        ("fabrics", {"rounds": 0}, "rounds"),
        ("proxy_modes", {"rounds": 1001}, "rounds"),
        ("mtu", {"mtu": 70000}, "mtu"),
        ("mtu", {"fabric": "none"}, "fabric"),
        ("mtu", {"stream_s": 0}, "duration_s"),
        ("fairness", {"endpoints": 1}, "endpoints"),
        ("fairness", {"connections": 10}, "connections"),
        ("fairness", {"nodes": 40}, "nodes"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(name: str, settings: dict[str, Any], field: str) -> None:
    experiment = definition.load(name)
    cell = {**experiment.all_cells()[0], **settings}
    with pytest.raises(BadInput, match=field):
        experiment.cluster(cell)


@pytest.mark.parametrize("chi_square", [module("fairness").chi_square_p])
def test_chi_square(chi_square: Callable[[Sequence[int]], float]) -> None:
    """Against the tables: 3.84 is the 5 % point of one degree of freedom, 11.34 the 1 % point of three."""
    assert chi_square([500, 500]) == 1.0
    uneven = (3.84 * 10000 / 4) ** 0.5
    assert chi_square([5000 + int(uneven), 5000 - int(uneven)]) == pytest.approx(0.05, abs=0.01)
    assert chi_square([10000, 10000, 10000, 10000 + 400]) == pytest.approx(0.01, abs=0.005)
    assert chi_square([900, 100]) < 0.001
