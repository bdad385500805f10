"""The kubelet itself: its node, the sync loop that gives each pod a worker, and what it answers about them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import ssl
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from mininetes.agents.agent import Agent, Placement
from mininetes.agents.cni.runtime import CniRuntime
from mininetes.agents.events import EventRecorder
from mininetes.agents.klog import AgentLog
from mininetes.agents.kubelet import admission, checkpoint
from mininetes.agents.kubelet.attach_stream import Attachable
from mininetes.agents.kubelet.checkpoint import PodRecord
from mininetes.agents.kubelet.container_record import ContainerRecord
from mininetes.agents.kubelet.container_runs import log_folder
from mininetes.agents.kubelet.context import Context
from mininetes.agents.kubelet.executing import Place
from mininetes.agents.kubelet.interfaces import BuiltIn, KubeletOptions, PortServer, RunningPod, StaticPod
from mininetes.agents.kubelet.node_registration import NodeRegistration
from mininetes.agents.kubelet.pod_network import PodNetwork
from mininetes.agents.kubelet.pod_spec import full_name, is_mirror, specs_by_name, uid_of
from mininetes.agents.kubelet.pod_worker import PodWorker
from mininetes.agents.kubelet.server import FoundLog, KubeletServer
from mininetes.agents.kubelet.static_pods import StaticPods
from mininetes.agents.kubelet.status_writer import StatusWriter
from mininetes.agents.objects import is_deleted
from mininetes.agents.running import end, together
from mininetes.agents.shim.client import Shim
from mininetes.agents.shim.spawning import PAUSE
from mininetes.apiserver.client import Client
from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.informer import Backoff, Informer
from mininetes.errors import MissingFeature
from mininetes.lab.filesystem import node_path


class Kubelet(Agent):
    """The kubelet of one node.

    What it makes is left as it is when it is cancelled; the next kubelet of the node takes it over.
    ``executor`` has threads that let themselves into namespaces (`let_thread_enter`); ``shim`` and
    ``port_server`` are the lab's, and outlive kubelets. Without ``tls`` port 10250 is plain HTTP.
    ``is_known`` says whether a bearer token may ask there; without it all may.
    """

    name = "kubelet"

    def __init__(
        self,
        place: Placement,
        client: Client,
        log: AgentLog,
        *,
        shim: Shim,
        executor: Executor,
        port_server: PortServer,
        builtins: Mapping[str, BuiltIn] | None = None,
        static_pods: Sequence[StaticPod] = (),
        options: KubeletOptions | None = None,
        tls: ssl.SSLContext | None = None,
        is_known: Callable[[str], bool] | None = None,
    ) -> None:
        super().__init__(place, client, log)
        cni = CniRuntime(place.node, place.holder_pid)
        self._network = PodNetwork(cni, executor, log, self._containers)
        self._context = Context(
            place=place,
            client=client,
            log=log,
            shim=shim,
            executor=executor,
            port_server=port_server,
            builtins=builtins or {},
            options=options or KubeletOptions(),
            cni=cni,
            events=EventRecorder(client, "kubelet", place.node, log),
            statuses=StatusWriter(client, log),
            network_failure=self._network.failure,
        )
        self._node = NodeRegistration(self._context)
        self._static = StaticPods(place, client, log, static_pods)
        self._server = KubeletServer(self._context, self, tls, is_known)
        self._pods = Informer(client, "pods", fields=f"spec.nodeName={place.node}")
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turns: dict[str, asyncio.Task[None]] = {}
        """By namespace/name: the last worker of that name, which the next one waits for."""

    async def run(self) -> None:
        """Work until cancelled. Raises MissingFeature without catatonit, MininetesError for a port that is taken."""
        context = self._context
        self._install_pause()
        self.log.info("Starting kubelet main sync loop", node=context.node)
        context.shim.on_exit(f"{context.node}/", self._exited)
        try:
            async with self._server.serving():
                self._adopt()
                self._pods.on_change(self._heed)
                await together(
                    [
                        self._pods.run(),
                        self._after_first_list(),
                        self._node.run(),
                        self._network.run(),
                        self._static.run(),
                        context.statuses.run(),
                        context.events.run(),
                    ]
                )
        finally:
            context.shim.on_exit(f"{context.node}/", None)
            await end(list(self._tasks.values()))

    def pods(self) -> list[RunningPod]:
        """The node's pods that have a network namespace."""
        shown = (worker.shown() for worker in self._workers.values())
        return [pod for pod in shown if pod is not None]

    # --- the sync loop ----------------------------------------------------------------------------------------------

    def _heed(self, kind: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        """A pod of this node was added, changed or removed."""
        pod = new or old
        assert pod is not None
        if is_mirror(pod):
            self._static.changed(pod, gone=kind == "DELETED")
            return
        worker = self._workers.get(uid_of(pod))
        if kind == "DELETED":
            self.log.info("SyncLoop REMOVE", v=2, source="api", pods=[full_name(pod)])
            if worker is not None:
                worker.remove()
        elif worker is None:
            self.log.info("SyncLoop ADD", v=2, source="api", pods=[full_name(pod)])
            worker = PodWorker(self._context, pod)
            here = (each.current() for each in self._workers.values() if each.holds_ports)
            others = (*here, *filter(is_mirror, self._pods.items.values()))
            if (why := admission.rejection(pod, others)) is not None:
                worker.reject(why)
            self._work(worker)
        else:
            if is_deleted(pod) and not is_deleted(worker.pod):
                self.log.info("SyncLoop DELETE", v=2, source="api", pods=[full_name(pod)])
            else:
                self.log.info("SyncLoop UPDATE", v=4, source="api", pods=[full_name(pod)])
            worker.update(pod)

    def _adopt(self) -> None:
        """Take over the pods that a kubelet before left, also while the API cannot be reached."""
        for uid, record in checkpoint.read_all(self._context.node):
            self._work(self._adopted(uid, record))

    def _adopted(self, uid: str, record: PodRecord) -> PodWorker:
        self.log.info("SyncLoop ADD", v=2, source="checkpoint", pods=[full_name(record.pod)], uid=uid)
        return PodWorker(self._context, record.pod, record)

    async def _after_first_list(self) -> None:
        """Once it is known what the API has: pods that it no longer has are to go."""
        await self._pods.synced()
        wanted = {uid_of(pod) for pod in self._pods.items.values()}
        for uid, worker in self._workers.items():
            if uid not in wanted:
                worker.remove()
        await asyncio.Event().wait()

    def _work(self, worker: PodWorker) -> None:
        uid, name = uid_of(worker.pod), full_name(worker.pod)
        before = self._turns.get(name)
        self._workers[uid] = worker
        task = asyncio.get_running_loop().create_task(self._run(worker, before), name=f"pod {name}")
        self._tasks[uid] = self._turns[name] = task
        task.add_done_callback(lambda done: self._worker_ended(uid, name, done))

    async def _run(self, worker: PodWorker, before: asyncio.Task[None] | None) -> None:
        """Have a worker do its work, after the one that had its name before. A pod is never given up."""
        if before is not None:
            await asyncio.wait([before])
        backoff = Backoff()
        while True:
            try:
                await worker.run()
                return
            except Exception as failed:
                self.log.error("Pod worker failed", pod=full_name(worker.pod), err=f"{type(failed).__name__}: {failed}")
                await backoff.pause()

    def _worker_ended(self, uid: str, name: str, task: asyncio.Task[None]) -> None:
        self._workers.pop(uid, None)
        self._tasks.pop(uid, None)
        if self._turns.get(name) is task:
            del self._turns[name]

    def _exited(self, process: str, status: int, at: float) -> None:
        """A process of one of the pods has ended. Names are NODE/UID/..."""
        _, uid, kind, *_ = process.split("/")
        worker = self._workers.get(uid)
        if worker is not None and kind != "exec":
            worker.exited(process, status, at)

    def _containers(self) -> set[str]:
        """The sandboxes of its pods, those included that are being made."""
        sandboxes = [worker.record.sandbox for worker in self._workers.values()]
        return {each.container_id for each in sandboxes if each.netns}

    def _install_pause(self) -> None:
        program = shutil.which("catatonit")
        if program is None:
            raise MissingFeature("catatonit", "the pause process of pods", "install the package catatonit")
        link = node_path(self._context.node, PAUSE)
        with contextlib.suppress(FileExistsError):
            os.symlink(program, link)

    # --- what its server asks ---------------------------------------------------------------------------------------

    def objects(self) -> Sequence[Mapping[str, Any]]:
        """The node's pods as the API has them, with what this kubelet knows of them."""
        return [*(worker.current() for worker in self._workers.values()), *self._static.objects()]

    def metrics(self) -> Mapping[str, float]:
        """Numbers of pods and containers."""
        records = [record for worker in self._workers.values() for record in worker.record.containers.values()]
        return {
            "kubelet_running_pods": len(self.pods()),
            'kubelet_running_containers{container_state="running"}': sum(r.state == "running" for r in records),
            "kubelet_active_pods": len(self._workers),
        }

    def log_of(self, namespace: str, pod: str, container: str, *, previous: bool) -> FoundLog:
        """Where a container's log is. Raises ApiError when there is no such pod, container or log."""
        agent = self._static.find(namespace, pod)
        if agent is not None:
            if previous:
                raise ApiError.bad_request(f'previous terminated container "{container}" in pod "{pod}" not found')
            return FoundLog(agent.log_path, is_cri=False, goes_on=lambda: True)
        worker = self._worker_of(namespace, pod)
        record = worker.record.containers.get(container)
        if record is None:
            raise ApiError.bad_request(f"container {container} is not valid for pod {pod}")
        number = record.starts - (2 if previous else 1)
        if number < 0 and previous:
            raise ApiError.bad_request(f'previous terminated container "{container}" in pod "{pod}" not found')
        if number < 0:
            raise ApiError.bad_request(
                f'container "{container}" in pod "{pod}" is waiting to start: {record.reason or "ContainerCreating"}'
            )
        path = node_path(self._context.node, f"{log_folder(worker.pod, container)}/{number}.log")
        starts = record.starts
        return FoundLog(path, goes_on=lambda: not previous and record.starts == starts and record.state == "running")

    def place_of(self, namespace: str, pod: str, container: str) -> Place:
        """Where commands of a running container run. Raises ApiError, ConfigError."""
        worker, _ = self._running(namespace, pod, container)
        return worker.runs.place(specs_by_name(worker.pod)[container])

    def attachable(self, namespace: str, pod: str, container: str) -> Attachable:
        """A running container that has a process, as `kubectl attach` joins it. Raises ApiError."""
        worker, record = self._running(namespace, pod, container)
        if record.kind != "command":
            raise ApiError.bad_request(
                f"container {container} of pod {pod} has no process to attach to: a built-in program answers in it, "
                "and `kubectl logs` shows what that says"
            )
        spec = specs_by_name(worker.pod)[container]
        return Attachable(record.process, bool(spec.get("stdin")), bool(spec.get("tty")))

    def _running(self, namespace: str, pod: str, container: str) -> tuple[PodWorker, ContainerRecord]:
        if self._static.find(namespace, pod) is not None:
            node = self._context.node
            raise ApiError.bad_request(
                f"pod {pod} shows an agent of {node}, no process of its own: use `mininetes exec {node} -- ...`"
            )
        worker = self._worker_of(namespace, pod)
        record = worker.record.containers.get(container)
        if record is None:
            raise ApiError.bad_request(f"container {container} is not valid for pod {pod}")
        if record.state != "running":
            raise ApiError.internal(f'container not found ("{container}")')
        return worker, record

    def _worker_of(self, namespace: str, name: str) -> PodWorker:
        for worker in self._workers.values():
            if full_name(worker.pod) == f"{namespace}/{name}":
                return worker
        raise ApiError.not_found("pods", name)
