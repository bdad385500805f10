"""UDP throughput between pods of two nodes by the MTU of their packets.

Each cell has an underlay whose links take packets of just the size that the fabric needs for pods of this MTU, and
one pod sends UDP to another, on the other node, as fast as it can, in datagrams that fill a packet. What arrived
counts: sender and receiver share a CPU, so that much is lost, which a sender without a rate does not notice. The same
between the two bare nodes, with the underlay's packets, stands beside it.

Expect throughput to grow about as the MTU does while a packet's cost is its way through the kernel (forwarding,
tunnel, wake-up of the receiver) and not its bytes: about five times from weave's 1376 to 8916.
"""

from mininetes.api import BadInput, Lab, Published, claims, figures, grouping, loads, loads_paths

REPRODUCES = "UDP throughput by MTU (Ducastel 2020)"

PUBLISHED = [
    Published(
        REPRODUCES,
        "A. Ducastel, benchmark of Kubernetes network plugins over a 10 Gbit/s network, 2020; UDP",
        "Mbit/s",
        [
            {"solution": "calico", "mtu": 1440, "value": 1872},
            {"solution": "weave", "mtu": 1376, "value": 1809},
            {"solution": "weave", "mtu": 8916, "value": 9593},
        ],
    )
]

PARAMETERS = {
    "fabric": ["weave", "vxlan", "static"],
    "mtu": [1376, 1440, 4000, 8916],
    "rounds": [5],
    "stream_s": [2],
}
FIGURE_SIZE = {"fabric": ["weave", "static"], "mtu": [1376, 8916], "rounds": [1], "stream_s": [1], "repetitions": 5}
REPETITIONS = 10
LAB_PER = ("fabric", "mtu")
SATURATES = True

OVERHEAD = {"weave": 50, "vxlan": 50, "static": 0, "host-gw": 0, "router": 0}
"""What a fabric puts around a pod's packet, in bytes."""

STREAM = ("udp_mbps_of_cpu", "udp_mbps")
"""What throughput is judged by: of each second of CPU time, where that can be told; other programs take none of it."""

SMALL, LARGE = 1376, 8916
LEAST, MOST = 3.5, 6.6
"""Around the published 5.3; the packets themselves grow 6.5 times."""

LEAST_MTU, MOST_MTU = 600, 65000


def cluster(params):
    """Two nodes with a pod each, on links and a fabric of this MTU."""
    fabric, mtu = params["fabric"], params["mtu"]
    loads.check_stream(params["stream_s"])
    if not 1 <= params["rounds"] <= loads_paths.MOST_ROUNDS:
        raise BadInput("rounds", params["rounds"], f"1 to {loads_paths.MOST_ROUNDS}")
    if fabric not in OVERHEAD:
        raise BadInput("fabric", fabric, "one of " + ", ".join(OVERHEAD))
    if not LEAST_MTU <= mtu <= MOST_MTU:
        raise BadInput("mtu", mtu, f"{LEAST_MTU} to {MOST_MTU} bytes")
    return {
        "nodes": {"controlPlane": 1, "workers": 1},
        "underlay": {"name": "single_switch", "parameters": {"mtu": mtu + OVERHEAD[fabric]}},
        "fabric": {"name": fabric, "parameters": {"mtu": mtu} if fabric == "weave" else {}},
        "controlPlane": {"store": "none"},
        "pods": {"perNode": 1},
        "outside": {"clients": 0},
    }


async def run(lab: Lab, params):
    """Send between the pods, and between the nodes, in turn."""
    node1, node2, pod, far = (loads_paths.place(lab, name) for name in ("node1", "node2", "pod/node1-1", "pod/node2-1"))
    ends = {
        "cross node": (pod, far, params["mtu"]),
        "bare": (node1, node2, params["mtu"] + OVERHEAD[params["fabric"]]),
    }
    found = []
    for index in range(params["rounds"]):
        for path in sorted(ends, reverse=bool((index + lab.repetition) % 2)):
            source, server, mtu = ends[path]
            payload = loads.datagram_bytes(mtu)
            labels = {"path": path, "index": index}
            found += await loads.udp_stream(
                source, server, payload_bytes=payload, duration_s=params["stream_s"], labels=labels
            )
    return found


def plot(rows):
    """Throughput by MTU, absolute and against each line's first point."""
    values, of_cpu = (_with_bare(rows, metric) for metric in ("udp_mbps", claims.measured_as(rows, *STREAM)))
    published = figures.of_published(PUBLISHED[0].figures, "solution", "mtu")
    labels = ("MTU of pods in bytes", "Mbit/s that arrived")
    return {
        "throughput": figures.lines(
            values, "UDP across nodes by MTU", *labels, published=published, note="dashed: Ducastel 2020"
        ),
        "growth": figures.lines(
            of_cpu,
            "UDP by MTU, relative",
            labels[0],
            "throughput",
            published=published,
            relative=True,
        ),
    }


def _with_bare(rows, metric):
    """By fabric and MTU; the bare nodes are those beside the fabric that adds nothing to packets."""
    found = grouping.series(rows, metric, "fabric", "mtu", where={"path": "cross node"})
    bare = grouping.series(rows, metric, "fabric", "mtu", where={"path": "bare"}).get("static")
    return {**found, "bare": bare} if bare else found


def verdicts(rows):
    """Whether throughput grows about five times between the two MTUs, for each fabric."""
    values = grouping.series(rows, claims.measured_as(rows, *STREAM), "fabric", "mtu", where={"path": "cross node"})
    return [
        claims.judged_apart(
            f"UDP throughput grows about 5 times from MTU {SMALL} to {LARGE}: {fabric}",
            "weave: 9593 of 1809 Mbit/s, 5.3 times",
            points.get(LARGE, []),
            points.get(SMALL, []),
            claims.between(LEAST, MOST),
            what=f"{LARGE}/{SMALL}, throughput:",
        )
        for fabric, points in values.items()
    ]
