"""Who should reach whom, from the cluster's description alone (the Kubernetes network model)."""

from __future__ import annotations

from mininetes.probes.matrix import Expectation
from mininetes.probes.vantage import Target, Vantage


def expect(source: Vantage, target: Target, *, connects_nodes: bool, masquerades_to_nodes: bool) -> Expectation:
    """Say whether ``target`` should answer ``source``, and why.

    ``connects_nodes``: the fabric carries pods' packets between nodes. ``masquerades_to_nodes``:
    the CNI configuration translates what pods send to nodes, so that answers find back without it.
    """
    if source.kind == "node" and target.kind == "node":
        return Expectation(True, "nodes share the underlay")
    if source.node == target.node:
        return Expectation(True, "same node")
    if connects_nodes:
        return Expectation(True, "the fabric connects the nodes")
    if source.kind == "pod" and target.kind == "node" and masquerades_to_nodes:
        return Expectation(True, "leaves as its node")
    return Expectation(False, "no fabric between the nodes")
