"""What came back for a probe: the outcome of a flow, and one sample of a latency measurement."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass

from mininetes.probes.vantage import Flow

_UNREACHABLE = {
    0: "network unreachable",
    1: "host unreachable",
    2: "protocol unreachable",
    3: "port unreachable",
    4: "fragmentation needed",
    5: "source route failed",
    6: "network unknown",
    7: "host unknown",
    9: "network prohibited",
    10: "host prohibited",
    13: "prohibited by a filter",
}
_DESTINATION_UNREACHABLE, _TIME_EXCEEDED = 3, 11


class Seen(enum.Enum):
    """What a probe met."""

    ANSWERED = "answered"
    """An echo reply, a datagram, a SYN/ACK, an established connection."""
    REFUSED = "refused"
    """A TCP RST, or ICMP port unreachable (which a packet filter's REJECT sends too)."""
    UNREACHABLE = "unreachable"
    """Another ICMP error, or the source's own kernel would not send it; ``icmp`` or ``detail`` says which."""
    NO_ANSWER = "no answer"
    """Nothing, until the timeout of the last attempt: loss."""


@dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP error about a probe, and the address of who sent it."""

    type: int
    code: int
    sender: str

    @property
    def seen(self) -> Seen:
        """What it means for a flow: port unreachable is refused, the rest unreachable."""
        return Seen.REFUSED if (self.type, self.code) == (_DESTINATION_UNREACHABLE, 3) else Seen.UNREACHABLE

    def __str__(self) -> str:
        name = "time exceeded" if self.type == _TIME_EXCEEDED else f"ICMP {self.type}"
        if self.type == _DESTINATION_UNREACHABLE:
            name = _UNREACHABLE.get(self.code, "destination unreachable")
        return f"{name} ({self.type}/{self.code}) from {self.sender}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a responder said: who it is, and which client address and port it saw."""

    pod: str
    node: str
    client_address: str
    client_port: int

    @classmethod
    def parse(cls, line: bytes) -> Answer | None:
        """Read the responder's line of JSON; None when it is anything else."""
        try:
            said = json.loads(line)
            address, _, port = said["client"].rpartition(":")
            return cls(str(said["pod"]), str(said["node"]), address, int(port))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a flow met.

    ``attempts`` probes were sent, ``answers`` came back (0 or 1, or more when the network doubled
    one). ``rtt_us`` is from the send call of the answered attempt to the kernel's receive stamp;
    None when nothing came back. ``answer`` is there for UDP and connections to a built-in responder.
    """

    flow: Flow
    seen: Seen
    attempts: int
    answers: int
    rtt_us: float | None = None
    answer: Answer | None = None
    icmp: IcmpError | None = None
    detail: str = ""

    @property
    def reached(self) -> bool:
        """Whether the target itself answered."""
        return self.seen is Seen.ANSWERED

    def __str__(self) -> str:
        why = str(self.icmp) if self.icmp else self.detail
        return f"{self.seen.value}: {why}" if why else self.seen.value


@dataclass(frozen=True, slots=True)
class Sample:
    """One probe of a latency measurement: number ``sequence`` (from 0) of its flow.

    ``rtt_us``: from the send call to the kernel's receive stamp, as ping measures it.
    ``wire_rtt_us``: between the kernel's send and receive stamps. Both None without an answer;
    the sample is there all the same, and is loss.
    """

    flow: Flow
    sequence: int
    seen: Seen
    rtt_us: float | None = None
    wire_rtt_us: float | None = None
    detail: str = ""
