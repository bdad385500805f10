"""Where a probe starts and where it goes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from mininetes.errors import BadInput

Kind = Literal["node", "pod", "outside", "service"]
Protocol = Literal["icmp", "udp", "tcp"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a probe is sent to: a name for people, an IPv4 address for packets.

    ``node`` is the name of the node it is on; empty for what is on none (a service, the outside).
    """

    name: str
    kind: Kind
    node: str
    address: str


@dataclass(frozen=True, slots=True)
class Vantage(Target):
    """A target that can send too: ``netns`` is a path that the engine's process can open."""

    netns: str


@dataclass(frozen=True, slots=True)
class Flow:
    """One question: does ``target`` answer ``source`` with this protocol, at this port?

    ``port`` is meant for UDP and TCP and 0 for ICMP. Raises BadInput when they do not go together.
    The same flow may stand in a list several times; each is then asked from a port of its own.
    """

    source: Vantage
    target: Target
    protocol: Protocol = "icmp"
    port: int = 0

    def __post_init__(self) -> None:
        if self.protocol not in ("icmp", "udp", "tcp"):
            raise BadInput("protocol", self.protocol, "one of icmp, udp, tcp")
        if self.protocol == "icmp" and self.port:
            raise BadInput("port", self.port, "none for ICMP")
        if self.protocol != "icmp" and not 0 < self.port < 65536:
            raise BadInput("port", self.port, f"1 to 65535 for {self.protocol}")

    def __str__(self) -> str:
        where = f":{self.port}/{self.protocol}" if self.port else ""
        return f"{self.source.name} -> {self.target.name} ({self.target.address}{where})"


def all_pairs(
    sources: Sequence[Vantage],
    targets: Iterable[Target] | None = None,
    *,
    protocol: Protocol = "icmp",
    port: int = 0,
) -> list[Flow]:
    """Return a flow from each source to each target (the sources, when None), but for itself."""
    ends = list(sources if targets is None else targets)
    return [Flow(a, b, protocol, port) for a in sources for b in ends if a.name != b.name]
