"""``proxy: {exec: [...]}``: an outside program on each node instead of our kube-proxy."""

from __future__ import annotations

import json
import stat
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_api import ClusterApi
from running_lab import RunningLab, mininetes, running
from waiting import wait_until

PROGRAM = """#!{python}
'''Lists services, and gives each cluster IP that has a pod a rule to one: what a proxy does, in one line.'''
import base64, json, os, ssl, subprocess, sys, time, urllib.request
import yaml

config = yaml.safe_load(open(os.environ["KUBECONFIG"]))
cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
mine, known = os.environ["NODE_NAME"], set()
print("proxying for", mine, *sys.argv[1:], flush=True)


def items(path):
    asked = urllib.request.Request(cluster["server"] + path, headers={{"Authorization": "Bearer " + user["token"]}})
    with urllib.request.urlopen(asked, context=context, timeout=5) as answer:
        return json.load(answer)["items"]


while True:
    try:
        ips = {{s["metadata"]["name"]: s["spec"]["clusterIP"] for s in items("/api/v1/namespaces/default/services")}}
        ready = {{e["metadata"]["name"]: e["subsets"][0]["addresses"][0]["ip"]
                 for e in items("/api/v1/namespaces/default/endpoints") if e.get("subsets")}}
    except OSError as failed:
        print("no answer:", failed, flush=True)
        time.sleep(0.2)
        continue
    for name in (ips.keys() & ready.keys()) - known - {{"kubernetes"}}:
        rule = ["-d", ips[name], "-p", "tcp", "--dport", "80", "-j", "DNAT", "--to-destination", ready[name] + ":8080"]
        for chain in ("PREROUTING", "OUTPUT"):
            subprocess.run(["iptables", "-t", "nat", "-A", chain, *rule], check=True)
        known.add(name)
        print("rule for", name, flush=True)
    time.sleep(0.1)
"""
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"selector": {"app": "responder"}, "ports": [{"port": 80, "targetPort": 8080}]},
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("programs") / "my-proxy.py"
    path.write_text(PROGRAM.format(python=sys.executable))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture(scope="module")
def lab(program: Path) -> Iterator[RunningLab]:
    cluster = {"apiVersion": "mininetes/v1", "kind": "Cluster",
               "spec": {"proxy": {"exec": [f"./{program.name}", "--loudly"]}}}  # fmt: skip
    path = program.with_name("cluster.yaml")
    path.write_text(json.dumps(cluster))
    with running(str(path), "--pods", "1", "--nodes", "2") as made:
        yield made


def log_of(lab: RunningLab, node: str) -> str:
    return lab.exec(node, "cat", "/var/log/my-proxy.log")


def row(lab: RunningLab, node: str) -> dict[str, Any]:
    rows = json.loads(mininetes("agents", "ls", "--lab", lab.name, "-o", "json").stdout)
    found: dict[str, Any] = next(each for each in rows if (each["node"], each["name"]) == (node, "my-proxy"))
    return found


def test_the_program_runs_in_every_node_and_its_rule_carries_connections(lab: RunningLab) -> None:
    assert lab.command("apply", "-f", "-", stdin=json.dumps(SERVICE)).status == 0
    service = json.loads(lab.command("get", "service", "web", "-o", "json").stdout)
    for node in lab.nodes:
        wait_until(lambda node=node: "rule for web" in log_of(lab, node), f"{node} has the rule")  # type: ignore[misc]
        assert f"proxying for {node} --loudly" in log_of(lab, node)
        assert lab.exec(node, "readlink", "/var/log/kube-proxy.log") == "my-proxy.log\n"
        assert "KUBE-SVC" not in lab.exec(node, "iptables-save", "-t", "nat")
    url = f"http://{service['spec']['clusterIP']}/"
    answering = {json.loads(lab.exec(node, "curl", "-s", "-m", "3", url))["pod"] for node in lab.nodes}
    assert len(answering) == 1
    (asking,) = lab.pods.keys() - answering  # its rule does without masquerading, so that the pod cannot ask itself
    assert json.loads(lab.exec(f"pod/{asking}", "curl", "-s", "-m", "3", url))["pod"] in answering


def test_its_log_is_that_of_the_nodes_kube_proxy_pod(lab: RunningLab) -> None:
    api = ClusterApi(lab)
    pods = api.items("/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dkube-proxy").values()
    assert sorted(pod["spec"]["nodeName"] for pod in pods) == lab.nodes
    for pod in pods:
        path = f"/api/v1/namespaces/kube-system/pods/{pod['metadata']['name']}/log"
        asked = urllib.request.Request(api.server + path, headers={"Authorization": f"Bearer {api.token}"})
        with urllib.request.urlopen(asked, timeout=20, context=api.tls) as answer:
            assert f"proxying for {pod['spec']['nodeName']} --loudly" in answer.read().decode()


def test_one_that_dies_is_started_anew_and_its_log_goes_on(lab: RunningLab) -> None:
    restarts = row(lab, "node1")["restarts"]
    script = (
        "for p in /proc/[0-9]*; do if tr '\\0' '\\n' <$p/environ 2>/dev/null | grep -qx NODE_NAME=node1 "
        "&& grep -q my-proxy $p/cmdline; then kill ${p#/proc/}; fi; done"
    )
    lab.exec("", "sh", "-c", script)
    wait_until(lambda: log_of(lab, "node1").count("proxying for node1") == 2, "it is back", within_s=15)
    assert row(lab, "node1")["restarts"] == restarts + 1
    assert "ended with status -15" in row(lab, "node1")["failure"]


def test_what_needs_our_kube_proxy_is_refused_by_name(lab: RunningLab) -> None:
    done = lab.command("truth-table", "--mode", "nftables")
    assert (done.status, "my-proxy" in done.stderr, "mode" in done.stderr) == (2, True, True), done


def test_a_program_that_is_not_there_builds_nothing() -> None:
    done = mininetes("up", "--lab", "never", "--set", "proxy={exec: [/no/such/proxy]}")
    assert done.status == 2
    assert done.stderr.startswith("mininetes: spec.proxy.exec: '/no/such/proxy' is not valid")
