"""How much memory a lab takes: its processes' own, and the kernel's as far as the machine's books tell."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

_KERNEL = ("Slab", "KernelStack", "PageTables", "Percpu", "VmallocUsed")
_KIB = 1024


def process_bytes(proc: Path = Path("/proc")) -> int:
    """What the processes of this PID namespace, which is the lab, take together: their proportional share (PSS).

    What several processes share counts once. A process that ends meanwhile does not count.
    """
    total = 0
    for folder in proc.iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                total += _kib_of((folder / "smaps_rollup").read_text()).get("Pss", 0)
    return total * _KIB


def kernel_bytes(proc: Path = Path("/proc")) -> int:
    """What the kernel takes for itself, on the whole machine: network namespaces and links are in it.

    Differences between labs that were up one after the other mean something on a machine that is otherwise quiet.
    """
    found = _kib_of((proc / "meminfo").read_text())
    return sum(found.get(name, 0) for name in _KERNEL) * _KIB


def _kib_of(text: str) -> Mapping[str, int]:
    """The figures of a file with lines such as ``Pss:   812 kB``."""
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB":
            found[name] = int(words[0])
    return found
