"""A service's life on a whole cluster: what every node's kernel must have of it after each step, and nothing else.

every node: kube-proxy with minSyncPeriod 0, a pod (an endpoint or not), and a watcher of the rules
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster_api import MERGE, ClusterApi
from running_lab import RunningLab, environment

from mininetes.lab import state
from mininetes.lab.asking import ask

SERVICES = "/api/v1/namespaces/default/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
NAME = "life"
UDP_PORTS = list(range(20000, 20008))
NODE_PORTS = (30023, 30024)
"""Not among those that the API server chooses."""
PROTOCOLS = ("tcp", "udp")
NOBODYS = "192.0.2.1"
STEPS = ("created", "first endpoints", "an endpoint added", "one lost", "port changed", "kind changed", "deleted")


@dataclass(frozen=True)
class Pace:
    """``latest_s``: how long a step may take to be in every kernel; ``table_s``: how long the truth table may.

    ``connections`` and ``timeout_s`` as the truth table has them; ``tries``: what holds in one of them holds.
    """

    latest_s: float = 20.0
    table_s: float = 120.0
    connections: int = 20
    timeout_s: float = 1.0
    tries: int = 1


class Watcher:
    """rule_watcher.py in one node."""

    def __init__(self, lab: RunningLab, node: str, mode: str) -> None:
        argv = lab.argv(node, sys.executable, str(Path(__file__).with_name("rule_watcher.py")), mode)
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
        )

    def ask(self, **request: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate(timeout=60)


class Life:
    """The service as it is now, step by step; how long each step took to be in every kernel.

    ``pods``: its endpoints, one on each node, two at least; none of another service in mode ipvs.
    """

    def __init__(
        self, lab: RunningLab, mode: str, watchers: dict[str, Watcher], pods: Sequence[str], pace: Pace
    ) -> None:
        self.lab, self.mode, self.watchers, self.pace = lab, mode, watchers, pace
        self.api = ClusterApi(lab)
        self.addresses = [lab.address(f"pod/{pod}") for pod in pods]
        self._pod_of = dict(zip(lab.nodes, self.addresses, strict=True))
        self.took_s: list[tuple[str, float]] = []
        self.tables: list[tuple[str, list[dict[str, Any]]]] = []
        """For each step that was asked about, the rows that do not hold."""
        self._pool = ThreadPoolExecutor(len(watchers))
        self._here: list[str] = []
        self._ip, self._last_ip = "", NOBODYS
        self._node_port = False
        self._numbers = (80, 90)
        seen = self._everywhere(lambda _: self._request([], within_s=0.0))
        self._others: dict[str, set[str]] = {node: set(each["facts"]) for node, each in seen.items()}
        """What watchers see before it lives: mode ipvs has rules on sets, which all services share."""

    def close(self) -> None:
        self._pool.shutdown()

    def _everywhere(self, of_node: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
        said = self._pool.map(lambda node: self.watchers[node].ask(**of_node(node)), self.watchers)
        return dict(zip(self.watchers, said, strict=True))

    def rules(self) -> dict[str, Any]:
        """All rules of every node."""
        return self._everywhere(lambda _: {"all": True})

    def _wanted(self, node: str) -> set[str]:
        """What that node's kernel must have of the service now."""
        return self._others[node] | (self._own(node) if self._ip else set())

    def _own(self, node: str) -> set[str]:
        found = {f"ip {self._ip}:{port}/{protocol}" for port, protocol in zip(self._numbers, PROTOCOLS, strict=True)}
        if self.mode not in ("userspace", "ipvs") and not self._here:
            return {each.replace("ip ", "reject ") for each in found}
        if self._node_port:
            found |= {f"node port {port}/{protocol}" for port, protocol in zip(NODE_PORTS, PROTOCOLS, strict=True)}
        if self.mode == "userspace":
            return found
        found |= {f"to {ip}:8080/{protocol}" for ip in self._here for protocol in PROTOCOLS}
        return found | self._beside_servers(node) if self.mode == "ipvs" else found

    def _beside_servers(self, node: str) -> set[str]:
        """What mode ipvs has besides virtual and real servers: an address, members of sets, rules on sets."""
        found = {f"carried {self._ip}", f"in KUBE-IPVS-IPS {self._ip}"}
        for port, node_port, protocol in zip(self._numbers, NODE_PORTS, PROTOCOLS, strict=True):
            found.add(f"in KUBE-CLUSTER-IP {self._ip},{protocol}:{port}")
            if (own := self._pod_of[node]) in self._here:
                found.add(f"in KUBE-LOOP-BACK {own},{protocol}:8080,{own}")
            if self._node_port:
                name = f"KUBE-NODE-PORT-{protocol.upper()}"
                found |= {f"in {name} {node_port}", f"rule on {name}"}
        return found

    def _request(self, wanted: Iterable[str], *, within_s: float) -> dict[str, Any]:
        """What a watcher is asked."""
        return {
            "service": f"default/{NAME}",
            "ip": self._ip or self._last_ip,
            "node_ports": NODE_PORTS,
            "endpoints": self.addresses,
            "live": None if self.mode == "userspace" else self._here,
            "udp_port": self._numbers[1] if self._ip else 0,
            "wanted": sorted(wanted),
            "within_s": within_s,
        }

    def _step(self, name: str, write: Any, *, table: bool) -> None:
        """Make a change by ``write``, and see it in every kernel."""
        began = time.time()
        write()
        found = self._everywhere(lambda node: self._request(self._wanted(node), within_s=self.pace.latest_s))
        for node, seen in found.items():
            assert seen["at"] is not None, f"{name}, {node}: {seen['facts']}, not {sorted(self._wanted(node))}"
            self.took_s.append((name, seen["at"] - began))
        if self._here and self._ip:
            # every step has flows that the next one must not leave behind
            answered = self._everywhere(lambda _: {"send": [self._ip, self._numbers[1]], "from": UDP_PORTS})
            assert all(count > 0 for count in answered.values()), f"{name}: {answered}"
        if table and self._ip:
            self.tables.append((name, self._wrong_rows()))

    def _wrong_rows(self) -> list[dict[str, Any]]:
        """The rows of the truth table that do not hold. The lab is asked without a command, which takes a second."""
        wrong: list[dict[str, Any]] = []
        asked = {"services": [NAME], "connections": self.pace.connections, "timeout_s": self.pace.timeout_s}
        for _ in range(self.pace.tries):
            control = state.find(self.lab.name).control
            said = ask(control, answer_within_s=self.pace.table_s, op="truth-table",
                       modes=[], programs=[], flows=[], **asked)  # fmt: skip
            assert said["lines"], said
            wrong = [row for row in said["lines"] if not row["holds"]]
            if not wrong:
                break
        return wrong

    def _ports(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "port": port, "targetPort": 8080, "protocol": protocol.upper()}
            | ({"nodePort": node_port} if self._node_port else {})
            for name, port, protocol, node_port in zip(
                ("http", "dgram"), self._numbers, PROTOCOLS, NODE_PORTS, strict=True
            )
        ]

    def _slice(self) -> dict[str, Any]:
        ends = [
            {"addresses": [ip], "nodeName": node, "conditions": {"ready": True}}
            for ip, node in zip(self.addresses, self.lab.nodes, strict=True)
            if ip in self._here
        ]
        ports = [{"name": name, "port": 8080, "protocol": protocol} for name, protocol in
                 (("http", "TCP"), ("dgram", "UDP"))]  # fmt: skip
        labels = {"kubernetes.io/service-name": NAME}
        return {"metadata": {"name": NAME, "labels": labels}, "addressType": "IPv4", "ports": ports, "endpoints": ends}

    def cycle(self, *, table: bool) -> None:
        """From nothing to nothing."""

        def create() -> None:
            made = self.api.create(SERVICES, {"metadata": {"name": NAME}, "spec": {"ports": self._ports()}})
            self._ip = self._last_ip = made["spec"]["clusterIP"]

        def endpoints(*here: str) -> Any:
            def write() -> None:
                fresh, self._here = not self._here, list(here)
                if fresh:
                    self.api.create(SLICES, self._slice())
                else:
                    self.api.request("PATCH", f"{SLICES}/{NAME}", {"endpoints": self._slice()["endpoints"]}, MERGE)

            return write

        def renumber() -> None:
            self._numbers = (81, 91)
            self.api.request("PATCH", f"{SERVICES}/{NAME}", {"spec": {"ports": self._ports()}}, MERGE)

        def become_node_port() -> None:
            self._node_port = True
            spec = {"type": "NodePort", "ports": self._ports()}
            self.api.request("PATCH", f"{SERVICES}/{NAME}", {"spec": spec}, MERGE)

        def delete() -> None:
            self.api.request("DELETE", f"{SERVICES}/{NAME}")
            self._ip = ""

        self._numbers, self._node_port, self._here = (80, 90), False, []
        some, every, others = self.addresses[:-1], self.addresses, self.addresses[1:]
        writes = (create, endpoints(*some), endpoints(*every), endpoints(*others), renumber, become_node_port, delete)
        for name, write in zip(STEPS, writes, strict=True):
            self._step(name, write, table=table)
        self.api.request("DELETE", f"{SLICES}/{NAME}")


@contextmanager
def living(lab: RunningLab, mode: str, pods: Sequence[str], pace: Pace) -> Iterator[Life]:
    """A service that is about to live on that lab, with a watcher in every node, for the block."""
    with ExitStack() as undo:
        watchers = {node: Watcher(lab, node, mode) for node in lab.nodes}
        for each in watchers.values():
            undo.callback(each.close)
        made = Life(lab, mode, watchers, pods, pace)
        undo.callback(made.close)
        yield made
