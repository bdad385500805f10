"""Values of objects: what is refused with 422, and with which causes."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from mininetes.apiserver.defaults import set_defaults
from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.resources import RESOURCES, by_kind, by_name
from mininetes.apiserver.validation import check

CONTAINER = {"name": "c", "image": "i"}
LABELS = {"app": "web"}


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"containers": [CONTAINER], **spec}}


def with_container(**fields: Any) -> dict[str, Any]:
    return pod(containers=[{**CONTAINER, **fields}])


def service(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}], **spec}}


def deployment(**spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [CONTAINER]}}
    return {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": LABELS}, "template": template, **spec}}


def template(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"labels": LABELS}, "spec": {"containers": [CONTAINER], **spec}}


def slice_(**fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": "e"}, "addressType": "IPv4", "endpoints": [], "ports": [], **fields}


def node(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "n"}, "spec": spec}


def named(name: str, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **metadata}}


def causes(kind: str, obj: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Field, reason without "FieldValue", and message of every cause; none when the object is right."""
    try:
        check(by_name(kind), copy.deepcopy(obj))
    except ApiError as refused:
        if refused.code != 422:
            raise
        found = refused.details["causes"]
        return [(each["field"], each["reason"].removeprefix("FieldValue"), each["message"]) for each in found]
    return []


RIGHT = {
    "pod": ("pods", pod()),
    "pod with much": (
        "pods",
        pod(
            containers=[
                {
                    **CONTAINER,
                    "ports": [{"containerPort": 53, "name": "dns"}, {"containerPort": 53, "protocol": "UDP"}],
                    "env": [{"name": "A"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                    "readinessProbe": {"httpGet": {"port": "dns"}},
                    "livenessProbe": {"exec": {"command": ["true"]}},
                    "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "1", "example.com/gpu": "1"}},
                    "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                }
            ],
            volumes=[{"name": "v"}],
            tolerations=[{"operator": "Exists"}, {"key": "a", "value": "b", "effect": "NoSchedule"}],
            hostAliases=[{"ip": "10.0.0.1", "hostnames": ["a.b"]}],
            dnsPolicy="None",
            dnsConfig={"nameservers": ["10.0.0.10"], "searches": ["svc.cluster.local."]},
        ),
    ),
    "service": ("svc", service()),
    "headless service without ports": ("svc", service(clusterIP="None", ports=[])),
    "service of two protocols": (
        "svc",
        service(ports=[{"name": "a", "port": 53}, {"name": "b", "port": 53, "protocol": "UDP"}]),
    ),
    "node port": ("svc", service(type="NodePort", ports=[{"port": 80, "nodePort": 30080}])),
    "external name": ("svc", {"metadata": {"name": "s"}, "spec": {"type": "ExternalName", "externalName": "a.b"}}),
    "load balancer": (
        "svc",
        service(type="LoadBalancer", externalTrafficPolicy="Local", loadBalancerSourceRanges=["10.0.0.0/8"]),
    ),
    "deployment": ("deploy", deployment(strategy={"rollingUpdate": {"maxSurge": "10%", "maxUnavailable": 0}})),
    "endpoints": (
        "ep",
        {**named("e"), "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]},
    ),
    "slice": ("endpointslice", slice_(endpoints=[{"addresses": ["10.0.0.1"]}], ports=[{"port": 80}])),
    "slice with nothing": ("endpointslice", {**named("e"), "addressType": "IPv4", "endpoints": None, "ports": None}),
    "node": ("no", node(podCIDR="10.244.1.0/24", taints=[{"key": "a", "effect": "NoSchedule"}])),
    "config map": ("cm", {**named("c"), "data": {"a.b-c_D": "x"}}),
    "lease": ("lease", {**named("l"), "spec": {"leaseDurationSeconds": 40}}),
    "names with dots": ("pods", {**pod(), "metadata": {"name": "a.b"}}),
}


@pytest.mark.parametrize("case", RIGHT)
def test_what_is_right(case: str) -> None:
    kind, obj = RIGHT[case]
    assert causes(kind, obj) == []


@pytest.mark.parametrize("case", RIGHT)
def test_what_is_right_stays_right_with_defaults(case: str) -> None:
    kind, obj = RIGHT[case]
    obj = copy.deepcopy(obj)
    check(by_name(kind), obj)
    set_defaults(by_name(kind), obj)
    assert causes(kind, obj) == []


C = "spec.containers[0]"
T = "spec.template.spec"

# kind, object, then the field, reason and (part of the) message of its only cause.
WRONG: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("pods", {"spec": {"containers": [CONTAINER]}}, "metadata.name", "Required", "name or generateName is required"),
    ("pods", {**pod(), "metadata": {"name": "A"}}, "metadata.name", "Invalid", "RFC 1123 subdomain"),
    ("pods", {**pod(), "metadata": {"name": "a" * 254}}, "metadata.name", "Invalid", "no more than 253 characters"),
    ("svc", {**service(), "metadata": {"name": "1a"}}, "metadata.name", "Invalid", "DNS-1035 label"),
    ("svc", {**service(), "metadata": {"name": "a" * 64}}, "metadata.name", "Invalid", "no more than 63 characters"),
    ("ns", named("a.b"), "metadata.name", "Invalid", "RFC 1123 label"),
    ("ns", named("a", generateName="A-"), "metadata.generateName", "Invalid", "RFC 1123 label"),
    ("ns", named("a", labels={"a b": "c"}), "metadata.labels", "Invalid", "name part must consist of"),
    ("ns", named("a", labels={"/a": "c"}), "metadata.labels", "Invalid", "prefix part must be non-empty"),
    ("ns", named("a", labels={"a": "c d"}), "metadata.labels", "Invalid", "a valid label must be"),
    ("ns", named("a", labels={"a": "c" * 64}), "metadata.labels", "Invalid", "no more than 63"),
    ("ns", named("a", annotations={"a b": ""}), "metadata.annotations", "Invalid", "name part must consist of"),
    ("ns", named("a", annotations={"a": "x" * 262144}), "metadata.annotations", "TooLong", "at most 262144 bytes"),
    ("ns", named("a", finalizers=["a b"]), "metadata.finalizers[0]", "Invalid", "name part"),
    ("pods", named("p"), "spec.containers", "Required", "Required value"),
    ("pods", pod(containers=[]), "spec.containers", "Required", "Required value"),
    ("pods", pod(containers=[{"image": "i"}]), f"{C}.name", "Required", "Required value"),
    ("pods", pod(containers=[{"name": "c"}]), f"{C}.image", "Required", "Required value"),
    ("pods", with_container(image=" i"), f"{C}.image", "Invalid", "leading or trailing whitespace"),
    ("pods", with_container(name="C"), f"{C}.name", "Invalid", "RFC 1123 label"),
    ("pods", pod(containers=[CONTAINER, CONTAINER]), "spec.containers[1].name", "Duplicate", 'Duplicate value: "c"'),
    ("pods", pod(initContainers=[CONTAINER]), f"{C}.name", "Duplicate", 'Duplicate value: "c"'),
    ("pods", with_container(ports=[{}]), f"{C}.ports[0].containerPort", "Required", "Required value"),
    (
        "pods",
        with_container(ports=[{"containerPort": 65536}]),
        f"{C}.ports[0].containerPort",
        "Invalid",
        "Invalid value: 65536: must be between 1 and 65535, inclusive",
    ),
    (
        "pods",
        with_container(ports=[{"containerPort": 1, "protocol": "tcp"}]),
        f"{C}.ports[0].protocol",
        "NotSupported",
        'Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"',
    ),
    ("pods", with_container(ports=[{"containerPort": 1, "name": "A"}]), f"{C}.ports[0].name", "Invalid", "alpha-num"),
    (
        "pods",
        with_container(ports=[{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]),
        f"{C}.ports[1].name",
        "Duplicate",
        '"a"',
    ),
    (
        "pods",
        with_container(ports=[{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9}]),
        f"{C}.ports[1].hostPort",
        "Duplicate",
        "9/TCP",
    ),
    (
        "pods",
        pod(hostNetwork=True, containers=[{**CONTAINER, "ports": [{"containerPort": 1, "hostPort": 2}]}]),
        f"{C}.ports[0].containerPort",
        "Invalid",
        "must match `hostPort`",
    ),
    ("pods", with_container(env=[{"name": "1A"}]), f"{C}.env[0].name", "Invalid", "environment variable name"),
    ("pods", with_container(env=[{"value": "x"}]), f"{C}.env[0].name", "Required", "Required value"),
    ("pods", with_container(env=[{"name": "A", "valueFrom": {}}]), f"{C}.env[0].valueFrom", "Invalid", "one of"),
    ("pods", with_container(imagePullPolicy="x"), f"{C}.imagePullPolicy", "NotSupported", '"Always"'),
    ("pods", with_container(readinessProbe={}), f"{C}.readinessProbe", "Required", "must specify a handler type"),
    (
        "pods",
        with_container(livenessProbe={"tcpSocket": {"port": 0}}),
        f"{C}.livenessProbe.tcpSocket.port",
        "Invalid",
        "between 1 and 65535",
    ),
    (
        "pods",
        with_container(livenessProbe={"tcpSocket": {"port": 1}, "exec": {"command": ["x"]}}),
        f"{C}.livenessProbe.tcpSocket",
        "Forbidden",
        "more than 1 handler type",
    ),
    (
        "pods",
        with_container(livenessProbe={"tcpSocket": {"port": 1}, "successThreshold": 2}),
        f"{C}.livenessProbe.successThreshold",
        "Invalid",
        "must be 1",
    ),
    (
        "pods",
        with_container(readinessProbe={"tcpSocket": {"port": 1}, "periodSeconds": -1}),
        f"{C}.readinessProbe.periodSeconds",
        "Invalid",
        "greater than or equal to 0",
    ),
    ("pods", with_container(readinessProbe={"exec": {}}), f"{C}.readinessProbe.exec.command", "Required", "Required"),
    (
        "pods",
        with_container(volumeMounts=[{"name": "v", "mountPath": "/v"}]),
        f"{C}.volumeMounts[0].name",
        "NotFound",
        'Not found: "v"',
    ),
    (
        "pods",
        with_container(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}}),
        f"{C}.resources.requests",
        "Invalid",
        "must be less than or equal to cpu limit of 1500m",
    ),
    (
        "pods",
        with_container(resources={"limits": {"cpus": "1"}}),
        f"{C}.resources.limits[cpus]",
        "Invalid",
        "must be a standard resource for containers",
    ),
    (
        "pods",
        with_container(resources={"limits": {"cpu": "-1"}}),
        f"{C}.resources.limits[cpu]",
        "Invalid",
        "must be greater than or equal to 0",
    ),
    (
        "pods",
        with_container(resources={"requests": {"memory": "1e999999999"}, "limits": {"memory": "1e-999999999"}}),
        f"{C}.resources.requests",
        "Invalid",
        "must be less than or equal to memory limit",
    ),
    ("pods", pod(restartPolicy="Sometimes"), "spec.restartPolicy", "NotSupported", '"Always", "Never", "OnFailure"'),
    ("pods", pod(dnsPolicy="x"), "spec.dnsPolicy", "NotSupported", '"ClusterFirst"'),
    ("pods", pod(dnsPolicy="None"), "spec.dnsConfig.nameservers", "Required", "at least one DNS nameserver"),
    (
        "pods",
        pod(dnsConfig={"nameservers": ["fd00::1"]}),
        "spec.dnsConfig.nameservers[0]",
        "Invalid",
        'Invalid value: "fd00::1": IPv6 is not supported by Mininetes',
    ),
    ("pods", pod(terminationGracePeriodSeconds=-1), "spec.terminationGracePeriodSeconds", "Invalid", "or equal to 0"),
    ("pods", pod(activeDeadlineSeconds=0), "spec.activeDeadlineSeconds", "Invalid", "between 1 and"),
    ("pods", pod(nodeSelector={"a b": "c"}), "spec.nodeSelector", "Invalid", "name part"),
    ("pods", pod(hostname="A"), "spec.hostname", "Invalid", "RFC 1123 label"),
    ("pods", pod(tolerations=[{"value": "x"}]), "spec.tolerations[0].operator", "Invalid", "must be Exists when"),
    (
        "pods",
        pod(tolerations=[{"key": "a", "effect": "x"}]),
        "spec.tolerations[0].effect",
        "NotSupported",
        '"NoExecute", "NoSchedule", "PreferNoSchedule"',
    ),
    ("pods", pod(volumes=[{"name": "v"}, {"name": "v"}]), "spec.volumes[1].name", "Duplicate", '"v"'),
    (
        "pods",
        pod(volumes=[{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]),
        "spec.volumes[0].hostPath",
        "Forbidden",
        "more than 1 volume type",
    ),
    (
        "pods",
        pod(initContainers=[{"name": "i", "image": "i", "readinessProbe": {"tcpSocket": {"port": 1}}}]),
        "spec.initContainers[0].readinessProbe",
        "Forbidden",
        "init containers",
    ),
    ("svc", named("s"), "spec.ports", "Required", "Required value"),
    ("svc", service(type="Nonsense"), "spec.type", "NotSupported", '"ClusterIP", "ExternalName", "LoadBalancer"'),
    ("svc", service(ports=[{"port": 0}]), "spec.ports[0].port", "Invalid", "Invalid value: 0: must be between"),
    ("svc", service(ports=[{}]), "spec.ports[0].port", "Invalid", "Invalid value: 0: must be between"),
    ("svc", service(ports=[{"port": 1, "protocol": "X"}]), "spec.ports[0].protocol", "NotSupported", '"TCP"'),
    ("svc", service(ports=[{"port": 1, "targetPort": "A"}]), "spec.ports[0].targetPort", "Invalid", "alpha-numeric"),
    ("svc", service(ports=[{"port": 1, "targetPort": 70000}]), "spec.ports[0].targetPort", "Invalid", "65535"),
    ("svc", service(ports=[{"port": 1, "name": "a"}, {"port": 2}]), "spec.ports[1].name", "Required", "Required"),
    (
        "svc",
        service(ports=[{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]),
        "spec.ports[1].name",
        "Duplicate",
        '"a"',
    ),
    (
        "svc",
        service(ports=[{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]),
        "spec.ports[1]",
        "Duplicate",
        '"port":1',
    ),
    (
        "svc",
        service(ports=[{"port": 1, "nodePort": 30000}]),
        "spec.ports[0].nodePort",
        "Forbidden",
        "may not be used when `type` is 'ClusterIP'",
    ),
    (
        "svc",
        service(
            type="NodePort",
            ports=[{"port": 1, "name": "a", "nodePort": 30000}, {"port": 2, "name": "b", "nodePort": 30000}],
        ),
        "spec.ports[1].nodePort",
        "Duplicate",
        "30000",
    ),
    ("svc", service(clusterIP="10.0.0"), "spec.clusterIP", "Invalid", "must be a valid IP address"),
    ("svc", service(clusterIP="fd00::1"), "spec.clusterIP", "Invalid", "IPv6 is not supported by Mininetes"),
    ("svc", service(clusterIPs=["fd00::1"]), "spec.clusterIPs[0]", "Invalid", "IPv6 is not supported by Mininetes"),
    ("svc", service(clusterIP="None", type="NodePort"), "spec.clusterIPs[0]", "Invalid", "may not be set to 'None'"),
    (
        "svc",
        service(clusterIP="10.0.0.1", clusterIPs=["10.0.0.2"]),
        "spec.clusterIPs",
        "Invalid",
        "element [0] must match clusterIP",
    ),
    ("svc", service(ipFamilies=["IPv6"]), "spec.ipFamilies[0]", "Invalid", "IPv6 is not supported by Mininetes"),
    ("svc", service(ipFamilyPolicy="RequireDualStack"), "spec.ipFamilyPolicy", "Invalid", "IPv6 is not supported"),
    ("svc", service(externalIPs=["127.0.0.1"]), "spec.externalIPs[0]", "Invalid", "loopback range"),
    ("svc", service(sessionAffinity="x"), "spec.sessionAffinity", "NotSupported", '"ClientIP", "None"'),
    (
        "svc",
        service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 86401}}),
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
        "Invalid",
        "less than 86400",
    ),
    ("svc", service(externalTrafficPolicy="Local"), "spec.externalTrafficPolicy", "Invalid", "externally-accessible"),
    (
        "svc",
        service(type="NodePort", externalTrafficPolicy="x"),
        "spec.externalTrafficPolicy",
        "NotSupported",
        '"Cluster", "Local"',
    ),
    ("svc", service(internalTrafficPolicy="x"), "spec.internalTrafficPolicy", "NotSupported", '"Local"'),
    ("svc", service(healthCheckNodePort=1), "spec.healthCheckNodePort", "Invalid", "may only be set when"),
    ("svc", service(trafficDistribution="x"), "spec.trafficDistribution", "NotSupported", '"PreferClose"'),
    (
        "svc",
        service(type="LoadBalancer", loadBalancerSourceRanges=["10.0.0.1"]),
        "spec.loadBalancerSourceRanges[0]",
        "Invalid",
        "must be a valid CIDR value",
    ),
    (
        "svc",
        service(loadBalancerSourceRanges=["10.0.0.0/8"]),
        "spec.LoadBalancerSourceRanges",
        "Forbidden",
        "may only be used when `type` is 'LoadBalancer'",
    ),
    ("svc", service(type="ExternalName"), "spec.externalName", "Required", "Required value"),
    ("svc", service(selector={"a b": "c"}), "spec.selector", "Invalid", "name part"),
    ("deploy", deployment(replicas=-1), "spec.replicas", "Invalid", "greater than or equal to 0"),
    ("deploy", deployment(selector=None), "spec.selector", "Required", "Required value"),
    ("deploy", deployment(template=None), "spec.template", "Required", "Required value"),
    (
        "deploy",
        deployment(selector={}),
        "spec.selector",
        "Invalid",
        "Invalid value: v1.LabelSelector{MatchLabels:map[string]string(nil), "
        "MatchExpressions:[]v1.LabelSelectorRequirement(nil)}: empty selector is invalid for deployment",
    ),
    (
        "deploy",
        deployment(selector={"matchLabels": {"app": "db"}}),
        "spec.template.metadata.labels",
        "Invalid",
        'Invalid value: map[string]string{"app":"web"}: `selector` does not match template `labels`',
    ),
    (
        "deploy",
        deployment(selector={"matchExpressions": [{"key": "app", "operator": "Like"}]}),
        "spec.selector.matchExpressions[0].operator",
        "Invalid",
        "not a valid selector operator",
    ),
    (
        "deploy",
        deployment(selector={"matchExpressions": [{"key": "app", "operator": "In"}], "matchLabels": LABELS}),
        "spec.selector.matchExpressions[0].values",
        "Required",
        "must be specified when `operator` is 'In' or 'NotIn'",
    ),
    ("deploy", deployment(template={"metadata": {"labels": LABELS}}), f"{T}.containers", "Required", "Required value"),
    (
        "deploy",
        deployment(template=template(restartPolicy="Never")),
        f"{T}.restartPolicy",
        "NotSupported",
        'Unsupported value: "Never": supported values: "Always"',
    ),
    ("deploy", deployment(strategy={"type": "x"}), "spec.strategy.type", "NotSupported", '"Recreate"'),
    (
        "deploy",
        deployment(strategy={"type": "Recreate", "rollingUpdate": {}}),
        "spec.strategy.rollingUpdate",
        "Forbidden",
        "when strategy `type` is 'Recreate'",
    ),
    (
        "deploy",
        deployment(strategy={"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}),
        "spec.strategy.rollingUpdate.maxUnavailable",
        "Invalid",
        "may not be 0 when `maxSurge` is 0",
    ),
    (
        "deploy",
        deployment(strategy={"rollingUpdate": {"maxSurge": "a lot"}}),
        "spec.strategy.rollingUpdate.maxSurge",
        "Invalid",
        "a valid percent string",
    ),
    (
        "deploy",
        deployment(progressDeadlineSeconds=5, minReadySeconds=5),
        "spec.progressDeadlineSeconds",
        "Invalid",
        "must be greater than minReadySeconds",
    ),
    ("ds", deployment(updateStrategy={"type": "x"}), "spec.updateStrategy.type", "NotSupported", '"OnDelete"'),
    ("rs", deployment(template=None), "spec.template", "Required", "Required value"),
    ("rs", deployment(selector={"matchLabels": {"a": "b"}}), "spec.template.metadata.labels", "Invalid", "match"),
    ("no", node(podCIDR="10.0.0.0"), "spec.podCIDRs", "Invalid", "must be a valid CIDR value"),
    ("no", node(podCIDRs=["fd00::/64"]), "spec.podCIDRs", "Invalid", "IPv6 is not supported by Mininetes"),
    ("no", node(taints=[{"key": "a", "effect": "x"}]), "spec.taints[0].effect", "NotSupported", '"NoExecute"'),
    ("no", node(taints=[{"key": "a", "effect": "NoExecute"}] * 2), "spec.taints[1]", "Duplicate", '"key":"a"'),
    ("ep", {**named("e"), "subsets": [{}]}, "subsets[0]", "Required", "must specify `addresses`"),
    (
        "ep",
        {**named("e"), "subsets": [{"addresses": [{"ip": "169.254.1.1"}]}]},
        "subsets[0].addresses[0].ip",
        "Invalid",
        "link-local range",
    ),
    ("endpointslice", slice_(addressType=None), "addressType", "Required", "Required value"),
    ("endpointslice", slice_(addressType="IPv6"), "addressType", "Invalid", "IPv6 is not supported by Mininetes"),
    ("endpointslice", slice_(endpoints=[{}]), "endpoints[0].addresses", "Required", "Required value"),
    ("endpointslice", slice_(endpoints=[{"addresses": ["x"]}]), "endpoints[0].addresses[0]", "Invalid", "valid IP"),
    ("endpointslice", slice_(ports=[{"port": 0}]), "ports[0].port", "Invalid", "between 1 and 65535"),
    ("endpointslice", slice_(ports=[{"port": 1}, {"port": 2}]), "ports[1].name", "Duplicate", '""'),
    ("cm", {**named("c"), "data": {"a b": ""}}, "data[a b]", "Invalid", "a valid config key"),
    ("cm", {**named("c"), "data": {"a": "x" * 1048577}}, "", "TooLong", "at most 1048576 bytes"),
    ("secret", {**named("c"), "stringData": {"..": ""}}, "stringData[..]", "Invalid", "must not be '..'"),
    ("lease", {**named("l"), "spec": {"leaseDurationSeconds": 0}}, "spec.leaseDurationSeconds", "Invalid", "than 0"),
    (
        "events",
        {**named("e", namespace="a"), "involvedObject": {"namespace": "b"}},
        "involvedObject.namespace",
        "Invalid",
        "does not match event.namespace",
    ),
]


@pytest.mark.parametrize(("kind", "obj", "field", "reason", "message"), WRONG, ids=[f"{e[0]}-{e[2]}" for e in WRONG])
def test_what_is_wrong(kind: str, obj: dict[str, Any], field: str, reason: str, message: str) -> None:
    found = causes(kind, obj)
    assert [each[:2] for each in found] == [(field, reason)]
    assert message in found[0][2]


def test_all_causes_are_reported_together() -> None:
    with pytest.raises(ApiError) as refused:
        check(by_name("deploy"), deployment(replicas=-1, selector={"matchLabels": {"app": "db"}}))
    assert refused.value.message == (
        'Deployment.apps "d" is invalid: [spec.replicas: Invalid value: -1: must be greater than or equal to 0, '
        'spec.template.metadata.labels: Invalid value: map[string]string{"app":"web"}: '
        "`selector` does not match template `labels`]"
    )


def test_every_kind_can_be_checked_with_nothing_in_it() -> None:
    for resource in RESOURCES:
        with pytest.raises(ApiError, match=r"metadata\.name: Required value") as refused:
            check(resource, {})
        assert refused.value.code == 422


def test_a_status_may_be_reported_piece_by_piece() -> None:
    obj = {**pod(), "status": {"containerStatuses": [{"name": "c"}], "conditions": [{"type": "Ready"}]}}
    assert check(by_kind("v1", "Pod"), obj) == []
