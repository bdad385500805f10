"""Rules for cases beyond the golden ones: what each mode writes for every kind of service and setting."""

from __future__ import annotations

import ast
import gc
from pathlib import Path
from typing import Any

import pytest
from proxy_objects import NODE, endpoint_slice, service, view

from mininetes import parts
from mininetes.agents.kubeproxy.compiling import compiler
from mininetes.agents.kubeproxy.configuration import MODES
from mininetes.agents.kubeproxy.ipvs_state import set_lines
from mininetes.agents.kubeproxy.rulesets import IptablesRuleset, IpvsRuleset, NftablesRuleset, UserspaceRuleset
from mininetes.agents.kubeproxy.view_builder import garbage_later

PARTS = Path(__file__).parents[2] / "proxy_rules"
HERE = {"addresses": ["10.244.1.5"], "nodeName": "node1"}
FAR = {"addresses": ["10.244.2.5"], "nodeName": "node2"}
LB = {"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}, {"ip": "198.51.100.2"}]}}
ABSTRACT = {"collections.abc"}
NODE_PORT = [{"name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP"}]


def iptables(*objects: Any, **config: Any) -> IptablesRuleset:
    ruleset = compiler("iptables")(view(*objects, **config))
    assert isinstance(ruleset, IptablesRuleset)
    return ruleset


def nftables(*objects: Any, **config: Any) -> NftablesRuleset:
    ruleset = compiler("nftables")(view(*objects, mode="nftables", **config))
    assert isinstance(ruleset, NftablesRuleset)
    return ruleset


def ipvs(*objects: Any, **config: Any) -> IpvsRuleset:
    ruleset = compiler("ipvs")(view(*objects, mode="ipvs", **config))
    assert isinstance(ruleset, IpvsRuleset)
    return ruleset


def userspace(*objects: Any, **config: Any) -> UserspaceRuleset:
    ruleset = compiler("userspace")(view(*objects, mode="userspace", **config))
    assert isinstance(ruleset, UserspaceRuleset)
    return ruleset


def chain(ruleset: IptablesRuleset, name: str, table: str = "nat") -> tuple[str, ...]:
    """The rules of the one chain whose name starts so, without ``-A NAME``."""
    (found,) = [rules for (of, each), rules in ruleset.chains.items() if of == table and each.startswith(name)]
    return tuple(rule.split(" ", 2)[2] for rule in found)


def nft_chain(ruleset: NftablesRuleset, name: str) -> tuple[str, ...]:
    """The rules of a common chain by its name, or (``service-``, ...) of the one such chain of a service."""
    if not name.endswith("-"):
        return ruleset.chains[name]
    (found,) = [rules for each, rules in ruleset.chains.items() if each.startswith(name) and "/" in each]
    return found


# modes as parts


def test_there_is_a_part_for_each_mode_and_no_other() -> None:
    assert parts.names("proxy") == sorted(MODES)


@pytest.mark.parametrize("mode", MODES)
def test_modes_are_pure_and_use_the_engine_only_through_its_api(mode: str) -> None:
    imported = set()
    for statement in ast.walk(ast.parse((PARTS / f"{mode}.py").read_text())):
        if isinstance(statement, ast.Import):
            imported |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            imported.add(statement.module or "")
    assert imported <= {
        "__future__",
        "mininetes.api",
        "dataclasses",
        "typing",
        "hashlib",
        "base64",
        "itertools",
        *ABSTRACT,
    }
    assert parts.load("proxy", mode).__doc__


@pytest.mark.parametrize("mode", MODES)
def test_the_same_view_gives_the_same_rules_in_whatever_order_objects_came(mode: Any) -> None:
    objects = [service(f"s{n}", clusterIP=f"10.96.0.{n}") for n in range(1, 9)]
    objects += [endpoint_slice(HERE, FAR, name=f"s{n}") for n in range(1, 9)]
    rules = compiler(mode)
    assert rules(view(*objects, mode=mode)) == rules(view(*reversed(objects), mode=mode))


# iptables


def test_detect_local_settings_become_matches() -> None:
    objects = (service(), endpoint_slice(HERE))
    bridge = {"detectLocalMode": "BridgeInterface", "detectLocal": {"bridgeInterface": "cni0"}}
    prefix = {"detectLocalMode": "InterfaceNamePrefix", "detectLocal": {"interfaceNamePrefix": "veth"}}
    said = '-p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ'
    to = "-d 10.96.0.50/32"
    assert chain(iptables(*objects), "KUBE-SVC")[0] == f"! -s 10.244.0.0/16 {to} {said}"
    assert chain(iptables(*objects, detectLocalMode="NodeCIDR"), "KUBE-SVC")[0] == f"! -s 10.244.1.0/24 {to} {said}"
    assert chain(iptables(*objects, **bridge), "KUBE-SVC")[0] == f"{to} ! -i cni0 {said}"
    assert chain(iptables(*objects, **prefix), "KUBE-SVC")[0] == f"{to} ! -i veth+ {said}"
    assert len(chain(iptables(*objects, clusterCIDR=""), "KUBE-SVC")) == 1
    assert chain(iptables(*objects, iptables={"masqueradeAll": True}), "KUBE-SVC")[0] == f"{to} {said}"
    outside = service(ports=NODE_PORT, type="NodePort", externalTrafficPolicy="Local")
    assert chain(iptables(outside, endpoint_slice(HERE), **bridge), "KUBE-EXT")[0].startswith("-i cni0 ")
    assert len(chain(iptables(outside, endpoint_slice(HERE), clusterCIDR=""), "KUBE-EXT")) == 3


def test_the_masquerade_bit_is_the_mark() -> None:
    ruleset = iptables(iptables={"masqueradeBit": 0})
    assert ruleset.chains["nat", "KUBE-MARK-MASQ"] == ("-A KUBE-MARK-MASQ -j MARK --set-xmark 0x1/0x1",)
    assert "-j MARK --set-xmark 0x1/0x0" in chain(ruleset, "KUBE-POSTROUTING")
    assert "0x00000001" in nft_chain(nftables(nftables={"masqueradeBit": 0}), "mark-for-masquerade")[0]


def test_node_ports_are_taken_at_each_address_asked_for() -> None:
    config = {"nodePortAddresses": ["192.168.1.0/24", "127.0.0.0/8"]}
    assert [rule.split()[1] for rule in chain(iptables(**config), "KUBE-SERVICES")] == [
        "127.0.0.1/32",
        "192.168.1.11/32",
    ]
    for networks in (["127.0.0.0/8"], ["127.0.0.1/32"]):
        ruleset = iptables(nodePortAddresses=networks)
        assert [rule.split()[1] for rule in chain(ruleset, "KUBE-SERVICES")] == ["127.0.0.1/32"]
        assert ("filter", "KUBE-FIREWALL") in ruleset.chains
        off = iptables(nodePortAddresses=networks, iptables={"localhostNodePorts": False})
        assert chain(off, "KUBE-SERVICES") == ()
        assert ("filter", "KUBE-FIREWALL") not in off.chains
    ruleset = iptables(nodePortAddresses=["127.5.0.0/16"])
    assert chain(ruleset, "KUBE-SERVICES") == ()
    assert ("filter", "KUBE-FIREWALL") in ruleset.chains
    ruleset = iptables(nodePortAddresses=["192.168.1.0/24"])
    assert ("filter", "KUBE-FIREWALL") not in ruleset.chains
    assert not any("KUBE-FIREWALL" in jump.rule for jump in ruleset.jumps)


def test_without_localhost_node_ports_localhost_is_left_out_and_needs_no_guard() -> None:
    ruleset = iptables(iptables={"localhostNodePorts": False})
    assert chain(ruleset, "KUBE-SERVICES")[0].startswith("! -d 127.0.0.0/8 -m comment")
    assert ("filter", "KUBE-FIREWALL") not in ruleset.chains


def test_liberal_tcp_keeps_invalid_packets() -> None:
    assert "INVALID" in chain(iptables(), "KUBE-FORWARD", "filter")[0]
    liberal = iptables(conntrack={"tcpBeLiberal": True})
    assert not any("INVALID" in rule for rule in chain(liberal, "KUBE-FORWARD", "filter"))


def test_three_endpoints_share_by_falling_probabilities() -> None:
    third = {"addresses": ["10.244.3.5"], "nodeName": "node3"}
    rules = chain(iptables(service(), endpoint_slice(HERE, FAR, third)), "KUBE-SVC")
    chances = [rule.partition("--probability ")[2].partition(" ")[0] for rule in rules[1:]]
    assert chances == ["0.3333333333", "0.5000000000", ""]


def test_a_large_cluster_leaves_comments_out_of_endpoint_rules() -> None:
    many = [{"addresses": [f"10.244.{n // 250 + 1}.{n % 250 + 1}"], "nodeName": "node1"} for n in range(1001)]
    small, large = (iptables(service(), endpoint_slice(*many[:n])) for n in (1000, 1001))
    for ruleset, commented in ((small, True), (large, False)):
        endpoint_rules = [rule for (_, name), rules in ruleset.chains.items() if "SEP" in name for rule in rules]
        assert all(("--comment" in rule) == commented for rule in endpoint_rules)
        assert all(("--comment" in rule) == commented for rule in chain(ruleset, "KUBE-SVC")[1:])
        assert "--comment" in chain(ruleset, "KUBE-SVC")[0]


def test_source_ranges_of_two_addresses_with_the_node_among_them() -> None:
    balanced = service(type="LoadBalancer", status=LB, loadBalancerSourceRanges=["203.0.113.0/25", "192.168.1.0/24"])
    ruleset = iptables(balanced, endpoint_slice(HERE))
    sources = [rule.split()[1] for rule in chain(ruleset, "KUBE-FW") if rule.startswith("-s ")]
    assert sources == ["203.0.113.0/25", "192.168.1.0/24", "198.51.100.1/32", "198.51.100.2/32"]
    assert len(chain(ruleset, "KUBE-PROXY-FIREWALL", "filter")) == 2
    rule = "ip saddr != { 203.0.113.0/25, 192.168.1.0/24, 198.51.100.1, 198.51.100.2 } drop"
    assert nft_chain(nftables(balanced, endpoint_slice(HERE)), "firewall-") == (rule,)


def test_without_endpoints_source_ranges_are_not_needed() -> None:
    balanced = service(type="LoadBalancer", status=LB, loadBalancerSourceRanges=["203.0.113.0/25"])
    ruleset = iptables(balanced)
    assert not [name for _, name in ruleset.chains if name.startswith("KUBE-FW")]
    assert len(chain(ruleset, "KUBE-EXTERNAL-SERVICES", "filter")) == 2


def test_a_range_of_everything_is_written_without_a_source() -> None:
    balanced = service(type="LoadBalancer", status=LB, loadBalancerSourceRanges=["0.0.0.0/0"])
    assert chain(iptables(balanced, endpoint_slice(HERE)), "KUBE-FW")[0].startswith("-m comment")


def test_external_addresses_without_a_local_endpoint_drop_what_comes_from_outside() -> None:
    outside = service(externalIPs=["203.0.113.7"], externalTrafficPolicy="Local")
    ruleset = iptables(outside, endpoint_slice(FAR))
    (dropped,) = chain(ruleset, "KUBE-EXTERNAL-SERVICES", "filter")
    assert "203.0.113.7/32" in dropped
    assert "has no local endpoints" in dropped
    assert dropped.endswith("-j DROP")
    assert chain(ruleset, "KUBE-EXT")[-1].endswith("-j " + next(n for _, n in ruleset.chains if "SVC" in n))


def test_sctp_is_written_like_the_others() -> None:
    sctp = service(ports=[{"name": "s", "port": 80, "nodePort": 30080, "protocol": "SCTP"}], type="NodePort")
    slices = endpoint_slice(HERE, ports=[{"name": "s", "port": 8080, "protocol": "SCTP"}])
    assert (
        '-p sctp -m comment --comment "default/web:s" -m sctp -j DNAT --to-destination 10.244.1.5:8080'
        in (chain(iptables(sctp, slices), "KUBE-SEP")[1])
    )
    assert "10.96.0.50 . sctp . 80" in nftables(sctp, slices).containers["service-ips"].elements
    made = ipvs(sctp, slices)
    assert "-A --sctp-service 10.96.0.50:80 -s rr" in made.ipvsadm_text()
    assert made.sets["KUBE-NODE-PORT-SCTP-HASH"][1] == ("192.168.1.11,sctp:30080", "10.244.1.1,sctp:30080")
    assert userspace(sctp, slices).listeners == ()


# nftables


def test_nftables_takes_node_ports_at_the_primary_address_unless_told_otherwise() -> None:
    assert set(nftables().containers["nodeport-ips"].elements) == {"192.168.1.11"}
    assert set(nftables(nodePortAddresses=["10.0.0.0/8"]).containers["nodeport-ips"].elements) == {"10.244.1.1"}
    for networks in (["127.0.0.0/8"], ["127.0.0.1/32"]):
        assert set(nftables(nodePortAddresses=networks).containers["nodeport-ips"].elements) == set()
    everywhere = nftables(nodePortAddresses=["0.0.0.0/0"])
    assert "nodeport-ips" not in everywhere.containers
    assert "fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto" in everywhere.chains["services"][1]


def test_nftables_tells_local_traffic_by_interface() -> None:
    bridge = {"detectLocalMode": "BridgeInterface", "detectLocal": {"bridgeInterface": "cni0"}}
    prefix = {"detectLocalMode": "InterfaceNamePrefix", "detectLocal": {"interfaceNamePrefix": "veth"}}
    objects = (service(), endpoint_slice(HERE))
    assert 'iifname != "cni0" jump' in nft_chain(nftables(*objects, **bridge), "service-")[0]
    assert 'iifname != "veth*" jump' in nft_chain(nftables(*objects, **prefix), "service-")[0]
    assert nft_chain(nftables(*objects, nftables={"masqueradeAll": True}), "service-")[0] == (
        "ip daddr 10.96.0.50 tcp dport 80 jump mark-for-masquerade"
    )


def test_nftables_keeps_the_firewall_of_a_service_without_endpoints() -> None:
    balanced = service(type="LoadBalancer", status=LB, loadBalancerSourceRanges=["203.0.113.0/25"])
    ruleset = nftables(balanced)
    assert len(ruleset.containers["firewall-ips"].elements) == 2
    assert nft_chain(ruleset, "firewall-") != ()
    assert not ruleset.containers["service-ips"].elements


def test_an_affinity_set_has_the_services_timeout() -> None:
    sticky = service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}})
    (made,) = [each for each in nftables(sticky, endpoint_slice(HERE)).containers.values() if each.kept]
    assert made.declaration == "type ipv4_addr ; flags dynamic,timeout ; timeout 60s ;"


# ipvs


def test_ipvs_serves_node_ports_at_every_local_address_and_binds_them_nowhere() -> None:
    made = ipvs(service(ports=NODE_PORT, type="NodePort"), endpoint_slice(HERE, FAR))
    places = [server.place for server in made.servers]
    assert places == ["-t 10.96.0.50:80", "-t 192.168.1.11:30080", "-t 10.244.1.1:30080"]
    assert made.addresses == ("10.96.0.50",)


def test_source_ranges_are_such_as_an_ipset_of_networks_takes_and_shows() -> None:
    ranges = ["0.0.0.0/0", "203.0.113.5/32", "10.0.0.0/8"]
    made = ipvs(service(type="LoadBalancer", status=LB, loadBalancerSourceRanges=ranges), endpoint_slice(HERE))
    _, members = made.sets["KUBE-LOAD-BALANCER-SOURCE-CIDR"]
    assert [each.split(",")[2] for each in members if each.startswith("198.51.100.1,")] == [
        "0.0.0.0/1", "128.0.0.0/1", "203.0.113.5", "10.0.0.0/8"]  # fmt: skip
    assert "/0\n" not in made.ipset_text()
    there = {name: frozenset(shown) for name, (_, shown) in made.sets.items()}
    assert set_lines(made, there) == []


def test_ipvs_goes_by_its_scheduler() -> None:
    made = ipvs(service(), endpoint_slice(HERE), ipvs={"scheduler": "mh"})
    assert made.ipvsadm_text().splitlines()[0] == "-A -t 10.96.0.50:80 -s mh -b mh-port"
    assert next(iter(ipvs(service(), ipvs={"scheduler": "lc"}).servers)).scheduler == "lc"


def test_ipvs_external_addresses_under_policy_local_have_a_set_of_their_own() -> None:
    made = ipvs(service(externalIPs=["203.0.113.7"], externalTrafficPolicy="Local"), endpoint_slice(FAR))
    assert made.sets["KUBE-EXTERNAL-IP-LOCAL"][1] == ("203.0.113.7,tcp:80",)
    assert made.sets["KUBE-EXTERNAL-IP"][1] == ()
    rules = chain(made.iptables, "KUBE-SERVICES")
    assert not any("KUBE-EXTERNAL-IP-LOCAL" in rule and "MARK-MASQ" in rule for rule in rules)
    assert [server for server, real in made.servers.items() if real == ("10.244.2.5:8080",)]


def test_ipvs_lets_a_node_in_the_source_ranges_use_the_address_itself() -> None:
    balanced = service(type="LoadBalancer", status=LB, loadBalancerSourceRanges=["192.168.1.0/24"])
    made = ipvs(balanced, endpoint_slice(HERE))
    assert made.sets["KUBE-LOAD-BALANCER-SOURCE-IP"][1] == (
        "198.51.100.1,tcp:80,198.51.100.1",
        "198.51.100.2,tcp:80,198.51.100.2",
    )
    assert made.iptables.chains["filter", "KUBE-IPVS-OUT-FILTER"] == ()


def test_ipvs_masquerades_by_what_can_be_told_of_the_sender() -> None:
    objects = (service(), endpoint_slice(HERE))
    unknown = next(r for r in chain(ipvs(*objects, clusterCIDR="").iptables, "KUBE-SERVICES") if "MARK-MASQ" in r)
    assert "KUBE-CLUSTER-IP src,dst" in unknown
    everything = ipvs(*objects, iptables={"masqueradeAll": True})
    rule = next(r for r in chain(everything.iptables, "KUBE-SERVICES") if "MARK-MASQ" in r)
    assert rule.startswith("-m comment")
    assert "KUBE-CLUSTER-IP dst,dst" in rule


def test_ipvs_loops_back_to_every_local_endpoint_whatever_its_condition() -> None:
    down = {"addresses": ["10.244.1.6"], "nodeName": "node1", "conditions": {"ready": False, "serving": False}}
    members = ipvs(service(), endpoint_slice(HERE, FAR, down)).sets["KUBE-LOOP-BACK"][1]
    assert members == ("10.244.1.5,tcp:8080,10.244.1.5", "10.244.1.6,tcp:8080,10.244.1.6")


# userspace


def test_userspace_leads_every_address_to_the_listener() -> None:
    outside = service(ports=NODE_PORT, type="LoadBalancer", status=LB, externalIPs=["203.0.113.7"])
    ruleset = userspace(outside, endpoint_slice(HERE, FAR))
    (listener,) = ruleset.listeners
    assert [str(each) for each in listener.endpoints] == ["10.244.1.5:8080", "10.244.2.5:8080"]
    container = chain(ruleset.iptables, "KUBE-PORTALS-CONTAINER")
    assert [rule.split()[1] for rule in container] == ["10.96.0.50/32", *["203.0.113.7/32"] * 2,
                                                       *["198.51.100.1/32"] * 2, *["198.51.100.2/32"] * 2]  # fmt: skip
    assert all(rule.endswith(f"-j REDIRECT --to-ports {listener.proxy_port}") for rule in container)
    host = chain(ruleset.iptables, "KUBE-PORTALS-HOST")
    assert all(rule.endswith(f"-j DNAT --to-destination {NODE.address}:{listener.proxy_port}") for rule in host)
    assert len(chain(ruleset.iptables, "KUBE-NODEPORT-HOST")) == 1
    assert "--dport 30080" in chain(ruleset.iptables, "KUBE-NODEPORT-NON-LOCAL", "filter")[0]


def test_userspace_serves_ready_endpoints_only() -> None:
    leaving = {**FAR, "conditions": {"ready": False, "serving": True, "terminating": True}}
    (listener,) = userspace(service(), endpoint_slice(HERE, leaving)).listeners
    assert [each.address for each in listener.endpoints] == HERE["addresses"]


def test_userspace_uses_the_ports_that_were_opened() -> None:
    from dataclasses import replace  # noqa: PLC0415

    seen = replace(view(service(), endpoint_slice(HERE), mode="userspace"),
                   proxy_ports=(("default/web:http", "tcp", 41234),))  # fmt: skip
    ruleset = compiler("userspace")(seen)
    assert isinstance(ruleset, UserspaceRuleset)
    assert ruleset.listeners[0].proxy_port == 41234


def test_ipvs_has_one_virtual_server_where_two_services_have_one_external_address() -> None:
    sticky = service("other", externalIPs=["198.18.0.1"], clusterIP="10.96.0.99", sessionAffinity="ClientIP")
    plain = service(externalIPs=["198.18.0.1"])
    text = ipvs(plain, sticky, endpoint_slice(HERE), endpoint_slice(HERE, name="other")).ipvsadm_text()
    assert text.count("-A -t 198.18.0.1:80 ") == 1


def test_garbage_collection_goes_on_whoever_ends_first() -> None:
    first, second = (garbage_later() for _ in range(2))
    assert gc.isenabled()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()
