"""What is taken from Service, EndpointSlice and Node objects, and what is left out or refused."""

from __future__ import annotations

import random
from typing import Any

import pytest
from proxy_objects import NODE, endpoint_slice, service, traffic, view

from mininetes.agents.kubeproxy.configuration import kube_proxy_config
from mininetes.agents.kubeproxy.port_groups import PortGroups
from mininetes.agents.kubeproxy.services import endpoints_by_port, service_ports
from mininetes.agents.kubeproxy.view_builder import Catalogue, NodeFacts, ViewBuilder, node_facts
from mininetes.errors import BadInput


@pytest.mark.parametrize(
    "unproxied",
    [
        service(clusterIP="None"),
        service(clusterIP=""),
        service(type="ExternalName", clusterIP="", externalName="example.com"),
        service(labels={"service.kubernetes.io/service-proxy-name": "other"}),
        service(labels={"service.kubernetes.io/headless": ""}),
    ],
    ids=["headless", "no address yet", "ExternalName", "another proxy's", "label headless"],
)
def test_services_that_are_not_proxied_have_no_ports(unproxied: dict[str, Any]) -> None:
    assert service_ports(unproxied) == ()


def test_an_ipv6_service_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match=r"service default/web: spec.clusterIP: 'fd00::1'.*IPv6"):
        service_ports(service(clusterIP="fd00::1"))


def test_a_service_of_all_kinds_of_addresses() -> None:
    (port,) = service_ports(
        service(
            ports=[{"name": "", "port": 80, "nodePort": 30080, "protocol": "UDP"}],
            type="LoadBalancer",
            externalIPs=["203.0.113.7", "fd00::7"],
            externalTrafficPolicy="Local",
            internalTrafficPolicy="Local",
            healthCheckNodePort=32000,
            loadBalancerSourceRanges=["203.0.113.0/24", " 10.0.0.1/8", "fd00::/8"],
            sessionAffinity="ClientIP",
            status={
                "loadBalancer": {
                    "ingress": [
                        {"ip": "198.51.100.1"},
                        {"ip": "198.51.100.2", "ipMode": "VIP"},
                        {"ip": "198.51.100.3", "ipMode": "Proxy"},
                        {"hostname": "lb.example.com"},
                    ]
                }
            },
        )
    )
    assert (port.name, port.protocol) == ("default/web", "udp")
    assert port.external_ips == ("203.0.113.7",)
    assert port.load_balancer_ips == ("198.51.100.1", "198.51.100.2")
    assert port.source_ranges == ("203.0.113.0/24", "10.0.0.0/8")
    assert (port.node_port, port.health_check_node_port, port.affinity_s) == (30080, 32000, 10800)
    assert port.internal_local
    assert port.external_local
    assert port.allows("10.1.2.3")
    assert not port.allows("192.168.1.11")


@pytest.mark.parametrize(
    ("spec", "local"),
    [
        ({"type": "ClusterIP"}, False),
        ({"type": "ClusterIP", "externalIPs": ["203.0.113.7"]}, True),
        ({"type": "NodePort"}, True),
        ({"type": "LoadBalancer"}, True),
    ],
)
def test_an_external_policy_counts_where_there_is_an_outside(spec: dict[str, Any], local: bool) -> None:
    (port,) = service_ports(service(externalTrafficPolicy="Local", **spec))
    assert port.external_local == local


@pytest.mark.parametrize(
    ("annotations", "hints"),
    [
        ({}, False),
        ({"service.kubernetes.io/topology-mode": "Auto"}, True),
        ({"service.kubernetes.io/topology-mode": "anything"}, True),
        ({"service.kubernetes.io/topology-mode": ""}, False),
        ({"service.kubernetes.io/topology-mode": "Disabled"}, False),
        ({"service.kubernetes.io/topology-aware-hints": "auto"}, True),
        (
            {
                "service.kubernetes.io/topology-aware-hints": "disabled",
                "service.kubernetes.io/topology-mode": "Auto",
            },
            False,
        ),
    ],
)
def test_zone_hints_are_asked_for_by_an_annotation(annotations: dict[str, str], hints: bool) -> None:
    (port,) = service_ports(service(annotations=annotations))
    assert port.hints == hints


@pytest.mark.parametrize(
    ("field", "spec", "value"),
    [
        ("loadBalancerSourceRanges", {"loadBalancerSourceRanges": ["not a network"]}, "not a network"),
        ("ports: protocol", {"ports": [{"port": 80, "protocol": "ICMP"}]}, "ICMP"),
    ],
)
def test_what_is_wrong_in_a_service_is_named(field: str, spec: dict[str, Any], value: str) -> None:
    with pytest.raises(BadInput, match=rf"service default/web: spec.{field}: '{value}'"):
        service_ports(service(**spec))


def test_conditions_that_are_left_out_mean_ready_and_serving() -> None:
    found = endpoints_by_port([endpoint_slice({"addresses": ["10.244.1.5"]})])
    (endpoint,) = found["http", "tcp"].everywhere
    assert (endpoint.ready, endpoint.serving, endpoint.terminating, endpoint.node) == (True, True, False, "")


def test_endpoints_of_several_slices_are_one_list_sorted_as_text_and_each_once() -> None:
    first = endpoint_slice({"addresses": ["10.244.1.5", "10.244.1.6"]}, {"addresses": ["10.244.1.10"]})
    second = endpoint_slice({"addresses": ["10.244.1.5"], "conditions": {"ready": False}},
                            {"addresses": ["fd00::1"]}, {"addresses": []}, suffix="2")  # fmt: skip
    six = endpoint_slice({"addresses": ["fd00::2"]}, suffix="3", addressType="IPv6")
    found = endpoints_by_port([second, six, first])["http", "tcp"].everywhere
    assert [str(each) for each in found] == ["10.244.1.10:8080", "10.244.1.5:8080"]
    assert found[1].ready


def test_of_an_endpoint_that_two_slices_have_a_node_takes_the_one_on_itself_and_others_the_first() -> None:
    def said(suffix: str, *, node: str, ready: bool) -> dict[str, Any]:
        both = [{"addresses": ["10.244.1.5"], "nodeName": node, "conditions": {"ready": ready}}]
        return endpoint_slice(*both, {"addresses": [f"10.244.1.1{suffix}"], "nodeName": "node1"}, suffix=suffix)

    slices = [said("1", node="node3", ready=True), said("2", node="node1", ready=False), said("3", node="", ready=True),
              said("4", node="node1", ready=True), said("5", node="node2", ready=False)]  # fmt: skip
    local = service(type="NodePort", ports=[{"port": 80, "nodePort": 30080, "name": "http"}],
                    externalTrafficPolicy="Local")  # fmt: skip
    seen = {}
    for name in ("node1", "node2", "node3", "node4"):
        (port,) = view(local, *slices, node=NodeFacts(name, "192.168.1.11")).ports
        assert [str(each) for each in port.endpoints] == [f"10.244.1.{n}:8080" for n in (11, 12, 13, 14, 15, 5)]
        twice = port.endpoints[-1]
        seen[name] = twice.node, twice.ready, twice in port.local
    assert seen == {
        "node1": ("node1", True, True),  # the last of its own
        "node2": ("node2", False, False),
        "node3": ("node3", True, True),
        "node4": ("node3", True, False),
    }


def test_nodes_of_one_process_see_an_endpoint_that_is_there_twice_each_in_their_own_way() -> None:
    first = versioned(endpoint_slice({"addresses": ["10.244.1.5"], "nodeName": "node1"}))
    second = {"addresses": ["10.244.1.5"], "nodeName": "node2", "conditions": {"ready": False}}
    slices = [first, versioned(endpoint_slice(second, suffix="2"))]
    ready = []
    for builder in builders("node1", "node2", "node3"):
        builder.set_service("default/web", versioned(service()))
        for each in slices:
            builder.set_slice(f"default/{each['metadata']['name']}", each)
        builder.refresh()
        ready.append([each.ready for each in builder.view().ports[-1].endpoints])
    assert ready == [[True], [False], [True]]


def test_ports_of_a_slice_without_name_or_number_are_left_out() -> None:
    ports = [{"name": "http", "port": None}, {"port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    assert set(endpoints_by_port([endpoint_slice({"addresses": ["10.244.1.5"]}, ports=ports)])) == {("dns", "udp")}


def test_a_port_finds_its_endpoints_by_name_and_protocol() -> None:
    both = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    slices = endpoint_slice({"addresses": ["10.244.1.5"]}, ports=[{"name": "dns", "port": 5353, "protocol": "UDP"}])
    udp, tcp = view(service(ports=both), slices).ports
    assert [str(each) for each in udp.endpoints] == ["10.244.1.5:5353"]
    assert tcp.endpoints == ()


def test_a_node_object_says_address_zone_and_pod_network() -> None:
    node = {
        "metadata": {"name": "node2", "labels": {"topology.kubernetes.io/zone": "z"}},
        "spec": {"podCIDRs": ["fd00:1::/64", "10.244.2.0/24"]},
        "status": {"addresses": [{"type": "Hostname", "address": "node2"}, {"type": "InternalIP", "address": "fd00::2"},
                                 {"type": "InternalIP", "address": "192.168.1.12"}]},
    }  # fmt: skip
    assert node_facts(node) == NodeFacts("node2", "192.168.1.12", "z", "10.244.2.0/24", ("192.168.1.12",))
    with pytest.raises(BadInput, match=r"node node3: status.addresses"):
        node_facts({"metadata": {"name": "node3"}})


def versioned(obj: dict[str, Any], version: str = "1") -> dict[str, Any]:
    return {**obj, "metadata": {**obj["metadata"], "uid": f"u-{obj['metadata']['name']}", "resourceVersion": version}}


def builders(*nodes: str) -> list[ViewBuilder]:
    catalogue = Catalogue()
    made = [ViewBuilder(NodeFacts(node, "192.168.1.9"), "iptables", kube_proxy_config({}), catalogue=catalogue)
            for node in nodes]  # fmt: skip
    for builder in made:
        builder.set_service("default/web", versioned(service()))
        builder.set_service("default/near", versioned(service("near", internalTrafficPolicy="Local")))
        slices = endpoint_slice({"addresses": ["10.244.1.5"], "nodeName": "node1"}, name="near")
        builder.set_slice("default/near-1", versioned(slices))
        builder.refresh()
    return made


def test_what_all_nodes_see_alike_is_one_object_for_all_of_them() -> None:
    near_1, web_1 = builders("node1", "node2")[0].view().ports
    one, two = builders("node1", "node2")
    (near_1, web_1), (near_2, web_2) = one.view().ports, two.view().ports
    assert web_1 is web_2
    assert near_1 is not near_2
    assert (len(near_1.local), len(near_2.local)) == (1, 0)


def test_only_what_changed_is_made_anew() -> None:
    (builder,) = builders("node1")
    near, web = builder.view().ports
    moved = versioned(endpoint_slice({"addresses": ["10.244.1.6"], "nodeName": "node1"}, name="near"), "2")
    builder.set_slice("default/near-1", moved, builder._slices["default/near"]["default/near-1"])
    changes = builder.refresh()
    assert list(changes) == ["default/near"]
    assert changes["default/near"].before == (near,)
    assert builder.view().ports[1] is web


def test_a_slice_that_moves_to_another_service_changes_both() -> None:
    (builder,) = builders("node1")
    old = builder._slices["default/near"]["default/near-1"]
    new = {**old, "metadata": {**old["metadata"], "labels": {"kubernetes.io/service-name": "web"},
                               "resourceVersion": "2"}}  # fmt: skip
    builder.set_slice("default/near-1", new, old)
    assert set(builder.refresh()) == {"default/near", "default/web"}
    near, web = builder.view().ports
    assert (len(near.endpoints), len(web.endpoints)) == (0, 1)


@pytest.mark.parametrize("seed", range(5))
def test_groups_hold_all_ports_in_order_and_change_only_where_something_did(seed: int) -> None:
    choose, groups, there = random.Random(seed), PortGroups(), {}
    for _ in range(3000):
        key = f"default/s{choose.randint(0, 900)}"
        there[key] = (traffic(service=key),) if choose.random() < 0.7 else ()
        groups.put(key, there[key])
    in_order = [each for key in sorted(there) for each in there[key]]
    assert [each for group in groups.groups() for each in group.ports] == in_order
    before = groups.groups()
    assert all(one is other for one, other in zip(before, groups.groups(), strict=True))
    groups.put("default/s5", (traffic(service="default/s5"),))
    assert sum(group not in before for group in groups.groups()) == 1
    for key in there:
        groups.put(key, ())
    assert groups.groups() == ()


def test_a_service_that_cannot_be_proxied_is_told_and_the_others_go_on() -> None:
    told = []
    builder = ViewBuilder(NODE, "iptables", kube_proxy_config({}), refused=lambda key, why: told.append((key, why)))
    builder.set_service("default/six", service("six", clusterIP="fd00::1"))
    builder.set_service("default/web", service())
    builder.refresh()
    assert [each.port.name for each in builder.view().ports] == ["default/web:http"]
    assert [key for key, _ in told] == ["default/six"]
    assert "IPv6" in told[0][1]
