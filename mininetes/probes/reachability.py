"""Who answers whom: many flows at once, each asked until it is answered or its attempts are used up."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mininetes.errors import BadInput
from mininetes.probes.launching import Launcher, NotSent, Probe, returned_cookie
from mininetes.probes.outcomes import Answer, Outcome, Seen
from mininetes.probes.packets import DEFAULT_PAYLOAD, check_payload
from mininetes.probes.station import Heard, Station, Stations
from mininetes.probes.vantage import Flow

_BURST = 32
_SMALLEST_WINDOW = 8
_SETTLED_AT_LEAST_S = 0.005
_PAUSE_S = 0.002


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """How a sweep asks. Raises BadInput for what cannot be.

    A flow is asked again, ``attempts`` times in all, when ``timeout_s`` passed without anything. At
    most ``window`` probes are young at a time; the sweep makes this less by itself when probes are
    lost that a later attempt shows to be answerable. A probe stops being young when it is answered
    or older than a few round trips (nothing of it fills a queue then); so pairs that never answer
    do not hold up the others. When the kernel has no room for a probe, the sweep pauses, as long in
    all as it waits for one flow; after that such a probe is loss. After ``deadline_s`` the rest is, too.
    """

    attempts: int = 2
    timeout_s: float = 0.5
    window: int = 256
    payload_bytes: int = DEFAULT_PAYLOAD
    deadline_s: float = 120.0

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= 100:
            raise BadInput("attempts", self.attempts, "1 to 100")
        check_payload(self.payload_bytes)
        if not 0 < self.timeout_s <= 60:
            raise BadInput("timeout_s", self.timeout_s, "more than 0 and at most 60 seconds")
        if not _SMALLEST_WINDOW <= self.window <= 512:
            raise BadInput("window", self.window, f"{_SMALLEST_WINDOW} to 512 probes")
        if not 0 < self.deadline_s <= 3600:
            raise BadInput("deadline_s", self.deadline_s, "more than 0 and at most 3600 seconds")


def sweep(flows: Sequence[Flow], options: SweepOptions | None = None, *, stop_fd: int = -1) -> list[Outcome]:
    """Ask every flow; return one outcome each, in the same order.

    Blocks; ends early when ``stop_fd`` becomes readable. No two probes of a sweep have the same
    addresses and ports, so each is a connection of its own to connection tracking. Raises OSError
    when a source's namespace is gone or when there are too many for the open-files limit.
    """
    with Stations(stop_fd) as stations:
        return _Sweep(list(flows), options or SweepOptions(), stations).run()


class _Sweep:
    """The state of one sweep."""

    def __init__(self, flows: list[Flow], options: SweepOptions, stations: Stations) -> None:
        self._flows = flows
        self._options = options
        self._stations = stations
        self._launcher = Launcher(stations, options.payload_bytes)
        self._outcomes: list[Outcome | None] = [None] * len(flows)
        self._unresolved = len(flows)
        self._sent = [0] * len(flows)
        self._ports_used: Counter[tuple[str, str, str, int]] = Counter()
        self._todo = deque(range(len(flows)))
        self._pauses_left = int(options.attempts * options.timeout_s / _PAUSE_S)
        self._aging: deque[Probe] = deque()
        self._waiting: deque[Probe] = deque()
        self._young = 0
        self._window = min(64.0, float(options.window))
        self._usual_rtt_s = 0.0
        self._pause_until = 0.0

    def run(self) -> list[Outcome]:
        """Send and hear until every flow has its outcome."""
        self._launcher.prepare(self._flows)
        end = time.monotonic() + self._options.deadline_s
        while self._unresolved and not self._stations.stopped:
            now = time.monotonic()
            if now >= end:
                break
            self._send_burst(now)
            for station, heard in self._stations.hear(self._patience(min(end, now + 1.0))):
                self._take(station, heard)
            self._grow_old(time.monotonic())
        return [one or self._lost(index, "not asked to the end") for index, one in enumerate(self._outcomes)]

    def _send_burst(self, now: float) -> None:
        """Send as much as the window has room for, but look at what comes back every now and then."""
        room = min(_BURST, int(self._window) - self._young)
        while room > 0 and self._todo and now >= self._pause_until:
            index = self._todo.popleft()
            if self._outcomes[index] is None:
                self._send(index)
                room -= 1

    def _send(self, index: int) -> None:
        """Send the next attempt of a flow."""
        flow, number = self._flows[index], self._sent[index] + 1
        used = (flow.protocol, flow.source.netns, flow.target.address, flow.port)
        slot = self._ports_used[used] if flow.port else 0
        try:
            probe = self._launcher.launch(flow, index, number, slot, self._options.timeout_s)
        except NotSent as refused:
            self._not_sent(index, refused)
            return
        if flow.port:
            self._ports_used[used] = slot + 1
        self._sent[index] = number
        self._young += 1
        self._aging.append(probe)
        self._waiting.append(probe)

    def _not_sent(self, index: int, refused: NotSent) -> None:
        """Try again later when our own load was in the way; else that is the outcome."""
        flow, number = self._flows[index], self._sent[index] + 1
        if refused.overload and self._pauses_left > 0:
            self._pauses_left -= 1
            self._todo.append(index)
            self._slow_down()
            self._pause_until = time.monotonic() + _PAUSE_S
            return
        seen = Seen.NO_ANSWER if refused.overload else Seen.UNREACHABLE
        self._resolve(index, Outcome(flow, seen, number, 0, detail=refused.detail))

    def _take(self, station: Station, heard: Heard) -> None:
        """Give what came back to the flow that it belongs to."""
        probe = self._launcher.open.get((station, heard.key))
        if probe is None or returned_cookie(heard.payload) not in (None, probe.cookie):
            return
        index, known = probe.flow, self._outcomes[probe.flow]
        if known is not None:
            if probe.answered and heard.seen is Seen.ANSWERED:
                self._outcomes[index] = replace(known, answers=known.answers + 1)
            return
        probe.answered = True
        self._young -= not probe.aged
        rtt_us = probe.rtt_us(heard.received_ns)
        self._usual_rtt_s += (rtt_us / 1e6 - self._usual_rtt_s) / 8
        if probe.number > 1:
            self._slow_down()
        else:
            self._window = min(self._window + 1, self._options.window)
        flow = self._flows[index]
        detail = f"answered from {heard.sender}" if heard.icmp is None and heard.sender != flow.target.address else ""
        answer = Answer.parse(heard.payload) if heard.payload else None
        self._resolve(index, Outcome(flow, heard.seen, self._sent[index], 1, rtt_us, answer, heard.icmp, detail))

    def _resolve(self, index: int, outcome: Outcome) -> None:
        self._outcomes[index] = outcome
        self._unresolved -= 1

    def _lost(self, index: int, detail: str = "") -> Outcome:
        return Outcome(self._flows[index], Seen.NO_ANSWER, self._sent[index], 0, detail=detail)

    def _slow_down(self) -> None:
        self._window = max(self._window / 2, _SMALLEST_WINDOW)

    def _settled_s(self) -> float:
        """Return the age at which a probe is taken to fill no queue any more."""
        return max(_SETTLED_AT_LEAST_S, min(4 * self._usual_rtt_s, self._options.timeout_s))

    def _patience(self, end: float) -> float:
        """Return how long there is nothing to do but to hear."""
        now = time.monotonic()
        if self._todo:
            if now < self._pause_until:
                end = min(end, self._pause_until)
            elif self._young < int(self._window):
                return 0.0
            elif self._aging:
                end = min(end, self._aging[0].due - self._options.timeout_s + self._settled_s())
        if self._waiting:
            end = min(end, self._waiting[0].due)
        return max(end - now, 0.0)

    def _grow_old(self, now: float) -> None:
        """Take probes out of the window as they age, and give them up at their timeout."""
        aged_at = now + self._options.timeout_s - self._settled_s()
        while self._aging and self._aging[0].due <= aged_at:
            probe = self._aging.popleft()
            probe.aged = True
            self._young -= not probe.answered
        while self._waiting and self._waiting[0].due <= now:
            probe = self._waiting.popleft()
            self._launcher.give_up(probe)
            if self._outcomes[probe.flow] is not None:
                continue
            if self._sent[probe.flow] < self._options.attempts:
                self._todo.append(probe.flow)
            else:
                self._resolve(probe.flow, self._lost(probe.flow))
