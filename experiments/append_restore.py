"""Rules added one at a time, against one restore of the whole table: how the time grows with the number of rules.

Each `iptables -A` of the legacy back end reads the whole table from the kernel and gives it back, so that adding the
rules of n services one by one takes time that grows with n squared or worse. `iptables-restore` does so once.

The rules are those of mode iptables, eight for each service with two endpoints. The table of so many services is
restored, which is timed, and then a few rules are appended by a process each. From what one append takes at each size
follows what all of them would: the sum over the sizes in between. Where there are few services, all rules are really
added one by one beside that, which shows how far the sum can be trusted.

Published figures are for the legacy back end. iptables-nft stands beside it as far as its time allows: 2,000 services.
ipvs, whose cost per service is published as flat, is left out here: it needs a kernel module that is not everywhere.
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
    service_state,
    statistics,
)

REPRODUCES = "Cost of adding one rule at a time"

PUBLISHED = [
    Published(
        REPRODUCES,
        "Scale Kubernetes to support 50,000 services, kubernetes/community PR 692, 2017",
        "s",
        [
            {"backend": "legacy", "services": 1, "rules": 8, "value": 0.002},
            {"backend": "legacy", "services": 5000, "rules": 40_000, "value": 11 * 60.0},
            {"backend": "legacy", "services": 20000, "rules": 160_000, "value": 5 * 3600.0},
        ],
    )
]

PARAMETERS = {
    "backend": ["legacy", "nft"],
    "services": [1, 50, 500, 1250, 2000, 5000, 10000, 20000],
    "appends": [10],
    "one_by_one": [100],
}
FIGURE_SIZE = {"services": [1, 50, 500, 2000, 5000, 20000], "appends": [5], "one_by_one": [50], "repetitions": 3}
REPETITIONS = 10
LAB_PER = ("backend",)
SATURATES = True

MOST = {"legacy": 20000, "nft": 2000}
SMALL, LARGE = 5000, 20000
SUPERLINEAR, LINEAR = 8.0, 1.5


def cluster(params):
    """The cluster of one cell: a node without pods. Refuses parameters that cannot be."""
    if params["backend"] not in MOST:
        raise BadInput("backend", params["backend"], "legacy or nft")
    service_state.checked_services(params["services"])
    for name in ("appends", "one_by_one"):
        if not 1 <= params[name] <= 10_000:
            raise BadInput(name, params[name], "1 to 10000")
    return service_state.one_node()


async def run(lab: Lab, params):
    """Restore the table, append to it, and with few services add all of it rule by rule."""
    if params["services"] > MOST[params["backend"]]:
        return [Measurement("left_out", 1.0, "bool")]
    return await asyncio.to_thread(_measured, lab.testbed.places()["node1"], params)


def _measured(place, params):
    ruleset = service_state.compiled_on(
        place, "iptables-legacy", params["services"], [service_state.End(f"10.244.{n}.2", f"node{n}") for n in (1, 2)]
    )
    tools = service_state.RuleTools(place, params["backend"])
    rules = {"rules": ruleset.rules}
    rows = []
    if params["services"] <= params["one_by_one"]:
        tools.restore_s(service_state.without_rules(ruleset))
        lines = service_state.lines_of(ruleset)
        taken_s = sum(tools.append_s(table, line) for table, line in lines)
        rows.append(Measurement("one_by_one_s", taken_s, "s", {"rules": len(lines)}))
    rows.append(Measurement("restore_s", tools.restore_s(ruleset.text()), "s", rules))
    line = ruleset.chains["nat", "KUBE-SERVICES"][0]
    for _ in range(params["appends"]):
        rows.append(Measurement("append_s", tools.append_s("nat", line), "s", rules))
    rows.append(Measurement("rules", float(tools.rules("nat")), "1", {"table": "nat"}))
    tools.restore_s(service_state.without_rules(ruleset))
    return rows


def _totals(rows):
    """By back end and rules, for each repetition: what adding them one by one takes, summed from single appends."""
    taken = {}
    for row in rows:
        one = row.measurement
        if one.metric == "append_s":
            run = row.cell["backend"], row.repetition
            taken.setdefault(run, {}).setdefault(one.labels["rules"], []).append(one.value)
    found = {}
    for (backend, _), by in sorted(taken.items()):
        total, before, last_s = 0.0, 0, None
        for rules, values in sorted(by.items()):
            now_s = statistics.median(values)
            total += (rules - before) * (now_s if last_s is None else (now_s + last_s) / 2)
            before, last_s = rules, now_s
            found.setdefault(backend, {}).setdefault(rules, []).append(total)
    return found


def plot(rows):
    """The whole table one by one and at once, and a single append, over the number of rules."""
    rows = list(rows)
    restored = grouping.series(rows, "restore_s", "backend", "rules")
    whole = {f"{backend}, one restore": points for backend, points in restored.items()}
    whole |= {f"{backend}, one by one": points for backend, points in _totals(rows).items()}
    known = figures.of_published(PUBLISHED[0].figures, "backend", "rules")
    note = "one by one: summed from single appends"
    return {
        "append-restore": figures.lines(
            whole,
            "All rules: one by one, and at once",
            "rules",
            "time in s",
            published={f"{backend}, one by one": points for backend, points in known.items()},
            log_y=True,
            note=note,
        ),
        "single-append": figures.lines(
            grouping.series(rows, "append_s", "backend", "rules"),
            "One more rule",
            "rules that are there",
            "time in s",
            log_y=True,
        ),
    }


def verdicts(rows):
    """Superlinear one by one, close to linear at once; both for the legacy back end, nft beside it."""
    rows = list(rows)
    return [_one_by_one(rows), _at_once(rows)]


def _near(points, services):
    """The number of rules, among those measured, that so many services have; None when there is none."""
    return next((rules for rules in sorted(points) if 8 * services <= rules < 8 * services + 100), None)


def _one_by_one(rows):
    claim = f"one by one: 4x the rules take at least {SUPERLINEAR:g}x the time (linear would be 4x)"
    published = "27x (11 min for 40,000 rules, 5 h for 160,000)"
    totals = _totals(rows).get("legacy", {})
    small, large = _near(totals, SMALL), _near(totals, LARGE)
    if small is None or large is None:
        said = f"not measured with {SMALL:,} and {LARGE:,} services"
        return Verdict(claim, published, said, "not at this size")
    ratio = statistics.bootstrap_ratio(totals[large], totals[small])
    said = f"{ratio}x ({_long(totals[small])} for {small:,} rules, {_long(totals[large])} for {large:,})"
    checked = _checked(rows)
    said += f"; the sum is {checked} of what all appends really took at the smallest sizes" if checked else ""
    return Verdict(claim, published, said, "yes" if ratio.value >= SUPERLINEAR else "no")


def _checked(rows):
    """The summed time over the real one, where all rules were added one by one and there are more than a few."""
    real = grouping.series(rows, "one_by_one_s", "backend", "rules").get("legacy", {})
    rules = max(real, default=0)
    summed = _totals(rows).get("legacy", {}).get(rules)
    return f"{statistics.median(summed) / statistics.median(real[rules]):.2f}" if summed else ""


def _at_once(rows):
    claim = f"one restore of the whole table: close to linear (exponent at most {LINEAR:g}, halfway to the square)"
    published = "one transaction for the table, whatever the number of rules"
    found = {}
    for backend, points in grouping.series(rows, "restore_s", "backend", "rules").items():
        pairs = [(rules, value) for rules, values in points.items() for value in values if rules > 1000]
        if len({rules for rules, _ in pairs}) > 1:
            found[backend] = statistics.growth_exponent(*zip(*pairs, strict=True))
    if "legacy" not in found:
        return Verdict(claim, published, "not measured at two sizes above 1,000 rules", "not at this size")
    said = f"exponent {found['legacy']}"
    said += f"; nft back end {found['nft']}" if "nft" in found else ""
    return Verdict(claim, published, said, "yes" if found["legacy"].value <= LINEAR else "no")


def _long(values):
    seconds = statistics.median(values)
    return (
        f"{seconds / 3600:.1f} h"
        if seconds > 7200
        else f"{seconds / 60:.1f} min"
        if seconds > 120
        else f"{seconds:.3g} s"
    )
