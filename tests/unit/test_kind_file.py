"""kind's configuration files: what they mean here, what is only noted, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from mininetes import kind_file
from mininetes.cli.main import cli
from mininetes.errors import BadInput
from mininetes.spec import ClusterSpec, describe, read_cluster_file
from mininetes.testbed.blueprint import draw

HEAD = {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4"}

SMALLEST = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n"
MULTI_NODE = (
    SMALLEST
    + """
# One control plane node and three "workers".
nodes:
- role: control-plane
- role: worker
- role: worker
- role: worker
"""
)
HA = (
    SMALLEST
    + """
nodes:
- role: control-plane
- role: control-plane
- role: control-plane
- role: worker
- role: worker
- role: worker
"""
)
PORTS = (
    SMALLEST
    + """
nodes:
- role: control-plane
  extraPortMappings:
  - containerPort: 80
    hostPort: 80
    listenAddress: "0.0.0.0"
    protocol: udp
"""
)
INGRESS = (
    SMALLEST
    + """
nodes:
- role: control-plane
  kubeadmConfigPatches:
  - |
    kind: InitConfiguration
    nodeRegistration:
      kubeletExtraArgs:
        node-labels: "ingress-ready=true"
"""
)
EVERYTHING = (
    SMALLEST
    + """
name: app-1-cluster
featureGates:
  "CSIMigration": true
runtimeConfig:
  "api/alpha": "false"
networking:
  ipFamily: ipv4
  apiServerAddress: 127.0.0.1
  apiServerPort: 6443
  podSubnet: "10.245.0.0/16"
  serviceSubnet: "10.97.0.0/16"
  disableDefaultCNI: true
  kubeProxyMode: "ipvs"
  dnsSearch: []
nodes:
- role: control-plane
  image: kindest/node:v1.30.0
- role: worker
  labels:
    tier: backend
  extraMounts:
  - hostPath: /path/to/my/files
    containerPath: /files
    readOnly: true
    selinuxRelabel: false
    propagation: None
"""
)


def cluster(text: str) -> ClusterSpec:
    found = kind_file.read(yaml.safe_load(text), "kind.yaml")
    return describe(found.spec, found.name)


def notes(text: str) -> list[str]:
    return [each.partition(":")[0] for each in kind_file.read(yaml.safe_load(text), "kind.yaml").notes]


def roles(spec: ClusterSpec) -> list[tuple[str, str]]:
    return [(node.name, node.role) for node in spec.nodes]


def test_the_smallest_file_is_one_node_with_kinds_names_and_ranges() -> None:
    spec = cluster(SMALLEST)
    assert spec.name == "kind"
    assert roles(spec) == [("kind-control-plane", "control-plane")]
    assert (str(spec.network.pods), str(spec.network.services)) == ("10.244.0.0/16", "10.96.0.0/16")
    assert spec.pods.per_node == 0
    assert notes(SMALLEST) == []
    draw(spec)


def test_nodes_are_called_as_kind_calls_them() -> None:
    workers = [("kind-worker", "worker"), ("kind-worker2", "worker"), ("kind-worker3", "worker")]
    assert roles(cluster(MULTI_NODE)) == [("kind-control-plane", "control-plane"), *workers]
    high = cluster(HA)
    assert [node.name for node in high.masters] == ["kind-control-plane", "kind-control-plane2", "kind-control-plane3"]
    assert len(draw(high).view.nodes) == 6


def test_what_has_no_equivalent_is_noted() -> None:
    assert notes(PORTS) == ["nodes[0].extraPortMappings is ignored"]
    assert notes(INGRESS) == ["nodes[0].kubeadmConfigPatches is ignored"]
    assert notes(EVERYTHING) == [
        "featureGates is ignored",
        "runtimeConfig is ignored",
        "networking.disableDefaultCNI",
        "networking.apiServerPort is ignored",
        "networking.dnsSearch is ignored",
        "nodes[0].image is ignored",
        "nodes[1].extraMounts is ignored",
    ]


def test_all_that_has_an_equivalent_is_taken_over() -> None:
    spec = cluster(EVERYTHING)
    assert spec.name == "app-1-cluster"
    assert roles(spec) == [("app-1-cluster-control-plane", "control-plane"), ("app-1-cluster-worker", "worker")]
    assert spec.nodes[1].labels == {"tier": "backend"}
    assert (str(spec.network.pods), str(spec.network.services)) == ("10.245.0.0/16", "10.97.0.0/16")
    assert (spec.proxy.mode, spec.fabric.name) == ("ipvs", "none")


@pytest.mark.parametrize("mode", ["iptables", "ipvs", "nftables"])
def test_modes(mode: str) -> None:
    assert cluster(f"{SMALLEST}networking: {{kubeProxyMode: {mode}}}").proxy.mode == mode


def test_without_a_proxy_a_program_that_does_nothing_has_its_place() -> None:
    text = f"{SMALLEST}networking: {{kubeProxyMode: none}}"
    assert cluster(text).proxy.exec == ("sleep", "infinity")
    assert notes(text) == ["networking.kubeProxyMode none"]


@pytest.mark.parametrize("pods", ["192.168.0.0/16", "172.16.0.0/12"])
def test_nodes_keep_out_of_the_pods_way(pods: str) -> None:
    spec = cluster(f"{SMALLEST}networking: {{podSubnet: {pods}}}")
    assert str(spec.network.pods) == pods
    assert not spec.network.nodes.overlaps(spec.network.pods)
    draw(spec)


WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "version": ({"apiVersion": "kind.x-k8s.io/v1alpha3"}, ["apiVersion", "v1alpha3", "kind.x-k8s.io/v1alpha4"]),
    "kind": ({"kind": "Clusters"}, ["kind", "Clusters"]),
    "key": ({"networkin": {}}, ["k.yaml: networkin", "did you mean 'networking'"]),
    "key of a node": ({"nodes": [{"rol": "worker"}]}, ["nodes[0].rol", "did you mean 'role'"]),
    "key of networking": ({"networking": {"colour": 1}}, ["networking.colour", "kind knows here", "podSubnet"]),
    "role": ({"nodes": [{"role": "master"}]}, ["nodes[0].role", "'master'", "control-plane or worker"]),
    "nodes by number": ({"nodes": 3}, ["k.yaml: nodes", "a list"]),
    "no nodes": ({"nodes": []}, ["k.yaml: nodes", "a list"]),
    "a node that is a word": ({"nodes": ["worker"]}, ["nodes[0]", "a mapping"]),
    "workers alone": ({"nodes": [{"role": "worker"}]}, ["k.yaml: nodes", "control-plane"]),
    "labels": ({"nodes": [{"labels": {"a": True}}]}, ["nodes[0].labels", "quotes"]),
    "IPv6": ({"networking": {"ipFamily": "ipv6"}}, ["networking.ipFamily", "'ipv6'", "not supported yet"]),
    "both": ({"networking": {"ipFamily": "dual"}}, ["networking.ipFamily", "'dual'", "not supported yet"]),
    "pods": ({"networking": {"podSubnet": "fd00::/64"}}, ["networking.podSubnet", "fd00::/64", "IPv4"]),
    "services": ({"networking": {"serviceSubnet": 10}}, ["networking.serviceSubnet", "10", "IPv4"]),
    "mode": ({"networking": {"kubeProxyMode": "ebpf"}}, ["networking.kubeProxyMode", "'ebpf'", "nftables"]),
    "no truth": ({"networking": {"disableDefaultCNI": "yes"}}, ["networking.disableDefaultCNI", "true or false"]),
    "networking": ({"networking": []}, ["k.yaml: networking", "a mapping"]),
    "name": ({"name": ["a"]}, ["k.yaml: name"]),
    "name that no lab may have": ({"name": "My_cluster"}, ["k.yaml: name: 'My_cluster'", "lower-case"]),
    "pods within a node's part": (
        {"networking": {"podSubnet": "10.1.0.0/24"}},
        ["k.yaml: networking.podSubnet: '10.1.0.0/24'", "a /24"],
    ),
    "pods that are services": (
        {"networking": {"podSubnet": "10.96.0.0/12"}},
        ["k.yaml: networking.podSubnet: '10.96.0.0/12'", "overlap networking.serviceSubnet (10.96.0.0/16)"],
    ),
    "pods outside": (
        {"networking": {"podSubnet": "203.0.0.0/16"}},
        ["k.yaml: networking.podSubnet: '203.0.0.0/16'", "outside"],
    ),
    "services that are load balancers'": (
        {"networking": {"serviceSubnet": "198.51.0.0/16"}},
        ["k.yaml: networking.serviceSubnet: '198.51.0.0/16'", "overlap the addresses of load balancers"],
    ),
    "services on the loopback": (
        {"networking": {"serviceSubnet": "127.0.0.0/16"}},
        ["k.yaml: networking.serviceSubnet", "loopback"],
    ),
    "too few services": (
        {"networking": {"serviceSubnet": "10.97.0.0/29"}},
        ["k.yaml: networking.serviceSubnet", "16 addresses"],
    ),
    "too few pods": (
        {"networking": {"podSubnet": "10.1.0.0/23"}, "nodes": [{}, {"role": "worker"}]},
        ["k.yaml: networking.podSubnet: '10.1.0.0/23'", "2 nodes"],
    ),
    "no room for nodes": (
        {"networking": {"podSubnet": "0.0.0.0/0"}},
        ["k.yaml: networking.podSubnet", "192.168.1.0/24", "to the nodes"],
    ),
}


def test_no_error_names_a_field_that_kinds_files_lack(tmp_path: Path) -> None:
    path = tmp_path / "kind.yaml"
    for content, _ in WRONG.values():
        path.write_text(yaml.safe_dump({**HEAD, **content}))
        done = CliRunner().invoke(cli, ["validate", str(path)], standalone_mode=False)
        assert isinstance(done.exception, BadInput)
        assert "spec." not in str(done.exception)


LABELS = {"labels": {"tier": "a b"}}
MANY = {"nodes": [{}, *[{"role": "worker"}] * 1100], "networking": {"podSubnet": "10.128.0.0/9"}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"nodes": [{}, LABELS]}, "nodes[1].labels.tier: 'a b' is not valid"),
        ({"nodes": [{"labels": {"a b": "c"}}]}, "nodes[0].labels: 'a b' is not valid"),
        (MANY, "nodes: 1101 is not valid: fewer: s1 would have 1102 ports"),
    ],
)
def test_nor_does_what_is_seen_only_when_all_is_put_together(content: dict[str, Any], words: str) -> None:
    found = kind_file.read({**HEAD, **content}, "k.yaml")
    with pytest.raises(BadInput) as refused:
        draw(describe(found.spec, found.name))
    assert str(refused.value).startswith(f"k.yaml: {words}")


def test_nodes_by_flag_are_no_longer_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "kind.yaml"
    path.write_text(yaml.safe_dump({**HEAD, **MANY}))
    done = CliRunner().invoke(cli, ["graph", str(path), "--nodes", "1100"], standalone_mode=False)
    assert str(done.exception).startswith("spec.nodes: 1100 is not valid: fewer")


def test_many_nodes_get_a_network_with_room_for_them() -> None:
    nodes = [{"role": "control-plane"}, *({"role": "worker"} for _ in range(299))]
    found = kind_file.read({**HEAD, "nodes": nodes, "networking": {"podSubnet": "10.128.0.0/9"}}, "k.yaml")
    assert str(describe(found.spec, found.name).network.nodes) == "172.18.0.0/16"


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_refused_by_name(case: str) -> None:
    content, words = WRONG[case]
    with pytest.raises(BadInput) as refused:
        kind_file.read({**HEAD, **content}, "k.yaml")
    assert [word for word in words if word not in str(refused.value)] == [], refused.value


def test_every_key_of_kinds_is_known() -> None:
    every = yaml.safe_load(EVERYTHING)
    patches = ("kubeadmConfigPatches", "kubeadmConfigPatchesJSON6902")
    more = (*patches, "containerdConfigPatches", "containerdConfigPatchesJSON6902")
    node = {"role": "control-plane", "extraPortMappings": [], **{key: [] for key in patches}}
    kind_file.read({**every, "nodes": [*every["nodes"], node], **{key: [] for key in more}}, "k.yaml")


def test_it_is_accepted_wherever_a_cluster_file_is(tmp_path: Path) -> None:
    path = tmp_path / "kind.yaml"
    path.write_text(PORTS)
    told: list[str] = []
    name, spec = read_cluster_file(path, told.append)
    assert (name, len(spec["nodes"]), len(told)) == ("kind", 1, 1)
    for arguments in (["validate", str(path)], ["up", "--dry-run", str(path)], ["graph", str(path)]):
        done = CliRunner().invoke(cli, arguments, standalone_mode=False)
        assert done.exception is None, done.exception
        assert done.stderr == f"mininetes: {path}: {told[0]}\n"
    assert "kind-control-plane" in done.stdout


def test_flags_count_more_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "kind.yaml"
    path.write_text(EVERYTHING)
    options = ["up", "--dry-run", str(path), "--fabric", "static", "--proxy", "iptables", "--pods", "1"]
    done = CliRunner().invoke(cli, options, standalone_mode=False)
    assert "ip -n app-1-cluster-worker route replace 10.245.1.0/24" in done.stdout
