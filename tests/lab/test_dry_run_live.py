"""What `up --dry-run` prints, typed into a sandbox, leaves the same network as `up` does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from running_lab import REPOSITORY, RunningLab, mininetes, running
from sandbox import Sandbox

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
    if found["ifname"] == "cni0" or found["ifname"].startswith("veth"):
        found = {**found, "address": "chosen by the plugin"}
    addresses = [(each["local"], each["prefixlen"], each.get("broadcast", "")) for each in found["addr_info"]]
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


def state_of(run: Run, place: str) -> dict[str, Any]:
    """What a namespace has, without what differs from one time to the next."""

    def rows(*argv: str) -> Any:
        return json.loads(run(place, *argv) or "[]")

    known = [each for each in rows("ip", "-j", "neighbour", "show", "nud", "permanent") if ":" not in each["dst"]]
    return {
        "links": {each["ifname"]: link(each) for each in rows("ip", "-j", "-d", "-4", "address")},
        "more links": sorted(each["ifname"] for each in rows("ip", "-j", "link")),
        "routes": sorted(route(each) for each in rows("ip", "-j", "-4", "route")),
        "neighbours": sorted((each["dst"], each["lladdr"], each["dev"]) for each in known),
        "forwarding": sorted(
            (each["mac"], each["dst"], each["ifname"]) for each in rows("bridge", "-j", "fdb") if "dst" in each
        ),
        "queues": sorted(
            (each["dev"], each["kind"], json.dumps(each["options"], sort_keys=True))
            for each in rows("tc", "-j", "qdisc")
            if each["kind"] in ("htb", "netem")
        ),
        "filters": [line for line in run(place, "iptables-save").splitlines() if line.startswith(("-", "*"))],
        "sysctls": run(place, "sysctl", "net.ipv4.ip_forward", "net.ipv4.conf.all.rp_filter",
                       "net.ipv6.conf.all.disable_ipv6"),
    }  # fmt: skip


def namespaces(lab: RunningLab) -> dict[str, str]:
    """The node on which each pod's and container's namespace is, by the namespace's name."""
    found = {}
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
