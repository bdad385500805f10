"""Container networks of the kind ipvlan, modes l2 and l3, and who reaches whom of every kind on a kernel that has all.

node1   shared (ipvlan l2: a, b)         node2   routed (ipvlan l3: c, d)         192.168.1.0/24 between them
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import yaml
from running_lab import RunningLab, fresh_name, is_left, mininetes, run

from mininetes.lab.entering import enter_node
from mininetes.lab.filesystem import netns_path

SLOWLY_S = 300.0
"""Without KVM all of this is emulated."""

NETWORKS: list[dict[str, Any]] = [
    {"name": "shared", "node": "node1", "driver": "ipvlan", "options": {"parent": "eth0", "mode": "l2"}},
    {"name": "routed", "node": "node2", "driver": "ipvlan", "options": {"mode": "l3"}, "subnet": "172.30.0.0/24"},
    {"name": "front", "node": "node2"},
]
PLACES = {"a": ("node1", "shared"), "b": ("node1", "shared"), "c": ("node2", "routed"), "d": ("node2", "routed")}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    name, path = fresh_name("vm"), tmp_path_factory.mktemp("networks") / "cluster.yaml"
    containers = [{"name": each, "node": node, "networks": [net]} for each, (node, net) in PLACES.items()]
    spec = {
        "nodes": {"workers": 1},
        "pods": {"perNode": 0},
        "controlPlane": {"store": "none"},
        "networks": NETWORKS,
        "containers": containers,
    }
    path.write_text(yaml.safe_dump({"apiVersion": "mininetes/v1", "kind": "Cluster", "spec": spec}))
    with ExitStack() as undo:
        undo.callback(_end, name)
        done = mininetes("up", "--lab", name, str(path), "-o", "json", timeout_s=SLOWLY_S)
        assert done.status == 0, done
        yield RunningLab(name, json.loads(done.stdout))


def _end(name: str) -> None:
    if is_left(name):
        done = mininetes("down", name, timeout_s=SLOWLY_S)
        assert done.status == 0, done


@pytest.fixture(scope="module")
def address(lab: RunningLab) -> dict[str, str]:
    """Of each container, as its own namespace has it."""
    said = {name: inside(lab, name, "ip", "-4", "-o", "address", "show", "dev", "eth0") for name in PLACES}
    return {name: re.findall(r"inet ([\d.]+)/", text)[0] for name, text in said.items()}


def inside(lab: RunningLab, name: str, *argv: str) -> str:
    """What a command prints in a container."""
    node = PLACES[name][0]
    netns = netns_path(node, f"container:{name}")
    done = run(enter_node(lab.pid, lab.hosts[node]["pid"], argv, pod_netns=netns))
    return done.stdout + done.stderr


def pings(lab: RunningLab, place: str, to: str) -> bool:
    argv = ("ping", "-n", "-c", "1", "-W", "3", to)
    said = inside(lab, place, *argv) if place in PLACES else lab.try_exec(place, *argv).stdout
    return "bytes from" in said


def test_whom_each_kind_reaches_is_as_declared(lab: RunningLab) -> None:
    options = ("--timeout", "2", "-o", "json")
    done = mininetes("probe", "networks", "--lab", lab.name, *options, timeout_s=SLOWLY_S)
    assert done.stdout, done
    rows = json.loads(done.stdout)
    assert [row for row in rows if row["verdict"] not in ("reached", "unreached")] == []
    assert done.status == 0
    met = {(row["kind"], row["destination"], row["reached"]) for row in rows}
    assert {
        ("ipvlan l2", "own network", True),
        ("ipvlan l2", "host", False),
        ("ipvlan l2", "other node", True),
        ("ipvlan l2", "outside", True),
        ("ipvlan l3", "own network", True),
        ("ipvlan l3", "host", False),
        ("ipvlan l3", "other node", False),
        ("ipvlan l3", "outside", False),
        ("bridge", "outside", True),
    } <= met


def test_in_mode_l2_members_are_on_the_wire_with_their_parents_mac(lab: RunningLab, address: dict[str, str]) -> None:
    assert re.search(r"ipvlan +mode l2", inside(lab, "a", "ip", "-d", "link", "show", "eth0"))
    assert pings(lab, "a", address["b"])
    assert pings(lab, "node2", address["a"])
    macs = re.findall(r"lladdr (\S+)", lab.exec("node2", "ip", "neigh", "show", address["a"]))
    assert macs == [lab.hosts["node1"]["mac"]]


def test_in_mode_l2_parent_and_child_do_not_meet(lab: RunningLab, address: dict[str, str]) -> None:
    assert not pings(lab, "node1", address["a"])
    assert not pings(lab, "a", lab.address("node1"))


def test_in_mode_l3_a_route_on_the_other_node_is_what_is_missing(lab: RunningLab, address: dict[str, str]) -> None:
    assert re.search(r"ipvlan +mode l3", inside(lab, "c", "ip", "-d", "link", "show", "eth0"))
    assert "default dev eth0" in inside(lab, "c", "ip", "route")
    assert pings(lab, "c", address["d"])
    assert not pings(lab, "c", lab.address("node1"))
    lab.exec("node1", "ip", "route", "add", "172.30.0.0/24", "via", lab.address("node2"))
    try:
        assert pings(lab, "c", lab.address("node1"))
        assert pings(lab, "node1", address["c"])
    finally:
        lab.exec("node1", "ip", "route", "del", "172.30.0.0/24")


def test_what_is_removed_leaves_nothing_on_the_parent(lab: RunningLab) -> None:
    assert inside(lab, "d", "ip", "link")
    done = mininetes("container", "rm", "--lab", lab.name, "c", "d", timeout_s=SLOWLY_S)
    assert done.status == 0, done
    assert "container:" not in lab.exec("node2", "ip", "netns")
    promiscuity = re.findall(r"promiscuity (\d+)", lab.exec("node2", "ip", "-d", "link", "show", "eth0"))
    assert promiscuity == ["0"]
