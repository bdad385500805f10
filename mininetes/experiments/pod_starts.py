"""Pods that start at the same time: CNI ADDs in parallel on one node, and pods of the API until they are ready."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mininetes.agents.cni.conf_dir import first_of
from mininetes.agents.cni.runtime import BIN_DIR, CONF_DIR, CniRuntime
from mininetes.agents.cni.versions import PATH
from mininetes.agents.kubelet import sandbox
from mininetes.errors import MininetesError
from mininetes.kernel.netns import delete_named
from mininetes.kernel.processes import Namespaces, let_thread_enter, run
from mininetes.lab.filesystem import netns_path, node_path
from mininetes.testbed import credentials
from mininetes.testbed.cluster_watch import ClusterWatch, is_ready
from mininetes.testbed.ready_made import IMAGE

if TYPE_CHECKING:
    from mininetes.agents.agent import Placement
    from mininetes.testbed.testbed import Testbed

READY_WITHIN_S = 300.0
GONE_WITHIN_S = 120.0


@dataclass(frozen=True)
class Calls:
    """What calls that ran side by side took, in seconds each, and all of them together."""

    each_s: tuple[float, ...]
    all_s: float


class NodeAdds:
    """CNI calls on one node for pods of its own, each by a process of its own. Blocking; a context manager.

    The plugins that stay for bulk (an extension of ours) are not used: one call would have it and those beside it not.
    """

    def __init__(self, place: Placement, parallel: int) -> None:
        self._place = place
        self._runtime = CniRuntime(place.node, place.holder_pid, keep_plugins=False)
        self._threads = ThreadPoolExecutor(parallel, thread_name_prefix="adds", initializer=let_thread_enter)

    def add(self, names: Sequence[str]) -> Calls:
        """Attach a pod for each name, as many at a time as there may be, and take all of them away again.

        A call's time is that of the ADD alone: the namespaces are there before. Raises CniFailed, MininetesError.
        """
        for name in names:
            sandbox.make_sandbox(netns_path(self._place.node, name))
        try:
            return self._side_by_side(self._add, names)
        finally:
            list(self._threads.map(self._delete, names))

    def ask_version(self, calls: int) -> Calls:
        """Ask the first plugin for its versions (CNI section 4), as many times: its start, and no network set-up."""
        configuration = first_of(node_path(self._place.node, CONF_DIR))
        program = f"{BIN_DIR}/{configuration.plugins[0]['type']}"
        said = json.dumps({"cniVersion": configuration.cni_version})
        environment = {"PATH": PATH, "CNI_PATH": BIN_DIR, "CNI_COMMAND": "VERSION"}
        where = Namespaces(of_pid=self._place.holder_pid)
        return self._side_by_side(lambda _: run([program], stdin=said, env=environment, namespaces=where), range(calls))

    def _side_by_side(self, work: Any, arguments: Sequence[Any]) -> Calls:
        def timed(argument: Any) -> float:
            began = time.perf_counter()
            work(argument)
            return time.perf_counter() - began

        began = time.perf_counter()
        each_s = tuple(self._threads.map(timed, arguments))
        return Calls(each_s, time.perf_counter() - began)

    def _add(self, name: str) -> None:
        self._runtime.add(sandbox.attachment(name, name, namespace="default", name=name))

    def _delete(self, name: str) -> None:
        what = sandbox.attachment(name, name, namespace="default", name=name)
        try:
            self._runtime.delete(what)
        finally:
            delete_named(netns_path(self._place.node, name))

    def close(self) -> None:
        """End the threads. May be called twice."""
        self._threads.shutdown(wait=True)

    def __enter__(self) -> NodeAdds:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.asynccontextmanager
async def watching(testbed: Testbed) -> AsyncIterator[ClusterWatch]:
    """The lab's objects as its API has them, for the block. Raises MininetesError without a control plane."""
    plane = testbed.control_plane
    if plane is None:
        raise MininetesError("this lab has no control plane")
    watch = ClusterWatch(plane.client(plane.api_servers.masters[0], credentials.ADMIN))
    try:
        await watch.start()
        yield watch
    finally:
        await watch.close()


def pod_object(name: str, *, node: str = "", labels: dict[str, str] | None = None, port: int = 8080) -> dict[str, Any]:
    """A pod of one responder; without ``node`` the scheduler finds one for it, that of the control plane included."""
    where = {"nodeName": node} if node else {}
    ports = [{"containerPort": port, "protocol": protocol} for protocol in ("TCP", "UDP")]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": labels or {}},
        "spec": {
            **where,
            "tolerations": [{"operator": "Exists"}],
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "responder", "image": IMAGE, "ports": ports}],
        },
    }


async def start_pods(watch: ClusterWatch, names: Sequence[str]) -> list[float]:
    """Create all these pods at once; seconds until each was seen ready with an address. They are deleted again.

    Seen by a watch, as SIG Scalability's objective for pod start-up has it. Raises MininetesError when one does
    not become ready, or does not go, in time.
    """
    wanted = {f"default/{name}" for name in names}
    created: dict[str, float] = {}
    seen: dict[str, float] = {}

    def lacks() -> list[str]:
        now = time.monotonic()
        for key in wanted - seen.keys():
            pod = watch.pods.get(key)
            if is_ready(pod) and pod is not None and pod["status"].get("podIP"):
                seen[key] = now
        return sorted(wanted - seen.keys())

    async def create(name: str) -> None:
        created[f"default/{name}"] = time.monotonic()
        await watch.client.create("pods", pod_object(name))

    try:
        ready = asyncio.ensure_future(watch.until(lacks, "pods are ready", within_s=READY_WITHIN_S))
        try:
            await asyncio.gather(*(create(name) for name in names))
            await ready
        finally:
            ready.cancel()
    finally:
        await delete_pods(watch, names)
    return [seen[key] - created[key] for key in sorted(wanted)]


async def delete_pods(watch: ClusterWatch, names: Sequence[str]) -> None:
    """Delete these pods, those that there are, and wait until they have gone. Raises MininetesError."""
    there = [name for name in names if f"default/{name}" in watch.pods]
    await asyncio.gather(*(watch.client.delete("pods", name, "default", grace_s=0) for name in there))
    left = {f"default/{name}" for name in there}
    await watch.until(lambda: sorted(left & watch.pods.keys()), "pods have gone", within_s=GONE_WITHIN_S)
