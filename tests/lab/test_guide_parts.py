"""The guide's examples of parts of one's own: each is written to a folder as the page has it, checked, and used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLE = re.compile(
    r"`((?:topologies/\w+|cni_scripts|proxy_rules|experiments)/[\w.-]+)`[^`]*:\n\n```\w+\n(.*?)```", re.DOTALL
)
OBJECTS = """---
{apiVersion: v1, kind: Node, metadata: {name: node1},
 status: {addresses: [{type: InternalIP, address: 192.168.1.11}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: default},
 spec: {clusterIP: 10.96.0.80, ports: [{name: http, port: 80, targetPort: 8080}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
 metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}},
 endpoints: [{addresses: [10.244.2.4]}], ports: [{name: http, port: 8080}]}
"""


def write_examples(folder: Path) -> None:
    """Write all of the examples into a folder."""
    for page in ("parts.md", "cni-script.md"):
        for name, text in EXAMPLE.findall((DOCS / page).read_text()):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            if text.startswith("#!"):
                path.chmod(0o755)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with all of the examples."""
    write_examples(tmp_path)
    return tmp_path


@pytest.fixture
def lab() -> Iterator[str]:
    """A name for a lab, which is gone afterwards."""
    name = f"t-{os.getpid()}-parts"
    yield name
    _mininetes("down", name)


def _mininetes(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "mininetes", *map(str, arguments)]
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=300)


def _said(*arguments: str | Path) -> str:
    done = _mininetes(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_pages_have_an_example_of_each_kind(own: Path) -> None:
    found = {str(path.parent.relative_to(own)) for path in own.rglob("*") if path.is_file()}
    assert found == {
        "topologies/underlays", "topologies/fabrics", "topologies/clusters", "cni_scripts", "proxy_rules", "experiments"
    }  # fmt: skip


def test_underlay_fabric_and_cluster(own: Path, lab: str) -> None:
    assert "fabric hub" in _said("--parts", own, "validate", "hubs")
    steps = _said("--parts", own, "up", "hubs", "--lab", lab, "--dry-run")
    assert "ip link set s2-eth1 master s2 up" in steps
    assert "type veth peer name s2-eth1 mtu 1500\n" in steps
    _said("--parts", own, "up", "hubs", "--lab", lab)
    assert "132 pairs: 132 reached, 0 unreached as expected, no mismatch" in _said(
        "probe", "reachability", "--lab", lab
    )
    answer = _said("exec", "--lab", lab, "pod/node2-1", "--", "ping", "-c", "1", "10.244.3.2")
    assert "ttl=61" in answer, "from node2 by way of the hub to node3: three nodes route"
    hosts = _mininetes("shell", "--lab", lab, "--mininet", stdin="nodes\n")
    assert "client1 gw node1 node2 node3 node4" in hosts.stderr, "the lab knows its own parts"


def test_a_proxy_mode(own: Path, tmp_path: Path) -> None:
    objects = tmp_path / "objects.yaml"
    objects.write_text(OBJECTS)
    rule = "-A FIRST-ONLY -d 10.96.0.80/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.2.4:8080"
    path = own / "proxy_rules" / "first-only.py"
    for mode in ("first-only", path):
        rules = _said("--parts", own, "rules", "--mode", mode, "--node", "node1", "-f", objects)
        assert rule in rules
        assert "KUBE-SERVICES" not in rules
    path.rename(path.with_name("iptables.py"))
    assert rule in _said("--parts", own, "rules", "--mode", "iptables", "--node", "node1", "-f", objects)


def test_a_proxy_mode_in_a_lab(own: Path, lab: str) -> None:
    _said("--parts", own, "up", "--lab", lab, "--nodes", "2", "--pods", "1", "--proxy", "first-only")
    _said("apply", "--lab", lab, "-f", DOCS / "web.yaml")
    patient = ("--connect-timeout", "1", "--retry", "20", "--retry-delay", "1", "--retry-connrefused")
    answer = _said("exec", "--lab", lab, "pod/node1-1", "--", "curl", "-s", *patient, "10.96.0.80")
    assert '"pod": "web1"' in answer
    asked = ("truth-table", "--lab", lab, "--service", "kubernetes", "--mode")
    assert "first-only" in _said("--parts", own, *asked, "first-only")
    assert "first-only" in _said(*asked, "first-only"), "the lab knows its own mode"
    (own / "proxy_rules" / "another.py").write_text((own / "proxy_rules" / "first-only.py").read_text())
    assert "another" in _said("--parts", own, *asked, "another")
    refused = _mininetes(*asked, "another-2")
    assert refused.returncode == 2
    assert "mode: 'another-2' is not valid: one of iptables" in refused.stderr
    rules = _said("exec", "--lab", lab, "node1", "--", "iptables-save", "-t", "nat")
    assert "-A FIRST-ONLY -d 10.96.0.80/32" in rules
    assert "KUBE-SERVICES" not in rules
    changed = own / "changed.yaml"
    changed.write_text((DOCS / "web.yaml").read_text().replace("port: 80,", "port: 81,"))
    said = _said("apply", "--lab", lab, "-f", changed, "--dry-run")
    assert "rules of node1, first-only" in said
    assert "+ -A FIRST-ONLY -d 10.96.0.80/32 -p tcp -m tcp --dport 81 " in said


def test_a_mode_that_takes_the_place_of_one_of_ours_in_a_lab(own: Path, lab: str) -> None:
    path = own / "proxy_rules" / "first-only.py"
    path.rename(path.with_name("iptables.py"))
    _said("--parts", own, "up", "--lab", lab, "--nodes", "2", "--pods", "1")
    said = _said("apply", "--lab", lab, "-f", DOCS / "web.yaml", "--dry-run")
    assert "its rules stay as they are" in said, "the lab knows its own parts: this one has no rule without endpoints"


def test_an_experiment(own: Path, tmp_path: Path) -> None:
    assert "round_trips" in _said("--parts", own, "run", "--list")
    out = tmp_path / "result"
    arguments = ("run", "round_trips", "--set", "probes=5", "--repetitions", "1", "--out", out)
    done = _mininetes("--parts", own, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (out / "round-trips.png").stat().st_size > 1000
    assert '"rtt_us"' in (out / "rows.jsonl").read_text()


def test_the_plugin_keeps_to_the_specification(own: Path) -> None:
    plugin, configuration = own / "cni_scripts" / "wire", own / "cni_scripts" / "mine.conflist"
    assert "wire passes all" in _said("cni-check", plugin, "--config", configuration)


def test_the_plugin_is_free_of_what_shellcheck_finds(own: Path) -> None:
    done = subprocess.run(["shellcheck", own / "cni_scripts" / "wire"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
