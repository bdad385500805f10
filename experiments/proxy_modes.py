"""Latency and throughput of a service in each proxy mode, with the same two pods asked directly beside it.

In a cluster of two nodes with a control plane, a pod loads a pod on its own node and one on the other node, each
directly by its address and through a service's cluster IP of which that pod is the one endpoint. The loads are those
of `fabrics`: request/response, connect/request/response, and one iperf3 stream over TCP, turn by turn. What counts is
the ratio of service to direct in the same run.

Expect the kernel's modes (iptables, nftables, ipvs) to cost streams and open connections next to nothing: the rules
are walked for a connection's first packet, connection tracking does the rest, so that connect/request/response shows
the most of them. userspace copies every byte through a process on the node, which costs most of the throughput.
"""

from mininetes.api import Lab, Published, claims, figures, grouping, loads, loads_paths, loads_services

MODES_ROW = "Proxy modes' throughput, single host (kubernetes issue 16344)"
SOLUTIONS_ROW = "Network solutions (Ducastel 2024)"
REPRODUCES = f"{MODES_ROW}; {SOLUTIONS_ROW}: service against direct"

PUBLISHED = [
    Published(
        MODES_ROW,
        "kubernetes issue 16344, client and server on one host",
        "part of the direct throughput",
        [{"mode": "userspace", "value": 0.36}, {"mode": "iptables", "value": 0.96}],
    ),
    Published(
        SOLUTIONS_ROW,
        "A. Ducastel, benchmark of Kubernetes network plugins over a 40 Gbit/s network, 2024, raw data",
        "part of the direct throughput",
        [{"through": "service", "value": 0.99}],
    ),
]

PARAMETERS = {
    "mode": ["userspace", "iptables", "nftables", "ipvs"],
    "fabric": ["static"],
    "rounds": [5],
    "stream_s": [2],
    "messages_s": [0.5],
}
FIGURE_SIZE = {"rounds": [1], "stream_s": [1], "messages_s": [0.1], "repetitions": 4}
REPETITIONS = 20
LAB_PER = ("mode", "fabric")
SATURATES = True

STREAM = ("tcp_gbps_of_cpu", "tcp_gbps")
"""The first is no measure of userspace, whose process has a CPU of its own."""

SAME, CROSS = "same node", "cross node"
DIRECT, SERVICE = "direct", "service"
IN_THE_KERNEL = ("iptables", "nftables", "ipvs")
LEAST = {"iptables": 0.85}
MOST = {"userspace": 0.7}
LEAST_OF_DIRECT = 0.9


def cluster(params):
    """Two nodes with two pods each and a control plane, whose kube-proxies write the rules."""
    loads_paths.Turns(params["rounds"], params["stream_s"], params["messages_s"])
    return {
        "nodes": {"controlPlane": 1, "workers": 1},
        "underlay": "single_switch",
        "fabric": params["fabric"],
        "controlPlane": {"store": "memory"},
        "proxy": {"mode": params["mode"]},
        "pods": {"perNode": 2},
        "outside": {"clients": 0},
    }


async def run(lab: Lab, params):
    """Load both pods directly and through their services, in turn."""
    pod, near, far = (loads_paths.place(lab, f"pod/{name}") for name in ("node2-1", "node2-2", "node1-1"))
    ports = loads.STREAM_PORT, loads.MESSAGE_PORT
    turns = loads_paths.Turns(params["rounds"], params["stream_s"], params["messages_s"])
    async with (
        loads_services.exposed(lab, "near", [near], ports) as near_service,
        loads_services.exposed(lab, "far", [far], ports) as far_service,
    ):
        paths = [
            loads_paths.Path({"path": path, "through": through}, pod, server, address)
            for path, server, service in ((SAME, near, near_service), (CROSS, far, far_service))
            for through, address in ((DIRECT, ""), (SERVICE, service.address))
        ]
        return await loads_paths.in_turn(paths, turns, lab.seed)


def plot(rows):
    """What of the direct throughput and transactions a service has, and how long transactions take."""
    published = {"userspace": 0.36, "iptables": 0.96}
    by_mode = {path: {mode: _parts(rows, mode, path) for mode in _modes(rows)} for path in (SAME, CROSS)}
    drawn = {
        "throughput": figures.bars(
            _present(by_mode),
            "A service against its pod",
            "part of the direct throughput",
            published={SAME: published},
            note="published: kubernetes issue 16344",
        )
    }
    for metric, name in (("rr_us", "request_response"), ("crr_us", "connect_request_response")):
        times = grouping.series(
            rows, metric, "through", "mode", where={"percentile": "p50", "path": CROSS}, statistic=min
        )
        title = f"{name.replace('_', '/').capitalize()} by mode"
        drawn[name] = figures.bars(times, title, "median time of a transaction across nodes in µs")
    return drawn


def _present(table):
    return {name: {x: values for x, values in points.items() if values} for name, points in table.items()}


def _modes(rows):
    return list(dict.fromkeys(row.cell["mode"] for row in rows))


def _parts(rows, mode, path):
    """Service/direct in each run, of throughput: of each second of CPU time where that is all of a mode's cost."""
    metrics = STREAM if mode in IN_THE_KERNEL else STREAM[-1:]
    runs = claims.by_run(rows, claims.measured_as(rows, *metrics), "through", where={"mode": mode, "path": path})
    return claims.ratios(runs, SERVICE, DIRECT)


def verdicts(rows):
    """The published share of each mode on one host, and of any service in the kernel across nodes."""
    found = []
    for mode in _modes(rows):
        values = _parts(rows, mode, SAME)
        known = {each["mode"]: each["value"] for each in PUBLISHED[0].figures}
        if mode in MOST:
            claim, holds = f"{mode}: at most {MOST[mode]} of the direct throughput", claims.at_most(MOST[mode])
        elif mode in LEAST:
            claim, holds = f"{mode}: at least {LEAST[mode]} of the direct throughput", claims.at_least(LEAST[mode])
        else:
            continue
        what = "service/direct on one node, throughput:"
        found.append(claims.judged(claim, str(known[mode]), values, holds, row=MODES_ROW, what=what))
    for mode in _modes(rows):
        if mode in IN_THE_KERNEL:
            found.append(
                claims.judged(
                    f"a service has at least {LEAST_OF_DIRECT} of the direct throughput across nodes: {mode}",
                    "0.99",
                    _parts(rows, mode, CROSS),
                    claims.at_least(LEAST_OF_DIRECT),
                    row=SOLUTIONS_ROW,
                    what="service/direct across nodes, throughput:",
                )
            )
    return found
