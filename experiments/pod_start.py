"""Pod start by parallelism: what a CNI ADD takes beside others, and what pods of the API take until they are ready.

`measure=cni-add`: pods are attached on one node without a control plane, a given number of ADDs at a time, each by a
process of its own. Every ADD makes links under the kernel's one lock for that (rtnl), so that those beside it wait.
They share the CPUs too: what the same plugin takes to say its version, as many at a time, shows how much of the growth
is that.

`measure=pod-start`: as many pods are created at once through the API, and scheduled, attached and started by the
lab's control plane. Counted is, for each, the time from its creation to the moment when a watch sees it ready.
"""

from __future__ import annotations

import asyncio

from mininetes.api import (
    BadInput,
    Lab,
    Measurement,
    Published,
    Verdict,
    figures,
    grouping,
    pod_starts,
    statistics,
)

CONTENTION = "Pod start"
OBJECTIVES = "SIG Scalability's objectives"
REPRODUCES = CONTENTION

PUBLISHED = [
    Published(
        CONTENTION,
        "IMC'24, 10.1145/3646547.3688436: network set-up, many starts at a time against one",
        "times",
        [{"parallel": "one", "value": 1.0}, {"parallel": "many", "value": 2.0}],
    ),
    Published(
        OBJECTIVES, "Kubernetes SIG Scalability, pod startup latency", "s", [{"percentile": "p99", "value": 5.0}]
    ),
]

PARAMETERS = {
    "measure": ["cni-add", "pod-start"],
    "parallel": [1, 2, 4, 8, 16, 32],
    "pods": [32],
    "cni": ["bash-bridge.conflist"],
}
FIGURE_SIZE = {"parallel": [1, 4, 8, 32], "pods": [32], "repetitions": 3}
REPETITIONS = 10
WARM_UP = 1
LAB_PER = ("measure", "cni")
SATURATES = True

OBJECTIVE_S = 5.0
OBJECTIVE_PODS = 30
MOST = 100


def cluster(params):
    """The cluster of one cell. Refuses parameters that cannot be."""
    if params["measure"] not in ("cni-add", "pod-start"):
        raise BadInput("measure", params["measure"], "cni-add or pod-start")
    for name in ("parallel", "pods"):
        if not 1 <= params[name] <= MOST:
            raise BadInput(name, params[name], f"1 to {MOST}: a node has no room for more pods")
    alone = params["measure"] == "cni-add"
    return {
        "nodes": {"controlPlane": 1, "workers": 0 if alone else 2},
        "fabric": "static",
        "cni": params["cni"],
        "controlPlane": {"store": "none" if alone else "memory"},
        "pods": {"perNode": 0},
    }


async def run(lab: Lab, params):
    """One round: all pods, at most so many at a time."""
    if params["measure"] == "cni-add":
        return await asyncio.to_thread(_added, lab.testbed.places()["node1"], params)
    rows = []
    async with pod_starts.watching(lab.testbed) as watch:
        for name, taken_s in enumerate(await pod_starts.start_pods(watch, _names(params["parallel"]))):
            rows.append(Measurement("pod_start_s", taken_s, "s", {"pod": name}))
    return rows


def _added(place, params):
    with pod_starts.NodeAdds(place, params["parallel"]) as node:
        version = node.ask_version(params["pods"])
        added = node.add(_names(params["pods"]))
    rows = [Measurement("add_s", taken_s, "s", {"call": "ADD"}) for taken_s in added.each_s]
    rows += [Measurement("add_s", taken_s, "s", {"call": "VERSION"}) for taken_s in version.each_s]
    rows.append(Measurement("all_adds_s", added.all_s, "s"))
    return rows


def _names(count):
    return [f"start-{number}" for number in range(1, count + 1)]


def plot(rows):
    """One call's time over how many there are at a time, and pods' start over how many are created at once."""
    rows = list(rows)
    drawn = {
        "cni-add": figures.lines(
            grouping.series(rows, "add_s", "call", "parallel"),
            "One CNI call beside others",
            "calls at a time",
            "median in s",
            log_y=True,
        ),
        "cni-add-growth": figures.lines(
            {"ADD": _grown(rows)},
            "ADD against one at a time",
            "ADDs at a time",
            "times one alone",
            published={"ADD": {1: 1.0, max((*_grown(rows), 2)): 2.0}},
        ),
    }
    starts = {
        name: grouping.series(rows, "pod_start_s", "measure", "parallel", statistic=statistics.Percentile(q)).get(
            "pod-start", {}
        )
        for name, q in (("p50", 50), ("p99", 99))
    }
    sizes = sorted({size for points in starts.values() for size in points})
    drawn["pod-start"] = figures.lines(
        starts,
        "From creation to ready",
        "pods created at once",
        "time in s",
        published={"p99": dict.fromkeys(sizes[:1] + sizes[-1:], OBJECTIVE_S)},
        log_y=True,
    )
    return drawn


def _grown(rows):
    adds = grouping.series(rows, "add_s", "call", "parallel").get("ADD", {})
    alone = statistics.median(adds[min(adds)]) if adds else 1.0
    return {parallel: [value / alone for value in values] for parallel, values in adds.items()}


def verdicts(rows):
    """Whether an ADD takes longer beside others, and whether pods start within the objective."""
    rows = list(rows)
    return [_slower(rows), _started(rows)]


def _slower(rows):
    claim = "the time of one CNI ADD grows with the number of ADDs at a time"
    published = "the network set-up doubles with parallelism: rtnl contention"
    calls = grouping.series(rows, "add_s", "call", "parallel")
    adds = calls.get("ADD", {})
    if len(adds) < 2 or min(adds) != 1:
        return Verdict(claim, published, "not measured alone and in parallel", "not at this size")
    most = max(adds)
    ratio = statistics.bootstrap_ratio(adds[most], adds[1])
    ordered = [statistics.median(values) for values in adds.values()]
    grows = ratio.value > 1 and not ratio.low <= 1 and ordered[-1] == max(ordered)
    said = f"{ratio}x with {most} at a time ({ordered[0] * 1000:.3g} to {ordered[-1] * 1000:.3g} ms)"
    version = calls.get("VERSION", {})
    if most in version and 1 in version:
        beside = statistics.bootstrap_ratio(version[most], version[1])
        said += f"; the plugin's start alone {beside}x, which is the CPUs' part"
    return Verdict(claim, published, said, "yes" if grows else "no", row=CONTENTION)


def _started(rows):
    claim = f"pod start: p99 at most {OBJECTIVE_S:g} s"
    published = "p99 at most 5 s, in clusters of up to 5,000 nodes"
    values = {}
    for row in rows:
        if row.measurement.metric == "pod_start_s" and row.measurement.value is not None:
            values.setdefault(row.cell["parallel"], []).append(row.measurement.value)
    most = max(values, default=0)
    if most < OBJECTIVE_PODS:
        said = _percentiles(values[most], most) if most else "not measured"
        said += f"; fewer than {OBJECTIVE_PODS} pods at once" if most else ""
        return Verdict(claim, published, said, "not at this size", row=OBJECTIVES)
    holds = statistics.percentile(values[most], 99) <= OBJECTIVE_S
    return Verdict(claim, published, _percentiles(values[most], most), "yes" if holds else "no", row=OBJECTIVES)


def _percentiles(values, pods):
    p50, p99 = statistics.median(values), statistics.percentile(values, 99)
    return f"p50 {p50:.3g} s, p99 {p99:.3g} s, with {pods} pods at once on 3 nodes"
