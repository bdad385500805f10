"""Who reaches whom in every fabric on every underlay, held against the cluster's description.

Each cell is a cluster of its own, without a control plane. Every node and pod asks every other one, by ICMP, UDP and
TCP, and each answer is held against what the description makes one expect, the client's address that the answer
names among it.

Expect every pair to be as described. That is not that all reach all: without a fabric a pod reaches its own node and
that node's pods, and host-gw does not cross a router.
"""

from mininetes.api import Lab, Measurement, Verdict, figures

REPRODUCES = "nothing published: the Kubernetes network model, pair by pair"

PARAMETERS = {
    "fabric": ["static", "host-gw", "router", "vxlan", "weave", "none"],
    "underlay": ["three_node", "single_switch", "racks", "leaf_spine"],
    "nodes": [4],
    "pods_per_node": [4],
}
FIGURE_SIZE = {"pods_per_node": [2]}
TIMING_SENSITIVE = False

PROTOCOLS = ("icmp", "udp", "tcp")
_EXACTLY = {"three_node": 3}


def cluster(params):
    """The cluster of one cell; the textbook's underlay has three nodes, whatever was asked for."""
    nodes = _EXACTLY.get(params["underlay"], params["nodes"])
    return {
        "nodes": {"controlPlane": 1, "workers": nodes - 1},
        "underlay": params["underlay"],
        "fabric": params["fabric"],
        "controlPlane": {"store": "none"},
        "pods": {"perNode": params["pods_per_node"]},
        "outside": {"clients": 0},
    }


async def run(lab: Lab, params):
    """A row for each pair and protocol."""
    found = []
    for protocol in PROTOCOLS:
        matrix = await lab.reachability(protocol)
        lab.show_matrix(matrix, f"{params['fabric']} on {params['underlay']}: who reaches whom by {protocol}")
        for cell in matrix.cells:
            labels = {
                "source": cell.source,
                "target": cell.target,
                "protocol": cell.protocol,
                "expected": cell.expected,
                "verdict": cell.verdict.value,
                "saw": cell.saw,
            }
            found.append(Measurement("reached", float(cell.reached), "bool", labels))
    return found


def _reached(rows):
    return [row for row in rows if row.measurement.metric == "reached"]


def _is_right(row):
    return row.measurement.labels["verdict"] in ("reached", "unreached")


def _share(rows, counts):
    """By fabric and underlay, the part of pairs that ``counts`` says yes to."""
    tally = {}
    for row in _reached(rows):
        right, total = tally.get((row.cell["fabric"], row.cell["underlay"]), (0, 0))
        tally[row.cell["fabric"], row.cell["underlay"]] = right + counts(row), total + 1
    return {key: right / total for key, (right, total) in tally.items()}


def plot(rows):
    """Two tables of fabrics by underlays, and the matrix of each cluster in which a pair was not as described."""
    if not _reached(rows):
        return {}
    drawn = {
        "as_described": figures.heat_map(
            _share(rows, _is_right), "Part of the pairs that are as described", xlabel="underlay", ylabel="fabric"
        ),
        "reached": figures.heat_map(
            _share(rows, lambda row: bool(row.measurement.value)),
            "Part of the pairs that reach each other", xlabel="underlay", ylabel="fabric",
        ),
    }  # fmt: skip
    clusters = {}
    for row in _reached(rows):
        key = row.cell["fabric"], row.cell["underlay"], row.measurement.labels["protocol"]
        clusters.setdefault(key, []).append(row)
    for (fabric, underlay, protocol), found in clusters.items():
        if not all(_is_right(row) for row in found):
            name = f"{fabric}_{underlay}_{protocol}".replace("-", "_")
            drawn[name] = figures.matrix(found, f"{fabric} on {underlay}, {protocol}")
    return drawn


def verdicts(rows):
    """For each fabric, whether every pair on every underlay is as described."""
    tally = {}
    for row in _reached(rows):
        fabric = row.cell["fabric"]
        right, total, underlays = tally.get(fabric, (0, 0, set()))
        tally[fabric] = right + _is_right(row), total + 1, underlays | {row.cell["underlay"]}
    return [
        Verdict(
            f"every pair is as described: {fabric}",
            "all of them",
            f"{right} of {total} pairs on {', '.join(sorted(underlays))}",
            "yes" if right == total else "no",
        )
        for fabric, (right, total, underlays) in tally.items()
    ]
