"""What bad input gets: status 2, one line that names field, value and what is right, and nothing built."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from running_lab import Done, RunningLab, fresh_name, is_left, mininetes

from mininetes.lab import state

HEAD = {"apiVersion": "mininetes/v1", "kind": "Cluster"}
BRIDGE = {"type": "bash-bridge", "ipam": {"type": "bash-host-local", "subnet": "$POD_CIDR"}}
LIST = {"cniVersion": "1.0.0", "name": "mine", "plugins": [BRIDGE]}


def one_line(done: Done, *words: str) -> None:
    """Status 2, and one line on stderr with all these words."""
    assert done.status == 2, done
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("mininetes: ")
    assert "Traceback" not in done.stderr
    assert [word for word in words if word not in done.stderr] == [], done.stderr


def refused(*arguments: str, words: tuple[str, ...], cwd: Path | None = None) -> None:
    """`up` with these arguments builds nothing and says why."""
    name = fresh_name("bad")
    done = mininetes("up", "--lab", name, *arguments, cwd=cwd)
    built = is_left(name)
    if built:
        mininetes("down", name)
    one_line(done, *words)
    assert not built


# --- flags of up --------------------------------------------------------------------------------------------------

UNDERLAYS = "leaf_spine, racks, single_switch, three_node"
FLAGS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "no nodes": (["--nodes", "0"], ("--nodes", "0", "at least 1")),
    "too many nodes": (["--nodes", "245"], ("spec.network.nodes", "192.168.1.0/24", "245 nodes")),
    "too many pods": (["--pods", "254"], ("spec.pods.perNode", "254", "253")),
    "fewer pods than none": (["--pods", "-1"], ("spec.pods.perNode", "-1", "0")),
    "an unknown underlay": (["--underlay", "moon"], ("underlay", "'moon'", UNDERLAYS)),
    "an unknown fabric": (["--fabric", "silk"], ("fabric", "'silk'", "none, router, static")),
    "kept, with a command line": (["--keep", "--mininet"], ("--keep", "left out with --mininet")),
    "a plugin for a cni": (["--cni", "bash-host-local"], ("spec.cni", "'bash-host-local'", "bash-host-local.conflist")),
    "an unknown cni": (["--cni", "magic"], ("cni", "'magic'", "bash-bridge.conflist, bash-ipvlan.conflist")),
    "an unknown cluster": (["nonsense.yaml"], ("cluster", "nonsense.yaml", "three-node")),
    "three nodes for four": (["--underlay", "three_node", "--nodes", "4"], ("three_node", "4", "single_switch")),
    "set without a value": (["--set", "pods"], ("--set", "'pods'", "FIELD=VALUE")),
    "set of an unknown field": (["--set", "pods.perNods=3"], ("spec.pods.perNods", "unknown key", "perNode")),
    "set to another type": (["--set", "pods.perNode=many"], ("spec.pods.perNode", "'many'", "integer")),
    "set to no YAML": (["--set", "pods.perNode={"], ("--set", "pods.perNode={", "YAML")),
    "ranges that overlap": (
        ["--set", "network.services=10.244.0.0/24"],
        ("spec.network.pods", "10.244.0.0/16", "spec.network.services", "10.244.0.0/24"),
    ),
    "IPv6": (["--set", "network.pods=fd00::/48"], ("spec.network.pods", "fd00::/48", "IPv6")),
    "an unknown parameter": (
        ["--underlay", "racks", "--set", "underlay.parameters.rcks=2"],
        ("spec.underlay.parameters.rcks", "unknown", "racks"),
    ),
    "a link that is too wide": (
        ["--underlay", "single_switch", "--set", "underlay.parameters.bw=100000"],
        ("bw", "100000", "1000"),
    ),
}


@pytest.mark.parametrize(("arguments", "words"), FLAGS.values(), ids=list(FLAGS))
def test_flags_that_are_wrong(arguments: list[str], words: tuple[str, ...]) -> None:
    refused(*arguments, words=words)


@pytest.mark.parametrize("name", ["Bad", "a b", "-x-", "x" * 41, "a/b", "..", "a_b"])
def test_a_lab_name_that_cannot_be(name: str) -> None:
    one_line(mininetes("up", f"--lab={name}"), "name", repr(name), "lower-case")
    assert name not in {folder.name for folder in state.base().iterdir()}


@pytest.mark.parametrize("name", ["Bad", ""])
def test_a_lab_name_that_cannot_be_is_refused_without_building_too(name: str) -> None:
    one_line(mininetes("up", f"--lab={name}", "--dry-run"), "name", repr(name), "lower-case")


def test_a_name_that_a_running_lab_has(three_nodes: RunningLab) -> None:
    one_line(mininetes("up", "--lab", three_nodes.name), three_nodes.name, "up already")
    assert three_nodes.status()[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["up", "--nodes", "three"], ["--nodes", "three", "integer"]),
        (["up", "--fabrik", "static"], ["--fabrik", "--fabric"]),
        (["up", "one.yaml", "two.yaml"], ["two.yaml"]),
        (["exec"], ["NODE"]),
        (["exec", "node1"], ["COMMAND"]),
        (["probe", "reachability", "--protocol", "sctp"], ["--protocol", "sctp", "icmp", "udp", "tcp"]),
        (["up", "-o", "xml"], ["xml", "text", "json"]),
        (["frobnicate"], ["frobnicate"]),
    ],
    ids=" ".join,
)
def test_flags_that_there_are_not(arguments: list[str], words: list[str]) -> None:
    """These say how the command is used as well, as such programs do."""
    done = mininetes(*arguments)
    assert done.status == 2
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert [word for word in words if word not in last] == [], done.stderr


def test_a_parts_folder_that_is_not_there() -> None:
    one_line(mininetes("--parts", "/nothing/there", "ls"), "--parts", "/nothing/there", "folder")


# --- cluster files ------------------------------------------------------------------------------------------------

FILES: dict[str, tuple[object, tuple[str, ...]]] = {
    "broken YAML": ("spec: {nodes: [\n", ("cluster.yaml", "not YAML", "line")),
    "not text": (b"\xff\xfe\x00\x01", ("cluster.yaml", "YAML")),
    "empty": ("", ("cluster.yaml", "apiVersion")),
    "another kind": ({**HEAD, "kind": "Pod"}, ("cluster.yaml", "kind", "'Pod'", "Cluster")),
    "an unknown key": ({**HEAD, "spec": {"fabrik": "static"}}, ("spec.fabrik", "unknown key", "'fabric'")),
    "a key of a node": (
        {**HEAD, "spec": {"nodes": [{"name": "a", "rol": "worker"}]}},
        ("spec.nodes[0].rol", "unknown key", "'role'"),
    ),
    "two nodes of one name": (
        {**HEAD, "spec": {"nodes": [{"name": "a"}, {"name": "a"}]}},
        ("spec.nodes[1].name", "'a'", "no other node"),
    ),
    "no host name": ({**HEAD, "spec": {"nodes": [{"name": "A!"}]}}, ("spec.nodes[0].name", "'A!'", "host name")),
    "no nodes": ({**HEAD, "spec": {"nodes": []}}, ("spec.nodes", "0", "at least 1")),
    "a node called like a switch": ({**HEAD, "spec": {"nodes": [{"name": "s1"}]}}, ("spec.nodes", "'s1'", "name")),
    "overlapping ranges": (
        {**HEAD, "spec": {"network": {"pods": "192.168.0.0/16"}}},
        ("spec.network.nodes", "192.168.1.0/24", "spec.network.pods", "192.168.0.0/16"),
    ),
    "a small pod network": (
        {**HEAD, "spec": {"network": {"pods": "10.244.0.0/23"}}},
        ("spec.network.pods", "10.244.0.0/23", "3 nodes"),
    ),
}


@pytest.mark.parametrize("command", ["up", "validate"])
@pytest.mark.parametrize(("content", "words"), FILES.values(), ids=list(FILES))
def test_cluster_files_that_are_wrong(tmp_path: Path, command: str, content: object, words: tuple[str, ...]) -> None:
    path = tmp_path / "cluster.yaml"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    if command == "up":
        refused(str(path), words=words)
    else:
        one_line(mininetes("validate", str(path)), *words)


@pytest.mark.parametrize("command", ["up", "validate"])
def test_a_name_in_the_file_that_no_lab_can_have(tmp_path: Path, command: str) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump({**HEAD, "metadata": {"name": "Big Lab"}}))
    one_line(mininetes(command, str(path)), "name", "'Big Lab'", "lower-case")


def test_validate_says_what_is_right_about_a_file_that_is(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump({**HEAD, "metadata": {"name": "x"}, "spec": {"nodes": {"workers": 1}}}))
    done = mininetes("validate", str(path))
    assert (done.status, done.stderr) == (0, "")
    assert "valid: 2 nodes" in done.stdout
    assert not is_left("x")


# --- network configurations ---------------------------------------------------------------------------------------

CONFLISTS: dict[str, tuple[object, tuple[str, ...]]] = {
    "broken": ('{"cniVersion": ', ("mine.conflist", "not JSON")),
    "no plugins": ({**LIST, "plugins": []}, ("mine.conflist", "plugins", "at least one")),
    "no name": ({"cniVersion": "1.0.0", "plugins": [BRIDGE]}, ("mine.conflist", "name")),
    "a version of the future": ({**LIST, "cniVersion": "9.9.9"}, ("mine.conflist", "cniVersion", "9.9.9", "1.0.0")),
    "a plugin that is missing": (
        {**LIST, "plugins": [{"type": "nonsense"}]},
        ("mine.conflist", "type", "'nonsense'", "bash-bridge"),
    ),
    "an address plugin that is missing": (
        {**LIST, "plugins": [{**BRIDGE, "ipam": {"type": "nonsense"}}]},
        ("mine.conflist", "'nonsense'", "bash-host-local"),
    ),
    "an unknown placeholder": (
        {**LIST, "plugins": [{**BRIDGE, "bridge": "$BRIDGE"}]},
        ("mine.conflist", "$BRIDGE", "$POD_CIDR"),
    ),
    "a version that a plugin does not speak": (
        {**LIST, "cniVersion": "1.1.0", "plugins": [{**BRIDGE, "type": "bash-bridge"}, {"type": "portmap"}]},
        ("mine.conflist", "cniVersion", "1.1.0", "portmap speaks"),
    ),
    "an MTU too small": ({**LIST, "plugins": [{**BRIDGE, "mtu": 60}]}, ("mine.conflist", "plugins[0].mtu", "60", "68")),
    "not text": (b"\xff\xfe\x00\x01", ("mine.conflist", "JSON")),
}


@pytest.mark.parametrize(("content", "words"), CONFLISTS.values(), ids=list(CONFLISTS))
def test_network_configurations_that_are_wrong(tmp_path: Path, content: object, words: tuple[str, ...]) -> None:
    path = tmp_path / "mine.conflist"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    refused("--cni", str(path), words=words)


def test_a_path_to_no_configuration(tmp_path: Path) -> None:
    refused("--cni", str(tmp_path / "x.conflist"), words=("cni", "x.conflist", "bash-bridge.conflist"))
    refused("--cni", str(tmp_path), words=("cni", str(tmp_path)))


# --- experiments --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], ("experiment", "'nonsense'", "quickstart")),
        (["quickstart", "--set", "noodles=3"], ("--set", "'noodles'", "nodes, pods_per_node, fabric")),
        (["quickstart", "--set", "nodes=many"], ("--set nodes", "'many'", "3")),
        (["quickstart", "--set", "nodes"], ("--set", "'nodes'", "KEY=VALUE")),
        (["quickstart", "--set", "nodes=0"], ("nodes", "nodes: 0")),
        (["quickstart", "--set", "fabric=silk"], ("fabric", "'silk'", "none, router, static")),
        (["quickstart", "--set", "cni=magic"], ("cni", "'magic'", "bash-bridge.conflist")),
        (["quickstart", "--set", "fabric=static,silk"], ("fabric", "'silk'", "none, router, static")),
        (["quickstart", "--set", "pods_per_node=254"], ("spec.pods.perNode", "254", "253")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_experiments_that_cannot_be_run(tmp_path: Path, arguments: list[str], words: tuple[str, ...]) -> None:
    one_line(mininetes("run", *arguments, "--out", str(tmp_path / "out")), *words)
    assert not (tmp_path / "out").exists()


def test_a_folder_for_results_that_is_not_empty_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    one_line(mininetes("run", "quickstart", "--out", str(tmp_path)), "--out", str(tmp_path), "empty folder")
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_a_folder_for_results_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("data")
    one_line(mininetes("run", "quickstart", "--out", str(tmp_path / "file")), "--out", "file", "folder")


# --- labs that are not there --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["down", "NAME"],
        ["status", "NAME"],
        ["exec", "--lab", "NAME", "node1", "--", "true"],
        ["shell", "--lab", "NAME", "node1"],
        ["probe", "reachability", "--lab", "NAME"],
        ["probe", "latency", "--lab", "NAME"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_lab_that_is_not_up_is_named_with_those_that_are(three_nodes: RunningLab, arguments: list[str]) -> None:
    name = fresh_name("absent")
    done = mininetes(*(name if word == "NAME" else word for word in arguments))
    one_line(done, "--lab", name, three_nodes.name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["reachability", "--attempts", "0"], ("attempts", "0", "1 to 100")),
        (["reachability", "--timeout", "0"], ("timeout", "0", "more than 0")),
        (["latency", "--count", "0"], ("count", "0")),
        (["latency", "--interval", "-1"], ("interval", "-1")),
        (["latency", "--size", "100000"], ("100000",)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_probes_that_cannot_be_sent(three_nodes: RunningLab, options: list[str], words: tuple[str, ...]) -> None:
    kind, *rest = options
    one_line(mininetes("probe", kind, "--lab", three_nodes.name, *rest), *words)


def test_a_shell_needs_a_place_or_mininet(three_nodes: RunningLab) -> None:
    one_line(three_nodes.command("shell"), "shell", "--mininet")
    one_line(three_nodes.command("shell", "node9"), "node9", "node1")
