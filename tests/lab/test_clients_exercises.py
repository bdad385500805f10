"""The exercises of an administrator's networking course, word for word, inside a node and by kubectl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import kubectls
import pytest
import yaml
from kubectls import ANY, WITH_WEBSOCKET, Kubectl
from running_lab import RunningLab, running


@pytest.fixture(scope="module")
def kubectl(three_nodes: RunningLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    client = WITH_WEBSOCKET[0] if WITH_WEBSOCKET else ANY
    with kubectls.set_up(three_nodes, client, tmp_path_factory.mktemp("exercises")) as made:
        yield made.told({"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "true"})


def shell(lab: RunningLab, node: str, line: str) -> str:
    """A line of shell in a node, as a person types it."""
    return lab.exec(node, "sh", "-c", line)


def test_which_network_solution_is_used(three_nodes: RunningLab) -> None:
    (name,) = shell(three_nodes, "node1", "ls /etc/cni/net.d").split()
    assert json.loads(shell(three_nodes, "node1", f"cat /etc/cni/net.d/{name}"))["plugins"][0]["type"] == "bash-bridge"


def test_which_is_the_bridge_and_what_is_its_address(three_nodes: RunningLab) -> None:
    links = shell(three_nodes, "node2", "ip link")
    assert ": cni0: <" in links
    assert ": eth0@" in links
    assert " master cni0 " in links
    assert "inet 10.244.2.1/24" in shell(three_nodes, "node2", "ip address show cni0")


def test_what_is_the_pods_gateway(kubectl: Kubectl) -> None:
    with kubectls.namespace(kubectl, "gateway") as own:
        own.apply(kubectls.talking_pod("busybox", "exec sleep 3600", node="node3"))
        own("wait", "--for=condition=Ready", "pod/busybox", "--timeout=20s")
        assert "default via 10.244.3.1 dev eth0" in own("exec", "busybox", "--", "ip", "route")
        line = next(each for each in own("exec", "busybox", "--", "route", "-n").splitlines() if "UG" in each)
        assert line.split()[:2] == ["0.0.0.0", "10.244.3.1"]


def test_which_is_the_proxys_mode(kubectl: Kubectl) -> None:
    pods = [each["metadata"]["name"] for each in kubectl.json("get", "pods", "-n", "kube-system")["items"]]
    proxies = [name for name in pods if name.startswith("kube-proxy-")]
    assert len(proxies) == 3
    for name in proxies:
        log = kubectl("logs", "-n", "kube-system", name)
        assert "iptables" in next(line for line in log.splitlines() if "Proxier" in line)


def test_the_components_are_pods_with_logs(kubectl: Kubectl) -> None:
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        (row,) = kubectl.rows("get", "pods", "-n", "kube-system", f"{name}-node1", "-o", "wide")
        assert (row["READY"], row["STATUS"], row["IP"], row["NODE"]) == ("1/1", "Running", "192.168.1.11", "node1")
        assert kubectl("logs", "-n", "kube-system", f"{name}-node1")


def test_which_is_the_range_of_services(three_nodes: RunningLab) -> None:
    line = "cat /etc/kubernetes/manifests/kube-apiserver.yaml | grep cluster-ip-range"
    assert shell(three_nodes, "node1", line).strip() == "- --service-cluster-ip-range=10.96.0.0/12"


def test_which_range_do_pods_have(three_nodes: RunningLab) -> None:
    line = "cat /etc/kubernetes/manifests/kube-controller-manager.yaml | grep cluster-cidr"
    assert shell(three_nodes, "node1", line).strip() == "- --cluster-cidr=10.244.0.0/16"


def test_how_is_the_kubelet_set_up(three_nodes: RunningLab) -> None:
    for path in ("kubelet.service", "kubelet.service.d/10-kubeadm.conf"):
        text = shell(three_nodes, "node2", f"cat /etc/systemd/system/{path}")
        for flag in ("--network-plugin=cni", "--cni-conf-dir=/etc/cni/net.d", "--cni-bin-dir=/opt/cni/bin"):
            assert flag in text, path
    assert "node-ip=192.168.1.12" in shell(three_nodes, "node2", "cat /var/lib/kubelet/kubeadm-flags.env")
    found = yaml.safe_load(shell(three_nodes, "node2", "cat /var/lib/kubelet/config.yaml"))
    assert (found["clusterDNS"], found["clusterDomain"]) == (["10.96.0.10"], "cluster.local")
    assert (found["nodeStatusUpdateFrequency"], found["nodeLeaseDurationSeconds"]) == ("10s", 40)
    assert "bash-bridge" in shell(three_nodes, "node2", "ls /opt/cni/bin").split()


def test_how_is_the_proxy_set_up(three_nodes: RunningLab) -> None:
    found = yaml.safe_load(shell(three_nodes, "node3", "cat /var/lib/kube-proxy/config.conf"))
    assert (found["mode"], found["clusterCIDR"]) == ("iptables", "10.244.0.0/16")
    assert "iptables" in shell(three_nodes, "node3", "cat /var/log/kube-proxy.log")


def test_routes_and_neighbours(three_nodes: RunningLab) -> None:
    routes = [line.split() for line in shell(three_nodes, "node1", "route -n").splitlines()]
    assert ["10.244.2.0", "192.168.1.12"] in [line[:2] for line in routes]
    assert ["0.0.0.0", "192.168.1.1"] in [line[:2] for line in routes]
    three_nodes.exec("node1", "ping", "-c", "1", "-W", "2", "192.168.1.12")
    arp = {line.split()[0]: line for line in shell(three_nodes, "node1", "arp -n").splitlines()}
    assert "02:00:c0:a8:01:0c" in arp["192.168.1.12"]


def test_which_ports_do_components_listen_at(three_nodes: RunningLab) -> None:
    def listening(node: str) -> set[str]:
        lines = shell(three_nodes, node, "netstat -ltn").splitlines()
        return {line.split()[3].rpartition(":")[2] for line in lines if "LISTEN" in line}

    assert {"6443", "10250", "10248", "10256", "10249", "10257", "10259"} <= listening("node1")
    assert {"10250", "10256"} <= listening("node2")
    assert not {"6443", "10257", "10259", "2379", "2380"} & listening("node2")


def test_kubectl_works_inside_a_node(three_nodes: RunningLab) -> None:
    config = "--kubeconfig=/etc/kubernetes/admin.conf"
    kubectl = [ANY.path, config, "--cache-dir=/run/kubectl-cache"]
    rows = three_nodes.exec("node1", *kubectl, "get", "nodes", "--no-headers").splitlines()
    assert [line.split()[:2] for line in rows] == [[name, "Ready"] for name in three_nodes.nodes]
    three_nodes.exec("node1", "openssl", "x509", "-in", "/etc/kubernetes/pki/ca.crt", "-noout", "-subject")


def test_another_range_of_services_and_another_place_for_logs(tmp_path: Path) -> None:
    settings = ("network.services=10.0.0.0/24", "logging.directory=/var/log/kubernetes", "logging.level=4")
    with running("--pods", "1", *(part for setting in settings for part in ("--set", setting))) as lab:
        line = "cat /etc/kubernetes/manifests/kube-apiserver.yaml | grep -e cluster-ip-range -e '--v='"
        assert shell(lab, "node1", line).split() == ["-", "--service-cluster-ip-range=10.0.0.0/24", "-", "--v=4"]
        assert shell(lab, "node1", "ls /var/log/kubernetes").split()
        with kubectls.set_up(lab, ANY, tmp_path) as kubectl:
            (row,) = kubectl.rows("get", "service", "kubernetes")
            assert row["CLUSTER-IP"] == "10.0.0.1"
            assert "clusterDNS:\n- 10.0.0.10" in shell(lab, "node2", "cat /var/lib/kubelet/config.yaml")
