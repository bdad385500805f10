"""The life of pods under a kubelet, with real namespaces, processes and plugins: see `kubelet_lab`."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from pathlib import Path

import pytest
from kubelet_lab import NODE, QUICK, KubeletLab, condition, connected, container, run, until
from kubelet_pods import FOREVER, execute, responder, restarts, shell, started

from mininetes.lab.filesystem import node_path


async def _life(lab: KubeletLab) -> None:
    await started(lab)
    await lab.create("web", responder())
    variables = [
        {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "URL", "value": "http://$(ADDRESS)/$(NOBODY)/$$(HOME)"},
    ]
    script = (
        f"hostname; cat /etc/hosts /etc/resolv.conf; echo $URL; pwd; ip netns; ps -e -o comm=; echo no >&2; {FOREVER}"
    )
    uid = await lab.create("tool", shell(script, env=variables, workingDir="/usr"))
    web, tool = await lab.ready("web"), await lab.ready("tool")

    address = tool["status"]["podIP"]
    assert address.startswith("10.244.1."), tool
    assert tool["status"]["hostIP"] == lab.place.address
    assert lab.namespaces() == {"web", "tool"}
    assert lab.shown("tool").pause_pid
    assert lab.shown("web").ports == ((80, "TCP"),)
    assert lab.shown("web").ready
    async with connected(lab, web["status"]["podIP"], 80) as (reader, writer):
        writer.write(b"hello\n")
        assert b'"pod": "web", "node": "node1"' in await reader.read()

    async def has_run() -> bool:
        return "sleep" in await lab.logs("tool") or "sh\n" in await lab.logs("tool")

    await until(has_run, "the script has run")
    lines = (await lab.logs("tool")).splitlines()
    assert lines[0] == "tool"
    assert f"{address}\ttool" in lines
    assert "nameserver 10.96.0.10" in lines
    assert "search default.svc.cluster.local svc.cluster.local cluster.local" in lines
    assert f"http://{address}/$(NOBODY)/$(HOME)" in lines
    assert "/usr" in lines
    assert "web" not in lines, "a pod sees the node's network namespaces"
    assert "pause" in lines
    log = Path(node_path(NODE, f"/var/log/pods/default_tool_{uid}/main/0.log"))
    assert any(line.endswith(" stderr F no") for line in log.read_text().splitlines())
    (link,) = Path(node_path(NODE, "/var/log/containers")).glob("tool_default_main-*.log")
    assert link.readlink() == Path(f"/var/log/pods/default_tool_{uid}/main/0.log")

    for name in ("web", "tool"):
        await lab.client.delete("pods", name, "default")
        await lab.gone(name)
    assert lab.namespaces() == set()
    assert list(Path(node_path(NODE, "/var/lib/kubelet/pods")).iterdir()) == []
    assert await lab.shim.processes("") == {}
    for folder in ("/var/log/pods", "/var/log/containers"):
        assert list(Path(node_path(NODE, folder)).iterdir()) == []
    assert "veth" not in lab.in_node("ip", "-br", "link")
    assert "SyncLoop ADD" in Path(node_path(NODE, "/var/log/kubelet.log")).read_text()


@pytest.mark.parametrize("user_namespace", [False, True])
def test_pods_live_and_end_and_nothing_is_left(user_namespace: bool) -> None:
    run(_life, user_namespace=user_namespace)


async def _names(lab: KubeletLab) -> None:
    """The next pod of a name waits for the one before."""
    await started(lab)
    await lab.client.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}})
    first = await lab.create("web", responder())
    await lab.create("web", responder(), namespace="other")
    before = (await lab.ready("web"))["status"]["podIP"]
    await lab.ready("web", "other")
    assert lab.namespaces() == {"web", "other_web"}
    await lab.client.delete("pods", "web", "default", grace_s=0)
    second = await lab.create("web", responder())
    assert first != second
    after = (await lab.ready("web"))["status"]["podIP"]
    assert after != before
    async with connected(lab, after, 80) as (reader, writer):
        writer.write(b"hello\n")
        assert b'"pod": "web"' in await reader.read()


def test_pods_of_one_name() -> None:
    run(_names)


async def _grace(lab: KubeletLab) -> None:
    await started(lab)
    await lab.create(
        "kind", shell(f"trap 'echo bye; exit 0' TERM; echo up; {FOREVER}"), terminationGracePeriodSeconds=30
    )
    await lab.create("deaf", shell(f"trap '' TERM; echo up; {FOREVER}"), terminationGracePeriodSeconds=1)
    await lab.create("forced", shell(f"trap '' TERM; echo up; {FOREVER}"), terminationGracePeriodSeconds=300)
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo bye > /proc/1/fd/1; touch /run/hook"]}}}
    await lab.create("hooked", shell(f"echo up; {FOREVER}", lifecycle=hook))
    for name in ("kind", "deaf", "forced", "hooked"):
        await lab.ready(name)

        async def is_up(name: str = name) -> bool:
            return "up" in await lab.logs(name)

        await until(is_up, f"{name} has set its trap")
    followed = asyncio.ensure_future(lab.logs("kind", query="&follow=true"))
    begun = time.monotonic()
    for name in ("kind", "deaf", "hooked"):
        await lab.client.delete("pods", name, "default")
    await lab.gone("kind")
    assert time.monotonic() - begun < 5
    await lab.gone("hooked")
    await lab.gone("deaf")
    assert 0.9 < time.monotonic() - begun < 5
    assert (await followed).endswith("bye\n")
    await lab.client.delete("pods", "forced", "default", grace_s=0)

    async def let_go() -> bool:
        return not lab.namespaces()

    await until(let_go, "a pod deleted by force is ended soon", within_s=5)


def test_grace_periods() -> None:
    run(_grace)


async def _restarts(lab: KubeletLab) -> None:
    await started(lab)
    await lab.create("crash", shell("echo run; exit 3"))
    await lab.create("done", shell("echo done"), restartPolicy="OnFailure")
    await lab.create("broken", shell("exit 7"), restartPolicy="Never")
    await lab.create("missing", {"name": "main", "image": "x", "command": ["/no/such/program"]})
    crash = await lab.when("crash", lambda pod: restarts(pod) >= 2, "restarted twice")
    assert container(crash)["lastState"]["terminated"]["exitCode"] == 3
    assert container(crash)["lastState"]["terminated"]["reason"] == "Error"
    crash = await lab.when("crash", lambda pod: "waiting" in container(pod)["state"], "waits")
    waiting = container(crash)["state"]["waiting"]
    assert waiting["reason"] == "CrashLoopBackOff"
    assert waiting["message"].startswith("back-off "), waiting
    assert crash["status"]["phase"] == "Running"
    assert condition(crash, "Ready") == "False"
    assert (await lab.event("crash", "BackOff")).startswith(
        "Back-off restarting failed container main in pod crash_default("
    )
    assert await lab.logs("crash", query="&previous=true") == "run\n"
    done = await lab.when("done", lambda pod: pod["status"]["phase"] == "Succeeded", "Succeeded")
    assert container(done)["state"]["terminated"]["reason"] == "Completed"
    assert await lab.logs("done") == "done\n"
    broken = await lab.when("broken", lambda pod: pod["status"]["phase"] == "Failed", "Failed")
    assert container(broken)["state"]["terminated"]["exitCode"] == 7

    async def let_go() -> bool:
        return lab.namespaces() == {"crash", "missing"}

    await until(let_go, "ended pods have no namespace")
    missing = await lab.when(
        "missing", lambda pod: container(pod).get("lastState", {}).get("terminated"), "failed to start"
    )
    assert container(missing)["lastState"]["terminated"]["reason"] == "StartError"
    assert container(missing)["lastState"]["terminated"]["exitCode"] == 128
    assert container(missing)["state"]["waiting"]["reason"] in ("RunContainerError", "CrashLoopBackOff")
    assert 'exec: "/no/such/program": no such file or directory' in await lab.event("missing", "Failed")


def test_restarts_and_ends() -> None:
    run(_restarts)


async def _host_network(lab: KubeletLab) -> None:
    await started(lab)
    await lab.create("agent", shell(f"ip -br address show eth0; hostname; {FOREVER}"), hostNetwork=True)
    agent = await lab.ready("agent")
    assert agent["status"]["podIP"] == lab.place.address
    assert lab.namespaces() == set()
    assert lab.shown("agent").host_network

    async def has_run() -> bool:
        return (await lab.logs("agent")).endswith(f"{NODE}\n")

    await until(has_run, "it has run")
    assert lab.place.address in await lab.logs("agent")
    await lab.client.delete("pods", "agent", "default")
    await lab.gone("agent")
    assert lab.place.address in lab.in_node("ip", "address")


def test_pods_in_the_nodes_network() -> None:
    run(_host_network)


async def _mount_only(lab: KubeletLab) -> None:
    """Without pause processes: nothing runs for a responder pod, and commands still have theirs."""
    lab.install_network()
    await lab.start_kubelet(dataclasses.replace(QUICK, hold="mount"))
    await lab.create("web", responder())
    await lab.create("tool", shell(FOREVER))
    await lab.ready("web")
    await lab.ready("tool")
    assert lab.shown("web").pause_pid is None
    assert lab.shown("tool").pause_pid
    assert {name.split("/")[2] for name in await lab.shim.processes("")} == {"pause", "main"}
    said, status = await execute(lab, "web", "sh", "-c", "hostname; ip -br address show eth0")
    assert status == 0
    assert lab.shown("web").address in said


def test_pods_held_by_a_mount() -> None:
    run(_mount_only)
