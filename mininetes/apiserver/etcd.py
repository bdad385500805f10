"""Real etcd processes (Debian's etcd-server) on control-plane nodes, one member each.

    node1 192.168.1.11            node2                 node3
    2379 clients <- API server    2379                  2379      on the node's address and on 127.0.0.1
    2380 peers  <--------------->  2380 <--------------> 2380      over the emulated links

Their data lies in the lab's memory and goes with it, so nothing is synced to a disk. A member
keeps about 130 MB there: etcd reserves its log in pieces of 64 MB.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from mininetes.apiserver.store.gateway import connector_in
from mininetes.deadline import within
from mininetes.errors import MininetesError, MissingFeature
from mininetes.kernel.processes import HERE, Namespaces
from mininetes.kernel.processes import run as run_process
from mininetes.lab.filesystem import node_path

DATA_DIRECTORY = "/var/lib/etcd"
"""Private to each node."""

OLDEST = (3, 4)
"""The first version whose JSON gateway is below /v3."""

START_S = 30.0
_STOP_S = 5.0
_POLL_S = 0.05
_HEARTBEAT_MS = 200
_ELECTION_MS = 2000
"""Twice etcd's own defaults: a loaded machine must not look like a dead leader. A lost one is replaced within 4 s."""

_KEEP_REVISIONS = 10_000
_LARGEST_BYTES = 4 << 20
"""Of a write; etcd's own 1.5 MB are less than the 3 MiB that an API server takes."""


@dataclass(frozen=True)
class EtcdMember:
    """Where one member runs. ``data_directory`` is a path in its namespaces, ``log_path`` one of the engine's."""

    name: str
    address: str
    namespaces: Namespaces
    data_directory: str
    log_path: str
    client_port: int = 2379
    peer_port: int = 2380

    @classmethod
    def on_node(cls, node: str, address: str, holder_pid: int, log_directory: str = "/var/log") -> EtcdMember:
        """The member of a node of the lab."""
        log_path = node_path(node, f"{log_directory}/etcd.log")
        return cls(node, address, Namespaces(of_pid=holder_pid), DATA_DIRECTORY, log_path)

    @property
    def netns(self) -> str | None:
        """The network namespace's path, for the engine; None for the caller's."""
        pid = self.namespaces.of_pid
        return self.namespaces.net or (f"/proc/{pid}/ns/net" if pid is not None else None)

    @property
    def client_url(self) -> str:
        """Where it answers clients on other nodes."""
        return f"http://{self.address}:{self.client_port}"

    @property
    def local_url(self) -> str:
        """Where it answers clients on its own node."""
        return f"http://127.0.0.1:{self.client_port}"

    @property
    def peer_url(self) -> str:
        """Where the other members reach it."""
        return f"http://{self.address}:{self.peer_port}"


def arguments(member: EtcdMember, members: Sequence[EtcdMember]) -> list[str]:
    """The command line of one member (as its manifest shows it too)."""
    listen = dict.fromkeys([member.client_url, member.local_url])
    return [
        "etcd",
        f"--name={member.name}",
        f"--data-dir={member.data_directory}",
        f"--listen-client-urls={','.join(listen)}",
        f"--advertise-client-urls={member.client_url}",
        f"--listen-peer-urls={member.peer_url}",
        f"--initial-advertise-peer-urls={member.peer_url}",
        f"--initial-cluster={','.join(f'{each.name}={each.peer_url}' for each in members)}",
        "--initial-cluster-state=new",
        f"--heartbeat-interval={_HEARTBEAT_MS}",
        f"--election-timeout={_ELECTION_MS}",
        "--pre-vote=true",
        "--auto-compaction-mode=revision",
        f"--auto-compaction-retention={_KEEP_REVISIONS}",
        f"--max-request-bytes={_LARGEST_BYTES}",
        "--unsafe-no-fsync=true",
        "--logger=zap",
        "--log-outputs=stderr",
    ]


class EtcdProcesses:
    """The members' processes. Each can be killed and started again with its data; `stop` ends them all.

    ``launcher`` is put before each command line, for a program that starts it.
    """

    def __init__(self, members: Sequence[EtcdMember], *, launcher: Sequence[str] = ()) -> None:
        self._launcher = launcher
        self.members = {each.name: each for each in members}
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    def endpoints(self, node: str) -> list[str]:
        """What a client on that node tries in turn: its own member, then the others."""
        own = [self.members[node].local_url] if node in self.members else []
        return own + [each.client_url for each in self.members.values() if each.name != node]

    async def start(self, *, timeout_s: float = START_S) -> None:
        """Start all members and wait until each answers with a majority behind it.

        Raises MissingFeature without a fitting etcd; MininetesError when a member ends or is not well
        in time, and then none is left.
        """
        await asyncio.get_running_loop().run_in_executor(None, check_version)
        try:
            for name in self.members:
                await self.start_member(name)
            await asyncio.gather(*(self.wait_healthy(name, timeout_s=timeout_s) for name in self.members))
        except BaseException:
            await self.stop()
            raise

    async def start_member(self, name: str) -> None:
        """Start one member's process (anew, with the data that it has); does not wait for it to be well."""
        member = self.members[name]
        if self.running(name):
            raise MininetesError(f"{name}: etcd runs already")
        Path(member.log_path).parent.mkdir(parents=True, exist_ok=True)
        argv = [*member.namespaces.prefix(), *self._launcher, *arguments(member, list(self.members.values()))]
        with open(member.log_path, "ab") as log:
            self._processes[name] = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C in the terminal is not for it
                env={"PATH": os.environ.get("PATH", os.defpath)},  # ETCD_... of the user's would go before the flags
            )

    def running(self, name: str) -> bool:
        """Whether the member's process is there."""
        return self.pid(name) is not None

    def pid(self, name: str) -> int | None:
        """The process of a member; None when there is none."""
        process = self._processes.get(name)
        return process.pid if process is not None and process.returncode is None else None

    async def wait_healthy(self, name: str, *, timeout_s: float = START_S) -> None:
        """Return when the member answers and sees a majority. Raises MininetesError with its last log lines."""
        member = self.members[name]
        end = asyncio.get_running_loop().time() + timeout_s
        async with aiohttp.ClientSession(connector=connector_in(member.netns)()) as http:
            while True:
                said = await _health(http, member)
                if said == "true":
                    return
                process = self._processes.get(name)
                if process is None or process.returncode is not None:
                    status = "was not started" if process is None else f"ended with status {process.returncode}"
                    raise MininetesError(f"{name}: etcd {status}: {_last_lines(member.log_path)}")
                if asyncio.get_running_loop().time() >= end:
                    lines = _last_lines(member.log_path)
                    raise MininetesError(f"{name}: etcd is not well after {timeout_s:g} s ({said}): {lines}")
                await asyncio.sleep(_POLL_S)

    async def kill(self, name: str) -> None:
        """Kill one member at once; its data stays. Does nothing when it does not run."""
        await self._end(name, signal.SIGKILL)

    async def stop(self) -> None:
        """End all members, their data stays. May be called twice."""
        await asyncio.gather(*(self._end(name, signal.SIGTERM) for name in self.members))

    async def _end(self, name: str, by: signal.Signals) -> None:
        process = self._processes.get(name)
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(by)
        try:
            async with within(_STOP_S):
                await process.wait()
        except asyncio.TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def check_version() -> None:
    """Raise MissingFeature unless an etcd of at least version 3.4 is installed."""
    needed_for = "controlPlane: {store: etcd}"
    wanted = ".".join(str(number) for number in OLDEST)
    remedy = f"install etcd-server, version {wanted} or newer (Debian 12, Ubuntu 24.04), or use store: memory"
    if shutil.which("etcd") is None:
        raise MissingFeature("etcd", needed_for, remedy)
    said = run_process(["etcd", "--version"], namespaces=HERE, timeout_s=10.0, check=False).stdout
    found = re.search(r"etcd Version: (\d+)\.(\d+)", said)
    if found is None or tuple(int(number) for number in found.groups()) < OLDEST:
        raise MissingFeature(f"etcd {wanted} (here: {said.splitlines()[:1]})", needed_for, remedy)


async def _health(http: aiohttp.ClientSession, member: EtcdMember) -> str:
    """What the member says of itself: "true", or why not."""
    try:
        timeout = aiohttp.ClientTimeout(total=2.0)
        async with http.get(f"{member.local_url}/health", timeout=timeout) as response:
            answer = await response.json(content_type=None)
            return str(answer.get("health", "")).lower()
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as failed:
        return str(failed) or type(failed).__name__


def _last_lines(path: str, count: int = 3) -> str:
    try:
        with open(path, errors="replace") as log:
            return " | ".join(log.read().splitlines()[-count:])
    except OSError as failed:
        return str(failed)
