"""get, apply, delete and kubeconfig: the API's objects without kubectl."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cluster_api import ClusterApi, deployment, is_ready, service
from running_lab import Done, RunningLab, mininetes, running

from mininetes.lab import state

WEB = "---\n".join(yaml.safe_dump(each) for each in (deployment("web", 2), service("web")))


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running("--pods", "1") as up:
        yield up


def run(lab: RunningLab, *arguments: str, stdin: str = "") -> Done:
    done = lab.command(*arguments, stdin=stdin)
    assert done.status == 0, done
    return done


def columns(text: str) -> list[list[str]]:
    return [re.split(r" {2,}", line.strip()) for line in text.strip().splitlines()]


def test_get_prints_what_kubectl_prints(lab: RunningLab) -> None:
    header, *rows = columns(run(lab, "get", "nodes").stdout)
    assert header == ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]
    assert [row[:3] for row in rows] == [
        ["node1", "Ready", "control-plane"], ["node2", "Ready", "<none>"], ["node3", "Ready", "<none>"],
    ]  # fmt: skip
    header, *rows = columns(run(lab, "get", "po", "-A", "-o", "wide").stdout)
    assert header[:2] == ["NAMESPACE", "NAME"]
    assert header[6:8] == ["IP", "NODE"]
    assert ["default", "node2-1", "1/1", "Running", "0"] in [row[:5] for row in rows]
    assert {row[7] for row in rows if row[1] == "node2-1"} == {"node2"}


def test_get_prints_objects_for_programs(lab: RunningLab) -> None:
    one = json.loads(run(lab, "get", "pod", "node1-1", "-o", "json").stdout)
    assert (one["kind"], one["status"]["podIP"]) == ("Pod", lab.pods["node1-1"]["address"])
    many = yaml.safe_load(run(lab, "get", "pods", "-o", "yaml").stdout)
    assert many["kind"] == "List"
    assert {item["metadata"]["name"] for item in many["items"]} == {"node1-1", "node2-1", "node3-1"}
    assert run(lab, "get", "svc,ep", "-o", "name").stdout.split() == ["service/kubernetes", "endpoints/kubernetes"]
    assert "deployment.apps/coredns" in run(lab, "get", "all", "-A").stdout


def test_manifests_are_applied_changed_and_deleted(lab: RunningLab, tmp_path: Path) -> None:
    manifest = tmp_path / "web.yaml"
    manifest.write_text(WEB)
    assert run(lab, "apply", "-f", str(manifest)).stdout.split("\n")[:2] == [
        "deployment.apps/web created",
        "service/web created",
    ]
    api = ClusterApi(lab)
    pods = "/api/v1/namespaces/default/pods?labelSelector=app=web"
    api.wait(pods, lambda found: sum(map(is_ready, found["items"])) == 2, "two pods")
    manifest.write_text(WEB.replace("replicas: 2", "replicas: 3"))
    said = run(lab, "apply", "-f", str(tmp_path)).stdout
    assert "deployment.apps/web configured" in said
    assert "service/web unchanged" in said
    api.wait(pods, lambda found: sum(map(is_ready, found["items"])) == 3, "three pods")
    assert "deployment" in run(lab, "delete", "-f", "-", stdin=WEB).stdout
    assert lab.command("get", "deployment", "web").status != 0
    api.wait(pods, lambda found: not found["items"], "no pods")


def test_a_deleted_pod_is_gone_when_the_command_returns(lab: RunningLab) -> None:
    run(lab, "apply", "-f", "-", stdin="""{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "short"},
        "spec": {"nodeName": "node2", "containers": [{"name": "c", "image": "x"}]}}""")  # fmt: skip
    ClusterApi(lab).wait("/api/v1/namespaces/default/pods/short", is_ready, "the pod")
    assert "short" in lab.exec("node2", "ip", "netns")
    run(lab, "delete", "pod", "short")
    assert "short" not in lab.exec("node2", "ip", "netns")


BAD = {
    "an unknown kind": (["get", "widgets"], "", ["'widgets'", "deployments"]),
    "an unknown kind in a manifest": (
        ["apply", "-f", "-"],
        WEB + "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: x}\n",
        ["standard input: document 3", "Ingress", "Deployment"],
    ),
    "no YAML": (["apply", "-f", "-"], "a: [", ["standard input", "not YAML"]),
    "no name": (["apply", "-f", "-"], "apiVersion: v1\nkind: Pod\n", ["document 1: metadata.name"]),
    "nothing": (["apply", "-f", "-"], "", ["at least one object"]),
    "no such file": (["apply", "-f", "/nowhere.yaml"], "", ["/nowhere.yaml", "No such file"]),
    "a kind and a file": (["delete", "pod", "x", "-f", "-"], WEB, ["either KIND NAME... or -f FILE"]),
    "a kind alone": (["delete", "pod"], "", ["mininetes delete pod NAME"]),
}


@pytest.mark.parametrize(("arguments", "stdin", "words"), BAD.values(), ids=list(BAD))
def test_what_is_wrong_is_named_and_nothing_is_sent(
    lab: RunningLab, arguments: list[str], stdin: str, words: list[str]
) -> None:
    before = run(lab, "get", "all", "-o", "name").stdout
    done = lab.command(*arguments, stdin=stdin)
    assert done.status == 2, done
    assert len(done.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in done.stderr
    assert run(lab, "get", "all", "-o", "name").stdout == before


def test_the_servers_refusal_is_shown_and_the_rest_is_applied(lab: RunningLab) -> None:
    wrong = service("Not_A_Name")
    done = lab.command("apply", "-f", "-", stdin=yaml.safe_dump_all([wrong, service("right")]))
    assert done.status == 1
    assert "Not_A_Name" in done.stderr
    assert done.stdout.split() == ["service/right", "created"]
    run(lab, "delete", "service", "right")


def test_the_kubeconfig_is_private_and_goes_with_the_lab() -> None:
    with running("--pods", "0", "--nodes", "1") as small:
        path = Path(run(small, "kubeconfig", "--path").stdout.strip())
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_text() == run(small, "kubeconfig").stdout
        assert path.parent == state.base() / small.name
    assert not path.exists()


def test_a_lab_without_a_control_plane_says_so() -> None:
    with running("--pods", "1", "--set", "controlPlane.store=none") as bare:
        for command in (["kubeconfig"], ["get", "pods"]):
            done = bare.command(*command)
            assert done.status == 2, done
            assert "controlPlane" in done.stderr
        done = mininetes("agents", "ls", "--lab", bare.name)
        assert done.status == 2, done
        assert "controlPlane" in done.stderr
