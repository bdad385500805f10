"""A node with pods, another node, and clients outside, in a sandbox: where rules of a proxy meet real packets.

     pod 10.244.1.9   here1..4 10.244.1.21..24 (endpoints)
           |              |
         cni0 10.244.1.1 -+
+---------- node ---------+          far1..4 10.244.2.21..24     outside 203.0.113.2
|  eth0 192.168.1.11 (.111)|              (on lo)                blocked 203.0.113.130
+------------+------------+         far eth0 192.168.1.12              eth0 |
             +------------------------------+-------------------------------+
                                   br0 (no packet filter)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from netbox import ip_batch

from mininetes.agents.agent import Placement
from mininetes.agents.klog import AgentLog
from mininetes.agents.kubeproxy.compiling import compiler
from mininetes.agents.kubeproxy.configuration import kube_proxy_config
from mininetes.agents.kubeproxy.metrics import Metrics
from mininetes.agents.kubeproxy.restoring import NodeTools
from mininetes.agents.kubeproxy.rule_keeper import RuleKeeper, Synced
from mininetes.agents.kubeproxy.services import key_of
from mininetes.agents.kubeproxy.view_builder import NodeFacts, ViewBuilder
from mininetes.kernel.netns import add_named, delete_named, in_netns  # noqa: F401 - for tests that use them
from mininetes.kernel.processes import Namespaces, let_thread_enter
from mininetes.kernel.processes import run as run_process

HERE = [f"10.244.1.{n}" for n in range(21, 25)]
FAR = [f"10.244.2.{n}" for n in range(21, 25)]
NODE, SECOND, OTHER_NODE = "192.168.1.11", "192.168.1.111", "192.168.1.12"
OUTSIDE, BLOCKED = "203.0.113.2", "203.0.113.130"
POD = "10.244.1.9"
SERVICE_RANGES = ("10.96.0.0/12", "198.51.100.0/24", "203.0.113.192/26")
CLUSTER_CIDR = "10.244.0.0/16"
ANSWERED_WITHIN_S = 3.0
DROPPED_AFTER_S = 0.6


def path(name: str) -> str:
    return f"/run/netns/{name}"


def build() -> None:
    """Make the namespaces and links above."""
    hosts = [f"here{n}" for n in range(1, 5)]
    ip_batch("", ["link set lo up", "link add br0 type bridge", "link set br0 up"])
    for name in ("node", "far", "outside", "pod", *hosts):
        add_named(path(name))
    sysctl("", {"bridge/bridge-nf-call-iptables": "0"})
    for name in ("node", "far", "outside"):
        ip_batch("", [f"link add {name}0 type veth peer name eth0 netns {name}", f"link set {name}0 master br0 up"])
    ip_batch("node", ["link set lo up", "link add cni0 type bridge", "address add 10.244.1.1/24 dev cni0"])
    for number, name in enumerate([*hosts, "pod"]):
        ip_batch("node", [f"link add v{number} type veth peer name eth0 netns {name}"])
        ip_batch("node", [f"link set v{number} master cni0 up", "link set cni0 up"])
        run_process(
            ["bridge", "link", "set", "dev", f"v{number}", "hairpin", "on"], namespaces=Namespaces(net=path("node"))
        )
        address = POD if name == "pod" else HERE[number]
        lines = ["link set lo up", "link set eth0 up", f"address add {address}/24 dev eth0"]
        ip_batch(name, [*lines, "route add default via 10.244.1.1"])
    ip_batch("node", ["link set eth0 up", f"address add {NODE}/24 dev eth0", f"address add {SECOND}/24 dev eth0",
                      f"route add 10.244.2.0/24 via {OTHER_NODE}", "route add default dev eth0"])  # fmt: skip
    ip_batch("far", ["link set lo up", "link set eth0 up", f"address add {OTHER_NODE}/24 dev eth0",
                     *(f"address add {ip}/32 dev lo" for ip in FAR), f"route add 10.244.1.0/24 via {NODE}",
                     "route add 203.0.113.0/24 dev eth0"])  # fmt: skip
    ip_batch("outside", ["link set lo up", "link set eth0 up", f"address add {OUTSIDE}/32 dev eth0",
                         f"address add {BLOCKED}/32 dev eth0", "route add 192.168.1.0/24 dev eth0",
                         f"route add 10.244.0.0/16 via {NODE}",
                         *(f"route add {network} via {NODE}" for network in SERVICE_RANGES)])  # fmt: skip
    # a redirect would use up what the kernel allows of ICMP to a host in a second: refusals would come late
    sysctl("node", {"ipv4/ip_forward": "1", "ipv4/conf/all/rp_filter": "0", "bridge/bridge-nf-call-iptables": "1",
                    "ipv4/conf/all/send_redirects": "0", "ipv4/conf/eth0/send_redirects": "0",
                    "ipv4/conf/eth0/rp_filter": "0", "ipv4/conf/cni0/rp_filter": "0"})  # fmt: skip


def sysctl(name: str, values: dict[str, str]) -> None:
    with in_netns(path(name)) if name else contextlib.nullcontext():
        for key, value in values.items():
            with open(f"/proc/sys/net/{key}", "w") as file:
                file.write(value)


class Servers:
    """TCP and UDP servers of endpoints, in one thread: each says its name and whom it was asked by."""

    def __init__(self) -> None:
        self._chosen = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._chosen.register(self._woken, selectors.EVENT_READ, None)
        self._sockets: dict[tuple[str, str, int], socket.socket] = {}
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def serve(self, name: str, netns: str, address: str, port: int) -> None:
        """Serve at that address on TCP and UDP."""
        for kind in ("tcp", "udp"):
            with in_netns(path(netns)):
                sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((address, port))
                if kind == "tcp":
                    sock.listen(128)
            sock.setblocking(False)
            self._chosen.register(sock, selectors.EVENT_READ, (kind, name))
            self._sockets[kind, address, port] = sock
        self._wake.send(b".")

    def close_all(self) -> None:
        """Serve nowhere any more."""
        for sock in self._sockets.values():
            self._chosen.unregister(sock)
            sock.close()
        self._sockets.clear()

    def _serve(self) -> None:
        while True:
            for key, _ in self._chosen.select():
                if key.data is None:
                    self._woken.recv(100)
                    continue
                kind, name = key.data
                with contextlib.suppress(OSError):
                    self._answer(key.fileobj, kind, name)

    def _answer(self, sock: Any, kind: str, name: str) -> None:
        if kind == "udp":
            _, peer = sock.recvfrom(2048)
            sock.sendto(f"{name} {peer[0]}".encode(), peer)
        elif kind == "tcp":
            made, peer = sock.accept()
            made.setblocking(True)
            made.sendall(f"{name} {peer[0]}".encode())
            made.setblocking(False)
            self._chosen.register(made, selectors.EVENT_READ, ("open", name))
        else:
            data = sock.recv(2048)
            if data:
                sock.sendall(name.encode() + b" " + data)
            else:
                self._chosen.unregister(sock)
                sock.close()


@dataclass(frozen=True)
class Heard:
    """What came of one attempt: ``answered`` with the endpoint's name and what it saw, ``refused`` or ``nothing``."""

    outcome: str
    endpoint: str = ""
    seen: str = ""


def ask(netns: str, address: str, port: int, *, protocol: str = "tcp", source: str = "", source_port: int = 0) -> Heard:
    """Connect (or send a datagram) from a namespace, and say what came of it."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with in_netns(path(netns)):
        sock = socket.socket(socket.AF_INET, kind)
    with sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if source or source_port:
            sock.bind((source, source_port))
        sock.settimeout(DROPPED_AFTER_S)
        try:
            sock.connect((address, port))
            if protocol == "udp":
                sock.send(b"?")
            sock.settimeout(ANSWERED_WITHIN_S)
            answer = sock.recv(2048).decode()
        except ConnectionRefusedError:
            return Heard("refused")
        except (TimeoutError, OSError):
            return Heard("nothing")
    if not answer:
        return Heard("closed")
    name, _, seen = answer.partition(" ")
    return Heard("answered", name, seen)


@dataclass
class Proxy:
    """The rules of the node, kept by a RuleKeeper in a loop of its own thread. A context manager."""

    mode: Any
    config: dict[str, Any] = field(default_factory=dict)
    backend: Any = None
    zone: str = ""
    log_path: str = "/run/kube-proxy.log"

    def __enter__(self) -> Proxy:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._executor = ThreadPoolExecutor(2, initializer=let_thread_enter)
        place = Placement("node1", NODE, path("node"), 0)
        facts = NodeFacts("node1", NODE, self.zone, "10.244.1.0/24", (NODE,))
        self.refused: list[tuple[str, str]] = []
        self.builder = ViewBuilder(facts, self.mode, kube_proxy_config({"clusterCIDR": CLUSTER_CIDR, **self.config}),
                                   refused=lambda key, why: self.refused.append((key, why)))  # fmt: skip
        self.metrics = Metrics()
        self.log = AgentLog(self.log_path)
        tools = NodeTools(Namespaces(net=path("node")), self.backend)
        self.tools = tools
        self.keeper = RuleKeeper(
            place, self.builder, compiler(self.mode), tools, self.log, self.metrics, self._executor
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self.keeper.stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._executor.shutdown()
        self.log.close()

    def set(self, *objects: dict[str, Any]) -> None:
        """Services and endpoint slices as they are now."""
        for obj in objects:
            if "endpoints" in obj:
                old = self._slices.get(key_of(obj))
                self._slices[key_of(obj)] = obj
                self.builder.set_slice(key_of(obj), obj, old)
            else:
                self.builder.set_service(key_of(obj), obj)

    _slices: dict[str, dict[str, Any]] = field(default_factory=dict)

    def remove(self, obj: dict[str, Any]) -> None:
        if "endpoints" in obj:
            self.builder.set_slice(key_of(obj), None, self._slices.pop(key_of(obj)))
        else:
            self.builder.set_service(key_of(obj), None)

    def sync(self, *, whole: bool = False) -> Synced:
        return asyncio.run_coroutine_threadsafe(self.keeper.sync(whole=whole), self._loop).result(60)


def service(name: str, cluster_ip: str, ports: list[dict[str, Any]], **spec: Any) -> dict[str, Any]:
    """A Service of namespace default; ``status`` goes to its status."""
    status = spec.pop("status", {})
    annotations = spec.pop("annotations", {})
    return {
        "metadata": {"name": name, "namespace": "default", "annotations": annotations},
        "spec": {"type": "ClusterIP", "clusterIP": cluster_ip, "ports": ports, **spec},
        "status": status,
    }


def endpoint(address: str, **more: Any) -> dict[str, Any]:
    """An endpoint, on node1 when its address is of node1's pods; conditions may be given."""
    conditions = {key: more.pop(key) for key in ("ready", "serving", "terminating") if key in more}
    node = "node1" if address.startswith("10.244.1.") else "node2"
    return {"addresses": [address], "conditions": {"ready": True, **conditions}, "nodeName": node, **more}


def endpoint_slice(name: str, ports: list[dict[str, Any]], endpoints: list[dict[str, Any]]) -> dict[str, Any]:
    """The slice of a service."""
    return {
        "metadata": {"name": f"{name}-1", "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": endpoints,
    }


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[Any]:
    """Yields a function that is true until the time is over."""
    end = time.monotonic() + seconds
    yield lambda: time.monotonic() < end


def lines(log_path: str = "/run/kube-proxy.log") -> list[str]:
    """The log so far."""
    with open(log_path) as file:
        return file.read().splitlines()


def nft_json(*argv: str) -> Any:
    """What nft says of the node, as JSON."""
    return json.loads(run_process(["nft", "-j", *argv], namespaces=Namespaces(net=path("node"))).stdout)


def saved(backend: str = "nft") -> str:
    """The node's iptables rules."""
    return run_process([f"iptables-{backend}-save"], namespaces=Namespaces(net=path("node"))).stdout
