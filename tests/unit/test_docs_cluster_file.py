"""docs/cluster-file.md against the models: every field is there with default and meaning, and none is made up."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from mininetes import kind_file, spec_sections
from mininetes.cluster_schema import MEANINGS
from mininetes.errors import BadInput
from mininetes.spec import ClusterSpec, describe

PAGE = (Path(__file__).parents[2] / "docs" / "cluster-file.md").read_text()
ROW = re.compile(r"^\| `([^`]+)` \| (.*?) \| (.*) \|$", re.MULTILINE)
TABLES = {
    "spec": ["ClusterSpec"],
    "spec.nodes": ["NodeCounts", "NodeSpec"],
    "spec.network": ["NetworkSpec"],
    "spec.underlay": ["PartSpec"],
    "spec.fabric": ["FabricSpec"],
    "spec.proxy": ["ProxySpec"],
    "spec.controlPlane": ["ControlPlaneSpec"],
    "spec.pods": ["PodsSpec"],
    "spec.outside": ["OutsideSpec"],
    "spec.logging": ["LoggingSpec"],
    "spec.networks": ["ContainerNetworkSpec"],
    "spec.containers": ["ContainerSpec"],
}


def chapters() -> dict[str, str]:
    head, *rest = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    return {"": head, **{each.partition("\n")[0]: each.partition("\n")[2] for each in rest}}


def tables_of(chapter: str) -> list[list[tuple[str, str, str]]]:
    return [ROW.findall(each) for each in chapters()[chapter].split("|---|---|---|\n")[1:]]


def model_of(name: str) -> type[BaseModel]:
    model: type[BaseModel] = ClusterSpec if name == "ClusterSpec" else getattr(spec_sections, name)
    return model


PAIRS = [
    pytest.param(name, table, id=name)
    for chapter, names in TABLES.items()
    for name, table in zip(names, tables_of(chapter), strict=True)
]


def test_each_section_has_its_chapter_and_no_other_is_there() -> None:
    assert set(chapters()) == {"", "The head", "Files of kind's", *TABLES}
    assert {name for names in TABLES.values() for name in names} == set(MEANINGS)
    sections = {field.alias or name for name, field in ClusterSpec.model_fields.items()} - {"name"}
    without = {"cni", "firewall"}  # a word each
    assert {chapter.removeprefix("spec.") for chapter in TABLES} - {"spec"} == sections - without


@pytest.mark.parametrize(("name", "table"), PAIRS)
def test_every_field_is_there_and_none_is_made_up(name: str, table: list[tuple[str, str, str]]) -> None:
    fields = [field.alias or key for key, field in model_of(name).model_fields.items()]
    if name == "ClusterSpec":
        fields.remove("name")  # which belongs to metadata
    assert [field for field, _, _ in table] == fields


@pytest.mark.parametrize(("name", "table"), PAIRS)
def test_every_field_means_what_editors_say_it_means(name: str, table: list[tuple[str, str, str]]) -> None:
    assert [field for field, _, meaning in table if not meaning.startswith(MEANINGS[name][field])] == []


@pytest.mark.parametrize(("name", "table"), PAIRS)
def test_every_default_is_the_models(name: str, table: list[tuple[str, str, str]]) -> None:
    model = model_of(name)
    by_alias = {field.alias or key: field for key, field in model.model_fields.items()}
    for field, shown, _ in table:
        info = by_alias[field]
        if name == "ClusterSpec" and shown.startswith("`"):  # as a file has it, which may be shorter than the model
            assert describe({field: yaml.safe_load(shown.strip("`"))}) == describe({}), field
            continue
        default = None if info.is_required() else info.get_default(call_default_factory=True)
        if info.is_required():
            assert shown == "required", field
        elif isinstance(default, BaseModel):
            assert shown == f"[below](#spec{field.lower()})", field
            assert default == type(default)(), field
        elif default is None or default == "":
            assert shown == "left out", field
        else:
            whole = {key: "x" for key, each in by_alias.items() if each.is_required()}
            dumped = model.model_validate(whole).model_dump(mode="json", by_alias=True)[field]
            assert yaml.safe_load(shown.strip("`")) == dumped, field


def test_the_bounds_that_the_page_names_are_in_force() -> None:
    bound = spec_sections.MOST_NODES
    assert f"There may be {bound:,} of each" in PAGE
    describe({"nodes": {"workers": 243}})
    with pytest.raises(BadInput):
        describe({"nodes": {"workers": 244}})
    assert "244 as these are by themselves" in PAGE


KIND = [row for table in tables_of("Files of kind's") for row in table]
HEAD: dict[str, Any] = {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4"}
SAMPLES: dict[str, Any] = {
    "ipFamily": "ipv4", "apiServerAddress": "0.0.0.0", "apiServerPort": 6443, "podSubnet": "10.245.0.0/16",
    "serviceSubnet": "10.97.0.0/16", "disableDefaultCNI": True, "kubeProxyMode": "ipvs", "dnsSearch": ["a.b"],
    "role": "control-plane", "labels": {"a": "b"}, "name": "other", "nodes": [{"role": "control-plane"}],
    "networking": {}, **HEAD,
}  # fmt: skip


def test_every_field_of_kinds_is_there_and_none_is_made_up() -> None:
    cluster = [*kind_file.CLUSTER, *kind_file.IGNORED_OF_CLUSTER]
    nodes = [f"nodes[].{key}" for key in (*kind_file.NODE, *kind_file.IGNORED_OF_NODE)]
    networking = [f"networking.{key}" for key in kind_file.NETWORKING]
    assert sorted(field for field, _, _ in KIND) == sorted([*cluster, *nodes, *networking])


@pytest.mark.parametrize(("field", "what"), [pytest.param(field, what, id=field) for field, what, _ in KIND])
def test_a_field_of_kinds_is_taken_or_ignored_as_the_page_says(field: str, what: str) -> None:
    key = field.rpartition(".")[2]
    given = {key: SAMPLES.get(key, ["something"])}
    if field.startswith("nodes[]."):
        given = {"nodes": [given]}
    elif field.startswith("networking."):
        given = {"networking": given}
    found = kind_file.read({**HEAD, **given}, "k.yaml")
    assert any(f"{key} is ignored" in note for note in found.notes) == (what == "ignored"), found.notes
    assert what in ("ignored", "taken")
