"""Whether the machine kept up during a run, from what the kernel says.

One kernel carries every node and pod, so a run on a busy machine measures the machine. Each run is
marked "good", "saturated" or "unknown" (too short to say, or the kernel does not tell). Saturated is

- a machine without idle time: all CPUs together idle for less than 5 % of the run. Whatever is to be
  sent then waits for a CPU, and how long is not the emulated network's doing;
- processes outside the lab that used more than a quarter of the machine, when less than a quarter was idle: on
  an idle machine they disturb little, on a busy one they take what the lab would have had;
- a hypervisor that held back (steal) more than 2 % of the machine's time, which no process of ours sees;
- packets dropped because a CPU's receive backlog was full, or a backlog seen more than nine tenths full:
  every packet over a veth goes through one, and such loss is not in any cluster's description;
- more than 50 times a second on average that a CPU left packets behind because its turn was over
  (time_squeeze): a turn lasts two to eight milliseconds (netdev_budget_usecs), so packets wait a tenth of the time
  or more behind others;
- tasks that waited for a CPU for more than half of the run (pressure), where the kernel measures it.

An experiment with SATURATES drives the machine to its limit on purpose. Then only others' share
counts: more than a tenth of the machine used by others when less than a twentieth is idle, and steal.

CPU time comes in ticks of 10 ms: a run shorter than a fifth of a second is "unknown".
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LEAST_IDLE = 0.05
MOST_OTHERS, BUSY_IDLE = 0.25, 0.25
MOST_OTHERS_SATURATING = 0.10
MOST_STEAL = 0.02
MOST_BACKLOG = 0.9
MOST_SQUEEZED_A_S = 50.0
MOST_PRESSURE = 0.5
LEAST_S = 0.2
SAMPLE_S = 0.5
DEFAULT_BACKLOG_LIMIT = 1000

_TICKS_A_S = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@dataclass(frozen=True)
class Reading:
    """What the kernel has counted until now; CPU times in ticks, over all CPUs."""

    at_s: float
    cpus: int
    user: int
    system: int
    idle: int
    interrupts: int
    steal: int
    dropped: int
    squeezed: int
    backlog: int
    """Packets in the fullest CPU's receive backlog, at this moment."""
    pressure_us: int | None
    own: int
    """Of all processes in this PID namespace, with those that have ended."""


@dataclass(frozen=True)
class Figures:
    """A run in figures; shares are of all CPUs' time."""

    seconds: float
    idle: float
    own: float
    others: float
    interrupts: float
    steal: float
    dropped: int
    squeezed_a_s: float
    backlog: int
    backlog_limit: int
    pressure: float | None
    busiest: float
    """The busy share of the busiest sampled stretch of about half a second."""
    load: float
    """The highest load average of a minute that was seen."""

    def to_json(self) -> dict[str, Any]:
        """As in a row's labels, rounded to what can be told."""
        digits = {"seconds": 3, "squeezed_a_s": 1, "load": 2}
        return {
            name: round(value, digits.get(name, 4)) if isinstance(value, float) else value
            for name, value in vars(self).items()
        }


def judge(figures: Figures | None, *, saturates: bool) -> dict[str, Any]:
    """The verdict on a run with its reasons and figures, as it goes into the row that ends the run."""
    if figures is None:
        return {"verdict": "unknown", "why": ["the kernel does not tell"]}
    why = list(_reasons(figures, saturates=saturates))
    verdict = "saturated" if why else "good"
    if figures.seconds < LEAST_S and not figures.dropped:
        verdict, why = "unknown", [f"shorter than {LEAST_S:g} s"]
    return {"verdict": verdict, "why": why, **figures.to_json()}


def _reasons(figures: Figures, *, saturates: bool) -> Iterator[str]:
    if figures.steal > MOST_STEAL:
        yield f"the hypervisor held back {figures.steal:.0%} of the CPUs' time"
    most_others, least_idle = (MOST_OTHERS_SATURATING, LEAST_IDLE) if saturates else (MOST_OTHERS, BUSY_IDLE)
    if figures.others > most_others and figures.idle < least_idle:
        yield f"other processes used {figures.others:.0%} of the CPUs, and {figures.idle:.0%} were idle"
    if saturates:
        return
    if figures.idle < LEAST_IDLE:
        yield f"the CPUs were idle for {figures.idle:.1%} of the time"
    if figures.dropped:
        yield f"{figures.dropped} packets dropped from full receive backlogs"
    elif figures.backlog > MOST_BACKLOG * figures.backlog_limit:
        yield f"a receive backlog of {figures.backlog} packets of {figures.backlog_limit}"
    if figures.squeezed_a_s > MOST_SQUEEZED_A_S:
        yield f"packets left behind {figures.squeezed_a_s:.0f} times a second"
    if figures.pressure is not None and figures.pressure > MOST_PRESSURE:
        yield f"tasks waited for a CPU for {figures.pressure:.0%} of the time"


def backlog_limit() -> int:
    """How many packets a CPU's receive backlog holds; the kernel's default where it does not say (in a lab)."""
    try:
        return int((_PROC / "sys/net/core/netdev_max_backlog").read_text())
    except OSError:
        return DEFAULT_BACKLOG_LIMIT


def parse_softnet(text: str) -> tuple[int, int, int]:
    """Packets dropped and turns cut short, of all CPUs, and the fullest backlog now, from /proc/net/softnet_stat.

    Kernels before 5.10 do not tell the backlog: it is 0 then.
    """
    dropped = squeezed = backlog = 0
    for line in text.splitlines():
        fields = [int(field, 16) for field in line.split()]
        dropped += fields[1]
        squeezed += fields[2]
        if len(fields) > 11:
            backlog = max(backlog, fields[11])
    return dropped, squeezed, backlog


def parse_cpu(text: str) -> tuple[int, int, int, int, int, int]:
    """CPUs, and ticks of user, system, idle, interrupts and steal, from /proc/stat.

    Waiting for a disk is idle. Guests' time is in user's already.
    """
    lines = text.splitlines()
    values = [int(field) for field in lines[0].split()[1:]] + [0] * 8
    user, nice, system, idle, iowait, irq, softirq, steal = values[:8]
    cpus = sum(1 for line in lines if line.startswith("cpu")) - 1
    return cpus, user + nice, system, idle + iowait, irq + softirq, steal


def _pressure_us() -> int | None:
    try:
        return int((_PROC / "pressure/cpu").read_text().split("total=")[1].split()[0])
    except (OSError, IndexError, ValueError):
        return None


def _own_ticks() -> int:
    """Ticks of every process in this PID namespace, with their children that have ended."""
    total = 0
    for entry in os.scandir(_PROC):
        if entry.name.isdigit():
            with contextlib.suppress(OSError), open(f"{entry.path}/stat", encoding="utf-8", errors="replace") as file:
                total += sum(int(field) for field in file.read().rpartition(")")[2].split()[11:15])
    return total


def read(*, with_own: bool = True) -> Reading | None:
    """Read the kernel's counters: about a tenth of a millisecond, and 30 us a process for our own.

    None where the kernel does not tell.
    """
    try:
        cpus, user, system, idle, interrupts, steal = parse_cpu((_PROC / "stat").read_text())
        dropped, squeezed, backlog = parse_softnet((_PROC / "net/softnet_stat").read_text())
    except (OSError, ValueError, IndexError):
        return None
    own = _own_ticks() if with_own else 0
    return Reading(
        time.monotonic(), cpus, user, system, idle, interrupts, steal, dropped, squeezed, backlog, _pressure_us(), own
    )


def between(
    before: Reading, after: Reading, *, backlog_limit: int, backlog: int = 0, busiest: float = 0.0, load: float = 0.0
) -> Figures:
    """What happened between two readings; ``backlog``, ``busiest`` and ``load`` were seen meanwhile."""
    seconds = after.at_s - before.at_s
    ticks = {name: getattr(after, name) - getattr(before, name) for name in _TICKS}
    total = max(1, sum(ticks.values()))
    own = min(total, max(0, after.own - before.own))
    pressure = None
    if before.pressure_us is not None and after.pressure_us is not None:
        pressure = min(1.0, (after.pressure_us - before.pressure_us) / 1e6 / max(seconds, 1e-6))
    idle = ticks["idle"] / total
    return Figures(
        seconds=seconds,
        idle=idle,
        own=own / total,
        others=max(0, ticks["user"] + ticks["system"] - own) / total,
        interrupts=ticks["interrupts"] / total,
        steal=ticks["steal"] / total,
        dropped=after.dropped - before.dropped,
        squeezed_a_s=(after.squeezed - before.squeezed) / max(seconds, 1e-6) / max(1, after.cpus),
        backlog=max(backlog, after.backlog),
        backlog_limit=backlog_limit,
        pressure=pressure,
        busiest=max(busiest, 1 - idle),
        load=load,
    )


_TICKS = ("user", "system", "idle", "interrupts", "steal")


class Watch:
    """Watches the machine from `start` to `stop`, with a sample twice a second from a thread of its own."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._backlog_limit = int(config.get("backlog_limit", DEFAULT_BACKLOG_LIMIT))
        self._before: Reading | None = None
        self._last: Reading | None = None
        self._backlog, self._busiest, self._load = 0, 0.0, 0.0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch. Once."""
        self._before = self._last = read()
        self._load = os.getloadavg()[0]
        if self._before is not None:
            self._thread = threading.Thread(target=self._sample, name="fidelity", daemon=True)
            self._thread.start()

    def stop(self) -> Figures | None:
        """End it and return what was seen; None where the kernel does not tell."""
        after = read()
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        if self._before is None or after is None:
            return None
        return between(
            self._before,
            after,
            backlog_limit=self._backlog_limit,
            backlog=self._backlog,
            busiest=self._busiest,
            load=max(self._load, os.getloadavg()[0]),
        )

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_S):
            now = read(with_own=False)
            if now is None or self._last is None:
                return
            stretch = between(self._last, now, backlog_limit=self._backlog_limit)
            self._busiest = max(self._busiest, 1 - stretch.idle)
            self._backlog = max(self._backlog, now.backlog)
            self._load = max(self._load, os.getloadavg()[0])
            self._last = now
