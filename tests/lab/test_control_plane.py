"""The control plane of a running cluster: on live packets, and with its parts cut off, killed and started anew."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_api import MERGE, ClusterApi, Refused, deployment, is_ready, service
from running_lab import RunningLab, mininetes, running
from waiting import wait_until

PODS = "/api/v1/namespaces/default/pods"
NODES = "/api/v1/nodes"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
SERVICES = "/api/v1/namespaces/default/services"


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running("--pods", "2", "--set", "controlPlane.nodeGraceSeconds=3") as up:
        yield up


@pytest.fixture(scope="module")
def api(lab: RunningLab) -> ClusterApi:
    return ClusterApi(lab)


def pings(lab: RunningLab, place: str, address: str) -> bool:
    return lab.try_exec(place, "ping", "-c", "1", "-W", "2", address).status == 0


def names(found: dict[str, Any] | None) -> set[str]:
    return {each["metadata"]["name"] for each in (found or {}).get("items", [])}


def change(lab: RunningLab, verb: str, node: str, agent: str) -> None:
    done = mininetes("agents", verb, "--lab", lab.name, node, agent)
    assert done.status == 0, done


def switch_port(lab: RunningLab, node: str) -> str:
    """The underlay switch's port towards a node, by the link that its eth0 is paired with."""
    peer = json.loads(lab.exec(node, "ip", "-j", "link", "show", "eth0"))[0]["link_index"]
    links = json.loads(lab.exec("", "ip", "-j", "link"))
    return str(next(each["ifname"] for each in links if each["ifindex"] == peer))


def test_a_cluster_that_is_up_is_ready(lab: RunningLab, api: ClusterApi) -> None:
    nodes = api.items(NODES)
    assert sorted(nodes) == ["node1", "node2", "node3"]
    assert all(is_ready(node) for node in nodes.values())
    assert {name: node["spec"]["podCIDR"] for name, node in nodes.items()} == {
        f"node{number}": f"10.244.{number}.0/24" for number in (1, 2, 3)
    }
    assert "node-role.kubernetes.io/control-plane" in nodes["node1"]["metadata"]["labels"]
    pods = api.ready_pods()
    assert sorted(pods) == [f"node{node}-{number}" for node in (1, 2, 3) for number in (1, 2)]
    for name, pod in pods.items():
        shown = lab.exec(f"pod/{name}", "ip", "-4", "-o", "address", "show", "eth0")
        assert f"inet {pod['status']['podIP']}/24" in shown
    agents = api.ready_pods("kube-system")
    for wanted in ("kube-apiserver-node1", "kube-scheduler-node1", "kube-controller-manager-node1"):
        assert wanted in agents
    assert sum(name.startswith("coredns-") for name in agents) == 2
    assert sum(name.startswith("kube-proxy-") for name in agents) == 3


def test_the_host_port_is_for_this_machine_alone_and_wants_a_token(lab: RunningLab, api: ClusterApi) -> None:
    assert api.server.startswith("https://127.0.0.1:")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(api.server + "/api/v1/nodes", context=api.tls, timeout=10)
    assert refused.value.code == 401
    said = json.load(refused.value)
    assert (said["kind"], said["reason"]) == ("Status", "Unauthorized")
    port = int(api.server.rpartition(":")[2])
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    listening = [fields[1] for fields in sockets if fields[3] == "0A"]
    assert f"0100007F:{port:04X}" in listening
    assert f"00000000:{port:04X}" not in listening


def test_a_node_that_is_cut_off_works_on_and_catches_up(lab: RunningLab, api: ClusterApi) -> None:
    api.create(DEPLOYMENTS, deployment("cut", 6, tolerations=[{"operator": "Exists"}]))
    api.create(SERVICES, service("cut"))
    pods = api.wait(f"{PODS}?labelSelector=app=cut", lambda found: sum(map(is_ready, found["items"])) == 6, "6 pods")
    by_node: dict[str, list[str]] = {}
    for pod in pods["items"]:
        by_node.setdefault(pod["spec"]["nodeName"], []).append(pod["status"]["podIP"])
    addresses = {address for each in by_node.values() for address in each}
    assert len(by_node["node3"]) == 2
    path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    api.wait(path, lambda _: api.endpoints("cut") == addresses, "endpoints for all six")

    port = switch_port(lab, "node3")
    lab.exec("", "ip", "link", "set", port, "down")
    try:
        api.wait(f"{NODES}/node3", lambda node: not is_ready(node), "node3 NotReady")
        left = addresses - set(by_node["node3"])
        api.wait(path, lambda _: api.endpoints("cut") == left, "endpoints without those of node3")
        assert pings(lab, "node3", by_node["node3"][0])
        assert pings(lab, "pod/node3-1", by_node["node3"][1])
        assert not pings(lab, "node1", by_node["node3"][0])
        # what is asked of it meanwhile is done once it is back
        late = {
            "metadata": {"name": "late"},
            "spec": {"nodeName": "node3", "containers": [{"name": "c", "image": "x"}]},
        }
        api.create(PODS, {"apiVersion": "v1", "kind": "Pod", **late})
        api.request("DELETE", f"{PODS}/node3-2")
        assert "deletionTimestamp" in api.get(f"{PODS}/node3-2")["metadata"]
    finally:
        lab.exec("", "ip", "link", "set", port, "up")
    api.wait(f"{NODES}/node3", is_ready, "node3 Ready again", within_s=40)
    api.wait(path, lambda _: api.endpoints("cut") == addresses, "all endpoints again", within_s=40)
    api.wait(f"{PODS}/late", is_ready, "the pod that was created meanwhile", within_s=40)
    api.wait(f"{PODS}/node3-2", lambda pod: pod is None, "the pod that was deleted meanwhile is gone", within_s=40)
    assert pings(lab, "node1", by_node["node3"][0])
    assert {"late", "node3-1"} <= set(lab.exec("node3", "ip", "netns").split())
    assert "node3-2" not in lab.exec("node3", "ip", "netns").split()


def test_an_agent_that_is_killed_leaves_what_it_made_and_goes_on_where_it_was(lab: RunningLab, api: ClusterApi) -> None:
    before = api.get(f"{PODS}/node2-1")
    for verb in ("stop", "start"):
        change(lab, verb, "node2", "kubelet")
        assert pings(lab, "node1", before["status"]["podIP"])
    made = {"metadata": {"name": "after"}, "spec": {"nodeName": "node2", "containers": [{"name": "c", "image": "x"}]}}
    api.create(PODS, {"apiVersion": "v1", "kind": "Pod", **made})
    api.wait(f"{PODS}/after", is_ready, "a pod on node2 after its kubelet was started anew")
    after = api.get(f"{PODS}/node2-1")
    assert after["status"]["podIP"] == before["status"]["podIP"]
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0


def test_without_a_scheduler_pods_wait_and_with_it_they_do_not(lab: RunningLab, api: ClusterApi) -> None:
    change(lab, "stop", "node1", "kube-scheduler")
    api.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "waits"},
                      "spec": {"containers": [{"name": "c", "image": "x"}]}})  # fmt: skip
    assert "nodeName" not in api.get(f"{PODS}/waits")["spec"]
    change(lab, "start", "node1", "kube-scheduler")
    api.wait(f"{PODS}/waits", is_ready, "the pod that waited", within_s=40)


def test_the_api_server_can_be_started_anew(lab: RunningLab, api: ClusterApi) -> None:
    before = {name: pod["status"]["podIP"] for name, pod in api.ready_pods().items()}
    change(lab, "restart", "node1", "kube-apiserver")
    assert {name: pod["status"]["podIP"] for name, pod in api.ready_pods().items()} == before
    scaled = api.create(DEPLOYMENTS, deployment("anew", 2))
    assert scaled["spec"]["replicas"] == 2
    api.wait(f"{PODS}?labelSelector=app=anew", lambda found: sum(map(is_ready, found["items"])) == 2, "2 pods")
    api.request("PATCH", f"{DEPLOYMENTS}/anew", {"spec": {"replicas": 0}}, MERGE)
    api.wait(f"{PODS}?labelSelector=app=anew", lambda found: not found["items"], "no pods of it")


def test_a_link_that_is_set_down_in_a_node_and_up_again_brings_its_routes_back(lab: RunningLab) -> None:
    before = lab.exec("node2", "ip", "route")
    assert "default via 192.168.1.1" in before
    lab.exec("node2", "sh", "-c", "ip link set eth0 down; ip link set eth0 up")
    wait_until(lambda: lab.exec("node2", "ip", "route") == before, "the routes of node2", every_s=0.2)
    assert pings(lab, "client1", lab.address("node2"))


def test_while_no_api_server_runs_the_host_port_refuses_at_once(lab: RunningLab, api: ClusterApi) -> None:
    change(lab, "stop", "node1", "kube-apiserver")
    try:
        began = time.monotonic()
        with pytest.raises(OSError, match=r"reset|refused|EOF"):
            api.get(NODES)
        assert time.monotonic() - began < 5
    finally:
        change(lab, "start", "node1", "kube-apiserver")
    api.wait(NODES, lambda found: found is not None, "the API again")


def test_another_image_restarts_the_container(api: ClusterApi) -> None:
    spec = {"nodeName": "node2", "containers": [{"name": "c", "image": "a:1"}]}
    api.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "image"}, "spec": spec})
    api.wait(f"{PODS}/image", is_ready, "the pod")
    change = [{"op": "replace", "path": "/spec/containers/0/image", "value": "b:2"}]
    api.request("PATCH", f"{PODS}/image", change, "application/json-patch+json")

    def restarted(pod: dict[str, Any]) -> bool:
        (container,) = pod["status"]["containerStatuses"]
        return bool(container["image"] == "b:2" and container["restartCount"] == 1 and container["ready"])

    api.wait(f"{PODS}/image", restarted, "the container with the other image", within_s=40)


def test_a_name_for_something_outside_has_no_endpoints(api: ClusterApi) -> None:
    outside = {"type": "ExternalName", "externalName": "foo.example.com", "selector": {"app": "cut"}}
    api.create(SERVICES, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "ext"}, "spec": outside})
    api.create(SERVICES, service("after-ext"))
    path = "/api/v1/namespaces/default/endpoints"
    api.wait(f"{path}/after-ext", lambda found: found is not None, "the endpoints of the next service")
    assert "ext" not in api.items(path)


def test_what_is_not_served_says_what_is(api: ClusterApi) -> None:
    with pytest.raises(Refused, match="mininetes exec") as refused:
        api.request("POST", f"{PODS}/node1-1/portforward")
    assert refused.value.code == 405


def test_the_service_range_must_not_overlap_the_pods() -> None:
    done = mininetes("up", "--lab", "overlap", "--set", "network.services=10.244.0.0/20")
    assert done.status == 2, done
    assert "10.244.0.0/20" in done.stderr
    assert "10.244.0.0/16" in done.stderr


def test_the_api_servers_own_default_range_works() -> None:
    with running("--pods", "0", "--set", "network.services=10.0.0.0/24") as small:
        api = ClusterApi(small)
        services = api.items(SERVICES)
        assert services["kubernetes"]["spec"]["clusterIP"] == "10.0.0.1"
        assert api.get("/api/v1/namespaces/kube-system/services/kube-dns")["spec"]["clusterIP"] == "10.0.0.10"
        made = api.create(SERVICES, service("web"))
        assert made["spec"]["clusterIP"].startswith("10.0.0.")
        flags = small.exec("node1", "cat", "/etc/kubernetes/manifests/kube-apiserver.yaml")
        assert "--service-cluster-ip-range=10.0.0.0/24" in flags
        with pytest.raises(Refused) as refused:
            api.create(SERVICES, service("elsewhere", clusterIP="10.96.0.77"))
        assert refused.value.code == 422


def test_three_servers_lose_one_and_nothing_that_was_acknowledged() -> None:
    options = ("--pods", "0", "--set", "controlPlane.store=etcd", "--set", "controlPlane.replicas=3")
    with running(*options, "--set", "nodes={workers: 0}") as three:
        api = ClusterApi(three)
        maps = "/api/v1/namespaces/default/configmaps"

        def write(name: str) -> bool:
            try:
                api.create(maps, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
            except (Refused, OSError):
                return False
            return True

        written = {f"before-{number}" for number in range(20) if write(f"before-{number}")}
        assert len(written) == 20
        port = switch_port(three, "node1")
        three.exec("", "ip", "link", "set", port, "down")
        written |= {f"cut-{number}" for number in range(40) if write(f"cut-{number}")}
        assert any(name.startswith("cut-") for name in written)
        api.wait(f"{NODES}/node2", is_ready, "node2 still Ready", within_s=40)
        api.wait(maps, lambda found: written <= names(found), "all that was acknowledged, during the cut")
        three.exec("", "ip", "link", "set", port, "up")
        api.wait(f"{NODES}/node1", is_ready, "node1 Ready again", within_s=60)
        api.wait(maps, lambda found: written <= names(found), "all that was acknowledged, after the cut")
