"""From what containers do to what the API says of a pod, and when a container is started again."""

from __future__ import annotations

from typing import Any

import pytest

from mininetes.agents.kubelet.container_record import ContainerRecord
from mininetes.agents.kubelet.pod_spec import deadline_of, image_key, kind_of, qos_class
from mininetes.agents.kubelet.status import DEADLINE_EXCEEDED, conditions, differs, phase, pod_status

NOW = 1_700_000_000.0


def record(
    name: str, state: str = "running", exit_code: int = 0, *, starts: int = 1, init: bool = False, sidecar: bool = False
) -> Any:
    made = ContainerRecord(name, "command", "image", is_init=init or sidecar, is_sidecar=sidecar)
    for _ in range(starts):
        made.begin(NOW, f"process/{name}", f"mininetes://{name}", started=True, ready=True)
    if state == "terminated":
        made.end(NOW + 1, exit_code)
    elif state == "waiting" and starts:
        made.end(NOW + 1, exit_code)
        made.wait("CrashLoopBackOff")
    return made


def pod(*records: ContainerRecord, policy: str = "Always", **status: Any) -> dict[str, Any]:
    inits = [
        {"name": each.name, **({"restartPolicy": "Always"} if each.is_sidecar else {})}
        for each in records
        if each.is_init
    ]
    mains = [{"name": each.name} for each in records if not each.is_init]
    spec = {"containers": mains, "initContainers": inits, "restartPolicy": policy}
    return {"metadata": {"name": "p", "namespace": "default", "uid": "u"}, "spec": spec, "status": status}


@pytest.mark.parametrize(
    ("policy", "records", "expected"),
    [
        ("Always", [record("a")], "Running"),
        ("Always", [record("a", "waiting", starts=0)], "Pending"),
        ("Always", [record("a", "terminated", 1)], "Running"),
        ("Always", [record("a", "waiting", 1)], "Running"),
        ("Always", [record("a", "terminated")], "Running"),
        ("OnFailure", [record("a", "terminated")], "Succeeded"),
        ("OnFailure", [record("a", "terminated", 1)], "Running"),
        ("Never", [record("a", "terminated")], "Succeeded"),
        ("Never", [record("a", "terminated", 1)], "Failed"),
        ("Never", [record("a", "terminated", 1), record("b")], "Running"),
        ("Never", [record("a", "terminated"), record("b", "terminated", 2)], "Failed"),
        ("Always", [record("i", init=True), record("a", "waiting", starts=0)], "Pending"),
        ("Never", [record("i", "terminated", 1, init=True), record("a", "waiting", starts=0)], "Failed"),
        ("Always", [record("i", "terminated", 1, init=True), record("a", "waiting", starts=0)], "Pending"),
        ("Always", [record("i", "terminated", init=True), record("a")], "Running"),
        ("Always", [record("s", sidecar=True), record("a")], "Running"),
        ("Always", [record("s", sidecar=True), record("a", "waiting", starts=0)], "Pending"),
        ("Always", [record("s", "waiting", sidecar=True), record("a", "waiting", starts=0)], "Pending"),
        ("Always", [record("s", "waiting", 1, sidecar=True), record("a")], "Running"),
        ("Never", [record("s", sidecar=True), record("a", "terminated")], "Succeeded"),
        ("Never", [record("s", "terminated", 137, sidecar=True), record("a", "terminated")], "Succeeded"),
        ("Never", [record("s", "terminated", 137, sidecar=True), record("a", "terminated", 1)], "Failed"),
        (
            "Never",
            [record("s", sidecar=True), record("i", "terminated", 1, init=True), record("a", "waiting", starts=0)],
            "Failed",
        ),
        ("OnFailure", [record("s", "terminated", 143, sidecar=True), record("a", "terminated")], "Succeeded"),
    ],
)
def test_phases(policy: str, records: list[ContainerRecord], expected: str) -> None:
    assert phase(pod(*records, policy=policy), {each.name: each for each in records}) == expected


def states(found: list[dict[str, Any]]) -> dict[str, str]:
    return {each["type"]: each["status"] for each in found}


def test_conditions_of_a_pod_that_is_not_ready() -> None:
    a, b = record("a"), record("b", "waiting", 1)
    found = conditions(pod(a, b), {"a": a, "b": b}, "Running", NOW, has_sandbox=True)
    assert states(found) == {
        "PodReadyToStartContainers": "True",
        "Initialized": "True",
        "Ready": "False",
        "ContainersReady": "False",
        "PodScheduled": "True",
    }
    (ready,) = (each for each in found if each["type"] == "Ready")
    assert ready["reason"] == "ContainersNotReady"
    assert ready["message"] == "containers with unready status: [b]"


def test_sidecars_count_for_readiness() -> None:
    sidecar, main = record("s", sidecar=True), record("a")
    records = {"s": sidecar, "a": main}
    assert sidecar.status()["ready"] is True
    assert states(conditions(pod(sidecar, main), records, "Running", NOW, has_sandbox=True))["Ready"] == "True"
    sidecar.ready = False
    found = conditions(pod(sidecar, main), records, "Running", NOW, has_sandbox=True)
    (ready,) = (each for each in found if each["type"] == "ContainersReady")
    assert (ready["status"], ready["message"]) == ("False", "containers with unready status: [s]")
    sidecar.end(NOW, 1)
    found = conditions(pod(sidecar, main), records, "Running", NOW, has_sandbox=True)
    assert states(found)["Initialized"] == "True", "it has begun long ago"


def test_a_condition_keeps_its_time_until_it_changes() -> None:
    a = record("a")
    first = conditions(pod(a), {"a": a}, "Running", NOW, has_sandbox=True)
    second = conditions(pod(a), {"a": a}, "Running", NOW + 100, has_sandbox=True, before=first)
    assert second == first
    a.ready = False
    third = conditions(pod(a), {"a": a}, "Running", NOW + 200, has_sandbox=True, before=second)
    times = {each["type"]: each["lastTransitionTime"] for each in third}
    assert times["Ready"] != times["Initialized"]


def test_conditions_of_others_stay_and_gates_count() -> None:
    a = record("a")
    gated = pod(a, conditions=[{"type": "x.y/ok", "status": "False"}])
    gated["spec"]["readinessGates"] = [{"conditionType": "x.y/ok"}]
    found = conditions(gated, {"a": a}, "Running", NOW, has_sandbox=True)
    assert states(found)["x.y/ok"] == "False"
    assert states(found)["ContainersReady"] == "True"
    assert states(found)["Ready"] == "False"
    gated["status"]["conditions"][0]["status"] = "True"
    assert states(conditions(gated, {"a": a}, "Running", NOW, has_sandbox=True))["Ready"] == "True"


def test_a_whole_status() -> None:
    a = record("a", starts=3)
    status = pod_status(
        pod(a),
        {"a": a},
        now=NOW,
        start_time="2023-11-14T22:13:20Z",
        host_address="192.168.1.11",
        pod_address="10.244.1.2",
        has_sandbox=True,
    )
    assert status["podIPs"] == [{"ip": "10.244.1.2"}]
    assert status["qosClass"] == "BestEffort"
    (container,) = status["containerStatuses"]
    assert container["restartCount"] == 2
    assert container["state"] == {"running": {"startedAt": "2023-11-14T22:13:20Z"}}
    assert differs({"phase": "Running"}, status)
    assert not differs(status, status)


def whole(shown: dict[str, Any], *records: ContainerRecord, **more: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {"now": NOW, "start_time": "", "host_address": "", "pod_address": "", "has_sandbox": True}
    return pod_status(shown, {each.name: each for each in records}, **facts, **more)


def test_a_pod_runs_until_its_sidecars_have_ended() -> None:
    sidecar, main = record("s", sidecar=True), record("a", "terminated")
    assert whole(pod(sidecar, main, policy="Never"), sidecar, main)["phase"] == "Running"
    sidecar.end(NOW, 143)
    assert whole(pod(sidecar, main, policy="Never"), sidecar, main)["phase"] == "Succeeded"


def test_a_pod_that_was_active_for_too_long_has_failed_for_good() -> None:
    a = record("a")
    assert whole(pod(a), a, failure=DEADLINE_EXCEEDED)["phase"] == "Running", "until it has ended"
    a.end(NOW, 143)
    status = whole(pod(a), a, failure=DEADLINE_EXCEEDED)
    assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")
    assert status["message"] == "Pod was active on the node longer than the specified deadline"
    again = whole(pod(a, **{key: status[key] for key in ("phase", "reason", "message")}), a)
    assert [again[key] for key in ("phase", "reason", "message")] == ["Failed", status["reason"], status["message"]]


def test_deadlines() -> None:
    a = record("a")
    limited = pod(a)
    assert deadline_of(limited, "2023-11-14T22:13:20Z") is None
    limited["spec"]["activeDeadlineSeconds"] = 5
    assert deadline_of(limited, "2023-11-14T22:13:20Z") == NOW + 5


def test_restarts_wait_longer_each_time_and_forget_after_a_long_run() -> None:
    a = record("a", "terminated", 1)
    assert a.wants_start("Always")
    assert not a.wants_start("Never")
    assert a.restart_at(NOW + 1, 300) == NOW + 1, "the first restart is at once"
    waits = []
    for _ in range(7):
        a.lengthen_backoff(10, 300)
        a.begin(NOW, "p", "c", started=True, ready=True)
        a.end(NOW + 1, 1)
        waits.append(a.restart_at(NOW + 1, 300) - (NOW + 1))
    assert waits == [10, 20, 40, 80, 160, 300, 300]
    a.begin(NOW, "p", "c", started=True, ready=True)
    a.end(NOW + 601, 1)
    assert a.restart_at(NOW + 601, 300) == NOW + 601
    assert a.last is not None
    assert a.last["exitCode"] == 1


def test_restart_policies() -> None:
    good, bad = record("a", "terminated"), record("a", "terminated", 1)
    assert [good.wants_start(policy) for policy in ("Always", "OnFailure", "Never")] == [True, False, False]
    assert [bad.wants_start(policy) for policy in ("Always", "OnFailure", "Never")] == [True, True, False]
    good, bad = record("a", "terminated", init=True), record("a", "terminated", 1, init=True)
    assert [good.wants_start(policy) for policy in ("Always", "OnFailure", "Never")] == [False, False, False]
    assert [bad.wants_start(policy) for policy in ("Always", "OnFailure", "Never")] == [True, True, False]
    assert record("a", "waiting", starts=0).wants_start("Never")
    assert record("s", "terminated", sidecar=True).wants_start("Always")


@pytest.mark.parametrize(
    ("container", "kind"),
    [
        ({"image": "nginx"}, "responder"),
        ({"image": "nginx", "command": ["x"]}, "command"),
        ({"image": "nginx", "args": ["x"]}, "command"),
        ({"image": "mininetes/dns:1.0", "args": ["-conf", "x"]}, "builtin"),
        ({"image": "docker.io/mininetes/dns"}, "builtin"),
        ({"image": "mininetes/dns", "command": ["x"]}, "command"),
    ],
)
def test_what_a_container_is(container: dict[str, Any], kind: str) -> None:
    assert kind_of(container, {"mininetes/dns"}) == kind


def test_images_are_known_with_registry_tag_and_digest() -> None:
    for image in ("dns", "dns:1", "dns@sha256:0", "docker.io/dns:1", "docker.io/library/dns"):
        assert image_key(image, {"dns"}) == "dns"
    assert image_key("registry:5000/dns", {"dns"}) is None
    assert image_key("other", {"dns"}) is None


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ([{}], "BestEffort"),
        ([{"limits": {"cpu": "1", "memory": "1Mi"}}], "Guaranteed"),
        ([{"limits": {"cpu": "1", "memory": "1Mi"}, "requests": {"cpu": "1"}}], "Guaranteed"),
        ([{"limits": {"cpu": "1", "memory": "1Mi"}, "requests": {"cpu": "500m"}}], "Burstable"),
        ([{"limits": {"cpu": "1"}}], "Burstable"),
        ([{"limits": {"cpu": "1", "memory": "1Mi"}}, {}], "Burstable"),
    ],
)
def test_qos_classes(resources: list[dict[str, Any]], expected: str) -> None:
    containers = [{"name": str(i), "resources": each} for i, each in enumerate(resources)]
    assert qos_class({"metadata": {}, "spec": {"containers": containers}}) == expected
