"""What a kubelet makes of its node's pod network: the configuration's files, the plugins' STATUS, and garbage."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mininetes.agents.cni.runtime import Attachment, CniFailed
from mininetes.agents.kubelet import pod_network
from mininetes.agents.kubelet.pod_network import PodNetwork
from mininetes.deadline import within

CONFLIST = {"cniVersion": "1.1.0", "name": "pods", "plugins": [{"type": "one"}]}


class Runtime:
    """A runtime that says what it is told to."""

    node = "node1"

    def __init__(self) -> None:
        self.cached: list[Attachment] = []
        self.status: CniFailed | None = None
        self.collected: list[set[tuple[str, str]]] = []

    def attachments(self) -> list[Attachment]:
        return self.cached

    def check_status(self) -> None:
        if self.status is not None:
            raise self.status

    def collect_garbage(self, valid: Callable[[], Collection[tuple[str, str]]]) -> list[str]:
        self.collected.append(set(valid()))
        return ["one DEL: stuck"]


class Log:
    def __init__(self) -> None:
        self.said: list[str] = []

    def warning(self, message: str, **values: Any) -> None:
        self.said.append(f"{message} {values}")

    error = warning


class Network:
    """A kubelet's view of a node that is a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runtime, self.log, self.own = folder, Runtime(), Log(), set[str]()
        self.conf_dir = folder / "etc/cni/net.d"
        self.conf_dir.mkdir(parents=True)
        self.executor = ThreadPoolExecutor(1)
        made: Any = PodNetwork
        self.seen: PodNetwork = made(self.runtime, self.executor, self.log, lambda: self.own)

    def configure(self, text: str) -> None:
        (self.conf_dir / "10-x.conflist").write_text(text)
        os.utime(self.conf_dir)

    def run(self, until: Callable[[], bool], within_s: float = 10.0) -> None:
        asyncio.run(self._run(until, within_s))

    async def _run(self, until: Callable[[], bool], within_s: float) -> None:
        task = asyncio.create_task(self.seen.run())
        try:
            async with within(within_s):
                while not until():
                    await asyncio.sleep(0.005)
        finally:
            task.cancel()
            await asyncio.wait([task])


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Network:
    monkeypatch.setattr(pod_network, "node_path", lambda _, path: f"{tmp_path}{path}")
    monkeypatch.setattr(pod_network, "netns_path", lambda _, name: f"{tmp_path}/run/netns/{name}")
    for period in ("STATUS_PERIOD_S", "UNAVAILABLE_PERIOD_S", "GC_PERIOD_S"):
        monkeypatch.setattr(pod_network, period, 0.01)
    monkeypatch.setattr(pod_network, "FIRST_STATUS_S", -9.0)
    made = Network(tmp_path)
    made.configure(json.dumps(CONFLIST))
    return made


def test_a_network_is_there_with_its_configuration(network: Network) -> None:
    assert network.seen.failure() == ""
    (network.conf_dir / "10-x.conflist").unlink()
    assert "cni plugin not initialized" in network.seen.failure()
    network.configure("{")
    assert "cni plugin not initialized" in network.seen.failure()
    network.configure(json.dumps(CONFLIST))
    assert network.seen.failure() == ""


def test_a_plugin_that_cannot_add_pods_makes_an_empty_node_unready_until_it_can(network: Network) -> None:
    network.runtime.status = CniFailed("one", "STATUS", 50, "no agent")
    network.run(lambda: "NetworkPluginNotReady" in network.seen.failure())
    assert "no agent" in network.seen.failure()
    network.runtime.status = None
    network.run(lambda: network.seen.failure() == "")


def test_a_node_with_pods_stays_ready_unless_these_are_cut_off_too(network: Network) -> None:
    network.own.add("web-1")
    network.runtime.status = CniFailed("one", "STATUS", 50, "no address is free")
    network.run(lambda: len(network.runtime.collected) >= 2)
    assert network.seen.failure() == ""
    network.runtime.status = CniFailed("one", "STATUS", 51, "the bridge is down")
    network.run(lambda: "the bridge is down" in network.seen.failure())


def test_garbage_is_collected_at_the_start_where_something_was_kept_and_from_time_to_time(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_network, "FIRST_STATUS_S", 1000.0)
    with pytest.raises(asyncio.TimeoutError):
        network.run(lambda: bool(network.runtime.collected), within_s=0.2)
    (network.folder / "var/lib/cni/networks").mkdir(parents=True)
    network.run(lambda: bool(network.runtime.collected))
    monkeypatch.setattr(pod_network, "FIRST_STATUS_S", -9.0)
    network.run(lambda: len(network.runtime.collected) > 3)
    assert any("stuck" in each for each in network.log.said)


def test_what_is_valid_is_the_kubelets_own_and_what_was_added_by_hand_and_is_there(network: Network) -> None:
    (network.folder / "run/netns").mkdir(parents=True)
    for name in ("hand", "ended"):
        (network.folder / "run/netns" / name).touch()
    pod = (("K8S_POD_UID", "u"),)
    network.own.add("mine")
    network.runtime.cached = [
        Attachment("mine", "/run/netns/mine", args=pod),
        Attachment("ended", "/run/netns/ended", args=pod),
        Attachment("hand", "/run/netns/hand", "net1"),
        Attachment("by var run", "/var/run/netns/hand"),
        Attachment("gone", "/run/netns/gone"),
        Attachment("nowhere", None),
    ]
    assert network.seen.valid() == {("mine", "eth0"), ("hand", "net1"), ("by var run", "eth0")}
