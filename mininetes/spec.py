"""The description of a cluster: what was asked, frozen and checked before anything is built.

The cluster file is YAML, in the style of Kubernetes objects (``apiVersion: mininetes/v1``,
``kind: Cluster``). A flag on the command line overrides the same field of the file.
"""

from __future__ import annotations

import difflib
import posixpath
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, PrivateAttr, ValidationError

from mininetes import kind_file, yaml_documents
from mininetes.addressing import LEAST_SERVICES, AddressPlan
from mininetes.errors import BadInput
from mininetes.field_rules import label_value_problem, qualified_name_problem
from mininetes.spec_sections import (
    HOST_NAME,
    LAB_NAME,
    LAB_NAME_RIGHT,
    MOST_NODES,
    ContainerNetworkSpec,
    ContainerSpec,
    ControlPlaneSpec,
    Described,
    FabricField,
    FabricSpec,
    LoggingSpec,
    NetworkSpec,
    NodeCounts,
    NodeSpec,
    OutsideSpec,
    PartField,
    PartSpec,
    PodsSpec,
    ProxyField,
    ProxySpec,
    numbered,
)

API_VERSION = "mininetes/v1"
COMPONENTS = (
    "etcd", "flanneld", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubelet",
    "router", "static", "weave",
)  # fmt: skip
"""What has a log of its own on a node."""

DNS_PODS = 2
"""As many as kubeadm sets up; both may come to lie on one node."""


class ClusterSpec(Described):
    """A whole cluster, as asked for. ``nodes`` are always named here; files may give numbers (`describe`)."""

    name: str = "lab1"
    nodes: tuple[NodeSpec, ...] = Field(default_factory=lambda: numbered(NodeCounts()))
    network: NetworkSpec = NetworkSpec()
    underlay: PartField | None = None
    fabric: FabricField = FabricSpec(name="static")
    cni: str = "bash-bridge.conflist"
    proxy: ProxyField = ProxySpec()
    control_plane: ControlPlaneSpec = ControlPlaneSpec()
    firewall: Literal["none", "kubernetes"] = "none"
    pods: PodsSpec = PodsSpec()
    outside: OutsideSpec = OutsideSpec()
    logging: LoggingSpec = LoggingSpec()
    networks: tuple[ContainerNetworkSpec, ...] = ()
    containers: tuple[ContainerSpec, ...] = ()
    _nodes_field: str = PrivateAttr(default="spec.nodes")

    @property
    def nodes_field(self) -> str:
        """Where nodes were asked for, in the words of that file: errors name it."""
        return self._nodes_field

    @property
    def plan(self) -> AddressPlan:
        """The address plan of this cluster."""
        net = self.network
        return AddressPlan(net.nodes, net.pods, net.services, net.load_balancers, net.node_prefix)

    @property
    def underlay_name(self) -> str:
        """The underlay asked for; without a wish, the textbook's for three nodes and the plain star otherwise."""
        if self.underlay is not None:
            return self.underlay.name
        return "three_node" if len(self.nodes) == 3 else "single_switch"

    @property
    def masters(self) -> tuple[NodeSpec, ...]:
        """The nodes that have an API server (and, with etcd, a member); empty without a control plane."""
        if self.control_plane.store == "none":
            return ()
        return tuple(node for node in self.nodes if node.role == "control-plane")[: self.control_plane.replicas]

    @property
    def node_ports(self) -> range:
        """The ports of NodePort services."""
        first, _, last = self.network.node_ports.partition("-")
        return range(int(first), int(last) + 1)

    def check(self) -> ClusterSpec:
        """Return self when all is consistent; raise BadInput that names the field otherwise."""
        if not self.nodes:
            raise BadInput(self.nodes_field, 0, "at least 1 node")
        seen: set[str] = set()
        for index, node in enumerate(self.nodes):
            field = f"{self.nodes_field}[{index}].name"
            if not HOST_NAME.fullmatch(node.name):
                raise BadInput(field, node.name, "a host name: up to 63 lower-case letters, digits and '-'")
            if node.name in seen:
                raise BadInput(field, node.name, "a name that no other node has")
            seen.add(node.name)
            _check_labels(node, f"{self.nodes_field}[{index}]")
        first, _, last = self.network.node_ports.partition("-")
        if not (first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last) <= 65535):
            raise BadInput("spec.network.nodePorts", self.network.node_ports, "two ports such as 30000-32767")
        self._check_control_plane()
        self._check_fabric()
        self._check_proxy()
        self.plan.check(len(self.nodes), self.pods.per_node)
        room = self.plan.pods_per_node - DNS_PODS
        if self.masters and self.pods.per_node > room:
            right = f"at most {room}: of a /{self.plan.node_prefix} the cluster's DNS needs {DNS_PODS} addresses"
            raise BadInput("spec.pods.perNode", self.pods.per_node, right)
        return self

    def _check_fabric(self) -> None:
        wanted = self.fabric
        if bool(wanted.name) == bool(wanted.exec):
            given = f"name {wanted.name} and exec" if wanted.name else None
            raise BadInput("spec.fabric", given, "either a name, or exec: [PROGRAM, ARGUMENT, ...]")
        if wanted.exec and self.control_plane.store == "none":
            right = "left out where controlPlane.store is none: the program is given a kubeconfig"
            raise BadInput("spec.fabric.exec", " ".join(wanted.exec), right)

    def _check_proxy(self) -> None:
        wanted = self.proxy
        if not wanted.exec:
            other = wanted.config.get("mode")
            if wanted.mode and other and other != wanted.mode:
                right = f"left out, or as spec.proxy.mode has it: {wanted.mode}"
                raise BadInput("spec.proxy.config.mode", other, right)
            return
        program = " ".join(wanted.exec)
        if self.fabric.exec and self.fabric.title == wanted.title:
            raise BadInput("spec.proxy.exec", program, "a program of another name than spec.fabric.exec's")
        for field, given in (("mode", wanted.mode), ("backend", wanted.backend), ("config", wanted.config)):
            if given:
                right = f"left out with exec: {program} decides for itself"
                raise BadInput(f"spec.proxy.{field}", given if isinstance(given, str) else str(given), right)
        if self.control_plane.store == "none":
            right = "left out where controlPlane.store is none: the program is given a kubeconfig"
            raise BadInput("spec.proxy.exec", program, right)

    def _check_control_plane(self) -> None:
        wanted = self.control_plane
        if wanted.store == "none":
            if wanted.replicas is not None:
                raise BadInput("spec.controlPlane.replicas", wanted.replicas, "left out where the store is none")
            return
        there = [node for node in self.nodes if node.role == "control-plane"]
        if not there:
            raise BadInput(self.nodes_field, None, "a node with role control-plane, or controlPlane: {store: none}")
        if wanted.replicas is not None and wanted.replicas > len(there):
            right = f"at most the number of control-plane nodes (nodes.controlPlane), {len(there)}"
            raise BadInput("spec.controlPlane.replicas", wanted.replicas, right)
        if wanted.store == "etcd" and len(self.masters) not in (1, 3):
            right = "1 or 3 with the store etcd, which needs a majority"
            raise BadInput("spec.controlPlane.replicas", len(self.masters), right)
        self._check_logging()
        if self.network.services.num_addresses < LEAST_SERVICES:
            right = f"a network of at least {LEAST_SERVICES} addresses: the tenth is the cluster's DNS"
            raise BadInput("spec.network.services", str(self.network.services), right)

    def _check_logging(self) -> None:
        directory = self.logging.directory
        if posixpath.normpath(directory) != directory or not f"{directory}/".startswith("/var/log/"):
            raise BadInput("spec.logging.directory", directory, "/var/log or a folder below it")
        for name in self.logging.levels:
            if name not in COMPONENTS:
                raise BadInput(
                    f"spec.logging.levels.{name}", None, f"unknown component; known: {', '.join(COMPONENTS)}"
                )


def _check_labels(node: NodeSpec, place: str) -> None:
    """What its Node object is to be labelled with must be as Kubernetes has it, or the API would refuse the node."""
    values = {f"{place}.zone": node.zone or ""}
    for key, value in node.labels.items():
        if problem := qualified_name_problem(key):
            raise BadInput(f"{place}.labels", key, problem)
        values[f"{place}.labels.{key}"] = value
    for field, value in values.items():
        if problem := label_value_problem(value):
            raise BadInput(field, value, problem)


_KINDS = {
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "tuple_type": "a list",
    "string_type": "a string, which YAML needs quotes for where it looks like a number",
}
_STRINGS = {
    ("network", "nodePorts"): "two ports such as 30000-32767",
    ("containers", "publish"): "two ports, HOST_PORT:PORT in quotes, such as '8080:80'",
}
"""What is right in place of something that is no string, by the section and the field's key."""


def _say(problem: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> BadInput:
    """Turn one of pydantic's problems into an error that names the field as the file has it."""
    place = [*prefix, *(str(part) for part in problem["loc"])]
    field = "spec"
    for part in place:
        field += f"[{part}]" if part.isdigit() else "." + part
    value, kind = problem["input"], problem["type"]
    if kind == "less_than_equal" and place[-1] in ("workers", "controlPlane", "replicas"):
        return BadInput(field, value, f"at most {MOST_NODES}, the nodes that Kubernetes is made for")
    if kind == "extra_forbidden":
        known = _known_keys(place[:-1])
        close = difflib.get_close_matches(place[-1], known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
        return BadInput(field, None, f"unknown key; {hint}")
    right = _KINDS.get(kind) or str(problem["msg"]).removeprefix("Value error, ")
    if kind == "string_type":
        right = next((said for (section, key), said in _STRINGS.items() if place[0] == section and key in place), right)
    if kind == "missing":
        value = None
    elif value is None or isinstance(value, (dict, list)):
        value = str(value)
    return BadInput(field, value, right[0].lower() + right[1:])


def _known_keys(place: list[str]) -> list[str]:
    """The keys that a file may have at this place below ``spec``."""
    models: dict[str, type[BaseModel]] = {
        "": ClusterSpec,
        "network": NetworkSpec,
        "nodes": NodeSpec if len(place) > 1 else NodeCounts,
        "underlay": PartSpec,
        "fabric": FabricSpec,
        "proxy": ProxySpec,
        "controlPlane": ControlPlaneSpec,
        "pods": PodsSpec,
        "outside": OutsideSpec,
        "logging": LoggingSpec,
        "networks": ContainerNetworkSpec,
        "containers": ContainerSpec,
    }
    fields = models[place[0] if place else ""].model_fields
    return [field.alias or name for name, field in fields.items() if place or name != "name"]


def check_lab_name(name: str) -> str:
    """Return ``name`` if a lab may be called so; raise BadInput otherwise."""
    if not LAB_NAME.fullmatch(name):
        raise BadInput("lab name", name, LAB_NAME_RIGHT)
    return name


def _with_a_control_plane(nodes: Sequence[Any]) -> list[Any]:
    """Named nodes of which none has a role: the first is the control plane then, as with nodes by number."""
    given = list(nodes)
    if given and all(isinstance(node, Mapping) and "role" not in node for node in given):
        given[0] = {**given[0], "role": "control-plane"}
    return given


def describe(spec: Mapping[str, Any], name: str | None = None) -> ClusterSpec:
    """Make a checked description from the ``spec`` part of a cluster file. Raises BadInput."""
    if "name" in spec:
        raise BadInput("spec.name", None, "unknown key; the name belongs to metadata")
    values = dict(spec)
    if name is not None:
        values["name"] = check_lab_name(name)
    asked = values.get("nodes", {})
    if isinstance(asked, Mapping):
        wanted = values.get("controlPlane")
        replicas = wanted.get("replicas") if isinstance(wanted, Mapping) else None
        if isinstance(replicas, int) and replicas <= MOST_NODES and "controlPlane" not in asked:
            asked = {**asked, "controlPlane": replicas}
        try:
            values["nodes"] = numbered(NodeCounts.model_validate(asked))
        except ValidationError as wrong:
            raise _say(wrong.errors()[0], ("nodes",)) from None
    elif isinstance(asked, (list, tuple)):
        values["nodes"] = _with_a_control_plane(asked)
    else:
        raise BadInput("spec.nodes", asked, "numbers such as {workers: 2, controlPlane: 1}, or a list of {name, role}")
    underlay = values.get("underlay")
    try:
        if isinstance(underlay, Mapping) and "name" not in underlay:  # its parameters alone: of the default
            nodes = ClusterSpec.model_validate({**values, "underlay": None})
            values["underlay"] = {"name": nodes.underlay_name, **underlay}
        made = ClusterSpec.model_validate(values)
    except ValidationError as wrong:
        raise _say(wrong.errors()[0]) from None
    if isinstance(asked, kind_file.Nodes):
        made._nodes_field = asked.field
    return made.check()


def _refuse_unknown(part: Mapping[Any, Any], known: tuple[str, ...], place: str) -> None:
    for key in part:
        if key not in known:
            raise BadInput(f"{place}{key}", None, f"unknown key; known here: {', '.join(known)}")


def read_cluster_file(
    path: Path, note: Callable[[str], object] = lambda text: None
) -> tuple[str | None, dict[str, Any]]:
    """Return name and ``spec`` of a cluster file, as `read_cluster` does. Raises BadInput, also when it is missing."""
    try:
        data = path.read_bytes()
    except OSError as failed:
        raise BadInput("cluster file", str(path), f"a readable file ({failed.strerror})") from None
    return read_cluster(data, str(path), note)


def read_cluster(
    data: bytes, source: str, note: Callable[[str], object] = lambda text: None
) -> tuple[str | None, dict[str, Any]]:
    """Return name and ``spec`` of a cluster file's content, not yet checked, so that flags can be laid over it.

    A file of kind's is taken for what it means here; ``note`` is told what of it has no meaning. ``source`` says in
    errors where the content is from. Raises BadInput when it is no YAML, or is no cluster.
    """
    try:
        content = yaml_documents.load(data.decode())
    except UnicodeDecodeError as wrong:
        raise BadInput(source, None, f"not YAML: not text in UTF-8: {wrong.reason}") from None
    except yaml_documents.RepeatedKey as wrong:
        right = f"a key that is given once; it stands in lines {wrong.lines[0]} and {wrong.lines[1]}"
        raise BadInput(f"{source}: {wrong.path}", None, right) from None
    except yaml.YAMLError as wrong:
        raise BadInput(source, None, "not YAML: " + " ".join(str(wrong).split())) from None
    if not isinstance(content, dict):
        right = f"no cluster file: that is a mapping with apiVersion: {API_VERSION}, kind: Cluster and a spec"
        raise BadInput(source, None, right)
    if kind_file.is_kind(content):
        cluster = kind_file.read(content, source)
        for each in cluster.notes:
            note(each)
        return cluster.name, cluster.spec
    for key, right in (("apiVersion", API_VERSION), ("kind", "Cluster")):
        if content.get(key) != right:
            missing = "" if content.get(key) is not None else "it is missing, and has to be "
            raise BadInput(f"{source}: {key}", content.get(key), missing + right)
    _refuse_unknown(content, ("apiVersion", "kind", "metadata", "spec"), f"{source}: ")
    metadata, spec = ({} if (part := content.get(key)) is None else part for key in ("metadata", "spec"))
    for key, part in (("metadata", metadata), ("spec", spec)):
        if not isinstance(part, dict):
            raise BadInput(f"{source}: {key}", part, "a mapping")
    _refuse_unknown(metadata, ("name",), f"{source}: metadata.")
    name = metadata.get("name")
    if name is not None and not isinstance(name, str):
        raise BadInput(f"{source}: metadata.name", name, "a name")
    return name, spec
