"""First packet of a connection through a service: how long it takes, by number of services and proxy mode.

One node, a client pod and two server pods. The node's rules are those of the given number of services, compiled by
the proxy mode and written as its kube-proxy writes them. Datagrams go to services that are spread evenly over the
whole list, each from a socket of its own, so that each opens a connection. Measured is one way, from the client's
device to the server's, by the kernel's stamps: the rules' part and little else. The "bare" path is the same without
any rules, measured first in the same lab.

In mode iptables the kernel compares the packet with one rule of KUBE-SERVICES after the other: time grows with the
number of services, and with the place of the service in the list. In mode nftables it looks the service up in a map.
The shape is claimed for iptables-nft, as in the published figure; iptables-legacy stands beside it.

With `rules=on-the-way` only rules that these packets can meet are loaded: all of KUBE-SERVICES (or of @service-ips),
and of the chains behind it those of the probed services. `rules=whole` loads all of them, for which iptables-nft takes
minutes at 10,000 services and more. ipvs is not among the modes: it needs a kernel module, and `proxy_modes` has it.
"""

from __future__ import annotations

import asyncio
import random
from functools import partial

from mininetes.api import (
    BadInput,
    Lab,
    Measurement,
    Published,
    Verdict,
    figures,
    first_packets,
    grouping,
    service_state,
    statistics,
)

REPRODUCES = "First-packet latency by number of services"

_MS = {
    ("iptables", 5000): (0.016, 0.047, 0.118, 0.154),
    ("iptables", 10000): (0.008, 0.059, 0.186, 0.260),
    ("iptables", 30000): (0.039, 0.272, 0.489, 0.714),
    ("nftables", 5000): (0.008, 0.012, 0.020, 0.036),
    ("nftables", 10000): (0.008, 0.012, 0.020, 0.036),
    ("nftables", 30000): (0.008, 0.012, 0.020, 0.036),
}
PERCENTILES = {"p01": 1, "p50": 50, "p90": 90, "p99": 99}
PUBLISHED = [
    Published(
        REPRODUCES,
        "Kubernetes blog, 2025-02-28, NFTables mode for kube-proxy; figure of KEP-3866",
        "ms",
        [
            {"mode": mode, "services": services, "percentile": name, "value": value}
            for (mode, services), values in _MS.items()
            for name, value in zip(PERCENTILES, values, strict=True)
        ],
    )
]

PARAMETERS = {
    "mode": ["iptables-nft", "iptables-legacy", "nftables"],
    "services": [1000, 5000, 10000, 30000],
    "rules": ["on-the-way"],
    "probes": [1000],
    "interval_s": [0.002],
}
FIGURE_SIZE = {"services": [5000, 10000, 30000], "probes": [300], "repetitions": 5}
REPETITIONS = 10
WARM_UP = 1
LAB_PER = ("mode", "services", "rules", "probes", "interval_s")

SMALL, LARGE = 5000, 30000
FLAT_WITHIN, GROWS, RATIO = 0.20, 3.0, 5.0


def cluster(params):
    """The cluster of one cell: a node with three pods. Refuses parameters that cannot be."""
    service_state.checked_mode(params["mode"])
    service_state.checked_services(params["services"])
    if params["rules"] not in ("on-the-way", "whole"):
        raise BadInput("rules", params["rules"], "on-the-way or whole")
    if not 1 <= params["probes"] <= 100_000:
        raise BadInput("probes", params["probes"], "1 to 100000")
    if not 0.0002 <= params["interval_s"] <= 1:
        raise BadInput("interval_s", params["interval_s"], "0.0002 to 1 second")
    return service_state.one_node(pods=3)


async def run(lab: Lab, params):
    """Load the rules at the lab's first repetition, then measure; a row for each datagram."""
    client, *servers = lab.testbed.vantages("pod")
    ends = tuple(service_state.End(pod.address, pod.node) for pod in servers)
    services = service_state.Services(params["services"], ends, first_packets.PORT, "UDP")
    rules, new = service_state.rules_in(lab.testbed, params["mode"], services)
    bare = [(pod.address, first_packets.PORT) for pod in servers] * min(params["probes"], 100)
    with first_packets.Receivers({pod.name: pod.netns for pod in servers}) as receivers:

        async def measured(targets):
            pace = {"interval_s": params["interval_s"], "wake": bare[0]}
            return await asyncio.to_thread(partial(first_packets.measure, client.netns, receivers, targets, **pace))

        await measured(bare[:4])  # from now on neighbours are known
        if new:
            rules.kept["bare"] = await measured(bare)
            rules.kept["probed"] = probed = service_state.spread(params["services"], params["probes"], lab.seed)
            await rules.load(probed if params["rules"] == "on-the-way" else None)
        probed = rules.kept["probed"]
        order = random.Random(f"{lab.seed} {lab.repetition}").sample(probed, len(probed))
        found = await measured([(service_state.address_of(number), service_state.SERVICE_PORT) for number in order])
    rows = [
        Measurement(
            "one_way_us",
            packet.one_way_us,
            "us",
            {"path": "service", "place": number / params["services"], "received_by": packet.received_by},
        )
        for number, packet in zip(order, found, strict=True)
    ]
    if lab.repetition == 0:
        rows += [Measurement("one_way_us", each.one_way_us, "us", {"path": "bare"}) for each in rules.kept["bare"]]
        rows.append(Measurement("rules", float(rules.loaded.ruleset.rules), "1"))
        rows.append(Measurement("load_s", rules.loaded.took_s, "s"))
    return rows


def _percentiles(rows, name):
    """By mode and number of services: the percentile of each repetition, in microseconds."""
    of = statistics.Percentile(PERCENTILES[name])
    return grouping.series(rows, "one_way_us", "mode", "services", statistic=of, where={"path": "service"})


def _published_us(name):
    figures_ms = figures.of_published(PUBLISHED[0].figures, "mode", "services", where={"percentile": name})
    names = {"iptables": "iptables-nft"}
    return {names.get(mode, mode): {x: 1000 * ms for x, ms in found.items()} for mode, found in figures_ms.items()}


def plot(rows):
    """The median and the 99th percentile over the number of services, and the distributions at the largest."""
    rows = list(rows)
    alone = any(row.cell["rules"] == "on-the-way" for row in rows)
    note = "without the chains of services that are not probed" if alone else "all rules loaded"
    drawn = {}
    for name, words in (("p50", "median"), ("p99", "99th percentile")):
        drawn[f"first-packet-{name}"] = figures.lines(
            _percentiles(rows, name),
            f"First packet, one way: {words}",
            "services",
            "time in µs",
            published=_published_us(name),
            log_y=True,
            note=note,
        )
    largest = max((row.cell["services"] for row in rows), default=0)
    groups = {}
    for row in rows:
        one = row.measurement
        if one.metric == "one_way_us" and one.value is not None:
            if one.labels["path"] == "bare":
                groups.setdefault("without rules", []).append(one.value)
            elif row.cell["services"] == largest:
                groups.setdefault(row.cell["mode"], []).append(one.value)
    title = f"First packet to one of {largest:,} services"
    drawn["first-packet-distribution"] = figures.distribution(groups, title, "time one way in µs")
    return drawn


def verdicts(rows):
    """Flat in mode nftables; growing in mode iptables (nft back end); how far apart at 30,000 services."""
    medians = _percentiles(list(rows), "p50")
    of = {mode: medians.get(mode, {}) for mode in ("iptables-nft", "iptables-legacy", "nftables")}
    return [_flat(of["nftables"]), _grows(of), _apart(of)]


def _has(points, *sizes):
    return all(size in points for size in sizes)


def _flat(points):
    claim, published = f"nftables: flat in the number of services (within {FLAT_WITHIN:.0%})", "12 µs at every size"
    if not _has(points, SMALL, LARGE):
        return Verdict(claim, published, _lacks("nftables", SMALL, LARGE), "not at this size")
    said = ", ".join(f"{services:,}: {statistics.bootstrap(values)} µs" for services, values in points.items())
    others = [statistics.bootstrap_ratio(points[size], points[SMALL]) for size in points if SMALL < size <= LARGE]
    furthest = max(others, key=lambda ratio: abs(ratio.value - 1))
    said += f"; furthest from that at {SMALL:,}: {furthest}x"
    return Verdict(claim, published, said, _word(abs(furthest.value - 1) <= FLAT_WITHIN + 1e-9))


def _grows(of):
    claim = f"iptables: the median grows at least {GROWS:g}x from {SMALL:,} to {LARGE:,} services"
    published = f"5.8x (47 to 272 µs), at {LARGE // SMALL}x the services"
    if not _has(of["iptables-nft"], SMALL, LARGE):
        return Verdict(claim, published, _lacks("iptables-nft", SMALL, LARGE), "not at this size")
    ratio = statistics.bootstrap_ratio(of["iptables-nft"][LARGE], of["iptables-nft"][SMALL])
    said = f"{ratio}x ({_us(of['iptables-nft'][SMALL])} to {_us(of['iptables-nft'][LARGE])} µs)"
    if _has(of["iptables-legacy"], SMALL, LARGE):
        beside = statistics.bootstrap_ratio(of["iptables-legacy"][LARGE], of["iptables-legacy"][SMALL])
        said += f"; legacy back end {beside}x"
    return Verdict(claim, published, said, _word(ratio.value >= GROWS))


def _apart(of):
    claim, published = f"iptables / nftables, median at {LARGE:,} services: at least {RATIO:g}", "23 (272 / 12 µs)"
    if not (_has(of["iptables-nft"], LARGE) and _has(of["nftables"], LARGE)):
        return Verdict(claim, published, _lacks("iptables-nft and nftables", LARGE), "not at this size")
    ratio = statistics.bootstrap_ratio(of["iptables-nft"][LARGE], of["nftables"][LARGE])
    said = f"{ratio} ({_us(of['iptables-nft'][LARGE])} / {_us(of['nftables'][LARGE])} µs)"
    if _has(of["iptables-legacy"], LARGE):
        said += f"; legacy back end {statistics.bootstrap_ratio(of['iptables-legacy'][LARGE], of['nftables'][LARGE])}"
    return Verdict(claim, published, said, _word(ratio.value >= RATIO))


def _lacks(mode, *sizes):
    return f"not measured for {mode} at " + " and ".join(f"{size:,}" for size in sizes) + " services"


def _us(values):
    return f"{statistics.median(values):.3g}"


def _word(holds):
    return "yes" if holds else "no"
