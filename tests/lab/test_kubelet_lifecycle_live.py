"""Pods with more to their lives: sidecars, deadlines, hooks, and what commands leave running. See `kubelet_lab`."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any

import pytest
from kubelet_lab import KubeletLab, condition, container, run, until
from kubelet_pods import FOREVER, execute, responder, restarts, shell, started

from mininetes.agents.shim.client import ShimError


def sidecar(script: str, **fields: Any) -> dict[str, Any]:
    """An init container that goes on."""
    return shell(script, **fields) | {"name": "side", "restartPolicy": "Always"}


async def _sidecars(lab: KubeletLab) -> None:
    await started(lab)
    work = {"volumeMounts": [{"name": "work", "mountPath": "/data"}]}
    volumes = [{"name": "work", "emptyDir": {}}]
    beside = sidecar(f"trap 'echo ended by TERM; exit 0' TERM; echo up; {FOREVER}")
    quick = shell("until grep -q up /data/log; do sleep 0.05; done; exit 3", **work)
    watched = sidecar(f"trap 'exit 0' TERM; echo up > /data/log; {FOREVER}", **work)
    await lab.create("fails", quick, initContainers=[watched], restartPolicy="Never", volumes=volumes)
    await lab.create("works", shell("sleep 0.5"), initContainers=[beside], restartPolicy="Never",
                     terminationGracePeriodSeconds=30)  # fmt: skip
    failed = await lab.when("fails", lambda pod: pod["status"]["phase"] == "Failed", "Failed")
    assert container(failed)["state"]["terminated"]["exitCode"] == 3
    works = await lab.when("works", lambda pod: pod["status"]["phase"] == "Succeeded", "Succeeded")
    for pod in (failed, works):
        ended = container(pod, "side")["state"]["terminated"]
        assert (ended["exitCode"], restarts(pod, "side")) == (0, 0), "it was asked to end, once"
        assert ended["finishedAt"] >= container(pod)["state"]["terminated"]["finishedAt"]
    assert await lab.logs("works", "side") == "up\nended by TERM\n"

    async def let_go() -> bool:
        return not lab.namespaces()

    await until(let_go, "ended pods have no namespace")
    for name in ("fails", "works"):
        after = await lab.pod(name)
        assert after is not None
        assert after["status"]["phase"] in ("Failed", "Succeeded")

    await lab.create("again", responder(), initContainers=[sidecar("sleep 0.3")])
    again = await lab.when("again", lambda pod: restarts(pod, "side") >= 2, "started again whenever it ends")
    assert again["status"]["phase"] == "Running"
    assert condition(again, "Initialized") == "True"


def test_sidecars_end_after_the_others_and_are_restarted() -> None:
    run(_sidecars)


async def _sidecar_readiness(lab: KubeletLab) -> None:
    await started(lab)
    probe = {"exec": {"command": ["test", "-e", "/data/open"]}, "periodSeconds": 1, "failureThreshold": 1}
    work = {"volumeMounts": [{"name": "work", "mountPath": "/data"}]}
    await lab.create("plain", responder(), initContainers=[sidecar(FOREVER)])
    await lab.create("gated", shell(FOREVER, **work), initContainers=[sidecar(FOREVER, readinessProbe=probe, **work)],
                     volumes=[{"name": "work", "emptyDir": {}}])  # fmt: skip
    plain = await lab.ready("plain")
    assert container(plain, "side")["ready"] is True
    gated = await lab.when("gated", lambda pod: container(pod).get("ready"), "the main container is ready")
    assert container(gated, "side")["ready"] is False
    assert condition(gated, "Ready") == condition(gated, "ContainersReady") == "False"
    assert (await execute(lab, "gated", "touch", "/data/open"))[1] == 0
    await lab.ready("gated")


def test_sidecars_count_for_readiness() -> None:
    run(_sidecar_readiness)


async def _order(lab: KubeletLab) -> None:
    """When a pod is deleted: the main containers, then the sidecars from the last to the first."""
    await started(lab)

    def until_told(word: str, takes_s: float) -> str:
        return f"trap 'echo told; sleep {takes_s}; echo {word}; exit 0' TERM; echo up; {FOREVER}"

    sides = [sidecar(until_told("side", 0.3)), sidecar(until_told("last", 0.3)) | {"name": "last"}]
    await lab.create("app", shell(until_told("main", 0.3)), initContainers=sides, terminationGracePeriodSeconds=30)
    await lab.ready("app")
    names = ("main", "last", "side")
    for name in names:

        async def is_up(name: str = name) -> bool:
            return "up" in await lab.logs("app", name)

        await until(is_up, f"{name} has set its trap")
    query = "&follow=true&timestamps=true"
    followed = asyncio.gather(*(lab.logs("app", name, query) for name in names))
    await lab.client.delete("pods", "app", "default")
    await lab.gone("app")
    stamps = [line.split()[0] for log in await followed for line in log.splitlines()[1:]]
    assert len(stamps) == 6
    assert stamps == sorted(stamps), "each was told once the one before had ended"


def test_the_order_in_which_sidecars_end() -> None:
    run(_order)


async def _deadline(lab: KubeletLab) -> None:
    await started(lab)
    begun = time.time()
    for name, script in (("long", f"trap 'echo bye; exit 0' TERM; echo up; {FOREVER}"), ("short", "exit 0")):
        await lab.create(name, shell(script), restartPolicy="OnFailure", activeDeadlineSeconds=2)
    await lab.create("always", shell(FOREVER), activeDeadlineSeconds=2)
    await lab.create("stuck", shell("true", volumeMounts=[{"name": "v", "mountPath": "/v"}]), activeDeadlineSeconds=2,
                     volumes=[{"name": "v", "configMap": {"name": "missing"}}])  # fmt: skip
    await lab.ready("always")
    for name in ("long", "always", "stuck"):
        pod = await lab.when(name, lambda pod: pod["status"]["phase"] == "Failed", "Failed")
        assert time.time() - begun > 1, name
        assert pod["status"]["reason"] == "DeadlineExceeded"
        message = "Pod was active on the node longer than the specified deadline"
        assert pod["status"]["message"] == await lab.event(name, "DeadlineExceeded") == message
    assert await lab.logs("long") == "up\nbye\n"
    await lab.stop_kubelet()
    await lab.start_kubelet()

    async def let_go() -> bool:
        return not lab.namespaces()

    await until(let_go, "ended pods have no namespace")
    always, short = await lab.pod("always"), await lab.pod("short")
    assert always is not None
    assert short is not None
    assert (always["status"]["phase"], restarts(always)) == ("Failed", 0)
    assert (short["status"]["phase"], short["status"].get("reason")) == ("Succeeded", None)
    await lab.client.delete("pods", "always", "default")
    await lab.gone("always")


def test_pods_that_are_active_for_too_long() -> None:
    run(_deadline)


async def _post_start(lab: KubeletLab) -> None:
    await started(lab)
    slow = {"postStart": {"exec": {"command": ["sh", "-c", "sleep 0.7; echo hook >> /proc/1/root/run/hooked"]}}}
    first = shell(FOREVER, lifecycle=slow)
    second = shell(FOREVER) | {"name": "second"}
    begun = time.monotonic()
    await lab.create("good", first, second)
    good = await lab.ready("good")
    assert time.monotonic() - begun > 0.7, "others begin, and the status says Running, once the hook has run"
    said, _ = await execute(lab, "good", "cat", "/run/hooked")
    assert said == "hook\n"
    assert restarts(good) == 0
    web = responder()
    await lab.create("web", web | {"lifecycle": {"postStart": {"httpGet": {"port": "http", "path": "/none"}}}})
    await lab.create("pause", shell(FOREVER, lifecycle={"postStart": {"sleep": {"seconds": 1}}}))
    bad = {"postStart": {"exec": {"command": ["sh", "-c", "echo not today; exit 4"]}}}
    await lab.create("bad", shell(FOREVER, lifecycle=bad))
    await lab.create("never", shell(FOREVER, lifecycle=bad), restartPolicy="Never")
    closed = {"postStart": {"httpGet": {"port": 81}}}
    await lab.create("closed", shell(FOREVER, lifecycle=closed))
    await lab.ready("web")
    await lab.ready("pause")
    assert await lab.event("bad", "FailedPostStartHook") == "PostStartHook failed: not today"
    assert await lab.event("bad", "Killing") == "FailedPostStartHook"
    assert "connection refused" in await lab.event("closed", "FailedPostStartHook")
    await lab.when("bad", lambda pod: restarts(pod) >= 1, "started again")
    never = await lab.when("never", lambda pod: pod["status"]["phase"] == "Failed", "Failed")
    signals = (128 + signal.SIGTERM, 128 + signal.SIGKILL)
    assert container(never)["state"]["terminated"]["exitCode"] in signals
    # a hook that never ends keeps nobody from ending the pod
    await lab.create("endless", shell(FOREVER, lifecycle={"postStart": {"exec": {"command": ["sleep", "1000"]}}}))
    await lab.event("endless", "Started")
    await lab.client.delete("pods", "endless", "default")
    await lab.gone("endless")


def test_post_start_hooks() -> None:
    run(_post_start)


async def _left_running(lab: KubeletLab) -> None:
    await started(lab)
    leaver = shell("sleep 4321 & sleep 0.1; exit 1") | {"name": "leaver"}
    await lab.create("leaves", shell(FOREVER), leaver)
    await lab.when("leaves", lambda pod: restarts(pod, "leaver") >= 2, "it was restarted")
    count = "tr '\\0' ' ' </proc/$p/cmdline"
    said, _ = await execute(lab, "leaves", "sh", "-c", f"for p in $(ls /proc | grep '^[0-9]'); do {count}; echo; done")
    assert sum(line.startswith("sleep 4321") for line in said.splitlines()) <= 1, said


def test_what_a_container_left_running_ends_with_it() -> None:
    run(_left_running)


async def _bad_messages(lab: KubeletLab) -> None:
    await started(lab)
    await lab.create("box", shell(FOREVER, tty=True))
    await lab.ready("box")
    (name,) = [name for name in await lab.shim.processes("") if "/main/" in name]
    await lab.shim.resize(name, 70_000, 100)
    for rows, columns in (("many", 1), (None, 1)):
        with pytest.raises(ShimError):
            await lab.shim.resize(name, rows, columns)  # type: ignore[arg-type]
    assert await execute(lab, "box", "hostname") == ("box\n", 0)
    await lab.shim.forget(name)  # though it runs: it is listed no more, and its end is still heard of
    assert name not in await lab.shim.processes("")
    await lab.shim.kill(name)
    await lab.when("box", lambda pod: restarts(pod) == 1, "its end was heard of")


def test_no_message_ends_the_shim() -> None:
    run(_bad_messages)
