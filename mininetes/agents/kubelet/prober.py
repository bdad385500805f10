"""Startup, liveness and readiness probes of one container: they go from the node's namespace to the pod's address."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp

from mininetes.deadline import within
from mininetes.kernel.netns import in_netns, socket_in

ProbeKind = Literal["startup", "liveness", "readiness"]
Exec = Callable[[list[str], float], Awaitable[tuple[int, str]]]
"""Runs a command in the container within so many seconds: its exit status and output. Raises asyncio.TimeoutError."""

USER_AGENT = "kube-probe/1.30"
_SHOWN_BYTES = 10 << 10


@dataclass(frozen=True)
class ProbeSpec:
    """A probe with Kubernetes' defaults filled in; times in seconds."""

    kind: ProbeKind
    action: Mapping[str, Any]
    initial_delay_s: float
    period_s: float
    timeout_s: float
    success_threshold: int
    failure_threshold: int

    @classmethod
    def of(cls, kind: ProbeKind, container: Mapping[str, Any]) -> ProbeSpec | None:
        """The container's probe of that kind; None when it has none."""
        probe = container.get(f"{kind}Probe")
        if not probe:
            return None
        return cls(
            kind,
            probe,
            float(probe.get("initialDelaySeconds") or 0),
            float(probe.get("periodSeconds") or 10),
            float(probe.get("timeoutSeconds") or 1),
            int(probe.get("successThreshold") or 1),
            int(probe.get("failureThreshold") or 3),
        )


@dataclass(frozen=True)
class Target:
    """The container that is probed: the namespace that probes come from, its pod's address, its ports by name."""

    node_netns: str
    address: str
    ports: Mapping[str, int]
    execute: Exec

    @classmethod
    def of(cls, container: Mapping[str, Any], node_netns: str, address: str, execute: Exec) -> Target:
        """The target that a container's description makes."""
        ports = {str(p["name"]): int(p["containerPort"]) for p in container.get("ports") or [] if p.get("name")}
        return cls(node_netns, address, ports, execute)

    def port(self, wanted: Any) -> int:
        """The number of a port given by number or name. Raises ValueError."""
        if isinstance(wanted, int) or str(wanted).isdigit():
            return int(wanted)
        if wanted not in self.ports:
            raise ValueError(f'couldn\'t find port: "{wanted}"')
        return self.ports[wanted]


async def probe(spec: ProbeSpec, target: Target) -> str:
    """Probe once; returns what is wrong, in a kubelet's words, "" when nothing is."""
    is_exec = "exec" in spec.action
    try:
        async with within(None if is_exec else spec.timeout_s):
            return await _done(spec, target)
    except asyncio.TimeoutError:
        if is_exec:
            return f"command timed out after {spec.timeout_s:g}s"
        return "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
    except ValueError as wrong:
        return str(wrong)


async def _done(spec: ProbeSpec, target: Target) -> str:
    action = spec.action
    if "httpGet" in action:
        return await _http(action["httpGet"], target)
    if "tcpSocket" in action:
        return await _tcp(action["tcpSocket"], target)
    if "exec" in action:
        status, output = await target.execute([str(word) for word in action["exec"]["command"]], spec.timeout_s)
        return "" if status == 0 else output.strip()[:_SHOWN_BYTES] or f"command exited with status {status}"
    given = ", ".join(key for key in action if not key.endswith(("Seconds", "Threshold"))) or "nothing"
    return f"probe with {given} is not known here: httpGet, tcpSocket or exec"


async def _http(action: Mapping[str, Any], target: Target) -> str:
    host = action.get("host") or target.address
    scheme = str(action.get("scheme") or "HTTP").lower()
    path = str(action.get("path") or "/")
    url = f"{scheme}://{host}:{target.port(action['port'])}{path if path.startswith('/') else '/' + path}"
    headers = {str(each["name"]): str(each["value"]) for each in action.get("httpHeaders") or []}

    def made(address: tuple[Any, ...]) -> socket.socket:
        with in_netns(target.node_netns):
            return socket.socket(address[0], address[1], address[2])

    connector = aiohttp.TCPConnector(ssl=False, force_close=True, family=socket.AF_INET, socket_factory=made)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, headers={"User-Agent": USER_AGENT}) as session,
            session.get(url, headers=headers, allow_redirects=False) as response,
        ):
            good = 200 <= response.status < 400
            return "" if good else f"HTTP probe failed with statuscode: {response.status}"
    except (aiohttp.ClientError, OSError) as failed:
        return f'Get "{url}": {_why(failed, host, target.port(action["port"]))}'


async def _tcp(action: Mapping[str, Any], target: Target) -> str:
    host, port = action.get("host") or target.address, target.port(action["port"])
    try:
        with socket_in(target.node_netns, socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, (host, port))
    except OSError as failed:
        return _why(failed, host, port)
    return ""


def _why(failed: BaseException, host: str, port: int) -> str:
    error = failed.os_error if isinstance(failed, aiohttp.ClientConnectorError) else failed
    if isinstance(error, OSError) and error.errno:
        return f"dial tcp {host}:{port}: connect: {os.strerror(error.errno).lower()}"
    return str(failed) or type(failed).__name__


class ContainerProber:
    """Probes one run of a container until `stop`. ``tell(kind, good, message)`` hears of each change.

    For startup and readiness: whether it holds now, first and whenever that changes. For startup and
    liveness that failed too often: not good, once; the container is to be killed then. ``unhealthy``
    hears of every failure.
    """

    def __init__(
        self,
        container: Mapping[str, Any],
        target: Target,
        *,
        started: bool,
        tell: Callable[[ProbeKind, bool, str], None],
        unhealthy: Callable[[ProbeKind, str], None],
    ) -> None:
        self._target = target
        self._tell = tell
        self._unhealthy = unhealthy
        self._started = asyncio.Event()
        specs = [ProbeSpec.of(kind, container) for kind in ("startup", "liveness", "readiness")]
        wanted = [spec for spec in specs if spec is not None]
        if started or not any(spec.kind == "startup" for spec in wanted):
            self._started.set()
            wanted = [spec for spec in wanted if spec.kind != "startup"]
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._repeat(spec), name=f"{spec.kind} probe") for spec in wanted]

    def stop(self) -> None:
        """Probe no more. May be called twice."""
        for task in self._tasks:
            task.cancel()

    async def _repeat(self, spec: ProbeSpec) -> None:
        if spec.kind != "startup":
            await self._started.wait()
        await asyncio.sleep(spec.initial_delay_s)
        held: bool | None = None
        row, last = 0, None
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            wrong = await probe(spec, self._target)
            good = not wrong
            row = row + 1 if good == last else 1
            last = good
            if wrong:
                self._unhealthy(spec.kind, wrong)
            if row >= (spec.success_threshold if good else spec.failure_threshold) and good != held:
                held = good
                if spec.kind != "liveness" or not good:
                    self._tell(spec.kind, good, wrong)
                if spec.kind == "startup":
                    self._started.set()
                    return
            due = max(due + spec.period_s, loop.time())
            await asyncio.sleep(due - loop.time())


async def read_all(reading: int, limit: int = _SHOWN_BYTES) -> str:
    """What comes out of a pipe until its end; no more than ``limit`` bytes are kept."""
    loop = asyncio.get_running_loop()
    os.set_blocking(reading, False)
    kept = b""
    some = asyncio.Event()
    loop.add_reader(reading, some.set)
    try:
        while True:
            await some.wait()
            some.clear()
            with contextlib.suppress(BlockingIOError):
                data = os.read(reading, 1 << 16)
                if not data:
                    return kept.decode(errors="replace")
                kept = (kept + data)[:limit]
    finally:
        loop.remove_reader(reading)
