"""Three etcd members in three network namespaces: what is lost with one of them, and with two.

h1 10.9.0.1 ---- h2 10.9.0.2 ---- h3 10.9.0.3      on one bridge
etcd 2379, 2380  etcd             etcd
an API server's store on each, its own member first
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any

import netbox
import pytest

from mininetes.apiserver.etcd import EtcdMember, EtcdProcesses
from mininetes.apiserver.store import EtcdStore, KeyExists, StoreEvent, StoreUnavailable, connector_in
from mininetes.apiserver.store.gateway import Gateway
from mininetes.kernel.processes import Namespaces
from mininetes.probes.vantage import Vantage

KEY = "/registry/pods/default/"
DEADLINE_S = 5.0


def member(host: Vantage) -> EtcdMember:
    """A member in a host's network namespace; its data in the sandbox's memory."""
    data, log = f"/run/etcd-{host.name}", f"/run/etcd-{host.name}.log"
    return EtcdMember(host.name, host.address, Namespaces(net=host.netns), data, log)


class Trio:
    """The members, a store beside each, and somebody who writes all the time and notes what was acknowledged."""

    def __init__(self) -> None:
        self.lan = netbox.Lan(3)
        self.hosts = {host.name: host for host in self.lan.hosts}
        self.etcd = EtcdProcesses([member(host) for host in self.lan.hosts])
        self.acknowledged: dict[str, int] = {}
        self._numbers = itertools.count()

    async def __aenter__(self) -> Trio:
        await self.etcd.start()
        self.stores = {
            name: EtcdStore(self.etcd.endpoints(name), connector_in(host.netns), deadline_s=DEADLINE_S)
            for name, host in self.hosts.items()
        }
        await asyncio.gather(*(store.start() for store in self.stores.values()))
        return self

    async def __aexit__(self, *_: object) -> None:
        for store in self.stores.values():
            await store.close()
        await self.etcd.stop()

    async def leader(self) -> str:
        """The host whose member leads."""
        for name, host in self.hosts.items():
            gateway = Gateway([self.etcd.members[name].local_url], connector_in(host.netns), deadline_s=5.0)
            status, _ = await gateway.call("/v3/maintenance/status", {}, repeatable=True)
            await gateway.close()
            if status["leader"] == status["header"]["member_id"]:
                return name
        raise AssertionError("nobody leads")

    async def write(self, host: str) -> None:
        """One object through that host's store."""
        name = f"p{next(self._numbers)}"
        stored = await self.stores[host].create(KEY + name, {"metadata": {"name": name}})
        self.acknowledged[stored.key] = stored.revision

    async def write_until(self, host: str, ended: asyncio.Event) -> int:
        """Write until told to end; how many writes were refused."""
        refused = 0
        while not ended.is_set():
            try:
                await self.write(host)
            except StoreUnavailable:
                refused += 1
        return refused

    async def refusal_s(self, call: Coroutine[Any, Any, Any]) -> float:
        """How long it took until the call was refused."""
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await call
        return time.monotonic() - began

    async def lost(self) -> list[str]:
        """Acknowledged writes that one of the stores does not show as they were."""
        missing = []
        for host, store in self.stores.items():
            there = {each.key: each.revision for each in (await store.list(KEY)).items}
            missing += [f"{host}: {key}" for key, revision in self.acknowledged.items() if there.get(key) != revision]
        return missing

    def link(self, host: str, state: str) -> None:
        """Cut a host off, or bring its link back."""
        netbox.ip_batch("", [f"link set v{host[1:]} {state}"])


async def loss_of_one(harm: Callable[[Trio, str], Any], heal: Callable[[Trio, str], Any]) -> dict[str, Any]:
    """Lose the leader while others write and watch; then get it back."""
    async with Trio() as trio:
        victim = await trio.leader()
        writer, watcher = (name for name in trio.hosts if name != victim)
        async with trio.stores[watcher].watch(KEY, after=await trio.stores[watcher].revision()) as watch:
            ended = asyncio.Event()
            writing = asyncio.ensure_future(trio.write_until(writer, ended))
            await until(lambda: len(trio.acknowledged) >= 50)
            await harm(trio, victim)
            before = len(trio.acknowledged)
            await until(lambda: len(trio.acknowledged) >= before + 50)
            without = len(trio.acknowledged)
            await heal(trio, victim)
            await trio.etcd.wait_healthy(victim)
            await until(lambda: len(trio.acknowledged) >= without + 50)
            ended.set()
            refused = await writing
            await trio.write(victim)  # the member that was lost takes writes again
            seen: list[int] = []
            while not seen or seen[-1] < max(trio.acknowledged.values()):
                seen += [each.revision for each in await watch.__anext__() if isinstance(each, StoreEvent)]
        acknowledged = sorted(trio.acknowledged.values())
        return {
            "refused": refused,
            "lost": await trio.lost(),
            "not seen": sorted(set(acknowledged) - set(seen)),
            "in order": seen == sorted(set(seen)),
        }


def killed() -> dict[str, Any]:
    async def kill(trio: Trio, victim: str) -> None:
        await trio.etcd.kill(victim)
        assert not trio.etcd.running(victim)

    async def start_again(trio: Trio, victim: str) -> None:
        await trio.etcd.start_member(victim)

    return asyncio.run(loss_of_one(kill, start_again))


def cut_off() -> dict[str, Any]:
    async def cut(trio: Trio, victim: str) -> None:
        trio.link(victim, "down")
        # on the wrong side of the cut nothing is promised: neither writes nor reads
        assert await trio.refusal_s(trio.write(victim)) < DEADLINE_S + 1
        assert await trio.refusal_s(trio.stores[victim].list(KEY)) < DEADLINE_S + 1

    async def heal(trio: Trio, victim: str) -> None:
        trio.link(victim, "up")

    return asyncio.run(loss_of_one(cut, heal))


def majority_lost() -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        async with Trio() as trio:
            for _ in range(20):
                await trio.write("h1")
            await trio.etcd.kill("h2")
            await trio.etcd.kill("h3")
            late = [await trio.refusal_s(trio.write("h1")), await trio.refusal_s(trio.stores["h1"].revision())]
            key = KEY + "while-down"
            late.append(await trio.refusal_s(trio.stores["h1"].create(key, {"metadata": {"name": "while-down"}})))
            await trio.etcd.start_member("h2")
            await trio.etcd.wait_healthy("h2")
            await trio.write("h1")
            with contextlib.suppress(KeyExists):  # it was refused with "unavailable": done or not, now it can be told
                await trio.stores["h1"].create(key, {"metadata": {"name": "while-down"}})
            await trio.etcd.start_member("h3")
            await trio.etcd.wait_healthy("h3")
            there = [each.key for each in (await trio.stores["h3"].list(KEY)).items]
            return {"late_s": max(late), "lost": await trio.lost(), "while down": there.count(key)}

    return asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, at most 30 s."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


if netbox.INSIDE not in os.environ:

    @pytest.mark.parametrize("how", [killed, cut_off], ids=["killed", "link cut"])
    def test_the_loss_of_one_of_three_loses_no_acknowledged_write(how: Callable[[], dict[str, Any]]) -> None:
        result = netbox.run(how)
        assert result["lost"] == []
        assert result["not seen"] == []
        assert result["in order"]
        assert result["refused"] <= 1  # the one that was under way while a leader was elected

    def test_one_of_three_refuses_in_time_and_goes_on_when_a_second_is_back() -> None:
        result = netbox.run(majority_lost, user_namespace=True)  # no root is needed
        assert result["late_s"] < DEADLINE_S + 1
        assert result["lost"] == []
        assert result["while down"] == 1
