"""Convergence: after an endpoint, a node or a link is lost or comes back, how long the answers are wrong, and for whom.

Three nodes, and a service with an endpoint on node2 and one on node3. A pod on each node and the nodes themselves ask
the service without a pause, each question a connection of its own; those elsewhere ask the endpoint on node3 directly
too. Then it is lost: `event=endpoint` deletes its pod at once, `event=link` pulls node3's cable out at the switch,
`event=node` kills node3's agents as well. When all who are elsewhere have been right for a second, it comes back.

Reported is for each source, from the moment of the event, the time until it was right for good (after a loss), until
the endpoint first answered through the service, and until it answered directly. Who sits on the lost node itself asks
on, and is wrong until it is back. A lost endpoint costs a pass through the API and a sync of the proxies; a lost node
or link first of all the grace period until the node counts as gone, which is `node_grace_s`.
"""

from __future__ import annotations

import asyncio
import time

from mininetes.api import (
    BadInput,
    Lab,
    Measurement,
    Verdict,
    figures,
    grouping,
    mishaps,
    outages,
    pod_starts,
    statistics,
)

REPRODUCES = "nothing published: how long a cluster is wrong after something is lost or comes back, and for whom"

PARAMETERS = {
    "event": ["endpoint", "link", "node"],
    "mode": ["iptables", "nftables"],
    "fabric": ["static"],
    "node_grace_s": [2.0, 5.0],
    "interval_s": [0.02],
}
FIGURE_SIZE = {"mode": ["iptables"], "node_grace_s": [2.0], "repetitions": 3}
REPETITIONS = 10
LAB_PER = ("mode", "fabric", "node_grace_s", "interval_s")

LOST_NODE, OTHER_NODE = "node3", "node2"
SERVICE, PORT, TARGET_PORT = "convergence", 80, 8080
LABELS = {"app": "convergence"}
SETTLED_S, WITHIN_S = 1.0, 60.0
LOST_ENDPOINT_S, BEYOND_GRACE_S, BACK_S = 2.0, 2.0, 5.0
_PODS = {"end-2": OTHER_NODE, "end-3": LOST_NODE}


def cluster(params):
    """The cluster of one cell: three nodes with a pod each, and a control plane. Refuses parameters that cannot be."""
    if params["event"] not in ("endpoint", "link", "node"):
        raise BadInput("event", params["event"], "endpoint, link or node")
    if not 0.005 <= params["interval_s"] <= 1:
        raise BadInput("interval_s", params["interval_s"], "0.005 to 1 second")
    return {
        "nodes": {"controlPlane": 1, "workers": 2},
        "fabric": params["fabric"],
        "proxy": params["mode"],
        "controlPlane": {"store": "memory", "nodeGraceSeconds": params["node_grace_s"]},
        "pods": {"perNode": 1},
    }


async def run(lab: Lab, params):
    """The service with its two endpoints; then something is lost, and comes back."""
    event = params["event"]
    async with pod_starts.watching(lab.testbed) as watch:
        address, end = await _service(watch)
        sources = [each for each in lab.testbed.vantages("pod", "node") if each.name.removeprefix("pod/") not in _PODS]
        lines = [outages.Line(each, "service", address, PORT) for each in sources]
        if event != "endpoint":  # a new pod has another address
            lines += [outages.Line(each, "pod", end, TARGET_PORT) for each in sources if each.node != LOST_NODE]
        spared = [line.source.node != LOST_NODE or event == "endpoint" for line in lines]
        try:
            with outages.Vigil(lines, interval_s=params["interval_s"]) as vigil:
                await _until(vigil, lambda number: _uses_both(vigil, number))
                lost = time.monotonic()
                await _lose(lab.testbed, watch, event)
                waiting = [spared[number] and line.target == "service" for number, line in enumerate(lines)]
                await _until(
                    vigil,
                    lambda number: not waiting[number] or outages.is_right(vigil, number, since=lost, for_s=SETTLED_S),
                )
                back = time.monotonic()
                await _bring_back(lab.testbed, watch, event)
                await _until(vigil, lambda number: _is_back(vigil, number, back))
        finally:
            await mishaps.power_on(lab.testbed, LOST_NODE)
    return [
        row for number, line in enumerate(lines) for row in _rows(line, vigil.asked(number), spared[number], lost, back)
    ]


def _uses_both(vigil, number):
    asked = vigil.asked(number)
    names = {each.answered_by for each in asked} - {""}
    return outages.is_right(vigil, number, since=0.0, for_s=SETTLED_S / 2) and (
        names == set(_PODS) or vigil.lines[number].target == "pod"
    )


def _is_back(vigil, number, back):
    used = vigil.lines[number].target == "pod" or outages.used_after(vigil.asked(number), back, "end-3") is not None
    return used and outages.is_right(vigil, number, since=back, for_s=SETTLED_S)


async def _until(vigil, holds):
    """Wait until that holds for every line, at most so long: what does not come is in the rows."""
    end = time.monotonic() + WITHIN_S
    while time.monotonic() < end and not all(holds(number) for number in range(len(vigil.lines))):
        if vigil.failure is not None:
            raise vigil.failure
        await asyncio.sleep(vigil.interval_s)


async def _lose(testbed, watch, event):
    if event == "endpoint":
        await watch.client.delete("pods", "end-3", "default", grace_s=0)
    elif event == "link":
        await mishaps.cut_link(testbed, LOST_NODE)
    else:
        await mishaps.power_off(testbed, LOST_NODE)


async def _bring_back(testbed, watch, event):
    if event == "endpoint":
        await watch.until(lambda: {"default/end-3"} & watch.pods.keys(), "the pod has gone", within_s=WITHIN_S)
        await watch.client.create("pods", pod_starts.pod_object("end-3", node=LOST_NODE, labels=LABELS))
    elif event == "link":
        await mishaps.mend_link(testbed, LOST_NODE)
    else:
        await mishaps.power_on(testbed, LOST_NODE)


def _rows(line, asked, spared, lost, back):
    """A line's part: what it took to be right after the loss, and after the return."""
    where = "elsewhere" if spared else "on the lost node"
    labels = {"source": line.source.name, "from": line.source.kind, "where": where, "target": line.target}
    before = [each for each in asked if each.sent_s < back]
    if line.target == "service":
        took_s = outages.wrong_for(before, lost, for_s=0.8 * SETTLED_S)
        yield Measurement("converged_s", took_s, "s", {**labels, "change": "lost"})
        yield Measurement("wrong", float(outages.count_wrong(before, lost)), "1", {**labels, "change": "lost"})
        again_s = outages.used_after(asked, back, "end-3") if spared else outages.wrong_for(asked, back)
    else:
        again_s = outages.wrong_for(asked, back)
    yield Measurement("converged_s", again_s, "s", {**labels, "change": "back"})
    yield Measurement("wrong", float(outages.count_wrong(asked, back)), "1", {**labels, "change": "back"})


async def _service(watch):
    """The service with both endpoints ready, made at the lab's first run; its address, and that of the one on node3."""
    for name, node in _PODS.items():
        if f"default/{name}" not in watch.pods:
            await watch.client.create("pods", pod_starts.pod_object(name, node=node, labels=LABELS))
    there = {each["metadata"]["name"]: each for each in (await watch.client.list("services", "default"))["items"]}
    if SERVICE not in there:
        port = {"port": PORT, "targetPort": TARGET_PORT, "protocol": "UDP"}
        metadata = {"name": SERVICE, "namespace": "default"}
        spec = {"selector": LABELS, "ports": [port]}
        made = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
        there[SERVICE] = await watch.client.create("services", made)
    await watch.ready(("node1", OTHER_NODE, LOST_NODE), within_s=WITHIN_S)
    return there[SERVICE]["spec"]["clusterIP"], watch.pods["default/end-3"]["status"]["podIP"]


def plot(rows):
    """By event, the time until right again, by who asks: the service after a loss, and both targets after a return."""
    rows = list(rows)
    drawn = {}
    for change, target, title in (
        ("lost", "service", "Lost: until the service is right"),
        ("back", "service", "Back: until the service uses it"),
        ("back", "pod", "Back: until it answers directly"),
    ):
        table = {}
        chosen = {"change": change, "target": target}
        for (kind, where, event), values in grouping.reduced(
            rows, "converged_s", "from", "where", "event", where=chosen
        ).items():
            table.setdefault(f"{kind} {'elsewhere' if where == 'elsewhere' else 'on it'}", {})[event] = values
        drawn[f"convergence-{change}-{target}"] = figures.bars(
            dict(sorted(table.items())), title, "time in s", xlabel="what"
        )
    return drawn


def verdicts(rows):
    """Bounds that follow from the parameters: what is lost is out of use in time, and what comes back in use."""
    rows = [row for row in rows if row.measurement.metric == "converged_s"]
    return [
        _bounded(rows, "lost", ("endpoint",), f"a lost endpoint is out of use within {LOST_ENDPOINT_S:g} s", 0.0),
        _bounded(
            rows, "lost", ("link", "node"), f"a lost link or node: within the grace period + {BEYOND_GRACE_S:g} s", 1.0
        ),
        _bounded(rows, "back", ("endpoint", "link", "node"), f"what is back is in use within {BACK_S:g} s", 0.0),
    ]


def _bounded(rows, change, events, claim, graces):
    """Whether all who are elsewhere converged within their bound, in every repetition."""
    beyond_s = {"lost": LOST_ENDPOINT_S if events == ("endpoint",) else BEYOND_GRACE_S, "back": BACK_S}[change]
    chosen = [
        row
        for row in rows
        if row.cell["event"] in events
        and row.measurement.labels["change"] == change
        and row.measurement.labels["where"] == "elsewhere"
    ]
    if not chosen:
        return Verdict(claim, "nothing published", "not measured", "not at this size")
    late = [
        row
        for row in chosen
        if row.measurement.value is None or row.measurement.value > graces * row.cell["node_grace_s"] + beyond_s
    ]
    said = []
    for event in events:
        values = [row.measurement.value for row in chosen if row.cell["event"] == event]
        known = [value for value in values if value is not None]
        if known:
            said.append(f"{event} {statistics.median(known):.3g} s (most {max(known):.3g})")
    if late:
        said.append(f"{len(late)} of {len(chosen)} later than that")
    return Verdict(claim, "nothing published", ", ".join(said), "no" if late else "yes")
