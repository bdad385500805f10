"""Queues, expectations, leases and events: what the loops stand on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mininetes.agents.controllers import expectations
from mininetes.agents.controllers.controller import Controller, Shared
from mininetes.agents.controllers.expectations import Expectations
from mininetes.agents.controllers.settings import ControllerSettings
from mininetes.agents.election import ElectionTimes, LeaderElection
from mininetes.agents.events import EventRecorder
from mininetes.agents.klog import AgentLog
from mininetes.agents.running import together
from mininetes.agents.workqueue import LONGEST_RETRY_S, WorkQueue
from mininetes.apiserver.client import Unreachable
from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.informer import Known

QUICK = ElectionTimes(lease_s=1.0, renew_deadline_s=0.2, retry_s=0.02)


class Leases:
    """As much of a client as elections and events use: a store of objects that may be away."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.away = False
        self.writes: list[tuple[str, str]] = []

    def _reach(self) -> None:
        if self.away:
            raise Unreachable("no API server answers")

    async def get(self, resource: str, name: str, namespace: str | None = None) -> dict[str, Any]:
        self._reach()
        if name not in self.objects:
            raise ApiError.not_found(resource, name)
        return self.objects[name]

    async def create(self, resource: str, obj: dict[str, Any], namespace: str | None = None) -> dict[str, Any]:
        self._reach()
        name = obj["metadata"]["name"]
        if name in self.objects:
            raise ApiError.already_exists(resource, name)
        self.writes.append(("create", name))
        self.objects[name] = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(len(self.writes))}}
        return self.objects[name]

    async def update(self, resource: str, obj: dict[str, Any], *, subresource: str = "") -> dict[str, Any]:
        self._reach()
        name = obj["metadata"]["name"]
        if self.objects[name]["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
            raise ApiError.modified(resource, name)
        self.writes.append(("update", name))
        self.objects[name] = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(len(self.writes))}}
        return self.objects[name]

    async def patch(self, resource: str, name: str, patch: Any, namespace: str | None = None) -> dict[str, Any]:
        self._reach()
        if name not in self.objects:
            raise ApiError.not_found(resource, name)
        self.writes.append(("patch", name))
        self.objects[name] |= patch
        return self.objects[name]


@pytest.fixture
def log(tmp_path: Path) -> AgentLog:
    return AgentLog(str(tmp_path / "agent.log"))


async def until(holds: Callable[[], Any], within_s: float = 5.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def test_a_key_waits_once_and_is_worked_on_by_one() -> None:
    async def story() -> list[str]:
        queue, seen = WorkQueue(), []
        for key in ("a", "b", "a"):
            queue.add(key)
        assert len(queue) == 2
        seen.append(await queue.get())
        queue.add("a")  # while it is worked on
        assert len(queue) == 1
        seen.append(await queue.get())
        queue.done("a")
        seen.append(await queue.get())
        return seen

    assert asyncio.run(story()) == ["a", "b", "a"]


def test_the_earliest_time_of_a_key_counts_and_an_idle_queue_has_no_timers() -> None:
    async def story() -> float:
        queue = WorkQueue()
        began = time.monotonic()
        queue.add_after("a", 30.0)
        queue.add_after("a", 0.03)
        queue.add_after("a", 20.0)
        assert await asyncio.wait_for(queue.get(), 5) == "a"
        assert not vars(queue)["_timers"]
        return time.monotonic() - began

    assert 0.02 < asyncio.run(story()) < 5


def test_retries_come_later_each_time_up_to_a_limit_until_one_went_well() -> None:
    async def story() -> list[float]:
        queue = WorkQueue()
        delays = [queue.retry("a") for _ in range(20)]
        queue.forget("a")
        delays.append(queue.retry("a"))
        queue.close()
        return delays

    delays = asyncio.run(story())
    assert delays[:3] == [0.05, 0.1, 0.2]
    assert delays[19] == LONGEST_RETRY_S
    assert delays[20] == 0.05


def obj(version: int, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "x", "namespace": "n", "uid": "u", "resourceVersion": str(version), **metadata}}


def test_what_was_written_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    items = Known()
    expected = Expectations()
    expected.written("k", items, obj(5))
    assert expected.pending("k") > 0
    assert expected.pending("other") == 0
    items["n/x"] = obj(4)
    assert expected.pending("k") > 0
    items["n/x"] = obj(5)
    assert expected.pending("k") == 0
    expected.written("k", items, obj(5))
    assert expected.pending("k") == 0
    expected.removed("k", items, obj(5))
    assert expected.pending("k") > 0
    items["n/x"] = obj(6, deletionTimestamp="t")
    assert expected.pending("k") == 0
    expected.written("k", items, obj(9))
    assert expected.pending("k") > 0
    del items["n/x"]
    assert expected.pending("k") > 0
    items.version = 10
    assert expected.pending("k") == 0, "it came and went before anybody looked"
    monkeypatch.setattr(expectations, "LONGEST_WAIT_S", 0.0)
    expected.written("k", items, obj(11))
    assert expected.pending("k") == 0


def test_of_two_candidates_one_works_and_the_other_follows_when_the_lease_has_run_out(log: AgentLog) -> None:
    async def story() -> list[str]:
        leases, worked = Leases(), []

        def candidate(node: str) -> asyncio.Task[None]:
            async def work() -> None:
                worked.append(node)
                await asyncio.Event().wait()

            election = LeaderElection(leases, "kube-scheduler", node, log, QUICK)  # type: ignore[arg-type]
            return asyncio.ensure_future(election.lead(work))

        first = candidate("node1")
        await until(lambda: worked)
        second = candidate("node2")
        await until(lambda: sum(kind == "update" for kind, _ in leases.writes) > 3)
        assert worked == ["node1"]
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await until(lambda: len(worked) == 2)
        assert leases.objects["kube-scheduler"]["spec"]["leaseTransitions"] == 1
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        return worked

    assert asyncio.run(story()) == ["node1", "node2"]


def test_the_same_node_takes_its_lease_up_again_at_once(log: AgentLog) -> None:
    async def story() -> float:
        leases = Leases()
        for _ in range(2):
            began, leading = time.monotonic(), asyncio.Event()

            async def work(leading: asyncio.Event = leading) -> None:
                leading.set()
                await asyncio.Event().wait()

            times = ElectionTimes(lease_s=60.0, renew_deadline_s=10.0, retry_s=0.02)
            election = LeaderElection(leases, "kube-scheduler", "node1", log, times)  # type: ignore[arg-type]
            task = asyncio.ensure_future(election.lead(work))
            await asyncio.wait_for(leading.wait(), 5)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert leases.objects["kube-scheduler"]["spec"]["leaseTransitions"] == 0
        return time.monotonic() - began

    assert asyncio.run(story()) < 1


def test_a_leader_that_cannot_renew_stops_its_work_and_goes_on_later(log: AgentLog) -> None:
    async def story() -> list[str]:
        leases, seen = Leases(), []

        async def work() -> None:
            seen.append("begun")
            try:
                await asyncio.Event().wait()
            finally:
                seen.append("ended")

        election = LeaderElection(leases, "kube-scheduler", "node1", log, QUICK)  # type: ignore[arg-type]
        task = asyncio.ensure_future(election.lead(work))
        await until(lambda: seen)
        leases.away = True
        await until(lambda: len(seen) == 2)
        assert not election.leading
        leases.away = False
        await until(lambda: len(seen) == 3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return seen

    assert asyncio.run(story()) == ["begun", "ended", "begun", "ended"]


def test_work_that_fails_is_begun_anew(log: AgentLog) -> None:
    async def story() -> int:
        leases, begun = Leases(), []

        async def work() -> None:
            begun.append(1)
            raise RuntimeError("a mistake")

        election = LeaderElection(leases, "kube-scheduler", "node1", log, QUICK)  # type: ignore[arg-type]
        task = asyncio.ensure_future(election.lead(work))
        await until(lambda: len(begun) == 3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return len(begun)

    assert asyncio.run(story()) == 3


class Failing(Controller):
    """Fails once, then is done."""

    name = "failing"

    def __init__(self, shared: Shared, failure: Exception) -> None:
        super().__init__(shared)
        self._failures = [failure]
        self.done = False

    async def sync(self, key: str) -> float | None:
        if self._failures:
            raise self._failures.pop()
        self.done = True
        return None


@pytest.mark.parametrize(
    ("failure", "level"),
    [
        (ApiError.not_found("deployments.apps", "web"), ""),
        (ApiError(409, "Conflict", "the object has been modified"), ""),
        (Unreachable("no API server answers"), "W"),
        (ApiError(422, "Invalid", "spec.replicas: -1"), "E"),
        (KeyError("spec"), "E"),
    ],
    ids=str,
)
def test_what_changed_meanwhile_is_no_error_and_all_is_tried_again(
    tmp_path: Path, failure: Exception, level: str
) -> None:
    async def fails_once() -> bool:
        log = AgentLog(str(tmp_path / "agent.log"))
        events = EventRecorder(Leases(), "failing", "node1", log)  # type: ignore[arg-type]
        failing = Failing(Shared(Leases(), log, events, ControllerSettings()), failure)  # type: ignore[arg-type]
        failing.queue.add("default/web")
        work = asyncio.ensure_future(failing.run())
        await until(lambda: failing.done)
        work.cancel()
        await asyncio.wait([work])
        return failing.done

    assert asyncio.run(fails_once())
    said = (tmp_path / "agent.log").read_text() if (tmp_path / "agent.log").exists() else ""
    assert [line[0] for line in said.splitlines() if "failing" in line] == ([level] if level else [])


def test_events_that_repeat_themselves_are_counted(log: AgentLog) -> None:
    async def story() -> dict[str, dict[str, Any]]:
        leases = Leases()
        events = EventRecorder(leases, "tester", "node1", log)  # type: ignore[arg-type]
        about = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n", "uid": "u"}}
        writing = asyncio.ensure_future(events.run())
        for message in ("one", "two", "one", "one"):
            events.record(about, "Normal", "Said", message)
        await until(lambda: len(leases.writes) == 4)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        return leases.objects

    found = {each["message"]: each for each in asyncio.run(story()).values()}
    assert {message: each["count"] for message, each in found.items()} == {"one": 3, "two": 1}
    assert found["one"]["involvedObject"]["kind"] == "Pod"
    assert found["one"]["metadata"]["namespace"] == "n"


def test_tasks_live_and_end_together() -> None:
    async def story() -> str:
        ended = []

        async def lasting() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("lasting")

        async def failing() -> None:
            raise ValueError("first")

        with pytest.raises(ValueError, match="first"):
            await together([lasting(), failing()])
        return ",".join(ended)

    assert asyncio.run(story()) == "lasting"
