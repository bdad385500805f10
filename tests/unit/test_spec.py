"""Descriptions of clusters: defaults, what flags override, and every bad input with the words that it gets."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from mininetes.addressing import BLOCKED, LOAD_BALANCERS, NODES, OUTSIDE, PODS, SERVICES
from mininetes.cli.options import description
from mininetes.errors import BadInput
from mininetes.spec import ClusterSpec, describe, read_cluster_file

CLUSTERS = Path(__file__).parents[2] / "topologies" / "clusters"
HEAD = {"apiVersion": "mininetes/v1", "kind": "Cluster"}


def refused(spec: Any) -> BadInput:
    with pytest.raises(BadInput) as caught:
        describe(spec)
    return caught.value


# --- what is asked for by saying nothing --------------------------------------------------------------------------


def test_without_a_wish_there_are_three_nodes_with_four_pods_on_static_routes() -> None:
    spec = describe({})
    assert [(node.name, node.role) for node in spec.nodes] == [
        ("node1", "control-plane"),
        ("node2", "worker"),
        ("node3", "worker"),
    ]
    assert (spec.underlay_name, spec.fabric.name, spec.cni) == ("three_node", "static", "bash-bridge.conflist")
    assert spec.pods.per_node == 4
    net = spec.network
    assert (net.nodes, net.pods, net.services) == (NODES, PODS, SERVICES)
    assert (net.load_balancers, net.node_prefix, net.node_ports) == (LOAD_BALANCERS, 24, "30000-32767")


def test_the_control_plane_comes_first_and_may_have_several_nodes() -> None:
    spec = describe({"nodes": {"controlPlane": 2, "workers": 1}})
    assert [node.role for node in spec.nodes] == ["control-plane", "control-plane", "worker"]


def test_nodes_can_be_named() -> None:
    spec = describe({"nodes": [{"name": "a", "zone": "z", "labels": {"disk": "ssd"}}, {"name": "b"}]})
    assert [node.name for node in spec.nodes] == ["a", "b"]
    assert (spec.nodes[0].zone, dict(spec.nodes[0].labels)) == ("z", {"disk": "ssd"})


def test_other_numbers_of_nodes_get_a_star_unless_said_otherwise() -> None:
    assert describe({"nodes": {"workers": 4}}).underlay_name == "single_switch"
    assert describe({"nodes": {"workers": 4}, "underlay": "racks"}).underlay_name == "racks"


def test_a_description_is_frozen_and_goes_through_json_unchanged() -> None:
    spec = describe({"nodes": [{"name": "a"}], "underlay": {"name": "racks", "parameters": {"racks": 1}}}, "lab7")
    with pytest.raises(ValidationError):
        spec.cni = "other"  # type: ignore[misc]
    assert ClusterSpec.model_validate(spec.model_dump(mode="json", by_alias=True)) == spec


@pytest.mark.parametrize("path", sorted(CLUSTERS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_ready_made_cluster_is_valid(path: Path) -> None:
    name, content = read_cluster_file(path)
    assert describe(content, name).name == name


# --- ranges that overlap ------------------------------------------------------------------------------------------

DEFAULT_RANGES = {"nodes": NODES, "pods": PODS, "services": SERVICES, "loadBalancers": LOAD_BALANCERS}


def pairs_of_ranges() -> list[Any]:
    return [pytest.param(a, b, id=f"{a}-{b}") for a, b in combinations(DEFAULT_RANGES, 2)]


@pytest.mark.parametrize("kind", ["the same", "within", "around"])
@pytest.mark.parametrize(("first", "second"), pairs_of_ranges())
def test_overlapping_ranges_are_refused_naming_both(first: str, second: str, kind: str) -> None:
    other = DEFAULT_RANGES[second]
    network = {"the same": other, "within": next(other.subnets(2)), "around": other.supernet(2)}[kind]
    error = refused({"network": {first: str(network)}})
    assert error.exit_status == 2
    text = str(error)
    assert f"spec.network.{first}" in text
    assert f"spec.network.{second}" in text
    assert str(network) in text
    assert str(other) in text
    assert "overlap" in text


@pytest.mark.parametrize("outside", [OUTSIDE, BLOCKED], ids=["outside", "blocked"])
@pytest.mark.parametrize("field", DEFAULT_RANGES)
def test_ranges_may_not_overlap_the_outside_either(field: str, outside: IPv4Network) -> None:
    text = str(refused({"network": {field: str(outside.supernet(8))}}))
    assert f"spec.network.{field}" in text
    assert "outside" in text


def test_ranges_that_touch_do_not_overlap() -> None:
    net = describe({"network": {"pods": "10.80.0.0/12", "services": "10.96.0.0/12"}}).network
    assert net.pods.broadcast_address + 1 == net.services.network_address


def test_the_service_range_of_kube_apiservers_own_default_works() -> None:
    assert describe({"network": {"services": "10.0.0.0/24"}}).network.services == IPv4Network("10.0.0.0/24")


# --- everything else that is wrong: field, value, and a word of what is right -------------------------------------


@dataclass(frozen=True)
class Wrong:
    """A bad ``spec``, and what its one error must contain: the field, the value, and what would be right."""

    spec: Any
    field: str
    value: str
    right: str


def net(**fields: Any) -> dict[str, Any]:
    return {"network": fields}


def nodes(*listed: Any) -> dict[str, Any]:
    return {"nodes": list(listed)}


BAD = {
    # too small for what is asked
    "pods' network too small for the nodes": Wrong(
        net(pods="10.244.0.0/23"), "spec.network.pods", "10.244.0.0/23", "3"
    ),
    "nodes' network too small": Wrong(net(nodes="192.168.1.0/29"), "spec.network.nodes", "192.168.1.0/29", "3 nodes"),
    "nodes' network of one address": Wrong(net(nodes="192.168.1.0/32"), "spec.network.nodes", "/32", "3 nodes"),
    "more nodes than the network has": Wrong(
        {"nodes": {"workers": 244}}, "spec.network.nodes", "192.168.1.0/24", "244"
    ),
    "more pods than a node has addresses": Wrong({"pods": {"perNode": 254}}, "spec.pods.perNode", "254", "253"),
    "more pods than a small prefix has": Wrong(
        {"network": {"nodePrefix": 29}, "pods": {"perNode": 6}}, "spec.pods.perNode", "6", "5"
    ),
    "node prefix as large as the network": Wrong(net(nodePrefix=16), "spec.network.nodePrefix", "16", "17"),
    "node prefix without room": Wrong(net(nodePrefix=31), "spec.network.nodePrefix", "31", "30"),
    # the control plane and its agents
    "a store that is none of ours": Wrong(
        {"controlPlane": {"store": "redis"}}, "spec.controlPlane.store", "redis", "etcd"
    ),
    "etcd on two nodes": Wrong(
        {"nodes": {"controlPlane": 2}, "controlPlane": {"store": "etcd"}}, "spec.controlPlane.replicas", "2", "1 or 3"
    ),
    "more replicas than control-plane nodes": Wrong(
        {"nodes": {"controlPlane": 1}, "controlPlane": {"replicas": 3}}, "spec.controlPlane.replicas", "3", "at most"
    ),
    "replicas of nothing": Wrong(
        {"controlPlane": {"store": "none", "replicas": 1}}, "spec.controlPlane.replicas", "1", "left out"
    ),
    "no control-plane node": Wrong({"nodes": {"controlPlane": 0}}, "spec.nodes", "", "store: none"),
    "a firewall of another make": Wrong({"firewall": "calico"}, "spec.firewall", "calico", "kubernetes"),
    "a back end that is none": Wrong({"proxy": {"backend": "bpf"}}, "spec.proxy.backend", "bpf", "legacy"),
    "a program beside a mode": Wrong(
        {"proxy": {"exec": ["my-proxy", "-v"], "mode": "nftables"}},
        "spec.proxy.mode",
        "nftables",
        "my-proxy -v decides",
    ),
    "a program beside a back end": Wrong(
        {"proxy": {"exec": ["my-proxy"], "backend": "nft"}}, "spec.proxy.backend", "nft", "left out with exec"
    ),
    "a program beside kube-proxy's configuration": Wrong(
        {"proxy": {"exec": ["my-proxy"], "config": {"bindAddress": "0.0.0.0"}}},
        "spec.proxy.config",
        "bindAddress",
        "left",
    ),
    "a proxy's program without an API": Wrong(
        {"proxy": {"exec": ["my-proxy"]}, "controlPlane": {"store": "none"}},
        "spec.proxy.exec",
        "my-proxy",
        "kubeconfig",
    ),
    "a proxy's program as one text": Wrong(
        {"proxy": {"exec": "my-proxy -v"}}, "spec.proxy.exec", "my-proxy -v", "a list"
    ),
    "a proxy that is a program without a word": Wrong(
        {"proxy": {"exec": []}}, "spec.proxy", "", "exec needs a program"
    ),
    "two proxy modes": Wrong(
        {"proxy": {"mode": "ipvs", "config": {"mode": "iptables"}}}, "spec.proxy.config.mode", "iptables", "ipvs"
    ),
    "an empty word in a proxy's program": Wrong({"proxy": {"exec": [""]}}, "spec.proxy.exec[0]", "''", "1 character"),
    "logs elsewhere": Wrong({"logging": {"directory": "/home"}}, "spec.logging.directory", "/home", "/var/log"),
    "logs in a folder with a like name": Wrong(
        {"logging": {"directory": "/var/logs"}}, "spec.logging.directory", "/var/logs", "/var/log"
    ),
    "logs beside the folder": Wrong(
        {"logging": {"directory": "/var/log/../lib"}}, "spec.logging.directory", "/var/log/../lib", "/var/log"
    ),
    "a level of nobody": Wrong({"logging": {"levels": {"kubectl": 3}}}, "spec.logging.levels.kubectl", "", "kubelet"),
    "no room for the tenth service": Wrong(net(services="10.96.0.0/29"), "spec.network.services", "10.96.0.0/29", "16"),
    "a level that is too high": Wrong({"logging": {"level": 11}}, "spec.logging.level", "11", "10"),
    "a hold of another kind": Wrong({"pods": {"hold": "file"}}, "spec.pods.hold", "file", "mount"),
    # names and numbers of nodes
    "two nodes of one name": Wrong(nodes({"name": "a"}, {"name": "a"}), "spec.nodes[1].name", "'a'", "no other node"),
    "capitals in a name": Wrong(nodes({"name": "Node1"}), "spec.nodes[0].name", "Node1", "host name"),
    "underscore in a name": Wrong(nodes({"name": "a_b"}), "spec.nodes[0].name", "a_b", "host name"),
    "hyphen at the end": Wrong(nodes({"name": "a-"}), "spec.nodes[0].name", "a-", "host name"),
    "dot in a name": Wrong(nodes({"name": "a.b"}), "spec.nodes[0].name", "a.b", "host name"),
    "empty name": Wrong(nodes({"name": ""}), "spec.nodes[0].name", "''", "host name"),
    "name that is too long": Wrong(nodes({"name": "x" * 64}), "spec.nodes[0].name", "x" * 64, "63"),
    "name with a newline": Wrong(nodes({"name": "a\n"}), "spec.nodes[0].name", "a\\n", "host name"),
    "no nodes in the list": Wrong({"nodes": []}, "spec.nodes", "0", "at least 1"),
    "0 nodes": Wrong({"nodes": {"workers": 0, "controlPlane": 0}}, "spec.nodes", "0", "at least 1"),
    "a hundred million workers": Wrong(
        {"nodes": {"workers": 100_000_000}}, "spec.nodes.workers", "100000000", "at most 5000"
    ),
    "a hundred million of the control plane": Wrong(
        {"nodes": {"controlPlane": 10**8}}, "spec.nodes.controlPlane", "100000000", "Kubernetes"
    ),
    "a hundred million replicas": Wrong(
        {"controlPlane": {"replicas": 10**8}}, "spec.controlPlane.replicas", "100000000", "at most 5000"
    ),
    "as many nodes as there may be, without addresses for them": Wrong(
        {"nodes": {"workers": 4999}}, "spec.network.pods", "10.244.0.0/16", "5000 nodes"
    ),
    "fewer than 0 workers": Wrong({"nodes": {"workers": -1}}, "spec.nodes.workers", "-1", "0"),
    # unknown keys, at each level, with a hint
    "unknown key at the top": Wrong({"fabrik": "static"}, "spec.fabrik", "fabrik", "did you mean 'fabric'"),
    "unknown key like nothing": Wrong({"zzz": 1}, "spec.zzz", "zzz", "known here: nodes, network"),
    "unknown key of network": Wrong(net(service="10.96.0.0/12"), "spec.network.service", "service", "'services'"),
    "unknown key of nodes": Wrong({"nodes": {"wrkers": 1}}, "spec.nodes.wrkers", "wrkers", "'workers'"),
    "unknown key of a node": Wrong(nodes({"name": "a", "rol": "worker"}), "spec.nodes[0].rol", "rol", "'role'"),
    "unknown key of underlay": Wrong(
        {"underlay": {"name": "racks", "param": {}}}, "spec.underlay.param", "param", "'p"
    ),
    "unknown key of fabric": Wrong(
        {"fabric": {"name": "static", "paramters": {}}}, "spec.fabric.paramters", "paramters", "'parameters'"
    ),
    "unknown key of pods": Wrong({"pods": {"pernode": 3}}, "spec.pods.pernode", "pernode", "'perNode'"),
    "unknown key of outside": Wrong({"outside": {"client": 3}}, "spec.outside.client", "client", "'clients'"),
    "the name in the wrong place": Wrong({"name": "lab1"}, "spec.name", "name", "metadata"),
    # wrong types and values
    "words for a number of nodes": Wrong({"nodes": "three"}, "spec.nodes", "three", "workers"),
    "a bare number of nodes": Wrong({"nodes": 3}, "spec.nodes", "3", "workers"),
    "words for workers": Wrong({"nodes": {"workers": "many"}}, "spec.nodes.workers", "many", "integer"),
    "nodes as bare names": Wrong(nodes("a"), "spec.nodes[0]", "'a'", "mapping"),
    "a node without a name": Wrong(nodes({}), "spec.nodes[0].name", "", "required"),
    "a node's name as a number": Wrong(nodes({"name": 7}), "spec.nodes[0].name", "7", "string"),
    "an unknown role": Wrong(nodes({"name": "a", "role": "master"}), "spec.nodes[0].role", "master", "control-plane"),
    "a label that is no text": Wrong(nodes({"name": "a", "labels": {"x": 1}}), "spec.nodes[0].labels.x", "1", "string"),
    "a label's key that the API refuses": Wrong(
        nodes({"name": "a", "labels": {"bad key!": "x"}}), "spec.nodes[0].labels", "bad key!", "alphanumeric"
    ),
    "a label's prefix that the API refuses": Wrong(
        nodes({"name": "a", "labels": {"A_b/x": "x"}}), "spec.nodes[0].labels", "A_b/x", "prefix part"
    ),
    "a label's value that the API refuses": Wrong(
        nodes({"name": "a"}, {"name": "b", "labels": {"a/x": "x y"}}), "spec.nodes[1].labels.a/x", "x y", "valid label"
    ),
    "a label's value that is too long": Wrong(
        nodes({"name": "a", "labels": {"x": "y" * 64}}), "spec.nodes[0].labels.x", "y" * 64, "63 characters"
    ),
    "a zone that the API refuses": Wrong(nodes({"name": "a", "zone": "x y"}), "spec.nodes[0].zone", "x y", "label"),
    "a published port as a number": Wrong(
        {"containers": [{"name": "c", "publish": [8080]}]}, "spec.containers[0].publish[0]", "8080", "HOST_PORT:PORT"
    ),
    "words for pods": Wrong({"pods": {"perNode": "many"}}, "spec.pods.perNode", "many", "integer"),
    "half a pod": Wrong({"pods": {"perNode": 2.5}}, "spec.pods.perNode", "2.5", "integer"),
    "true pods": Wrong({"pods": {"perNode": True}}, "spec.pods.perNode", "True", "integer"),
    "fewer than 0 pods": Wrong({"pods": {"perNode": -1}}, "spec.pods.perNode", "-1", "0"),
    "pods as a number": Wrong({"pods": 4}, "spec.pods", "4", "mapping"),
    "port 0": Wrong({"pods": {"port": 0}}, "spec.pods.port", "0", "1"),
    "port beyond the last": Wrong({"pods": {"port": 65536}}, "spec.pods.port", "65536", "65535"),
    "a network without a name": Wrong({"networks": [{"driver": "bridge"}]}, "spec.networks[0].name", "", "required"),
    "a network of IPv6": Wrong(
        {"networks": [{"name": "n", "subnet": "fd00::/64"}]},
        "spec.networks[0].subnet",
        "fd00::/64",
        "IPv6 is not supported yet",
    ),
    "unknown key of a network": Wrong(
        {"networks": [{"name": "n", "subnets": "10.9.0.0/24"}]}, "spec.networks[0].subnets", "subnets", "'subnet'"
    ),
    "a container's port": Wrong({"containers": [{"name": "c", "port": 0}]}, "spec.containers[0].port", "0", "1"),
    "too many clients outside": Wrong({"outside": {"clients": 121}}, "spec.outside.clients", "121", "120"),
    "a range that is a word": Wrong(net(pods="banana"), "spec.network.pods", "banana", "10.0.0.0/16"),
    "a range that is a number": Wrong(net(pods=5), "spec.network.pods", "5", "10.0.0.0/16"),
    "a range that is missing": Wrong(net(pods=None), "spec.network.pods", "None", "network"),
    "a range with host bits": Wrong(net(pods="10.244.1.0/16"), "spec.network.pods", "10.244.1.0/16", "10.244.0.0/16"),
    "a prefix that is a word": Wrong(net(nodePrefix="x"), "spec.network.nodePrefix", "'x'", "integer"),
    "node ports as one number": Wrong(net(nodePorts=30000), "spec.network.nodePorts", "30000", "30000-32767"),
    "node ports backwards": Wrong(net(nodePorts="9-1"), "spec.network.nodePorts", "9-1", "30000-32767"),
    "node ports beyond the last": Wrong(net(nodePorts="1-65536"), "spec.network.nodePorts", "1-65536", "30000-32767"),
    "network as a word": Wrong({"network": "big"}, "spec.network", "big", "mapping"),
    "underlay as a number": Wrong({"underlay": 5}, "spec.underlay", "5", "mapping"),
    "underlay whose name is none": Wrong({"underlay": {"name": 5}}, "spec.underlay.name", "5", "string"),
    "parameters as a number": Wrong(
        {"underlay": {"name": "racks", "parameters": 3}}, "spec.underlay.parameters", "3", "mapping"
    ),
    "cni as a number": Wrong({"cni": 7}, "spec.cni", "7", "string"),
    # refused by name for now
    **{
        f"IPv6 {field}": Wrong(net(**{field: "fd00:10::/48"}), f"spec.network.{field}", "fd00:10::/48", "IPv6")
        for field in DEFAULT_RANGES
    },
}


@pytest.mark.parametrize("wrong", BAD.values(), ids=list(BAD))
def test_bad_input_gets_one_error_with_field_value_and_what_is_right(wrong: Wrong) -> None:
    error = refused(wrong.spec)
    assert error.exit_status == 2
    text = str(error)
    assert text.startswith(wrong.field + ":")
    assert wrong.value in text
    assert wrong.right in text
    assert "\n" not in text


def test_every_range_and_every_part_of_a_description_is_in_the_table() -> None:
    fields = {wrong.field.split(".")[1].split("[")[0] for wrong in BAD.values()}
    model = {field.alias or name for name, field in ClusterSpec.model_fields.items()}
    assert model - fields == set()


def test_a_proxys_agent_is_called_kube_proxy_or_as_the_program_in_its_place(tmp_path: Path) -> None:
    assert describe({}).proxy.title == "kube-proxy"
    assert describe({"proxy": {"exec": ["/opt/my-proxy", "--x"]}}).proxy.title == "my-proxy"
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump({**HEAD, "spec": {"proxy": {"exec": ["./my-proxy"]}}}))
    assert description(str(path), None).proxy.exec == (str(tmp_path / "my-proxy"),)
    path.write_text(yaml.safe_dump({**HEAD, "spec": {"proxy": "nftables"}}))
    assert description(str(path), None).proxy.mode == "nftables"


# --- the file -----------------------------------------------------------------------------------------------------


def file_of(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "cluster.yaml"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return path


BAD_FILES = {
    "empty": ("", ["cluster.yaml", "apiVersion"]),
    "a list": ("- 1\n", ["cluster.yaml", "apiVersion"]),
    "broken YAML": ("spec: {nodes: [\n", ["cluster.yaml", "not YAML", "line"]),
    "not text": (b"\xff\xfe\x00\x01", ["cluster.yaml", "YAML"]),
    "an object of Python": ("!!python/object/apply:os.getcwd []\n", ["cluster.yaml", "not YAML"]),
    "two documents": (f"{yaml.safe_dump(HEAD)}---\n{yaml.safe_dump(HEAD)}", ["cluster.yaml", "single document"]),
    "another version": ({**HEAD, "apiVersion": "v1"}, ["cluster.yaml: apiVersion", "'v1'", "mininetes/v1"]),
    "no version": ({"kind": "Cluster"}, ["cluster.yaml: apiVersion", "mininetes/v1"]),
    "another kind": ({**HEAD, "kind": "Pod"}, ["cluster.yaml: kind", "'Pod'", "Cluster"]),
    "an unknown key": ({**HEAD, "speck": {}}, ["cluster.yaml: speck", "unknown key", "spec"]),
    "unknown keys of several types": ({**HEAD, "x": 1, 5: 1}, ["cluster.yaml: ", "unknown key"]),
    "an unknown key of metadata": ({**HEAD, "metadata": {"nam": "x"}}, ["cluster.yaml: metadata.nam", "name"]),
    "metadata as a word": ({**HEAD, "metadata": "x"}, ["cluster.yaml: metadata", "'x'", "mapping"]),
    "a name that is a number": ({**HEAD, "metadata": {"name": 5}}, ["cluster.yaml: metadata.name", "5", "name"]),
    "a key twice": (f"{yaml.safe_dump(HEAD)}kind: Cluster\n", ["cluster.yaml: kind", "once", "lines 2 and 3"]),
    "a key twice in a mapping": (
        f"{yaml.safe_dump(HEAD)}spec:\n  pods: {{perNode: 1, port: 80, perNode: 2}}\n",
        ["cluster.yaml: spec.pods.perNode", "once", "lines 4 and 4"],
    ),
    "a key twice in a list": (
        f"{yaml.safe_dump(HEAD)}spec:\n  nodes:\n  - {{name: a}}\n  - name: b\n    zone: x\n    zone: x\n",
        ["cluster.yaml: spec.nodes[1].zone", "once", "lines 7 and 8"],
    ),
    **{
        f"{spec!r} for spec": ({**HEAD, "spec": spec}, [f"cluster.yaml: spec: {spec!r} ", "a mapping"])
        for spec in ([], 0, "", False)
    },
    "no list for metadata": ({**HEAD, "metadata": []}, ["cluster.yaml: metadata: [] ", "a mapping"]),
    "a list for spec": ({**HEAD, "spec": [1]}, ["cluster.yaml: spec", "[1]", "mapping"]),
}


@pytest.mark.parametrize(("content", "words"), BAD_FILES.values(), ids=list(BAD_FILES))
def test_bad_files_are_refused(tmp_path: Path, content: object, words: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        read_cluster_file(file_of(tmp_path, content))
    assert [word for word in words if word not in str(caught.value)] == []
    assert "\n" not in str(caught.value)


def test_the_same_key_in_different_mappings_is_fine(tmp_path: Path) -> None:
    text = f"{yaml.safe_dump(HEAD)}spec:\n  nodes: [&n {{name: a, zone: x}}, {{<<: *n, name: b}}, *n]\n"
    assert read_cluster_file(file_of(tmp_path, text))[1]["nodes"][1] == {"name": "b", "zone": "x"}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.yaml", tmp_path):
        with pytest.raises(BadInput, match=str(path)):
            read_cluster_file(path)


# --- flags over the file ------------------------------------------------------------------------------------------


@pytest.fixture
def cluster_file(tmp_path: Path) -> str:
    spec = {
        "nodes": {"controlPlane": 1, "workers": 4},
        "underlay": {"name": "racks", "parameters": {"racks": 5}},
        "fabric": "none",
        "pods": {"perNode": 7, "port": 9000},
    }
    return str(file_of(tmp_path, {**HEAD, "metadata": {"name": "from-the-file"}, "spec": spec}))


def test_without_flags_the_file_counts(cluster_file: str) -> None:
    spec = description(cluster_file, None)
    assert spec.name == "from-the-file"
    assert (len(spec.nodes), spec.underlay_name, spec.fabric.name) == (5, "racks", "none")
    assert (spec.pods.per_node, spec.pods.port) == (7, 9000)


def test_each_flag_overrides_its_field_and_nothing_else(cluster_file: str) -> None:
    spec = description(cluster_file, "mine", nodes=2, pods=1, underlay="leaf_spine", fabric="static", cni="x.conflist")
    assert (spec.name, len(spec.nodes), spec.pods.per_node) == ("mine", 2, 1)
    assert (spec.underlay_name, spec.fabric.name, spec.cni) == ("leaf_spine", "static", "x.conflist")
    assert spec.pods.port == 9000


def test_a_flag_overrides_a_part_that_the_file_has_by_name_alone(cluster_file: str) -> None:
    assert description(cluster_file, None, fabric="static").fabric.name == "static"
    assert description(cluster_file, None, settings=("fabric.parameters={a: 1}",)).fabric.name == "none"


def test_set_reaches_every_field_by_its_path(cluster_file: str) -> None:
    settings = ("pods.port=9001", "spec.network.pods=10.0.0.0/16", "underlay.parameters.racks=2")
    spec = description(cluster_file, None, settings=settings)
    assert (spec.pods.port, str(spec.network.pods)) == (9001, "10.0.0.0/16")
    assert spec.underlay is not None
    assert spec.underlay.parameters == {"racks": 2}
    assert spec.pods.per_node == 7


def test_a_later_set_wins(cluster_file: str) -> None:
    spec = description(cluster_file, None, pods=1, settings=("pods.perNode=2", "pods.perNode=3"))
    assert spec.pods.per_node == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("nothing",), ["--set", "nothing", "FIELD=VALUE"]),
        (("=3",), ["--set", "=3", "FIELD=VALUE"]),
        (("pods.perNode={",), ["--set", "pods.perNode={", "YAML"]),
        (("pods.perNods=3",), ["spec.pods.perNods", "unknown key", "perNode"]),
        (("network.pods=fd00::/48",), ["spec.network.pods", "fd00::/48", "IPv6"]),
        (("fabrik.name=x",), ["spec.fabrik", "unknown key", "fabric"]),
    ],
)
def test_bad_settings_are_refused(settings: tuple[str, ...], words: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        description(None, None, settings=settings)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize("number", [0, -1])
def test_no_nodes_by_flag(number: int) -> None:
    with pytest.raises(BadInput, match=f"--nodes: {number} is not valid: at least 1"):
        description(None, None, nodes=number)


def test_a_fabric_without_a_name_is_static() -> None:
    fabric = describe({"fabric": {"repair": False}}, "lab1").fabric
    assert (fabric.name, fabric.repair) == ("static", False)


@pytest.mark.parametrize(
    ("program", "name"),
    [("./router.py", "router"), ("/opt/Kube_Router", "kube-router"), ("a.b.c", "a-b"), ("kubelet.sh", "fabric-kubelet"),
     ("...", "program"), ("x" * 80, "x" * 40), ("flanneld", "flanneld"), ("weave", "fabric-weave")],
)  # fmt: skip
def test_an_outside_program_is_called_by_a_dns_label_that_no_agent_of_ours_has(program: str, name: str) -> None:
    assert describe({"fabric": {"exec": [program]}}).fabric.title == name


def test_outside_programs_of_one_name_are_refused() -> None:
    with pytest.raises(BadInput, match=r"spec\.proxy\.exec: 'router\.sh' is not valid: a program of another name"):
        describe({"fabric": {"exec": ["./router.py"]}, "proxy": {"exec": ["router.sh"]}})


@pytest.mark.parametrize(("workers", "name"), [(2, "three_node"), (3, "single_switch")])
def test_an_underlays_parameters_alone_are_those_of_the_default(workers: int, name: str) -> None:
    found = describe({"nodes": {"workers": workers}, "underlay": {"parameters": {"mtu": 1400}}})
    assert found.underlay is not None
    assert (found.underlay.name, found.underlay.parameters) == (name, {"mtu": 1400})
    with pytest.raises(BadInput, match=r"spec\.underlay\.paramters: unknown key; did you mean 'parameters'"):
        describe({"underlay": {"paramters": {"mtu": 1400}}})
