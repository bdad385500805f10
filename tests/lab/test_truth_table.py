"""The truth table of a running lab: what services must do is what they do, in every mode that this kernel has.

client1, blocked1 --- gw --- node1, node2, node3, with two pods each: the first of each is an endpoint
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
from running_lab import RunningLab, mininetes, running
from waiting import wait_until

PORTS = [{"name": "http", "port": 80, "targetPort": 8080}]
NODE_PORT = [{**PORTS[0], "nodePort": 30080}]
RANGES = ["203.0.113.0/25", "192.168.1.12/32"]
SERVICES: dict[str, dict[str, Any]] = {
    "plain": {"ports": [*PORTS, {"name": "dgram", "port": 90, "targetPort": 8080, "protocol": "UDP"}]},
    "outward": {"type": "NodePort", "ports": NODE_PORT, "externalIPs": ["203.0.113.77"]},
    "here-only": {"type": "LoadBalancer", "ports": PORTS, "externalTrafficPolicy": "Local",
                  "internalTrafficPolicy": "Local", "selector": {"place": "far"}},
    "inward": {"ports": PORTS, "internalTrafficPolicy": "Local", "selector": {"place": "far"}},
    "fenced": {"type": "LoadBalancer", "ports": PORTS, "loadBalancerSourceRanges": RANGES},
    "faithful": {"ports": PORTS, "sessionAffinity": "ClientIP"},
    "empty": {"type": "LoadBalancer", "ports": PORTS, "selector": {"place": "nowhere"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running("--pods", "2") as made:
        for node in made.nodes:
            labelled(made, f"{node}-1", {"place": "far" if node != "node1" else "near", "role": "endpoint"})
        for name, spec in SERVICES.items():
            kept = {"selector": {"role": "endpoint"}, **spec}
            apply(made, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": kept})
        wait_until(lambda: all(balanced(made, each) for each in ("here-only", "fenced", "empty")), "balancers")
        wait_until(lambda: endpoints(made, "plain") == 3, "endpoints")
        yield made


def pod(lab: RunningLab, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.command("get", "pod", name, "-o", "json").stdout)
    return found


def labelled(lab: RunningLab, name: str, labels: dict[str, str]) -> None:
    """Give a pod more labels."""
    found = pod(lab, name)
    merged = {**found["metadata"].get("labels", {}), **labels}
    changed = {**found, "metadata": {**found["metadata"], "labels": merged}}
    apply(lab, {"apiVersion": "v1", "kind": "Pod", **changed})


def apply(lab: RunningLab, obj: dict[str, Any]) -> None:
    done = lab.command("apply", "-f", "-", stdin=json.dumps(obj))
    assert done.status == 0, done


def balanced(lab: RunningLab, name: str) -> bool:
    service = json.loads(lab.command("get", "service", name, "-o", "json").stdout)
    return bool(service.get("status", {}).get("loadBalancer", {}).get("ingress"))


def endpoints(lab: RunningLab, name: str) -> int:
    found = json.loads(lab.command("get", "endpoints", name, "-o", "json").stdout)
    return sum(len(each.get("addresses", [])) for each in found.get("subsets", []))


def table(lab: RunningLab, *options: str) -> tuple[int, dict[str, Any]]:
    done = lab.command("truth-table", "-o", "json", *options)
    assert done.stdout, done
    return done.status, json.loads(done.stdout)


def rows(said: dict[str, Any], **wanted: str) -> list[dict[str, Any]]:
    return [row for row in said["lines"] if all(row[key] == value for key, value in wanted.items())]


def test_every_service_does_for_everyone_what_it_must(lab: RunningLab) -> None:
    status, said = table(lab)
    assert [row for row in said["lines"] if not row["holds"]] == []
    assert status == 0
    named = {name.partition("/")[2].partition(":")[0] for name in (row["service"] for row in said["lines"])}
    assert named == {*SERVICES, "kubernetes", "kube-dns"}
    assert {row["who"] for row in said["lines"]} == {"node", "pod", "endpoint itself", "outside"}
    assert {row["to"] for row in said["lines"]} == {
        "cluster IP", "node port", "localhost", "external IP", "load balancer", "health check node port"
    }  # fmt: skip
    # API servers and coredns do not say who they are: of them no endpoint is claimed
    mute = [row for row in said["lines"] if row["service"].partition(":")[0].endswith(("kubernetes", "kube-dns"))]
    assert {row["measured"] for row in mute} == {"connected"}
    assert all(row["measured"] == row["expected"] for row in said["lines"] if row not in mute)


def test_the_rows_say_what_the_policies_mean(lab: RunningLab) -> None:
    _, said = table(lab, *(word for name in ("here-only", "fenced", "empty") for word in ("--service", name)))

    def expected(name: str, **wanted: str) -> set[str]:
        found = {row["expected"] for row in rows(said, service=f"default/{name}:http", **wanted)}
        assert found, wanted
        return found

    second, third = (f"{lab.address(f'pod/{node}-1')}:8080" for node in ("node2", "node3"))
    assert expected("here-only", source="pod/node1-1", to="cluster IP") == {"DROP"}
    assert expected("here-only", source="pod/node2-2", to="cluster IP") == {f"DNAT to {second}"}
    led_to = {f"DNAT to {second}", f"DNAT to {third}", "DROP"}  # whichever node the gateway chooses for a client
    assert expected("here-only", source="client1", to="load balancer") < led_to
    assert expected("here-only", source="client1", to="node port", at="node1") == {"DROP"}
    health = rows(said, service="default/here-only:http", to="health check node port")
    assert {(row["at"], row["expected"]) for row in health} == {("node1", "503"), ("node2", "200"), ("node3", "200")}
    assert {row["at"] for row in health if row["who"] == "pod"} == {"node1", "node2", "node3"}
    assert {row["at"] for row in health if row["who"] == "outside"} == {"node1", "node2", "node3"}
    assert expected("fenced", source="blocked1", to="load balancer") == {"DROP"}
    assert expected("fenced", source="node1", to="load balancer") == {"DROP"}
    assert expected("fenced", source="node2", to="load balancer").pop().endswith("(masqueraded)")
    assert expected("empty", source="client1") == {"REJECT"}


def test_modes_differ_where_it_is_declared_and_the_lab_has_its_own_again(lab: RunningLab, tmp_path: Path) -> None:
    modes = ("iptables", "nftables", "userspace")
    options = [word for mode in modes for word in ("--mode", mode)]
    status, said = table(lab, *options, "--junit", str(tmp_path / "truth.xml"))
    assert [row for row in said["lines"] if not row["holds"]] == []
    assert status == 0
    assert {row["mode"] for row in said["lines"]} == set(modes)
    assert any("nftables has no node ports on localhost" in each["reason"] for each in said["differences"])
    assert all(each["declared"] for each in said["differences"])
    suites = Xml.parse(tmp_path / "truth.xml").getroot()
    assert [suite.get("name") for suite in suites] == [*modes, "differences", "not asked"]
    cases = len(said["lines"]) + len(said["differences"]) + len(said["skipped"])
    assert sum(int(suite.get("tests", "0")) for suite in suites) == cases
    assert len(suites[-1].findall("testcase/skipped")) == len(said["skipped"]) > 0
    names = [(case.get("classname"), case.get("name")) for case in suites.iter("testcase")]
    assert len(set(names)) == len(names)
    assert all(case.get("time") for case in suites.iter("testcase"))
    assert said["subjects"] == list(modes)
    assert "KUBE-SERVICES" in lab.exec("node2", "iptables-save", "-t", "nat")
    assert "kube-proxy" not in lab.exec("node2", "nft", "list", "tables")


def test_a_rule_that_is_gone_is_a_row_that_does_not_hold(lab: RunningLab) -> None:
    assert mininetes("agents", "stop", "--lab", lab.name, "node2", "kube-proxy").status == 0
    try:
        lab.exec("node2", "iptables", "-t", "nat", "-F", "KUBE-SERVICES")
        done = lab.command("truth-table", "--service", "plain", "--wrong", "--timeout", "0.3")
    finally:
        mininetes("agents", "start", "--lab", lab.name, "node2", "kube-proxy")
    assert done.status == 1
    assert "pod/node2-2" in done.stdout
    assert "pod/node1-2" not in done.stdout
    assert "not as they must be" in done.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--service", "nobody"], ["service", "'default/nobody'", "default/plain"]),
        (["--mode", "magic"], ["mode", "'magic'", "iptables"]),
        (["--connections", "1"], ["connections", "1", "10 to 1000"]),
        (["--timeout", "0"], ["timeout", "0", "60"]),
        (["--junit", "/nowhere/x.xml"], ["--junit", "'/nowhere/x.xml'", "folder"]),
    ],
)
def test_bad_input_is_refused_by_name(lab: RunningLab, options: list[str], words: list[str]) -> None:
    done = lab.command("truth-table", *options)
    assert done.status == 2
    assert [word for word in words if word not in done.stderr] == []
    assert len(done.stderr.splitlines()) == 1
