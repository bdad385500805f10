"""Container networks before the kernel: what is chosen and refused, the plans, and the table of who reaches whom."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import product
from typing import Any

import pytest

from mininetes.errors import BadInput
from mininetes.kernel.netstate import Bridge, Chain, FdbEntry, Found, Neighbour, NetState, difference
from mininetes.kernel.packet_rules import restore_text
from mininetes.spec import describe
from mininetes.spec_sections import DRIVERS, ContainerNetworkSpec, ContainerSpec
from mininetes.testbed.blueprint import draw
from mininetes.testbed.networks import GATEWAY_BRIDGE, MODES, Endpoint, Ground, Network, ground_of
from mininetes.testbed.networks_catalogue import Catalogue, declared, parsed
from mininetes.testbed.networks_choice import Place
from mininetes.testbed.networks_plan import LinkSettings, link_settings, member_state, node_state
from mininetes.testbed.networks_ports import hairpin
from mininetes.testbed.networks_reach import (
    DESTINATIONS,
    HOST,
    LOOPBACK,
    MEETS,
    OTHER,
    OWN,
    OWN_PORT,
    REACHES,
    Row,
    guests_of,
)

LINE = Place()
GROUND = ground_of(draw(describe({})))


def wanted(name: str = "net", node: str | None = "node1", **more: Any) -> ContainerNetworkSpec:
    return ContainerNetworkSpec.model_validate({"name": name, "node": node, **more})


def made(catalogue: Catalogue, name: str = "net", node: str | None = "node1", **more: Any) -> Network:
    return catalogue.create(wanted(name, node, **more), GROUND, LINE)


def container(catalogue: Catalogue, name: str, node: str, *networks: str, **more: Any) -> list[Endpoint]:
    spec = ContainerSpec(name=name, node=node, networks=networks or ("bridge",), **more)
    return catalogue.endpoints_of(catalogue.enter(spec, GROUND, LINE).title)


# --- what is chosen -----------------------------------------------------------------------------------------------


def test_a_bridge_gets_the_next_of_dockers_ranges_and_its_first_address_is_the_gateway() -> None:
    catalogue = Catalogue()
    first, second = made(catalogue, "a"), made(catalogue, "b")
    assert (first.subnet, first.gateway) == (IPv4Network("172.18.0.0/16"), IPv4Address("172.18.0.1"))
    assert second.subnet == IPv4Network("172.19.0.0/16")
    assert made(catalogue, "a", "node2").subnet == first.subnet
    assert (first.mtu, first.scope, first.nodes) == (1500, "local", ("node1",))
    assert len(first.bridge) == 15
    assert first.bridge != second.bridge


def test_an_overlay_is_on_all_nodes_unless_said_otherwise_with_a_network_identifier_of_its_own() -> None:
    catalogue = Catalogue()
    everywhere = made(catalogue, "a", None, driver="overlay")
    some = made(catalogue, "b", None, driver="overlay", nodes=["node3", "node1"])
    assert everywhere.nodes == ("node1", "node2", "node3")
    assert some.nodes == ("node3", "node1")
    assert (everywhere.vni, some.vni) == (4097, 4098)
    assert (everywhere.subnet, some.subnet) == (IPv4Network("10.0.1.0/24"), IPv4Network("10.0.2.0/24"))
    assert (everywhere.mtu, everywhere.scope) == (1450, "cluster")


def test_overlays_share_nothing_in_the_whole_cluster_whichever_nodes_they_are_on() -> None:
    catalogue = Catalogue()
    first, second = (made(catalogue, f"of-{node}", node, driver="overlay") for node in ("node1", "node2"))
    assert (first.subnet, second.subnet) == (IPv4Network("10.0.1.0/24"), IPv4Network("10.0.2.0/24"))
    assert (first.vni, second.vni) == (4097, 4098)
    before = catalogue.copy()
    with pytest.raises(BadInput, match=r"--subnet.*10\.0\.1\.128/25.*network of-node1 \(10\.0\.1\.0/24\)"):
        made(catalogue, "third", "node3", driver="overlay", subnet="10.0.1.128/25")
    with pytest.raises(BadInput, match=r"NAME.*of-node1.*no other overlay of the cluster has: one is on node1"):
        made(catalogue, "of-node1", "node3", driver="overlay")
    assert catalogue == before
    # the bridges of another node are its own affair
    assert made(catalogue, "near", "node3", subnet="10.0.1.0/24").subnet == first.subnet
    assert made(catalogue, "of-node1", "node2").scope == "local"
    with pytest.raises(BadInput, match="one of node1, node2: each has a network of-node1"):
        catalogue.find("of-node1", None, LINE)


def test_what_goes_with_a_node_is_what_no_other_has() -> None:
    catalogue = Catalogue()
    made(catalogue, "all", None, driver="overlay")
    made(catalogue, "here", "node2", driver="overlay")
    made(catalogue, "bridged", "node2")
    container(catalogue, "far", "node2", "bridge")
    container(catalogue, "wide", "node2", "all")
    assert [each.name for each in catalogue.only_on("node2")] == ["here", "bridged"]


def test_an_overlay_of_all_nodes_is_on_those_that_join_and_not_on_those_that_leave() -> None:
    catalogue = Catalogue()
    made(catalogue, "all", None, driver="overlay")
    made(catalogue, "some", None, driver="overlay", nodes=["node3", "node1"])
    made(catalogue, "one", "node2", driver="overlay")
    made(catalogue, "bridged", "node2")
    container(catalogue, "far", "node2", "all")
    for _ in range(2):
        catalogue.welcome_node("late")
    assert [(each.name, each.nodes) for each in catalogue.on("late")] == [("all", ("node1", "node2", "node3", "late"))]
    for _ in range(2):
        catalogue.forget_node("node2")
    assert {each.name: each.nodes for each in catalogue.networks} == {
        "all": ("node1", "node3", "late"), "some": ("node3", "node1")
    }  # fmt: skip
    assert catalogue.endpoints == []


def test_a_macvlan_takes_the_upper_half_of_its_parents_network_and_that_networks_router() -> None:
    network = made(Catalogue(), driver="macvlan")
    assert (network.subnet, network.gateway) == (IPv4Network("192.168.1.0/24"), IPv4Address("192.168.1.1"))
    assert network.ip_range == IPv4Network("192.168.1.128/25")
    assert (network.parent, network.mode, network.on_lan) == ("eth0", "bridge", True)


def test_ipvlan_in_mode_l3_has_a_subnet_of_its_own_and_no_gateway() -> None:
    network = made(Catalogue(), driver="ipvlan", options={"ipvlan_mode": "l3"})
    assert (network.subnet, network.gateway) == (IPv4Network("172.18.0.0/16"), None)


def test_predefined_networks_are_made_when_they_are_first_used() -> None:
    catalogue = Catalogue()
    (end,) = container(catalogue, "a", "node2")
    assert [(each.name, each.nodes, each.bridge) for each in catalogue.networks] == [("bridge", ("node2",), "docker0")]
    assert (str(end.address), end.mac, end.device) == ("172.17.0.2", "02:42:ac:11:00:02", "eth0")
    listed = [(each.name, each.driver) for each in catalogue.complete(GROUND).on("node1")]
    assert listed == [("bridge", "bridge"), ("host", "host"), ("none", "null")]


def test_who_is_on_overlays_alone_gets_the_bridge_that_leads_out() -> None:
    catalogue = Catalogue()
    made(catalogue, "wide", None, driver="overlay")
    ends = container(catalogue, "a", "node1", "wide")
    assert [(each.network.name, each.device) for each in ends] == [("wide", "eth0"), ("docker_gwbridge", "eth1")]
    assert not ends[1].network.icc


def test_addresses_are_given_once_and_again_when_their_owner_has_gone() -> None:
    catalogue = Catalogue()
    made(catalogue, "small", subnet="172.30.0.0/29")
    addresses = [str(container(catalogue, f"c{n}", "node1", "small")[0].address) for n in range(5)]
    assert addresses == [f"172.30.0.{n}" for n in range(2, 7)]
    with pytest.raises(BadInput, match=r"172\.30\.0\.0/29 are taken"):
        container(catalogue, "c5", "node1", "small")
    assert "c5" not in catalogue.containers
    catalogue.leave("container/c2")
    assert str(container(catalogue, "c6", "node1", "small")[0].address) == "172.30.0.4"


def test_networks_of_several_nodes_on_one_wire_give_no_address_twice() -> None:
    catalogue = Catalogue()
    for node in ("node1", "node2"):
        made(catalogue, "lan", node, driver="macvlan")
    first = container(catalogue, "a", "node1", "lan")[0].address
    assert first != container(catalogue, "b", "node2", "lan")[0].address


# --- what is refused ----------------------------------------------------------------------------------------------


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "a name that is none": ({"name": "a b"}, "NAME", "letters"),
    "a name that is taken": ({"name": "front"}, "NAME", "no network of node1 has"),
    "a predefined name": ({"name": "host"}, "NAME", "predefined"),
    "the bridge of overlays": ({"name": "docker_gwbridge"}, "NAME", "another name"),
    "an unknown driver": ({"driver": "vlan"}, "--driver", "bridge, macvlan, ipvlan, overlay"),
    "no node": ({"node": None}, "--node", "node1, node2, node3"),
    "an unknown node": ({"node": "node9"}, "--node", "node1, node2, node3"),
    "two nodes of a bridge": ({"node": None, "nodes": ["node1", "node2"]}, "--node", "one node"),
    "a node of an overlay twice": ({"node": None, "driver": "overlay", "nodes": ["node1", "node1"]}, "--node", "once"),
    "over the pods": ({"subnet": "10.244.9.0/24"}, "--subnet", "spec.network.pods"),
    "over the services": ({"subnet": "10.96.0.0/16"}, "--subnet", "spec.network.services"),
    "over the nodes": ({"subnet": "192.168.1.0/25"}, "--subnet", "spec.network.nodes"),
    "over load balancers": ({"subnet": "198.51.100.0/28"}, "--subnet", "loadBalancers"),
    "over the outside": ({"subnet": "203.0.113.0/28"}, "--subnet", "outside"),
    "over another network of the node": ({"subnet": "172.18.7.0/24"}, "--subnet", "network front"),
    "an overlay over a node's network": (
        {"node": None, "driver": "overlay", "subnet": "172.18.7.0/24"}, "--subnet", "network front"),
    "loopback": ({"subnet": "127.1.0.0/16"}, "--subnet", "127.0.0.0/8"),
    "no room": ({"subnet": "172.30.0.0/30"}, "--subnet", "at most 29"),
    "a gateway elsewhere": ({"subnet": "172.30.0.0/24", "gateway": "172.31.0.1"}, "--gateway", "172.30.0.0/24"),
    "the network as gateway": ({"subnet": "172.30.0.0/24", "gateway": "172.30.0.0"}, "--gateway", "172.30.0.0/24"),
    "a range elsewhere": ({"subnet": "172.30.0.0/24", "ipRange": "172.31.0.0/28"}, "--ip-range", "a part of"),
    "a range with nodes in it": (
        {"driver": "macvlan", "ipRange": "192.168.1.0/28"}, "--ip-range", "192.168.1.1 is taken"),
    "a gateway in mode l3": (
        {"driver": "ipvlan", "options": {"mode": "l3", "parent": "eth1"}, "gateway": "172.30.0.1"}, "-o parent",
        "eth0"),
    "an unknown option": ({"options": {"parent": "eth0"}}, "-o parent", "mtu, icc"),
    "an unknown parent": ({"driver": "macvlan", "options": {"parent": "eth7"}}, "-o parent", "eth0"),
    "an unknown mode": ({"driver": "macvlan", "options": {"mode": "vepa"}}, "-o mode", "bridge or private"),
    "a parent that carries another kind": ({"driver": "ipvlan"}, "-o parent", "network lan (macvlan bridge)"),
    "an MTU too small": ({"options": {"mtu": "500"}}, "-o mtu", "576 to 1500"),
    "an MTU too large for the tunnel": (
        {"node": None, "driver": "overlay", "options": {"com.docker.network.driver.mtu": "1500"}},
        "-o com.docker.network.driver.mtu", "576 to 1450"),
    "no MTU": ({"options": {"mtu": "big"}}, "-o mtu", "576"),
    "icc neither true nor false": ({"options": {"icc": "maybe"}}, "-o icc", "true or false"),
}  # fmt: skip


def crowded() -> Catalogue:
    catalogue = Catalogue()
    made(catalogue, "front")
    made(catalogue, "lan", driver="macvlan")
    container(catalogue, "web", "node1", "front", publish=("8080:80",))
    return catalogue


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_by_name_and_changes_nothing(case: str) -> None:
    values, field, right = REFUSED[case]
    catalogue = crowded()
    before = catalogue.copy()
    with pytest.raises(BadInput) as refused:
        catalogue.create(wanted(**{"name": "x", **values}), GROUND, LINE)
    assert refused.value.field.replace("-o com.docker.network.driver.mtu", "-o mtu") == field.replace(
        "-o com.docker.network.driver.mtu", "-o mtu"
    )
    assert right in refused.value.right
    assert "\n" not in str(refused.value)
    assert catalogue == before


def test_a_gateway_is_refused_in_mode_l3() -> None:
    with pytest.raises(BadInput, match=r"--gateway.*mode l3"):
        made(Catalogue(), driver="ipvlan", options={"mode": "l3"}, gateway="172.18.0.1")


@pytest.mark.parametrize("field", ["subnet", "ipRange", "gateway"])
def test_ipv6_is_refused_by_name(field: str) -> None:
    option = {"ipRange": "--ip-range"}.get(field, f"--{field}")
    with pytest.raises(BadInput, match=f"{option}.*IPv6 is not supported yet"):
        parsed(ContainerNetworkSpec, {"name": "x", field: "fd00::/64"}, LINE)


JOINS: dict[str, tuple[dict[str, Any], str, str]] = {
    "a name that is taken": ({"name": "web"}, "NAME", "no other container"),
    "no node": ({"node": None}, "--node", "node1, node2, node3"),
    "a network that is not there": ({"networks": ["nowhere"]}, "NETWORK", "front"),
    "a network of another node": (
        {"node": "node2", "networks": ["front"]},
        "NETWORK",
        "a network of node2: this one is on node1",
    ),
    "the same network twice": ({"networks": ["front", "front"]}, "NETWORK", "is not on yet"),
    "host and another": ({"networks": ["host", "front"]}, "NETWORK", "no other network"),
    "another and none": ({"networks": ["front", "none"]}, "NETWORK", "no other network"),
    "no network": ({"networks": []}, "--network", "at least one"),
    "a port that is none": ({"publish": ["80"]}, "--publish", "HOST_PORT:PORT"),
    "a port beyond all": ({"publish": ["70000:80"]}, "--publish", "HOST_PORT:PORT"),
    "a port that is taken": ({"publish": ["8080:81"]}, "--publish", "container/web does not have"),
    "a port twice": ({"publish": ["81:80", "81:81"]}, "--publish", "once"),
    "a published port without a bridge": ({"networks": ["lan"], "publish": ["81:80"]}, "--publish", "bridge network"),
}


@pytest.mark.parametrize("case", JOINS)
def test_a_container_that_cannot_be_is_refused_by_name_and_changes_nothing(case: str) -> None:
    values, field, right = JOINS[case]
    catalogue = crowded()
    before = catalogue.copy()
    with pytest.raises(BadInput) as refused:
        catalogue.enter(ContainerSpec.model_validate({"name": "x", "node": "node1", **values}), GROUND, LINE)
    assert refused.value.field == field
    assert right in refused.value.right
    assert catalogue == before


def test_a_network_that_somebody_is_on_is_not_removed() -> None:
    catalogue = crowded()
    front = catalogue.find("front", None, LINE)
    with pytest.raises(BadInput, match="container/web"):
        catalogue.remove(front, LINE)
    catalogue.leave("container/web")
    catalogue.remove(front, LINE)
    assert front not in catalogue.networks


def test_a_name_that_several_nodes_have_needs_the_node() -> None:
    catalogue = crowded()
    made(catalogue, "front", "node2")
    with pytest.raises(BadInput, match="node1, node2: each has a network front"):
        catalogue.find("front", None, LINE)
    assert catalogue.find("front", "node2", LINE).nodes == ("node2",)


def test_a_cluster_file_declares_networks_and_containers_and_is_told_the_field() -> None:
    spec = describe(
        {
            "networks": [{"name": "front", "node": "node1"}, {"name": "wide", "driver": "overlay"}],
            "containers": [{"name": "web", "node": "node1", "networks": ["front", "wide"], "publish": ["8080:80"]}],
        }
    )
    found = declared(spec.networks, spec.containers, GROUND)
    assert [each.network.name for each in found.endpoints] == ["front", "wide"]
    for section, values, field in (
        ("networks", {"name": "x", "node": "node1", "subnet": "10.244.0.0/24"}, "spec.networks[0].subnet"),
        ("networks", {"name": "x", "node": "node1", "options": {"mtu": "9000"}}, "spec.networks[0].options.mtu"),
        ("networks", {"name": "bridge", "node": "node1", "gateway": "172.17.0.9"}, "spec.networks[0].gateway"),
        ("containers", {"name": "x", "node": "node7"}, "spec.containers[0].node"),
    ):
        wrong = describe({section: [values]})
        with pytest.raises(BadInput) as refused:
            declared(wrong.networks, wrong.containers, GROUND)
        assert refused.value.field == field


def test_a_predefined_network_can_be_declared_in_a_file() -> None:
    spec = describe({"networks": [{"name": "bridge", "node": "node2"}]})
    (network,) = declared(spec.networks, (), GROUND).networks
    assert (network.bridge, network.nodes) == ("docker0", ("node2",))


def test_docker0_is_refused_where_its_range_is_the_pods() -> None:
    ground = ground_of(draw(describe({"network": {"pods": "172.17.0.0/16"}})))
    with pytest.raises(BadInput, match=r"172\.17\.0\.0/16.*spec\.network\.pods"):
        Catalogue().enter(ContainerSpec(name="x", node="node1"), ground, LINE)
    assert "bridge" not in [each.name for each in Catalogue().complete(ground).networks]


# --- plans --------------------------------------------------------------------------------------------------------


def rules_of(state: NetState, table: str, chain: str) -> tuple[str, ...]:
    (found,) = [each for each in state.chains if (each.table, each.name) == (table, chain)]
    return found.rules


def test_a_node_gets_the_bridges_and_rules_that_docker_makes() -> None:
    catalogue = Catalogue()
    container(catalogue, "web", "node1", "bridge", publish=("8080:80", "53:53/udp"))
    front = made(catalogue, "front")
    state = node_state("node1", catalogue, GROUND)
    bridges = {Bridge("docker0", "02:42:ac:11:00:01"), Bridge(front.bridge, "02:42:ac:12:00:01")}
    assert state.bridges == bridges
    assert state.addresses == {
        ("docker0", IPv4Interface("172.17.0.1/16")), (front.bridge, IPv4Interface("172.18.0.1/16"))
    }  # fmt: skip
    assert rules_of(state, "nat", "DOCKER") == (
        "-p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80",
        "-p udp -m udp --dport 53 -j DNAT --to-destination 172.17.0.2:53",
    )
    assert rules_of(state, "filter", "DOCKER") == (
        "-d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT",
        "-d 172.17.0.2/32 ! -i docker0 -o docker0 -p udp -m udp --dport 53 -j ACCEPT",
        "! -i docker0 -o docker0 -j DROP",
        f"! -i {front.bridge} -o {front.bridge} -j DROP",
    )
    assert rules_of(state, "filter", "DOCKER-ISOLATION-STAGE-1") == (
        "-i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2",
        f"-i {front.bridge} ! -o {front.bridge} -j DOCKER-ISOLATION-STAGE-2",
    )
    assert rules_of(state, "filter", "DOCKER-ISOLATION-STAGE-2") == (
        "-o docker0 -j DROP",
        f"-o {front.bridge} -j DROP",
    )
    (nat,) = [each for each in state.chains if each.table == "nat"]
    assert ("POSTROUTING", "-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE") in nat.jumps
    assert node_state("node2", catalogue, GROUND) == NetState()


def jumps_of(catalogue: Catalogue) -> tuple[tuple[str, str], ...]:
    (nat,) = [each for each in node_state("node1", catalogue, GROUND).chains if each.table == "nat"]
    return nat.jumps


def test_a_published_port_is_for_the_nodes_loopback_and_for_the_container_itself_too() -> None:
    catalogue = Catalogue()
    made(catalogue, "front")
    before = jumps_of(catalogue)
    assert ("OUTPUT", "-m addrtype --dst-type LOCAL -j DOCKER") in before
    container(catalogue, "web", "node1", "bridge", publish=("8080:80", "8081:80", "53:53/udp"))
    bridge = catalogue.find("bridge", None, LINE)
    from_node = ("POSTROUTING", "-o docker0 -m addrtype --src-type LOCAL -j MASQUERADE")
    itself = [
        ("POSTROUTING", f"-s 172.17.0.2/32 -d 172.17.0.2/32 -p {name} -m {name} --dport {port} -j MASQUERADE")
        for name, port in (("tcp", 80), ("udp", 53))
    ]
    assert [each for each in jumps_of(catalogue) if each not in before] == [
        ("POSTROUTING", f"-s {bridge.subnet} ! -o docker0 -j MASQUERADE"), from_node, *itself
    ]  # fmt: skip
    catalogue.leave("container/web")
    assert not set(itself) & set(jumps_of(catalogue))


def test_bridges_route_loopback_addresses_and_their_ports_send_back() -> None:
    catalogue = Catalogue()
    front = made(catalogue, "front")
    made(catalogue, "lan", driver="macvlan")
    made(catalogue, "wide", None, driver="overlay")
    ends = container(catalogue, "web", "node1", "front", "lan", "wide")
    far = container(catalogue, "far", "node2", "wide")
    found = link_settings("node1", catalogue)
    assert found == LinkSettings(frozenset([front.bridge]), frozenset([ends[0].port]))
    assert found.sysctls == {f"ipv4/conf/{front.bridge}/route_localnet": "1"}
    assert link_settings("node2", catalogue) == LinkSettings(frozenset([GATEWAY_BRIDGE]), frozenset([far[1].port]))
    assert link_settings("node3", catalogue) == LinkSettings()


def test_icc_off_drops_between_members_before_anything_is_accepted() -> None:
    catalogue = Catalogue()
    network = made(catalogue, options={"com.docker.network.bridge.enable_icc": "false"})
    forward = rules_of(node_state("node1", catalogue, GROUND), "filter", "DOCKER-FORWARD")
    drop, accept = f"-i {network.bridge} -o {network.bridge} -j DROP", f"-i {network.bridge} -j ACCEPT"
    assert forward.index(drop) < forward.index(accept)


def test_an_overlay_knows_each_member_elsewhere_and_has_no_address_on_the_node() -> None:
    catalogue = Catalogue()
    network = made(catalogue, "wide", None, driver="overlay")
    ends = {node: container(catalogue, f"on-{node}", node, "wide")[0] for node in ("node1", "node2", "node3")}
    state = node_state("node2", catalogue, GROUND)
    (device,) = state.links
    assert (device.vni, device.port, device.mtu, device.proxy, device.learning) == (4097, 4789, 1450, True, False)
    assert (device.master, device.device, str(device.local)) == (network.bridge, "eth0", "192.168.1.12")
    others = [ends["node1"], ends["node3"]]
    remotes = [IPv4Address("192.168.1.11"), IPv4Address("192.168.1.13")]
    assert state.fdb == {FdbEntry(device.name, end.mac, remote) for end, remote in zip(others, remotes, strict=True)}
    assert state.neighbours == {Neighbour(device.name, end.address, end.mac) for end in others if end.address}
    assert network.bridge not in {name for name, _ in state.addresses}


def test_a_container_leaves_by_its_first_network_with_a_gateway_and_a_pod_by_its_own() -> None:
    catalogue = Catalogue()
    made(catalogue, "wide", None, driver="overlay")
    made(catalogue, "front")
    ends = container(catalogue, "a", "node1", "wide", "front")
    (route,) = member_state("container/a", ends).routes
    assert str(route) == "default via 172.18.0.1 dev eth1"
    pod = catalogue.join_by_name("front", "pod/p", "node1", ["lo", "eth0"], GROUND, LINE)
    state = member_state("pod/p", [pod])
    assert state.routes == frozenset()
    assert state.addresses == {("eth1", IPv4Interface("172.18.0.3/16"))}


def test_in_mode_l3_everything_is_on_the_link() -> None:
    catalogue = Catalogue()
    made(catalogue, driver="ipvlan", options={"mode": "l3"})
    ends = container(catalogue, "a", "node1", "net")
    assert [str(each) for each in member_state("container/a", ends).routes] == ["default dev eth0"]
    assert ends[0].mac == ""


def test_a_rule_that_no_network_needs_any_more_is_taken_out_of_a_chain_that_stays() -> None:
    kept, gone = ("POSTROUTING", "-s 10.1.0.0/16 -j MASQUERADE"), ("POSTROUTING", "-s 10.2.0.0/16 -j MASQUERADE")
    before, after = Chain("nat", "DOCKER", (), (kept, gone)), Chain("nat", "DOCKER", (), (kept,))
    rules = {("nat", "DOCKER"): (), ("nat", "POSTROUTING"): (kept[1], gone[1], "-j KUBE-POSTROUTING")}
    found = Found({}, frozenset(), frozenset(), frozenset(), {}, rules=rules)
    changes = difference(NetState(chains=frozenset([after])), found, NetState(chains=frozenset([before])))
    assert [str(each) for each in changes] == [f"remove rule nat POSTROUTING {gone[1]}"]
    text = restore_text([after], [before], rules)["nat"]
    assert text.splitlines() == ["*nat", f"-D POSTROUTING {gone[1]}", "COMMIT"]


def test_bridges_are_made_changed_and_only_ours_removed() -> None:
    mine, other = Bridge("br-a", "02:42:ac:12:00:01"), Bridge("cni0", "02:00:00:00:00:01")
    there = Found({"br-a": 3, "cni0": 4}, frozenset(), frozenset(), frozenset(), {}, bridges=frozenset([mine, other]))
    nothing = Found({}, frozenset(), frozenset(), frozenset(), {})
    want = NetState(bridges=frozenset([mine]))
    assert [str(each) for each in difference(want, nothing)] == [f"add bridge {mine}"]
    assert difference(want, there) == []
    assert [str(each) for each in difference(NetState(), there, want)] == [f"remove bridge {mine}"]
    bent = NetState(bridges=frozenset([Bridge("br-a", "02:42:ac:12:00:09")]))
    assert [each.action for each in difference(bent, there)] == ["change"]


# --- who reaches whom ---------------------------------------------------------------------------------------------


def kinds() -> set[str]:
    """Every kind that a network can be of."""
    found = {Network("n", driver, ("node1",)).kind for driver in (*DRIVERS, "host", "null") if driver not in MODES}
    found.add(Network("n", "bridge", ("node1",), icc=False).kind)
    for driver, modes in MODES.items():
        for mode, on_lan in product(modes, (True, False)):
            found.add(Network("n", driver, ("node1",), mode=mode, on_lan=on_lan).kind)
    return found


def test_the_table_has_every_kind_and_only_those() -> None:
    assert set(REACHES) == kinds()
    assert {kind for pair in MEETS for kind in pair} <= kinds()


def test_every_kind_says_all_that_can_be_asked() -> None:
    for kind, row in REACHES.items():
        missing = set(DESTINATIONS) - {OTHER} - set(row)
        publishes = kind.startswith("bridge") or kind == "overlay"
        unasked = {OWN} if kind in ("host", "none") else set()
        assert missing == (unasked if publishes else unasked | {LOOPBACK, OWN_PORT}), kind
        assert all(each.reason for each in row.values())


def test_guests_publish_ports_that_no_container_has() -> None:
    catalogue = Catalogue()
    networks = [made(catalogue, "front"), made(catalogue, "lan", driver="macvlan"), made(catalogue, "back", "node2")]
    container(catalogue, "web", "node1", "front", publish=("61001:80",))
    guests = guests_of(networks, catalogue)
    assert [(each.networks[0], each.publish) for each in guests] == [
        ("front", ("61002:8080",)), ("front", ()), ("lan", ()), ("lan", ()), ("back", ("61003:8080",)), ("back", ())
    ]  # fmt: skip


def test_the_message_that_has_a_port_send_back_is_that_of_bridge_link_set() -> None:
    body = hairpin(7, "veth0").body
    assert body.hex(" ", 4) == "07000000 07000000 00000000 00000000 0c000c80 05000400 01000000"


def test_a_row_goes_through_json_and_says_what_does_not_hold() -> None:
    row = Row("front", "bridge", "node1", HOST, "node1", "192.168.1.11", True, "why", False, "no answer")
    assert Row.from_json(row.as_json()) == row
    assert row.as_json()["verdict"] == "lost"


def test_the_ground_has_every_network_of_the_underlay() -> None:
    ground: Ground = ground_of(draw(describe({"underlay": "leaf_spine", "nodes": {"workers": 3}})))
    covered = list(ground.ranges.values())
    assert all(any(address in network for network in covered) for address in ground.used)
