"""What a result ran on and how (context.json, schema 3): machine, kernel, versions, commit, clusters, load.

    {"schema": 3, "kernel": {...}, "cpu": {...}, ..., "experiment": {"name", "parameters", "repetitions", ...},
     "parts": {"experiment/quickstart.py": sha256, ...}, "seed": 1, "complete": true,
     "clusters": [{"cells": [{"nodes": 3}], "spec": {...}}, ...] (see `clusters`),
     "runs": {"planned": 20, "done": 20, "failed": 0, "saturated": 1},
     "starts": [{"started", "duration_s", "runs", "jobs", "commit", "dirty", "load": {"before", "after", "highest"}}],
     "started": of the first start, "duration_s": of all of them, "load": over all of them}

A run that is resumed adds a start. Schema 2 had no clusters; schema 1 had one start besides, whose facts were the
last three alone.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mininetes import __version__
from mininetes.errors import BadInput, MininetesError
from mininetes.experiments import clusters

SCHEMA = 3
CONTEXT = "context.json"

_TOOLS: Mapping[str, Sequence[str]] = {
    "bash": ("bash", "--version"),
    "ip": ("ip", "-V"),
    "iptables": ("iptables", "--version"),
    "nft": ("nft", "--version"),
    "ping": ("ping", "-V"),
}
_PACKAGES = ("pyroute2", "scapy", "pydantic", "numpy", "matplotlib", "aiohttp", "click", "rich", "PyYAML")
_SYSTEM_PACKAGES = (
    "bridge-utils", "catatonit", "conntrack", "containernetworking-plugins", "ethtool", "etcd-server", "fping",
    "iperf3", "iproute2", "ipset", "iptables", "iputils-ping", "ipvsadm", "jq", "mininet", "nftables", "sockperf",
    "tcpdump",
)  # fmt: skip
"""Where dpkg knows them."""
_SYSCTLS = (
    "net/ipv4/neigh/default/gc_thresh3",
    "net/core/rmem_max",
    "net/core/wmem_max",
    "net/core/netdev_max_backlog",
    "net/core/netdev_budget",
    "net/netfilter/nf_conntrack_max",
    "net/core/netdev_budget_usecs",
    "net/core/somaxconn",
    "net/ipv4/tcp_congestion_control",
    "net/ipv4/tcp_rmem",
    "net/ipv4/tcp_wmem",
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
    flags = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return {
        "model": model.group(1) if model else platform.machine(),
        "count": os.cpu_count(),
        "virtual": "hypervisor" in flags.group(1).split() if flags else None,
        "governor": _text(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        "mitigations": mitigations,
    }


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _sysctls() -> dict[str, str]:
    found = {}
    for key in _SYSCTLS:
        path = Path("/proc/sys") / key
        if path.exists():
            found[key.replace("/", ".")] = path.read_text().strip()
    return found


def _system_packages() -> dict[str, str]:
    """Versions of the Debian packages that are installed of those that matter; none elsewhere."""
    if shutil.which("dpkg-query") is None:
        return {}
    argv = ["dpkg-query", "--show", "--showformat", "${Package} ${Version} ${db:Status-Status}\n", *_SYSTEM_PACKAGES]
    try:
        said = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return {}
    lines = [line.split(" ") for line in said.splitlines()]
    return {line[0]: line[1] for line in lines if len(line) == 3 and line[2] == "installed"}


def commit() -> dict[str, Any]:
    """The repository's commit and whether files differ from it; nulls where there is no repository."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return {"commit": None, "dirty": None}
    changed = _said_by(["git", "status", "--porcelain"], root)
    return {"commit": _said_by(["git", "rev-parse", "HEAD"], root), "dirty": changed is None or bool(changed)}


def machine() -> dict[str, Any]:
    """What does not change during a run. Starts a few short programs, side by side."""
    with ThreadPoolExecutor(4) as pool:
        committed = pool.submit(commit)
        packages = pool.submit(_system_packages)
        tools = {name: pool.submit(_said_by, argv) for name, argv in _TOOLS.items()}
        return {
            "schema": SCHEMA,
            "mininetes": {"version": __version__, **committed.result()},
            "kernel": {"release": platform.release(), "version": platform.version(), "machine": platform.machine()},
            "cpu": _cpu(),
            "memory_bytes": _memory_bytes(),
            "root": os.geteuid() == 0,
            "sysctls": _sysctls(),
            "python": platform.python_version(),
            "packages": {**{name: _version(name) for name in _PACKAGES}, "mininet": _mininet_version()},
            "tools": {name: _first_line(said.result()) for name, said in tools.items()},
            "system_packages": packages.result(),
        }


def _mininet_version() -> str | None:
    from mininet.net import VERSION  # noqa: PLC0415 - Debian's package has no metadata that pip would see

    return str(VERSION)


def load() -> list[float]:
    """The load averages of 1, 5 and 15 minutes."""
    return [round(each, 2) for each in os.getloadavg()]


def write(folder: Path, context: Mapping[str, Any]) -> None:
    """Write context.json, whole or not at all. Raises MininetesError."""
    fresh = folder / (CONTEXT + ".new")
    try:
        with fresh.open("w") as file:
            file.write(json.dumps(context, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(folder / CONTEXT)
    except OSError as failed:
        fresh.unlink(missing_ok=True)
        raise MininetesError(f"{folder / CONTEXT} could not be written: {failed.strerror}") from None


def read(folder: Path) -> dict[str, Any]:
    """What a result ran on, in the form of the newest schema. Raises BadInput when it cannot be told."""
    path = folder / CONTEXT
    if not path.is_file():
        raise BadInput("result", str(folder), f"a folder with {CONTEXT}")
    try:
        said: dict[str, Any] = json.loads(path.read_text())
        schema = said["schema"]
        if type(schema) is not int or not 1 <= schema <= SCHEMA:
            raise BadInput(f"{path}: schema", schema, f"1 to {SCHEMA}: this result is from a newer Mininetes")
        if schema == 1:
            said = _from_1(said)
        if schema < SCHEMA:
            said = {**said, "schema": SCHEMA, "clusters": []}
        clusters.check(said["clusters"])
        return said
    except (ValueError, KeyError, TypeError, AttributeError) as wrong:
        raise BadInput(str(path), None, f"what a result ran on, as schema {SCHEMA}: {wrong!r}") from None


def _from_1(said: dict[str, Any]) -> dict[str, Any]:
    """A context of schema 1, in which every cell had one run, and nothing was resumed, as one of schema 2."""
    load_then = {**said["load"], "highest": max(said["load"]["before"][0], said["load"]["after"][0])}
    start = {
        "started": said["started"],
        "duration_s": said["duration_s"],
        "jobs": 1,
        "commit": said["mininetes"].get("commit"),
        "dirty": said["mininetes"].get("dirty"),
        "load": load_then,
    }
    cells = 1
    for values in said["experiment"]["parameters"].values():
        cells *= len(values)
    return {
        **said,
        "experiment": {"title": said["experiment"]["name"], "repetitions": 1, "warm_up": 0, **said["experiment"]},
        "runs": {"planned": cells, "done": cells if said["complete"] else None, "failed": 0, "saturated": None},
        "starts": [start],
        "load": load_then,
    }


_ONE_RESULT = {
    "experiment.parameters": "the parameters",
    "experiment.repetitions": "the repetitions",
    "seed": "the seed",
    "kernel.release": "the kernel",
    "cpu.model": "the CPU",
    "cpu.count": "the number of CPUs",
}
"""What is the same throughout one result, and how to call it."""


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In what a result that shall be gone on with differs from what would be run now, each with both values.

    Facts that are in one of them alone are not compared.
    """
    found = []
    for name in sorted({*before["parts"], *now["parts"]}):
        was, is_now = before["parts"].get(name), now["parts"].get(name)
        if was != is_now:
            found.append(f"{name} (sha256 {(was or 'none')[:12]}, now {(is_now or 'none')[:12]})")
    for path, title in _ONE_RESULT.items():
        was, is_now = _at(before, path), _at(now, path)
        if was is not None and is_now is not None and was != is_now:
            found.append(f"{title} ({json.dumps(was)}, now {json.dumps(is_now)})")
    return found + clusters.differences(before, now)


def _at(context: Mapping[str, Any], path: str) -> Any:
    place: Any = context
    for key in path.split("."):
        place = place.get(key) if isinstance(place, Mapping) else None
    return place


def quick() -> dict[str, Any]:
    """What `differences` compares of the machine, told in no time."""
    cpu = _cpu()
    return {"kernel": {"release": platform.release()}, "cpu": {"model": cpu["model"], "count": cpu["count"]}}
