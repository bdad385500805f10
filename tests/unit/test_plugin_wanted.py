"""What a test asks of the pytest plugin, and how answers read: pure."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mininetes import parts
from mininetes.errors import BadInput
from mininetes.probes.latency import Summary
from mininetes.testing import Answer
from mininetes.testing.cluster import unready
from mininetes.testing.probing import Asked, Latency
from mininetes.testing.wanted import Wanted, asked_of

FILE = """
apiVersion: mininetes/v1
kind: Cluster
metadata: {name: from-file}
spec: {nodes: {workers: 4}, fabric: router}
"""


def wanted(folder: Path, **asked: Any) -> Wanted:
    return Wanted(asked, folder, folder)


def test_a_marker_goes_before_the_module() -> None:
    assert asked_of({"nodes": 2}, (), {"nodes": 5}) == {"nodes": 2}
    assert asked_of({"nodes": 2}, ("x.yaml",), None) == {"file": "x.yaml", "nodes": 2}
    assert asked_of(None, (), {"nodes": 5}) == {"nodes": 5}
    assert asked_of(None, (), "x.yaml") == asked_of(None, (), Path("x.yaml")) == {"file": "x.yaml"}
    assert asked_of(None, (), None) == {}


def test_a_module_may_have_a_whole_cluster_file() -> None:
    whole = {"apiVersion": "mininetes/v1", "kind": "Cluster", "metadata": {"name": "a"}, "spec": {"fabric": "none"}}
    assert asked_of(None, (), whole) == {"name": "a", "fabric": "none"}
    with pytest.raises(BadInput, match="mininetes/v1 Cluster"):
        asked_of(None, (), {**whole, "kind": "Pod"})
    with pytest.raises(BadInput, match="a cluster file, or a mapping"):
        asked_of(None, (), 3)
    with pytest.raises(BadInput, match="at most one cluster file"):
        asked_of({}, ("a", "b"), None)


def test_keywords_are_flags_and_fields(tmp_path: Path) -> None:
    spec = wanted(
        tmp_path,
        nodes=4,
        pods=1,
        fabric="vxlan",
        proxy="nftables",
        firewall="kubernetes",
        settings={"network.pods": "10.9.0.0/16"},
    ).spec()
    assert (len(spec.nodes), spec.pods.per_node, spec.fabric.title, spec.proxy.mode) == (4, 1, "vxlan", "nftables")
    assert (spec.firewall, str(spec.network.pods)) == ("kubernetes", "10.9.0.0/16")
    named = wanted(tmp_path, nodes=[{"name": "a"}, {"name": "b"}], pods={"perNode": 0}, proxy={"mode": "ipvs"}).spec()
    assert ([node.name for node in named.nodes], named.pods.per_node, named.proxy.mode) == (["a", "b"], 0, "ipvs")


def test_a_file_is_found_beside_the_test_or_from_the_root(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "c.yaml").write_text(FILE)
    spec = Wanted({"file": "c.yaml", "nodes": 2}, tmp_path / "below", tmp_path).spec()
    assert (len(spec.nodes), spec.fabric.title) == (2, "router")
    assert spec.name.startswith("c-")
    assert len(wanted(tmp_path, file="c.yaml").spec().nodes) == 5
    assert len(wanted(tmp_path, file="islands").spec().nodes) == 3


def test_paths_start_from_the_test(tmp_path: Path) -> None:
    (tmp_path / "my.conflist").write_text("{}")
    spec = wanted(tmp_path, cni="my.conflist", proxy={"exec": ["./my-proxy", "-x"]}).spec()
    assert spec.cni == str(tmp_path / "my.conflist")
    assert spec.proxy.exec == (str(tmp_path / "my-proxy"), "-x")


def test_names_are_never_the_same(tmp_path: Path) -> None:
    names = {wanted(tmp_path, name="a-name-of-many-letters-x").spec().name for _ in range(3)}
    assert len(names) == 3
    assert all(len(name) <= 40 for name in names)
    with pytest.raises(BadInput, match="lab name"):
        wanted(tmp_path, name="No Name").spec()


def test_who_shares_and_who_does_not(tmp_path: Path) -> None:
    assert wanted(tmp_path, nodes=2).key == wanted(tmp_path, nodes=2, fresh=True).key
    assert wanted(tmp_path, nodes=2).key != wanted(tmp_path, nodes=3).key
    assert wanted(tmp_path, nodes=2).key != wanted(tmp_path / "other", nodes=2).key
    assert not wanted(tmp_path).fresh


def test_parts_are_as_before_afterwards(tmp_path: Path) -> None:
    before = parts.used()
    (tmp_path / "own").mkdir()
    with wanted(tmp_path, parts="own").with_parts():
        assert parts.used() == [tmp_path / "own", *before]
    assert parts.used() == before
    with pytest.raises(BadInput, match="a folder"), wanted(tmp_path, parts="nowhere").with_parts():
        pass
    assert parts.used() == before


def asked(**facts: Any) -> Asked:
    given = {"replies": {"node1": Counter(answered=4)}, "pods": Counter(a=4), **facts}
    return Asked("web", "10.96.0.9:80/tcp", frozenset({"a", "b"}), **given)


def test_a_service_that_answers() -> None:
    assert asked()
    assert asked().message == "service web at 10.96.0.9:80/tcp, asked 4 times: answered by a x4"


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"replies": {"node1": Counter(answered=3, refused=1)}}, "node1 -> 10.96.0.9:80/tcp: 1 times refused, of 4"),
        ({"pods": Counter(a=2, stranger=2)}, "answered by stranger, no endpoint"),
    ],
)
def test_a_service_that_does_not(facts: dict[str, Any], said: str) -> None:
    assert not asked(**facts)
    assert said in asked(**facts).message


def test_a_service_without_endpoints_does_not_hold() -> None:
    assert "no endpoint that is ready" in Asked("web", "x", frozenset()).message


def test_latency_holds_without_loss() -> None:
    summary = Summary("same node", "rtt_us", 10, 0, 10, 5.0, 6.0, 7.0, 8.0)
    assert Latency((summary,))
    assert Latency((summary,)).of("same node").p50 == 5.0
    lossy = Latency((Summary("cross node", "rtt_us", 10, 2, 8, 5.0, 6.0, 7.0, 8.0),))
    assert not lossy
    assert "2 of 10 lost" in lossy.message
    with pytest.raises(BadInput, match="cross node rtt_us"):
        lossy.of("same node")


def test_what_is_shown_in_an_assertion_is_short() -> None:
    class Long(Answer):
        holds = False
        message = "\n".join(["word " * 100] * 3)

    assert len(repr(Long())) < 240
    assert "\n" not in repr(Long())


@pytest.mark.parametrize(
    ("obj", "slices", "said"),
    [
        ({"kind": "Pod", "status": {"conditions": [{"type": "Ready", "status": "True"}]}}, [], ""),
        ({"kind": "Pod", "status": {"phase": "Pending"}}, [], "is not Ready (Pending)"),
        ({"kind": "Node", "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}, [], "is not Ready"),
        ({"kind": "Service"}, [{"endpoints": [{"conditions": {"ready": False}}]}], "has no endpoint"),
        ({"kind": "Service"}, [{"endpoints": [{"conditions": {"ready": True}}]}], ""),
        ({"kind": "ConfigMap"}, [], ""),
    ],
)
def test_when_an_object_is_ready(obj: dict[str, Any], slices: list[dict[str, Any]], said: str) -> None:
    assert unready({"metadata": {}, **obj}, slices).startswith(said)
    assert bool(said) == bool(unready({"metadata": {}, **obj}, slices))


def test_a_deployment_is_ready_when_its_controller_has_seen_it_and_all_replicas_are_new() -> None:
    deployment: dict[str, Any] = {"kind": "Deployment", "metadata": {"generation": 2}, "spec": {"replicas": 3}}
    status = {"observedGeneration": 2, "readyReplicas": 3, "updatedReplicas": 3}
    assert unready({**deployment, "status": status}) == ""
    assert "its controller" in unready({**deployment, "status": {**status, "observedGeneration": 1}})
    assert "1 of 3 replicas updated" in unready({**deployment, "status": {**status, "updatedReplicas": 1}})
    assert "2 of 3" in unready({**deployment, "status": {**status, "readyReplicas": 2}})
