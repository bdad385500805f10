"""What every kubectl does with a lab: nodes, pods, a deployment's life, a watch. 1.20 does so with --validate=false."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import kubectls
import pytest
from kubectls import KUBECTLS, Client, Kubectl
from running_lab import RunningLab
from waiting import wait_until


@pytest.fixture(params=KUBECTLS, ids=str)
def kubectl(request: pytest.FixtureRequest, three_nodes: RunningLab, tmp_path: Path) -> Iterator[Kubectl]:
    client: Client = request.param
    with kubectls.set_up(three_nodes, client, tmp_path) as made:
        yield made


@pytest.fixture
def own(kubectl: Kubectl) -> Iterator[Kubectl]:
    """The same in a namespace of its own."""
    with kubectls.namespace(kubectl, f"own-{kubectl.client.name}") as made:
        yield made


def test_the_nodes_are_ready(kubectl: Kubectl, three_nodes: RunningLab) -> None:
    rows = {row["NAME"]: row for row in kubectl.rows("get", "nodes", "-o", "wide")}
    assert set(rows) == set(three_nodes.nodes)
    assert {row["STATUS"] for row in rows.values()} == {"Ready"}
    assert {name: row["INTERNAL-IP"] for name, row in rows.items()} == {
        name: three_nodes.address(name) for name in three_nodes.nodes
    }
    assert rows["node1"]["ROLES"] == "control-plane"
    assert "node1" in kubectl("get", "nodes", "-o", "name")


def test_pods_are_listed_with_their_addresses(kubectl: Kubectl, three_nodes: RunningLab) -> None:
    rows = {f"{row['NAMESPACE']}/{row['NAME']}": row for row in kubectl.rows("get", "pods", "-A", "-o", "wide")}
    for title, pod in three_nodes.pods.items():
        name = title if "/" in title else f"default/{title}"
        assert (rows[name]["IP"], rows[name]["NODE"]) == (pod["address"], pod["node"])
        assert (rows[name]["READY"], rows[name]["STATUS"]) == ("1/1", "Running")


def test_a_deployments_life(own: Kubectl, three_nodes: RunningLab) -> None:
    with own.watching("pods", "-l", "app=web") as watching:
        manifest = kubectls.deployment("web", 6)
        assert own.apply(manifest).splitlines() == ["deployment.apps/web created", "service/web created"]
        own("rollout", "status", "deployment/web", "--timeout=30s")
        rows = own.rows("get", "pods", "-l", "app=web", "-o", "wide")
        assert len(rows) == 6
        assert {row["STATUS"] for row in rows} == {"Running"}
        assert len({row["IP"] for row in rows}) == 6
        for row in rows:
            assert ip_address(row["IP"]) in ip_network(three_nodes.hosts[row["NODE"]]["podSubnet"]), row
        assert len({row["NODE"] for row in rows}) > 1, "all on one node"
        (line,) = own.rows("get", "deployment", "web")
        assert (line["READY"], line["UP-TO-DATE"], line["AVAILABLE"]) == ("6/6", "6", "6")
        addresses = {row["IP"] for row in rows}
        own.wait(lambda: addresses == endpoints(own, "web"), "the service has the pods' addresses")
        assert sorted(own.apply(manifest).split()) == sorted(
            ["deployment.apps/web", "unchanged", "service/web", "unchanged"]
        )

        own("scale", "deployment/web", "--replicas=3")
        own.wait(lambda: len(own.rows("get", "pods", "-l", "app=web")) == 3, "three pods are left")
        own.wait(lambda: len(endpoints(own, "web")) == 3, "three endpoints are left")

        own("delete", "-f", "-", stdin=manifest)
        own.wait(lambda: not own.rows("get", "pods", "-l", "app=web"), "no pod is left")
        assert "web" not in own("get", "services,deployments", "-o", "name")
        names = {row["NAME"] for row in rows}
        own.wait(lambda: names <= set(watching.names("DELETED")), "the watch has seen all pods go")
    added = watching.names("ADDED")
    assert names <= set(added)
    assert len(added) == len(set(added)), "one was added twice"
    for name in names:
        assert ("1/1", "Running") in watching.states(name), (name, watching.lines)
    assert sorted(watching.names("DELETED")) == sorted(added)


def endpoints(kubectl: Kubectl, service: str) -> set[str]:
    found = kubectl.attempt("get", "endpoints", service, "-o", "jsonpath={.subsets[*].addresses[*].ip}")
    return set(found.stdout.split())


def test_a_service_has_its_address_from_the_range(own: Kubectl) -> None:
    own.apply(kubectls.deployment("web", 1))
    (row,) = own.rows("get", "service", "web")
    assert (row["TYPE"], row["PORT(S)"]) == ("ClusterIP", "80/TCP")
    assert ip_address(row["CLUSTER-IP"]) in ip_network("10.96.0.0/12")
    own("patch", "service", "web", "-p", '{"spec": {"type": "NodePort"}}')
    port = own.json("get", "service", "web")["spec"]["ports"][0]["nodePort"]
    assert 30000 <= port <= 32767
    (row,) = own.rows("get", "service", "web")
    assert (row["TYPE"], row["PORT(S)"]) == ("NodePort", f"80:{port}/TCP")


def test_the_clusters_own_services_have_their_addresses(kubectl: Kubectl) -> None:
    (row,) = kubectl.rows("get", "service", "kubernetes")
    assert (row["CLUSTER-IP"], row["PORT(S)"]) == ("10.96.0.1", "443/TCP")
    (row,) = kubectl.rows("get", "service", "-n", "kube-system", "kube-dns")
    assert row["CLUSTER-IP"] == "10.96.0.10"
    assert row["PORT(S)"] == "53/UDP,53/TCP,9153/TCP"


def test_labels_annotations_and_selectors(own: Kubectl) -> None:
    own.apply(kubectls.deployment("web", 2))
    own("label", "deployment", "web", "tier=front")
    assert own("get", "deployments", "-l", "tier=front,app in (web,db)", "-o", "name") == "deployment.apps/web\n"
    assert own("get", "deployments", "-l", "tier!=front", "-o", "name") == ""
    assert "already has a value" in own.fails("label", "deployment", "web", "tier=back")
    own("label", "--overwrite", "deployment", "web", "tier=back")
    own("label", "deployment", "web", "tier-")
    assert "tier" not in own.json("get", "deployment", "web")["metadata"]["labels"]
    own("annotate", "deployment", "web", "why=because")
    assert own.json("get", "deployment", "web")["metadata"]["annotations"]["why"] == "because"
    own("rollout", "status", "deployment/web", "--timeout=30s")
    running = own("get", "pods", "--field-selector", "status.phase=Running", "-o", "name").split()
    assert len(running) == 2


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("strategic", '{"spec": {"template": {"spec": {"containers": [{"name": "web", "workingDir": "/srv"}]}}}}'),
        (
            "merge",
            '{"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web", "workingDir": "/srv"}]}}}}',
        ),
        ("json", '[{"op": "add", "path": "/spec/template/spec/containers/0/workingDir", "value": "/srv"}]'),
    ],
)
def test_the_three_kinds_of_patch(own: Kubectl, kind: str, patch: str) -> None:
    own.apply(kubectls.deployment("web", 1))
    assert own("patch", "deployment", "web", "--type", kind, "-p", patch) == "deployment.apps/web patched\n"
    (container,) = own.json("get", "deployment", "web")["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["workingDir"]) == ("web", "/srv")
    # a merge patch replaces the list, the others keep what they do not name
    assert ("ports" in container) == (kind != "merge")


def test_edit(own: Kubectl, tmp_path: Path) -> None:
    own.apply(kubectls.deployment("web", 1))
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/replicas: 1/replicas: 2/" "$1"\n')
    editor.chmod(0o755)
    said = own.told({"EDITOR": str(editor)})("edit", *own.unchecked, "deployment/web")
    assert said == "deployment.apps/web edited\n"
    own.wait(lambda: len(own.rows("get", "pods", "-l", "app=web")) == 2, "the second pod")


def test_logs(own: Kubectl) -> None:
    own.apply(kubectls.talking_pod("talker", "echo first; echo second; exec sleep 3600"))
    own("wait", "--for=condition=Ready", "pod/talker", "--timeout=20s")
    own.wait(lambda: own("logs", "talker") == "first\nsecond\n", "both lines")
    assert own("logs", "talker", "--tail=1") == "second\n"
    assert own("logs", "talker", "-c", "main") == "first\nsecond\n"
    assert "container other is not valid for pod talker" in own.fails("logs", "talker", "-c", "other")


def test_commands_without_a_file(own: Kubectl) -> None:
    own("create", *own.unchecked, "deployment", "made", "--image=web")
    own("expose", "deployment", "made", "--port=80", "--target-port=8080")
    own("create", "configmap", "settings", "--from-literal=colour=blue")
    assert own.json("get", "configmap", "settings")["data"] == {"colour": "blue"}
    own("run", "single", "--image=web", "--restart=Never")
    own("wait", "--for=condition=Ready", "pod/single", "--timeout=20s")
    everything = own("get", "all", "-o", "name").split()
    assert {"deployment.apps/made", "service/made", "pod/single"} <= set(everything)
    own("delete", "pod", "single", "--now")
    assert 'pods "single" not found' in own.fails("get", "pod", "single")


def test_describe(own: Kubectl) -> None:
    own.apply(kubectls.deployment("web", 1))
    own("rollout", "status", "deployment/web", "--timeout=30s")
    assert "1 desired | 1 updated | 1 total | 1 available | 0 unavailable" in own("describe", "deployment", "web")
    (pod,) = own.json("get", "pods", "-l", "app=web")["items"]
    said = own("describe", "pod", pod["metadata"]["name"])
    assert f"IP:               {pod['status']['podIP']}" in said or pod["status"]["podIP"] in said
    assert "Scheduled" in said
    endpoint = f"{pod['status']['podIP']}:8080"
    wait_until(lambda: endpoint in own("describe", "service", "web"), "the service has its endpoint")
    assert "InternalIP:  192.168.1.12" in own("describe", "node", "node2")


def test_what_is_not_there_is_said_as_kubernetes_says_it(own: Kubectl) -> None:
    assert own.fails("get", "pod", "nobody") == 'Error from server (NotFound): pods "nobody" not found'
    assert own.fails("get", "nothings") == 'error: the server doesn\'t have a resource type "nothings"'
    own("create", "configmap", "taken")
    assert own.fails("create", "configmap", "taken").endswith('(AlreadyExists): configmaps "taken" already exists') or (
        own.fails("create", "configmap", "taken")
        == 'error: failed to create configmap: configmaps "taken" already exists'
    )
    cron = "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: x}\n"
    assert 'no matches for kind "CronJob" in version "batch/v1"' in own.fails(
        "apply", *own.unchecked, "-f", "-", stdin=cron
    )


def test_files_are_applied_without_flags_by_old_ones_too(own: Kubectl) -> None:
    manifest = kubectls.deployment("web", 1)
    assert "deployment.apps/web created" in own("apply", "-f", "-", stdin=manifest)
    stateful = manifest.replace("Deployment", "StatefulSet")
    assert 'no matches for kind "StatefulSet" in version "apps/v1"' in own.fails("apply", "-f", "-", stdin=stateful)


def test_what_cannot_be_is_refused_and_changes_nothing(own: Kubectl) -> None:
    wrong = kubectls.deployment("web", 1).replace("matchLabels: {app: web}", "matchLabels: {app: other}")
    said = own.fails("apply", *own.unchecked, "-f", "-", stdin=wrong)
    assert 'The Deployment "web" is invalid: ' in said
    assert "`selector` does not match template `labels`" in said
    assert own("get", "deployments", "-o", "name") == ""


def test_a_node_is_cordoned_and_tainted(kubectl: Kubectl) -> None:
    with kubectls.namespace(kubectl, f"cordon-{kubectl.client.name}") as own:
        kubectl("cordon", "node3")
        try:
            (row,) = kubectl.rows("get", "node", "node3")
            assert row["STATUS"] == "Ready,SchedulingDisabled"
            own.apply(kubectls.deployment("web", 4))
            own("rollout", "status", "deployment/web", "--timeout=30s")
            assert "node3" not in {row["NODE"] for row in own.rows("get", "pods", "-o", "wide")}
        finally:
            kubectl("uncordon", "node3")
