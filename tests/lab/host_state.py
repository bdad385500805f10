"""What a lab may not change on its host: a snapshot to compare with a later one.

    before = HostState.now()
    ...
    before.wait_until_same()      fails, naming each difference, when the host is not as it was in time

Only what is the host's own: other labs run at the same time, and nothing of theirs is in here.
What belongs to one lab (processes, namespaces) is found by `lab_traces`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

COMMANDS = {
    "links": "ip -details link show",
    "addresses": "ip address show",
    "routes": "ip -4 route show table all",
    "IPv6 routes": "ip -6 route show table all",
    "routing rules": "ip -4 rule show",
    "queueing": "tc qdisc show",
    "named namespaces": "ip netns list",
    "nft rules": "nft --stateless list ruleset",
    "iptables rules, nft back end": "iptables-nft-save",
    "iptables rules, legacy back end": "iptables-legacy-save",
    "sets": "ipset save",
    "message queues and shared memory": "ipcs --queues --shmems --semaphores",
}
"""Read-only, and deterministic but for what `VOLATILE` takes away."""

VOLATILE = re.compile(r" expires \d+sec|\b\d+sec\b|\[\d+:\d+\]|^#.*$", re.MULTILINE)
"""Ages, counters, and the dates in the comments of iptables-save."""

NOT_SETTINGS = re.compile(
    r"fs/(dentry-state|file-nr|inode-nr|inode-state|aio-nr|quota/.*|binfmt_misc/.*)"
    r"|kernel/(random/.*|ns_last_pid|pty/nr|perf_.*|sched_domain/.*|spl/.*)"
    r"|net/netfilter/nf_conntrack_count"
)
"""What the kernel counts below /proc/sys. All the rest there is settings, and compared."""

FOLDERS = ("/etc/cni", "/opt/cni", "/var/lib/cni", "/etc/netns", "/run/netns", "/etc/kubernetes", "/var/lib/kubelet")
"""Places that a node has for itself: whatever is in them on the host stays as it is."""

FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")


@dataclass(frozen=True)
class HostState:
    """A snapshot: for each kind of thing (links, routes, ...) its lines."""

    lines: Mapping[str, tuple[str, ...]]

    @classmethod
    def now(cls) -> HostState:
        """Take a snapshot of the namespaces that this process is in."""
        found = {kind: _said(command.split()) for kind, command in COMMANDS.items()}
        found["mounts"] = _mounts()
        found["settings"] = tuple(_settings())
        found["files"] = tuple(_files())
        return cls(found)

    def differences(self, later: HostState) -> list[str]:
        """What is in one snapshot only, each with its kind and a + or -."""
        found = []
        for kind, before in self.lines.items():
            after = later.lines[kind]
            found += [f"{kind}: - {line}" for line in before if line not in after]
            found += [f"{kind}: + {line}" for line in after if line not in before]
            if sorted(before) != sorted(after) and not found:
                found.append(f"{kind}: the same lines, but not as often")
        return found

    def wait_until_same(self, within_s: float = 10.0) -> None:
        """Return once the host is as it was; fail with all differences when it is not in time."""
        deadline = time.monotonic() + within_s
        while different := self.differences(HostState.now()):
            assert time.monotonic() < deadline, "the host is not as it was:\n" + "\n".join(different)
            time.sleep(0.05)


def _said(argv: list[str]) -> tuple[str, ...]:
    program = shutil.which(argv[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        return ("this program is not here",)
    done = subprocess.run([program, *argv[1:]], capture_output=True, text=True, check=False)
    # A refusal (no root, no such table) is part of the state: it has to be the same afterwards.
    text = done.stdout or f"status {done.returncode}"
    return tuple(line.strip() for line in VOLATILE.sub("", text).splitlines() if line.strip())


def _mounts() -> tuple[str, ...]:
    return tuple(sorted(Path("/proc/self/mountinfo").read_text().splitlines()))


def _settings() -> Iterator[str]:
    root = "/proc/sys"
    for folder, _, files in os.walk(root):
        for name in sorted(files):
            path = f"{folder}/{name}"
            key = path.removeprefix(f"{root}/")
            if NOT_SETTINGS.fullmatch(key) or not Path(path).stat().st_mode & 0o444:
                continue
            try:
                with open(path, "rb") as file:
                    yield f"{key} = {file.read()!r}"
            except OSError as refused:
                yield f"{key}: {refused.errno}"


def _files() -> Iterator[str]:
    for path in FILES:
        try:
            yield f"{path}: {Path(path).read_bytes()!r}"
        except OSError as refused:
            yield f"{path}: {refused.errno}"
    for folder in FOLDERS:
        status = Path(folder).stat() if Path(folder).exists() else None
        yield f"{folder}: {status and (status.st_mode, status.st_ino)}"
        for inner, folders, files in os.walk(folder):
            yield from (f"{inner}/{name}" for name in sorted([*folders, *files]))
    yield from sorted(str(path) for path in Path("/run").iterdir() if path.name not in ("mininetes", "xtables.lock"))
