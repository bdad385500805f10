"""Nodes join a running cluster, leave it, and die: what they get, what the others notice, and what is left of them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cluster_api import is_ready
from running_lab import MININETES, Done, RunningLab, environment, mininetes, running
from waiting import wait_until

FABRICS = ("static", "router", "host-gw", "vxlan")


def group(lab: RunningLab, *words: str) -> Done:
    """A command of a group, on this lab."""
    return mininetes(*words, "--lab", lab.name)


def join(lab: RunningLab, *arguments: str) -> dict[str, Any]:
    done = group(lab, "node", "add", "-o", "json", *arguments)
    assert done.status == 0, done
    host: dict[str, Any] = json.loads(done.stdout)
    return host


def leave(lab: RunningLab, name: str) -> None:
    """It takes its ready-made pod along, and says so."""
    done = group(lab, "node", "rm", name)
    assert (done.status, done.stdout) == (0, f"{name} is gone, and with it pod {name}-1\n"), done


def now(lab: RunningLab) -> RunningLab:
    """The lab with the nodes and pods that it has by now."""
    return RunningLab(lab.name, lab.status()[1])


def check(lab: RunningLab, nodes: int) -> None:
    """All of them, and a pod of each, reach each other at once; each pod sees the others' own addresses; no drift."""
    current = now(lab)
    probed = current.probe("--attempts", "1")
    assert [str(cell) for cell in probed.matrix.mismatches] == []
    assert len(probed.reached()) == 2 * nodes * (2 * nodes - 1)
    first, *others = sorted(current.pods)
    for other in others:
        url = f"http://{current.address('pod/' + other)}:{current.pods[other]['port']}/"
        said = json.loads(current.exec(f"pod/{first}", "curl", "--silent", "--max-time", "5", url))
        assert said["client"].partition(":")[0] == current.address(f"pod/{first}")
    assert current.status()[1]["drift"] == {}


@pytest.mark.parametrize("plane", ["memory", "none"])
@pytest.mark.parametrize("fabric", FABRICS)
def test_nodes_join_and_leave_and_every_fabric_follows(fabric: str, plane: str) -> None:
    wish = ("--set", f"controlPlane.store={plane}", "--underlay", "single_switch")
    with running("--fabric", fabric, "--nodes", "2", "--pods", "1", *wish) as lab:
        host = join(lab)
        assert (host["name"], host["address"], host["podSubnet"]) == ("node3", "192.168.1.13", "10.244.3.0/24")
        assert host["mac"] == "02:00:c0:a8:01:0d"
        check(lab, 3)
        leave(lab, "node2")
        check(lab, 2)
        assert traces(lab, "10.244.2.0", "node1", "node3", "gw") == {}
        again = join(lab, "another")
        assert (again["address"], again["podSubnet"]) == ("192.168.1.12", "10.244.2.0/24")
        check(lab, 3)


def traces(lab: RunningLab, address: str, *places: str) -> dict[str, str]:
    """What the places still have of a node's pods."""
    found = {}
    for place in places:
        script = "ip route; ip neigh show nud permanent; bridge fdb show | grep -v 33:33"
        lines = now(lab).exec(place, "sh", "-c", script).splitlines()
        left = [line for line in lines if address in line]
        if left:
            found[place] = "\n".join(left)
    return found


def test_a_node_that_joins_has_what_the_others_have() -> None:
    with running("--fabric", "vxlan", "--nodes", "2", "--pods", "1") as lab:
        join(lab, "late")
        current = now(lab)
        mine, theirs = (current.exec(node, "ls", "/etc/cni/net.d", "/etc/kubernetes", "/opt/cni/bin", "/var/log")
                        for node in ("late", "node2"))  # fmt: skip
        assert mine == theirs
        assert "KUBE-SERVICES" in current.exec("late", "iptables-save", "-t", "nat")
        assert current.exec("late", "hostname").strip() == "late"
        for node in ("node1", "node2", "late"):
            assert "192.168.1.13\tlate" in current.exec(node, "cat", "/etc/hosts")
        assert "FLANNEL_SUBNET=10.244.3.1/24" in current.exec("late", "cat", "/run/flannel/subnet.env")
        node = json.loads(lab.command("get", "node", "late", "-o", "json").stdout)
        assert node["spec"]["podCIDR"] == "10.244.3.0/24"
        answer = current.exec("pod/late-1", "getent", "hosts", "kubernetes.default.svc.cluster.local")
        assert answer.split()[0] == "10.96.0.1"
        shell = lab.command("shell", "--mininet", stdin="late ip -brief address show eth0\nexit\n")
        assert "192.168.1.13/24" in shell.stdout + shell.stderr


def test_a_node_that_joins_waits_for_no_pods_of_others(tmp_path: Path) -> None:
    text = "\n---\n".join(
        f"{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{nodeName: node2, restartPolicy: {policy}, "
        f"containers: [{{name: c, image: any, command: [sh, -c, exit {status}]}}]}}}}"
        for name, policy, status in (("done", "Never", 0), ("failed", "Never", 3), ("loops", "Always", 1))
    )
    (tmp_path / "pods.yaml").write_text(text)
    with running("--nodes", "2", "--pods", "1") as lab:
        assert lab.command("apply", "-f", str(tmp_path / "pods.yaml")).status == 0

        def state() -> str:
            return lab.command("get", "pods").stdout

        wait_until(
            lambda: "Completed" in state() and "Error" in state() and "Crash" in state(), "they ended", within_s=40
        )
        join(lab, "late")
        assert "late-1" in state()


@pytest.mark.parametrize("plane", ["memory", "none"])
def test_overlays_of_all_nodes_follow_those_that_join_and_leave(plane: str) -> None:
    with running("--nodes", "2", "--pods", "1", "--set", f"controlPlane.store={plane}") as lab:
        for name, where in (("wide", ()), ("narrow", ("--node", "node1", "--node", "node2"))):
            assert group(lab, "net", "create", name, "-d", "overlay", *where).status == 0
        assert group(lab, "container", "run", "near", "--node", "node1", "--network", "wide").status == 0
        for _ in range(2):  # a name that comes again
            join(lab, "late")
            assert nodes_of_overlays(lab) == {"wide": ["node1", "node2", "late"], "narrow": ["node1", "node2"]}
            assert group(lab, "container", "run", "far", "--node", "late", "--network", "wide").status == 0
            address = {row["name"]: row["networks"][0]["address"]
                       for row in json.loads(group(lab, "container", "ls", "-o", "json").stdout)}  # fmt: skip
            for here, there in (("near", "far"), ("far", "near")):
                done = now(lab).command("exec", f"container/{here}", "--", "ping", "-c1", "-W2", address[there])
                assert done.status == 0, done
            assert traces(lab, "192.168.1.13", "node1", "node2").keys() == {"node1", "node2"}
            done = group(lab, "node", "rm", "late", "-o", "json")
            went = {"node": "late", "containers": ["far"], "networks": [], "pods": ["late-1"]}
            assert (done.status, json.loads(done.stdout)) == (0, went), done
            assert nodes_of_overlays(lab) == {"wide": ["node1", "node2"], "narrow": ["node1", "node2"]}
            assert traces(lab, "192.168.1.13", "node1", "node2") == {}


def test_containers_that_come_while_a_node_leaves_are_refused_or_go_with_it() -> None:
    with running("--nodes", "3", "--pods", "1", "--set", "controlPlane.store=none") as lab:
        with ThreadPoolExecutor(6) as starting:
            came = [starting.submit(group, lab, "container", "run", f"w{n}", "--node", "node3") for n in range(6)]
            wait_until(lambda: group(lab, "container", "ls", "-o", "json").stdout != "[]\n", "one runs", within_s=20)
            left = group(lab, "node", "rm", "node3", "-o", "json")
            said = [each.result() for each in came]
        assert left.status == 0, left
        ran = {f"w{number}" for number, done in enumerate(said) if done.status == 0}
        assert ran <= set(json.loads(left.stdout)["containers"]), (ran, left)
        refused = [done.stderr for done in said if done.status]
        assert [text for text in refused if "node3 is leaving" not in text and "one of node1, node2" not in text] == []
        assert json.loads(group(lab, "container", "ls", "-o", "json").stdout) == []
        join(lab)
        leave(lab, "node3")


def nodes_of_overlays(lab: RunningLab) -> dict[str, list[str]]:
    rows = json.loads(group(lab, "net", "ls", "--output", "json").stdout)
    return {row["name"]: row["nodes"] for row in rows if row["driver"] == "overlay"}


def test_a_deployment_moves_from_a_node_that_leaves_and_nothing_of_it_is_left() -> None:
    with running("--fabric", "host-gw", "--nodes", "3", "--pods", "1") as lab:
        leave(lab, "node3")
        assert "node3" not in lab.command("get", "nodes").stdout
        wait_until(lambda: all_run_on(lab, {"node1", "node2"}), "all pods run on the nodes that are left", within_s=40)
        assert not re.search(r"node3", lab.exec("", "ls", "/run/mininetes/nodes"))
        links = lab.exec("", "ip", "-o", "link")
        assert len(re.findall(r"s1-eth\d+@", links)) == 3  # node1, node2, gw
        processes = lab.exec("", "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'")
        assert "mininetes:node3" not in processes
        assert "mininetes:node2" in processes
        assert not [
            row for row in json.loads(group(lab, "agents", "ls", "-o", "json").stdout) if row["node"] == "node3"
        ]
        check(lab, 2)


def all_run_on(lab: RunningLab, nodes: set[str]) -> bool:
    pods = json.loads(lab.command("get", "pods", "-A", "-o", "json").stdout)["items"]
    return all(pod["spec"].get("nodeName") in nodes and pod["status"]["phase"] == "Running" for pod in pods)


def test_a_node_that_died_is_taken_out_and_the_others_go_on() -> None:
    """Its agents are gone and its link is cut: nobody there ends its pods, and they are lost."""
    with running("--fabric", "vxlan", "--nodes", "3", "--pods", "1") as lab:
        for agent in ("kubelet", "kube-proxy", "flanneld"):
            group(lab, "agents", "stop", "node3", agent)
        lab.exec("node3", "ip", "link", "set", "eth0", "down")
        probed = lab.probe("--timeout", "0.2", "--attempts", "1")
        assert {cell.verdict.value for cell in probed.matrix.mismatches} == {"lost"}
        assert all(("node3" in c.source) != ("node3" in c.target) for c in probed.matrix.mismatches)
        leave(lab, "node3")
        assert traces(lab, "10.244.3.0", "node1", "node2") == {}
        check(lab, 2)


def refused(lab: RunningLab, *arguments: str) -> Done:
    done = group(lab, "node", *arguments)
    assert done.status == 2, done
    return done


def test_what_cannot_be_is_refused_by_name_and_changes_nothing() -> None:
    with running("--nodes", "2", "--pods", "0") as lab:
        before = lab.status()[1]
        assert "'node2'" in refused(lab, "add", "node2").stderr
        assert "'gw'" in refused(lab, "add", "gw").stderr
        assert "'s1'" in refused(lab, "add", "s1").stderr
        assert "host name" in refused(lab, "add", "No_Name").stderr
        assert "one of node1, node2" in refused(lab, "rm", "node9").stderr
        assert "a worker" in refused(lab, "rm", "node1").stderr
        assert lab.status()[1] == before


@pytest.mark.parametrize(
    ("underlay", "fabric", "plane"),
    [("racks", "static", "memory"), ("racks", "vxlan", "none"), ("leaf_spine", "router", "none"),
     ("leaf_spine", "weave", "none"), ("leaf_spine", "static", "none")],
)  # fmt: skip
def test_nodes_join_racks_in_turn_and_leave_them(underlay: str, fabric: str, plane: str) -> None:
    wish = ("--set", f"controlPlane.store={plane}", "--fabric", fabric, "--underlay", underlay)
    with running("--nodes", "2", "--pods", "1", *wish) as lab:
        assert (join(lab)["address"], join(lab)["address"]) == ("192.168.1.12", "192.168.1.140")
        check(lab, 4)
        leave(lab, "node2")
        check(lab, 3)
        assert join(lab)["address"] == "192.168.1.139"
        check(lab, 4)


def test_no_node_joins_or_leaves_while_the_api_is_silent_and_one_that_was_joining_is_undone() -> None:
    with running("--fabric", "weave", "--nodes", "2", "--pods", "1") as lab:
        assert group(lab, "container", "run", "web", "--node", "node2").status == 0
        assert group(lab, "agents", "stop", "node1", "kube-apiserver").status == 0
        for plan, arguments in (("join", ["add"]), ("leave", ["rm", "node2"])):
            done = group(lab, "node", *arguments)
            assert (done.status, f"no node can {plan} while no API server answers" in done.stderr) == (1, True), done
        assert json.loads(group(lab, "container", "ls", "-o", "json").stdout)[0]["name"] == "web"
        assert group(lab, "agents", "start", "node1", "kube-apiserver").status == 0
        wait_until(lambda: lab.command("get", "nodes").status == 0, "the API answers")
        assert lab.command("apply", "-f", "-", stdin=NEVER_READY).status == 0
        interrupt_a_joining_without_the_api(lab)
        wait_until(lambda: now(lab).nodes == ["node1", "node2"], "half a node is undone", within_s=60)
        wait_until(lambda: not re.search("node3", lab.exec("", "ls", "/run/mininetes/nodes")), "its folder is gone")
        group(lab, "agents", "start", "node1", "kube-apiserver")
        wait_until(lambda: lab.command("delete", "daemonset", "never-ready").status == 0, "the API answers")
        wait_until(lambda: all_nodes_ready(lab, {"node1", "node2"}), "nodes are ready", within_s=60)
        assert join(lab)["name"] == "node3"
        check(lab, 3)


NEVER_READY = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: never-ready}
spec:
  selector: {matchLabels: {app: never-ready}}
  template:
    metadata: {labels: {app: never-ready}}
    spec:
      hostNetwork: true
      containers:
      - {name: main, image: any, command: [sleep, "1000"], readinessProbe: {exec: {command: ["false"]}}}
"""


def interrupt_a_joining_without_the_api(lab: RunningLab) -> None:
    """One of its pods never gets ready when the API ends, and then the user does not wait any longer."""
    asking = subprocess.Popen([*MININETES, "node", "add", "--lab", lab.name], env=environment())
    try:
        wait_until(lambda: "node3" in lab.command("get", "nodes").stdout, "the node is in the API", within_s=60)
        assert group(lab, "agents", "stop", "node1", "kube-apiserver").status == 0
        assert asking.poll() is None
    finally:
        asking.send_signal(signal.SIGINT)
        asking.wait(20)


def all_nodes_ready(lab: RunningLab, nodes: set[str]) -> bool:
    found = json.loads(lab.command("get", "nodes", "-o", "json").stdout)["items"]
    return nodes <= {each["metadata"]["name"] for each in found if is_ready(each)}


def test_twenty_comings_and_goings_leave_nothing() -> None:
    with running("--fabric", "vxlan", "--nodes", "2", "--pods", "1", "--set", "controlPlane.store=none") as lab:
        mounts = lab.exec("", "cat", "/proc/self/mountinfo").count("\n")
        links = lab.exec("", "ip", "-o", "link").count("\n")
        for _ in range(20):
            name = join(lab)["name"]
            leave(lab, name)
        assert lab.exec("", "cat", "/proc/self/mountinfo").count("\n") == mounts
        assert lab.exec("", "ip", "-o", "link").count("\n") == links
        check(lab, 2)
