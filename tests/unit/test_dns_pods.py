"""What pods are told of DNS: their resolv.conf, and the objects through which the server runs."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest

from mininetes.agents.dns.manifests import dns_address, dns_manifests
from mininetes.agents.dns.resolv_conf import resolv_conf
from mininetes.apiserver.defaults import set_defaults
from mininetes.apiserver.resources import by_kind
from mininetes.apiserver.validation import check
from mininetes.errors import BadInput

NODE = "# made by hand\nnameserver 192.168.1.1\nsearch lab.example\noptions timeout:1 rotate\n"
CLUSTER = "search team.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
NODES_OWN = "search lab.example\nnameserver 192.168.1.1\noptions timeout:1 rotate\n"


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "team"}, "spec": spec}


CASES = [
    ("the default", pod(), CLUSTER),
    ("ClusterFirst", pod(dnsPolicy="ClusterFirst"), CLUSTER),
    ("ClusterFirst on the host's network", pod(hostNetwork=True), NODES_OWN),
    ("ClusterFirstWithHostNet", pod(dnsPolicy="ClusterFirstWithHostNet", hostNetwork=True), CLUSTER),
    ("Default", pod(dnsPolicy="Default"), NODES_OWN),
    ("None", pod(dnsPolicy="None", dnsConfig={"nameservers": ["192.0.2.1"]}), "nameserver 192.0.2.1\n"),
    (
        "dnsConfig is added",
        pod(
            dnsConfig={
                "nameservers": ["192.0.2.1", "10.96.0.10"],
                "searches": ["my.example", "svc.cluster.local"],
                "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
            }
        ),
        "search team.svc.cluster.local svc.cluster.local cluster.local my.example\n"
        "nameserver 10.96.0.10\nnameserver 192.0.2.1\noptions ndots:2 edns0\n",
    ),
    (
        "no more than three nameservers",
        pod(dnsPolicy="None", dnsConfig={"nameservers": [f"192.0.2.{n}" for n in range(1, 6)]}),
        "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n",
    ),
]


@pytest.mark.parametrize(("wanted", "text"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_resolv_conf(wanted: dict[str, Any], text: str) -> None:
    assert resolv_conf(wanted, cluster_dns="10.96.0.10", node=NODE) == text


def test_without_a_cluster_dns_the_nodes_own_is_used() -> None:
    assert resolv_conf(pod(), node=NODE) == NODES_OWN


@pytest.mark.parametrize(
    ("wanted", "named"), [(pod(dnsPolicy="Never"), "spec.dnsPolicy"), (pod(dnsPolicy="None"), "dnsConfig.nameservers")]
)
def test_a_policy_that_cannot_be_followed_is_refused_by_field(wanted: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        resolv_conf(wanted, cluster_dns="10.96.0.10")


def test_the_manifests_are_what_the_api_server_takes() -> None:
    deployment, service = dns_manifests(IPv4Network("10.96.0.0/12"))
    for obj in (deployment, service):
        resource = by_kind(obj["apiVersion"], obj["kind"])
        assert check(resource, obj, field_validation="Strict") == []
        set_defaults(resource, obj)
    assert service["spec"]["clusterIP"] == "10.96.0.10"
    assert service["metadata"]["name"] == "kube-dns"
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "mininetes/dns"
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": 8181, "scheme": "HTTP"}
    assert deployment["spec"]["replicas"] == 2


def test_the_address_is_the_ranges_tenth() -> None:
    assert str(dns_address(IPv4Network("10.0.0.0/24"))) == "10.0.0.10"
