"""The standard measurements of a running cluster: who reaches whom, and how fast."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mininetes.errors import BadInput
from mininetes.probes.matrix import ReachabilityMatrix
from mininetes.probes.outcomes import Sample
from mininetes.probes.pacing import Pacing
from mininetes.probes.reachability import SweepOptions
from mininetes.probes.vantage import Flow, Protocol, Vantage, all_pairs
from mininetes.testbed.expectation import expect
from mininetes.testbed.testbed import Testbed


async def reachability(
    testbed: Testbed, *, protocol: Protocol = "icmp", options: SweepOptions | None = None
) -> ReachabilityMatrix:
    """Measure every pair of nodes and pods, and hold it against the description.

    UDP and TCP ask the pods' responders, so that only pods that have one at that port are targets then.
    """
    await testbed.settle_neighbours()
    ends = testbed.vantages("node", "pod")
    port = 0 if protocol == "icmp" else testbed.spec.pods.port
    answering = {f"pod/{pod.title}" for pod in testbed.pods() if (port, protocol.upper()) in pod.ports}
    targets = ends if protocol == "icmp" else [each for each in ends if each.name in answering]
    flows = all_pairs(ends, targets, protocol=protocol, port=port)
    basis = await asyncio.to_thread(testbed.basis)
    outcomes = await testbed.prober.sweep(flows, options)
    return ReachabilityMatrix.compare(outcomes, lambda flow: expect(flow.source, flow.target, basis))


def latency_flows(testbed: Testbed) -> list[Flow]:
    """From each node's first pod: to its second one, and to the first pod of the next node."""
    by_node: dict[str, list[Vantage]] = {}
    for pod in testbed.vantages("pod"):
        by_node.setdefault(pod.node, []).append(pod)
    first = [pods[0] for pods in by_node.values()]
    flows = [Flow(pods[0], pods[1]) for pods in by_node.values() if len(pods) > 1]
    flows += [Flow(pod, first[(index + 1) % len(first)]) for index, pod in enumerate(first) if len(first) > 1]
    basis = testbed.basis()
    return [flow for flow in flows if expect(flow.source, flow.target, basis).reached]


async def latency(testbed: Testbed, pacing: Pacing | None = None, flows: Sequence[Flow] | None = None) -> list[Sample]:
    """Measure latency along these flows, or along `latency_flows`. Raises BadInput when there are none."""
    wanted = list(flows) if flows is not None else await asyncio.to_thread(latency_flows, testbed)
    if not wanted:
        raise BadInput("spec.pods.perNode", testbed.spec.pods.per_node, "at least 2 pods that can reach each other")
    return await testbed.prober.latency(wanted, pacing)
