"""The main job in a few seconds: a cluster, who reaches whom, and how fast.

Three nodes with four pods each on static routes. Every pair of nodes and pods is asked once, and
latency is measured between pods of one node and of two. The network alone, without a control plane,
unless `--set control_plane=memory` asks for one: its rules would be in the way of each packet.
"""

from mininetes.api import BadInput, Lab, Measurement, Pacing, figures

REPRODUCES = "nothing published: the Kubernetes network model, pair by pair"

PARAMETERS = {
    "nodes": [3],
    "pods_per_node": [4],
    "fabric": ["static"],
    "control_plane": ["none"],
    "cni": ["bash-bridge.conflist"],
    "probes": [40],
    "interval_s": [0.005],
}


def cluster(params):
    """The cluster of one cell, as the ``spec`` of a cluster file. Refuses parameters that cannot be."""
    if params["nodes"] < 1:
        raise BadInput("nodes", params["nodes"], "at least 1")
    Pacing(params["interval_s"], params["probes"])
    return {
        "nodes": {"controlPlane": 1, "workers": params["nodes"] - 1},
        "fabric": params["fabric"],
        "controlPlane": {"store": params["control_plane"]},
        "cni": params["cni"],
        "pods": {"perNode": params["pods_per_node"]},
    }


async def run(lab: Lab, params):
    """Measure reachability and latency; return a row for each pair and each probe."""
    lab.show_topology()
    matrix = await lab.reachability()
    lab.show_matrix(matrix)
    rows = [
        Measurement(
            "reached",
            float(cell.reached),
            "bool",
            {
                "source": cell.source,
                "target": cell.target,
                "protocol": cell.protocol,
                "expected": cell.expected,
                "verdict": cell.verdict.value,
                "saw": cell.saw,
            },
        )
        for cell in matrix.cells
    ]
    samples = await lab.latency(count=params["probes"], interval_s=params["interval_s"])
    lab.show_latency(samples)
    for sample in samples:
        labels = {
            "source": sample.flow.source.name,
            "target": sample.flow.target.name,
            "path": lab.path_of(sample),
            "sequence": sample.sequence,
            "seen": sample.seen.value,
        }
        rows.append(Measurement("rtt_us", sample.rtt_us, "us", labels))
        rows.append(Measurement("wire_rtt_us", sample.wire_rtt_us, "us", labels))
    return rows


def plot(rows):
    """The matrix, and the distribution of the round-trip times."""
    reached = [row for row in rows if row.measurement.metric == "reached"]
    times = {}
    for row in rows:
        if row.measurement.metric == "rtt_us" and row.measurement.value is not None:
            times.setdefault(row.measurement.labels["path"], []).append(row.measurement.value)
    return {
        "matrix": figures.matrix(reached, "Who reaches whom"),
        "latency": figures.distribution(times, "Round trip between pods", "round-trip time in µs (ICMP echo)"),
    }
