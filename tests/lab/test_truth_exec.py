"""`truth-table --proxy-exec`: outside programs on every node in kube-proxy's place, for as long as they are measured.

A stand-in writes what our compilers say, or leaves out one thing on purpose, which must be found and named.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
from running_lab import RunningLab, mininetes, running
from test_truth_table import apply, endpoints
from waiting import wait_until

PROGRAM = f"{sys.executable} {Path(__file__).with_name('outside_kube_proxy.py')}"
PORTS = [{"name": "http", "port": 80, "targetPort": 8080}]
SERVICES: dict[str, dict[str, Any]] = {
    "plain": {"type": "NodePort", "ports": [{**PORTS[0], "nodePort": 30080}]},
    "faithful": {"ports": PORTS, "sessionAffinity": "ClientIP"},
}


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running("--nodes", "2", "--pods", "2") as made:
        for name, spec in SERVICES.items():
            kept = {"selector": {"app": "responder"}, **spec}
            apply(made, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": kept})
        for name in SERVICES:
            wait_until(lambda name=name: endpoints(made, name) == 4, f"endpoints of {name}")  # type: ignore[misc]
        yield made


def table(lab: RunningLab, *options: str) -> tuple[int, dict[str, Any]]:
    services = [word for name in SERVICES for word in ("--service", name)]
    done = lab.command("truth-table", "-o", "json", "--timeout", "0.3", *services, *options)
    assert done.stdout, done
    return done.status, json.loads(done.stdout)


def filters(lab: RunningLab, node: str) -> list[str]:
    """All rules of a node, each once, without counters."""
    said = "".join(
        lab.exec(node, f"{program}-save")
        for program in ("iptables-nft", "iptables-legacy", "ip6tables-nft", "ip6tables-legacy")
    )
    rules = {line.partition(" [")[0] for line in said.splitlines() if line[:1] in "-:*"}
    return sorted(rules) + lab.exec(node, "nft", "list", "tables").splitlines()


def starts(lab: RunningLab) -> list[int]:
    """How often each node's kube-proxy has begun."""
    return [lab.exec(node, "cat", "/var/log/kube-proxy.log").count("Using iptables Proxier") for node in lab.nodes]


def works(lab: RunningLab) -> None:
    """The lab's own proxies work, and their rules carry connections."""
    rows = json.loads(mininetes("agents", "ls", "--lab", lab.name, "-o", "json").stdout)
    assert {each["state"] for each in rows if each["name"] == "kube-proxy"} == {"running"}
    service = json.loads(lab.command("get", "service", "plain", "-o", "json").stdout)
    for node in lab.nodes:
        done = lab.try_exec(node, "curl", "-s", "-m", "2", f"http://{service['spec']['clusterIP']}/")
        assert json.loads(done.stdout)["pod"] in lab.pods


def test_a_program_that_does_it_all_is_told_from_none_of_the_modes(lab: RunningLab, tmp_path: Path) -> None:
    before = {node: filters(lab, node) for node in lab.nodes}
    xml = tmp_path / "truth.xml"
    status, said = table(lab, "--mode", "iptables", "--proxy-exec", PROGRAM, "--junit", str(xml))
    title = f"{Path(sys.executable).name} {PROGRAM.split()[1]}"
    assert [row for row in said["lines"] if not row["holds"]] == []
    assert (status, said["subjects"], said["differences"]) == (0, ["iptables", title], [])
    assert {row["mode"] for row in said["lines"] if row["subject"] == title} == {"iptables"}
    assert [suite.get("name") for suite in Xml.parse(xml).getroot()] == ["iptables", title, "differences"]
    for node in lab.nodes:
        assert "rules written" in lab.exec(node, "cat", "/var/log/proxy-exec-1.log")
        assert filters(lab, node) == before[node], "also MY-OWN-CHAIN, which is of no kube-proxy, has gone"
    works(lab)


def test_what_a_program_leaves_out_is_found_and_named(lab: RunningLab) -> None:
    programs = [f"{PROGRAM} --defect {defect}" for defect in ("no-hairpin", "no-affinity")]
    options = [word for program in programs for word in ("--proxy-exec", program)]
    status, said = table(lab, "--mode", "iptables", *options)
    own, without_hairpin, without_affinity = said["subjects"]
    wrong = [row for row in said["lines"] if not row["holds"]]
    assert {row["subject"] for row in wrong} == {without_hairpin, without_affinity}
    # an endpoint that reaches itself never sees an answer from itself; on the way over another node it is masqueraded
    hairpin = [row for row in wrong if row["subject"] == without_hairpin and row["service"] == "default/plain:http"]
    assert {(row["who"], row["to"]) for row in hairpin} >= {("endpoint itself", "cluster IP")}
    assert {row["who"] for row in hairpin} == {"endpoint itself"}
    affinity = [row for row in wrong if row["subject"] == without_affinity]
    assert {row["service"] for row in affinity} == {"default/faithful:http"}
    assert all("not always by the same one" in row["wrong"] for row in affinity)
    undeclared = {tuple(each["question"][:3]) for each in said["differences"] if not each["declared"]}
    assert undeclared == {(row["service"], row["protocol"], row["source"]) for row in wrong}
    assert all({own, without_hairpin, without_affinity} == set(each["measured"]) for each in said["differences"])
    assert status == 1
    for node in lab.nodes:  # else the next connection from the same port would be without a masquerade too
        assert "SYN_SENT" not in lab.exec(node, "conntrack", "-L", "-p", "tcp")
    works(lab)


def test_a_declared_difference_is_no_failure_and_its_reason_is_given(lab: RunningLab, tmp_path: Path) -> None:
    known = tmp_path / "known.yaml"
    known.write_text("- {subject: '*no-affinity', service: default/faithful:*, reason: affinity is on its list}\n")
    program = f"{PROGRAM} --defect no-affinity"
    status, said = table(lab, "--mode", "iptables", "--proxy-exec", program, "--known", str(known))
    assert said["differences"]
    assert {each["reason"] for each in said["differences"]} == {"affinity is on its list"}
    assert {row["service"] for row in said["lines"] if row["known"]} == {"default/faithful:http"}
    assert status == 0


def test_a_program_of_another_mode_is_held_against_that_mode(lab: RunningLab) -> None:
    status, said = table(lab, "--mode", "iptables", "--proxy-exec", f"{PROGRAM} --proxy-mode=nftables")
    assert [row for row in said["lines"] if not row["holds"]] == []
    assert {each["reason"] for each in said["differences"]} == {"nftables has no node ports on localhost"}
    assert status == 0
    assert "kube-proxy" not in lab.exec("node1", "nft", "list", "tables")


def test_a_program_that_ends_at_once_is_an_error_with_its_last_words(lab: RunningLab) -> None:
    done = lab.command("truth-table", "--proxy-exec", f"{PROGRAM} --fail")
    assert done.status == 1
    assert not done.stdout
    assert "ended with status 3" in done.stderr
    assert "and here is why it does not work (/var/log/proxy-exec-1.log there)" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    works(lab)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("/no/such/proxy --x", ["--proxy-exec", "'/no/such/proxy'", "a program that is there"]),
        ("{plain}", ["--proxy-exec", "may be executed"]),
        ("kube-proxy 'half", ["--proxy-exec", "as a shell reads it"]),
        ("", ["--proxy-exec", "a program and its arguments"]),
        ("sh --proxy-mode=magic", ["--proxy-mode", "'magic'", "iptables"]),
    ],
)
def test_bad_input_is_refused_before_anything_is_touched(
    lab: RunningLab, tmp_path: Path, given: str, words: list[str]
) -> None:
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    before = starts(lab)
    done = lab.command("truth-table", "--proxy-exec", given.format(plain=tmp_path / "plain"))
    assert done.status == 2
    assert [word for word in words if word not in done.stderr] == []
    assert len(done.stderr.splitlines()) == 1
    assert starts(lab) == before


def test_a_declaration_that_is_none_is_refused(lab: RunningLab, tmp_path: Path) -> None:
    path = tmp_path / "known.yaml"
    for text in ("- {subject: x}\n", "- {reason: y, colour: red}\n", "- 7\n", "]"):
        path.write_text(text)
        done = lab.command("truth-table", "--known", str(path))
        assert (done.status, "--known" in done.stderr) == (2, True), done
