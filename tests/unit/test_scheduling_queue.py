"""The scheduler's loop over informers that are moved by hand: where pods go while others come, end and leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from mininetes.agents.events import EventRecorder
from mininetes.agents.klog import AgentLog
from mininetes.agents.scheduler.queue import SchedulingQueue
from mininetes.apiserver.client import Client
from mininetes.apiserver.informer import Informer

Change = Callable[[str, Any, Any], None]


class Moved:
    """As much of an informer as the queue uses, of objects that the test puts there and takes away."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Any]] = {}
        self._told: list[Change] = []

    def on_change(self, change: Change) -> None:
        self._told.append(change)

    async def synced(self) -> None:
        pass

    def put(self, key: str, new: dict[str, Any]) -> None:
        old = self.items.get(key)
        self.items[key] = new
        for change in self._told:
            change("ADDED" if old is None else "MODIFIED", old, new)

    def drop(self, key: str) -> None:
        gone = self.items.pop(key)
        for change in self._told:
            change("DELETED", gone, gone)


class Cluster:
    """Two nodes, a queue, and a client that binds as the API server does."""

    def __init__(self, log: AgentLog) -> None:
        self.pods, self.nodes = Moved(), Moved()
        self.bound: dict[str, str] = {}
        client, events = cast(Client, self), cast(EventRecorder, self)
        pods, nodes = cast(Informer, self.pods), cast(Informer, self.nodes)
        counts = {"scheduled": 0, "unschedulable": 0, "error": 0}
        self.queue = SchedulingQueue(client, log, events, pods, nodes, counts)
        for name in ("node1", "node2"):
            ready = [{"type": "Ready", "status": "True"}]
            self.nodes.put(name, {"metadata": {"name": name}, "spec": {}, "status": {"conditions": ready}})

    def record(self, *_: Any) -> None:
        """No events are kept."""

    async def request(self, _method: str, path: str, *, body: dict[str, Any]) -> None:
        name = body["metadata"]["name"]
        assert path == f"/api/v1/namespaces/default/pods/{name}/binding"
        self.bound[name] = body["target"]["name"]
        self.put(name, node=self.bound[name], phase="Running")

    def put(self, name: str, *, node: str = "", phase: str = "Pending") -> None:
        metadata = {"name": name, "namespace": "default", "uid": name}
        spec = {"containers": [{"name": "c"}], **({"nodeName": node} if node else {})}
        self.pods.put(f"default/{name}", {"metadata": metadata, "spec": spec, "status": {"phase": phase}})

    async def place(self, name: str) -> str:
        self.put(name)
        for _ in range(100):
            await asyncio.sleep(0)
            if name in self.bound:
                return self.bound[name]
        raise AssertionError(f"{name} was not bound")


def run(tmp_path: Path, story: Callable[[Cluster], Any]) -> None:
    async def main() -> None:
        log = AgentLog(str(tmp_path / "scheduler.log"))
        cluster = Cluster(log)
        running = asyncio.ensure_future(cluster.queue.run())
        try:
            await story(cluster)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            log.close()

    asyncio.run(main())


def test_pods_go_to_the_emptier_node_one_after_the_other(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        assert [await cluster.place(f"p{n}") for n in range(4)] == ["node1", "node2", "node1", "node2"]

    run(tmp_path, story)


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_finished_does_not_count(tmp_path: Path, phase: str) -> None:
    async def story(cluster: Cluster) -> None:
        assert await cluster.place("a") == "node1"
        cluster.put("a", node="node1", phase=phase)
        cluster.put("seen-finished", node="node1", phase=phase)
        assert await cluster.place("b") == "node1"

    run(tmp_path, story)


def test_a_pod_that_is_gone_does_not_count(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        assert await cluster.place("a") == "node1"
        cluster.pods.drop("default/a")
        assert await cluster.place("b") == "node1"

    run(tmp_path, story)


def test_a_node_that_comes_later_has_the_pods_that_are_bound_to_it(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        late = cluster.nodes.items["node1"]
        cluster.nodes.drop("node1")
        cluster.put("first", node="node1", phase="Running")
        cluster.nodes.put("node1", late)
        assert await cluster.place("b") == "node2"

    run(tmp_path, story)
