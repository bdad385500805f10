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

from mininetes.cli.main import cli
from mininetes.cluster_schema import MEANINGS, cluster_schema
from mininetes.errors import BadInput
from mininetes.spec import describe

ROOT = Path(__file__).parents[2]
COPY = ROOT / "docs" / "cluster.schema.json"
FILES = sorted((ROOT / "topologies" / "clusters").glob("*.yaml"))
README_FILES = re.findall(r"```yaml\n(apiVersion: mininetes/v1.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
SCHEMA = cluster_schema()


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
    {"fabric": "vxlan", "underlay": "racks", "proxy": "nftables"},
    {"fabric": {"name": "vxlan", "parameters": {"direct": True}}, "underlay": {"name": "racks"}, "proxy": {}},
    {"fabric": {"exec": ["/bin/true"]}, "proxy": {"exec": ["/bin/false", "-v"]}},
    {"controlPlane": {"store": "etcd", "replicas": 1, "nodeGraceSeconds": 5}},
    {"networks": [{"name": "n", "subnet": "172.30.0.0/24", "gateway": "172.30.0.1"}], "containers": [{"name": "c"}]},
    {"underlay": None},
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
]


@pytest.mark.parametrize("spec", ACCEPTED, ids=json.dumps)
def test_what_is_accepted_is_valid(spec: dict[str, Any]) -> None:
    describe(spec, "a")
    assert wrong(file_with(spec)) == []


@pytest.mark.parametrize("spec", REFUSED, ids=json.dumps)
def test_what_is_not_valid_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        describe(spec, "a")
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
