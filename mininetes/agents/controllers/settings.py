"""What the controllers are told about their cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network

from mininetes.addressing import NODE_PREFIX, PODS


@dataclass(frozen=True)
class ControllerSettings:
    """The flags of the controller manager.

    ``pod_subnets`` says which subnet a node gets by its name; other nodes get the next free
    subnet of ``/node_prefix`` in ``pods``. ``load_balancers`` is the pool of external addresses
    (None: services of type LoadBalancer stay pending, as without a cloud). Times in seconds:
    ``node_grace_s`` without a sign of life makes a node unknown; pods without a toleration of
    their own stay ``eviction_s`` on a node that is not ready; a pod whose node object is gone is
    deleted after ``orphan_grace_s``.
    """

    pods: IPv4Network = PODS
    node_prefix: int = NODE_PREFIX
    pod_subnets: Mapping[str, IPv4Network] = field(default_factory=dict)
    load_balancers: IPv4Network | None = None
    ca_pem: str = ""
    node_grace_s: float = 40.0
    eviction_s: float = 300.0
    orphan_grace_s: float = 40.0
