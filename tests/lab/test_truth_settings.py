"""The truth table of a lab with other settings of kube-proxy, and what its kube-proxies count.

node1, node2, node3: zone-a, kube-proxy masquerades everything, node ports at 10.244.N.1 and 127.0.0.1 alone
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from running_lab import RunningLab, running
from waiting import wait_until

FLOWS = Path(__file__).parents[1] / "golden" / "packet-flows" / "flows.jsonl"
SETTINGS = (
    "proxy.config.iptables={masqueradeAll: true, minSyncPeriod: 0s}",
    "proxy.config.nftables={masqueradeAll: true}",
    "proxy.config.nodePortAddresses=[10.244.0.0/16, 127.0.0.0/8]",
    "nodes=[{name: node1, role: control-plane, zone: zone-a}, *]".replace(
        "*", "{name: node2, zone: zone-a}, {name: node3, zone: zone-a}"
    ),
)
SERVICE = {"type": "NodePort", "selector": {"role": "end"}, "ports": [{"name": "a", "port": 80, "targetPort": 8080}]}
FETCH = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:10249/metrics').read().decode())"


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    options = [word for setting in SETTINGS for word in ("--set", setting)]
    with running("--pods", "4", *options) as made:
        for name, policy in (("web", "Cluster"), ("near", "Local"), ("empty", "Cluster")):
            selector = {"role": "nobody"} if name == "empty" else SERVICE["selector"]
            spec = {**SERVICE, "selector": selector, "externalTrafficPolicy": policy}
            apply(made, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
        for name in ("node2-1", "node3-1"):
            pod = json.loads(made.command("get", "pod", name, "-o", "json").stdout)
            pod["metadata"].setdefault("labels", {})["role"] = "end"
            apply(made, pod)
        wait_until(lambda: made.exec("node1", "iptables-save", "-t", "nat").count("default/near:a ->") == 2, "rules")
        yield made


def apply(lab: RunningLab, obj: object) -> None:
    done = lab.command("apply", "-f", "-", stdin=json.dumps(obj))
    assert done.status == 0, done


def test_addresses_without_node_ports_are_expected_to_have_none(lab: RunningLab) -> None:
    modes = ("--mode", "iptables", "--mode", "nftables")
    done = lab.command("truth-table", "-o", "json", "--timeout", "0.5", *modes)
    said = json.loads(done.stdout)
    assert [row for row in said["lines"] if not row["holds"]] == []
    assert done.status == 0, [each for each in said["differences"] if not each["declared"]]
    rows = [row for row in said["lines"] if row["to"] == "node port" and row["service"] == "default/web:a"]
    own = {row["expected"] for row in rows if row["address"].startswith("192.168.")}
    taking = {row["expected"] for row in rows if row["address"].startswith("10.244.")}
    assert own == {"NOMATCH"}
    assert taking
    assert all(each.startswith("DNAT to") for each in taking)
    at_home = [row for row in said["lines"] if row["to"] == "localhost" and row["service"] == "default/web:a"]
    assert {(row["mode"], row["expected"].partition(" ")[0]) for row in at_home} == {
        ("iptables", "DNAT"), ("nftables", "NOMATCH")
    }  # fmt: skip


def test_health_checks_are_answered_where_node_ports_are_taken_alone(lab: RunningLab) -> None:
    spec = {**SERVICE, "type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    apply(lab, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "balanced"}, "spec": spec})
    made = json.loads(lab.command("get", "service", "balanced", "-o", "json").stdout)
    port = made["spec"]["healthCheckNodePort"]

    def status(node: str, address: str) -> str:
        url = f"http://{address}:{port}/"
        return lab.try_exec(node, "curl", "-s", "-m", "2", "-o", "/dev/null", "-w", "%{http_code}", url).stdout

    wait_until(lambda: status("node2", "10.244.2.1") == "200", "the health check of node2")
    assert status("node1", "127.0.0.1") == "503"
    assert status("node1", "192.168.1.11") == "000"
    done = lab.command("truth-table", "--service", "balanced", "--timeout", "0.5", "-o", "json")
    rows = json.loads(done.stdout)["lines"]
    assert [row for row in rows if not row["holds"]] == []
    assert {row["expected"] for row in rows if row["to"] == "health check node port"} == {"REJECT"}


def test_flows_that_need_these_settings_are_played_here_and_the_others_not(lab: RunningLab, tmp_path: Path) -> None:
    path = tmp_path / "flows.jsonl"
    lines = [line for line in FLOWS.read_text().splitlines() if json.loads(line)["id"] in ("MQ-4", "TH-1", "CIP-1")]
    zoned = next(json.loads(line) for line in lines if json.loads(line)["id"] == "TH-1")
    path.write_text("\n".join(lines) + "\n")
    done = lab.command("truth-table", "--flows", str(path), "--timeout", "0.5", "-o", "json")
    said = json.loads(done.stdout)
    assert [row["service"] for row in said["lines"]] == ["MQ-4"]
    assert (done.status, said["holds"]) == (0, True)
    assert all("masqueradeAll: false}}} plays it" in each for each in said["skipped"])
    path.write_text(json.dumps({**zoned, "proxy": {"masqueradeAll": True}, "expect": {
        **zoned["expect"], "masquerade": True}}))  # fmt: skip
    said = json.loads(lab.command("truth-table", "--flows", str(path), "-o", "json").stdout)
    assert [(row["service"], row["wrong"]) for row in said["lines"]] == [("TH-1", "")]
    path.write_text(json.dumps({**zoned, "nodeZone": "zone-z", "proxy": {"masqueradeAll": True}}))
    done = lab.command("truth-table", "--flows", str(path))
    assert "a lab where it has zone: zone-z plays it" in done.stdout
    assert (done.status, done.stdout.splitlines()[-1]) == (1, "nothing was asked; 1 not asked")


def masquerading(tmp_path: Path) -> str:
    """A CNI configuration by which pods' packets to other nodes leave as their node's, to which replies come."""
    shipped = json.loads((Path(__file__).parents[2] / "cni_scripts" / "bash-bridge.conflist").read_text())
    shipped["plugins"][0]["ipMasq"] = True
    path = tmp_path / "masquerading.conflist"
    path.write_text(json.dumps(shipped))
    return str(path)


@pytest.mark.parametrize("by", ["the CNI plugin", "the fabric"])
def test_a_pod_that_leaves_as_its_node_is_asked_where_replies_come_back_to_that(by: str, tmp_path: Path) -> None:
    flannel = ("--fabric", "host-gw", "--set", "fabric.parameters.ipMasq=true")
    how = flannel if by == "the fabric" else ("--cni", masquerading(tmp_path))
    with running("--nodes", "2", "--pods", "1", *how) as made:
        pod = json.loads(made.command("get", "pod", "node2-1", "-o", "json").stdout)
        pod["metadata"].setdefault("labels", {})["role"] = "end"
        apply(made, pod)
        spec = {**SERVICE, "externalTrafficPolicy": "Local"}
        apply(made, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "near"}, "spec": spec})
        wait_until(lambda: "default/near:a ->" in made.exec("node2", "iptables-save", "-t", "nat"), "rules")
        said = json.loads(made.command("truth-table", "--service", "near", "-o", "json").stdout)
        (row,) = [each for each in said["lines"] if (each["source"], each["at"]) == ("pod/node1-1", "node2")]
        assert (row["measured"], row["wrong"]) == (f"DNAT to {made.address('pod/node2-1')}:8080", "")


def test_kube_proxies_count_from_when_endpoints_changed(lab: RunningLab) -> None:
    name = "kubeproxy_network_programming_duration_seconds"

    def counted() -> dict[str, float]:
        lines = lab.exec("node2", sys.executable, "-c", FETCH).splitlines()
        return {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith(name) and "{" not in line}

    before = counted()
    made = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "later"}, "spec": SERVICE}
    apply(lab, made)
    wait_until(lambda: counted()[f"{name}_count"] > before[f"{name}_count"], "a change to be counted")
    after = counted()
    changes = after[f"{name}_count"] - before[f"{name}_count"]
    assert 0 <= after[f"{name}_sum"] - before[f"{name}_sum"] < 20 * changes
