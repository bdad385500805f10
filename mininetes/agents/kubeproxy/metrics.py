"""kube-proxy's metrics under its own names, in Prometheus' text format."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

_SYNC_BUCKETS_S = tuple(0.001 * 2**n for n in range(15))
_PROGRAMMING_BUCKETS_S = (0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 330, 30))
_PREFIX = "kubeproxy_"


def _shown(value: float) -> str:
    """A value with every digit that it has; whole ones without a point, as Prometheus' clients write them."""
    return str(int(value)) if value == int(value) else repr(float(value))


class Histogram:
    """Counts of values by upper bound, with their sum."""

    def __init__(self, bounds: Iterable[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        index = next((at for at, bound in enumerate(self.bounds) if value <= bound), len(self.bounds))
        self.counts[index] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def lines(self, name: str) -> list[str]:
        """In Prometheus' text format."""
        lines, total = [], 0
        for bound, count in zip((*self.bounds, math.inf), self.counts, strict=True):
            total += count
            shown = "+Inf" if bound == math.inf else f"{bound:g}"
            lines.append(f'{name}_bucket{{le="{shown}"}} {total}')
        return [*lines, f"{name}_sum {_shown(self.sum)}", f"{name}_count {total}"]


class Metrics:
    """What one kube-proxy has counted since its start."""

    def __init__(self) -> None:
        self.sync_s = Histogram(_SYNC_BUCKETS_S)
        self.full_sync_s = Histogram(_SYNC_BUCKETS_S)
        self.partial_sync_s = Histogram(_SYNC_BUCKETS_S)
        self.programming_s = Histogram(_PROGRAMMING_BUCKETS_S)
        self.restore_failures = 0
        self.partial_restore_failures = 0
        self.endpoint_changes = 0
        self.endpoint_changes_pending = 0
        self.service_changes = 0
        self.service_changes_pending = 0
        self.last_queued = 0.0
        self.last_synced = 0.0
        self.no_local_endpoints: Mapping[str, int] = {"internal": 0, "external": 0}
        self.rules: Mapping[str, int] = {}
        self._taken = (0, 0)

    def begun(self) -> None:
        """A sync begins: what is pending now is what it writes, and what comes meanwhile waits for the next one."""
        self._taken = self.endpoint_changes_pending, self.service_changes_pending

    def synced(self, took_s: float, *, whole: bool) -> None:
        """A sync succeeded."""
        self.sync_s.observe(took_s)
        (self.full_sync_s if whole else self.partial_sync_s).observe(took_s)
        self.last_synced = time.time()
        endpoints, services = self._taken
        self.endpoint_changes_pending -= endpoints
        self.service_changes_pending -= services
        self._taken = (0, 0)

    def text(self) -> str:
        """All of them, for ``/metrics``."""
        lines: list[str] = []

        def add(name: str, kind: Kind, what: str, values: Iterable[str]) -> None:
            full = _PREFIX + name
            lines.append(f"# HELP {full} [ALPHA] {what}")
            lines.append(f"# TYPE {full} {kind}")
            lines.extend(full + value if not value.startswith(full) else value for value in values)

        for name, histogram, what in (
            ("network_programming_duration_seconds", self.programming_s,
             "From the change of an endpoint in the cluster until its rules are in force, in seconds"),
            ("sync_proxy_rules_duration_seconds", self.sync_s, "Duration of a sync, in seconds"),
            ("sync_full_proxy_rules_duration_seconds", self.full_sync_s, "Duration of a full sync, in seconds"),
            ("sync_partial_proxy_rules_duration_seconds", self.partial_sync_s, "Duration of a partial one, in seconds"),
        ):  # fmt: skip
            add(name, "histogram", what, histogram.lines(_PREFIX + name))
        for name, kind, what, number in self._numbers():
            add(name, kind, what, [f" {_shown(number)}"])
        add("sync_proxy_rules_no_local_endpoints_total", "gauge",
            "Services with a Local policy that have endpoints, but none on this node",
            [f'{{traffic_policy="{of}"}} {n}' for of, n in sorted(self.no_local_endpoints.items())])  # fmt: skip
        add("sync_proxy_rules_iptables_total", "gauge", "Rules of the proxy, by table",
            [f'{{table="{table}"}} {count}' for table, count in sorted(self.rules.items())])  # fmt: skip
        return "\n".join(lines) + "\n"

    def _numbers(self) -> tuple[tuple[str, Kind, str, float], ...]:
        return (
            ("sync_proxy_rules_endpoint_changes_total", "counter", "Changes of endpoints", self.endpoint_changes),
            ("sync_proxy_rules_endpoint_changes_pending", "gauge", "Changes of endpoints that are not written yet",
             self.endpoint_changes_pending),
            ("sync_proxy_rules_service_changes_total", "counter", "Changes of services", self.service_changes),
            ("sync_proxy_rules_service_changes_pending", "gauge", "Changes of services that are not written yet",
             self.service_changes_pending),
            ("sync_proxy_rules_last_queued_timestamp_seconds", "gauge", "When a sync was last asked for",
             self.last_queued),
            ("sync_proxy_rules_last_timestamp_seconds", "gauge", "When a sync last succeeded", self.last_synced),
            ("sync_proxy_rules_iptables_restore_failures_total", "counter", "Restores that were refused",
             self.restore_failures),
            ("sync_proxy_rules_iptables_partial_restore_failures_total", "counter",
             "Partial restores that were refused", self.partial_restore_failures),
        )  # fmt: skip
