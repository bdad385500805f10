"""Scale: what nodes and pods cost, in time until all is ready, in memory, and in time to probe who reaches whom.

Each cell is a lab of its own without a control plane: nodes by pods on each. Pods are held by bind mounts, without a
process each. Memory is that of the lab's processes (their proportional share), and beside it the kernel's on the whole
machine, which tells something only when little else runs. Every pair of pods and nodes is asked, or a part of the
pairs drawn at random where there are more than `most_pairs`.
"""

from __future__ import annotations

import random
import time

import numpy as np

from mininetes.api import (
    BadInput,
    Flow,
    Lab,
    Measurement,
    Published,
    Verdict,
    figures,
    grouping,
    lab_memory,
    statistics,
)

REPRODUCES = "SIG Scalability's objectives"

PUBLISHED = [
    Published(
        REPRODUCES,
        "Kubernetes SIG Scalability, thresholds of a large cluster",
        "1",
        [
            {"what": "nodes", "value": 5000},
            {"what": "pods", "value": 150_000},
            {"what": "pods per node", "value": 110},
        ],
    )
]

PARAMETERS = {
    "nodes": [3, 10, 30, 100],
    "pods_per_node": [4, 10, 30],
    "fabric": ["static"],
    "most_pairs": [100_000],
}
FIGURE_SIZE = {"nodes": [3, 10], "pods_per_node": [4, 30, 110], "most_pairs": [20_000], "repetitions": 1}
REPETITIONS = 3
SATURATES = True

NODES, PODS, PODS_PER_NODE = (int(each["value"]) for each in PUBLISHED[0].figures)
MIB = 1 << 20


def cluster(params):
    """The cluster of one cell. Refuses parameters that cannot be."""
    if params["nodes"] < 1:
        raise BadInput("nodes", params["nodes"], "at least 1")
    if params["most_pairs"] < 1:
        raise BadInput("most_pairs", params["most_pairs"], "at least 1")
    return {
        "nodes": {"controlPlane": 1, "workers": params["nodes"] - 1},
        "fabric": params["fabric"],
        "controlPlane": {"store": "none"},
        "pods": {"perNode": params["pods_per_node"], "hold": "mount"},
    }


async def run(lab: Lab, params):
    """How long it took to come up, what it takes, and who reaches whom."""
    testbed = lab.testbed
    await testbed.settle_neighbours()
    await testbed.prober.prepare()
    ends = testbed.vantages("node", "pod")
    pairs = len(ends) * (len(ends) - 1)
    flows = _pairs(ends, min(pairs, params["most_pairs"]), lab.seed)
    began = time.monotonic()
    outcomes = await testbed.prober.sweep(flows)
    taken_s = time.monotonic() - began
    reached = sum(each.reached for each in outcomes)
    lab.holds = lab.holds and reached == len(flows)
    return [
        Measurement("ready_s", testbed.ready_s, "s"),
        Measurement("memory_bytes", float(lab_memory.process_bytes()), "bytes", {"whose": "processes"}),
        Measurement("memory_bytes", float(lab_memory.kernel_bytes()), "bytes", {"whose": "kernel"}),
        Measurement("pairs", float(len(flows)), "1", {"of": pairs}),
        Measurement("pairs_reached", float(reached), "1"),
        Measurement("probe_s", taken_s, "s"),
        Measurement("pairs_per_s", len(flows) / taken_s, "1/s"),
    ]


def _pairs(ends, wanted, seed):
    """So many different ordered pairs, drawn at random."""
    others = len(ends) - 1
    flows = []
    for number in random.Random(seed).sample(range(len(ends) * others), wanted):
        source, target = divmod(number, others)
        flows.append(Flow(ends[source], ends[target + (target >= source)]))
    return flows


def plot(rows):
    """Time and memory over the number of pods, a line for each number of nodes."""
    rows = list(rows)

    def over_pods(metric, where=None, scale=1.0):
        found = {}
        for (nodes, each), values in grouping.reduced(rows, metric, "nodes", "pods_per_node", where=where).items():
            found.setdefault(f"{nodes} nodes", {})[nodes * each] = [value / scale for value in values]
        return {name: dict(sorted(points.items())) for name, points in sorted(found.items())}

    memory = over_pods("memory_bytes", {"whose": "processes"}, MIB)
    kernel = over_pods("memory_bytes", {"whose": "kernel"}, MIB)
    return {
        "scale-ready": figures.lines(over_pods("ready_s"), "Until all is ready", "pods", "time in s", log_y=True),
        "scale-memory": figures.lines(memory, "Memory of the lab's processes", "pods", "MiB", log_y=True),
        "scale-kernel": figures.lines(kernel, "Memory of the kernel", "pods", "MiB", note="of the whole machine"),
        "scale-probes": figures.lines(over_pods("pairs_per_s"), "Who reaches whom", "pods", "pairs asked per second"),
    }


def verdicts(rows):
    """How far one machine gets towards the thresholds, and how time and memory grow on the way."""
    rows = list(rows)
    ready = grouping.reduced(rows, "ready_s", "nodes", "pods_per_node")
    if not ready:
        return []
    return [_as_large(rows, ready), _full_nodes(rows, ready)]


def _as_large(rows, ready):
    nodes = max(nodes for nodes, _ in ready)
    pods = max(nodes * each for nodes, each in ready)
    claim = f"{NODES:,} nodes and {PODS:,} pods"
    said = [f"largest here {nodes} nodes, {pods:,} pods"]
    pairs = [(nodes * each, value) for (nodes, each), values in ready.items() for value in values]
    if len({pods for pods, _ in pairs}) > 1:
        exponent = statistics.growth_exponent(*zip(*pairs, strict=True))
        slowest = max(pairs)
        said.append(f"ready after {slowest[1]:.3g} s with {slowest[0]:,} pods, growing as pods^{exponent}")
    said += [_memory(rows, "processes", "processes"), _memory(rows, "kernel", "the kernel (of the whole machine)")]
    holds = "yes" if nodes >= NODES and pods >= PODS else "not at this size"
    return Verdict(claim, "supported thresholds", "; ".join(filter(None, said)), holds)


def _memory(rows, whose, words):
    """What a node and a pod take of it, in words; "" where it cannot be told."""
    cost = _memory_cost(rows, whose)
    if cost is None:
        return ""
    base, node, pod = (each / MIB for each in cost)
    if min(node, pod) <= 0:
        return f"what {words} take for a node and a pod is lost in the noise"
    whole = (base + NODES * node + PODS * pod) / 1024
    return f"{words} take {node:.2g} MiB a node and {pod * 1024:.3g} KiB a pod: {whole:.0f} GiB for all of it"


def _memory_cost(rows, whose="processes"):
    """Bytes in any case, for a node and for a pod, by least squares; None where the cells do not tell them apart."""
    found = grouping.reduced(rows, "memory_bytes", "nodes", "pods_per_node", where={"whose": whose})
    sizes = [(1.0, nodes, nodes * each) for nodes, each in found]
    if len({nodes for nodes, _ in found}) < 2 or np.linalg.matrix_rank(np.array(sizes)) < 3:
        return None
    values = [statistics.median(each) for each in found.values()]
    return np.linalg.lstsq(np.array(sizes), np.array(values), rcond=None)[0]


def _full_nodes(rows, ready):
    claim = f"{PODS_PER_NODE} pods on a node, all of which reach each other and all nodes"
    full = [key for key in ready if key[1] >= PODS_PER_NODE]
    if not full:
        most = max(each for _, each in ready)
        return Verdict(claim, "supported threshold", f"most pods on a node here: {most}", "not at this size")
    asked = grouping.reduced(rows, "pairs", "nodes", "pods_per_node", statistic=sum)
    reached = grouping.reduced(rows, "pairs_reached", "nodes", "pods_per_node", statistic=sum)
    said = [
        f"{nodes} nodes: {sum(reached[nodes, each]):,.0f} of {sum(asked[nodes, each]):,.0f} pairs,"
        f" ready after {statistics.median(ready[nodes, each]):.3g} s"
        for nodes, each in sorted(full)
    ]
    holds = all(sum(reached[key]) == sum(asked[key]) for key in full)
    return Verdict(claim, "supported threshold", "; ".join(said), "yes" if holds else "no")
