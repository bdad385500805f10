"""What two programs on one CPU cost it: their own time, and that of the packets that the kernel carries for them.

What else runs on the machine takes time from a load, so that its throughput by the clock falls, but does not change
what a bit costs. Throughput for each second of CPU time is what the clock would show on a CPU that nobody else uses.

Most of a packet's way is done by soft interrupts. Whose time that is depends on the kernel: the program's that is
interrupted, or, with CONFIG_IRQ_TIME_ACCOUNTING, nobody's, and then it has to be counted beside the program's.
"""

from __future__ import annotations

import gzip
import os
import platform
from functools import cache
from pathlib import Path

_OPTION = "CONFIG_IRQ_TIME_ACCOUNTING"
_IRQ, _SOFTIRQ = 6, 7
"""Columns of a CPU's line in /proc/stat (proc_stat(5))."""

_TICKS_A_S = os.sysconf("SC_CLK_TCK")


def keeps_interrupts_apart(config: str) -> bool:
    """Whether a kernel of this configuration counts interrupts' time beside that of programs."""
    return f"{_OPTION}=y" in config.splitlines()


@cache
def kernel_keeps_interrupts_apart() -> bool | None:
    """The same of this kernel; None when its configuration is nowhere to be read."""
    for path in (Path("/proc/config.gz"), Path(f"/boot/config-{platform.release()}")):
        try:
            data = path.read_bytes()
            return keeps_interrupts_apart((gzip.decompress(data) if path.suffix == ".gz" else data).decode())
        except (OSError, ValueError):
            continue
    return None


def interrupts_s(stat: str, cpu: int) -> float:
    """The time that a CPU has spent on interrupts, hard and soft, from the text of /proc/stat."""
    for line in stat.splitlines():
        fields = line.split()
        if fields and fields[0] == f"cpu{cpu}":
            return (int(fields[_IRQ]) + int(fields[_SOFTIRQ])) / _TICKS_A_S
    return 0.0


class Meter:
    """Made when a load begins; `busy_s` afterwards. Knows nothing (None) unless both programs share a known CPU."""

    def __init__(self, client: int | None, server: int | None) -> None:
        self._cpu = client if client == server else None
        self._apart = kernel_keeps_interrupts_apart()
        self._before = self._interrupts()

    def _interrupts(self) -> float:
        if self._cpu is None or not self._apart:
            return 0.0
        return interrupts_s(Path("/proc/stat").read_text(), self._cpu)

    def busy_s(self, programs_s: float) -> float | None:
        """What the load cost the CPU, when its programs took so long themselves."""
        if self._cpu is None or self._apart is None or programs_s <= 0:
            return None
        return programs_s + self._interrupts() - self._before
