"""Hints that keep traffic in its zone, as Kubernetes' topology-aware routing gives them. Pure.

The rule of thumb taken over from Kubernetes (KEP-2433): endpoints are shared out in proportion to
the CPU of the zones' nodes. Hints are given only when there are at least two zones, every node
that counts says its zone and its CPU, there is at least an endpoint for each zone, and no zone
gets more than 20 % less than its share. Nodes of the control plane, and those not ready, do not
count. While every zone's own endpoints are enough, each is hinted to its own zone; otherwise some
are given to zones that lack them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from mininetes.agents.controllers.endpoint_view import zone_of
from mininetes.agents.objects import Object, annotations_of, is_true, labels_of
from mininetes.agents.quantities import quantity

OVERLOAD = 0.20
MODE_ANNOTATIONS = ("service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints")
_NOT_COUNTED = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")


def wants_hints(service: Mapping[str, Any]) -> bool:
    """Whether the service asks for proportional hints: an annotation says Auto, and its traffic may leave the node."""
    if service["spec"].get("internalTrafficPolicy") == "Local":
        return False
    annotations = annotations_of(service)
    return any(annotations.get(name, "") in ("Auto", "auto") for name in MODE_ANNOTATIONS)


def prefers_close(service: Mapping[str, Any]) -> bool:
    """Whether each endpoint is for its own zone, whatever the shares (spec.trafficDistribution: PreferClose)."""
    return bool(service["spec"].get("trafficDistribution") == "PreferClose")


def cpu_shares(nodes: Iterable[Object]) -> dict[str, float]:
    """Each zone's share of the CPU, summing up to 1; empty when a node that counts does not say enough."""
    total: dict[str, Decimal] = {}
    for node in nodes:
        if any(label in labels_of(node) for label in _NOT_COUNTED) or not is_true(node, "Ready"):
            continue
        cpu = ((node.get("status") or {}).get("allocatable") or {}).get("cpu")
        zone = zone_of(node)
        if not zone or cpu is None or quantity(cpu) <= 0:
            return {}
        total[zone] = total.get(zone, Decimal(0)) + quantity(cpu)
    whole = sum(total.values(), Decimal(0))
    return {zone: float(cpu / whole) for zone, cpu in sorted(total.items())}


def allot(zones: Sequence[str], shares: Mapping[str, float]) -> list[str] | None:
    """The zone each endpoint is hinted to, given the zone each is in; None when there are to be no hints."""
    count = len(zones)
    if len(shares) < 2 or count < len(shares) or any(zone not in shares for zone in zones):
        return None
    least = {zone: math.ceil(share * count / (1 + OVERLOAD) - 1e-9) for zone, share in shares.items()}
    spare = count - sum(least.values())
    if spare < 0:
        return None
    have = {zone: sum(each == zone for each in zones) for zone in shares}
    if all(least[zone] <= have[zone] <= least[zone] + spare for zone in shares):
        return list(zones)
    target = _targets(count, shares, least)
    hints = list(zones)
    for zone in sorted(shares):
        for index in reversed(range(count)):
            if hints[index] == zone and have[zone] > target[zone]:
                poorest = min(shares, key=lambda other: (have[other] - target[other], other))
                hints[index] = poorest
                have[zone] -= 1
                have[poorest] += 1
    return hints


def _targets(count: int, shares: Mapping[str, float], least: Mapping[str, int]) -> dict[str, int]:
    """Whole numbers near each zone's share that sum up to ``count``, none below its least."""
    target = {zone: max(least[zone], math.floor(share * count)) for zone, share in shares.items()}
    while sum(target.values()) < count:
        target[max(shares, key=lambda zone: (shares[zone] * count - target[zone], zone))] += 1
    while sum(target.values()) > count:
        above = [zone for zone in shares if target[zone] > least[zone]]
        target[min(above, key=lambda zone: (shares[zone] * count - target[zone], zone))] -= 1
    return target


def with_hints(endpoints: Iterable[Object], service: Mapping[str, Any], shares: Mapping[str, float]) -> list[Object]:
    """The endpoints with (or, where there are to be none, without) hints. Only ready ones count and get any."""
    made = [{k: v for k, v in each.items() if k != "hints"} for each in endpoints]
    ready = sorted((each for each in made if each["conditions"]["ready"]), key=lambda each: each["addresses"])
    if prefers_close(service):
        for each in ready:
            if each.get("zone"):
                each["hints"] = {"forZones": [{"name": each["zone"]}]}
    elif wants_hints(service):
        hints = allot([each.get("zone", "") for each in ready], shares)
        for each, zone in zip(ready, hints or (), strict=False):
            each["hints"] = {"forZones": [{"name": zone}]}
    return made
