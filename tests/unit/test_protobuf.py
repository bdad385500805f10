"""Bodies in protobuf become the objects that a client would have sent as JSON."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from mininetes.apiserver import openapi_v2, protobuf
from mininetes.apiserver.protobuf import Malformed, decode
from mininetes.apiserver.resources import RESOURCES

CREATE_NAMESPACE = bytes.fromhex(
    "6b3873000a0f0a02763112094e616d657370616365"  # the envelope: v1, Namespace
    "121b0a130a0361626312001a0022002a00320038004200"  # metadata: name abc, and what is always sent
    "12001a020a001a002200"
)
"""What `kubectl create namespace abc` (1.33) sends."""


def encode(api_version: str, kind: str, type_name: str, fill: Any) -> bytes:
    """A body as a client makes it; ``fill`` sets fields of the library's message."""
    classes = protobuf._classes()
    message = classes[type_name]()
    fill(message)
    envelope = classes["runtime.Unknown"]()
    envelope.typeMeta.apiVersion, envelope.typeMeta.kind = api_version, kind
    envelope.raw = message.SerializeToString()
    return b"k8s\x00" + bytes(envelope.SerializeToString())


def test_a_namespace_as_kubectl_sends_it() -> None:
    assert decode(CREATE_NAMESPACE) == {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "abc"},
        "spec": {},
        "status": {},
    }


def test_a_deployment_with_all_that_json_writes_otherwise() -> None:
    def fill(deployment: Any) -> None:
        deployment.metadata.name = "web"
        deployment.metadata.labels["app"] = "web"
        deployment.metadata.creationTimestamp.SetInParent()
        deployment.spec.replicas = 0
        deployment.spec.minReadySeconds = 0
        deployment.spec.paused = False
        deployment.spec.selector.matchLabels["app"] = "web"
        deployment.spec.strategy.rollingUpdate.maxSurge.type = 1
        deployment.spec.strategy.rollingUpdate.maxSurge.strVal = "25%"
        pod = deployment.spec.template.spec
        pod.automountServiceAccountToken = False
        container = pod.containers.add(name="web", image="web", command=["a", "b"], tty=False)
        container.ports.add(containerPort=80, hostPort=0, protocol="TCP")
        container.resources.limits["cpu"].string = "100m"
        container.readinessProbe.handler.tcpSocket.port.type = 0
        container.readinessProbe.handler.tcpSocket.port.intVal = 80
        reference = container.env.add(name="E").valueFrom.secretKeyRef
        reference.localObjectReference.name, reference.key = "s", "k"
        volume = pod.volumes.add(name="v")
        volume.volumeSource.emptyDir.SetInParent()

    found = decode(encode("apps/v1", "Deployment", "apps.v1.Deployment", fill))
    assert found["metadata"] == {"name": "web", "labels": {"app": "web"}}
    spec = found["spec"]
    assert {key: spec[key] for key in spec if key != "template"} == {
        "replicas": 0,
        "selector": {"matchLabels": {"app": "web"}},
        "strategy": {"rollingUpdate": {"maxSurge": "25%"}},
    }
    pod = spec["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["volumes"] == [{"name": "v", "emptyDir": {}}]
    assert pod["containers"] == [
        {
            "name": "web",
            "image": "web",
            "command": ["a", "b"],
            "ports": [{"containerPort": 80, "protocol": "TCP"}],
            "resources": {"limits": {"cpu": "100m"}},
            "readinessProbe": {"tcpSocket": {"port": 80}},
            "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        }
    ]


def test_bytes_and_times() -> None:
    def fill_secret(secret: Any) -> None:
        secret.data["key"] = b"\x00\xff"

    assert decode(encode("v1", "Secret", "core.v1.Secret", fill_secret))["data"] == {"key": "AP8="}

    def fill_lease(lease: Any) -> None:
        lease.metadata.creationTimestamp.seconds = 1_700_000_000
        lease.spec.renewTime.seconds, lease.spec.renewTime.nanos = 1_700_000_000, 123_456_789

    lease = decode(encode("coordination.k8s.io/v1", "Lease", "coordination.v1.Lease", fill_lease))
    assert lease["metadata"]["creationTimestamp"] == "2023-11-14T22:13:20Z"
    assert lease["spec"]["renewTime"] == "2023-11-14T22:13:20.123456Z"


def test_options_of_a_deletion_have_the_version_of_what_is_deleted() -> None:
    def fill(options: Any) -> None:
        options.gracePeriodSeconds = 0
        options.preconditions.uid = "u"

    assert decode(encode("apps/v1", "DeleteOptions", "meta.v1.DeleteOptions", fill)) == {
        "apiVersion": "apps/v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": "u"},
    }


def test_the_empty_openapi_document_of_version_2() -> None:
    document, kind = openapi_v2.as_protobuf()
    assert document == b"\n\x032.0\x12\x1f\n\nKubernetes\x12\x11v1.30.0+mininetes"
    assert kind == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    assert json.loads(openapi_v2.as_json()[0])["info"]["version"] == "v1.30.0+mininetes"


@pytest.mark.parametrize("resource", RESOURCES, ids=str)
def test_every_kind_that_is_served_can_be_sent(resource: Any) -> None:
    name = protobuf._type_of(resource.api_version, resource.kind)
    body = encode(resource.api_version, resource.kind, name, lambda message: setattr(message.metadata, "name", "x"))
    assert decode(body)["metadata"] == {"name": "x"}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "does not begin"),
        (b"{}", "does not begin"),
        (CREATE_NAMESPACE[:-3], "."),
        (b"k8s\x00\xff\xff\xff", "."),
        (b"k8s\x00", "no kind '' in version ''"),
        (CREATE_NAMESPACE.replace(b"Namespace", b"Nameplace"), "no kind 'Nameplace' in version 'v1'"),
    ],
)
def test_malformed_bodies_are_refused(body: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=re.escape(why) if why != "." else why):
        decode(body)


def test_every_prefix_and_every_changed_byte_is_decoded_or_refused() -> None:
    for at in range(len(CREATE_NAMESPACE)):
        for body in (CREATE_NAMESPACE[:at], CREATE_NAMESPACE[:at] + b"\xff" + CREATE_NAMESPACE[at + 1 :]):
            try:
                assert isinstance(decode(body), dict)
            except Malformed:
                continue
