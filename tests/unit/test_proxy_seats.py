"""Who waits for the first rules of the nodes' proxies: is told what keeps them, while it waits and in the end."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mininetes.agents.klog import AgentLog
from mininetes.agents.kubeproxy.agent import KubeProxy
from mininetes.agents.kubeproxy.metrics import Metrics
from mininetes.errors import MininetesError
from mininetes.spec import describe
from mininetes.testbed import proxy_seats
from mininetes.testbed.agent_tasks import AgentTasks, Runs
from mininetes.testbed.proxy_seats import ProxySeats


class Stuck(KubeProxy):
    """A proxy that never gets its rules in force, and says why; or that ends, when ``ends``."""

    def __init__(self, trouble: str, *, ends: bool = False, hopeless: bool = False) -> None:
        self.mode, self.metrics, self.trouble, self._ends = "iptables", Metrics(), trouble, ends
        self.is_hopeless = hopeless

    async def run(self) -> None:
        if self._ends:
            raise MininetesError("no ip_vs here")
        await asyncio.Event().wait()


def waited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxies: dict[str, Stuck]) -> tuple[list[str], str]:
    """What who waits hears, and the error that ends the waiting."""
    monkeypatch.setattr(proxy_seats, "TROUBLES_EVERY_S", 0.05)
    heard: list[str] = []

    async def story() -> str:
        tasks = AgentTasks()
        with ThreadPoolExecutor(1) as executor:
            seats = ProxySeats(describe({}), tasks, executor)
            for node, proxy in proxies.items():

                @contextlib.asynccontextmanager
                async def made(proxy: Stuck = proxy) -> AsyncIterator[Runs]:
                    yield proxy

                tasks.add(node, seats.name, made, AgentLog(str(tmp_path / f"{node}.log")))
            tasks.start_all()
            with pytest.raises(MininetesError) as failed:
                await seats.synced(proxies, within_s=0.3, trouble=heard.append)
            await tasks.close()
            return str(failed.value)

    return heard, asyncio.run(story())


def test_the_last_error_of_a_sync_is_told_once_for_all_nodes_that_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = "KeyError: 'oops' (raiser.py:6)"
    heard, said = waited(tmp_path, monkeypatch, {"node1": Stuck(why), "node2": Stuck(why), "node3": Stuck("else")})
    assert heard == [f"kube-proxy on node1, node2: {why}", "kube-proxy on node3: else"]
    assert said == f"no rules of services within 0.3 s: {'; '.join(heard)}"


def test_the_end_names_also_those_who_said_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard, said = waited(tmp_path, monkeypatch, {"node1": Stuck("why"), "node2": Stuck("")})
    assert heard == ["kube-proxy on node1: why"]
    assert said.endswith("s: kube-proxy on node1: why; kube-proxy on node2: see /var/log/kube-proxy.log there")


def test_of_one_that_ended_it_is_what_it_ended_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard, said = waited(tmp_path, monkeypatch, {"node1": Stuck("", ends=True)})
    assert heard == ["kube-proxy on node1: MininetesError: no ip_vs here"]
    assert said.endswith(heard[0])


def test_without_any_error_the_log_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard, said = waited(tmp_path, monkeypatch, {"node1": Stuck("")})
    assert heard == []
    assert said.endswith("on node1: see /var/log/kube-proxy.log there")


class Synced(Stuck):
    """One whose rules are in force once it has waited a moment, from a file that was as ``sha256`` says."""

    def __init__(self, mode: str, sha256: str) -> None:
        super().__init__("")
        self.mode, self.mode_sha256 = mode, sha256

    async def run(self) -> None:
        await asyncio.sleep(0.05)
        self.metrics.last_synced = 1.0
        await super().run()


def test_a_mode_is_switched_to_when_it_is_another_or_its_file_has_changed(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine.py", tmp_path / "other.py"
    for path in (mine, other):
        path.write_text("LIKE = 'iptables'\n")
    made: list[Synced] = []

    async def story() -> list[int]:
        tasks, counts = AgentTasks(), []
        with ThreadPoolExecutor(1) as executor:
            seats = ProxySeats(describe({"proxy": str(mine)}), tasks, executor)

            @contextlib.asynccontextmanager
            async def maker() -> AsyncIterator[Runs]:
                await asyncio.sleep(0.05)
                made.append(Synced(seats.mode, hashlib.sha256(Path(seats.mode).read_bytes()).hexdigest()))
                yield made[-1]

            tasks.add("node1", seats.name, maker, AgentLog(str(tmp_path / "log")))
            tasks.start_all()
            await seats.synced(["node1"], within_s=5.0)
            for path, text in ((mine, ""), (mine, "# new\n"), (mine, ""), (other, ""), (other, "# new\n"), (mine, "")):
                path.write_text(path.read_text() + text)
                await seats.switch(str(path), ["node1"], within_s=5.0)
                counts.append(len(made))
                assert made[-1].metrics.last_synced
            await tasks.close()
        return counts

    assert asyncio.run(story()) == [1, 2, 2, 3, 4, 5]


def test_many_nodes_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard, _ = waited(tmp_path, monkeypatch, {f"node{number}": Stuck("why") for number in range(1, 13)})
    assert heard == ["kube-proxy on node1, node2, node3, node4, node5, node6, node7, node8 and 4 more: why"]


def test_a_mistake_in_a_modes_file_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proxies = {node: Stuck("KeyError (own.py:3)", hopeless=True) for node in ("node1", "node2")}
    heard, said = waited(tmp_path, monkeypatch, proxies)
    assert heard == []
    assert said == "no rules of services: kube-proxy on node1, node2: KeyError (own.py:3)"


def test_where_only_some_have_it_the_others_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proxies = {"node1": Stuck("KeyError (own.py:3)", hopeless=True), "node2": Stuck("no kernel")}
    _, said = waited(tmp_path, monkeypatch, proxies)
    assert said.startswith("no rules of services within 0.3 s: ")
