"""What a kubectl of 1.30 and newer does besides: explain, strict checks, and exec (a clear error before)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import kubectls
import pytest
from kubectls import ANY, NEW, WITH_SPDY, WITH_WEBSOCKET, Client, Kubectl
from running_lab import RunningLab


@pytest.fixture(params=NEW, ids=str)
def kubectl(request: pytest.FixtureRequest, three_nodes: RunningLab, tmp_path: Path) -> Iterator[Kubectl]:
    client: Client = request.param
    with kubectls.set_up(three_nodes, client, tmp_path) as made:
        yield made


@pytest.fixture
def own(kubectl: Kubectl) -> Iterator[Kubectl]:
    with kubectls.namespace(kubectl, f"new-{kubectl.client.name}") as made:
        yield made


def test_explain(kubectl: Kubectl) -> None:
    said = kubectl("explain", "deployment.spec.replicas")
    assert "KIND:       Deployment" in said
    assert "FIELD: replicas <integer>" in said
    assert "nodeName" in kubectl("explain", "pod.spec")
    assert "FIELD: port <integer>" in kubectl("explain", "service.spec.ports.port")
    assert "does not exist" in kubectl.fails("explain", "pod.spec.nothing")


def test_unknown_fields_are_refused_by_name(own: Kubectl) -> None:
    wrong = kubectls.deployment("web", 1).replace("replicas: 1", "replicaz: 1")
    said = own.fails("apply", "-f", "-", stdin=wrong)
    assert 'strict decoding error: unknown field "spec.replicaz"' in said or 'unknown field "spec.replicaz"' in said
    assert own("get", "deployments", "-o", "name") == ""
    wrong = kubectls.deployment("web", 1).replace("replicas: 1", 'replicas: "one"')
    own.fails("apply", "-f", "-", stdin=wrong)
    assert own("get", "deployments", "-o", "name") == ""


def test_api_resources_and_versions(kubectl: Kubectl) -> None:
    rows = {row["NAME"]: row for row in kubectl.rows("api-resources")}
    for name, kind in (
        ("namespaces", "Namespace"), ("nodes", "Node"), ("pods", "Pod"), ("services", "Service"),
        ("endpoints", "Endpoints"), ("endpointslices", "EndpointSlice"), ("deployments", "Deployment"),
        ("replicasets", "ReplicaSet"), ("configmaps", "ConfigMap"), ("events", "Event"), ("leases", "Lease"),
    ):  # fmt: skip
        assert rows[name]["KIND"] == kind
    assert rows["services"]["SHORTNAMES"] == "svc"
    assert {"v1", "apps/v1", "discovery.k8s.io/v1", "coordination.k8s.io/v1"} <= set(kubectl("api-versions").split())
    assert "Server Version: v1.30" in kubectl("version")
    assert "is running at" in kubectl("cluster-info")


def test_apply_on_the_servers_side_and_create_dry(own: Kubectl) -> None:
    manifest = kubectls.deployment("web", 1)
    dry = own("apply", "--dry-run=server", "-f", "-", stdin=manifest)
    assert "deployment.apps/web created (server dry run)" in dry
    assert own("get", "deployments", "-o", "name") == ""
    assert "deployment.apps/web serverside-applied" in own("apply", "--server-side", "-f", "-", stdin=manifest)
    own("rollout", "status", "deployment/web", "--timeout=30s")


def test_logs_are_followed(own: Kubectl) -> None:
    own.apply(kubectls.talking_pod("talker", "echo one; until [ -e /etc/hostname.never ]; do echo more; sleep 1; done"))
    own("wait", "--for=condition=Ready", "pod/talker", "--timeout=20s")
    said = own.attempt("logs", "-f", "talker", "--limit-bytes=9")
    assert (said.status, said.stdout) == (0, "one\nmore\n")


def test_without_a_token_the_answer_is_401(own: Kubectl, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    lines = (tmp_path / "kubeconfig").read_text().splitlines(keepends=True)
    stranger.write_text("".join(line.replace(line.split("token:")[1].strip(), "x" * 20) if "token:" in line else line
                                for line in lines))  # fmt: skip
    said = own.fails(f"--kubeconfig={stranger}", "get", "pods")
    assert "You must be logged in to the server" in said or "Unauthorized" in said


@pytest.fixture
def talker(three_nodes: RunningLab, tmp_path: Path) -> Iterator[Kubectl]:
    """A namespace with a pod ``talker`` on node2 that runs a command."""
    with (
        kubectls.set_up(three_nodes, ANY, tmp_path) as kubectl,
        kubectls.namespace(kubectl, "talking") as own,
    ):
        own.apply(kubectls.talking_pod("talker", "exec sleep 3600", node="node2"))
        own("wait", "--for=condition=Ready", "pod/talker", "--timeout=20s")
        yield own


@pytest.mark.parametrize("client", WITH_WEBSOCKET or NEW, ids=str)
def test_exec(talker: Kubectl, three_nodes: RunningLab, tmp_path: Path, client: Client) -> None:
    # 1.30 and newer do so by themselves; what chooses between several may choose an older one, which is told to
    websocket = {} if client.speaks_websocket else {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "true"}
    with kubectls.set_up(three_nodes, client, tmp_path) as kubectl:
        own = kubectl.within("talking").told(websocket)
        assert "default via 10.244.2.1 dev eth0" in own("exec", "talker", "--", "ip", "route")
        assert own("exec", "-i", "talker", "--", "cat", stdin="through\nit\n") == "through\nit\n"
        done = own.attempt("exec", "talker", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
        assert (done.status, done.stdout) == (7, "out\n")
        assert done.stderr.startswith("err\n")
        assert own("exec", "talker", "-c", "main", "--", "hostname") == "talker\n"
        assert "nothing-of-the-kind" in own.fails("exec", "talker", "--", "nothing-of-the-kind")
        assert 'pods "nobody" not found' in own.fails("exec", "nobody", "--", "true")
        big = own("exec", "talker", "--", "sh", "-c", "yes mininetes | head -c 3000000")
        assert len(big) == 3_000_000


@pytest.mark.parametrize("client", WITH_WEBSOCKET or NEW, ids=str)
def test_run_and_attach(talker: Kubectl, three_nodes: RunningLab, tmp_path: Path, client: Client) -> None:
    websocket = {} if client.speaks_websocket else {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "true"}
    with kubectls.set_up(three_nodes, client, tmp_path) as kubectl:
        own = kubectl.within("talking").told(websocket)
        run = ("run", "-i", "--rm", "--restart=Never", "--image=busybox", "--pod-running-timeout=20s")
        done = own.attempt(*run, "short", "--", "sh", "-c", "echo one; echo two")
        assert (done.status, done.stdout.splitlines()[:2]) == (0, ["one", "two"])
        done = own.attempt(*run, "told", "--", "sh", stdin="hostname; exit 3\n")
        assert (done.status, done.stdout.splitlines()[0]) == (3, "told")
        assert "built-in program answers in it" in own.fails("attach", "-n", "default", "node2-1")
        debug = ("debug", "node/node2", "-i", "--image=busybox")
        assert "node2\n" in own(*debug, "--", "sh", "-c", "hostname; ls -d /host/etc/cni/net.d")
        assert "ephemeral containers are disabled" in own.fails("debug", "talker", "--image=busybox", "--", "true")


@pytest.mark.parametrize("client", WITH_SPDY or NEW, ids=str)
def test_exec_by_spdy_is_refused_with_a_reason(
    talker: Kubectl, three_nodes: RunningLab, tmp_path: Path, client: Client
) -> None:
    spdy = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false"}  # newer ones speak SPDY when told to
    with kubectls.set_up(three_nodes, client, tmp_path) as kubectl:
        done = kubectl.within("talking").told(spdy).attempt("exec", "talker", "--", "true")
        assert done.status == 1
        assert "SPDY" in done.stderr
        assert "1.30" in done.stderr
