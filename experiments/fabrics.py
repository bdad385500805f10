"""Latency and throughput of each fabric, inside a node and across, with two bare nodes beside them.

In a cluster of two nodes three paths are loaded in turn: from node to node (bare: what the underlay gives), from a
pod to one on the same node, and from a pod to one on the other node, over the fabric. Each turn has a request/response
load (one byte to and fro over one TCP connection), a connect/request/response load (a connection for each byte) and
one iperf3 stream over TCP. The same request/response inside one pod, over its loopback, shows what the two programs
cost alone. Both ends of a load share one CPU, on which the kernel does the whole way of its packets. Throughput is
given by the clock, and for each second of CPU time, which is what it is judged by: other programs do not change that.

Expect every pod path to be slower than the bare one; inside a node to be quicker than across nodes; the tunnels
(vxlan, weave) to cost more than routes (static, host-gw) in latency and throughput, and more in latency than in
throughput, where large segments share the cost; router to pay for its second crossing of the network. All ratios
are of paths of one run; a cluster on one machine has no wire, so that absolute figures say little.
"""

from mininetes.api import BadInput, Lab, Published, claims, figures, grouping, loads_paths

REPRODUCES = (
    "Network solutions; Overlay against host (Slim); ONCache against a standard overlay; Qi et al. and Suo et al."
)

SOLUTIONS = "Network solutions (Ducastel 2024)"
SLIM = "Overlay against host (Slim, NSDI'19)"
ONCACHE = "ONCache against a standard overlay (NSDI'25)"
QI = "Same node, cross node, tunnels (Qi et al. 2021; Suo et al. 2018)"

PUBLISHED = [
    Published(
        SOLUTIONS,
        "A. Ducastel, benchmark of Kubernetes network plugins over a 40 Gbit/s network, 2024, raw data; one TCP stream",
        "Gbit/s",
        [
            {"solution": "bare", "value": 31.4},
            {"solution": "kube-router", "value": 22.7},
            {"solution": "cilium", "value": 21.9},
            {"solution": "antrea", "value": 21.0},
            {"solution": "flannel", "value": 20.0},
            {"solution": "calico", "value": 19.7},
        ],
    ),
    Published(
        SLIM,
        "Slim, NSDI'19, abstract and introduction (not verified in its Table 1)",
        "Gbit/s and us",
        [
            {"path": "host", "metric": "throughput", "value": 26.8},
            {"path": "overlay", "metric": "throughput", "value": 14.0},
            {"path": "host", "metric": "RTT", "value": 11.3},
            {"path": "overlay", "metric": "RTT", "value": 20.9},
        ],
    ),
    Published(
        ONCACHE,
        "ONCache, NSDI'25, abstract",
        "gain over a standard overlay",
        [{"metric": "throughput", "value": 0.12}, {"metric": "request/response", "value": 0.36}],
    ),
]

PARAMETERS = {
    "fabric": ["static", "host-gw", "router", "vxlan", "weave"],
    "rounds": [5],
    "stream_s": [2],
    "messages_s": [0.5],
}
FIGURE_SIZE = {"rounds": [1], "stream_s": [1], "messages_s": [0.1], "repetitions": 5}
REPETITIONS = 20
LAB_PER = ("fabric",)
SATURATES = True

STREAM = ("tcp_gbps_of_cpu", "tcp_gbps")
"""What throughput is judged by: of each second of CPU time, where that can be told; other programs take none of it."""

ROUTED, TUNNELS = ("static", "host-gw"), ("vxlan", "weave")
BARE, SAME, CROSS = "bare", "same node", "cross node"


def cluster(params):
    """Two nodes with two pods each, without a control plane: nothing but the fabric is in the packets' way."""
    loads_paths.Turns(params["rounds"], params["stream_s"], params["messages_s"])
    if params["fabric"] == "none":
        raise BadInput("fabric", "none", "a fabric that connects nodes")
    return {
        "nodes": {"controlPlane": 1, "workers": 1},
        "underlay": "single_switch",
        "fabric": params["fabric"],
        "controlPlane": {"store": "none"},
        "pods": {"perNode": 2},
        "outside": {"clients": 0},
    }


async def run(lab: Lab, params):
    """Load the three paths, and the loopback, in turn."""
    node1, node2, pod, near, far = (
        loads_paths.place(lab, name) for name in ("node1", "node2", "pod/node1-1", "pod/node1-2", "pod/node2-1")
    )
    paths = [
        loads_paths.Path({"path": BARE}, node1, node2),
        loads_paths.Path({"path": SAME}, pod, near),
        loads_paths.Path({"path": CROSS}, pod, far),
    ]
    paths.append(loads_paths.loopback(paths[1]))
    turns = loads_paths.Turns(params["rounds"], params["stream_s"], params["messages_s"])
    return await loads_paths.in_turn(paths, turns, lab.seed)


def plot(rows):
    """Throughput and latency by fabric and path, and what of the bare network is left."""
    stream = grouping.series(rows, "tcp_gbps", "path", "fabric")
    of_cpu = grouping.series(rows, claims.measured_as(rows, *STREAM), "path", "fabric")
    times, connects = (
        grouping.series(rows, metric, "path", "fabric", where={"percentile": "p50"}, statistic=min)
        for metric in ("rr_us", "crr_us")
    )
    return {
        "throughput": figures.bars(stream, "One TCP stream by fabric", "Gbit/s by the clock"),
        "throughput_of_cpu": figures.bars(of_cpu, "One TCP stream by fabric", "Gbit for each second of CPU time"),
        "request_response": figures.bars(times, "Request/response by fabric", "median time of a transaction in µs"),
        "connect_request_response": figures.bars(
            connects, "Connect/request/response by fabric", "median time of a transaction in µs"
        ),
        "of_bare": figures.bars(
            {"throughput": _of_bare(rows, *STREAM), "transactions": _of_bare(rows, "rr_us")},
            "Pods against bare nodes",
            "part of what bare nodes have in the same run",
            published=_published_parts(),
            note="published: Ducastel 2024 (throughput), Slim 2019 (overlay)",
        ),
    }


def _of_bare(rows, *metrics):
    """By fabric, what of the bare network's throughput (or transactions: times turned round) pods get."""
    found = {}
    for fabric in dict.fromkeys(row.cell["fabric"] for row in rows):
        runs = _runs(rows, fabric, *metrics)
        values = claims.ratios(runs, CROSS, BARE) if metrics == STREAM else claims.ratios(runs, BARE, CROSS)
        if values:
            found[fabric] = values
    return found


def _published_parts():
    known = {each["solution"]: each["value"] for each in PUBLISHED[0].figures}
    slim = {(each["path"], each["metric"]): each["value"] for each in PUBLISHED[1].figures}
    parts = {name: value / known["bare"] for name, value in known.items() if name != "bare"}
    parts["Slim's overlay"] = slim["overlay", "throughput"] / slim["host", "throughput"]
    return {"throughput": parts, "transactions": {"Slim's overlay": slim["host", "RTT"] / slim["overlay", "RTT"]}}


def _runs(rows, fabric, *metrics):
    """Each run's value by path. Of times the quickest load's median: whatever else goes on can only add to it."""
    metric = claims.measured_as(rows, *metrics)
    if not metric.endswith("_us"):
        return claims.by_run(rows, metric, "path", where={"fabric": fabric})
    where = {"fabric": fabric, "percentile": "p50"}
    return claims.by_run(rows, metric, "path", where=where, statistic=min)


def verdicts(rows):
    """The four published shapes, each for every fabric that it speaks of."""
    fabrics = list(dict.fromkeys(row.cell["fabric"] for row in rows))
    found = []
    for fabric in fabrics:
        found.append(_bare_above(rows, fabric))
        found.append(_same_node_below(rows, fabric))
        if fabric in TUNNELS:
            found += [*_overlay_against_host(rows, fabric), _gaps(rows, fabric)]
    found += [_routes_below(rows, routed, tunnel) for routed in ROUTED[:1] for tunnel in TUNNELS
              if {routed, tunnel} <= set(fabrics)]  # fmt: skip
    return found


def _bare_above(rows, fabric):
    values = claims.ratios(_runs(rows, fabric, *STREAM), CROSS, BARE)
    claim = f"bare nodes have more throughput than pods on two nodes: {fabric}"
    published = "0.63 (calico) to 0.72 (kube-router) of the bare network's"
    return claims.judged(
        claim, published, values, claims.surely("below", 1), row=SOLUTIONS, what="cross node/bare, throughput:"
    )


def _same_node_below(rows, fabric):
    values = claims.ratios(_runs(rows, fabric, "rr_us"), SAME, CROSS)
    claim = f"a round trip inside a node is shorter than across nodes: {fabric}"
    return claims.judged(
        claim, "a bridge inside a node beats what crosses nodes", values, claims.surely("below", 1),
        row=QI, what="same node/cross node, time:",
    )  # fmt: skip


def _overlay_against_host(rows, fabric):
    throughput = claims.ratios(_runs(rows, fabric, *STREAM), CROSS, BARE)
    times = claims.ratios(_runs(rows, fabric, "rr_us"), CROSS, BARE)
    return [
        claims.judged(
            f"an overlay has less throughput than its hosts: {fabric}", "14.0 of 26.8 Gbit/s: 0.52",
            throughput, claims.surely("below", 1), row=SLIM, what="overlay/host, throughput:",
        ),
        claims.judged(
            f"an overlay has a longer round trip than its hosts: {fabric}", "20.9 to 11.3 us: 1.85",
            times, claims.surely("above", 1), row=SLIM, what="overlay/host, time:",
        ),
    ]  # fmt: skip


def _gaps(rows, fabric):
    """How much more bare nodes do than the overlay: in transactions, less the same in throughput, by run."""
    transactions = claims.ratio_of(_runs(rows, fabric, "rr_us"), CROSS, BARE)
    throughput = claims.ratio_of(_runs(rows, fabric, *STREAM), BARE, CROSS)
    values = claims.differences(transactions, throughput)
    claim = f"without the overlay request/response gains more than throughput: {fabric}"
    return claims.judged(
        claim, "+36 % and +12 %", values, claims.surely("above", 0), row=ONCACHE,
        what="gain in request/response less gain in throughput:",
    )  # fmt: skip


def _routes_below(rows, routed, tunnel):
    """From two labs: each by its own bare nodes, so that a slower moment of the machine does not count."""
    first, second = (claims.ratios(_runs(rows, fabric, "rr_us"), CROSS, BARE) for fabric in (routed, tunnel))
    claim = f"static routes have a shorter round trip than a tunnel: {routed}, {tunnel}"
    what = f"{routed}/{tunnel}, each by its bare nodes:"
    return claims.judged_apart(
        claim, "tunnels cost across nodes", first, second, claims.surely("below", 1), row=QI, what=what
    )
