"""The CNI runtime with plugins of the test's own: what they are given, the cache, GC, STATUS, versions.

A node is a folder here, and plugins run on this machine: they only write down what they get.
"""

from __future__ import annotations

import base64
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from mininetes.agents.cni import cache, runtime
from mininetes.agents.cni.runtime import Attachment, CniFailed, CniRuntime
from mininetes.errors import BadInput, MininetesError
from mininetes.kernel.processes import HERE

RECORDER = """#!/bin/sh
here=$(dirname "$0")
case $CNI_COMMAND in
    VERSION) echo '{"cniVersion": "1.0.0", "supportedVersions": [VERSIONS]}'; exit 0 ;;
esac
text=$(cat)
printf '%s\\n' "{\\"plugin\\": \\"$(basename "$0")\\", \\"command\\": \\"$CNI_COMMAND\\", \
\\"container\\": \\"$CNI_CONTAINERID\\", \\"args\\": \\"$CNI_ARGS\\", \\"netns\\": \\"$CNI_NETNS\\", \
\\"given\\": $text}" >>"$here/../calls"
if [ -e "$here/fail-$(basename "$0")-$CNI_COMMAND" ]; then
    cat "$here/fail-$(basename "$0")-$CNI_COMMAND"
    exit 1
fi
[ "$CNI_COMMAND" != ADD ] || echo "{\\"cniVersion\\": \\"1.0.0\\", \\"by\\": \\"$(basename "$0")\\"}"
"""
CHAIN: dict[str, Any] = {
    "cniVersion": "1.1.0",
    "name": "pods",
    "plugins": [
        {"type": "one", "capabilities": {"mac": True, "ips": False}},
        {"type": "two", "capabilities": {"portMappings": True, "bandwidth": True}},
    ],
}
ATTACHMENT = Attachment(
    "web-1",
    "/run/netns/web",
    args=(("K8S_POD_NAME", "web"),),
    capabilities={"mac": "02:00:00:00:00:01", "ips": ["10.0.0.1"], "portMappings": [{"hostPort": 80}]},
)


class Node:
    """The folder of a node."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf_dir = folder / "etc/cni/net.d"
        self.bin_dir = folder / "opt/cni/bin"
        for each in (self.conf_dir, self.bin_dir):
            each.mkdir(parents=True)
        self.install("one", "two")
        self.configure(CHAIN)

    def install(self, *names: str, versions: str = "1.0.0 1.1.0") -> None:
        for name in names:
            path = self.bin_dir / name
            path.write_text(RECORDER.replace("VERSIONS", ", ".join(f'"{each}"' for each in versions.split())))
            path.chmod(0o755)

    def configure(self, content: dict[str, Any], name: str = "10-pods.conflist") -> None:
        (self.conf_dir / name).write_text(json.dumps(content))

    def fail(self, plugin: str, command: str, code: int, words: str = "no") -> None:
        error = {"cniVersion": "1.1.0", "code": code, "msg": words}
        (self.bin_dir / f"fail-{plugin}-{command}").write_text(json.dumps(error))

    def heal(self) -> None:
        for path in self.bin_dir.glob("fail-*"):
            path.unlink()

    def calls(self) -> list[dict[str, Any]]:
        """What plugins were called with since the last time."""
        path = self.folder / "opt/cni/calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    def said(self) -> list[tuple[str, str]]:
        return [(each["command"], each["plugin"]) for each in self.calls()]

    def results(self) -> list[str]:
        folder = self.folder / "var/lib/cni/results"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    def as_engine(_: str, path: str) -> str:
        return f"{tmp_path}{path}"

    monkeypatch.setattr(runtime, "node_path", as_engine)
    monkeypatch.setattr(cache, "node_path", as_engine)
    monkeypatch.setattr(runtime, "BIN_DIR", "/opt/cni/bin")
    return Node(tmp_path)


@pytest.fixture
def cni(node: Node, monkeypatch: pytest.MonkeyPatch) -> CniRuntime:
    made = CniRuntime("node1", os.getpid(), keep_plugins=False)
    monkeypatch.setattr(made, "_namespaces", HERE)
    # plugins run where the engine sees them
    monkeypatch.setattr(runtime, "run", lambda argv, **more: RUN([f"{node.folder}{argv[0]}"], **more))
    monkeypatch.setattr(runtime, "announced", lambda path, **_: ANNOUNCED(path))
    return made


RUN, ANNOUNCED = runtime.run, runtime.announced


# --- chains and capabilities ------------------------------------------------------------------------------------------


def test_each_plugin_gets_the_result_before_it_and_the_capabilities_that_it_asks_for(
    node: Node, cni: CniRuntime
) -> None:
    assert cni.add(ATTACHMENT) == {"cniVersion": "1.0.0", "by": "two"}
    one, two = node.calls()
    assert one["given"] == {
        "type": "one",
        "capabilities": {"mac": True, "ips": False},
        "name": "pods",
        "cniVersion": "1.1.0",
        "runtimeConfig": {"mac": "02:00:00:00:00:01"},
    }
    assert two["given"]["prevResult"] == {"cniVersion": "1.0.0", "by": "one"}
    assert two["given"]["runtimeConfig"] == {"portMappings": [{"hostPort": 80}]}
    assert (one["container"], one["netns"], one["args"]) == ("web-1", "/run/netns/web", "K8S_POD_NAME=web")


def test_del_and_check_get_what_the_add_gave_and_was_given(node: Node, cni: CniRuntime) -> None:
    cni.add(ATTACHMENT)
    node.calls()
    node.configure({**CHAIN, "name": "others", "plugins": [{"type": "nonsense"}]})
    bare = Attachment("web-1", "/run/netns/web")
    cni.check(bare)
    cni.delete(bare)
    calls = node.calls()
    assert [(each["command"], each["plugin"]) for each in calls] == [
        ("CHECK", "one"),
        ("CHECK", "two"),
        ("DEL", "two"),
        ("DEL", "one"),
    ]
    for each in calls:
        assert each["given"]["prevResult"] == {"cniVersion": "1.0.0", "by": "two"}
        assert each["args"] == "K8S_POD_NAME=web"
        assert "runtimeConfig" in each["given"]
    assert node.results() == []


def test_a_chain_that_fails_is_taken_back_whole(node: Node, cni: CniRuntime) -> None:
    node.fail("two", "ADD", 11, "later")
    with pytest.raises(CniFailed, match="two ADD: later"):
        cni.add(ATTACHMENT)
    assert node.said() == [("ADD", "one"), ("ADD", "two"), ("DEL", "two"), ("DEL", "one")]
    assert node.results() == []


# --- the cache --------------------------------------------------------------------------------------------------------


def test_the_cache_is_as_libcni_writes_it(node: Node, cni: CniRuntime) -> None:
    cni.add(ATTACHMENT)
    assert node.results() == ["pods-web-1-eth0"]
    path = node.folder / "var/lib/cni/results/pods-web-1-eth0"
    kept = json.loads(path.read_text())
    assert json.loads(base64.b64decode(kept.pop("config")))["plugins"] == CHAIN["plugins"]
    assert kept == {
        "kind": "cniCacheV1",
        "containerId": "web-1",
        "ifName": "eth0",
        "networkName": "pods",
        "netns": "/run/netns/web",
        "cniArgs": [["K8S_POD_NAME", "web"]],
        "capabilityArgs": dict(ATTACHMENT.capabilities),
        "result": {"cniVersion": "1.0.0", "by": "two"},
    }
    assert path.stat().st_mode & 0o777 == 0o600
    assert cni.attachments() == [ATTACHMENT]


def test_names_that_end_alike_are_not_mixed_up(node: Node, cni: CniRuntime) -> None:
    cni.add(Attachment("a-web", "/run/netns/a"))
    node.calls()
    cni.delete(Attachment("web", "/run/netns/b"))
    assert node.results() == ["pods-a-web-eth0"]
    assert all("prevResult" not in each["given"] for each in node.calls())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": "other"}', '{"kind": "cniCacheV1"}'])
def test_a_cache_that_is_spoilt_is_as_none(node: Node, cni: CniRuntime, text: str) -> None:
    cni.add(ATTACHMENT)
    (node.folder / "var/lib/cni/results/pods-web-1-eth0").write_text(text)
    node.calls()
    cni.delete(ATTACHMENT)
    assert node.said() == [("DEL", "two"), ("DEL", "one")]
    assert node.results() == []


# --- flags and versions -----------------------------------------------------------------------------------------------


def test_flags_of_the_configuration_are_heeded(node: Node, cni: CniRuntime) -> None:
    node.configure({**CHAIN, "disableCheck": True, "disableGC": "true"})
    cni.add(ATTACHMENT)
    node.calls()
    cni.check(ATTACHMENT)
    assert cni.collect_garbage(set) == []
    assert node.said() == []
    assert node.results() == ["pods-web-1-eth0"]


def test_a_version_without_check_is_refused_and_its_del_gets_no_result(node: Node, cni: CniRuntime) -> None:
    node.configure({**CHAIN, "cniVersion": "0.3.1"})
    cni.add(ATTACHMENT)
    node.calls()
    with pytest.raises(MininetesError, match=r"0\.3\.1 has no CHECK"):
        cni.check(ATTACHMENT)
    cni.delete(ATTACHMENT)
    assert all("prevResult" not in each["given"] for each in node.calls())


@pytest.mark.parametrize(
    ("second", "expected"), [("1.0.0 1.1.0", "1.1.0"), ("0.4.0 1.0.0", "1.0.0"), ("0.4.0", "0.4.0")]
)
def test_the_newest_version_that_all_plugins_speak(node: Node, cni: CniRuntime, second: str, expected: str) -> None:
    node.install("one", versions="0.4.0 1.0.0 1.1.0")
    node.install("two", versions=second)
    node.configure({**CHAIN, "cniVersion": "0.4.0", "cniVersions": ["1.1.0", "1.0.0", "9.0.0"]})
    cni.add(ATTACHMENT)
    assert {each["given"]["cniVersion"] for each in node.calls()} == {expected}


def test_no_version_that_all_speak(node: Node, cni: CniRuntime) -> None:
    node.install("two", versions="0.3.1")
    node.configure({**CHAIN, "cniVersions": ["1.0.0"]})
    with pytest.raises(MininetesError, match=r"1\.0\.0, 1\.1\.0"):
        cni.add(ATTACHMENT)
    assert node.said() == []


def test_the_configuration_is_picked_up_anew(node: Node, cni: CniRuntime) -> None:
    cni.add(ATTACHMENT)
    node.configure({**CHAIN, "name": "better", "plugins": [{"type": "two"}]}, "05-better.conflist")
    node.calls()
    cni.add(Attachment("db", "/run/netns/db"))
    assert node.said() == [("ADD", "two")]
    (node.conf_dir / "05-better.conflist").write_text("{")
    with pytest.raises(BadInput, match="05-better"):
        cni.add(Attachment("x", "/run/netns/x"))
    (node.conf_dir / "05-better.conflist").unlink()
    cni.add(Attachment("y", "/run/netns/y"))
    assert node.said() == [("ADD", "one"), ("ADD", "two")]


# --- GC and STATUS ----------------------------------------------------------------------------------------------------


def test_gc_deletes_what_is_cached_and_not_valid_and_then_tells_the_plugins(node: Node, cni: CniRuntime) -> None:
    for name in ("web", "db"):
        cni.add(Attachment(name, f"/run/netns/{name}", capabilities={"mac": name}))
    node.calls()
    assert cni.collect_garbage(lambda: [("db", "eth0"), ("by hand", "eth0")]) == []
    calls = node.calls()
    assert [(each["command"], each["plugin"], each["container"]) for each in calls] == [
        ("DEL", "two", "web"),
        ("DEL", "one", "web"),
        ("GC", "one", ""),
        ("GC", "two", ""),
    ]
    assert calls[1]["given"]["runtimeConfig"] == {"mac": "web"}
    wanted = [{"containerID": "by hand", "ifname": "eth0"}, {"containerID": "db", "ifname": "eth0"}]
    assert [each["given"]["cni.dev/valid-attachments"] for each in calls[2:]] == [wanted, wanted]
    assert node.results() == ["pods-db-eth0"]


def test_gc_before_1_1_0_is_deletes_alone_and_leaves_other_networks(node: Node, cni: CniRuntime) -> None:
    cni.add(Attachment("other", "/run/netns/other"))
    node.configure({**CHAIN, "name": "older", "cniVersion": "1.0.0"})
    cni.add(Attachment("web", "/run/netns/web"))
    node.calls()
    assert cni.collect_garbage(set) == []
    assert node.said() == [("DEL", "two"), ("DEL", "one")]
    assert node.results() == ["pods-other-eth0"]


def test_gc_goes_on_after_what_fails(node: Node, cni: CniRuntime) -> None:
    for name in ("a", "b"):
        cni.add(Attachment(name, f"/run/netns/{name}"))
    node.fail("two", "DEL", 100, "stuck")
    node.fail("one", "GC", 100, "broken")
    node.calls()
    wrong = cni.collect_garbage(set)
    assert [("stuck" in each, "broken" in each) for each in wrong] == [(True, False), (True, False), (False, True)]
    assert node.said() == [("DEL", "two"), ("DEL", "two"), ("GC", "one"), ("GC", "two")]
    node.heal()
    assert cni.collect_garbage(set) == []
    assert node.results() == []


def test_gc_runs_alone(node: Node, cni: CniRuntime) -> None:
    """What is valid is asked when no ADD is under way, and an ADD that comes then waits."""
    added = threading.Thread(target=lambda: cni.add(ATTACHMENT))

    def valid() -> list[tuple[str, str]]:
        added.start()
        added.join(0.2)
        assert added.is_alive()
        assert node.calls() == []
        return [("web-1", "eth0")]

    assert cni.collect_garbage(valid) == []
    added.join(20)
    assert node.said() == [("GC", "one"), ("GC", "two"), ("ADD", "one"), ("ADD", "two")]


def test_status_asks_each_plugin_and_passes_on_the_first_refusal(node: Node, cni: CniRuntime) -> None:
    cni.check_status()
    assert node.said() == [("STATUS", "one"), ("STATUS", "two")]
    node.fail("one", "STATUS", 50, "no room")
    with pytest.raises(CniFailed, match="no room") as caught:
        cni.check_status()
    assert caught.value.code == 50
    node.configure({**CHAIN, "cniVersion": "1.0.0"})
    node.calls()
    cni.check_status()
    assert node.said() == []
