"""What a result ran on: machine, kernel, versions, commit, parts, seed and load (context.json, schema 1)."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mininetes import __version__

SCHEMA = 1
CONTEXT = "context.json"

_TOOLS: Mapping[str, Sequence[str]] = {
    "bash": ("bash", "--version"),
    "ip": ("ip", "-V"),
    "iptables": ("iptables", "--version"),
    "nft": ("nft", "--version"),
    "ping": ("ping", "-V"),
}
_PACKAGES = ("pyroute2", "scapy", "pydantic", "numpy", "matplotlib")
_SYSCTLS = (
    "net/ipv4/neigh/default/gc_thresh3",
    "net/core/rmem_max",
    "net/core/wmem_max",
    "net/core/netdev_max_backlog",
    "net/core/netdev_budget",
    "net/netfilter/nf_conntrack_max",
    "kernel/sched_rt_runtime_us",
)


def _said_by(argv: Sequence[str], cwd: Path | None = None) -> str | None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False, cwd=cwd)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (done.stdout or done.stderr).strip() if done.returncode == 0 else None


def _first_line(text: str | None) -> str | None:
    return text.splitlines()[0] if text else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu() -> dict[str, Any]:
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", text)
    vulnerabilities = Path("/sys/devices/system/cpu/vulnerabilities")
    mitigations = {}
    if vulnerabilities.is_dir():
        mitigations = {path.name: path.read_text().strip() for path in sorted(vulnerabilities.iterdir())}
    return {
        "model": model.group(1) if model else platform.machine(),
        "count": os.cpu_count(),
        "mitigations": mitigations,
    }


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _sysctls() -> dict[str, str]:
    found = {}
    for key in _SYSCTLS:
        path = Path("/proc/sys") / key
        if path.exists():
            found[key.replace("/", ".")] = path.read_text().strip()
    return found


def _commit() -> dict[str, Any]:
    """The repository's commit and whether files differ from it; nulls where there is no repository."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return {"commit": None, "dirty": None}
    changed = _said_by(["git", "status", "--porcelain"], root)
    return {"commit": _said_by(["git", "rev-parse", "HEAD"], root), "dirty": changed is None or bool(changed)}


def machine() -> dict[str, Any]:
    """What does not change during a run. Starts a few short programs, side by side."""
    with ThreadPoolExecutor(4) as pool:
        commit = pool.submit(_commit)
        tools = {name: pool.submit(_said_by, argv) for name, argv in _TOOLS.items()}
        return {
            "schema": SCHEMA,
            "mininetes": {"version": __version__, **commit.result()},
            "kernel": {"release": platform.release(), "version": platform.version(), "machine": platform.machine()},
            "cpu": _cpu(),
            "memory_bytes": _memory_bytes(),
            "root": os.geteuid() == 0,
            "sysctls": _sysctls(),
            "python": platform.python_version(),
            "packages": {**{name: _version(name) for name in _PACKAGES}, "mininet": _mininet_version()},
            "tools": {name: _first_line(said.result()) for name, said in tools.items()},
        }


def _mininet_version() -> str | None:
    from mininet.net import VERSION  # noqa: PLC0415 - Debian's package has no metadata that pip would see

    return str(VERSION)


def load() -> list[float]:
    """The load averages of 1, 5 and 15 minutes."""
    return list(os.getloadavg())


def write(folder: Path, context: Mapping[str, Any]) -> None:
    """Write context.json, whole or not at all."""
    fresh = folder / (CONTEXT + ".new")
    fresh.write_text(json.dumps(context, indent=2) + "\n")
    fresh.rename(folder / CONTEXT)
