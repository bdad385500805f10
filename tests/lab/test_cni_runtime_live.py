"""A node's CNI runtime in a cluster: garbage is collected by the kubelet, files that change are heeded, MTUs fit."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from cluster_api import ClusterApi
from running_lab import REPOSITORY, RunningLab, mininetes, running
from waiting import wait_until

PODS = "/api/v1/namespaces/default/pods"
NET_SCRIPT = str(REPOSITORY / "cni_scripts" / "net-script.sh")
CONF = "/etc/cni/net.d"
LEAVE = """
import json, sys
from mininetes.agents.cni.runtime import Attachment, CniRuntime
from mininetes.agents.kubelet.sandbox import attachment, make_sandbox
from mininetes.kernel.netns import delete_named
from mininetes.lab.filesystem import netns_path

runtime = CniRuntime("node1", int(sys.argv[1]))
for name in ("left", "gone"):
    path = netns_path("node1", name)
    make_sandbox(path)
    runtime.add(attachment(name, name, namespace="default", name=name, uid=f"uid-of-{name}"))
    if name == "gone":
        delete_named(path)
print(json.dumps([each.container_id for each in runtime.attachments()]))
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running("--nodes", "1", "--pods", "1") as found:
        yield found


def state(lab: RunningLab) -> dict[str, Any]:
    """What ADDs leave on node1."""
    links = [link["ifname"] for link in json.loads(lab.exec("node1", "ip", "-json", "link"))]
    store = lab.exec("node1", "ls", "/var/lib/cni/networks/mininetes").split()
    return {
        "ports": sorted(name for name in links if name.startswith("veth")),
        "addresses": sorted(name for name in store if name[0].isdigit()),
        "results": sorted(lab.exec("node1", "ls", "/var/lib/cni/results").split()),
    }


def restart_kubelet(lab: RunningLab) -> None:
    for verb in ("stop", "start"):
        done = mininetes("agents", verb, "--lab", lab.name, "node1", "kubelet")
        assert done.status == 0, done


def test_a_kubelet_that_starts_collects_what_is_left_and_leaves_what_was_added_by_hand(lab: RunningLab) -> None:
    lab.exec("node1", "ip", "netns", "add", "hand")
    lab.exec("node1", NET_SCRIPT, "add", "hand-1", "hand")
    before = state(lab)
    assert len(before["results"]) == len(before["addresses"])
    argv = ("env", f"PYTHONPATH={REPOSITORY}", sys.executable, "-c", LEAVE, str(lab.hosts["node1"]["pid"]))
    assert {"left", "gone", "hand-1"} <= set(json.loads(lab.exec("", *argv)))
    assert len(state(lab)["addresses"]) == len(before["addresses"]) + 2
    restart_kubelet(lab)
    wait_until(lambda: state(lab) == before, "what was left is gone", within_s=30.0)
    assert lab.probe().status == 0
    lab.exec("node1", "ip", "netns", "exec", "hand", "ping", "-c1", "-W2", lab.address("pod/node1-1"))
    lab.exec("node1", NET_SCRIPT, "del", "hand-1", "hand")
    lab.exec("node1", "ip", "netns", "del", "hand")
    lab.exec("node1", "ip", "netns", "del", "left")


def test_a_configuration_that_changes_is_picked_up_by_the_next_pod(lab: RunningLab) -> None:
    api = ClusterApi(lab)
    text = lab.exec("node1", "cat", f"{CONF}/10-bash-bridge.conflist")
    changed = json.loads(text)
    changed["plugins"][0]["mtu"] = 1280
    lab.exec("node1", "sh", "-c", f"cat >{CONF}/05-other.conflist <<'E'\n{json.dumps(changed)}\nE")
    container = {"name": "c", "image": "any", "command": ["sleep", "1000"]}
    api.create(PODS, {"kind": "Pod", "metadata": {"name": "small"}, "spec": {"containers": [container]}})
    api.wait(f"{PODS}/small", lambda pod: pod["status"].get("phase") == "Running", "small runs", within_s=30.0)
    assert "mtu 1280" in lab.exec("node1", "ip", "netns", "exec", "small", "ip", "link", "show", "eth0")
    lab.exec("node1", "rm", f"{CONF}/05-other.conflist")
    api.request("DELETE", f"{PODS}/small?gracePeriodSeconds=0")
    wait_until(lambda: "small" not in lab.exec("node1", "ip", "netns"), "small is gone", within_s=30.0)


def test_plugins_are_called_at_the_newest_version(lab: RunningLab) -> None:
    for name in lab.exec("node1", "ls", "/var/lib/cni/results").split():
        kept = json.loads(lab.exec("node1", "cat", f"/var/lib/cni/results/{name}"))
        assert kept["result"]["cniVersion"] == "1.1.0"


# --- path MTU ---------------------------------------------------------------------------------------------------------


def ping_whole(lab: RunningLab, place: str, target: str, packet_bytes: int) -> tuple[bool, str]:
    """Ping with a packet of that size that must not be cut up."""
    argv = ("ping", "-M", "do", "-c", "2", "-i", "0.2", "-W", "1", "-s", str(packet_bytes - 28), target)
    done = lab.try_exec(place, *argv)
    return done.status == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("fabric", "mtu"), [("vxlan", 1450), ("weave", 1376)])
def test_a_packet_from_outside_that_is_too_large_for_pods_gets_its_icmp_from_the_node(fabric: str, mtu: int) -> None:
    """Every way into a pod is by its node's bridge, which has the pods' MTU; the sender learns that."""
    with running("--fabric", fabric, "--nodes", "2", "--pods", "1") as lab:
        pod, node = lab.address("pod/node2-1"), lab.address("node2")
        lab.exec("gw", "ip", "route", "add", f"{pod}/32", "via", node)
        assert ping_whole(lab, "client1", pod, mtu)[0]
        passed, said = ping_whole(lab, "client1", pod, 1500)
        assert not passed
        assert re.search(rf"From {re.escape(node)} .*Frag needed and DF set \(mtu = {mtu}\)", said), said
        assert f"mtu {mtu}" in lab.exec("client1", "ip", "route", "get", pod)
        # and what may be cut up arrives
        assert "1 received" in lab.exec("client1", "ping", "-c", "1", "-W", "2", "-s", "4000", pod)
