"""List-and-watch clients in a storm: 10,000 random changes, connections reset, history lost, servers changed.

  h1 API server (etcd)      h2 API server (etcd)      h3 API server (etcd)       memory: on h1 alone
       |                         |                         |
-------+-------------------------+-------------------------+-------------
                                 |
                                h4 clients, each at a server of its choice
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from ipaddress import IPv4Network
from typing import Any

import netbox
import pytest
from strict_informer import StrictInformer, Told, state_at

from mininetes.apiserver.allocators import ServiceRanges
from mininetes.apiserver.client import Client
from mininetes.apiserver.deletion import DeleteOptions
from mininetes.apiserver.etcd import EtcdMember, EtcdProcesses
from mininetes.apiserver.informer import Informer
from mininetes.apiserver.pki import Pki
from mininetes.apiserver.registry import Registry, WriteOptions
from mininetes.apiserver.resources import by_name
from mininetes.apiserver.server import ApiServer
from mininetes.apiserver.store import EtcdStore, MemoryStore, Store, connector_in
from mininetes.kernel.netns import in_netns
from mininetes.kernel.processes import Namespaces
from mininetes.probes.vantage import Vantage

CHANGES = 10_000
LONGEST_S = 270
"""Ten times what it takes on two quiet processors."""
OBJECTS = 60
TOGETHER = 20
CLIENTS = 3
TOKEN = "secret"
MAPS = by_name("configmaps")
PATH = "/api/v1/namespaces/default/configmaps"


class Log:
    """Keeps what went wrong."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def info(self, message: str, *, v: int = 0, **values: Any) -> None:
        pass

    def error(self, message: str, **values: Any) -> None:
        self.errors.append(f"{message} {values}")


@asynccontextmanager
async def api_server(store: Store, host: Vantage, pki: Pki, log: Log) -> AsyncIterator[ApiServer]:
    """An API server on a host."""
    server = ApiServer(
        store,
        network=ServiceRanges(IPv4Network("10.96.0.0/16"), range(30000, 32768)),
        pki=pki,
        tokens={TOKEN: "admin"},
        node=host.name,
        address=host.address,
        servers=[host.address],
        log=log,
    )
    with in_netns(host.netns):
        sock = socket.create_server((host.address, 6443), backlog=128)
    await server.start([sock])
    try:
        yield server
    finally:
        await server.stop()


class Changes:
    """Random changes of random objects, through any server; ``made`` is the truth."""

    def __init__(self, registries: list[Registry], seed: int) -> None:
        self._registries = registries
        self._random = random.Random(seed)
        self._there: set[str] = set()
        self._made: list[Told] = []

    @property
    def made(self) -> list[Told]:
        return sorted(self._made, key=lambda told: told[2])

    async def some(self) -> None:
        """Changes of different objects, all at once."""
        names = [f"c{n}" for n in self._random.sample(range(OBJECTS), TOGETHER)]
        await asyncio.gather(*(self._one(name) for name in names))

    async def _one(self, name: str) -> None:
        registry = self._random.choice(self._registries)
        value = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
        value["data"] = {"x": str(self._random.random())}
        if name not in self._there:
            self._there.add(name)
            stored = await registry.create(MAPS, "default", value, WriteOptions())
            self._made.append(("ADDED", name, stored.revision))
        elif self._random.random() < 0.3:
            self._there.remove(name)
            stored, _ = await registry.delete(MAPS, "default", name, DeleteOptions())
            self._made.append(("DELETED", name, stored.revision))
        else:
            stored = await registry.update(MAPS, "default", name, value, WriteOptions(), status=False)
            self._made.append(("MODIFIED", name, stored.revision))


async def storm(stores: list[Store], hosts: list[Vantage]) -> dict[str, Any]:
    """The storm over API servers on the first hosts, one for each store; clients on the last host."""
    pki, log, chance = Pki(), Log(), random.Random(11)
    async with contextlib.AsyncExitStack() as undo:
        pairs = list(zip(stores, hosts, strict=False))
        servers = [await undo.enter_async_context(api_server(store, host, pki, log)) for store, host in pairs]
        urls = [f"https://{host.address}:6443" for _, host in pairs]
        netns = hosts[-1].netns
        strict = [StrictInformer(urls, PATH, netns=netns, token=TOKEN, seed=n) for n in range(CLIENTS)]
        client = Client(urls, token=TOKEN, ca_pem=pki.ca_pem, netns=netns)
        undo.push_async_callback(client.close)
        informer = Informer(client, "configmaps", "default")
        tasks = [asyncio.ensure_future(each.run()) for each in (*strict, informer)]
        undo.push_async_callback(ended, tasks)
        await until(lambda: all(server._ready for server in servers), tasks)
        changes = Changes([server.registry for server in servers], seed=7)
        for _ in range(CHANGES // TOGETHER):
            await changes.some()
            if chance.random() < 0.10:
                unlucky = chance.choice(strict)
                await until(lambda: unlucky.watching, tasks)  # noqa: B023 - awaited at once
                unlucky.disconnect()
            if chance.random() < 0.02:
                await lose_history(strict, changes, stores, chance)
            await asyncio.sleep(0)
        last = changes.made[-1][2]
        await until(lambda: all(each.version >= last for each in strict), tasks)
        truth = changes.made
        await until(lambda: versions(informer) == state_at(truth, last), tasks)
        for each in strict:
            each.check(truth)
        return {
            "changes": len(truth),
            "broken": sum(each.broken for each in strict),
            "gone": sum(each.gone for each in strict),
            "resumed": sum(len(each.segments) - len(each.listed) for each in strict),
            "told": sum(len(events) for each in strict for _, events in each.segments),
            "errors": log.errors,
        }


async def lose_history(
    clients: list[StrictInformer], changes: Changes, stores: list[Store], chance: random.Random
) -> None:
    """Have the clients away while something happens that is then compacted; let them see all before, or not."""
    if chance.random() < 0.7:
        last = changes.made[-1][2]
        await until(lambda: all(each.version >= last for each in clients), [])
    for client in clients:
        client.may_connect.clear()
        client.disconnect()
    await changes.some()
    now = await stores[0].revision()
    await asyncio.gather(*(store.compact(now) for store in stores))
    for client in clients:
        client.may_connect.set()


def versions(informer: Informer) -> dict[str, int]:
    return {obj["metadata"]["name"]: int(obj["metadata"]["resourceVersion"]) for obj in informer.items.values()}


async def ended(tasks: list[asyncio.Future[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Any, tasks: list[asyncio.Future[None]]) -> None:
    """Wait for a condition, at most 20 s, while none of the tasks has failed."""
    end = time.monotonic() + 20
    while not condition():
        for task in tasks:
            if task.done():
                task.result()
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def not_for_ever(scenario: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """What the scenario returns; one that hangs ends this process, and says where each task hangs."""
    task = asyncio.ensure_future(scenario)
    done, _ = await asyncio.wait({task}, timeout=LONGEST_S)
    if not done:
        for each in asyncio.all_tasks():
            each.print_stack(file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)
    return task.result()


def storm_in_memory() -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        return await storm([MemoryStore()], netbox.Lan(4).hosts)

    return asyncio.run(not_for_ever(main()))


def storm_in_etcd() -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        hosts = netbox.Lan(4).hosts
        members = [
            EtcdMember(
                each.name, each.address, Namespaces(net=each.netns), f"/run/{each.name}", f"/run/{each.name}.log"
            )
            for each in hosts[:3]
        ]
        etcd = EtcdProcesses(members)
        await etcd.start()
        stores = [EtcdStore(etcd.endpoints(each.name), connector_in(each.netns)) for each in hosts[:3]]
        try:
            await asyncio.gather(*(store.start() for store in stores))
            return await storm([*stores], hosts)
        finally:
            for store in stores:
                await store.close()
            await etcd.stop()

    return asyncio.run(not_for_ever(main()))


if netbox.INSIDE not in os.environ:

    @pytest.mark.parametrize("scenario", [storm_in_memory, storm_in_etcd], ids=["memory", "etcd"])
    def test_nothing_is_missed_or_doubled_in_a_storm(scenario: Any) -> None:
        result = netbox.run(scenario, timeout_s=LONGEST_S + 30)
        assert result["errors"] == []
        assert result["changes"] >= CHANGES
        assert result["broken"] >= 40
        assert result["gone"] >= 10, "history was lost too seldom to show anything"
        assert result["resumed"] >= 30, "watches went on too seldom to show anything"
        assert result["told"] >= CHANGES
