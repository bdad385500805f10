"""The node, its agents, and what goes wrong: no kubelet, no API, no sandbox, no network. See `kubelet_lab`."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
import signal
import time
from pathlib import Path
from typing import Any

from kubelet_lab import NODE, QUICK, KubeletLab, condition, connected, container, run, until
from kubelet_pods import FOREVER, responder, restarts, shell, started

from mininetes.agents.kubelet import StaticPod
from mininetes.agents.shim.spawning import PAUSE
from mininetes.lab.filesystem import node_path


async def _node(lab: KubeletLab) -> None:
    options = dataclasses.replace(QUICK, status_period_s=0.5, control_plane=True, labels={"disk": "ssd"}, max_pods=20)
    await lab.start_kubelet(options)
    node: dict[str, Any] = {}

    async def registered(ready: str) -> bool:
        nonlocal node
        nodes = await lab.client.list("nodes")
        node = nodes["items"][0] if nodes["items"] else {}
        return condition(node, "Ready") == ready

    await until(lambda: registered("False"), "a node without a network is not ready")
    (why,) = (each for each in node["status"]["conditions"] if each["type"] == "Ready")
    assert "cni plugin not initialized" in why["message"]
    labels = node["metadata"]["labels"]
    assert labels["kubernetes.io/hostname"] == NODE
    assert labels["topology.kubernetes.io/zone"] == "east"
    assert labels["disk"] == "ssd"
    assert labels["node-role.kubernetes.io/control-plane"] == ""
    assert {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"} in node["spec"]["taints"]
    assert node["status"]["allocatable"]["pods"] == "20"
    await lab.create("early", responder())
    assert "network is not ready" in await lab.event("early", "NetworkNotReady")
    lab.install_network()
    await until(lambda: registered("True"), "with a network it is")
    await lab.ready("early")
    times = set()

    async def renewed() -> bool:
        lease = await lab.client.get("leases.coordination.k8s.io", NODE, "kube-node-lease")
        times.add(lease["spec"]["renewTime"])
        return len(times) >= 3

    await until(renewed, "the lease is renewed")
    health = await asyncio.to_thread(lab.in_node, "curl", "-s", "http://127.0.0.1:10248/healthz")
    assert health == "ok"
    kubelet = f"https://{lab.place.address}:10250"
    assert await asyncio.to_thread(lab.in_node, "curl", "-sk", f"{kubelet}/healthz") == "ok"
    assert await asyncio.to_thread(lab.in_node, "curl", "-sk", f"{kubelet}/pods") == "Unauthorized"
    token = f"Authorization: Bearer {lab.client._token}"
    pods = await asyncio.to_thread(lab.in_node, "curl", "-sk", "-H", token, f"{kubelet}/pods")
    assert '"name": "early"' in pods
    await lab.client.delete("nodes", NODE)
    await until(lambda: registered("True"), "a node that was deleted registers anew", within_s=30)


def test_the_node_and_its_lease() -> None:
    run(_node)


async def _agents(lab: KubeletLab) -> None:
    alive = False
    log = Path(node_path(NODE, "/var/log/kube-scheduler.log"))
    log.write_text('I1126 11:05:00.123456       1 server.py:1] "Starting"\nI1126 11:05:01.000000       1 x] "two"\n')
    labels = {"component": "kube-scheduler"}
    lab.static_pods.append(
        StaticPod("kube-scheduler", "kube-scheduler", str(log), labels=labels, is_alive=lambda: alive)
    )
    await started(lab)
    name = f"kube-scheduler-{NODE}"
    pod = await lab.when(name, lambda pod: condition(pod, "Ready") == "False", "waits for its start", "kube-system")
    assert container(pod, "kube-scheduler")["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert pod["status"]["phase"] == "Pending"
    alive = True
    pod = await lab.ready(name, "kube-system")
    assert container(pod, "kube-scheduler")["restartCount"] == 0
    assert pod["metadata"]["annotations"]["kubernetes.io/config.source"] == "file"
    assert pod["status"]["podIP"] == lab.place.address
    said = await lab.logs(name, "kube-scheduler", "&tailLines=1", "kube-system")
    assert said == 'I1126 11:05:01.000000       1 x] "two"\n'
    await lab.client.delete("pods", name, "kube-system")
    uid = pod["metadata"]["uid"]
    pod = await lab.when(name, lambda pod: pod["metadata"]["uid"] != uid, "comes back", "kube-system")
    await lab.ready(name, "kube-system")
    alive = False
    pod = await lab.when(name, lambda pod: condition(pod, "Ready") == "False", "is not ready", "kube-system")
    assert container(pod, "kube-scheduler")["state"]["terminated"]["reason"] == "Error"
    alive = True
    pod = await lab.ready(name, "kube-system")
    assert container(pod, "kube-scheduler")["restartCount"] == 1


def test_agents_as_pods() -> None:
    run(_agents)


async def _adoption(lab: KubeletLab) -> None:
    await started(lab)
    for name in ("stays", "deleted"):
        await lab.create(name, shell(f"echo $$; {FOREVER}"))
    await lab.create("web", responder())
    await lab.create("dies", shell(FOREVER))
    before = {name: await lab.ready(name) for name in ("stays", "deleted", "web", "dies")}
    pause = lab.shown("stays").pause_pid
    await lab.stop_kubelet()
    (dying,) = [each.pid for name, each in (await lab.shim.processes("")).items() if
                name.startswith(f"{NODE}/{before['dies']['metadata']['uid']}/main")]  # fmt: skip
    os.kill(dying, signal.SIGKILL)
    await lab.client.delete("pods", "deleted", "default", grace_s=0)
    async with connected(lab, before["web"]["status"]["podIP"], 80) as (reader, writer):
        writer.write(b"hello\n")
        assert b'"pod": "web"' in await reader.read()
    await lab.start_kubelet()
    dies = await lab.when("dies", lambda pod: restarts(pod) == 1, "restarted")
    assert container(dies)["lastState"]["terminated"]["exitCode"] == 128 + signal.SIGKILL
    assert dies["status"]["podIP"] == before["dies"]["status"]["podIP"]

    async def ended() -> bool:
        return lab.namespaces() == {"stays", "web", "dies"}

    await until(ended, "what was deleted meanwhile is gone")
    for name in ("stays", "web"):
        after = await lab.pod(name)
        assert after is not None
        assert container(after) == container(before[name])
        assert after["status"] == before[name]["status"]
    assert lab.shown("stays").pause_pid == pause


def test_the_next_kubelet_takes_over() -> None:
    run(_adoption)


async def _torn(lab: KubeletLab) -> None:
    """Kubelets that are ended in the middle of their work leave nothing half-done for the last one."""
    lab.install_network()
    names = [f"p{number}" for number in range(6)]
    for number, name in enumerate(names):
        await lab.create(name, shell(FOREVER) if number % 2 else responder())
    for lifetime_s in (0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15):
        await lab.start_kubelet()
        await asyncio.sleep(lifetime_s)
        await lab.stop_kubelet()
    await lab.start_kubelet()
    ready = [await lab.ready(name) for name in names]
    assert lab.namespaces() == set(names)
    addresses = [pod["status"]["podIP"] for pod in ready]
    assert len(set(addresses)) == len(names)

    async def one_of_each() -> bool:
        running = [name for name, each in (await lab.shim.processes("")).items() if each.status is None]
        return sorted(name.split("/")[2] for name in running) == ["main"] * 3 + ["pause"] * 6

    await until(one_of_each, "one process of each kind a pod")
    kept = Path(node_path(NODE, "/var/lib/cni")).rglob("10.244.1.*")
    assert sorted(each.name for each in kept) == sorted(addresses)


def test_kubelets_torn_from_their_work() -> None:
    run(_torn)


async def _api_away(lab: KubeletLab) -> None:
    await started(lab)
    await lab.create("dies", shell(f"echo $$; {FOREVER}"))
    await lab.create("web", responder())
    await lab.ready("dies")
    await lab.ready("web")
    await lab.stop_api()
    processes = await lab.shim.processes("")
    (dying,) = [each.pid for name, each in processes.items() if "/main/" in name]
    os.kill(dying, signal.SIGKILL)

    async def restarted() -> bool:
        return any("/main/1/" in name for name in await lab.shim.processes(""))

    await until(restarted, "a container is restarted while the API is away")
    # a kubelet that starts meanwhile finds its pods too
    await lab.stop_kubelet()
    await lab.start_kubelet()

    async def adopted() -> bool:
        return lab.kubelet is not None and {pod.name for pod in lab.kubelet.pods()} == {"dies", "web"}

    await until(adopted, "the pods are known without the API")
    await lab.start_api()
    await lab.when("dies", lambda pod: restarts(pod) == 1, "the status catches up")
    await lab.ready("dies")
    await lab.client.delete("pods", "web", "default")
    await lab.gone("web")


def test_the_api_is_away() -> None:
    run(_api_away)


async def _sandbox_lost(lab: KubeletLab) -> None:
    await started(lab)
    await lab.create("box", shell(f"echo up; {FOREVER}"))
    before = await lab.ready("box")
    pause = lab.shown("box").pause_pid
    assert pause
    os.kill(pause, signal.SIGKILL)
    after = await lab.when("box", lambda pod: restarts(pod) == 1 and condition(pod, "Ready") == "True",
                           "made anew")  # fmt: skip
    assert "killed and re-created" in await lab.event("box", "SandboxChanged")
    assert after["status"]["podIP"] != before["status"]["podIP"]
    assert after["status"]["podIPs"] == [{"ip": after["status"]["podIP"]}]

    async def another_pause() -> bool:
        return any(pod.name == "box" and pod.pause_pid not in (None, pause) for pod in lab.kubelet.pods())

    await until(another_pause, "another pause process")
    for name, policy in (("done", "Never"), ("deleted", "Always")):
        await lab.create(name, shell("exit 0" if policy == "Never" else FOREVER), restartPolicy=policy)
    await lab.when("done", lambda pod: pod["status"]["phase"] == "Succeeded", "Succeeded")
    await lab.ready("deleted")
    await lab.client.delete("pods", "deleted", "default")
    await lab.gone("deleted")
    # events are written in order: once there is one of a later pod, those before are there too
    await lab.create("later", shell("exit 0"), restartPolicy="Never")
    await lab.event("later", "Started")
    for name in ("done", "deleted"):
        assert "SandboxChanged" not in await lab.events(name), "a sandbox that has done its work is not made anew"


def test_a_killed_sandbox_is_made_anew() -> None:
    run(_sandbox_lost)


async def _bad_network(lab: KubeletLab) -> None:
    """A plugin that fails: an event that says so, nothing left, and the pod comes up once it works."""
    lab.install_network()
    plugin = Path(node_path(NODE, "/opt/cni/bin/bash-bridge"))
    target = plugin.readlink()
    plugin.unlink()
    plugin.write_text('#!/bin/sh\necho \'{"cniVersion": "1.0.0", "code": 100, "msg": "no cable"}\'\nexit 1\n')
    plugin.chmod(0o755)
    await lab.start_kubelet()
    await lab.create("web", responder())
    assert "no cable" in await lab.event("web", "FailedCreatePodSandBox")

    async def nothing_left() -> bool:
        return not lab.namespaces()

    await until(nothing_left, "a failed attempt leaves nothing")
    plugin.unlink()
    plugin.symlink_to(target)
    await lab.ready("web")


def test_a_plugin_that_fails() -> None:
    run(_bad_network)


async def _no_pause(lab: KubeletLab) -> None:
    """Attempts at a sandbox wait longer each time, whatever is heard of the pod meanwhile."""
    await started(lab)
    pause = Path(node_path(NODE, PAUSE))

    async def is_there() -> bool:
        return pause.is_symlink()

    await until(is_there, "the kubelet has begun")
    target = pause.readlink()
    pause.unlink()
    uid = await lab.create("web", responder())
    assert "Failed to create pod sandbox" in await lab.event("web", "FailedCreatePodSandBox")
    failed = await lab.pod("web")
    assert failed is not None
    assert "podIP" not in failed["status"], "an address that was given back is not shown"
    assert lab.kubelet is not None
    record = lab.kubelet._workers[uid].record.sandbox
    begun = time.monotonic()
    for number in itertools.count():
        await lab.client.patch("pods", "web", {"metadata": {"labels": {"turn": str(number)}}}, "default")
        if time.monotonic() - begun > 2:
            break
    assert record.attempts <= 5
    pause.symlink_to(target)
    await lab.ready("web")


def test_a_sandbox_that_cannot_be_made() -> None:
    run(_no_pause)


async def _one_port_for_two(lab: KubeletLab) -> None:
    """The second does not run, whatever becomes of the kubelet; who names another address or port does."""
    await started(lab)
    port = {"containerPort": 80, "hostPort": 8090}
    await lab.create("first", responder(ports=[port]))
    await lab.ready("first")
    await lab.create("second", responder(ports=[port]))
    failed = await lab.when("second", lambda pod: pod["status"]["phase"] == "Failed", "it is rejected")
    assert failed["status"]["reason"] == "NodePorts"
    assert "didn't have free ports" in failed["status"]["message"]
    assert "Predicate NodePorts failed" in await lab.event("second", "NodePorts")
    await lab.create("udp", responder(ports=[{**port, "protocol": "UDP"}]))
    await lab.ready("udp")
    await lab.stop_kubelet()
    await lab.start_kubelet()
    await lab.create("later", responder())
    await lab.ready("later")
    await lab.when("second", lambda pod: pod["status"].get("reason") == "NodePorts", "it stays rejected")
    assert {pod.name for pod in lab.kubelet.pods()} == {"first", "udp", "later"}
    for name in ("second", "first"):
        await lab.client.delete("pods", name, "default", grace_s=1)
        await lab.gone(name)
    await lab.create("third", responder(ports=[port]))
    await lab.ready("third")


def test_two_pods_with_one_port_of_the_node() -> None:
    run(_one_port_for_two)
