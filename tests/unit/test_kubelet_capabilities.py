"""What CNI plugins are told of a pod: host ports, rates, DNS."""

from __future__ import annotations

from typing import Any

import pytest

from mininetes.agents.kubelet.capabilities import bandwidth, capabilities_of, port_mappings
from mininetes.errors import BadInput

INGRESS, EGRESS = "kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth"


def pod(*ports: dict[str, Any], **annotations: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "web", "annotations": annotations},
        "spec": {
            "initContainers": [{"name": "first", "ports": [{"containerPort": 9, "hostPort": 9}]}],
            "containers": [{"name": "a", "ports": list(ports)}, {"name": "b"}],
        },
    }


def test_host_ports_are_mapped_and_others_are_not() -> None:
    found = port_mappings(
        pod(
            {"containerPort": 80},
            {"containerPort": 80, "hostPort": 8080},
            {"containerPort": 53, "hostPort": 5353, "protocol": "UDP", "hostIP": "192.168.1.11"},
        )
    )
    assert found == [
        {"hostPort": 9, "containerPort": 9, "protocol": "tcp", "hostIP": ""},
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""},
        {"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": "192.168.1.11"},
    ]


def test_rates_are_in_bits_with_a_tenth_of_a_second_as_burst() -> None:
    assert bandwidth(pod(**{INGRESS: "100M"})) == {"ingressRate": 100_000_000, "ingressBurst": 10_000_000}
    assert bandwidth(pod(**{EGRESS: "1Mi", INGRESS: "1k"})) == {
        "ingressRate": 1000,
        "ingressBurst": 8 * 65536,
        "egressRate": 1 << 20,
        "egressBurst": 8 * 65536,
    }
    assert bandwidth(pod()) == {}


@pytest.mark.parametrize("annotation", [INGRESS, EGRESS])
@pytest.mark.parametrize("rate", ["", "fast", "0", "999", "2P", "-1M", "1 M"])
def test_a_rate_that_is_none_is_named(annotation: str, rate: str) -> None:
    with pytest.raises(BadInput) as caught:
        bandwidth(pod(**{annotation: rate}))
    assert annotation in str(caught.value)
    assert repr(rate) in str(caught.value)


def test_the_resolver_is_told_and_what_a_pod_has_not_is_left_out() -> None:
    text = "search default.svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5 edns0\n\n"
    bare = {"metadata": {}, "spec": {"containers": [{"name": "a"}]}}
    assert capabilities_of(bare, text) == {
        "dns": {
            "servers": ["10.96.0.10"],
            "searches": ["default.svc.cluster.local", "cluster.local"],
            "options": ["ndots:5", "edns0"],
        }
    }
    assert capabilities_of(bare) == {}
    assert set(capabilities_of(pod(**{INGRESS: "1M"}), text)) == {"portMappings", "bandwidth", "dns"}
