"""The cluster file's JSON schema: the copy for editors is the same, and it agrees with what is accepted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from schema_check import problems

from mininetes import parts
from mininetes.cli.main import cli
from mininetes.cluster_schema import MEANINGS, cluster_schema
from mininetes.errors import BadInput
from mininetes.spec import describe
from mininetes.testbed.blueprint import draw
from mininetes.testbed.networks import ground_of
from mininetes.testbed.networks_catalogue import declared

ROOT = Path(__file__).parents[2]
COPY = ROOT / "docs" / "cluster.schema.json"
FILES = sorted((ROOT / "topologies" / "clusters").glob("*.yaml"))
README_FILES = re.findall(r"```yaml\n(apiVersion: mininetes/v1.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
SCHEMA = cluster_schema(parts.names("proxy"))


def wrong(content: Any) -> list[str]:
    return list(problems(SCHEMA, content, SCHEMA))


def file_with(spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "mininetes/v1", "kind": "Cluster", "metadata": {"name": "a"}, "spec": spec}


def test_the_copy_is_the_same_as_what_the_command_prints() -> None:
    done = CliRunner().invoke(cli, ["validate", "--schema"], standalone_mode=False)
    assert done.stdout == COPY.read_text(), "write it anew: mininetes validate --schema > docs/cluster.schema.json"
    assert json.loads(done.stdout) == SCHEMA


def test_without_a_file_there_is_nothing_to_validate() -> None:
    done = CliRunner().invoke(cli, ["validate"], standalone_mode=False)
    assert isinstance(done.exception, BadInput)
    assert "--schema" in str(done.exception)


def test_a_file_beside_the_schema_is_refused_and_not_passed_over(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["validate", "--schema", str(tmp_path / "a.yaml")], standalone_mode=False)
    assert isinstance(done.exception, BadInput)
    assert "left out with --schema" in str(done.exception)
    assert done.stdout == ""


@pytest.mark.parametrize("command", [["validate"], ["up", "--dry-run"], ["graph"]], ids=" ".join)
def test_a_cluster_file_of_one_hyphen_is_standard_input(command: list[str]) -> None:
    text = yaml.safe_dump(file_with({"nodes": [{"name": "first"}, {"name": "second"}]}))
    done = CliRunner().invoke(cli, [*command, "-"], input=text, standalone_mode=False)
    assert done.exception is None, done.exception
    assert ("standard input is valid: 2 nodes" if command == ["validate"] else "second") in done.stdout


@pytest.mark.parametrize(
    ("nodes", "pods", "words"),
    [(0, 1, "1 node with 1 pod, fabric"), (1, 1, "2 nodes with 1 pod each,"), (0, 2, "1 node with 2 pods, fabric")],
)
def test_what_is_valid_is_counted_in_words(nodes: int, pods: int, words: str) -> None:
    text = yaml.safe_dump(file_with({"nodes": {"workers": nodes}, "pods": {"perNode": pods}}))
    assert f"is valid: {words}" in CliRunner().invoke(cli, ["validate", "-"], input=text, standalone_mode=False).stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: [", "standard input: not YAML"),
        ("", "standard input: no cluster file: that is a mapping"),
        ("kind: Pod", "standard input: apiVersion"),
        (b"\xff", "standard input: not YAML: not text in UTF-8"),
        ("{apiVersion: kind.x-k8s.io/v1alpha4, kind: Cluster, nodes: 3}", "standard input: nodes: '3'"),
    ],
)
def test_what_is_wrong_on_standard_input_is_said_to_be_there(text: str | bytes, words: str) -> None:
    done = CliRunner().invoke(cli, ["validate", "-"], input=text, standalone_mode=False)
    assert isinstance(done.exception, BadInput)
    assert str(done.exception).startswith(words)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_ready_made_clusters_are_valid_and_name_the_schema(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (path.parent / first.partition("$schema=")[2]).resolve() == COPY
    assert wrong(yaml.safe_load(path.read_text())) == []


def test_readmes_file_is_valid() -> None:
    assert README_FILES
    for text in README_FILES:
        assert wrong(yaml.safe_load(text)) == []


ACCEPTED: list[dict[str, Any]] = [
    {},
    {"nodes": {"workers": 0, "controlPlane": 1}},
    {"nodes": [{"name": "a"}, {"name": "b", "zone": "z", "labels": {"k": "v"}}]},
    {"nodes": [{"name": "a", "zone": "Z_1.b", "labels": {"example.com/disk": "", "A.b": "9" * 63, "k" * 63: "x"}}]},
    {"fabric": "vxlan", "underlay": "racks", "proxy": "nftables"},
    {"fabric": {"name": "vxlan", "parameters": {"direct": True}}, "underlay": {"name": "racks"}, "proxy": {}},
    {"fabric": {"exec": ["/bin/true"]}, "proxy": {"exec": ["/bin/false", "-v"]}},
    {"controlPlane": {"store": "etcd", "replicas": 1, "nodeGraceSeconds": 5}},
    {"networks": [{"name": "n", "subnet": "172.30.0.0/24", "gateway": "172.30.0.1"}], "containers": [{"name": "c"}]},
    {"underlay": None},
    {"network": {"pods": "10.0.0.0/8", "services": "172.16.0.0/12", "nodePrefix": 22, "nodePorts": "1-65535"}},
    *({"proxy": mode} for mode in ("iptables", "userspace")),
    *({"proxy": {"mode": mode}} for mode in ("ipvs", "nftables")),
    {"logging": {"directory": "/var/log/kubernetes/all"}},
]
REFUSED: list[dict[str, Any]] = [
    {"nodez": {}},
    {"name": "a"},
    {"nodes": {"workers": -1}},
    {"nodes": {"workers": "2"}},
    {"nodes": {"masters": 1}},
    {"nodes": []},
    {"nodes": [{"name": "Not_a_name"}]},
    {"nodes": [{"role": "worker"}]},
    {"nodes": [{"name": "a", "role": "master"}]},
    *({"nodes": [{"name": "a", "zone": each}]} for each in ("x y", "-x", "x" * 64)),
    *({"nodes": [{"name": "a", "labels": {each: "x"}}]} for each in ("bad key!", "", "a/", "/a", "A_b/x", "k" * 64)),
    *({"nodes": [{"name": "a", "labels": {"x": each}}]} for each in ("x y", "x.", "x" * 64)),
    {"fabric": 3},
    {"fabric": {"exec": [""]}},
    {"proxy": {"backend": "ebpf"}},
    {"controlPlane": {"store": "disk"}},
    {"pods": {"port": 70000}},
    {"pods": {"perNode": 1.5}},
    {"firewall": "yes"},
    {"containers": [{"port": 80}]},
    {"logging": {"level": 11}},
    {"outside": {"clients": 1000}},
    {"nodes": {"workers": 100_000_000}},
    {"nodes": {"controlPlane": 5001}},
    *({"network": {"pods": each}} for each in ("banana", "10.244.0/16", "10.244.0.256/16", "10.1.0.0/33", "fd00::/48")),
    *({"network": {field: "10.300.0.0/16"}} for field in ("nodes", "services", "loadBalancers")),
    {"network": {"nodePrefix": 31}},
    {"network": {"nodePorts": "30000"}},
    {"proxy": "ebpf"},
    {"proxy": "IPTables"},
    {"proxy": {"mode": "iptable"}},
    {"logging": {"directory": "/tmp"}},
    {"networks": [{"name": "n", "subnet": "172.30.0.0"}]},
    {"networks": [{"name": "n", "gateway": "172.30.0"}]},
    {"networks": [{"name": "n", "driver": "host"}]},
]


@pytest.mark.parametrize("spec", ACCEPTED, ids=json.dumps)
def test_what_is_accepted_is_valid(spec: dict[str, Any]) -> None:
    describe(spec, "a")
    assert wrong(file_with(spec)) == []


def check(spec: dict[str, Any]) -> None:
    """All that is checked before something is built, of the kernel's features apart. Raises BadInput."""
    blueprint = draw(describe(spec, "a"))
    declared(blueprint.spec.networks, blueprint.spec.containers, ground_of(blueprint))


@pytest.mark.parametrize("spec", REFUSED, ids=json.dumps)
def test_what_is_not_valid_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        check(spec)
    assert wrong(file_with(spec)) != []


def test_the_head_of_a_file_is_checked() -> None:
    assert wrong({"apiVersion": "mininetes/v1", "kind": "Cluster"}) == []
    others: list[dict[str, Any]] = [
        {"apiVersion": "v1"},
        {"kind": "Pod"},
        {"metadata": {"name": "Not a name"}},
        {"status": {}},
    ]
    for other in others:
        assert wrong({**file_with({}), **other}) != []
    assert wrong({"kind": "Cluster"}) != []


def test_every_field_says_what_it_means_and_no_other_does() -> None:
    named = {name: set(model["properties"]) for name, model in SCHEMA["$defs"].items()}
    assert {name: set(meanings) for name, meanings in MEANINGS.items()} == named
    for name, model in SCHEMA["$defs"].items():
        assert model["additionalProperties"] is False, name
        for key, field in model["properties"].items():
            assert field["description"].endswith("."), f"{name}.{key}"
