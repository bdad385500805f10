"""The plans of vxlan and host-gw against what a real flanneld left in the kernel."""

from __future__ import annotations

import json
import re

import pytest
from flannel_states import CASES, GOLDEN, NODES, left_by_flanneld

from mininetes.spec import describe
from mininetes.testbed.blueprint import Blueprint, draw
from mininetes.testbed.fabric_flannel import ANNOTATIONS, SUBNET_FILE

UNDERLAY_ROUTES = ("default via 192.168.1.1 dev eth0", "192.168.1.0/24 dev eth0 proto kernel")


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[str, Blueprint]:
    return request.param, draw(describe({"fabric": CASES[request.param], "outside": {"clients": 0}}))


def test_every_golden_state_is_compared() -> None:
    assert {path.name for path in GOLDEN.iterdir() if path.is_dir()} == set(CASES)


@pytest.mark.parametrize("node", NODES)
def test_routes_neighbours_and_forwarding_entries_are_those_of_flanneld(case: tuple[str, Blueprint], node: str) -> None:
    theirs, _ = left_by_flanneld(case[0], node)
    state = case[1].states[node]
    routes = [each for each in theirs["ip route"] if not each.startswith(UNDERLAY_ROUTES)]
    assert sorted(str(route) for route in state.routes) == routes
    neighbours = [re.sub(r" dev (\S+) lladdr (\S+) PERMANENT", r" lladdr \2 dev \1", n)
                  for n in theirs["ip neigh (permanent)"]]  # fmt: skip
    assert sorted(str(each) for each in state.neighbours) == neighbours
    assert sorted(f"{each} self permanent" for each in state.fdb) == theirs["bridge fdb (flannel.1)"]


@pytest.mark.parametrize("node", NODES)
def test_the_device_and_its_address_are_those_of_flanneld(case: tuple[str, Blueprint], node: str) -> None:
    theirs, _ = left_by_flanneld(case[0], node)
    text = " ".join(theirs["ip -d link show type vxlan"])
    links = case[1].states[node].links
    assert bool(text) == bool(links)
    for link in links:
        learning = "" if link.learning else " nolearning"
        device = f"vxlan id {link.vni} local {link.local} dev {link.device} srcport 0 0 dstport {link.port}{learning}"
        assert device in text
        assert f"{link.name}: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu {link.mtu} " in text
        assert f"link/ether {link.mac} " in text
        assert ("qlen" in text) == bool(link.txqueuelen)
    addresses = [re.findall(r"inet (\S+) .* (\S+)\\", each)[0] for each in theirs["ip addr"] if "flannel" in each]
    assert sorted((str(a), d) for d, a in case[1].states[node].addresses) == addresses


@pytest.mark.parametrize("node", NODES)
def test_rules_are_those_of_flanneld_in_their_order(case: tuple[str, Blueprint], node: str) -> None:
    text, _ = left_by_flanneld(case[0], node)
    ours = {
        f"-A {where} {rule}"
        for chain in case[1].states[node].chains
        for where, rule in (*chain.jumps, *((chain.name, rule) for rule in chain.rules))
    }
    assert ours == {each for each in text["iptables-save"] if each.startswith("-A")}
    raw = (GOLDEN / case[0] / node / "state.txt").read_text()
    for chain in case[1].states[node].chains:
        own_subnet = re.compile(r"-d 10\.244\.\d+\.0/24")
        theirs = [own_subnet.sub("-d OWN", each.strip().removeprefix(f"-A {chain.name} "))
                  for each in raw.splitlines() if each.startswith(f"-A {chain.name} ")]  # fmt: skip
        assert [own_subnet.sub("-d OWN", rule) for rule in chain.rules] == theirs


@pytest.mark.parametrize("node", NODES)
def test_the_subnet_file_is_that_of_flanneld(case: tuple[str, Blueprint], node: str) -> None:
    _, env = left_by_flanneld(case[0], node)
    assert case[1].plan.files[node] == {SUBNET_FILE: env}


def test_the_annotations_say_what_the_lease_in_etcd_said(case: tuple[str, Blueprint]) -> None:
    lines = (GOLDEN / case[0] / "etcd.txt").read_text().splitlines()
    leases = {json.loads(value)["PublicIP"]: json.loads(value) for value in lines[1::2] if "PublicIP" in value}
    for node in case[1].view.nodes:
        lease = leases[str(node.address)]
        ours = {key.removeprefix(ANNOTATIONS): value for key, value in case[1].plan.annotations[node.name].items()}
        assert ours.pop("kube-subnet-manager") == "true"
        data = json.loads(ours.pop("backend-data"))
        assert ours == {"backend-type": lease["BackendType"], "public-ip": lease["PublicIP"]}
        assert (data or {}).keys() == lease.get("BackendData", {}).keys()
        assert (data or {}).get("VNI") == lease.get("BackendData", {}).get("VNI")
