"""What containers are made of, probed with and asked: volumes, built-ins, probes, logs, exec. See `kubelet_lab`."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from kubelet_lab import NODE, KubeletLab, condition, container, run, until
from kubelet_pods import FOREVER, attach, execute, responder, restarts, shell, started

from mininetes.apiserver.errors import ApiError
from mininetes.lab.filesystem import node_path


async def _initial(lab: KubeletLab) -> None:
    await started(lab)
    work = [{"name": "work", "mountPath": "/opt/work"}]
    first = shell("echo one > /opt/work/file", volumeMounts=work) | {"name": "first"}
    second = shell("echo two >> /opt/work/file", volumeMounts=work) | {"name": "second"}
    await lab.create(
        "app",
        shell(f"cat /opt/work/file; {FOREVER}", volumeMounts=work),
        initContainers=[first, second],
        volumes=[{"name": "work", "emptyDir": {}}],
    )
    app = await lab.ready("app")
    assert [container(app, name)["state"]["terminated"]["exitCode"] for name in ("first", "second")] == [0, 0]
    assert condition(app, "Initialized") == "True"

    async def has_read() -> bool:
        return await lab.logs("app") == "one\ntwo\n"

    await until(has_read, "the container sees what the init containers wrote, in order")
    bad = shell("exit 1") | {"name": "bad"}
    await lab.create("never", responder(), initContainers=[bad], restartPolicy="Never")
    await lab.when("never", lambda pod: pod["status"]["phase"] == "Failed", "Failed")
    await lab.create("again", responder(), initContainers=[bad])
    again = await lab.when("again", lambda pod: restarts(pod, "bad") >= 1, "tried again")
    assert again["status"]["phase"] == "Pending"
    assert container(again)["state"]["waiting"]["reason"] == "PodInitializing"


def test_init_containers() -> None:
    run(_initial)


async def _configuration(lab: KubeletLab) -> None:
    await started(lab)
    mounts = [
        {"name": "config", "mountPath": "/etc/app"},
        {"name": "config", "mountPath": "/usr/share/app/one.conf", "subPath": "one.conf"},
    ]
    await lab.create(
        "app",
        shell(
            f"echo $COLOUR $PRE_size; cat /etc/app/one.conf /usr/share/app/one.conf; touch /etc/app/x; {FOREVER}",
            env=[{"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}}],
            envFrom=[{"prefix": "PRE_", "configMapRef": {"name": "settings"}}],
        ),
    )

    def is_refused(pod: dict[str, Any]) -> bool:
        waiting = container(pod).get("state", {}).get("waiting", {})
        return bool(waiting.get("reason") == "CreateContainerConfigError")

    app = await lab.when("app", is_refused, "refused")
    assert container(app)["state"]["waiting"]["message"] == 'configmap "settings" not found'
    data = {"colour": "blue", "size": "9", "one.conf": "x=1\n"}
    await lab.client.create(
        "configmaps",
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": data},
        "default",
    )
    await lab.ready("app")
    await lab.create(
        "files",
        shell(f"cat /etc/app/one.conf /usr/share/app/one.conf; touch /etc/app/x; {FOREVER}", volumeMounts=mounts),
        volumes=[{"name": "config", "configMap": {"name": "settings"}}],
    )
    await lab.ready("files")

    async def both_read() -> bool:
        return (await lab.logs("app")).startswith("blue 9\n") and "Read-only" in await lab.logs("files")

    await until(both_read, "variables and files came from the ConfigMap")
    assert (await lab.logs("files")).startswith("x=1\nx=1\n")
    assert not Path("/usr/share/app").exists()
    await lab.create("odd", shell("true"), volumes=[{"name": "v", "nfs": {"server": "x", "path": "/"}}])
    await lab.create(
        "nfs",
        shell("true", volumeMounts=[{"name": "v", "mountPath": "/mnt"}]),
        volumes=[{"name": "v", "nfs": {"server": "x", "path": "/"}}],
    )
    assert 'volume "v" is nfs' in await lab.event("nfs", "FailedMount")


def test_configuration_from_the_api() -> None:
    run(_configuration)


async def _new_folders(lab: KubeletLab) -> None:
    await started(lab)
    await lab.create(
        "root",
        shell(
            f"touch /no-such-folder/a /not/there/b; ls / /not /no-such-folder; cat /etc/hostname; {FOREVER}",
            volumeMounts=[{"name": "v", "mountPath": "/no-such-folder"}, {"name": "w", "mountPath": "/not/there"}],
        ),
        volumes=[{"name": "v", "emptyDir": {}}, {"name": "w", "emptyDir": {}}],
    )
    await lab.ready("root")

    async def listed() -> bool:
        return (await lab.logs("root")).endswith("root\n")

    await until(listed, "the folders were listed")
    said = (await lab.logs("root")).split("\n\n")
    there = {each.name for each in Path("/").iterdir() if not each.name.startswith(".")}
    assert set(said[0].splitlines()[1:]) == there | {"no-such-folder", "not"}
    assert said[1:] == ["/no-such-folder:\na", "/not:\nthere\nroot\n"]
    assert not Path("/no-such-folder").exists()
    assert not Path("/not").exists()
    said, status = await execute(lab, "root", "sh", "-c", "ls /not/there; cat /proc/1/comm; ls -d /run/.root")
    assert (said.splitlines()[:2], status) == (["b", "pause"], 2)
    debugger = shell(f"ls /host/etc/cni/net.d; {FOREVER}", volumeMounts=[{"name": "host", "mountPath": "/host"}])
    whole = {"hostNetwork": True, "hostPID": True, "hostIPC": True}
    await lab.create("debugger", debugger, volumes=[{"name": "host", "hostPath": {"path": "/"}}], **whole)
    await lab.ready("debugger")

    async def seen() -> bool:
        return ".conf" in await lab.logs("debugger")

    await until(seen, "the node's files are below /host, as `kubectl debug node` has them")


@pytest.mark.parametrize("user_namespace", [False, True])
def test_volumes_at_folders_that_the_host_does_not_have(user_namespace: bool) -> None:
    run(_new_folders, user_namespace=user_namespace)


async def _nested(lab: KubeletLab) -> None:
    await started(lab)

    async def volumes_at(name: str, script: str, **at: dict[str, Any] | str) -> str:
        """A pod with volumes at paths (v1="/path", or a mount with its source); what its script says."""
        given = {key: {"mountPath": each} if isinstance(each, str) else dict(each) for key, each in at.items()}
        sources = {key: each.pop("source", {"emptyDir": {}}) for key, each in given.items()}
        mounts = [{"name": key, **each} for key, each in given.items()]
        volumes = [{"name": key, **each} for key, each in sources.items()]
        await lab.create(name, shell(f"{script}; echo end; {FOREVER}", volumeMounts=mounts), volumes=volumes)
        await lab.ready(name)

        async def ended() -> bool:
            return (await lab.logs(name)).endswith("end\n")

        await until(ended, f"{name} said all")
        return (await lab.logs(name)).removesuffix("end\n")

    def host(path: object, at: str, **mount: Any) -> dict[str, Any]:
        return {"source": {"hostPath": {"path": str(path)}}, "mountPath": at, **mount}

    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        # a mount point below a hostPath volume is made in it, and what the pod writes beside it is kept
        real = Path(name) / "data"
        real.mkdir()
        script = "echo x > /data/written; echo y > /data/new/inner; ls /data"
        assert await volumes_at("in-host-path", script, v=host(real, "/data"), w="/data/new") == "new\nwritten\n"
        assert {each.name for each in real.iterdir()} == {"new", "written"}
        assert not list((real / "new").iterdir())
        # below the host's folders that only look like the lab's, and below a volume's link to one, nothing is
        beside = Path(name) / "beside"
        beside.mkdir()
        (real / "link").symlink_to(beside)
        v = host(real, "/optdata/data")
        assert await volumes_at("link", "ls /optdata/data/link", v=v, w="/optdata/data/link/new") == "new\n"
        assert not list(beside.iterdir())
        # sources are found before a volume hides them
        (real / "seen").write_text("seen")
        said = await volumes_at("hidden", "ls /zz; ls /tmp", v="/tmp", w=host(real / "seen", "/zz/seen"))
        assert said == "seen\n"
        said = await volumes_at("var-lib", "ls /var/lib; cat /proc/1/comm", v="/var/lib", w="/var/lib/mysql")
        assert said == "mysql\npause\n"
    # names in /etc are there even when a volume has all of it; one at their path comes before them
    said = await volumes_at(
        "names", "cat /etc/hostname; ls /etc; touch /sub/x && echo made", v="/etc",
        w={"mountPath": "/sub", "subPath": "a/b"},
    )  # fmt: skip
    assert said == "names\nhostname\nhosts\nresolv.conf\nmade\n"
    await lab.client.create(
        "configmaps",
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "s"}, "data": {"run": "#!/bin/sh\necho ran\n"}},
        "default",
    )
    config = {"source": {"configMap": {"name": "s", "defaultMode": 0o755}}}
    said = await volumes_at(
        "script",
        "/s/run; cat /etc/hostname | head -1; touch /s/x 2>&1; touch /s/sub/x; ls /s/sub",
        v={**config, "mountPath": "/s"}, w="/s/sub", x={**config, "mountPath": "/etc/hostname", "subPath": "run"},
    )  # fmt: skip
    assert said.splitlines()[:2] == ["ran", "#!/bin/sh"]
    assert "Read-only" in said
    assert said.endswith("\nx\n")
    # the node's /run and /var/log are its own
    at = {"v": host("/var/run/new", "/x"), "w": host("/run/netns", "/y"), "x": host("/var/log/new", "/z")}
    said = await volumes_at("of-the-node", "echo 1 > /x/one; echo 2 > /z/two; ls /y; ls /run", **at)
    assert said.endswith("lock\n")
    assert Path(node_path(NODE, "/run/new/one")).read_text() == "1\n"
    assert Path(node_path(NODE, "/var/log/new/two")).read_text() == "2\n"
    # folders of the host stay as they are, also when links to them lead through another one's
    script = "ls -d /usr/new-one/. /usr/share/new-two/. /usr/share/doc/."
    at = {"v": "/usr/new-one", "w": "/usr/share/new-two", "x": "/usr/share/doc/../new-three", "y": "/usr/new/a/b"}
    said = await volumes_at("over", script, **at, z="/usr/new/c/d")
    assert len(said.splitlines()) == 3
    assert not any(
        Path(path).exists() for path in ("/usr/new-one", "/usr/new", "/usr/share/new-two", "/usr/share/new-three")
    )


@pytest.mark.parametrize("user_namespace", [False, True])
def test_volumes_below_volumes(user_namespace: bool) -> None:
    run(_nested, user_namespace=user_namespace)


async def _last_words(lab: KubeletLab) -> None:
    await started(lab)
    never = {"restartPolicy": "Never"}
    for name, script, more in (
        ("said", "echo why > /dev/termination-log; exit 3", {}),
        ("elsewhere", "printf x%.0s $(seq 5000) > /usr/no-such/log", {"terminationMessagePath": "/usr/no-such/log"}),
        ("logged", "seq 1000; exit 1", {"terminationMessagePolicy": "FallbackToLogsOnError"}),
        ("silent", "seq 1000", {"terminationMessagePolicy": "FallbackToLogsOnError"}),
        ("devices", "echo a > /dev/null; head -c 3 /dev/zero | wc -c > /dev/termination-log; ls -d /dev/pts/ptmx", {}),
    ):
        await lab.create(name, shell(script, **more), **never)
    first = shell("echo one > /dev/termination-log") | {"name": "first"}
    await lab.create("two", shell("exit 4"), initContainers=[first], **never)

    async def ended(name: str) -> dict[str, Any]:
        return await lab.when(name, lambda pod: pod["status"]["phase"] in ("Succeeded", "Failed"), "ended")

    async def words(name: str, of: str = "main") -> str:
        return str(container(await ended(name), of)["state"]["terminated"].get("message", ""))

    assert await words("said") == "why\n"
    assert await words("elsewhere") == "x" * 4096
    assert await words("logged") == "".join(f"{number}\n" for number in range(921, 1001))
    assert await words("silent") == ""
    assert await words("devices") == "3\n"
    assert (await words("two", "first"), await words("two")) == ("one\n", "")
    assert not Path("/dev/termination-log").exists()


@pytest.mark.parametrize("user_namespace", [False, True])
def test_what_containers_say_as_they_end(user_namespace: bool) -> None:
    run(_last_words, user_namespace=user_namespace)


class Program:
    """A built-in program that counts its starts and stops."""

    def __init__(self) -> None:
        self.starts: list[str] = []
        self.stops = 0

    async def start(self, netns: str, pod: Mapping[str, Any], log: Callable[[str], None]) -> Program:
        self.starts.append(netns)
        log(f"serving {pod['metadata']['name']}")
        return self

    async def stop(self) -> None:
        self.stops += 1


async def _built_in(lab: KubeletLab) -> None:
    program = Program()
    lab.builtins["mininetes/dns"] = program
    await started(lab)
    await lab.create("dns", {"name": "main", "image": "mininetes/dns:1.0", "args": ["-conf", "x"]})
    await lab.ready("dns")
    assert program.starts == [lab.shown("dns").netns]
    assert await lab.logs("dns") == "serving dns\n"
    await lab.stop_kubelet()
    await lab.start_kubelet()

    async def adopted() -> bool:
        return bool(lab.kubelet and lab.kubelet.pods())

    await until(adopted, "the next kubelet has the pod")
    assert (len(program.starts), program.stops) == (1, 0)
    await lab.client.delete("pods", "dns", "default")
    await lab.gone("dns")
    assert program.stops == 1


def test_built_in_programs() -> None:
    run(_built_in)


async def _probes(lab: KubeletLab) -> None:
    await started(lab)
    often = {"periodSeconds": 1, "failureThreshold": 1}
    await lab.create("good", responder(readinessProbe={"httpGet": {"port": "http", "path": "/"}, **often}))
    await lab.create("closed", responder(readinessProbe={"tcpSocket": {"port": 81}, **often}))
    gate = {"exec": {"command": ["test", "-e", "/run/open"]}, **often}
    await lab.create("gated", shell(FOREVER, readinessProbe=gate))
    alive = {"exec": {"command": ["test", "!", "-e", "/run/sick"]}, **often}
    await lab.create("sick", shell(f"sleep 0.5; touch /run/sick; {FOREVER}", livenessProbe=alive))
    slow = {"exec": {"command": ["test", "-e", "/run/begun"]}, **often, "failureThreshold": 20}
    await lab.create("slow", shell(f"sleep 1; touch /run/begun; {FOREVER}", startupProbe=slow))
    await lab.ready("good")
    message = await lab.event("closed", "Unhealthy")
    assert message.startswith("Readiness probe failed: dial tcp 10.244.1."), message
    assert message.endswith(":81: connect: connection refused"), message
    closed = await lab.pod("closed")
    assert closed is not None
    assert container(closed)["started"] is True
    assert condition(closed, "Ready") == "False"
    slow_pod = await lab.when("slow", lambda pod: container(pod).get("state", {}).get("running"), "runs")
    assert container(slow_pod)["started"] is False
    await lab.ready("slow")
    gated = await lab.when("gated", lambda pod: container(pod).get("state", {}).get("running"), "runs")
    assert condition(gated, "Ready") == "False"
    assert (await execute(lab, "gated", "touch", "/run/open"))[1] == 0
    await lab.ready("gated")
    assert (await execute(lab, "gated", "rm", "/run/open"))[1] == 0
    await lab.when("gated", lambda pod: condition(pod, "Ready") == "False", "is not ready any more")
    sick = await lab.when("sick", lambda pod: restarts(pod) >= 1, "restarted")
    assert container(sick)["lastState"]["terminated"]["exitCode"] in (128 + signal.SIGTERM, 128 + signal.SIGKILL)
    assert await lab.event("sick", "Killing") == "Container main failed liveness probe, will be restarted"


def test_probes() -> None:
    run(_probes)


async def _logs(lab: KubeletLab) -> None:
    await started(lab)
    await lab.create("talk", shell("for i in 1 2 3 4 5; do echo line $i; done; printf rest; sleep 1; echo; echo last"),
                     restartPolicy="Never")  # fmt: skip
    await lab.when("talk", lambda pod: container(pod).get("state", {}).get("running"), "runs")
    followed = asyncio.ensure_future(lab.logs("talk", query="&follow=true"))
    await lab.when("talk", lambda pod: pod["status"]["phase"] == "Succeeded", "Succeeded")
    whole = "".join(f"line {i}\n" for i in range(1, 6)) + "rest\nlast\n"
    assert await followed == whole
    assert await lab.logs("talk") == whole
    assert await lab.logs("talk", query="&tailLines=2") == "rest\nlast\n"
    assert await lab.logs("talk", query="&limitBytes=8") == "line 1\nl"
    assert await lab.logs("talk", query="&sinceSeconds=1000&tailLines=1") == "last\n"
    assert await lab.logs("talk", query="&sinceTime=2099-01-01T00:00:00Z") == ""
    (stamped,) = (await lab.logs("talk", query="&timestamps=true&tailLines=1")).splitlines()
    assert stamped.startswith("20"), stamped
    assert stamped.endswith("Z last"), stamped
    with pytest.raises(ApiError) as refused:
        await lab.logs("talk", query="&previous=true")
    assert refused.value.code == 400
    assert 'previous terminated container "main" in pod "talk" not found' in refused.value.message
    with pytest.raises(ApiError) as refused:
        await lab.logs("talk", "nobody")
    assert "container nobody is not valid for pod talk" in refused.value.message


def test_logs() -> None:
    run(_logs)


async def _exec(lab: KubeletLab) -> None:
    await started(lab)
    await lab.create("box", shell(FOREVER, env=[{"name": "COLOUR", "value": "red"}]))
    await lab.ready("box")
    assert await execute(lab, "box", "sh", "-c", "echo $COLOUR; echo oh >&2; exit 5") == ("red\noh\n", 5)
    assert await execute(lab, "box", "hostname", version="v4") == ("box\n", 0)
    assert await execute(lab, "box", "cat", stdin=b"through and through") == ("through and through", 0)
    much = b"x" * 300_000
    said, status = await execute(lab, "box", "cat", stdin=much)
    assert (len(said), status) == (len(much), 0)
    said, status = await execute(lab, "box", "sh", "-c", "tty; sleep 0.2; stty size", stdin=b"", tty=True)
    assert status == 0, said
    assert said.splitlines()[0].startswith("/dev/pts/"), said
    assert said.splitlines()[1] == "33 91", said
    assert (await execute(lab, "box", "/no/such"))[1] == 1000
    route, _ = await execute(lab, "box", "ip", "route")
    assert route.startswith("default via 10.244.1.1 dev eth0")
    assert not [name for name in await lab.shim.processes("") if "/exec/" in name]


def test_exec() -> None:
    run(_exec)


async def _attach(lab: KubeletLab) -> None:
    await started(lab)
    open_in = {"stdin": True, "stdinOnce": True}
    never = {"restartPolicy": "Never"}
    await lab.create("once", shell("echo prompt; cat; echo done >&2; exit 3", **open_in), **never)
    await lab.ready("once")
    assert await attach(lab, "once", stdin=b"through\n") == ("prompt\nthrough\ndone\n", 0)
    ended = await lab.when("once", lambda pod: pod["status"]["phase"] == "Failed", "ended")
    assert container(ended)["state"]["terminated"]["exitCode"] == 3
    assert await lab.logs("once") == "prompt\nthrough\ndone\n"
    await lab.create("shell", shell("echo ready; exec sh", stdin=True, tty=True), **never)
    await lab.ready("shell")
    said, _ = await attach(lab, "shell", stdin=b"stty size; tty; echo $TERM\nexit 5\n", tty=True)
    lines = said.splitlines()
    assert "ready" in lines, "the first one hears what was said before"
    assert lines[lines.index("33 91") + 1].startswith("/dev/pts/")
    assert lines[lines.index("33 91") + 2] == "xterm"
    await lab.create("goes-on", shell("while read line; do echo heard $line; done", stdin=True))
    await lab.ready("goes-on")
    await lab.stop_kubelet()
    await lab.start_kubelet()
    for number, version in enumerate(("v5", "v4")):
        heard = f"heard word{number}\n"
        assert await attach(lab, "goes-on", stdin=heard[6:].encode(), version=version, leave_at=heard) == (heard, -1)
    assert container(await lab.ready("goes-on"))["restartCount"] == 0
    await lab.create("web", responder())
    await lab.ready("web")
    for pod, status in (("web", 400), ("once", 500), ("nobody", 404)):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await attach(lab, pod)
        assert refused.value.status == status, pod


def test_attach() -> None:
    run(_attach)
