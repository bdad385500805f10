"""A real etcd for tests: one member on 127.0.0.1, at ports that were free a moment ago."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mininetes.apiserver.etcd import EtcdMember, EtcdProcesses
from mininetes.kernel.processes import HERE

DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 on which nobody listens."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def local_member(folder: Path) -> EtcdMember:
    """A member in this process's namespaces, with its data and log in ``folder``."""
    client_port, peer_port = free_ports(2)
    log = str(folder / "etcd.log")
    return EtcdMember("one", "127.0.0.1", HERE, str(folder / "data"), log, client_port, peer_port)


@contextmanager
def running_etcd(folder: Path) -> Iterator[str]:
    """An etcd for the block; its URL."""
    processes = EtcdProcesses([local_member(folder)], launcher=DIES_WITH_US)
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(processes.start())
        yield processes.endpoints("one")[0]
    finally:
        loop.run_until_complete(processes.stop())
        loop.close()
