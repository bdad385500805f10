"""Starting and ending the containers of one pod: commands in the shim, responders and built-ins in the engine."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from mininetes.agents.kubelet import executing, termination
from mininetes.agents.kubelet.container_record import RUNTIME, ContainerRecord
from mininetes.agents.kubelet.context import Context
from mininetes.agents.kubelet.environment import Surroundings, command_line, environment
from mininetes.agents.kubelet.executing import Place
from mininetes.agents.kubelet.pod_sandbox import PodSandbox
from mininetes.agents.kubelet.pod_spec import Pod, declared_ports, image_key, shown_name, specs_by_name, uid_of
from mininetes.agents.kubelet.prober import ContainerProber, ProbeKind, ProbeSpec, Target
from mininetes.agents.shim.client import ProcessState
from mininetes.agents.shim.log_files import LogFile
from mininetes.errors import MininetesError
from mininetes.lab.filesystem import node_path

LOGS = "/var/log/pods"
LINKS = "/var/log/containers"
_KILLED = 128 + signal.SIGKILL
_TERMINATED = 128 + signal.SIGTERM


def log_folder(pod: Pod, container: str) -> str:
    """Where a container's logs are, in its node: one file for each start, N.log."""
    metadata = pod["metadata"]
    return f"{LOGS}/{metadata['namespace']}_{metadata['name']}_{metadata['uid']}/{container}"


class ContainerRuns:
    """The containers of one pod. ``changed`` is called when a probe's result or an end is to be acted on."""

    def __init__(
        self, context: Context, pod: Pod, sandbox: PodSandbox, records: dict[str, ContainerRecord],
        changed: Callable[[], None],
    ) -> None:  # fmt: skip
        self._context = context
        self.pod = pod
        self._sandbox = sandbox
        self.records = records
        self._changed = changed
        self._probers: dict[str, ContainerProber] = {}
        self._starting = ""
        self._early: tuple[int, float] | None = None
        """Status and time of the end of the process that is being started, when it ended before that was noted."""
        self.to_kill: dict[str, str] = {}
        """Containers whose liveness or startup probe failed, and how the event about it says so."""

    def place(self, spec: Mapping[str, Any]) -> Place:
        """Where commands of a container run. Raises ConfigError."""
        variables = environment(self.pod, spec, self._surroundings())
        record = self._sandbox.record
        return Place(uid_of(self.pod), self._sandbox.netns, record.pause, variables, str(spec.get("workingDir") or "/"))

    async def start(self, record: ContainerRecord, spec: Mapping[str, Any]) -> None:
        """Start a container. Raises ConfigError, or MininetesError when its program cannot be run."""
        context = self._context
        await context.objects_of(self.pod)
        number = record.starts
        folder = log_folder(self.pod, record.name)
        log = node_path(context.node, f"{folder}/{number}.log")
        # a name of its own even where a kubelet before died while it started the same
        process = f"{context.node}/{uid_of(self.pod)}/{record.name}/{number}/{secrets.token_hex(4)}"
        identity = hashlib.sha256(process.encode()).hexdigest()
        self._starting, self._early = process, None
        self._drop_log(f"{folder}/{number - 2}.log")
        if record.kind == "command":
            place = self.place(spec)
            argv = command_line(spec, place.environment)
            await context.shim.run(
                process,
                sandbox=place.pause,
                argv=argv,
                env={**({"TERM": "xterm"} if spec.get("tty") else {}), **place.environment},
                cwd=place.cwd,
                log=log,
                stdin=bool(spec.get("stdin")),
                stdin_once=bool(spec.get("stdinOnce")),
                terminal=bool(spec.get("tty")),
            )
        elif record.kind == "responder":
            await self._serve(log, record, spec)
        else:
            await self._start_builtin(process, log, spec)
        self._link(record.name, identity, f"{folder}/{number}.log")
        started = ProbeSpec.of("startup", spec) is None
        ready = started and ProbeSpec.of("readiness", spec) is None
        record.begin(time.time(), process, f"{RUNTIME}://{identity}", started=started, ready=ready)
        if self._early is not None:
            status, at = self._early
            record.end(at, status, message=self._last_words(record, status))
            return
        self.probe(record, spec)

    def failed_to_start(self, record: ContainerRecord, why: str) -> None:
        """Note a start that came to nothing: it counts, as a container runtime's StartError does."""
        now = time.time()
        record.begin(now, "", "", started=False, ready=False)
        record.end(now, 128, "StartError", why)

    def target(self, spec: Mapping[str, Any]) -> Target:
        """A container as probes and hooks reach it. Raises ConfigError."""
        place = self.place(spec)

        async def execute(argv: list[str], timeout_s: float) -> tuple[int, str]:
            return await executing.run(self._context, place, argv, timeout_s)

        return Target.of(spec, self._context.place.netns, self._sandbox.record.address, execute)

    def probe(self, record: ContainerRecord, spec: Mapping[str, Any]) -> None:
        """Begin to probe a running container that has probes."""
        if not any(spec.get(f"{kind}Probe") for kind in ("startup", "liveness", "readiness")):
            return
        name = record.name
        self._probers[name] = ContainerProber(
            spec,
            self.target(spec),
            started=record.started,
            tell=lambda kind, good, why: self._heed(record, spec, kind, good, why),
            unhealthy=lambda kind, why: self._event("Warning", "Unhealthy", f"{kind.capitalize()} probe failed: {why}"),
        )

    def _heed(self, record: ContainerRecord, spec: Mapping[str, Any], kind: ProbeKind, good: bool, why: str) -> None:
        """Take a probe's result over into the record."""
        if kind == "readiness":
            record.ready = good
        elif kind == "startup" and good:
            record.started = True
            record.ready = ProbeSpec.of("readiness", spec) is None
        elif not good:
            self.to_kill[record.name] = f"Container {record.name} failed {kind} probe, will be restarted"
        self._context.log.info("SyncLoop (probe)", probe=kind, status=good, pod=shown_name(self.pod), output=why)
        self._changed()

    def exited(self, process: str, status: int, at: float) -> None:
        """Note that a process has ended."""
        for record in self.records.values():
            if record.process == process:
                self.stop_probing(record.name)
                record.end(at, status, message=self._last_words(record, status))
                return
        if process == self._starting:
            self._early = (status, at)

    def _last_words(self, record: ContainerRecord, status: int) -> str:
        """The termination message of a command that has ended."""
        spec = specs_by_name(self.pod).get(record.name, {})
        log = node_path(self._context.node, f"{log_folder(self.pod, record.name)}/{record.restarts}.log")
        return termination.message(self._context.node, uid_of(self.pod), spec, status, log)

    def stop_probing(self, name: str) -> None:
        """Probe a container no more."""
        prober = self._probers.pop(name, None)
        if prober is not None:
            prober.stop()
        self.to_kill.pop(name, None)

    def stop_all_probes(self) -> None:
        """Probe nothing any more."""
        for name in list(self._probers):
            self.stop_probing(name)

    async def ask_to_end(self, record: ContainerRecord) -> None:
        """Have a running container end: SIGTERM for a command; the others are ended by this."""
        self.stop_probing(record.name)
        if record.kind == "command":
            await self._context.shim.kill(record.process, signal.SIGTERM)
            return
        await self._stop_in_engine(record)
        record.end(time.time(), _TERMINATED)

    async def kill(self, record: ContainerRecord) -> None:
        """Kill a command, with what it started. Its end is heard of later."""
        await self._context.shim.kill(record.process, signal.SIGKILL, whole=True)

    async def gone(self) -> None:
        """Note that all that runs has ended, as the sandbox has."""
        for record in self.records.values():
            if record.state == "running":
                self.stop_probing(record.name)
                if record.kind != "command":
                    await self._stop_in_engine(record)
                record.end(time.time(), _KILLED)

    async def adopt(self, specs: Mapping[str, Mapping[str, Any]]) -> None:
        """Take over the containers that a kubelet before started, as they are by now.

        What it had begun to start when it was ended, and did not note any more, is killed.
        """
        known = await self._context.shim.processes(f"{self._context.node}/{uid_of(self.pod)}/")
        noted = {self._sandbox.record.pause, *(record.process for record in self.records.values())}
        for name, process in known.items():
            if process.status is None and name not in noted:
                await self._context.shim.kill(name, signal.SIGKILL, whole=True)
        for record in self.records.values():
            if record.state == "running":
                self._adopt_one(record, known.get(record.process))
            if record.state == "running":
                self.probe(record, specs[record.name])

    def _adopt_one(self, record: ContainerRecord, process: ProcessState | None) -> None:
        """Note how a container ended that no longer runs."""
        if record.kind == "builtin" and record.process not in self._context.shim.kept:
            record.end(time.time(), _KILLED)
        elif record.kind == "command" and process is None:
            record.end(time.time(), _KILLED, "ContainerStatusUnknown", "it ended while no kubelet ran")
        elif record.kind == "command" and process is not None and process.status is not None:
            record.end(process.at, process.status, message=self._last_words(record, process.status))

    async def _serve(self, log: str, record: ContainerRecord, spec: Mapping[str, Any]) -> None:
        """Have the responder answer at this container's ports besides those of the pod's others."""
        ports = declared_ports(*self._responding(), spec)
        name, node = shown_name(self.pod), self._context.node
        await self._context.port_server.serve(name, node=node, netns=self._sandbox.netns, ports=ports)
        own = ", ".join(f"{port}/{protocol}" for port, protocol in declared_ports(spec)) or "no ports"
        with LogFile(log) as file:
            file.line(f"responder: {name} on {node} ({self._sandbox.record.address}) answers at {own}")

    def _responding(self, but: str = "") -> list[Mapping[str, Any]]:
        specs = [*self.pod["spec"].get("containers", []), *self.pod["spec"].get("initContainers", [])]
        return [
            spec
            for spec in specs
            if (record := self.records[spec["name"]]).kind == "responder"
            and record.state == "running"
            and record.name != but
        ]

    async def _start_builtin(self, process: str, log: str, spec: Mapping[str, Any]) -> None:
        key = image_key(str(spec.get("image", "")), self._context.builtins)
        assert key is not None, "kind_of() found it"
        file = LogFile(log)
        try:
            handle = await self._context.builtins[key].start(self._sandbox.netns, self.pod, file.line)
        except BaseException:
            file.close()
            raise

        async def stop() -> None:
            await handle.stop()
            file.close()

        self._context.shim.kept[process] = stop

    async def _stop_in_engine(self, record: ContainerRecord) -> None:
        """Stop a responder or a built-in program. One that does not stop is noted, and left."""
        try:
            if record.kind == "builtin":
                stop = self._context.shim.kept.pop(record.process, None)
                if stop is not None:
                    await stop()
                return
            others = declared_ports(*self._responding(but=record.name))
            name = shown_name(self.pod)
            if others:
                place = {"node": self._context.node, "netns": self._sandbox.netns}
                await self._context.port_server.serve(name, **place, ports=others)
            else:
                await self._context.port_server.stop(name)
        except MininetesError as failed:
            self._context.log.error("Container could not be stopped", container=record.name, err=failed)

    def _surroundings(self) -> Surroundings:
        context, namespace = self._context, self.pod["metadata"]["namespace"]
        return Surroundings(
            node=context.node,
            node_address=context.place.address,
            pod_address=self._sandbox.record.address,
            service_host=context.options.service_host,
            service_port=context.options.service_port,
            objects={(kind, name): obj for (kind, ns, name), obj in context.objects.items() if ns == namespace},
        )

    def _link(self, container: str, identity: str, log: str) -> None:
        """Show the log under the name that log collectors look for."""
        metadata = self.pod["metadata"]
        name = f"{metadata['name']}_{metadata['namespace']}_{container}-{identity}.log"
        folder = node_path(self._context.node, LINKS)
        os.makedirs(folder, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.symlink(log, f"{folder}/{name}")

    def _drop_log(self, path: str) -> None:
        """Remove the log of a run that nobody can ask for any more: the last two are kept."""
        for each in (path, path + ".1"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(node_path(self._context.node, each))

    def drop_logs(self) -> None:
        """Remove all logs of the pod. May be called twice."""
        metadata, node = self.pod["metadata"], self._context.node
        shutil.rmtree(node_path(node, os.path.dirname(log_folder(self.pod, "any"))), ignore_errors=True)
        for link in glob.glob(f"{metadata['name']}_{metadata['namespace']}_*.log", root_dir=node_path(node, LINKS)):
            path = node_path(node, f"{LINKS}/{link}")
            if not os.path.exists(node_path(node, os.readlink(path))):
                os.unlink(path)

    def _event(self, kind: Any, reason: str, message: str) -> None:
        self._context.events.record(self.pod, kind, reason, message)
