"""What a node's files say of its Kubernetes: valid for those who read them, and with the values in force."""

from __future__ import annotations

import configparser
import shlex
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
import yaml

from mininetes.agents.kubeproxy.configuration import kube_proxy_config
from mininetes.agents.node_files import (
    KUBELET_CONFIG,
    KUBELET_DROP_IN,
    KUBELET_FLAGS,
    KUBELET_UNIT,
    PROXY_CONFIG,
    ClusterFacts,
    NodeFacts,
    NodeFile,
    node_files,
    static_pods,
    write,
)
from mininetes.errors import MininetesError
from mininetes.lab import filesystem

CLUSTER = ClusterFacts(
    pods=IPv4Network("10.244.0.0/16"),
    node_prefix=24,
    services=IPv4Network("10.96.0.0/12"),
    node_ports=range(30000, 32768),
    dns=IPv4Address("10.96.0.10"),
)
USERS = {
    user: f"# kubeconfig of {user}\n" for user in ("admin", "kubelet", "kube-controller-manager", "kube-scheduler")
}
MASTER = NodeFacts("node1", IPv4Address("192.168.1.11"), True, USERS, "PEM\n")
WORKER = NodeFacts("node2", IPv4Address("192.168.1.12"), False, {"kubelet": "# kubeconfig\n"}, "PEM\n")


def flags(cluster: ClusterFacts, node: NodeFacts, component: str) -> dict[str, str]:
    """The flags of a manifest, as a reader of the file finds them."""
    pod = yaml.safe_load(node_files(cluster, node)[f"/etc/kubernetes/manifests/{component}.yaml"].text)
    program, *arguments = pod["spec"]["containers"][0]["command"]
    assert program == component
    return dict(argument.removeprefix("--").split("=", 1) for argument in arguments)


def test_a_control_plane_node_has_the_manifests_and_a_worker_has_none() -> None:
    def manifests(node: NodeFacts) -> set[str]:
        return {path.rpartition("/")[2] for path in node_files(CLUSTER, node) if "/manifests/" in path}

    three = {"kube-apiserver.yaml", "kube-controller-manager.yaml", "kube-scheduler.yaml"}
    assert manifests(MASTER) == three
    assert manifests(replace(MASTER, etcd=("etcd", "--name=node1"))) == {*three, "etcd.yaml"}
    assert manifests(WORKER) == set()


def test_the_api_servers_flags_are_those_in_force() -> None:
    found = flags(CLUSTER, MASTER, "kube-apiserver")
    assert found["service-cluster-ip-range"] == "10.96.0.0/12"
    assert found["service-node-port-range"] == "30000-32767"
    assert found["advertise-address"] == "192.168.1.11"
    assert "etcd-servers" not in found
    servers = ("http://192.168.1.11:2379", "http://192.168.1.12:2379")
    cluster = replace(CLUSTER, services=IPv4Network("10.0.0.0/24"))
    found = flags(cluster, replace(MASTER, etcd_servers=servers), "kube-apiserver")
    assert found["service-cluster-ip-range"] == "10.0.0.0/24"
    assert found["etcd-servers"] == "http://192.168.1.11:2379,http://192.168.1.12:2379"


def test_a_line_of_the_manifest_is_found_with_grep() -> None:
    text = node_files(CLUSTER, MASTER)["/etc/kubernetes/manifests/kube-apiserver.yaml"].text
    (line,) = [line for line in text.splitlines() if "cluster-ip-range" in line]
    assert line.strip() == "- --service-cluster-ip-range=10.96.0.0/12"


def test_the_controller_manager_says_the_pod_network() -> None:
    found = flags(CLUSTER, MASTER, "kube-controller-manager")
    assert (found["cluster-cidr"], found["allocate-node-cidrs"], found["node-cidr-mask-size"]) == (
        "10.244.0.0/16", "true", "24",
    )  # fmt: skip


def test_logs_have_their_place_and_level() -> None:
    cluster = replace(CLUSTER, log_directory="/var/log/kubernetes", levels={"kube-scheduler": 5}, level=3)
    found = flags(cluster, MASTER, "kube-scheduler")
    assert (found["log-file"], found["v"]) == ("/var/log/kubernetes/kube-scheduler.log", "5")
    assert flags(cluster, MASTER, "kube-apiserver")["v"] == "3"
    assert "--v=3" in node_files(cluster, WORKER)[KUBELET_DROP_IN].text


def test_more_flags_in_force_are_shown() -> None:
    cluster = replace(CLUSTER, flags={"kube-controller-manager": {"node-monitor-grace-period": "4s"}})
    assert flags(cluster, MASTER, "kube-controller-manager")["node-monitor-grace-period"] == "4s"
    with_runtime = replace(CLUSTER, flags={"kubelet": {"container-runtime-endpoint": "unix:///run/x.sock"}})
    assert "--container-runtime-endpoint=unix:///run/x.sock" in node_files(with_runtime, WORKER)[KUBELET_UNIT].text


def test_manifests_are_pods_in_kube_system_on_the_nodes_network() -> None:
    for pod in static_pods(CLUSTER, replace(MASTER, etcd=("etcd",))):
        assert (pod["kind"], pod["metadata"]["namespace"], pod["spec"]["hostNetwork"]) == ("Pod", "kube-system", True)
        assert pod["metadata"]["labels"] == {"component": pod["metadata"]["name"], "tier": "control-plane"}


def started(text: str) -> list[str]:
    """The command that a unit's text starts, its variables filled in and its lines joined, as systemd reads it."""
    joined = text.replace("\\\n", " ")
    variables = {}
    for line in joined.splitlines():
        if line.startswith("Environment="):
            name, _, value = shlex.split(line.removeprefix("Environment="))[0].partition("=")
            variables[name] = value
    command = [line.removeprefix("ExecStart=") for line in joined.splitlines() if line.startswith("ExecStart=")][-1]
    for name, value in variables.items():
        command = command.replace(f"${name}", value)
    return shlex.split(command)


@pytest.mark.parametrize("path", [KUBELET_UNIT, KUBELET_DROP_IN])
def test_the_kubelets_unit_shows_network_flags(path: str) -> None:
    command = started(node_files(CLUSTER, WORKER)[path].text)
    assert command[0] == "/usr/bin/kubelet"
    assert {"--network-plugin=cni", "--cni-conf-dir=/etc/cni/net.d", "--cni-bin-dir=/opt/cni/bin"} <= set(command)
    assert f"--config={KUBELET_CONFIG}" in command


def test_the_units_are_what_systemd_reads() -> None:
    for path in (KUBELET_UNIT, KUBELET_DROP_IN):
        parser = configparser.RawConfigParser(strict=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(node_files(CLUSTER, WORKER)[path].text)
        assert "ExecStart" in parser["Service"]


def test_what_is_a_nodes_own_comes_from_its_flags_file() -> None:
    text = node_files(CLUSTER, WORKER)[KUBELET_FLAGS].text
    assert shlex.split(text)[0] == "KUBELET_KUBEADM_ARGS=--hostname-override=node2 --node-ip=192.168.1.12"
    assert f"EnvironmentFile=-{KUBELET_FLAGS}" in node_files(CLUSTER, WORKER)[KUBELET_DROP_IN].text


def configuration(cluster: ClusterFacts, path: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(node_files(cluster, WORKER)[path].text)
    return found


def test_the_kubelets_configuration_has_dns_and_domain() -> None:
    found = configuration(CLUSTER, KUBELET_CONFIG)
    assert (found["kind"], found["clusterDNS"], found["clusterDomain"]) == (
        "KubeletConfiguration", ["10.96.0.10"], "cluster.local",
    )  # fmt: skip
    worker = replace(WORKER, kubelet={"maxPods": 7})
    assert yaml.safe_load(node_files(CLUSTER, worker)[KUBELET_CONFIG].text)["maxPods"] == 7


def test_kube_proxys_configuration_has_the_mode_and_the_fields_in_force() -> None:
    found = configuration(CLUSTER, PROXY_CONFIG)
    assert (found["kind"], found["mode"], found["clusterCIDR"]) == (
        "KubeProxyConfiguration",
        "iptables",
        "10.244.0.0/16",
    )
    assert (found["healthzBindAddress"], found["metricsBindAddress"]) == ("0.0.0.0:10256", "127.0.0.1:10249")
    given = {"nodePortAddresses": ["192.168.1.0/24"], "iptables": {"minSyncPeriod": "100ms"}}
    found = configuration(replace(CLUSTER, proxy_mode="nftables", proxy=given), PROXY_CONFIG)
    assert (found["mode"], found["nodePortAddresses"]) == ("nftables", ["192.168.1.0/24"])
    assert (found["iptables"]["minSyncPeriod"], found["iptables"]["syncPeriod"]) == ("0.1s", "30s")
    # read back, it is what is in force
    assert kube_proxy_config(found) == kube_proxy_config({"mode": "nftables", "clusterCIDR": "10.244.0.0/16", **given})


def test_kubeconfigs_are_for_root_alone() -> None:
    files = node_files(CLUSTER, MASTER)
    assert files["/etc/kubernetes/admin.conf"] == NodeFile(USERS["admin"], 0o600)
    assert "/etc/kubernetes/admin.conf" not in node_files(CLUSTER, WORKER)
    assert files["/etc/kubernetes/pki/ca.crt"] == NodeFile("PEM\n")


def test_files_are_written_where_the_node_has_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(filesystem, "NODES", str(tmp_path))
    files = node_files(CLUSTER, MASTER)
    write("node1", files)
    write("node1", files)
    for path, file in files.items():
        written = tmp_path / "node1" / path[1:]
        assert written.read_text() == file.text
        assert written.stat().st_mode & 0o777 == file.mode


def test_a_path_that_all_nodes_share_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(filesystem, "NODES", str(tmp_path))
    with pytest.raises(MininetesError, match="/etc/passwd is not private"):
        write("node1", {"/etc/kubernetes/x": NodeFile(""), "/etc/passwd": NodeFile("")})
    assert list(tmp_path.iterdir()) == []
