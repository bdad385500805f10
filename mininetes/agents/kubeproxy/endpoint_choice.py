"""Which endpoints a service port uses on a node. Every mode goes by this; a mode only writes it down.

Behaviour of kube-proxy 1.30 (pkg/proxy/topology.go).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mininetes.agents.kubeproxy.services import Endpoint, ServicePort


@dataclass(frozen=True)
class Choice:
    """``cluster`` are for traffic under policy Cluster, ``local`` under policy Local, ``reachable`` either's.

    ``anywhere``: there is a usable endpoint on some node. ``by_node``: another node may choose otherwise.
    """

    cluster: tuple[Endpoint, ...]
    local: tuple[Endpoint, ...]
    reachable: tuple[Endpoint, ...]
    anywhere: bool
    by_node: bool


def choose(port: ServicePort, endpoints: Sequence[Endpoint], node: str, zone: str) -> Choice:
    """Choose among a port's endpoints for node ``node`` in ``zone`` ("" when it has no zone label)."""
    here_only = port.uses_local_endpoints
    zonal = port.uses_cluster_endpoints and _zone_can_be_kept(port, endpoints, zone)
    cluster: tuple[Endpoint, ...] = ()
    anywhere = False
    if port.uses_cluster_endpoints:
        cluster = tuple(each for each in endpoints if each.ready and (not zonal or zone in each.zones))
        cluster = cluster or tuple(each for each in endpoints if each.serving and each.terminating)
        anywhere = bool(cluster)
    if not here_only:
        return Choice(cluster, (), cluster, anywhere, by_node=port.hints)
    anywhere = anywhere or any(each.ready or (each.serving and each.terminating) for each in endpoints)
    here = [each for each in endpoints if node and each.node == node]
    local = tuple(each for each in here if each.ready)
    local = local or tuple(each for each in here if each.serving and each.terminating)
    reachable = (*cluster, *(each for each in local if each not in cluster))
    return Choice(cluster, local, tuple(sorted(reachable, key=str)), anywhere, by_node=True)


def _zone_can_be_kept(port: ServicePort, endpoints: Sequence[Endpoint], zone: str) -> bool:
    """Whether traffic can stay in the zone: wanted, the zone known, all ready endpoints hinted, one of them to here."""
    if not port.hints or not zone:
        return False
    ready = [each for each in endpoints if each.ready]
    return all(each.zones for each in ready) and any(zone in each.zones for each in ready)
