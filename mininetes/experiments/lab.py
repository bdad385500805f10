"""What an experiment's ``run`` gets: a cluster that is ready, its measurements, and a way to show them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType

from mininetes.probes import latency as latencies
from mininetes.probes.matrix import ReachabilityMatrix
from mininetes.probes.outcomes import Sample
from mininetes.probes.pacing import Pacing
from mininetes.probes.reachability import SweepOptions
from mininetes.probes.vantage import Flow, Protocol
from mininetes.testbed import measuring, show
from mininetes.testbed.testbed import Testbed


class Lab:
    """A ready cluster. ``testbed`` has all of it; the methods here are what most experiments need."""

    def __init__(self, testbed: Testbed) -> None:
        self.testbed = testbed
        self.repetition = 0
        """Which repetition of its cell this run is, from 0 on; warm-ups have numbers after the last measured one."""
        self.seed = 0
        """For everything random in this run: the same in each cell, another in each repetition."""
        self.holds = True
        """False as soon as a measured matrix was not as expected: the command then ends with status 1."""

    def begin(self, repetition: int, seed: int) -> None:
        """A run begins: the engine calls this before each."""
        self.repetition, self.seed, self.holds = repetition, seed, True

    async def reachability(self, protocol: Protocol = "icmp", *, attempts: int = 2) -> ReachabilityMatrix:
        """Ask every pair of nodes and pods and hold the answers against the cluster's description."""
        matrix = await measuring.reachability(self.testbed, protocol=protocol, options=SweepOptions(attempts=attempts))
        self.holds = self.holds and matrix.holds
        return matrix

    async def latency(
        self, flows: Sequence[Flow] | None = None, *, count: int, interval_s: float, payload_bytes: int = 56
    ) -> list[Sample]:
        """Measure latency along ``flows``; without them, between pods of one node and of two, where there are such."""
        wanted = measuring.latency_flows(self.testbed) if flows is None else flows
        return await measuring.latency(self.testbed, Pacing(interval_s, count, payload_bytes), wanted) if wanted else []

    @staticmethod
    def path_of(sample: Sample) -> str:
        """Whether a sample's ends are on the ``same node``, or it went ``cross node``."""
        return latencies.by_placement(sample)

    def show(self, what: RenderableType) -> None:
        """Print text or a rich table."""
        show.console.print(what)

    def show_topology(self) -> None:
        """Print the cluster as a tree, and how long it took."""
        show.ready(self.testbed.status(), "text", hints=False)

    def show_matrix(self, matrix: ReachabilityMatrix, title: str = "Who reaches whom") -> None:
        """Print a matrix with every mismatch by name."""
        show.matrix(matrix, f"\n{title}")

    def show_latency(self, samples: Sequence[Sample], title: str = "Latency between pods, in microseconds") -> None:
        """Print percentiles by path, with count and loss beside them."""
        if not samples:
            show.console.print(f"\n{title}: no two pods that reach each other")
            return
        show.console.print(latencies.table(latencies.summarise(samples), f"\n{title}"))
