"""The reference plugins tuning, portmap, bandwidth and firewall behind bash-bridge: what each does for a pod.

client1 ---- gw ---- s1 ---- node1
                      +----- node2:18080 --DNAT--> pod "served" 10.244.2.x:8080, 8 Mbit/s each way
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from cluster_api import ClusterApi
from running_lab import REPOSITORY, RunningLab, running
from waiting import wait_until

PODS = "/api/v1/namespaces/default/pods"
HOST_PORT, PORT = 18080, 8080
RATE = 8_000_000
BYTES = 2_000_000
IN_POD = ("ip", "netns", "exec", "served")
SERVER = """
import socket
server = socket.create_server(("", 8080))
while True:
    c, peer = server.accept()
    asked, _, size = c.recv(64).decode().strip().partition(" ")
    if asked == "who":
        c.sendall(peer[0].encode())
    elif asked == "send":
        c.sendall(bytes(int(size)))
    else:
        c.sendall(b"go")
        left = int(size)
        while left > 0:
            left -= len(c.recv(1 << 16))
        c.sendall(b"done")
    c.close()
"""
CLIENT = """
import socket, sys, time
address, port, asked, size = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
c = socket.create_connection((address, port), timeout=5)
c.settimeout(30)
c.sendall(f"{asked} {size}\\n".encode())
if asked == "take":
    assert c.recv(2) == b"go"
start = time.monotonic()
if asked == "take":
    c.sendall(bytes(size))
answer = b""
while block := c.recv(1 << 16):
    answer = (answer + block)[-64:] if asked == "send" else answer + block
print(time.monotonic() - start if asked != "who" else answer.decode())
"""


def pod(name: str, **annotations: str) -> dict[str, Any]:
    container = {"name": "c", "image": "any", "command": [sys.executable, "-c", SERVER]}
    return {
        "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "nodeName": "node2",
            "containers": [container | {"ports": [{"containerPort": PORT, "hostPort": HOST_PORT}]}],
        },
    }


def served() -> dict[str, Any]:
    rates = {f"kubernetes.io/{way}-bandwidth": "8M" for way in ("ingress", "egress")}
    return pod("served", **rates)


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with ExitStack() as undo:
        found = undo.enter_context(running("--nodes", "2", "--pods", "1", "--cni", "chained.conflist"))
        start(found, served())
        yield found


def start(lab: RunningLab, wanted: dict[str, Any]) -> None:
    ClusterApi(lab).create(PODS, wanted)
    name = wanted["metadata"]["name"]
    wait_until(lambda: ask(lab, f"pod/{name}", "127.0.0.1", PORT) == "127.0.0.1", f"{name} serves", within_s=30.0)


def ask(lab: RunningLab, place: str, address: str, port: int, asked: str = "who", size: int = 0) -> str:
    """What came back; "" when nothing did."""
    argv = (sys.executable, "-c", CLIENT, address, str(port), asked, str(size))
    if place == "pod/served":  # younger than what the lab said as it came up
        place, argv = "node2", (*IN_POD, *argv)
    done = lab.try_exec(place, *argv)
    return done.stdout.strip() if done.status == 0 else ""


def state(lab: RunningLab) -> dict[str, Any]:
    """What chains leave on node2, without counters and numbers."""
    rules = lab.exec("node2", "iptables-save").splitlines()
    links = [link["ifname"] for link in json.loads(lab.exec("node2", "ip", "-json", "link"))]
    return {
        "links": sorted(links),
        "rules": sorted(rule for rule in rules if rule.startswith("-A") and "CNI" in rule),
        "shaped": sorted(re.findall(r"qdisc (?:tbf|ingress) .*? dev (\S+)", lab.exec("node2", "tc", "qdisc", "show"))),
        "addresses": sorted(lab.exec("node2", "ls", "/var/lib/cni/networks/mininetes").split()),
        "results": lab.exec("node2", "ls", "/var/lib/cni/results").split(),
    }


def host_address(lab: RunningLab) -> str:
    return lab.address("node2")


# --- portmap ----------------------------------------------------------------------------------------------------------

# Who asks, at which address, and whom the pod sees: itself where nothing needs to be translated.
ASKED = {
    "from outside": ("client1", "node2", "client1"),
    "from another node": ("node1", "node2", "node1"),
    "from another node's pod": ("pod/node1-1", "node2", "pod/node1-1"),
    "from the node": ("node2", "node2", "node2"),
    "from the node's localhost": ("node2", "127.0.0.1", "the gateway"),
    "from the pod itself": ("pod/served", "node2", "the gateway"),
    "from a pod of the same node": ("pod/node2-1", "node2", "the gateway"),
}


@pytest.mark.parametrize("who", ASKED)
def test_a_host_port_answers(lab: RunningLab, who: str) -> None:
    place, at, seen = ASKED[who]
    wanted = "10.244.2.1" if seen == "the gateway" else lab.address(seen)
    assert ask(lab, place, host_address(lab) if at == "node2" else at, HOST_PORT) == wanted


def test_only_that_nodes_port_is_mapped(lab: RunningLab) -> None:
    assert ask(lab, "client1", lab.address("node1"), HOST_PORT) == ""
    assert ask(lab, "client1", host_address(lab), HOST_PORT + 1) == ""


# --- bandwidth, firewall, tuning --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["send", "take"])
def test_the_rate_holds_both_ways_and_for_that_pod_alone(lab: RunningLab, way: str) -> None:
    took_s = float(ask(lab, "node1", host_address(lab), HOST_PORT, way, BYTES))
    ideal_s = BYTES * 8 / RATE
    assert 0.75 * ideal_s <= took_s <= 4 * ideal_s


def test_without_annotations_nothing_is_shaped(lab: RunningLab) -> None:
    qdiscs = lab.exec("node2", "tc", "qdisc", "show")
    assert qdiscs.count("qdisc tbf ") == 2
    assert len(re.findall(r"rate 8Mbit burst 100000b", qdiscs)) == 2


def test_the_firewall_lets_the_pod_through_and_tuning_sets_its_sysctl(lab: RunningLab) -> None:
    address = address_of(lab)
    rules = lab.exec("node2", "iptables-save", "-t", "filter")
    assert f"-A CNI-FORWARD -s {address}/32 -j ACCEPT" in rules
    assert f"-A CNI-FORWARD -d {address}/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT" in rules
    assert lab.exec("node2", *IN_POD, "cat", "/proc/sys/net/core/somaxconn").strip() == "500"


def address_of(lab: RunningLab) -> str:
    return str(ClusterApi(lab).get(f"{PODS}/served")["status"]["podIP"])


# --- the runtime ------------------------------------------------------------------------------------------------------

INSIDE = """
import json, sys
from mininetes.agents.cni.runtime import Attachment, CniFailed, CniRuntime
from mininetes.agents.kubelet.sandbox import make_sandbox
from mininetes.lab.filesystem import netns_path

runtime = CniRuntime("node2", int(sys.argv[1]))
by_name = {dict(each.args).get("K8S_POD_NAME"): each for each in runtime.attachments()}
said = {"version": runtime.configuration().cni_version}
if sys.argv[2] == "check":
    try:
        runtime.check(by_name[sys.argv[3]])
    except CniFailed as failed:
        said["failed"] = str(failed)
elif sys.argv[2] == "mac":
    make_sandbox(netns_path("node2", "tuned"))
    at = Attachment("tuned", "/run/netns/tuned", capabilities={"mac": "02:00:00:00:00:77"})
    said["result"] = runtime.add(at)
    runtime.check(at)
    runtime.delete(at)
print(json.dumps(said))
"""


def in_lab(lab: RunningLab, *words: str) -> dict[str, Any]:
    argv = ("env", f"PYTHONPATH={REPOSITORY}", sys.executable, "-c", INSIDE, str(lab.hosts["node2"]["pid"]))
    return dict(json.loads(lab.exec("", *argv, *words)))


def test_such_a_chain_speaks_the_newest_version_that_all_its_plugins_do(lab: RunningLab) -> None:
    assert in_lab(lab, "none")["version"] == "1.0.0"


def test_check_is_left_out_where_plugins_are_known_to_fail_at_it(lab: RunningLab) -> None:
    """Debian's portmap looks for IPv6 rules that it never made, and its bandwidth ends in a panic without rates."""
    port = next(name for name in state(lab)["shaped"] if name.startswith("veth"))
    lab.exec("node2", "ip", "link", "set", port, "nomaster")
    try:
        assert "failed" not in in_lab(lab, "check", "served")
    finally:
        lab.exec("node2", "ip", "link", "set", port, "master", "cni0")


def test_tuning_gives_the_mac_that_is_asked_for(lab: RunningLab) -> None:
    before = state(lab)
    result = in_lab(lab, "mac")["result"]
    assert [each["mac"] for each in result["interfaces"] if each.get("sandbox")] == ["02:00:00:00:00:77"]
    assert state(lab) == before


def test_what_was_told_of_a_pod_is_kept_for_its_end(lab: RunningLab) -> None:
    (kept,) = [entry for entry in cached(lab) if dict(entry["cniArgs"])["K8S_POD_NAME"] == "served"]
    mapping = {"hostPort": HOST_PORT, "containerPort": PORT, "protocol": "tcp", "hostIP": ""}
    assert kept["capabilityArgs"]["portMappings"] == [mapping]
    assert kept["capabilityArgs"]["bandwidth"]["ingressRate"] == RATE
    assert kept["capabilityArgs"]["dns"]["servers"] == ["10.96.0.10"]
    assert kept["kind"] == "cniCacheV1"
    assert {"containerId", "config", "ifName", "networkName", "netns", "result"} <= set(kept)


def cached(lab: RunningLab) -> list[dict[str, Any]]:
    folder = "/var/lib/cni/results"
    return [json.loads(lab.exec("node2", "cat", f"{folder}/{n}")) for n in lab.exec("node2", "ls", folder).split()]


def test_del_takes_all_of_it_back(lab: RunningLab) -> None:
    api = ClusterApi(lab)
    with_it = state(lab)
    gone(lab, "served")
    without = state(lab)
    assert not any(f"dport {HOST_PORT}" in rule or f"dports {HOST_PORT}" in rule for rule in without["rules"])
    assert without["shaped"] == []
    assert len(with_it["results"]) - len(without["results"]) == 1
    assert len(with_it["links"]) - len(without["links"]) == 2  # its port, and the link that shapes what it sends
    assert ask(lab, "client1", host_address(lab), HOST_PORT) == ""
    start(lab, served())
    assert {key: len(value) for key, value in state(lab).items()} == {k: len(v) for k, v in with_it.items()}
    assert ask(lab, "client1", host_address(lab), HOST_PORT) == lab.address("client1")
    assert api.get(f"{PODS}/served")["status"]["phase"] == "Running"


def gone(lab: RunningLab, name: str) -> None:
    ClusterApi(lab).request("DELETE", f"{PODS}/{name}")
    wait_until(lambda: name not in names(lab), f"{name} is gone", within_s=60.0)


def names(lab: RunningLab) -> list[str]:
    return [each["metadata"]["name"] for each in ClusterApi(lab).get(PODS)["items"]]


def test_a_rate_that_is_none_is_an_event_that_names_it(lab: RunningLab) -> None:
    api = ClusterApi(lab)
    wanted = pod("wrong", **{"kubernetes.io/egress-bandwidth": "fast"})
    wanted["spec"]["containers"][0]["ports"] = []
    api.create(PODS, wanted)

    def said() -> bool:
        events = api.get("/api/v1/namespaces/default/events")["items"]
        return any("egress-bandwidth" in e["message"] and "fast" in e["message"] for e in events)

    wait_until(said, "an event names the annotation", within_s=30.0)
    gone(lab, "wrong")
