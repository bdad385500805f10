"""The `kubernetes` package of Python's against a lab: lists, writes, watches, logs and exec."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubectls import deployment, talking_pod
from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import stream
from kubernetes.utils import create_from_yaml
from running_lab import RunningLab, mininetes
from waiting import wait_until

NAMESPACE = "python"


@pytest.fixture(scope="module")
def api(three_nodes: RunningLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    kubeconfig = tmp_path_factory.mktemp("python") / "kubeconfig"
    kubeconfig.write_text(mininetes("kubeconfig", three_nodes.name).stdout)
    made = config.new_client_from_config(str(kubeconfig))
    core = client.CoreV1Api(made)
    core.create_namespace({"metadata": {"name": NAMESPACE}})
    yield made
    core.delete_namespace(NAMESPACE)
    made.close()


@pytest.fixture(scope="module")
def core(api: Any) -> Any:
    return client.CoreV1Api(api)


@pytest.fixture(scope="module")
def apps(api: Any) -> Any:
    return client.AppsV1Api(api)


def test_nodes_are_ready_with_their_addresses(core: Any, three_nodes: RunningLab) -> None:
    nodes = core.list_node().items
    assert [node.metadata.name for node in nodes] == three_nodes.nodes
    for node in nodes:
        ready = next(each for each in node.status.conditions if each.type == "Ready")
        assert ready.status == "True"
        addresses = {each.type: each.address for each in node.status.addresses}
        assert addresses["InternalIP"] == three_nodes.address(node.metadata.name)
        assert node.spec.pod_cidr == three_nodes.hosts[node.metadata.name]["podSubnet"]


def test_a_deployments_life_is_seen_by_a_watch(api: Any, core: Any, apps: Any) -> None:
    events: list[tuple[str, str]] = []
    watcher = watch.Watch()
    began = core.list_namespaced_pod(NAMESPACE).metadata.resource_version

    def follow() -> None:
        for event in watcher.stream(
            client.CoreV1Api(api).list_namespaced_pod, NAMESPACE, resource_version=began, timeout_seconds=60
        ):
            events.append((event["type"], event["object"].metadata.name))
            if len([kind for kind, _ in events if kind == "DELETED"]) == 6:
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    create_from_yaml(api, yaml_objects=list(yaml.safe_load_all(deployment("web", 6))), namespace=NAMESPACE)
    wait_until(
        lambda: apps.read_namespaced_deployment("web", NAMESPACE).status.ready_replicas == 6, "six pods are ready"
    )
    pods = core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items
    assert len({pod.status.pod_ip for pod in pods}) == 6
    apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 3}})
    wait_until(lambda: len(core.list_namespaced_pod(NAMESPACE).items) == 3, "three are left")
    assert apps.read_namespaced_deployment_scale("web", NAMESPACE).spec.replicas == 3
    apps.delete_namespaced_deployment("web", NAMESPACE)
    core.delete_namespaced_service("web", NAMESPACE)
    wait_until(lambda: not core.list_namespaced_pod(NAMESPACE).items, "none is left")
    names = {pod.metadata.name for pod in pods}
    gone = wait_until(
        lambda: (found := [name for kind, name in events if kind == "DELETED"]) and names <= set(found) and found,
        "the watch has seen all go",
    )
    thread.join(10)
    added = [name for kind, name in events if kind == "ADDED"]
    assert sorted(added) == sorted(gone) == sorted(set(added))


def test_a_list_in_pages_is_the_whole_list(core: Any) -> None:
    for number in range(7):
        core.create_namespaced_config_map(
            NAMESPACE, {"metadata": {"name": f"page-{number}", "labels": {"of": "pages"}}}
        )
    names, more = [], None
    while True:
        page = core.list_namespaced_config_map(NAMESPACE, label_selector="of=pages", limit=3, _continue=more)
        assert len(page.items) <= 3
        names += [each.metadata.name for each in page.items]
        more = page.metadata._continue
        if not more:
            break
    assert names == [f"page-{number}" for number in range(7)]
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="of=pages")
    assert core.list_namespaced_config_map(NAMESPACE, label_selector="of=pages").items == []


def test_refusals_are_status_objects(core: Any) -> None:
    made = core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": "once"}, "data": {"a": "1"}})
    with pytest.raises(ApiException) as refused:
        core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": "once"}})
    assert (refused.value.status, reason(refused.value)) == (409, "AlreadyExists")
    made.data["a"] = "2"
    core.replace_namespaced_config_map("once", NAMESPACE, made)
    with pytest.raises(ApiException) as refused:  # the version that was read is no longer the last
        core.replace_namespaced_config_map("once", NAMESPACE, made)
    assert (refused.value.status, reason(refused.value)) == (409, "Conflict")
    with pytest.raises(ApiException) as refused:
        core.read_namespaced_config_map("never", NAMESPACE)
    assert (refused.value.status, reason(refused.value)) == (404, "NotFound")
    with pytest.raises(ApiException) as refused:
        core.create_namespaced_service(NAMESPACE, {"metadata": {"name": "Big_Name"}, "spec": {"ports": [{"port": 80}]}})
    assert (refused.value.status, reason(refused.value)) == (422, "Invalid")
    taken = {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}
    with pytest.raises(ApiException) as refused:
        core.create_namespaced_service(NAMESPACE, {"metadata": {"name": "taken"}, "spec": taken})
    assert (refused.value.status, reason(refused.value)) == (422, "Invalid")
    assert "already allocated" in str(refused.value.body)


def reason(failed: ApiException) -> str:
    return str(yaml.safe_load(failed.body)["reason"])


@pytest.fixture
def talker(core: Any) -> Iterator[str]:
    core.create_namespaced_pod(NAMESPACE, yaml.safe_load(talking_pod("talker", "echo hello; exec sleep 3600")))
    wait_until(lambda: is_ready(core.read_namespaced_pod("talker", NAMESPACE)), "the pod is ready")
    yield "talker"
    with contextlib.suppress(ApiException):
        core.delete_namespaced_pod("talker", NAMESPACE, grace_period_seconds=0)


def is_ready(pod: Any) -> bool:
    return any(each.type == "Ready" and each.status == "True" for each in pod.status.conditions or [])


def test_logs_and_exec(core: Any, talker: str, tmp_path: Path) -> None:
    wait_until(lambda: core.read_namespaced_pod_log(talker, NAMESPACE) == "hello\n", "its log")
    answer = stream(
        core.connect_get_namespaced_pod_exec,
        talker,
        NAMESPACE,
        command=["sh", "-c", "echo out; echo err >&2; exit 3"],
        stdout=True,
        stderr=True,
        _preload_content=False,
    )
    answer.run_forever(timeout=10)
    assert (answer.read_stdout(), answer.read_stderr()) == ("out\n", "err\n")
    assert answer.returncode == 3
    talk = stream(
        core.connect_get_namespaced_pod_exec,
        talker,
        NAMESPACE,
        command=["cat"],
        stdin=True,
        stdout=True,
        stderr=True,
        _preload_content=False,
    )
    talk.write_stdin("to and fro\n")
    assert talk.readline_stdout(timeout=10) == "to and fro"
    talk.close()
