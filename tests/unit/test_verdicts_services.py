"""The experiments on services and pods: they draw from rows alone, and their verdicts follow from the numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

import pytest

from mininetes import parts
from mininetes.errors import BadInput
from mininetes.experiments.definition import load
from mininetes.experiments.results import Measurement, Row
from mininetes.spec import describe

NAMES = ("first_packet", "sync_time", "append_restore", "pod_start", "convergence", "scale")
Made = list[Row]


def module(name: str) -> ModuleType:
    return parts.find("experiment", name).module()


def rows(cell: Mapping[str, Any], metric: str, values: Iterable[float | None], labels: Mapping[str, Any] = {}) -> Made:
    """One row for each value, each a repetition of its own."""
    return [Row("x", cell, number, Measurement(metric, value, "s", labels)) for number, value in enumerate(values)]


def around(value: float, repetitions: int = 5) -> list[float]:
    return [value * (1 + 0.01 * (number - repetitions // 2)) for number in range(repetitions)]


def said(name: str, made: Made) -> dict[str, str]:
    """What each verdict says, by its claim."""
    return {each.claim: each.holds for each in module(name).verdicts(made)}


def only(found: Mapping[str, str], *words: str) -> str:
    (holds,) = [holds for claim, holds in found.items() if all(word in claim for word in words)]
    return holds


# first_packet


def packets(medians: Mapping[tuple[str, int], float]) -> Made:
    made: Made = []
    for (mode, services), us in medians.items():
        cell = {"mode": mode, "services": services, "rules": "on-the-way", "probes": 3, "interval_s": 0.002}
        for repetition in range(5):
            for place, value in enumerate((us * 0.5, us, us * (1.5 + repetition / 100), None)):
                labels = {"path": "service", "place": place / 4, "received_by": "pod/node1-2"}
                made.append(Row("first_packet", cell, repetition, Measurement("one_way_us", value, "us", labels)))
        made.append(Row("first_packet", cell, 0, Measurement("one_way_us", 1.0, "us", {"path": "bare"})))
    return made


def first_packet(nft_5k: float, nft_30k: float, nftables_5k: float, nftables_30k: float) -> Made:
    return packets(
        {
            ("iptables-nft", 5000): nft_5k,
            ("iptables-nft", 30000): nft_30k,
            ("nftables", 5000): nftables_5k,
            ("nftables", 30000): nftables_30k,
            ("iptables-legacy", 5000): 1.0,
            ("iptables-legacy", 30000): 1.0,
        }
    )


@pytest.mark.parametrize(
    ("us", "flat", "grows", "apart"),
    [
        ((47, 272, 12, 12), "yes", "yes", "yes"),
        ((47, 272, 12, 14), "yes", "yes", "yes"),
        ((47, 272, 12, 15), "no", "yes", "yes"),
        ((47, 272, 15, 12), "yes", "yes", "yes"),
        ((47, 272, 16, 12), "no", "yes", "yes"),
        ((100, 290, 12, 12), "yes", "no", "yes"),
        ((10, 50, 12, 12), "yes", "yes", "no"),
    ],
)
def test_the_first_packets_shape_is_judged_by_the_medians(
    us: tuple[float, float, float, float], flat: str, grows: str, apart: str
) -> None:
    found = said("first_packet", first_packet(*us))
    assert (only(found, "flat"), only(found, "grows"), only(found, "/ nftables")) == (flat, grows, apart)


def test_legacy_alone_does_not_make_the_claim_hold() -> None:
    made = packets({("iptables-legacy", 5000): 1, ("iptables-legacy", 30000): 100, ("nftables", 30000): 1})
    assert set(said("first_packet", made).values()) == {"not at this size"}


def test_a_size_in_between_counts_for_flatness() -> None:
    made = first_packet(47, 272, 12, 12) + packets({("nftables", 10000): 20})
    assert only(said("first_packet", made), "flat") == "no"


# sync_time


def syncs(parts_of_full: Mapping[str, float], services: Iterable[int] = (1000, 2000)) -> Made:
    made: Made = []
    for mode, part in parts_of_full.items():
        for count in services:
            cell = {"mode": mode, "services": count}
            made += rows(cell, "sync_s", around(count / 100), {"sync": "full"})
            made += rows(cell, "sync_s", around(count / 100 * part), {"sync": "partial", "change": "added"})
    return made


@pytest.mark.parametrize(
    ("nft", "legacy", "expected"),
    [(0.19, 0.65, ("yes", "yes")), (0.21, 0.65, ("no", "yes")), (0.1, 0.7, ("yes", "no"))],
)
def test_a_partial_sync_is_held_against_the_full_one_of_its_repetition(
    nft: float, legacy: float, expected: tuple[str, str]
) -> None:
    found = said("sync_time", syncs({"iptables-nft": nft, "iptables-legacy": legacy, "nftables": 0.1}))
    assert (only(found, "iptables-nft"), only(found, "iptables-legacy")) == expected


def test_few_services_say_nothing_about_syncs() -> None:
    found = said("sync_time", syncs({"iptables-nft": 0.1, "iptables-legacy": 0.1}, services=(100, 500)))
    assert set(found.values()) == {"not at this size"}


# append_restore


def tables(append: Callable[[int], float], restore: Callable[[int], float], backend: str = "legacy") -> Made:
    made: Made = []
    for services in (1, 500, 5000, 20000):
        cell = {"backend": backend, "services": services, "appends": 1, "one_by_one": 1}
        count = 8 * services + 23
        made += rows(cell, "append_s", around(append(count)), {"rules": count})
        made += rows(cell, "restore_s", around(restore(count)), {"rules": count})
    return made


@pytest.mark.parametrize(
    ("append", "restore", "expected"),
    [
        (lambda n: 1e-6 * n, lambda n: 1e-5 * n, ("yes", "yes")),
        (lambda n: 0.003, lambda n: 1e-5 * n, ("no", "yes")),
        (lambda n: 1e-6 * n, lambda n: 1e-9 * n**2, ("yes", "no")),
    ],
)
def test_appends_are_summed_over_the_sizes_and_restores_have_an_exponent(
    append: Callable[[int], float], restore: Callable[[int], float], expected: tuple[str, str]
) -> None:
    found = said("append_restore", tables(append, restore))
    assert (only(found, "one by one"), only(found, "one restore")) == expected


def test_appends_that_grow_with_the_table_sum_to_the_square() -> None:
    totals = module("append_restore")._totals(tables(lambda n: 1e-6 * n, lambda n: 1.0))["legacy"]
    small, large = 8 * 5000 + 23, 8 * 20000 + 23
    # the first size's table is at hand for all before it, which weighs nothing at these sizes
    assert totals[large][2] == pytest.approx(1e-6 * large**2 / 2, rel=0.01)
    assert totals[large][2] / totals[small][2] == pytest.approx(16, rel=0.01)


def test_the_nft_back_end_alone_is_no_answer() -> None:
    found = said("append_restore", tables(lambda n: 1e-6 * n, lambda n: 1e-5 * n, backend="nft"))
    assert set(found.values()) == {"not at this size"}


# pod_start


def starts(adds: Mapping[int, float], pods: Mapping[int, float]) -> Made:
    made: Made = []
    for parallel, value in adds.items():
        cell = {"measure": "cni-add", "parallel": parallel, "pods": 4, "cni": "bridge"}
        made += rows(cell, "add_s", around(value), {"call": "ADD"})
        made += rows(cell, "add_s", around(0.01), {"call": "VERSION"})
    for parallel, value in pods.items():
        cell = {"measure": "pod-start", "parallel": parallel, "pods": 4, "cni": "bridge"}
        made += rows(cell, "pod_start_s", around(value), {"pod": 0})
    return made


@pytest.mark.parametrize(
    ("adds", "pods", "expected"),
    [
        ({1: 0.02, 8: 0.1}, {30: 1.0}, ("yes", "yes")),
        ({1: 0.02, 8: 0.0202}, {30: 1.0}, ("no", "yes")),
        ({1: 0.1, 8: 0.02}, {30: 6.0}, ("no", "no")),
        ({8: 0.1}, {10: 1.0}, ("not at this size", "not at this size")),
        ({}, {}, ("not at this size", "not at this size")),
    ],
)
def test_adds_grow_with_those_beside_them_and_pods_have_an_objective(
    adds: dict[int, float], pods: dict[int, float], expected: tuple[str, str]
) -> None:
    found = said("pod_start", starts(adds, pods))
    assert (only(found, "CNI ADD"), only(found, "p99")) == expected


# convergence


def converged(event: str, change: str, values: Iterable[float | None], where: str = "elsewhere") -> Made:
    cell = {"event": event, "mode": "iptables", "fabric": "static", "node_grace_s": 2.0, "interval_s": 0.02}
    labels = {"source": "pod/node1-1", "from": "pod", "where": where, "target": "service", "change": change}
    return rows(cell, "converged_s", values, labels)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (converged("endpoint", "lost", [0.1, 1.9]), ("yes", "not at this size")),
        (converged("endpoint", "lost", [0.1, 2.1]), ("no", "not at this size")),
        (converged("endpoint", "lost", [None]), ("no", "not at this size")),
        (converged("node", "lost", [3.9]), ("not at this size", "yes")),
        (converged("link", "lost", [4.1]), ("not at this size", "no")),
        (converged("node", "lost", [3.9]) + converged("link", "lost", [None]), ("not at this size", "no")),
        (
            converged("node", "lost", [2.5]) + converged("node", "lost", [None], "on the lost node"),
            ("not at this size", "yes"),
        ),
    ],
)
def test_convergence_has_bounds_for_those_who_are_elsewhere(made: Made, expected: tuple[str, str]) -> None:
    found = said("convergence", made)
    assert (only(found, "lost endpoint"), only(found, "link or node")) == expected


# scale


def labs(sizes: Mapping[tuple[int, int], tuple[float, float]], reached: float = 1.0) -> Made:
    """By nodes and pods on each: seconds until ready, and bytes."""
    made: Made = []
    for (nodes, each), (ready_s, taken) in sizes.items():
        cell = {"nodes": nodes, "pods_per_node": each, "fabric": "static", "most_pairs": 100}
        made += rows(cell, "ready_s", [ready_s])
        made += rows(cell, "memory_bytes", [taken], {"whose": "processes"})
        made += rows(cell, "memory_bytes", [1e9 - each], {"whose": "kernel"})
        made += rows(cell, "pairs", [100.0], {"of": 1000})
        made += rows(cell, "pairs_reached", [100.0 * reached])
        made += rows(cell, "pairs_per_s", [5000.0])
    return made


GRID = {(n, p): (0.01 * n * p, 100e6 + 2e6 * n + 3e4 * n * p) for n in (3, 10) for p in (4, 110)}


def test_scale_says_how_far_it_got_and_what_it_would_take() -> None:
    made = labs(GRID)
    found = said("scale", made)
    assert only(found, "150,000 pods") == "not at this size"
    assert only(found, "110 pods") == "yes"
    (verdict,) = [each for each in module("scale").verdicts(made) if "150,000" in each.claim]
    assert "10 nodes, 1,100 pods" in verdict.measured
    assert "processes take 1.9 MiB a node and 29.3 KiB a pod" in verdict.measured
    assert "the kernel (of the whole machine) take for a node and a pod is lost in the noise" in verdict.measured
    base, node, pod = module("scale")._memory_cost(made)
    assert (base, node, pod) == (pytest.approx(100e6), pytest.approx(2e6), pytest.approx(3e4))


def test_a_pair_that_is_lost_on_a_full_node_fails_the_claim() -> None:
    assert only(said("scale", labs(GRID, reached=0.99)), "110 pods") == "no"
    small = {size: each for size, each in GRID.items() if size[1] < 110}
    assert only(said("scale", labs(small)), "110 pods") == "not at this size"


def test_one_size_tells_no_memory_for_a_node() -> None:
    assert module("scale")._memory_cost(labs({(3, 4): (1.0, 1e6)})) is None


# all of them

MADE: dict[str, Made] = {
    "first_packet": first_packet(47, 272, 12, 12),
    "sync_time": syncs({"iptables-nft": 0.1, "iptables-legacy": 0.5, "nftables": 0.1}),
    "append_restore": tables(lambda n: 1e-6 * n, lambda n: 1e-5 * n)
    + rows({"backend": "legacy", "services": 1}, "one_by_one_s", [0.05], {"rules": 31}),
    "pod_start": starts({1: 0.02, 8: 0.1}, {1: 0.5, 30: 1.0}),
    "convergence": converged("endpoint", "lost", [0.1]) + converged("endpoint", "back", [0.5]),
    "scale": labs(GRID),
}


@pytest.mark.parametrize("name", NAMES)
def test_figures_are_drawn_from_rows_alone(name: str) -> None:
    for made in (MADE[name], []):
        figures = module(name).plot(made)
        assert figures
        for figure in figures.values():
            assert figure.axes[0].get_title(loc="left")
            figure.canvas.draw()


@pytest.mark.parametrize("name", NAMES)
def test_verdicts_of_nothing_never_hold(name: str) -> None:
    assert "yes" not in said(name, []).values()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", ["full", "figures"])
def test_every_cell_of_both_sizes_describes_a_valid_cluster(name: str, size: Any) -> None:
    experiment = load(name, size=size)
    assert experiment.description
    for cell in experiment.cells(1):
        describe(experiment.cluster(cell))


@pytest.mark.parametrize("name", [each for each in NAMES if each != "convergence"])
def test_published_figures_are_held_as_data(name: str) -> None:
    experiment = load(name)
    assert experiment.reproduces in {each.row for each in experiment.published}


@pytest.mark.parametrize(
    ("name", "setting", "words"),
    [
        ("first_packet", "mode=ipvs", "ipvs"),
        ("first_packet", "services=0", "services"),
        ("first_packet", "rules=some", "on-the-way"),
        ("first_packet", "probes=0", "probes"),
        ("sync_time", "mode=userspace", "userspace"),
        ("append_restore", "backend=ipvs", "legacy"),
        ("append_restore", "appends=0", "appends"),
        ("pod_start", "measure=pod", "cni-add"),
        ("pod_start", "parallel=1000", "parallel"),
        ("convergence", "event=fire", "endpoint"),
        ("convergence", "interval_s=0.0", "interval_s"),
        ("scale", "nodes=0", "nodes"),
        ("scale", "most_pairs=0", "most_pairs"),
    ],
)
def test_parameters_that_cannot_be_are_refused_before_anything_is_built(name: str, setting: str, words: str) -> None:
    experiment = load(name, [setting])
    cell = experiment.cells(1)[0]
    with pytest.raises(BadInput, match=words):
        experiment.cluster(cell)


def test_what_is_published_is_the_row_of_first_packets() -> None:
    found = {
        (each["mode"], each["services"], each["percentile"]): each["value"]
        for each in module("first_packet").PUBLISHED[0].figures
    }
    assert len(found) == 24
    assert found["iptables", 30000, "p50"] / found["iptables", 5000, "p50"] == pytest.approx(5.8, abs=0.05)
    assert math.isclose(found["iptables", 30000, "p50"] / found["nftables", 30000, "p50"], 22.67, rel_tol=0.01)
