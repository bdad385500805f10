"""How long kube-proxy takes to write its rules: all of them, or those of one changed endpoint.

One node with the rules of many services of two endpoints each, kept by the proxy's own code. A full sync compiles and
writes everything; a partial one is what follows the change of a single endpoint. They are measured in turn, in one
lab, and include the run of iptables-restore or nft.

The legacy back end of iptables hands the kernel the whole table whatever changed, so that a partial sync saves
compiling and parsing only. iptables-nft and nftables send the change alone. ipvs and userspace are left out: the first
needs a kernel module that is not everywhere, the second a socket for each service.
"""

from __future__ import annotations

from mininetes.api import (
    Lab,
    Measurement,
    Published,
    Verdict,
    figures,
    grouping,
    service_state,
    statistics,
)

REPRODUCES = "Partial sync"

PUBLISHED = [
    Published(
        REPRODUCES,
        "KEP-3453, network programming latency at 5,000 nodes, median, as partial syncs came in step by step",
        "s",
        [
            {"step": "before", "value": 27.0},
            {"step": "first", "value": 13.0},
            {"step": "second", "value": 5.0},
        ],
    )
]

PARAMETERS = {
    "mode": ["iptables-nft", "iptables-legacy", "nftables"],
    "services": [250, 500, 1000, 2000, 5000],
}
FIGURE_SIZE = {"services": [250, 500, 1000, 2000], "repetitions": 5}
REPETITIONS = 10
WARM_UP = 1
LAB_PER = ("mode", "services")
SATURATES = True

AT_LEAST = 1000
AT_MOST = {"iptables-nft": 1 / 5, "iptables-legacy": 2 / 3}
_HERE, _THERE, _NEW = "10.244.1.2", "10.244.2.2", "10.244.2.3"


def cluster(params):
    """The cluster of one cell: a node without pods. Refuses parameters that cannot be."""
    service_state.checked_mode(params["mode"])
    service_state.checked_services(params["services"])
    return service_state.one_node()


async def run(lab: Lab, params):
    """One full sync, then an endpoint more and an endpoint less of one service."""
    ends = tuple(service_state.End(address, node) for address, node in ((_HERE, "node1"), (_THERE, "node2")))
    rules, new = service_state.rules_in(lab.testbed, params["mode"], service_state.Services(params["services"], ends))
    if new:
        await rules.load()
    number = (params["services"] // 2 + max(lab.repetition, 0)) % params["services"]
    full = await rules.full()
    rows = [
        Measurement("sync_s", full.took_s, "s", {"sync": "full", "touched": full.touched}),
        Measurement("rules", float(full.ruleset.rules), "1"),
    ]
    for change, now in (("added", (*ends, service_state.End(_NEW, "node2"))), ("removed", ends)):
        partial = await rules.partial(number, now)
        labels = {"sync": "partial", "change": change, "touched": partial.touched}
        rows.append(Measurement("sync_s", partial.took_s, "s", labels))
    return rows


def plot(rows):
    """Both kinds of sync over the number of services, and how much of a full sync a partial one takes."""
    rows = list(rows)
    drawn = {}
    both = {}
    for sync in ("full", "partial"):
        for mode, points in grouping.series(rows, "sync_s", "mode", "services", where={"sync": sync}).items():
            both[f"{mode} {sync}"] = points
    drawn["sync-time"] = figures.lines(both, "Writing the rules of services", "services", "time in s", log_y=True)
    drawn["partial-of-full"] = figures.lines(
        _parts(rows), "One endpoint's update", "services", "partial / full", log_y=True
    )
    known = {"network programming at 5,000 nodes": {each["step"]: each["value"] for each in PUBLISHED[0].figures}}
    drawn["published"] = figures.bars(
        known, "Published: partial syncs come in", "median in s", note=PUBLISHED[0].source
    )
    return drawn


def _parts(rows):
    """By mode and services, for each repetition: the partial sync's time over that of its full one."""
    taken = {}
    for row in rows:
        one = row.measurement
        if one.metric == "sync_s":
            run = row.cell["mode"], row.cell["services"], row.repetition
            taken.setdefault(run, {}).setdefault(one.labels["sync"], []).append(one.value)
    found = {}
    for (mode, services, _), by in sorted(taken.items()):
        if len(by) == 2:
            part = statistics.median(by["partial"]) / statistics.median(by["full"])
            found.setdefault(mode, {}).setdefault(services, []).append(part)
    return found


def verdicts(rows):
    """Whether one endpoint's update costs at most its part of a full sync, at the largest number of services."""
    rows = list(rows)
    parts = _parts(rows)
    found = []
    for mode, most in AT_MOST.items():
        claim = f"{mode}: one endpoint's update takes at most {most:.2g} of a full sync"
        published = "27 -> 13 -> 5 s at 5,000 nodes"
        points = parts.get(mode, {})
        largest = max(points, default=0)
        if largest < AT_LEAST:
            said = f"not measured with {AT_LEAST:,} services or more"
            found.append(Verdict(claim, published, said, "not at this size"))
            continue
        part = statistics.bootstrap(points[largest])
        said = f"{part} at {largest:,} services; {_growth(rows, mode)}"
        beside = parts.get("nftables", {}).get(largest)
        if mode == "iptables-nft" and beside:
            said += f"; mode nftables {statistics.bootstrap(beside)}"
        found.append(Verdict(claim, published, said, "yes" if part.value <= most else "no"))
    return found


def _growth(rows, mode):
    said = []
    for sync in ("full", "partial"):
        points = grouping.series(rows, "sync_s", "mode", "services", where={"sync": sync, "mode": mode})[mode]
        pairs = [(services, value) for services, values in points.items() for value in values]
        if len(points) > 1:
            said.append(f"{sync} grows as services^{statistics.growth_exponent(*zip(*pairs, strict=True))}")
    return ", ".join(said) or "one number of services only"
