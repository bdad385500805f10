"""How each proxy mode shares connections out over a service's endpoints.

A pod opens one connection after the other to a service's cluster IP, from a new port each time, and the responder
that answers says who it is. Asked are services with several numbers of endpoints, spread over all nodes.

Expect iptables and nftables to choose at random for each connection: counts as even as chance allows (chi-square),
and the same endpoint twice in a row once in N times. ipvs (its scheduler rr) and userspace take turns: counts that
differ by one at most, and hardly ever the same endpoint twice in a row.
"""

import itertools
from collections import Counter

import numpy

from mininetes.api import BadInput, Flow, Lab, Measurement, Verdict, figures, loads_services

REPRODUCES = "nothing published: the documented choice of each mode, at random or in turn"

PARAMETERS = {
    "mode": ["userspace", "iptables", "nftables", "ipvs"],
    "endpoints": [2, 5, 12],
    "connections": [3000],
    "nodes": [3],
}
FIGURE_SIZE = {"endpoints": [2, 5], "connections": [600]}
LAB_PER = ("mode", "nodes")
TIMING_SENSITIVE = False

RANDOM, IN_TURN = ("iptables", "nftables"), ("ipvs", "userspace")
MOST_CONNECTIONS = 20_000
"""All from one pod, whose ports are to be new ones."""

LEAST_P = 0.001
"""Of a fair choice, one run in a thousand has a smaller p value than this."""

RESAMPLES = 20_000


def cluster(params):
    """Nodes with as many pods each as the service with the most endpoints needs, and one that asks."""
    if params["endpoints"] < 2:
        raise BadInput("endpoints", params["endpoints"], "at least 2, or there is no choice")
    if not 10 * params["endpoints"] <= params["connections"] <= MOST_CONNECTIONS:
        right = f"10 for each endpoint to {MOST_CONNECTIONS}"
        raise BadInput("connections", params["connections"], right)
    most = max(*PARAMETERS["endpoints"], params["endpoints"])
    if not 1 <= params["nodes"] <= most:
        raise BadInput("nodes", params["nodes"], f"1 to {most}")
    return {
        "nodes": {"controlPlane": 1, "workers": params["nodes"] - 1},
        "underlay": "single_switch",
        "controlPlane": {"store": "memory"},
        "proxy": {"mode": params["mode"]},
        "pods": {"perNode": 1 + -(-most // params["nodes"])},
        "outside": {"clients": 0},
    }


async def run(lab: Lab, params):
    """Connect again and again; a row says which endpoint answered, by its number."""
    pods = [each for each in lab.testbed.vantages("pod") if each.name.endswith("-1")]
    asking = pods[0]
    by_node = [[each for each in lab.testbed.vantages("pod") if each.node == pod.node] for pod in pods]
    spread = [each for turn in zip(*by_node, strict=True) for each in turn if each.name != asking.name]
    endpoints = spread[: params["endpoints"]]
    number_of = {each.name.removeprefix("pod/"): number for number, each in enumerate(endpoints)}
    port = lab.testbed.spec.pods.port
    async with loads_services.exposed(lab, f"fair-{params['endpoints']}", endpoints, [port]) as service:
        flows = [Flow(asking, service, "tcp", port)] * params["connections"]
        outcomes = await loads_services.one_by_one(lab, flows)
    return [
        Measurement(
            "endpoint",
            float(number_of[outcome.answer.pod]) if outcome.answer else None,
            "number",
            {"sequence": sequence, "seen": outcome.seen.value},
        )
        for sequence, outcome in enumerate(outcomes)
    ]


def _chosen(rows):
    """By mode and number of endpoints, each run's choices in their order; None where nobody answered."""
    runs = {}
    for row in sorted(rows, key=lambda row: row.measurement.labels.get("sequence", 0)):
        if row.measurement.metric == "endpoint":
            key = row.cell["mode"], row.cell["endpoints"]
            run = str(sorted(row.cell.items())), row.repetition
            value = row.measurement.value
            runs.setdefault(key, {}).setdefault(run, []).append(None if value is None else int(value))
    return {key: list(found.values()) for key, found in runs.items()}


def chi_square_p(counts):
    """How often a fair choice is at least this uneven: by throwing dice, as that needs no tables."""
    total, many = sum(counts), len(counts)
    draws = numpy.random.default_rng(1).multinomial(total, [1 / many] * many, size=RESAMPLES)
    uneven = ((draws - total / many) ** 2).sum(axis=1)
    measured = sum((count - total / many) ** 2 for count in counts)
    return (1 + int((uneven >= measured).sum())) / (1 + RESAMPLES)


def _counts(choices, endpoints):
    tally = Counter(choices)
    return [tally.get(number, 0) for number in range(endpoints)]


def _repeats(choices):
    """The part of connections that met the same endpoint as the one before."""
    return sum(a == b for a, b in itertools.pairwise(choices)) / max(len(choices) - 1, 1)


def plot(rows):
    """Connections by endpoint, as parts of an equal share; and how often an endpoint came twice in a row."""
    drawn, repeats = {}, {}
    for (mode, endpoints), runs in _chosen(rows).items():
        for choices in runs:
            share = len(choices) / endpoints
            for number, count in enumerate(_counts(choices, endpoints)):
                points = drawn.setdefault(endpoints, {}).setdefault(mode, {})
                points.setdefault(f"endpoint {number + 1}", []).append(count / share)
            repeats.setdefault(mode, {}).setdefault(endpoints, []).append(_repeats(choices))
    found = {
        f"shares_{endpoints}": figures.bars(
            table, f"Connections to a service with {endpoints} endpoints", "part of an equal share"
        )
        for endpoints, table in sorted(drawn.items())
    }
    chance = {"by chance": {endpoints: 1 / endpoints for endpoints in sorted(drawn)}}
    found["repeats"] = figures.bars(
        {**repeats, **chance},
        "The same endpoint twice in a row",
        "part of the connections",
        xlabel="endpoints",
    )
    return found


def verdicts(rows):
    """For each mode and number of endpoints, whether it chooses as it says."""
    judge = {**dict.fromkeys(RANDOM, _at_random), **dict.fromkeys(IN_TURN, _in_turn)}
    return [
        judge[mode](mode, endpoints, choices)
        for (mode, endpoints), runs in _chosen(rows).items()
        if mode in judge
        for choices in runs[:1]
    ]


def _at_random(mode, endpoints, choices):
    counts = _counts(choices, endpoints)
    p, repeats = chi_square_p(counts), _repeats(choices)
    apart = 4 * (endpoints - 1) ** 0.5 / endpoints / len(choices) ** 0.5
    holds = p >= LEAST_P and abs(repeats - 1 / endpoints) <= apart
    measured = f"counts {min(counts)} to {max(counts)}, p = {p:.3g}; twice in a row {repeats:.3f}{_unanswered(choices)}"
    published = f"at random: p >= {LEAST_P:g}, twice in a row {1 / endpoints:.3f}, give or take {apart:.3f}"
    return Verdict(f"{mode} chooses among {endpoints} endpoints at random", published, measured, _word(holds, choices))


def _in_turn(mode, endpoints, choices):
    counts = _counts(choices, endpoints)
    repeats = _repeats(choices)
    holds = max(counts) - min(counts) <= 1 and (repeats == 0 or endpoints == 1)
    measured = f"counts {min(counts)} to {max(counts)}; twice in a row {repeats:.3f}{_unanswered(choices)}"
    claim = f"{mode} takes {endpoints} endpoints in turn"
    return Verdict(claim, "in turn: counts differ by at most 1, never twice in a row", measured, _word(holds, choices))


def _unanswered(choices):
    return f"; {choices.count(None)} unanswered" if None in choices else ""


def _word(holds, choices):
    return "yes" if holds and None not in choices else "no"
