"""Services of a whole cluster, from `apply` to the answer: every address of one, from everywhere, in each mode.

client1 203.0.113.2 --+                    +-- node1 (pods, kube-proxy) --+
blocked1 203.0.113.130 +-- gw 192.168.1.1 --+-- node2                      +-- endpoints: pods with app=web
                                           +-- node3 --------------------+
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from cluster_api import MERGE, ClusterApi, deployment, is_ready, service
from running_lab import RunningLab, running
from waiting import wait_until

PODS = "/api/v1/namespaces/default/pods?labelSelector=app=web"
SERVICES = "/api/v1/namespaces/default/services"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
MODES = {
    "iptables": ["--proxy", "iptables"],
    "iptables legacy": ["--proxy", "iptables", "--set", "proxy.backend=legacy"],
    "nftables": ["--proxy", "nftables"],
    "userspace": ["--proxy", "userspace"],
}


class Cluster:
    """A lab with a service `web` (LoadBalancer, so that it has every kind of address) in front of three pods."""

    def __init__(self, lab: RunningLab, mode: str) -> None:
        self.lab, self.mode, self.api = lab, mode, ClusterApi(lab)
        self.api.create(DEPLOYMENTS, deployment("web", 3, tolerations=[{"operator": "Exists"}]))
        self.api.create(SERVICES, service("web", type="LoadBalancer"))
        pods = self.api.wait(PODS, lambda found: sum(map(is_ready, found["items"])) == 3, "three pods")["items"]
        self.pods = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in pods}
        web = self.api.wait(f"{SERVICES}/web", lambda found: found["status"]["loadBalancer"].get("ingress"), "address")
        self.cluster_ip = web["spec"]["clusterIP"]
        self.node_port = web["spec"]["ports"][0]["nodePort"]
        self.balancer = web["status"]["loadBalancer"]["ingress"][0]["ip"]

    def ask(self, place: str, address: str, port: int = 80) -> dict[str, str] | None:
        """Which pod answers there, and what client it saw; None when nobody does."""
        done = self.lab.try_exec(place, "curl", "-s", "-m", "2", f"http://{address}:{port}/")
        return json.loads(done.stdout) if done.status == 0 else None

    def answers(self, place: str, address: str, port: int = 80) -> dict[str, str]:
        """As `ask`, once the rules are there."""
        return wait_until(lambda: self.ask(place, address, port), f"{place} -> {address}:{port} ({self.mode})")


@pytest.fixture(scope="module", params=list(MODES))
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with running("--pods", "1", *MODES[request.param]) as lab:
        yield Cluster(lab, request.param)


def test_every_address_answers_from_everywhere_it_should(cluster: Cluster) -> None:
    node2 = cluster.lab.address("node2")
    for place in ("pod/node1-1", "pod/node2-1", "pod/node3-1", "node1", "node3"):
        assert cluster.answers(place, cluster.cluster_ip)["pod"] in cluster.pods
        assert cluster.answers(place, node2, cluster.node_port)["pod"] in cluster.pods
        if cluster.mode != "userspace":  # whose rules leave what comes in over a bridge alone
            assert cluster.answers(place, cluster.balancer)["pod"] in cluster.pods
    assert cluster.answers("client1", node2, cluster.node_port)["pod"] in cluster.pods
    assert cluster.answers("client1", cluster.balancer)["pod"] in cluster.pods
    assert cluster.ask("client1", cluster.cluster_ip) is None, "a cluster address is for the cluster alone"


def test_a_pod_is_seen_as_itself_and_a_client_from_outside_as_the_node(cluster: Cluster) -> None:
    seen = cluster.answers("pod/node1-1", cluster.cluster_ip)["client"].partition(":")[0]
    own = cluster.lab.address("pod/node1-1")
    if cluster.mode == "userspace":
        assert seen != own
    else:
        assert seen == own
    outside = cluster.answers("client1", cluster.lab.address("node1"), cluster.node_port)["client"]
    assert outside.partition(":")[0] != cluster.lab.address("client1")


def test_a_name_leads_there(cluster: Cluster) -> None:
    for name in ("web", "web.default", "web.default.svc.cluster.local"):
        assert cluster.answers("pod/node2-1", name)["pod"] in cluster.pods
    assert cluster.cluster_ip in cluster.lab.exec("pod/node3-1", "getent", "hosts", "web")


def test_all_endpoints_take_their_turn(cluster: Cluster) -> None:
    seen: set[str] = set()

    def all_seen() -> bool:
        seen.add((cluster.ask("pod/node3-1", cluster.cluster_ip) or {}).get("pod", ""))
        return seen - {""} == set(cluster.pods)

    wait_until(all_seen, "all three pods have answered")


def test_no_interface_has_a_cluster_address_and_a_process_listens_for_it_in_userspace_alone(cluster: Cluster) -> None:
    lab = cluster.lab
    assert cluster.cluster_ip not in lab.exec("node1", "ip", "-o", "address")
    if cluster.mode == "nftables":
        assert cluster.cluster_ip in lab.exec("node1", "nft", "list", "table", "ip", "kube-proxy")
        return
    rules = lab.exec("node1", "iptables-legacy-save" if cluster.mode == "iptables legacy" else "iptables-save")
    (rule,) = [
        line for line in rules.splitlines() if f"-d {cluster.cluster_ip}/32" in line and "CONTAINER" in line
    ] or [next(line for line in rules.splitlines() if f"-d {cluster.cluster_ip}/32" in line)]
    redirected = re.search(r"-j REDIRECT --to-ports (\d+)", rule)
    assert (redirected is not None) == (cluster.mode == "userspace"), rule
    if redirected is not None:
        assert f":{redirected[1]} " in lab.exec("node1", "ss", "-tln")


def test_source_ranges_keep_the_blocked_client_out(cluster: Cluster) -> None:
    if cluster.mode != "userspace":  # which never knew them
        assert cluster.answers("blocked1", cluster.balancer)
        cluster.api.request(
            "PATCH", f"{SERVICES}/web", {"spec": {"loadBalancerSourceRanges": ["203.0.113.0/25"]}}, MERGE
        )
        wait_until(lambda: cluster.ask("blocked1", cluster.balancer) is None, "the blocked client is kept out")
        assert cluster.answers("client1", cluster.balancer)["pod"] in cluster.pods


def test_without_endpoints_it_refuses_and_with_them_it_answers_again(cluster: Cluster) -> None:
    cluster.api.request("PATCH", f"{DEPLOYMENTS}/web", {"spec": {"replicas": 0}}, MERGE)
    wait_until(lambda: cluster.ask("pod/node1-1", cluster.cluster_ip) is None, "nobody answers")
    cluster.api.request("PATCH", f"{DEPLOYMENTS}/web", {"spec": {"replicas": 1}}, MERGE)
    cluster.answers("pod/node1-1", cluster.cluster_ip)
