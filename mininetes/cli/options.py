"""Options that several commands share, and the description that they make."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import yaml

from mininetes import parts
from mininetes.errors import BadInput
from mininetes.spec import ClusterSpec, describe, read_cluster, read_cluster_file
from mininetes.spec_sections import MOST_NODES

_F = TypeVar("_F", bound=Callable[..., Any])

output_option = click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text",
                             show_default=True, help="Text for people or JSON for programs.")  # fmt: skip
lab_option = click.option("--lab", metavar="NAME", envvar="MININETES_LAB", show_envvar=True,
                          help="The lab; not needed when only one is up.")  # fmt: skip


def cluster_options(command: _F) -> _F:
    """Add the cluster file, the flags that override its fields, and the lab's name."""
    named = click.option("--lab", metavar="NAME", help="Name of the lab. Default: the file's, or lab1.")
    return cluster_arguments(named(command))


def cluster_arguments(command: _F) -> _F:
    """Add the cluster file and the flags that override its fields."""
    for add in reversed(
        [
            click.argument("cluster_file", required=False, metavar="[CLUSTER.yaml]"),
            click.option("--nodes", type=int, metavar="N", help="Number of nodes; one is the control plane."),
            click.option("--pods", type=int, metavar="N", help="Ready-made pods on each node."),
            click.option("--underlay", metavar="NAME", help="What joins the nodes: a name or a path."),
            click.option(
                "--fabric", metavar="NAME", help="How pods' packets cross nodes: static, vxlan, ..., or a path."
            ),
            click.option("--cni", metavar="CONFLIST", help="CNI configuration: a name or a path."),
            click.option(
                "--proxy", metavar="MODE", help="kube-proxy's mode, iptables unless said; or one of your own."
            ),
            click.option(
                "--set",
                "settings",
                multiple=True,
                metavar="FIELD=VALUE",
                help="Any other field, such as network.pods=10.0.0.0/16.",
            ),
        ]
    ):
        command = add(command)
    return command


_SHORTHANDS = {"proxy": "mode"}
"""The field that a word alone stands for, where it is not ``name``."""


def _set(spec: dict[str, Any], field: str, value: object) -> None:
    """Lay ``value`` over the field at that dotted path."""
    *way, last = field.split(".")
    place = spec
    for key in way:
        inner = place.get(key)
        if not isinstance(inner, dict):
            inner = {_SHORTHANDS.get(key, "name"): inner} if isinstance(inner, str) else {}
        place[key] = inner = dict(inner)
        place = inner
    place[last] = value


def _part_from_folder(key: str, name: str, folder: Path) -> str:
    """A part's path from that folder; a name as it is."""
    return parts.absolute_mode(name, folder) if key == "proxy" else parts.absolute(name, folder)


def from_folder(spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A copy of a file's ``spec`` in which paths of parts start from the file's folder."""
    spec = dict(spec)
    for key in ("cni", "underlay", "fabric", "proxy"):
        part, word = spec.get(key), _SHORTHANDS.get(key, "name")
        if isinstance(part, dict) and isinstance(part.get(word), str):
            spec[key] = {**part, word: _part_from_folder(key, part[word], folder)}
        elif isinstance(part, str):
            spec[key] = _part_from_folder(key, part, folder)
        program = part.get("exec") if isinstance(part, dict) else None
        if isinstance(program, list) and program and isinstance(program[0], str):
            spec[key] = {**spec[key], "exec": [parts.absolute_program(program[0], folder), *program[1:]]}
    return spec


def source_of(cluster_file: str) -> str:
    """What people call a cluster file that was asked for."""
    return "standard input" if cluster_file == "-" else cluster_file


def _read(cluster_file: str) -> tuple[str | None, dict[str, Any]]:
    """Name and ``spec`` of a cluster file (a path, a part's name, or ``-``), its paths made absolute."""
    if cluster_file == "-":
        name, spec = read_cluster(sys.stdin.buffer.read(), source_of("-"), _note_of(source_of("-")))
        return name, from_folder(spec, Path.cwd())
    path = Path(cluster_file)
    path = path if path.is_file() else parts.find("cluster", cluster_file).path
    name, spec = read_cluster_file(path, _note_of(str(path)))
    return name, from_folder(spec, path.parent)


def _note_of(source: str) -> Callable[[str], None]:
    return lambda text: click.echo(f"mininetes: {source}: {text}", err=True)


def description(
    cluster_file: str | None,
    lab: str | None,
    *,
    nodes: int | None = None,
    pods: int | None = None,
    underlay: str | None = None,
    fabric: str | None = None,
    cni: str | None = None,
    proxy: str | None = None,
    settings: tuple[str, ...] = (),
) -> ClusterSpec:
    """Make the checked description from a cluster file (a path, a part's name, or ``-``) and flags. Raises BadInput."""
    name: str | None = None
    spec: dict[str, Any] = {}
    if cluster_file is not None:
        name, spec = _read(cluster_file)
    if nodes is not None:
        if nodes < 1:
            raise BadInput("--nodes", nodes, "at least 1")
        if nodes > MOST_NODES:
            raise BadInput("--nodes", nodes, f"at most {MOST_NODES}, the nodes that Kubernetes is made for")
        spec["nodes"] = {"controlPlane": 1, "workers": nodes - 1}
    flags = {"pods.perNode": pods, "underlay.name": underlay, "fabric.name": fabric, "cni": cni, "proxy.mode": proxy}
    for field, value in flags.items():
        if value is not None:
            _set(spec, field, value)
    for setting in settings:
        field, equals, text = setting.partition("=")
        if not equals or not field:
            raise BadInput("--set", setting, "FIELD=VALUE, such as network.pods=10.0.0.0/16")
        try:
            _set(spec, field.removeprefix("spec."), yaml.safe_load(text))
        except yaml.YAMLError:
            raise BadInput("--set", setting, "a value that YAML understands") from None
    return describe(spec, lab if lab is not None else name)
