"""What is filled in where clients leave it out."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from mininetes.apiserver.decoding import decode
from mininetes.apiserver.defaults import set_defaults
from mininetes.apiserver.resources import RESOURCES, Resource, by_name


def filled(kind: str, obj: dict[str, Any]) -> dict[str, Any]:
    obj = {"metadata": {"name": "x"}, **copy.deepcopy(obj)}
    set_defaults(by_name(kind), obj)
    once = copy.deepcopy(obj)
    set_defaults(by_name(kind), obj)
    assert obj == once, "a second time changed something"
    return obj


def container(**fields: Any) -> dict[str, Any]:
    return filled("pods", {"spec": {"containers": [{"name": "c", **fields}]}})["spec"]["containers"][0]


def test_a_pod() -> None:
    spec = filled("pods", {"spec": {"containers": [{"name": "c", "image": "i"}], "volumes": [{"name": "v"}]}})["spec"]
    assert spec == {
        "containers": [
            {
                "name": "c",
                "image": "i",
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
                "imagePullPolicy": "Always",
            }
        ],
        "volumes": [{"name": "v", "emptyDir": {}}],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "enableServiceLinks": True,
    }


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("host:5000/nginx", "Always"),
        ("nginx:1", "IfNotPresent"),
        ("host:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:1", "IfNotPresent"),
    ],
)
def test_images_without_a_version_are_always_pulled(image: str, policy: str) -> None:
    assert container(image=image)["imagePullPolicy"] == policy


def test_ports_and_probes() -> None:
    found = container(
        ports=[{"containerPort": 80}],
        readinessProbe={"httpGet": {"port": 80}, "timeoutSeconds": 3},
        env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        resources={"limits": {"cpu": "1"}},
    )
    assert found["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert found["readinessProbe"] == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
        "timeoutSeconds": 3,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    assert found["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] == "v1"
    assert found["resources"] == {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}


def test_ports_on_the_hosts_network_are_the_hosts() -> None:
    spec = {"hostNetwork": True, "containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}
    found = filled("pods", {"spec": spec})["spec"]["containers"][0]["ports"]
    assert found == [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]


def test_a_deployment() -> None:
    spec = filled("deploy", {"spec": {"template": {"spec": {"containers": []}}}})["spec"]
    template = spec.pop("template")
    assert spec == {
        "replicas": 1,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
    }
    assert template["spec"]["restartPolicy"] == "Always"
    assert "enableServiceLinks" not in template["spec"]


def test_what_is_given_stays() -> None:
    spec = filled("deploy", {"spec": {"replicas": 0, "strategy": {"type": "Recreate"}, "revisionHistoryLimit": 0}})[
        "spec"
    ]
    assert (spec["replicas"], spec["strategy"], spec["revisionHistoryLimit"]) == (0, {"type": "Recreate"}, 0)


def test_a_service() -> None:
    spec = filled("svc", {"spec": {"ports": [{"port": 80}, {"port": 53, "targetPort": "dns", "protocol": "UDP"}]}})[
        "spec"
    ]
    assert spec == {
        "ports": [
            {"port": 80, "protocol": "TCP", "targetPort": 80},
            {"port": 53, "targetPort": "dns", "protocol": "UDP"},
        ],
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
    }


@pytest.mark.parametrize(
    ("spec", "field", "value"),
    [
        ({"type": "NodePort"}, "externalTrafficPolicy", "Cluster"),
        ({"externalIPs": ["10.0.0.1"]}, "externalTrafficPolicy", "Cluster"),
        ({}, "externalTrafficPolicy", None),
        ({"type": "LoadBalancer"}, "allocateLoadBalancerNodePorts", True),
        ({"sessionAffinity": "ClientIP"}, "sessionAffinityConfig", {"clientIP": {"timeoutSeconds": 10800}}),
        ({"type": "ExternalName"}, "internalTrafficPolicy", None),
        ({"clusterIP": "10.0.0.1"}, "clusterIPs", ["10.0.0.1"]),
        ({"clusterIPs": ["None"]}, "clusterIP", "None"),
    ],
)
def test_services_of_other_types(spec: dict[str, Any], field: str, value: Any) -> None:
    assert filled("svc", {"spec": spec})["spec"].get(field) == value


def test_a_daemon_set() -> None:
    obj = filled("ds", {})
    assert obj["spec"]["updateStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0},
    }
    assert obj["status"]["desiredNumberScheduled"] == 0


def test_slices_and_endpoints() -> None:
    assert filled("endpointslice", {"ports": [{"port": 1}]})["ports"] == [{"port": 1, "name": "", "protocol": "TCP"}]
    assert filled("ep", {"subsets": [{"ports": [{"port": 1}]}]})["subsets"][0]["ports"][0]["protocol"] == "TCP"


def test_a_secrets_texts_become_data() -> None:
    obj = filled("secret", {"stringData": {"a": "b"}})
    assert obj == {"metadata": {"name": "x"}, "data": {"a": "Yg=="}, "type": "Opaque"}


@pytest.mark.parametrize("resource", RESOURCES, ids=str)
def test_what_is_filled_in_has_the_kinds_fields(resource: Resource) -> None:
    obj: dict[str, Any] = {"metadata": {"name": "x"}}
    set_defaults(resource, obj)
    found = decode(resource, obj)
    assert found.unknown == []
