"""A throw-away sandbox for tests that need namespaces: a function runs inside, its result comes back as JSON.

    result = netbox.run(function_of_a_test_module, 3, size=56)

Nothing of it is visible on the host, and the kernel takes all of it away with the child's first process.
Inside, `Lan` builds hosts on a bridge:

    +--------- sandbox ----------+
    |  br0 ----+------+------+   |
    |          |      |      |   |
    |         h1     h2     h3   |   10.9.0.1, 10.9.0.2, ... in /run/netns/hN
    +----------------------------+
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mininetes.kernel.netns import add_named, mount
from mininetes.kernel.processes import Namespaces
from mininetes.kernel.processes import run as run_process
from mininetes.probes.responder_client import Responder, ServedPort
from mininetes.probes.vantage import Vantage

REPOSITORY = Path(__file__).parents[2]
SANDBOX = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
USER_NAMESPACE = ["--user", "--map-root-user"]
INSIDE = "MININETES_NETBOX"
PORTS = [ServedPort(8080, "TCP"), ServedPort(8080, "UDP")]


def run(function: Callable[..., Any], *arguments: Any, user_namespace: bool = False, timeout_s: float = 120.0) -> Any:
    """Call a module's top-level function in a new sandbox and return what it returned.

    A user namespace is always used when the caller is not root. An exception inside fails the
    caller with its traceback.
    """
    assert INSIDE not in os.environ, "run() was called inside a sandbox: guard the module with __name__"
    argv = [*SANDBOX, *(USER_NAMESPACE if user_namespace or os.geteuid() != 0 else [])]
    argv += [sys.executable, __file__, inspect.getfile(function), function.__name__, json.dumps(arguments)]
    paths = [str(REPOSITORY), *map(str, Path(__file__).parents[:2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, INSIDE: "1", "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, env=env, check=False)
    assert done.returncode == 0, f"in the sandbox: {done.stderr}{done.stdout}"
    return json.loads(done.stdout.splitlines()[-1])


class Lan:
    """Hosts on one bridge. With ``permanent`` each knows all the others' MAC addresses from the start.

    That is for many hosts: learnt neighbours of all namespaces share the kernel's one table.
    """

    def __init__(self, hosts: int, *, permanent: bool = False) -> None:
        numbers = range(1, hosts + 1)
        ip_batch("", ["link set lo up", "link add br0 type bridge", "link set br0 up"])
        for number in numbers:
            add_named(f"/run/netns/h{number}")
        links = [f"link add v{n} type veth peer name eth0 address {_mac(n)} netns h{n}" for n in numbers]
        ip_batch("", [*links, *(f"link set v{n} master br0 up" for n in numbers)])
        for number in numbers:
            lines = ["link set lo up", "link set eth0 up", f"address add {_address(number)}/16 dev eth0"]
            if permanent:
                others = [n for n in numbers if n != number]
                lines += [f"neighbour add {_address(n)} lladdr {_mac(n)} dev eth0 nud permanent" for n in others]
            ip_batch(f"h{number}", lines)
        self.hosts = [Vantage(f"h{n}", "pod", f"node{n % 2}", _address(n), f"/run/netns/h{n}") for n in numbers]


class Chain:
    """Two pods with routers between them, so that the way takes longer than the ends.

    p1 10.8.0.1 --- 10.8.0.2 r1 10.8.1.1 --- 10.8.1.2 r2 10.8.2.1 --- ... --- 10.8.N.2 p2
    """

    def __init__(self, routers: int) -> None:
        names = ["p1", *(f"r{n}" for n in range(1, routers + 1)), "p2"]
        for name in names:
            add_named(f"/run/netns/{name}")
        links = range(len(names) - 1)
        ip_batch("", [f"link add right netns {names[n]} type veth peer name left netns {names[n + 1]}" for n in links])
        last = links[-1]
        for n, name in enumerate(names):
            lines = []
            if n > 0:
                lines += ["link set left up", f"address add 10.8.{n - 1}.2/24 dev left"]
            if n <= last:
                lines += ["link set right up", f"address add 10.8.{n}.1/24 dev right"]
            if n > 1:
                lines.append(f"route add 10.8.0.0/24 via 10.8.{n - 1}.1")
            if n < last:
                lines.append(f"route add 10.8.{last}.0/24 via 10.8.{n}.2")
            ip_batch(name, lines)
            if 0 < n <= last:
                run_process(["sysctl", "-qw", "net.ipv4.ip_forward=1"], namespaces=Namespaces(net=f"/run/netns/{name}"))
        self.pods = [
            Vantage("p1", "pod", "node1", "10.8.0.1", "/run/netns/p1"),
            Vantage("p2", "pod", "node2", f"10.8.{last}.2", "/run/netns/p2"),
        ]


class Served:
    """Responders for all hosts, while the block runs (in a thread, as the engine's loop is elsewhere)."""

    def __init__(self, hosts: list[Vantage], ports: Sequence[ServedPort] = PORTS) -> None:
        self._hosts, self._ports = hosts, ports
        self._ready, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        async with await Responder.start() as responder:
            for host in self._hosts:
                await responder.serve(host.name, node=host.node, netns=host.netns, ports=self._ports)
            self._ready.set()
            await asyncio.to_thread(self._end.wait)

    def __enter__(self) -> Served:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def cut(host: Vantage) -> None:
    """Cut a `Lan`'s host off."""
    ip_batch("", [f"link set v{host.name[1:]} down"])


def ip_batch(namespace: str, lines: list[str]) -> None:
    """Give ``ip`` a batch of commands, in a named namespace or (empty) in the sandbox's own."""
    where = ["-n", namespace] if namespace else []
    run_process(["ip", *where, "-batch", "-"], stdin="\n".join(lines) + "\n")


def inside(host: Vantage, *argv: str, stdin: str = "", check: bool = True) -> str:
    """Run a program in a host's namespace and return what it printed."""
    return run_process(argv, namespaces=Namespaces(net=host.netns), stdin=stdin, check=check).stdout


def _address(number: int) -> str:
    return f"10.9.{number >> 8}.{number & 255}"


def _mac(number: int) -> str:
    return f"02:00:0a:09:{number >> 8:02x}:{number & 255:02x}"


def prepare() -> None:
    """Give the sandbox a /run of its own."""
    mount("tmpfs", "/run", "tmpfs")
    Path("/run/netns").mkdir()


def _main(path: str, name: str, arguments: str) -> None:
    """In the sandbox: call the function and print its result as the last line."""
    prepare()
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[Path(path).stem] = module
    spec.loader.exec_module(module)
    print(json.dumps(getattr(module, name)(*json.loads(arguments))))


if __name__ == "__main__":
    _main(*sys.argv[1:])
