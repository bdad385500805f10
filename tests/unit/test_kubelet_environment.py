"""What a container sees: variables, command, name files."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from mininetes.agents.kubelet.environment import (
    ConfigError,
    Surroundings,
    command_line,
    data_of,
    environment,
    expand,
    field_value,
    hostname,
    hosts_file,
    references,
)

AROUND = Surroundings(node="node1", node_address="192.168.1.11", pod_address="10.244.1.2", service_host="10.96.0.1")


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    metadata = {"name": "web", "namespace": "shop", "uid": "u-1", "labels": {"app": "x"}, "annotations": {"a/b": "c"}}
    return {"metadata": metadata, "spec": {"containers": list(containers), **spec}}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("x$(A)$(B)y", "x12y"),
        ("$(C)", "$(C)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A $", "$A $"),
        ("$(A", "$(A"),
        ("$($(A))", "$(1)"),
    ],
)
def test_references_are_expanded_as_kubernetes_does(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expanded


def test_variables_refer_to_those_before_them() -> None:
    container = {
        "name": "c",
        "env": [
            {"name": "A", "value": "1"},
            {"name": "B", "value": "$(A)$(LATER)"},
            {"name": "LATER", "value": "x"},
            {"name": "API", "value": "$(KUBERNETES_SERVICE_HOST):$(KUBERNETES_SERVICE_PORT)"},
            {"name": "NOTHING"},
        ],
        "command": ["echo", "$(B)"],
        "args": ["$(API)"],
    }
    found = environment(pod(container), container, AROUND)
    assert found["B"] == "1$(LATER)"
    assert found["API"] == "10.96.0.1:443"
    assert found["NOTHING"] == ""
    assert found["HOSTNAME"] == "web"
    assert command_line(container, found) == ["echo", "1$(LATER)", "10.96.0.1:443"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "web"),
        ("metadata.namespace", "shop"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['app']", "x"),
        ("metadata.annotations['a/b']", "c"),
        ("spec.nodeName", "node1"),
        ("spec.serviceAccountName", "default"),
        ("status.podIP", "10.244.1.2"),
        ("status.hostIP", "192.168.1.11"),
    ],
)
def test_fields(path: str, value: str) -> None:
    assert field_value(pod(), path, AROUND) == value


def test_an_unknown_field_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r'fieldRef "spec.replicas" is not one of metadata\.name'):
        field_value(pod(), "spec.replicas", AROUND)


def ref(kind: str, **fields: Any) -> dict[str, Any]:
    return {"name": "c", "env": [{"name": "V", "valueFrom": {kind: fields}}]}


def test_config_maps_and_secrets() -> None:
    secret = {"data": {"key": base64.b64encode(b"hush").decode()}}
    around = Surroundings(
        "node1", "192.168.1.11", objects={("configmaps", "m"): {"data": {"k": "v"}}, ("secrets", "s"): secret}
    )
    assert environment(pod(), ref("configMapKeyRef", name="m", key="k"), around)["V"] == "v"
    assert environment(pod(), ref("secretKeyRef", name="s", key="key"), around)["V"] == "hush"
    assert "V" not in environment(pod(), ref("configMapKeyRef", name="m", key="no", optional=True), around)
    assert "V" not in environment(pod(), ref("configMapKeyRef", name="no", key="k", optional=True), around)
    whole = {"name": "c", "envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}]}
    assert environment(pod(), whole, around)["P_k"] == "v"
    with pytest.raises(ConfigError, match='configmap "no" not found'):
        environment(pod(), ref("configMapKeyRef", name="no", key="k"), around)
    with pytest.raises(ConfigError, match="couldn't find key no in ConfigMap shop/m"):
        environment(pod(), ref("configMapKeyRef", name="m", key="no"), around)
    with pytest.raises(ConfigError, match='resourceFieldRef "limits'):
        environment(pod(), ref("resourceFieldRef", resource="limits.cpu"), around)


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ({"resource": "requests.cpu", "divisor": "1m"}, "250"),
        ({"resource": "requests.cpu"}, "1"),
        ({"resource": "requests.cpu", "divisor": "0"}, "1"),
        ({"resource": "limits.cpu"}, "2"),
        ({"resource": "limits.memory"}, "134217728"),
        ({"resource": "limits.memory", "divisor": "1Mi"}, "128"),
        ({"resource": "limits.memory", "divisor": "1Gi"}, "1"),
        ({"resource": "requests.memory"}, "134217728"),
        ({"resource": "requests.ephemeral-storage"}, "0"),
        ({"resource": "limits.cpu", "containerName": "other"}, "7"),
    ],
)
def test_resources(reference: dict[str, Any], value: str) -> None:
    resources = {"requests": {"cpu": "250m"}, "limits": {"cpu": "1500m", "memory": "128Mi"}}
    container = {**ref("resourceFieldRef", **reference), "resources": resources}
    other = {"name": "other", "resources": {"limits": {"cpu": "7"}}}
    assert environment(pod(container, other), container, AROUND)["V"] == value


def test_resources_that_are_not_there() -> None:
    with pytest.raises(ConfigError, match="container nobody not found"):
        environment(pod(), ref("resourceFieldRef", resource="limits.cpu", containerName="nobody"), AROUND)


def test_data_of_a_config_map_may_be_binary() -> None:
    binary = base64.b64encode(b"\xff\x00").decode()
    assert data_of("configmaps", {"data": {"a": "b"}, "binaryData": {"c": binary}}) == {"a": b"b", "c": b"\xff\x00"}


def test_references_are_found_everywhere() -> None:
    first = ref("configMapKeyRef", name="one", key="k")
    second = {"name": "d", "envFrom": [{"secretRef": {"name": "two"}}]}
    volumes = [{"name": "v", "configMap": {"name": "three"}}, {"name": "w", "secret": {"secretName": "four"}}]
    found = references(pod(first, initContainers=[second], volumes=volumes))
    assert found == {("configmaps", "one"), ("secrets", "two"), ("configmaps", "three"), ("secrets", "four")}


def test_hosts_and_hostname() -> None:
    aliases = [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]
    text = hosts_file(pod(hostAliases=aliases, subdomain="sub"), "10.244.1.2", "node1", "cluster.local")
    assert "10.244.1.2\tweb.sub.shop.svc.cluster.local\tweb\n" in text
    assert text.endswith("1.2.3.4\ta\tb\n")
    assert hostname(pod(hostname="other"), "node1") == "other"
    assert hostname(pod(hostNetwork=True), "node1") == "node1"
    long = pod()
    long["metadata"]["name"] = "x" * 62 + "-" + "y" * 9
    assert hostname(long, "node1") == "x" * 62
