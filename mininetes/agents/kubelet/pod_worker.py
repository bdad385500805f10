"""One pod on its node, from its sandbox to its end: the worker that brings it to what its object says."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from mininetes.agents.kubelet import admission, checkpoint
from mininetes.agents.kubelet.admission import Rejection
from mininetes.agents.kubelet.checkpoint import PodRecord, SandboxRecord
from mininetes.agents.kubelet.container_record import CRASH_LOOP, ContainerRecord
from mininetes.agents.kubelet.container_runs import ContainerRuns
from mininetes.agents.kubelet.context import Context
from mininetes.agents.kubelet.ending import PodEnding
from mininetes.agents.kubelet.environment import ConfigError
from mininetes.agents.kubelet.hooks import run_hook
from mininetes.agents.kubelet.interfaces import RunningPod
from mininetes.agents.kubelet.pod_sandbox import PodSandbox, describe_failure
from mininetes.agents.kubelet.pod_spec import (
    Pod,
    containers,
    deadline_of,
    declared_ports,
    full_name,
    init_containers,
    is_host_network,
    is_sidecar,
    kind_of,
    restart_policy,
    specs_by_name,
    uid_of,
)
from mininetes.agents.kubelet.status import DEADLINE_EXCEEDED, differs, has_begun, is_done, is_ready, phase, pod_status
from mininetes.agents.objects import is_deleted, is_finished, rfc3339
from mininetes.agents.running import changed_within, end
from mininetes.agents.shim.client import SandboxGone
from mininetes.apiserver.client import Unreachable
from mininetes.errors import MininetesError

LONGEST_RETRY_S = 60.0


class PodWorker:
    """Keeps one pod (one uid) as it is to be. `run` ends when the pod is gone from node and API."""

    def __init__(self, context: Context, pod: dict[str, Any], record: PodRecord | None = None) -> None:
        self.context = context
        self.pod: Pod = pod
        self.removed = False
        """The API no longer has it."""
        self._rejected = admission.rejected_before(pod)
        self._adopted = record is not None
        self.record = record or PodRecord(pod, SandboxRecord(), self._new_records(pod), rfc3339(time.time()))
        self.sandbox = PodSandbox(context, pod, self.record.sandbox)
        self.changed = asyncio.Event()
        self.runs = ContainerRuns(context, pod, self.sandbox, self.record.containers, self.changed.set)
        self._status: dict[str, Any] = {}
        self._lost = False
        self._retry_s = 0.0
        self._sandbox_due = 0.0
        """When the next attempt at a sandbox may be made, by the monotonic clock, whatever happens before."""
        self._initialised = self.record.sandbox.made and has_begun(pod, self.record.containers)
        """Whether the main containers need not wait for the sidecars (any more)."""
        self._failure: Mapping[str, str] | None = None
        self._told_backoff: set[tuple[str, int]] = set()

    def _new_records(self, pod: Pod) -> dict[str, ContainerRecord]:
        found = {}
        for spec in (*init_containers(pod), *containers(pod)):
            kind = kind_of(spec, self.context.builtins)
            is_init = spec in init_containers(pod)
            image, sidecar = str(spec.get("image") or ""), is_init and is_sidecar(spec)
            record = ContainerRecord(spec["name"], kind, image, is_init=is_init, is_sidecar=sidecar)
            if not is_init and init_containers(pod):
                record.reason = "PodInitializing"
            found[spec["name"]] = record
        return found

    # --- what others tell it ----------------------------------------------------------------------------------------

    def update(self, pod: dict[str, Any]) -> None:
        """The API has the pod like this now."""
        self.pod = self.runs.pod = pod
        for spec in containers(pod):
            record, image = self.record.containers.get(spec["name"]), str(spec.get("image") or "")
            if record is not None and record.image != image:
                record.image = image
                if record.state == "running":
                    self.runs.to_kill[record.name] = f"Container {record.name} definition changed, will be restarted"
        if self._status and differs(pod.get("status") or {}, self._status):
            self.context.statuses.resend(uid_of(pod))
        self.changed.set()

    def reject(self, why: Rejection) -> None:
        """The node does not take it: it fails without having begun."""
        self._rejected = why
        self.event("Warning", why.reason, why.message.removeprefix("Pod was rejected: "))

    @property
    def holds_ports(self) -> bool:
        """Whether ports of the node are its own still, or are to become so."""
        return self.record.sandbox.made or not (self.removed or is_deleted(self.pod))

    def remove(self) -> None:
        """The API has it no more."""
        self.removed = True
        self.changed.set()

    def exited(self, process: str, status: int, at: float) -> None:
        """One of its processes has ended."""
        if process == self.record.sandbox.pause:
            self._lost = True
        elif "/pause/" not in process:
            self.runs.exited(process, status, at)
        self.changed.set()

    def shown(self) -> RunningPod | None:
        """The pod for others to see; None while it has no sandbox."""
        sandbox = self.record.sandbox
        if not sandbox.made:
            return None
        return RunningPod(
            namespace=self.pod["metadata"]["namespace"],
            name=self.pod["metadata"]["name"],
            uid=uid_of(self.pod),
            node=self.context.node,
            address=sandbox.address,
            netns=self.sandbox.netns,
            pause_pid=sandbox.pause_pid or None,
            ports=declared_ports(*containers(self.pod)),
            host_network=is_host_network(self.pod),
            ready=is_ready(self._status),
            result=sandbox.result,
        )

    def current(self) -> dict[str, Any]:
        """The pod's object with the status that this kubelet knows."""
        return {**self.pod, "status": self._status or self.pod.get("status") or {}}

    # --- the loop ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until the pod is gone. When cancelled, what runs goes on running."""
        try:
            if self._adopted:
                await self._adopt()
            while True:
                self.changed.clear()
                if is_deleted(self.pod) or self.removed:
                    await PodEnding(self).run()
                    return
                due_s = await self._sync()
                await changed_within(self.changed, due_s)
        finally:
            self._adopted = True  # if it is run again, it takes over what it left itself
            self.runs.stop_all_probes()

    async def _adopt(self) -> None:
        """Take over what a kubelet before left running."""
        self._lost = await self.sandbox.is_lost()
        specs = specs_by_name(self.pod)
        await self.runs.adopt(specs)
        self.context.log.info("Adopted pod", v=2, pod=full_name(self.pod), podIP=self.record.sandbox.address)

    async def _sync(self) -> float | None:
        """Do what is to be done now; returns in how many seconds there is more (None: when something changes)."""
        try:
            due_s = await self._step()
        except MininetesError as failed:
            self.context.log.error("Error syncing pod, skipping", pod=full_name(self.pod), err=failed)
            due_s = self._next_retry()
        self.report()
        left_s = None if self._has_ended() else self._left_s()
        return _soonest(due_s, left_s)

    async def _step(self) -> float | None:
        if self._rejected is not None:
            return None
        if self._left_s() == 0 and not self._has_ended():
            self._failure = DEADLINE_EXCEEDED
            self.event("Normal", **DEADLINE_EXCEEDED)
        if self._lost and not self._has_ended():
            await self._let_sandbox_go()
        if self._has_ended():
            self._lost = False
            if self.record.sandbox.made:
                self.report()
                await PodEnding(self).stop_all()
                await self.runs.gone()
                await self.sandbox.remove()
                self.save()
            return None
        if not self.record.sandbox.made:
            if (wait_s := self._sandbox_due - time.monotonic()) > 0:
                return wait_s
            if not await self._make_sandbox():
                retry_s = self._next_retry()
                self._sandbox_due = time.monotonic() + retry_s
                return retry_s
            self._retry_s, self._initialised = 0.0, False
        for name, why in list(self.runs.to_kill.items()):
            await PodEnding(self).end_one(self.record.containers[name], why)
        return await self._run_containers()

    def _has_ended(self) -> bool:
        """Whether nothing of it is to run any more."""
        done = self._rejected is not None or self._failure is not None or is_finished(self.pod)
        return done or phase(self.pod, self.record.containers) in ("Succeeded", "Failed")

    def _left_s(self) -> float | None:
        """How long it may be active still; None when that is not limited."""
        due = deadline_of(self.pod, self.record.start_time)
        return None if due is None else max(0.0, due - time.time())

    def _is_to_go(self) -> bool:
        return is_deleted(self.pod) or self.removed or self._left_s() == 0

    def _next_retry(self) -> float:
        self._retry_s = min(self._retry_s * 2, LONGEST_RETRY_S) if self._retry_s else self.context.options.retry_s
        return self._retry_s

    async def _let_sandbox_go(self) -> None:
        """The pause process or the network namespace is gone: start anew, as a kubelet does."""
        self._lost = False
        self.event("Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
        await self.runs.gone()
        await self.sandbox.remove()
        self.save()

    async def _make_sandbox(self) -> bool:
        context = self.context
        failure = context.network_failure()
        if failure and not is_host_network(self.pod):
            self.event("Warning", "NetworkNotReady", f"network is not ready: {failure}")
            return False
        try:
            await self.sandbox.make(self.save)
        except (ConfigError, Unreachable) as failed:
            self.event("Warning", "FailedMount", str(failed))
        except (MininetesError, OSError) as failed:
            context.log.error("CreatePodSandbox for pod failed", pod=full_name(self.pod), err=failed)
            self.event("Warning", "FailedCreatePodSandBox", describe_failure(self.record.sandbox, failed))
        else:
            self.save()
            return True
        return False

    async def _run_containers(self) -> float | None:
        """Start what is to run and does not; returns when the next one is due."""
        due: list[float | None] = []
        for spec in init_containers(self.pod):
            record = self.record.containers[spec["name"]]
            due.append(await self._run(spec, record))
            if not (self._initialised or is_done(spec, record)):
                return _soonest(*due)
        self._initialised = True
        due += [await self._run(spec, self.record.containers[spec["name"]]) for spec in containers(self.pod)]
        if phase(self.pod, self.record.containers) in ("Succeeded", "Failed"):
            self.changed.set()
        return _soonest(*due)

    async def _run(self, spec: Mapping[str, Any], record: ContainerRecord) -> float | None:
        """Start a container if it is to be started now; returns in how many seconds it is due, None when it is not."""
        policy = "Always" if record.is_sidecar else restart_policy(self.pod)
        if self._is_to_go() or not record.wants_start(policy):
            return None
        options, now = self.context.options, time.time()
        at = record.restart_at(now, options.backoff_max_s)
        if at > now:
            self._back_off(record)
            return at - now
        is_restart = record.starts > 0
        try:
            await self.runs.start(record, spec)
        except SandboxGone:
            self._lost = True
            return 0.0
        except (ConfigError, Unreachable) as failed:
            record.wait("CreateContainerConfigError", str(failed))
            self.event("Warning", "Failed", f"Error: {failed}")
            return self._next_retry()
        except (MininetesError, OSError) as failed:
            self._failed_start(record, failed, policy)
        else:
            self.event("Normal", "Started", f"Started container {record.name}")
            self.context.log.info("Started container", v=2, pod=full_name(self.pod), container=record.name)
        if is_restart:
            record.lengthen_backoff(options.backoff_s, options.backoff_max_s)
        self.save()
        await self._after_start(spec, record)
        return None if record.state == "running" else 0.0

    async def _after_start(self, spec: Mapping[str, Any], record: ContainerRecord) -> None:
        """Run a container's postStart hook; one that fails ends the container.

        Nothing else of the pod is begun meanwhile, and the API does not hear that it runs, as with a kubelet.
        """
        hook = (spec.get("lifecycle") or {}).get("postStart")
        if not hook or record.state != "running":
            return
        task = asyncio.get_running_loop().create_task(run_hook(self.context, self.runs, spec, hook, None))
        task.add_done_callback(lambda _: self.changed.set())
        try:
            while not task.done() and record.state == "running" and not self._is_to_go():
                await changed_within(self.changed, self._left_s())
        finally:
            await end([task])
            self.changed.set()  # what else was heard meanwhile is acted on then
        if not task.cancelled() and (wrong := task.result()):
            self.event("Warning", "FailedPostStartHook", f"PostStartHook failed: {wrong}")
            await PodEnding(self).end_one(record, "FailedPostStartHook")
            self.save()

    def _failed_start(self, record: ContainerRecord, failed: Exception, policy: str) -> None:
        text = f"failed to create containerd task: {failed}" if record.kind == "command" else str(failed)
        self.runs.failed_to_start(record, text)
        if policy != "Never":
            record.wait("RunContainerError", text)
        self.event("Warning", "Failed", f"Error: {text}")

    def _back_off(self, record: ContainerRecord) -> None:
        """Show that a container waits for its next start."""
        name = f"{self.pod['metadata']['name']}_{self.pod['metadata']['namespace']}({uid_of(self.pod)})"
        wait = f"back-off {_duration(record.backoff_s)} restarting failed container={record.name} pod={name}"
        if record.state == "terminated" or record.reason != CRASH_LOOP:
            record.wait(CRASH_LOOP, wait)
        if (record.name, record.starts) not in self._told_backoff:
            self._told_backoff.add((record.name, record.starts))
            self.event("Warning", "BackOff", f"Back-off restarting failed container {record.name} in pod {name}")

    # --- what it tells others ---------------------------------------------------------------------------------------

    def report(self) -> None:
        """Have the API know the pod's status."""
        if self._rejected is not None:
            start = {"startTime": self.record.start_time}
            self._note_status({"phase": "Failed", **start, **dataclasses.asdict(self._rejected)})
            return
        status = pod_status(
            self.pod,
            self.record.containers,
            now=time.time(),
            start_time=self.record.start_time,
            host_address=self.context.place.address,
            pod_address=self.record.sandbox.address,
            has_sandbox=self.record.sandbox.made,
            before=(self._status or self.pod.get("status") or {}).get("conditions") or [],
            failure=self._failure,
        )
        self._note_status(status)

    def _note_status(self, status: dict[str, Any]) -> None:
        if status != self._status:
            self._status = status
            self.save()
        self.context.statuses.put(self.pod, status)

    def event(self, kind: Any, reason: str, message: str) -> None:
        """Write an event about the pod."""
        self.context.events.record(self.pod, kind, reason, message)

    def save(self) -> None:
        """Note the state in the node's files, for the next kubelet."""
        self.record.pod = self.current()
        checkpoint.save(self.context.node, uid_of(self.pod), self.record)


def _soonest(*due: float | None) -> float | None:
    return min((each for each in due if each is not None), default=None)


def _duration(seconds: float) -> str:
    """10s, 1m20s, 5m0s: as Go prints durations."""
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}m{rest:g}s" if minutes else f"{rest:g}s"
