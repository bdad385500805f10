"""The fabric's agents: what somebody changes is reported and repaired, also without the API; outside programs."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packet_capture import captured
from running_lab import Done, RunningLab, fresh_name, mininetes, running
from scapy.layers.inet import ICMP
from scapy.layers.l2 import Ether
from waiting import wait_until

from mininetes.lab import state
from mininetes.lab.asking import ask


def drift(lab: RunningLab) -> dict[str, list[str]]:
    """What the engine finds now: without the command's own start, in which things may be repaired."""
    found: dict[str, list[str]] = ask(state.find(lab.name).control, op="drift")["drift"]
    return found


def group(lab: RunningLab, *words: str) -> Done:
    """A command of a group, on this lab."""
    return mininetes(*words, "--lab", lab.name)


def holds(lab: RunningLab, place: str, *command: str) -> bool:
    """Whether a shell command succeeds there."""
    return lab.try_exec(place, "sh", "-c", " ".join(command)).status == 0


def log_of(lab: RunningLab, node: str, agent: str) -> str:
    return lab.exec(node, "cat", f"/var/log/{agent}.log")


def node_object(lab: RunningLab, name: str) -> dict[str, Any]:
    done = lab.command("get", "node", name, "-o", "json")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def tunnels() -> Iterator[RunningLab]:
    with running("--fabric", "vxlan", "--pods", "1") as lab:
        yield lab


def test_nodes_are_annotated_as_flanneld_does(tunnels: RunningLab) -> None:
    for number, name in enumerate(tunnels.nodes, start=1):
        wait_until(lambda name=name: "flannel.alpha.coreos.com/public-ip" in  # type: ignore[misc]
              node_object(tunnels, name)["metadata"]["annotations"], f"{name} is annotated")  # fmt: skip
        node = node_object(tunnels, name)
        ours = {k: v for k, v in node["metadata"]["annotations"].items() if "flannel" in k}
        mac = tunnels.exec(name, "cat", "/sys/class/net/flannel.1/address").strip()
        assert ours == {
            "flannel.alpha.coreos.com/backend-data": f'{{"VNI":1,"VtepMAC":"{mac}"}}',
            "flannel.alpha.coreos.com/backend-type": "vxlan",
            "flannel.alpha.coreos.com/kube-subnet-manager": "true",
            "flannel.alpha.coreos.com/public-ip": f"192.168.1.{10 + number}",
        }
        wait_until(lambda name=name: network_condition(tunnels, name) == ("False", "FlannelIsUp"), "the network is up")  # type: ignore[misc]
        assert f"FLANNEL_SUBNET=10.244.{number}.1/24" in tunnels.exec(name, "cat", "/run/flannel/subnet.env")


def network_condition(lab: RunningLab, name: str) -> tuple[str, str] | None:
    conditions = {each["type"]: each for each in node_object(lab, name)["status"]["conditions"]}
    found = conditions.get("NetworkUnavailable")
    return (found["status"], found["reason"]) if found else None


def test_each_nodes_agent_is_a_pod_whose_log_is_read(tunnels: RunningLab) -> None:
    pods = [name for name in tunnels.command("get", "pods", "-n", "kube-system").stdout.split() if "flanneld" in name]
    assert len(pods) == 3
    assert '"Starting" fabric="vxlan"' in log_of(tunnels, "node2", "flanneld")


MEDDLING = {
    "a route": ("ip route del 10.244.2.0/24", "ip route | grep -q '10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink'"),
    "a forwarding entry": ("bridge fdb del 02:00:0a:f4:02:00 dev flannel.1 dst 192.168.1.12",
                           "bridge fdb show dev flannel.1 | grep -q 'dst 192.168.1.12'"),
    "a neighbour": ("ip neigh del 10.244.2.0 dev flannel.1", "ip neigh show dev flannel.1 | grep -q 10.244.2.0"),
    "the device": ("ip link del flannel.1",
                   "ip route | grep -q 'dev flannel.1' && bridge fdb show | grep -q flannel.1"),
    "a file": ("rm /run/flannel/subnet.env", "grep -q FLANNEL_MTU=1450 /run/flannel/subnet.env"),
    "a file's text": ("echo >>/run/flannel/subnet.env", "test $(wc -l </run/flannel/subnet.env) = 4"),
    "a rule": ("iptables -F FLANNEL-FWD", "iptables -S FLANNEL-FWD | grep -q ACCEPT"),
}  # fmt: skip


@pytest.mark.parametrize("what", MEDDLING)
def test_what_is_deleted_by_hand_is_drift_until_it_is_repaired_and_stands_in_the_log(
    tunnels: RunningLab, what: str
) -> None:
    break_it, is_whole = MEDDLING[what]
    repaired = log_of(tunnels, "node1", "flanneld").count("Drift repaired")
    tunnels.exec("node1", "sh", "-c", break_it)
    assert list(drift(tunnels)) == ["node1"]
    wait_until(lambda: holds(tunnels, "node1", is_whole), f"{what} is back", within_s=15)
    wait_until(lambda: drift(tunnels) == {}, "no drift", within_s=15)
    assert log_of(tunnels, "node1", "flanneld").count("Drift repaired") > repaired
    assert tunnels.probe().status == 0


def test_it_is_repaired_with_the_api_gone_and_followed_again_when_it_is_back() -> None:
    with running("--fabric", "host-gw", "--pods", "1", "--nodes", "2") as lab:
        assert group(lab, "agents", "stop", "node1", "kube-apiserver").status == 0
        lab.exec("node2", "ip", "route", "del", "10.244.1.0/24")
        wait_until(lambda: holds(lab, "node2", "ip route | grep -q 10.244.1.0/24"), "the route is back", within_s=15)
        # an agent that starts without the API keeps to what it finds
        group(lab, "agents", "restart", "node2", "flanneld")
        lab.exec("node2", "ip", "route", "del", "10.244.1.0/24")
        wait_until(lambda: holds(lab, "node2", "ip route | grep -q 10.244.1.0/24"), "the route is back", within_s=15)
        assert group(lab, "agents", "start", "node1", "kube-apiserver").status == 0
        wait_until(lambda: lab.command("get", "nodes").status == 0, "the API is back", within_s=20)
        assert lab.probe().status == 0


def test_a_link_that_was_cut_in_mininets_cli_and_healed_has_its_routes_back() -> None:
    """The kernel drops a link's routes when it goes down; flanneld's are written anew, and pods reach each other."""
    with running("--fabric", "host-gw", "--pods", "1") as lab:
        lab.command("shell", "--mininet", stdin="link node2 s1 down\nexit\n")
        lost = lab.probe("--timeout", "0.2", "--attempts", "1")
        assert lost.status == 1
        lab.command("shell", "--mininet", stdin="link node2 s1 up\nexit\n")
        wait_until(lambda: "10.244.3.0/24" in lab.exec("node2", "ip", "route"), "node2's routes are back", within_s=15)
        assert [str(cell) for cell in lab.probe().matrix.mismatches] == []


@pytest.mark.parametrize("fabric", ["static", "router"])
def test_one_hand_sees_to_the_nodes_and_routers_of_a_fabric_without_a_program(fabric: str) -> None:
    place, gone = ("node2", "10.244.1.0/24") if fabric == "static" else ("gw", "10.244.2.0/24")
    with running("--fabric", fabric, "--pods", "1", "--nodes", "2") as lab:
        lab.exec(place, "ip", "route", "del", gone)
        assert list(drift(lab)) == [place]
        wait_until(lambda: gone in lab.exec(place, "ip", "route"), "the route is back", within_s=15)
        wait_until(lambda: f'"Drift repaired" host="{place}"' in log_of(lab, "node1", fabric), "the log says so")
        assert lab.probe().status == 0


def test_without_repair_drift_stays_and_is_reported_once() -> None:
    with running("--pods", "0", "--nodes", "2", "--set", "fabric={name: host-gw, repair: false}") as lab:
        lab.exec("node1", "ip", "route", "del", "10.244.2.0/24")
        wait_until(lambda: "Drift found" in log_of(lab, "node1", "flanneld"), "it is in the log", within_s=15)
        lab.exec("node1", "ip", "route", "add", "10.99.0.0/16", "via", "192.168.1.12")
        wait_until(lambda: lab.status()[0] == 1, "drift")
        assert "10.244.2.0" not in lab.exec("node1", "ip", "route")
        assert log_of(lab, "node1", "flanneld").count("Drift found") == 1


# --- outside programs ---------------------------------------------------------------------------------------------

PROGRAM = """#!{python}
'''Gives its node routes to the pods of all other nodes that the API has: what a fabric's program does.'''
import base64, json, os, ssl, subprocess, sys, tempfile, time, urllib.request
import yaml

config = yaml.safe_load(open(os.environ["KUBECONFIG"]))
cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
mine, known = os.environ["NODE_NAME"], {{}}
print("watching nodes for", mine, flush=True)
while True:
    asked = urllib.request.Request(cluster["server"] + "/api/v1/nodes",
                                   headers={{"Authorization": "Bearer " + user["token"]}})
    try:
        with urllib.request.urlopen(asked, context=context, timeout=5) as answer:
            items = json.load(answer)["items"]
    except OSError as failed:
        print("no answer:", failed, flush=True)
        time.sleep(0.2)
        continue
    wanted = {{n["spec"]["podCIDR"]: n["status"]["addresses"][0]["address"] for n in items
              if n["metadata"]["name"] != mine and n["spec"].get("podCIDR")}}
    for subnet in known.keys() - wanted.keys():
        subprocess.run(["ip", "route", "del", subnet], check=True)
    for subnet in wanted.keys() - known.keys():
        print("route to", subnet, flush=True)
        subprocess.run(["ip", "route", "replace", subnet, "via", wanted[subnet]], check=True)
    known = wanted
    time.sleep(0.1)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "My_fabric.py"
    path.write_text(PROGRAM.format(python=sys.executable))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_an_outside_program_on_each_node_carries_the_packets(program: Path, tmp_path: Path) -> None:
    cluster = {"apiVersion": "mininetes/v1", "kind": "Cluster", "spec": {"fabric": {"exec": [f"./{program.name}"]}}}
    (tmp_path / "cluster.yaml").write_text(json.dumps(cluster))
    with running(str(tmp_path / "cluster.yaml"), "--pods", "1") as lab:
        for node in lab.nodes:
            wait_until(lambda node=node: lab.exec(node, "ip", "route").count("\n10.244.") == 3, "all routes")  # type: ignore[misc]
            assert f"watching nodes for {node}" in log_of(lab, node, "my-fabric")
            assert "Failed creating a mirror pod" not in log_of(lab, node, "kubelet")
        assert lab.command("get", "pods", "-n", "kube-system").stdout.count("my-fabric-") == len(lab.nodes)
        assert lab.probe().status == 0
        check_restart(lab)
        with captured(lab, "node2") as frames:
            lab.exec("pod/node1-1", "ping", "-c", "1", "-W", "2", lab.address("pod/node2-1"))
        assert len([frame for frame in frames if ICMP in Ether(frame)]) == 2
        check_follows(lab)


def check_restart(lab: RunningLab) -> None:
    """A program that dies is started anew; its log goes on."""
    end_program(lab, "node1")
    wait_until(
        lambda: log_of(lab, "node1", "my-fabric").count("watching nodes for node1") == 2, "it is back", within_s=15
    )
    row = next(each for each in agents(lab) if (each["node"], each["name"]) == ("node1", "my-fabric"))
    assert row["restarts"] == 1
    assert "ended with status -15" in row["failure"]
    assert "NODE_NAME" not in log_of(lab, "node1", "my-fabric")


def agents(lab: RunningLab) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(group(lab, "agents", "ls", "-o", "json").stdout)
    return rows


def end_program(lab: RunningLab, node: str) -> None:
    """End the node's program by its pid, which has the node's name in its environment."""
    script = (
        f"for p in /proc/[0-9]*; do if tr '\\0' '\\n' <$p/environ 2>/dev/null | grep -qx NODE_NAME={node} "
        "&& grep -q My_fabric $p/cmdline; then kill ${p#/proc/}; fi; done"
    )
    lab.exec("", "sh", "-c", script)


def check_follows(lab: RunningLab) -> None:
    """A node that joins has its program too."""
    done = group(lab, "node", "add")
    assert done.status == 0, done
    wait_until(lambda: "10.244.4.0/24 via 192.168.1.14" in lab.exec("node1", "ip", "route"), "node1 knows node4")
    wait_until(
        lambda: lab.command("exec", "node4", "--", "ip", "route").stdout.count("\n10.244.") == 4, "node4 knows all"
    )
    assert lab.probe().status == 0


def test_host_gw_names_each_subnet_behind_a_router_once() -> None:
    with running("--fabric", "host-gw", "--underlay", "racks", "--nodes", "3", "--pods", "0") as lab:
        wait_until(lambda: "No route to a subnet" in log_of(lab, "node3", "flanneld"), "the log says so", within_s=15)
        assert group(lab, "agents", "restart", "node1", "flanneld").status == 0
        wait_until(lambda: log_of(lab, "node1", "flanneld").count("No route to a subnet") == 2, "again when restarted")
        (line, again) = [each for each in log_of(lab, "node1", "flanneld").splitlines() if "No route" in each]
        for text in ('subnet="10.244.3.0/24"', 'via="192.168.1.139"', 'node="node3"'):
            assert text in line
            assert text in again
        assert log_of(lab, "node3", "flanneld").count("No route to a subnet") == 2


def test_up_says_that_nothing_is_repaired_without_a_control_plane() -> None:
    noted = {}
    for store in ("none", "memory"):
        name = fresh_name()
        wish = ("--nodes", "1", "--pods", "0", "--set", "outside.clients=0", "--set", f"controlPlane.store={store}")
        try:
            done = mininetes("up", "--lab", name, "--fabric", "host-gw", *wish)
            assert done.status == 0, done
        finally:
            mininetes("down", name)
        noted[store] = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
    assert noted["memory"] == []
    (note,) = noted["none"]
    assert "host-gw" in note
    assert "not repaired" in note
