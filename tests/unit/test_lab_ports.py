"""From a cluster's description to the ports of its nodes."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

from mininetes.spec import describe
from mininetes.testbed.ports import filter_view, open_node_ports, ports_view


def test_the_ports_follow_the_description() -> None:
    three = {"nodes": {"controlPlane": 3, "workers": 1}, "controlPlane": {"store": "etcd"}, "firewall": "kubernetes"}
    spec = describe(three)
    view = ports_view(spec)
    assert (view.control_plane, view.workers) == (("node1", "node2", "node3"), ("node4",))
    assert (view.etcd_members, view.firewall) == (3, True)
    addresses = {name: IPv4Address(f"192.168.1.{10 + n}") for n, name in enumerate(view.nodes, start=1)}
    filters = filter_view(spec, view, addresses)
    assert filters.workers == (IPv4Address("192.168.1.14"),)
    assert filters.pods == spec.network.pods
    plain = ports_view(describe({}))
    assert (plain.control_plane, plain.etcd_members, plain.firewall) == (("node1",), 0, False)


def service(name: str, port: int, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"ports": [{"nodePort": port}], **spec}}


def endpoint_slice(service_name: str, *ready: bool) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": service_name}
    return {
        "metadata": {"namespace": "default", "labels": labels},
        "endpoints": [{"addresses": ["10.244.1.2"], "conditions": {"ready": each}} for each in ready],
    }


def test_node_ports_that_are_to_answer_at_every_node() -> None:
    services = [
        service("web", 30080),
        service("idle", 30081),
        service("broken", 30082),
        service("local", 30083, externalTrafficPolicy="Local"),
        service("names", 30053, ports=[{"nodePort": 30053, "protocol": "UDP"}, {"port": 53}]),
    ]
    slices = [
        endpoint_slice("web", False, True),
        endpoint_slice("broken", False),
        endpoint_slice("local", True),
        endpoint_slice("names", True),
        {"metadata": {"namespace": "default"}, "endpoints": None},
    ]
    assert open_node_ports(services, slices) == [30080]
