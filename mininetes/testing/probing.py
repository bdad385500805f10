"""Measurements of a test's cluster, each with an answer that says whether it holds and, if not, what was seen."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from mininetes.errors import BadInput
from mininetes.lab.asking import ask
from mininetes.testing.cluster import Cluster, Place

if TYPE_CHECKING:
    from mininetes.probes.latency import Summary
    from mininetes.probes.matrix import Cell, ReachabilityMatrix
    from mininetes.probes.truth_table import Line, TruthTable

_MOST_NAMED = 12
_SHORT = 200
_TABLE_WIDTH = 160
_Answer = TypeVar("_Answer", bound="Answer")


class Answer:
    """What was measured. True when it holds; ``message`` says all that a reader of a failure wants to know."""

    @property
    def holds(self) -> bool:
        """Whether everything is as it must be."""
        raise NotImplementedError

    @property
    def message(self) -> str:
        """A summary, and what is not as it must be, one a line."""
        raise NotImplementedError

    def __bool__(self) -> bool:
        return self.holds

    def __repr__(self) -> str:
        text = "; ".join(line.strip() for line in self.message.splitlines()[:2])
        return f"<{text[:_SHORT]}>"


def _listed(items: Iterable[object]) -> list[str]:
    found = [f"  {each}" for each in items]
    return found if len(found) <= _MOST_NAMED else [*found[:_MOST_NAMED], f"  and {len(found) - _MOST_NAMED} more"]


@dataclass(frozen=True, repr=False)
class Reachability(Answer):
    """Who reaches whom, expected against measured."""

    matrix: ReachabilityMatrix

    @property
    def holds(self) -> bool:
        """Whether every pair is as the cluster's description has it."""
        return self.matrix.holds

    @property
    def mismatches(self) -> tuple[Cell, ...]:
        """The pairs that are not."""
        return self.matrix.mismatches

    def reached(self, source: str | Place, target: str | Place) -> bool:
        """Whether the target answered. Raises BadInput for a pair that was not asked."""
        for cell in self.matrix.cells:
            if (cell.source, cell.target) == (str(source), str(target)):
                return cell.reached
        names = dict.fromkeys(cell.source for cell in self.matrix.cells)
        raise BadInput("pair", f"{source} -> {target}", f"two different ones of {', '.join(names)}")

    @property
    def message(self) -> str:
        """The counts, the pairs that are not as expected, and the matrix."""
        return "\n".join([self.matrix.summary(), *_listed(self.mismatches), *([] if self.holds else [self._drawn()])])

    def _drawn(self) -> str:
        from rich.console import Console  # noqa: PLC0415

        text = io.StringIO()
        Console(file=text, width=_TABLE_WIDTH, color_system=None).print(self.matrix.table())
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


@dataclass(frozen=True, repr=False)
class Latency(Answer):
    """Round-trip times, by path: ``same node`` and ``cross node``. It holds when no probe was lost."""

    summaries: tuple[Summary, ...]

    @property
    def holds(self) -> bool:
        """Whether every probe was answered."""
        return not any(each.lost for each in self.summaries)

    def of(self, path: str, metric: str = "rtt_us") -> Summary:
        """One path's distribution: p50, p90, p99, max in microseconds. Raises BadInput."""
        for each in self.summaries:
            if (each.group, each.metric) == (path, metric):
                return each
        known = ", ".join(f"{each.group} {each.metric}" for each in self.summaries)
        raise BadInput("path", f"{path} {metric}", f"one that was measured: {known}")

    @property
    def message(self) -> str:
        """A line for each path and metric."""
        lost = sum(each.lost for each in self.summaries if each.metric == "rtt_us")
        rows = [
            f"{each.group} {each.metric}: {each.lost} of {each.sent} lost, "
            f"p50 {each.p50}, p90 {each.p90}, p99 {each.p99}"
            for each in self.summaries
        ]
        return "\n".join([f"latency: {lost} probes lost", *_listed(rows)])


@dataclass(frozen=True, repr=False)
class Truth(Answer):
    """What every service does for whom, beside what it must do."""

    table: TruthTable

    @property
    def holds(self) -> bool:
        """Whether every row is as it must be."""
        return self.table.holds

    @property
    def wrong(self) -> tuple[Line, ...]:
        """The rows that are not."""
        return self.table.wrong

    @property
    def message(self) -> str:
        """The summary, the rows that are wrong, and where proxies differ without a reason."""
        differences = [each for each in self.table.differences if not each.reason]
        return "\n".join([self.table.summary(), *_listed(self.wrong), *_listed(differences)])


@dataclass(frozen=True, repr=False)
class Asked(Answer):
    """What came back when a service was asked from some places, and which of its endpoints answered."""

    service: str
    address: str
    endpoints: frozenset[str]
    """Pods that are ready behind the service; they answer as these."""
    replies: dict[str, Counter[str]] = field(default_factory=dict)
    """By place: how often which reply came (answered, connected, refused, unreachable, nothing)."""
    pods: Counter[str] = field(default_factory=Counter)
    """How often each pod answered."""
    clients: Counter[str] = field(default_factory=Counter)
    """How often pods saw which client's address."""

    @property
    def holds(self) -> bool:
        """Whether all connections were answered, and by endpoints of the service alone."""
        return not self._wrong()

    def _wrong(self) -> list[str]:
        wrong = [] if self.endpoints else [f"{self.service} has no endpoint that is ready"]
        for place, replies in self.replies.items():
            bad = {reply: times for reply, times in sorted(replies.items()) if reply not in ("answered", "connected")}
            if bad:
                said = ", ".join(f"{times} times {reply}" for reply, times in bad.items())
                wrong.append(f"{place} -> {self.address}: {said}, of {sum(replies.values())}")
        return [*wrong, *(f"answered by {pod}, no endpoint" for pod in sorted(set(self.pods) - self.endpoints))]

    @property
    def message(self) -> str:
        """Who answered how often, and what went wrong."""
        times = sum(sum(each.values()) for each in self.replies.values())
        by = ", ".join(f"{pod} x{number}" for pod, number in sorted(self.pods.items())) or "nobody"
        head = f"service {self.service} at {self.address}, asked {times} times: answered by {by}"
        return "\n".join([head, *_listed(self._wrong())])


class Probe:
    """Measures one cluster, with packets. ``answers`` are those given so far: a failed test's report shows them."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.answers: list[Answer] = []

    def reachability(self, protocol: str = "icmp", *, attempts: int = 2, timeout_s: float = 0.5) -> Reachability:
        """Ask every pair of nodes and pods. UDP and TCP ask the pods' responders. Raises BadInput."""
        from mininetes.probes.matrix import ReachabilityMatrix  # noqa: PLC0415

        said = self._ask(op="reachability", protocol=protocol, attempts=attempts, timeout_s=timeout_s)
        return self._kept(Reachability(ReachabilityMatrix.unpacked(said)))

    def latency(self, *, count: int = 50, interval_s: float = 0.005, payload_bytes: int = 56) -> Latency:
        """Measure between pods on one node and on two, ``count`` probes along each flow. Raises BadInput."""
        from mininetes.probes.latency import Summary  # noqa: PLC0415

        said = self._ask(op="latency", count=count, interval_s=interval_s, payload_bytes=payload_bytes)
        rows = [{key: value for key, value in row.items() if key != "loss"} for row in said["summaries"]]
        return self._kept(Latency(tuple(Summary(**row) for row in rows)))

    def truth_table(
        self, *services: str, modes: Sequence[str] = (), connections: int = 20, timeout_s: float = 1.0
    ) -> Truth:
        """Ask every address of these services (none: all) from all kinds of clients. Raises BadInput."""
        from mininetes.probes.truth_table import TruthTable  # noqa: PLC0415

        said = self._ask(
            op="truth-table",
            services=list(services),
            modes=list(modes),
            connections=connections,
            timeout_s=timeout_s,
        )
        return self._kept(Truth(TruthTable.from_json(said)))

    def service(
        self,
        name: str,
        *,
        source: str | Place | None = None,
        at: str | Place | None = None,
        port: int | str | None = None,
        times: int = 10,
        timeout_s: float = 3.0,
        namespace: str = "default",
    ) -> Asked:
        """Connect to a service ``times`` times from ``source``, or from each node and its first pod without one.

        ``at``: the node whose node port is asked, in place of the cluster IP. ``port``: which one of several, by name
        or number. Pods without a command of their own say who they are. ``timeout_s`` is how long an answer may take;
        a kernel sends a lost SYN again after one second. Raises BadInput.
        """
        obj = self.cluster.get("services", name, namespace=namespace)
        wanted = _port(obj, port)
        address, number = obj["spec"]["clusterIP"], wanted["port"]
        if at is not None:
            address, number = self.cluster.node(str(at)).address, wanted.get("nodePort", 0)
        if address in ("", "None") or not number:
            raise BadInput("service", name, "one with a cluster IP" if at is None else "one with a node port")
        sources = self._sources() if source is None else [str(source)]
        protocol = wanted.get("protocol", "TCP").lower()
        said = self._ask(
            op="ask-service",
            sources=sources,
            address=address,
            port=number,
            protocol=protocol,
            times=times,
            timeout_s=timeout_s,
        )
        asked = Asked(name, f"{address}:{number}/{protocol}", self._endpoints(name, namespace))
        for each in said["heard"]:
            asked.replies[each["source"]] = Counter(each["replies"])
            for pod, client, number_seen in each["seen"]:
                asked.pods[pod] += number_seen
                asked.clients[client] += number_seen
        return self._kept(asked)

    def _sources(self) -> list[str]:
        status = self.cluster.status()
        nodes = [host["name"] for host in status["hosts"] if host["podSubnet"]]
        first = {pod["node"]: f"pod/{pod['name']}" for pod in reversed(status["pods"]) if "/" not in pod["name"]}
        return [*nodes, *(first[node] for node in nodes if node in first)]

    def _endpoints(self, name: str, namespace: str) -> frozenset[str]:
        slices = self.cluster.objects(
            "endpointslices", namespace=namespace, labels=f"kubernetes.io/service-name={name}"
        )
        found = set()
        for endpoint in (each for one in slices for each in one.get("endpoints") or ()):
            target = endpoint.get("targetRef") or {}
            if (endpoint.get("conditions") or {}).get("ready", True) and target.get("kind") == "Pod":
                found.add(target["name"] if namespace == "default" else f"{namespace}/{target['name']}")
        return frozenset(found)

    def _ask(self, **request: Any) -> dict[str, Any]:
        return ask(self.cluster.lab.control, **request)

    def _kept(self, answer: _Answer) -> _Answer:
        self.answers.append(answer)
        return answer


def _port(service: dict[str, Any], wanted: int | str | None) -> dict[str, Any]:
    """The port of a service that was asked for, or its only one. Raises BadInput."""
    ports: list[dict[str, Any]] = service["spec"].get("ports") or []
    fitting = [each for each in ports if wanted in (None, each["port"], each.get("name"))]
    if len(fitting) != 1:
        known = ", ".join(str(each.get("name") or each["port"]) for each in ports)
        raise BadInput("port", wanted, f"one of {known}")
    return fitting[0]
