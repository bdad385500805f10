"""Latency: paced probes along each flow, with the kernel's time stamps of sending and receiving."""

from __future__ import annotations

import ctypes
import os
import struct
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mininetes.errors import BadInput
from mininetes.probes.launching import Launcher, NotSent, Probe, returned_cookie
from mininetes.probes.outcomes import Sample, Seen
from mininetes.probes.outlet import Outlet
from mininetes.probes.packets import DEFAULT_PAYLOAD, check_payload
from mininetes.probes.station import Heard, Station, Stations
from mininetes.probes.vantage import Flow

_MOST_PROBES = 10_000_000
_CLOCK_MONOTONIC = 1
_TFD_CLOEXEC_NONBLOCK = os.O_CLOEXEC | os.O_NONBLOCK
_TFD_ABSOLUTE = 1

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Pacing:
    """How latency is measured. Raises BadInput for what cannot be.

    ``count`` probes along each flow, one each ``interval_s``, after ``warm_up`` ones that are not
    reported; ``payload_bytes`` as ping counts them (its ``-s``; a TCP SYN has none). Flows are
    measured side by side, their probes spread over the interval and at least ``spacing_s`` apart;
    when there are more flows than fit, group after group. To compare with ping, use 20 ms or more:
    at up to 10 ms ping does not sleep between its probes, which keeps the CPU and its caches warm.
    """

    interval_s: float = 0.02
    count: int = 20
    payload_bytes: int = DEFAULT_PAYLOAD
    warm_up: int = 2
    timeout_s: float = 1.0
    spacing_s: float = 0.001

    def __post_init__(self) -> None:
        if not 0.0002 <= self.interval_s <= 60:
            raise BadInput("interval_s", self.interval_s, "0.0002 to 60 seconds")
        if not 1 <= self.count <= 1_000_000:
            raise BadInput("count", self.count, "1 to 1000000")
        if not 0 <= self.warm_up <= 1000:
            raise BadInput("warm_up", self.warm_up, "0 to 1000")
        check_payload(self.payload_bytes)
        if not 0 < self.timeout_s <= 60:
            raise BadInput("timeout_s", self.timeout_s, "more than 0 and at most 60 seconds")
        if not 0.0001 <= self.spacing_s <= 60:
            raise BadInput("spacing_s", self.spacing_s, "0.0001 to 60 seconds")

    @property
    def flows_at_once(self) -> int:
        """How many flows are measured side by side."""
        return max(int(self.interval_s / self.spacing_s), 1)


def measure(flows: Sequence[Flow], pacing: Pacing | None = None, *, stop_fd: int = -1) -> list[Sample]:
    """Measure along every flow; return its samples, flow after flow, by sequence, lost ones among them.

    Blocks, for about ``interval_s * (warm_up + count)`` a group of flows; ends early when ``stop_fd``
    becomes readable. Raises OSError when a source's namespace is gone, BadInput for too many probes.
    """
    wanted = pacing or Pacing()
    probes = len(flows) * (wanted.count + wanted.warm_up)
    if probes > _MOST_PROBES:
        raise BadInput("count", wanted.count, f"at most {_MOST_PROBES} probes in all, and this makes {probes}")
    samples: list[Sample] = []
    for start in range(0, len(flows), wanted.flows_at_once):
        with Stations(stop_fd, timed=True) as stations, _Timer() as timer:
            stations.wake_on(timer.fd)
            samples += _Group(list(flows[start : start + wanted.flows_at_once]), wanted, stations, timer).run()
    return samples


class _Timer:
    """A timerfd: epoll's own timeout has milliseconds only."""

    def __init__(self) -> None:
        self.fd = int(_libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_CLOEXEC_NONBLOCK))
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def set(self, at: float) -> None:
        """Make the descriptor readable from the time ``at`` of the monotonic clock; that undoes what was set before."""
        ns = max(int(at * 1e9), 1)
        setting = struct.pack("@llll", 0, 0, ns // 1_000_000_000, ns % 1_000_000_000)
        if _libc.timerfd_settime(self.fd, _TFD_ABSOLUTE, setting, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def __enter__(self) -> _Timer:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


class _Group:
    """The state of one measurement of flows side by side."""

    def __init__(self, flows: list[Flow], pacing: Pacing, stations: Stations, timer: _Timer) -> None:
        self._flows = flows
        self._pacing = pacing
        self._stations = stations
        self._timer = timer
        self._launcher = Launcher(stations, pacing.payload_bytes)
        self._rounds = pacing.warm_up + pacing.count
        self._samples: dict[tuple[int, int], Sample] = {}
        self._waiting: deque[Probe] = deque()
        self._awaiting_stamp: dict[tuple[Outlet, int], Probe] = {}
        self._sent_ns: dict[tuple[int, int], int] = {}
        self._received_ns: dict[tuple[int, int], int] = {}
        self._slots_in_use: dict[tuple[str, str, str, int], set[int]] = {}
        self._unanswered = 0

    def run(self) -> list[Sample]:
        """Send at the due times, hear in between, and put the stamps together."""
        self._launcher.prepare(self._flows)
        start = time.monotonic() + 0.001
        total, step = len(self._flows) * self._rounds, self._pacing.interval_s / max(len(self._flows), 1)
        nth = 0
        while (nth < total or self._unanswered) and not self._stations.stopped:
            now = time.monotonic()
            if nth < total and now >= start + nth * step:
                self._send(nth % len(self._flows), nth // len(self._flows))
                nth += 1
            due = [start + nth * step] if nth < total else []
            self._timer.set(min([*due, *(probe.due for probe in list(self._waiting)[:1])], default=now))
            for station, heard in self._stations.hear(1.0):
                self._take(station, heard)
            self._give_up(time.monotonic())
        warm_up, rounds = self._pacing.warm_up, range(self._pacing.warm_up, self._rounds)
        return [self._sample(index, number, number - warm_up) for index in range(len(self._flows)) for number in rounds]

    def _send(self, index: int, number: int) -> None:
        """Send one probe along a flow."""
        flow = self._flows[index]
        in_use = self._slots_in_use.setdefault(self._slots_of(flow), set())
        slot = next(n for n in range(len(in_use) + 1) if n not in in_use)
        try:
            probe = self._launcher.launch(flow, index, number, slot, self._pacing.timeout_s)
        except NotSent as refused:
            seen = Seen.NO_ANSWER if refused.overload else Seen.UNREACHABLE
            self._samples[index, number] = Sample(flow, number, seen, detail=refused.detail)
            return
        in_use.add(slot)
        probe.slot = slot
        self._waiting.append(probe)
        self._awaiting_stamp[probe.outlet, probe.packet_number] = probe
        self._unanswered += 1

    @staticmethod
    def _slots_of(flow: Flow) -> tuple[str, str, str, int]:
        return flow.protocol, flow.source.netns, flow.target.address, flow.port

    def _take(self, station: Station, heard: Heard) -> None:
        """Make a sample of what came back."""
        probe = self._launcher.open.get((station, heard.key))
        if probe is None or returned_cookie(heard.payload) not in (None, probe.cookie):
            return
        self._collect_send_stamps(probe.outlet)
        if (probe.flow, probe.number) not in self._sent_ns:
            probe.outlet.stamp_in_queue()
        flow = self._flows[probe.flow]
        detail = str(heard.icmp) if heard.icmp else ""
        rtt_us = probe.rtt_us(heard.received_ns) if heard.seen is not Seen.UNREACHABLE else None
        self._samples[probe.flow, probe.number] = Sample(flow, probe.number, heard.seen, rtt_us, detail=detail)
        self._received_ns[probe.flow, probe.number] = heard.received_ns
        self._close(probe)

    def _collect_send_stamps(self, outlet: Outlet) -> None:
        """Remember when packets left. The first stamp counts: the pod's own device's, not a bridge port's later on."""
        for number, stamp_ns in outlet.sent_stamps():
            probe = self._awaiting_stamp.pop((outlet, number), None)
            if probe is not None:
                self._sent_ns[probe.flow, probe.number] = stamp_ns

    def _give_up(self, now: float) -> None:
        """Let go of probes that were not answered in time."""
        while self._waiting and (self._waiting[0].answered or self._waiting[0].due <= now):
            probe = self._waiting.popleft()
            if not probe.answered:
                self._collect_send_stamps(probe.outlet)
                self._close(probe)

    def _close(self, probe: Probe) -> None:
        probe.answered = True
        self._launcher.give_up(probe)
        self._slots_in_use[self._slots_of(self._flows[probe.flow])].discard(probe.slot)
        self._awaiting_stamp.pop((probe.outlet, probe.packet_number), None)
        self._unanswered -= 1

    def _sample(self, index: int, number: int, sequence: int) -> Sample:
        """Return the sample of one probe, which is loss when nothing came back."""
        sample = self._samples.get((index, number)) or Sample(self._flows[index], number, Seen.NO_ANSWER)
        sent_ns, received_ns = self._sent_ns.get((index, number), 0), self._received_ns.get((index, number), 0)
        wire_rtt_us = None
        if sample.rtt_us is not None and sent_ns and received_ns:
            wire_rtt_us = max(received_ns - sent_ns, 0) / 1000
        return replace(sample, sequence=sequence, wire_rtt_us=wire_rtt_us)
