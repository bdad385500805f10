"""A control plane without a network: API server, scheduler and controllers in a sandbox, and kubelets that only say so.

    async with SmallCluster(nodes=3, zones=["a", "b"]) as cluster:
        await cluster.client.create("deployments.apps", deployment("web", 6))
        await cluster.until(lambda: len(cluster.ready("web")) == 6, "six ready pods")

The kubelets here keep leases, call pods ready with an address each, and let pods end when they are to.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime, timezone
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from mininetes.addressing import AddressPlan
from mininetes.agents.agent import Placement
from mininetes.agents.controllers import ControllerManager, ControllerSettings
from mininetes.agents.election import ElectionTimes
from mininetes.agents.klog import AgentLog
from mininetes.agents.scheduler import Scheduler
from mininetes.agents.serving import listening_socket
from mininetes.apiserver.allocators import ServiceRanges
from mininetes.apiserver.client import Client
from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.informer import Informer
from mininetes.apiserver.pki import Pki
from mininetes.apiserver.server import ApiServer
from mininetes.apiserver.store import MemoryStore, StoreEvent
from mininetes.errors import MininetesError
from mininetes.kernel.processes import run as run_process

HERE = "/proc/self/ns/net"
SERVER = "192.168.1.11"
TOKEN = "a-token-for-tests"
GRACE_S = 1.5
QUICK = ElectionTimes(lease_s=2.0, renew_deadline_s=1.5, retry_s=0.2)
SERVICES = IPv4Network("10.96.0.0/12")
POOL = IPv4Network("198.51.100.0/29")
CONTROL_PLANE = "node1"


class SmallCluster:
    """One API server, one scheduler, one controller manager; ``nodes`` nodes, the first of the control plane."""

    def __init__(self, nodes: int = 3, zones: Sequence[str] = (), agents: bool = True) -> None:
        self.names = [f"node{number}" for number in range(1, nodes + 1)]
        self.zones = list(zones)
        self.alive = set(self.names)
        self.pods: Informer
        self.store = MemoryStore()
        self._pki = Pki()
        self._with_agents = agents
        self._addressed: set[str] = set()
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._statuses: set[asyncio.Task[None]] = set()
        self._folder = tempfile.TemporaryDirectory()
        self._logs: list[AgentLog] = []
        self.clients: list[Client] = []

    async def __aenter__(self) -> SmallCluster:
        run_process(["ip", "link", "set", "lo", "up"])
        run_process(["ip", "address", "replace", f"{SERVER}/32", "dev", "lo"])
        await self.start_server()
        self.client = self.new_client()
        self.pods, self.nodes = Informer(self.client, "pods"), Informer(self.client, "nodes")
        self.pods.on_change(self._pod_changed)
        self._run("pods", self.pods.run())
        self._run("nodes", self.nodes.run())
        await self.until(self._is_served, "the default namespace")
        for number, name in enumerate(self.names):
            await self.client.create("nodes", self._node(name, number))
        self._run("heartbeats", self._heartbeats())
        if self._with_agents:
            self.start_scheduler()
            self.start_controllers()
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._tasks.values(), *self._statuses]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in self.clients:
            await client.close()
        await self.server.stop()
        await self.store.close()
        for log in self._logs:
            log.close()
        self._folder.cleanup()

    def new_client(self) -> Client:
        client = Client([f"https://{SERVER}:6443"], token=TOKEN, ca_pem=self._pki.ca_pem)
        self.clients.append(client)
        return client

    async def start_server(self) -> None:
        self.server = ApiServer(
            self.store,
            network=ServiceRanges(SERVICES, range(30000, 32768)),
            pki=self._pki,
            tokens={TOKEN: "system:admin"},
            node=CONTROL_PLANE,
            address=SERVER,
            servers=[SERVER],
            log=self.log("kube-apiserver"),
        )
        await self.server.start([listening_socket(HERE, 6443)])

    def start_scheduler(self) -> Scheduler:
        place = Placement(CONTROL_PLANE, SERVER, HERE, 0)
        log = self.log("kube-scheduler")
        scheduler = Scheduler(place, self.new_client(), log, tls=self._tls(), election=QUICK)
        self._run("scheduler", scheduler.run())
        return scheduler

    def start_controllers(self, node: str = CONTROL_PLANE, netns: str = HERE) -> ControllerManager:
        """A controller manager on a node, its ports in ``netns``; its task is "controllers" (or -NODE on others)."""
        plan = AddressPlan()
        settings = ControllerSettings(
            pod_subnets={name: plan.pod_subnet(number) for number, name in enumerate(self.names, 1)},
            load_balancers=POOL,
            ca_pem=self._pki.ca_pem,
            node_grace_s=GRACE_S,
            orphan_grace_s=0.3,
        )
        place = Placement(node, SERVER, netns, 0)
        log = self.log("kube-controller-manager")
        manager = ControllerManager(place, self.new_client(), log, settings, tls=self._tls(), election=QUICK)
        self._run("controllers" if node == CONTROL_PLANE else f"controllers-{node}", manager.run())
        return manager

    def _tls(self) -> ssl.SSLContext:
        return self._pki.issue_api_server(CONTROL_PLANE, [SERVER]).server_context()

    async def stop(self, what: str) -> None:
        """Kill an agent: "scheduler", "controllers"."""
        task = self._tasks.pop(what)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def log(self, name: str) -> AgentLog:
        log = AgentLog(f"{self._folder.name}/{name}-{len(self._logs)}.log", verbosity=4)
        self._logs.append(log)
        return log

    def log_text(self) -> str:
        """All logs, for the message of a failed wait, and for what must not be in them."""
        return "".join(f"== {log.path}\n{Path(log.path).read_text()}" for log in self._logs)

    async def until(self, holds: Callable[[], Any], what: str, *, within_s: float = 15.0) -> Any:
        """Wait for a condition (or a coroutine's) with a deadline; returns what it said."""
        deadline = time.monotonic() + within_s
        while True:
            said = holds()
            if isinstance(said, Awaitable):
                said = await said
            if said:
                return said
            for name, task in self._tasks.items():
                assert not task.done(), f"{name} ended: {task}"
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {within_s:g} s: {what}\n{self.log_text()[-6000:]}")
            await asyncio.sleep(0.02)

    async def find(self, resource: str, name: str, namespace: str | None = "default") -> dict[str, Any] | None:
        """An object; None when there is none."""
        try:
            return await self.client.get(resource, name, namespace)
        except ApiError as refused:
            if refused.code != 404:
                raise
            return None

    async def items(self, resource: str, namespace: str | None = "default", labels: str = "") -> list[dict[str, Any]]:
        found = await self.client.list(resource, namespace, labels=labels)
        items: list[dict[str, Any]] = found["items"]
        return items

    def of(self, app: str) -> list[dict[str, Any]]:
        """The pods with the label app=APP that are not on their way out."""
        return [
            pod
            for pod in self.pods.items.values()
            if pod["metadata"].get("labels", {}).get("app") == app and "deletionTimestamp" not in pod["metadata"]
        ]

    def ready(self, app: str) -> list[dict[str, Any]]:
        return [pod for pod in self.of(app) if is_ready(pod)]

    async def written(self, within_s: float) -> list[str]:
        """What is written within that time, but for heartbeats: keys of the store."""
        found: set[str] = set()
        watch = self.store.watch("/registry/", after=await self.store.revision())

        async def follow() -> None:
            async for batch in watch:
                found.update(event.stored.key for event in batch if isinstance(event, StoreEvent))

        following = asyncio.ensure_future(follow())
        await asyncio.wait({following}, timeout=within_s)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        return sorted(key for key in found if "/leases" not in key)

    async def settles(self) -> None:
        """Wait until nothing is written for half a second, as it must be once all is as it should be."""
        written: list[str] = []

        async def is_quiet() -> bool:
            written[:] = await self.written(0.5)
            return not written

        await self.until(is_quiet, "a cluster in which nobody writes anything")

    async def _is_served(self) -> bool:
        try:
            return await self.find("services", "kubernetes") is not None
        except MininetesError:
            return False

    def _run(self, name: str, work: Any) -> None:
        self._tasks[name] = asyncio.ensure_future(work)

    def _node(self, name: str, number: int) -> dict[str, Any]:
        labels = {"kubernetes.io/hostname": name}
        spec = {}
        if name == CONTROL_PLANE:
            labels["node-role.kubernetes.io/control-plane"] = ""
            spec = {"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]}
        if self.zones:
            labels["topology.kubernetes.io/zone"] = self.zones[number % len(self.zones)]
        status = {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}, "conditions": [ready_condition()]}
        return {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": status}

    async def _heartbeats(self) -> None:
        while True:
            for name in sorted(self.alive):
                try:
                    await self._beat(name)
                except MininetesError:
                    continue
            await asyncio.sleep(0.3)

    async def _beat(self, name: str) -> None:
        spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now()}
        lease = {"metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": spec}
        try:
            await self.client.patch("leases.coordination.k8s.io", name, {"spec": spec}, "kube-node-lease")
        except ApiError as missing:
            if missing.code != 404:
                raise
            await self.client.create("leases.coordination.k8s.io", lease)
        node = self.nodes.items.get(name)
        if node is not None and not is_ready(node):
            conditions = {"status": {"conditions": [ready_condition()]}}
            await self.client.patch("nodes", name, conditions, kind="strategic", subresource="status")

    def come_back(self, name: str) -> None:
        """The node is heard again, and its kubelet says of all its pods what they are."""
        self.alive.add(name)
        for pod in self.pods.items.values():
            if pod["spec"].get("nodeName") == name and pod["status"].get("podIP"):
                self._spawn(self._say_ready(pod, pod["status"]["podIP"]))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._statuses.add(task)
        task.add_done_callback(self._statuses.discard)

    def _pod_changed(self, kind: str, _: Any, pod: dict[str, Any] | None) -> None:
        if pod is not None and kind != "DELETED" and pod["spec"].get("nodeName") in self.alive:
            self._spawn(self._tend(pod))

    async def _tend(self, pod: dict[str, Any]) -> None:
        metadata = pod["metadata"]
        if "deletionTimestamp" in metadata:
            with contextlib.suppress(MininetesError):
                await self.client.delete(
                    "pods", metadata["name"], metadata["namespace"], grace_s=0, uid=metadata["uid"]
                )
        elif not pod["status"].get("podIP") and metadata["uid"] not in self._addressed:
            self._addressed.add(metadata["uid"])
            number = len(self._addressed)
            await self._say_ready(pod, f"10.244.{number >> 8}.{number & 255}")

    async def _say_ready(self, pod: dict[str, Any], address: str) -> None:
        metadata = pod["metadata"]
        ready = ready_condition()
        if "never-ready" in metadata.get("labels", {}):
            ready["status"] = "False"
        status = {"status": {"phase": "Running", "podIP": address, "conditions": [ready]}}
        with contextlib.suppress(MininetesError):
            await self.client.patch(
                "pods", metadata["name"], status, metadata["namespace"], kind="strategic", subresource="status"
            )


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def ready_condition() -> dict[str, Any]:
    stamp = now()[:19] + "Z"
    return {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "kubelet is posting ready status",
        "lastHeartbeatTime": stamp,
        "lastTransitionTime": stamp,
    }


def is_ready(obj: dict[str, Any]) -> bool:
    conditions = obj.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
