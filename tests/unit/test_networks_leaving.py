"""Containers that come while a node leaves, or go: what is said of them is what there is, and nothing of them stays."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mininetes.errors import MininetesError
from mininetes.spec import describe
from mininetes.spec_sections import ContainerNetworkSpec, ContainerSpec
from mininetes.testbed.blueprint import draw
from mininetes.testbed.networks import Ground, ground_of
from mininetes.testbed.networks_running import Networks

GROUND = ground_of(draw(describe({})))


class Ports:
    """A responder that takes its time to answer at a container's ports, and fails when told to."""

    def __init__(self) -> None:
        self.open: list[str] = []
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.failure: MininetesError | None = None

    async def serve(self, pod: str, *, node: str, netns: str, ports: Sequence[tuple[int, str]]) -> None:
        self.asked.set()
        await self.may_answer.wait()
        if self.failure is not None:
            raise self.failure
        self.open.append(pod)

    async def stop(self, pod: str) -> None:
        self.open = [each for each in self.open if each != pod]


class Rig:
    """Container networks without a kernel, whose changes take a while."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, executor: ThreadPoolExecutor) -> None:
        self.ports = Ports()
        cluster: Any = type("Cluster", (), {"pods": lambda _: []})()
        net: Any = type("Net", (), {"netns": lambda _, node: f"/nowhere/{node}"})()
        ports: Any = self.ports
        self.networks = Networks(cluster, net, ports, executor)

        async def ground() -> Ground:
            await asyncio.sleep(0)
            return GROUND

        monkeypatch.setattr(self.networks, "ground", ground)
        monkeypatch.setattr(self.networks, "_bring", lambda *_: None)

    async def run(self, name: str, node: str = "node3", network: str = "bridge") -> None:
        await self.networks.run(ContainerSpec(name=name, node=node, networks=(network,)))

    async def forget(self) -> list[str]:
        containers, _ = await self.networks.forget_node("node3")
        return [each.name for each in containers]

    @property
    def there(self) -> set[str]:
        return set(self.networks.catalogue.containers)


def played(monkeypatch: pytest.MonkeyPatch, play: Any) -> None:
    async def main() -> None:
        with ThreadPoolExecutor(1) as executor:
            scene: Coroutine[Any, Any, None] = play(Rig(monkeypatch, executor))
            await asyncio.wait_for(scene, 10)

    asyncio.run(main())


def test_containers_that_ran_until_a_node_left_go_with_it_and_later_ones_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def play(rig: Rig) -> None:
        coming = [asyncio.create_task(rig.run(f"w{number}")) for number in range(6)]
        while len(rig.there) < 2:
            await asyncio.sleep(0)
        with rig.networks.leaving("node3"):
            gone = await rig.forget()
            said = await asyncio.gather(*coming, return_exceptions=True)
        refused = [each for each in said if each is not None]
        assert [str(each) for each in refused] == ["node3 is leaving"] * len(refused)
        assert {f"w{number}" for number, each in enumerate(said) if each is None} <= set(gone)
        assert len(refused) >= 6 - len(gone) > 0
        assert (rig.there, rig.ports.open, rig.networks.catalogue.endpoints) == (set(), [], [])

    played(monkeypatch, play)


def test_nothing_comes_to_a_node_that_leaves_and_all_to_the_others_and_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(rig: Rig) -> None:
        await rig.run("here")
        with rig.networks.leaving("node3"):
            wanted = {"name": "near", "node": "node3"}, {"name": "wide", "driver": "overlay"}
            works = [
                rig.run("late"),
                rig.run("late", network="host"),
                *(rig.networks.create(ContainerNetworkSpec.model_validate(each)) for each in wanted),
            ]
            for work in works:
                with pytest.raises(MininetesError, match=r"^node3 is leaving$"):
                    await work
            await rig.run("elsewhere", "node2")
            await rig.networks.stop("here")
        await rig.run("again")
        assert rig.there == {"elsewhere", "again"}

    played(monkeypatch, play)


@pytest.mark.parametrize("failure", [None, MininetesError("no such namespace")])
@pytest.mark.parametrize("network", ["bridge", "host"])
def test_a_container_whose_node_left_as_it_started_does_not_run(
    network: str, failure: MininetesError | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play(rig: Rig) -> None:
        rig.ports.may_answer.clear()
        coming = asyncio.create_task(rig.run("late", network=network))
        await rig.ports.asked.wait()
        with rig.networks.leaving("node3"):
            assert await rig.forget() == ["late"]
            rig.ports.failure = failure
            rig.ports.may_answer.set()
            with pytest.raises(MininetesError, match=r"^node3 is leaving$"):
                await coming
        assert (rig.there, rig.ports.open) == (set(), [])

    played(monkeypatch, play)


def test_a_container_that_was_removed_as_it_started_takes_no_other_of_its_name_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def play(rig: Rig) -> None:
        rig.ports.may_answer.clear()
        coming = asyncio.create_task(rig.run("web"))
        await rig.ports.asked.wait()
        await rig.networks.stop("web")
        another = asyncio.create_task(rig.run("web", "node2"))
        while not rig.there:
            await asyncio.sleep(0)
        rig.ports.may_answer.set()
        with pytest.raises(MininetesError, match=r"^container/web was removed as it started$"):
            await coming
        await another
        assert rig.networks.catalogue.containers["web"].node == "node2"
        assert "container/web" in rig.ports.open

    played(monkeypatch, play)


def test_a_container_that_is_removed_meanwhile_keeps_no_node_from_leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(rig: Rig) -> None:
        for name in ("a", "b", "c"):
            await rig.run(name)
        removing = [asyncio.create_task(rig.networks.stop(name)) for name in ("b", "b")]
        await asyncio.sleep(0)
        with rig.networks.leaving("node3"):
            gone = await rig.forget()
        await asyncio.gather(*removing)
        assert gone == ["a", "c"]
        assert rig.there == set()

    played(monkeypatch, play)
