"""What `up --dry-run` prints, typed into a sandbox, leaves the same network as `up` does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from running_lab import REPOSITORY, RunningLab, mininetes, running
from sandbox import Sandbox
from waiting import wait_until

Run = Callable[..., str]
"""Runs a program in a namespace: "" for the outermost."""

BARE = ("--set", "controlPlane.store=none")
CLUSTERS: dict[str, tuple[str, ...]] = {
    "three nodes": ("--pods", "2", *BARE),
    "racks that are slow, with tunnels": (
        "--nodes", "3", "--pods", "1", "--fabric", "vxlan", "--underlay", "racks",
        "--set", "underlay.parameters={racks: 2, bw: 100}", *BARE,
    ),
    "a fabric of several ways": (str(REPOSITORY / "topologies/clusters/leaf-spine.yaml"), "--pods", "1", *BARE),
    "container networks": (str(REPOSITORY / "topologies/clusters/container-networks.yaml"), *BARE),
    "a chain of plugins": ("--nodes", "2", "--pods", "1", "--cni", "chained.conflist", *BARE),
}  # fmt: skip


def typed(*arguments: str) -> str:
    done = mininetes("up", "--dry-run", *arguments)
    assert (done.status, done.stderr) == (0, ""), done
    return done.stdout


def type_into(sandbox: Sandbox, script: str) -> None:
    sandbox.sh("mount -t tmpfs tmpfs /opt")
    sandbox.run("sh", "-e", stdin=script)


def link(found: dict[str, Any]) -> dict[str, Any]:
    info = found.get("linkinfo", {})
    data = info.get("info_data", {})
    kept = ("id", "local", "link", "port", "learning", "proxy", "mode", "forward_delay")
    if found["ifname"] == "cni0" or (info.get("info_kind") == "veth" and "master" in found):
        found = {**found, "address": "any: the kernel's or the plugin's choice"}
    addresses = [
        (each["local"], each["prefixlen"], each.get("broadcast", ""))
        for each in found["addr_info"]
        if each["family"] == "inet"
    ]
    return {
        **{key: found.get(key) for key in ("ifname", "address", "mtu", "txqlen", "master")},
        "up": "UP" in found["flags"],
        "kind": info.get("info_kind"),
        "data": {key: data[key] for key in kept if key in data},
        "hairpin": info.get("info_slave_data", {}).get("hairpin"),
        "addresses": sorted(addresses),
    }


def route(found: dict[str, Any]) -> str:
    return json.dumps({key: value for key, value in found.items() if key != "flags" or value}, sort_keys=True)


ASKED = {
    "links": "ip -j -d address",
    "routes": "ip -j -4 route",
    "neighbours": "ip -j -4 neighbour show nud permanent",
    "forwarding": "bridge -j fdb",
    "queues": "tc -j qdisc",
    "filters": "iptables-save",
    "sysctls": "sysctl net.ipv4.ip_forward net.ipv4.conf.all.rp_filter net.ipv6.conf.all.disable_ipv6",
}
END = "--- end of an answer"
SCRIPT = "\n".join(f"{command}; echo; echo '{END}'" for command in ASKED.values())


def state_of(run: Run, place: str) -> dict[str, Any]:
    """What a namespace has, without what differs from one time to the next."""
    answers = run(place, "sh", "-ec", SCRIPT).split(f"{END}\n")
    said = dict(zip(ASKED, answers, strict=False))
    assert set(said) == set(ASKED)
    found = {key: json.loads(said[key].strip() or "[]") for key in list(ASKED)[:5]}
    return {
        "links": {each["ifname"]: link(each) for each in found["links"]},
        "routes": sorted(route(each) for each in found["routes"]),
        "neighbours": sorted((each["dst"], each["lladdr"], each["dev"]) for each in found["neighbours"]),
        "forwarding": sorted(
            (each["mac"], each["dst"], each["ifname"]) for each in found["forwarding"] if "dst" in each
        ),
        "queues": sorted(
            (each["dev"], each["kind"], json.dumps(each["options"], sort_keys=True))
            for each in found["queues"]
            if each["kind"] in ("htb", "netem")
        ),
        "filters": [line for line in said["filters"].splitlines() if line.startswith(("-", "*"))],
        "sysctls": said["sysctls"],
    }


def namespaces(lab: RunningLab) -> dict[str, str]:
    """The node on which each pod's and container's namespace is, by the namespace's name."""
    found: dict[str, str] = {}
    for node in lab.nodes:
        found |= {each["name"]: node for each in json.loads(lab.exec(node, "ip", "-j", "netns") or "[]")}
    return found


@pytest.mark.parametrize("arguments", CLUSTERS.values(), ids=CLUSTERS)
def test_typed_in_it_leaves_what_up_leaves(arguments: tuple[str, ...]) -> None:
    with running(*arguments) as lab:
        inner = namespaces(lab)
        assert set(lab.pods) <= set(inner)

        def in_lab(place: str, *argv: str) -> str:
            return lab.exec(inner.get(place, place), *(["ip", "netns", "exec", place] if place in inner else []), *argv)

        live = {place: state_of(in_lab, place) for place in ("", *lab.hosts, *inner)}
    with Sandbox() as sandbox:
        type_into(sandbox, typed(*arguments))

        def on_paper(place: str, *argv: str) -> str:
            return sandbox.run(*(["ip", "netns", "exec", place] if place else []), *argv).stdout

        for place, found in live.items():
            assert state_of(on_paper, place) == found, place
        there = {each["name"] for each in sandbox.json("ip", "-j", "netns")}
    assert there == set(live) - {""}


@pytest.mark.parametrize(
    ("mode", "reader"), [("iptables", ["iptables-save"]), ("nftables", ["nft", "list", "ruleset"])]
)
def test_the_rules_of_services_can_be_loaded(mode: str, reader: list[str]) -> None:
    with Sandbox() as sandbox:
        type_into(sandbox, typed("--nodes", "1", "--pods", "1", "--proxy", mode, "--set", "firewall=kubernetes"))
        rules = sandbox.run("ip", "netns", "exec", "node1", *reader).stdout
        assert "192.168.1.11" in rules
        assert "10.96.0.1" in rules
        assert "kube-apiserver" in sandbox.run("ip", "netns", "exec", "node1", "nft", "list", "ruleset").stdout


WEB = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {nodeName: node2, containers: [{name: web, image: responder, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.80, selector: {app: web}, ports: [{name: http, port: PORT, targetPort: 8080}]}
"""
MARK = " (server dry run)"


def apply(lab: RunningLab, port: int, *options: str) -> list[str]:
    done = lab.command("apply", "-f", "-", *options, stdin=WEB.replace("PORT", str(port)))
    assert (done.status, done.stderr) == (0, ""), done
    return done.stdout.splitlines()


def there(lab: RunningLab) -> str:
    return lab.command("get", "pods,services,endpointslices", "-o", "yaml").stdout


def rules(lab: RunningLab) -> str:
    return "".join(lab.exec(node, "iptables-save", "-t", "nat") for node in lab.nodes)


def test_apply_on_trial_says_what_it_would_do_and_does_nothing() -> None:
    with running("--nodes", "2", "--pods", "1") as lab:
        before = there(lab)
        said = apply(lab, 80, "--dry-run")
        assert said[:2] == [f"pod/web created{MARK}", f"service/web created{MARK}"]
        assert said[2] == "  rules of node1, iptables, with the endpoints of now:"
        assert [line[:6] for line in said[3:]] == ["    + "]
        assert "default/web:http has no endpoints" in said[3]
        assert there(lab) == before
        assert "10.96.0.80" not in rules(lab)

        assert apply(lab, 80) == ["pod/web created", "service/web created"]
        wait_until(lambda: "10.96.0.80" in lab.exec("node1", "iptables-save", "-t", "nat"), "rules of web")
        unchanged = apply(lab, 80, "--dry-run")
        assert unchanged == [f"pod/web unchanged{MARK}", f"service/web unchanged{MARK}", "  its rules stay as they are"]

        said = apply(lab, 81, "--dry-run")
        assert said[:2] == [f"pod/web unchanged{MARK}", f"service/web configured{MARK}"]
        taken, put = ([line[6:] for line in said if line.startswith(f"    {sign} ")] for sign in "-+")
        assert [line.replace("--dport 80 ", "--dport 81 ") for line in taken] == put
        assert len(put) == 2
        kept = rules(lab).splitlines()
        assert [line for line in taken if line not in kept] == [], "what would go is not there"
        assert [line for line in put if line in kept] == [], "what would come is there"

        refused = lab.command("apply", "-f", "-", "--dry-run", stdin=WEB.replace("PORT", "0"))
        assert refused.status == 1
        assert "spec.ports[0].port" in refused.stderr

        drawn = lab.command("graph", "--format", "mermaid").stdout
        assert "1 pod in 10.244.1.0/24" in drawn or "2 pods in 10.244.1.0/24" in drawn
        pods = sum(int(count) for count in re.findall(r"(\d+) pods? in", drawn))
        assert pods == len(lab.pods) + len(lab.system_pods) + 1, "the ready-made ones, those of DNS, and web"
