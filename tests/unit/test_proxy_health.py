"""What kube-proxy says of itself, how it counts, and how the userspace proxy takes turns."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from proxy_objects import endpoint, traffic

from mininetes.agents.kubeproxy.balancing import RoundRobin
from mininetes.agents.kubeproxy.health import CheckedService, Health, checked_services
from mininetes.agents.kubeproxy.metrics import Histogram, Metrics
from mininetes.agents.kubeproxy.view import NodeView, PortGroup

ANY: Any = None


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_health_goes_when_a_change_waits_for_too_long_and_comes_back() -> None:
    clock = Clock()
    health = Health(60, clock)
    assert health.healthy
    health.queued()
    clock.now = 59
    health.queued()
    assert health.healthy
    clock.now = 60
    assert not health.healthy
    assert asyncio.run(health.livez(ANY)).status == 503
    health.updated()
    assert health.healthy
    assert asyncio.run(health.livez(ANY)).status == 200


def test_a_node_that_is_about_to_go_is_not_eligible_but_alive() -> None:
    health = Health(60)
    for node in ({"spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler"}]}},
                 {"metadata": {"deletionTimestamp": "2026-11-26T11:00:00Z"}}):  # fmt: skip
        health.set_node(node)
        answer = asyncio.run(health.healthz(ANY))
        assert (answer.status, json.loads(answer.text or "")["nodeEligible"]) == (503, False)
        assert asyncio.run(health.livez(ANY)).status == 200
    health.set_node({"metadata": {"name": "node1"}})
    assert asyncio.run(health.healthz(ANY)).status == 200


def test_a_health_check_node_port_counts_the_ready_endpoints_here() -> None:
    ends = (endpoint(1), endpoint(2), endpoint(3, state="terminating"), endpoint(1, "node2"))
    checked = traffic(*ends, health_check_node_port=32000)
    other = traffic(*ends)
    view = NodeView("node1", "192.168.1.11", groups=(PortGroup((other,), 4), PortGroup((checked, checked), 8)))
    assert checked_services(view) == {32000: CheckedService("default", "web", 32000, 2)}


def test_a_histogram_counts_by_upper_bounds() -> None:
    histogram = Histogram([1, 2])
    for value in (0.5, 1, 1.5, 9):
        histogram.observe(value)
    assert histogram.lines("x") == ['x_bucket{le="1"} 2', 'x_bucket{le="2"} 3', 'x_bucket{le="+Inf"} 4', "x_sum 12",
                                    "x_count 4"]  # fmt: skip


def test_metrics_have_kube_proxys_names_and_count_both_kinds_of_syncs() -> None:
    metrics = Metrics()
    metrics.synced(0.1, whole=True)
    metrics.synced(0.01, whole=False)
    text = metrics.text()
    for line in (
        "kubeproxy_sync_proxy_rules_duration_seconds_count 2",
        "kubeproxy_sync_full_proxy_rules_duration_seconds_count 1",
        "kubeproxy_sync_partial_proxy_rules_duration_seconds_count 1",
        'kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy="external"} 0',
        "# TYPE kubeproxy_network_programming_duration_seconds histogram",
    ):
        assert line in text.splitlines()
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))


def test_round_robin_takes_strict_turns() -> None:
    balancer = RoundRobin()
    balancer.set_endpoints([endpoint(1), endpoint(2), endpoint(3)], 0)
    assert [balancer.choose("10.0.0.1") for _ in range(6)] == [endpoint(n) for n in (1, 2, 3, 1, 2, 3)]
    balancer.set_endpoints([], 0)
    assert balancer.choose("10.0.0.1") is None


def test_a_client_keeps_its_endpoint_until_the_time_is_over_or_the_endpoint_goes() -> None:
    clock = Clock()
    balancer = RoundRobin(clock)
    balancer.set_endpoints([endpoint(1), endpoint(2)], 100)
    first = balancer.choose("10.0.0.1")
    assert balancer.choose("10.0.0.2") != first
    clock.now = 99
    assert balancer.choose("10.0.0.1") == first
    clock.now = 198
    assert balancer.choose("10.0.0.1") == first
    clock.now = 299
    again = [balancer.choose("10.0.0.1") for _ in range(2)]
    assert again[0] == again[1]
    balancer.set_endpoints([endpoint(3)], 100)
    assert balancer.choose("10.0.0.1") == endpoint(3)


def test_an_endpoint_that_did_not_answer_is_passed_over() -> None:
    balancer = RoundRobin()
    balancer.set_endpoints([endpoint(1), endpoint(2)], 100)
    assert balancer.choose("10.0.0.1") == endpoint(1)
    assert balancer.choose("10.0.0.1", anew=True) == endpoint(2)
    assert balancer.choose("10.0.0.1") == endpoint(2)


def test_a_health_check_node_port_counts_addresses_that_are_ready_at_any_port() -> None:
    both, one, here = endpoint(1), endpoint(2), {"health_check_node_port": 32000}
    first = traffic(both, endpoint(1, "node2"), **here)
    second = traffic(both, one, port_name="u", **here)
    for ports in ((first, second), (second, first)):
        view = NodeView("node1", "192.168.1.11", groups=(PortGroup(ports, 4),))
        assert checked_services(view)[32000].local_endpoints == 2
    elsewhere = (traffic(endpoint(1), **here), traffic(endpoint(1, "node2"), port_name="u", **here))
    view = NodeView("node2", "192.168.1.12", groups=(PortGroup(elsewhere, 2),))
    assert checked_services(view)[32000].local_endpoints == 1


def test_metrics_show_every_digit_of_a_time() -> None:
    metrics = Metrics()
    metrics.last_queued = 1795709585.1234567
    metrics.service_changes = 12_345_678
    metrics.sync_s.observe(1234.5678901)
    lines = metrics.text().splitlines()
    assert "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds 1795709585.1234567" in lines
    assert "kubeproxy_sync_proxy_rules_service_changes_total 12345678" in lines
    assert "kubeproxy_sync_proxy_rules_duration_seconds_sum 1234.5678901" in lines
