"""A few of kube-apiserver's own metrics, in Prometheus' text format."""

from __future__ import annotations

from collections import Counter, defaultdict


class Metrics:
    """Counts requests. One per server."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
        self.in_flight = 0
        self.watches: Counter[str] = Counter()

    def done(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """A request was answered."""
        self.requests[verb, resource, code] += 1
        self.seconds[verb, resource] += seconds

    def text(self) -> str:
        """What ``/metrics`` says."""
        lines = [
            "# HELP apiserver_request_total Counter of apiserver requests broken out for each verb, resource and code.",
            "# TYPE apiserver_request_total counter",
        ]
        for (verb, resource, code), count in sorted(self.requests.items()):
            lines.append(f'apiserver_request_total{{code="{code}",resource="{resource}",verb="{verb}"}} {count}')
        lines += [
            "# HELP apiserver_request_duration_seconds Response latency in seconds for each verb and resource.",
            "# TYPE apiserver_request_duration_seconds summary",
        ]
        counts: Counter[tuple[str, str]] = Counter()
        for (verb, resource, _), count in self.requests.items():
            counts[verb, resource] += count
        for (verb, resource), seconds in sorted(self.seconds.items()):
            labels = f'{{resource="{resource}",verb="{verb}"}}'
            lines.append(f"apiserver_request_duration_seconds_sum{labels} {seconds:.6f}")
            lines.append(f"apiserver_request_duration_seconds_count{labels} {counts[verb, resource]}")
        lines += [
            "# HELP apiserver_current_inflight_requests Number of requests that are being answered, watches apart.",
            "# TYPE apiserver_current_inflight_requests gauge",
            f"apiserver_current_inflight_requests {self.in_flight}",
            "# HELP apiserver_longrunning_requests Number of watches for each resource.",
            "# TYPE apiserver_longrunning_requests gauge",
        ]
        for resource, count in sorted(self.watches.items()):
            lines.append(f'apiserver_longrunning_requests{{resource="{resource}",verb="WATCH"}} {count}')
        return "\n".join(lines) + "\n"
