"""`up` with parts by which not all gets ready: a CNI plugin that refuses each pod, links on the nodes' wire, a mode."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running_lab import MININETES, RunningLab, environment, fresh_name, is_left, mininetes, running

FAILING = """#!/bin/bash
case $CNI_COMMAND in
    VERSION) echo '{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}'; exit ;;
    DEL) exit ;;
esac
echo '{"cniVersion": "1.0.0", "code": 117, "msg": "the fabric has no room for '"$CNI_IFNAME"'"}'
exit 1
"""
SAID = "failing ADD: the fabric has no room for eth0 (CNI code 117)"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of parts with a plugin that fails each ADD."""
    folder = tmp_path / "cni_scripts"
    folder.mkdir()
    (folder / "failing").write_text(FAILING)
    (folder / "failing").chmod(0o755)
    plugins = [{"type": "failing"}]
    (folder / "failing.conflist").write_text(json.dumps({"cniVersion": "1.0.0", "name": "f", "plugins": plugins}))
    return tmp_path


def up(own: Path, name: str, pods: int) -> list[str]:
    return ["--parts", str(own), "up", "--lab", name, "--cni", "failing.conflist", "--nodes", "2", "--pods", str(pods)]


def test_a_plugin_that_fails_each_add_ends_up_with_its_error(own: Path) -> None:
    name = fresh_name()
    done = mininetes(*up(own, name, 1), timeout_s=60)
    assert done.status == 1
    assert SAID in done.stderr
    assert "pod node" in done.stderr
    assert " on node" in done.stderr
    assert "Traceback" not in done.stderr
    assert not is_left(name)


@pytest.mark.parametrize("store", ["memory", "none"])
def test_what_does_not_come_up_can_be_kept_for_looking_at(own: Path, store: str) -> None:
    name = fresh_name()
    try:
        done = mininetes(*up(own, name, 1), "--keep", "--set", f"controlPlane.store={store}", timeout_s=60)
        assert (done.status, done.stdout.count("ready")) == (1, 0)
        *_, error, hint = done.stderr.splitlines()
        assert error.startswith("mininetes: ")
        assert SAID in error
        assert hint == f"lab {name} is left as it is, for exec and shell; 'mininetes down {name}' ends it"
        listed = mininetes("exec", "--lab", name, "node1", "--", "ls", "/etc/cni/net.d")
        assert listed.stdout == "10-failing.conflist\n"
        assert "is not up yet" in mininetes("status", "--lab", name).stderr
    finally:
        ended = mininetes("down", name, timeout_s=30)
    assert (ended.status, is_left(name)) == (0, False)


def test_up_says_that_it_was_ended_by_somebody_else(own: Path) -> None:
    name = fresh_name()
    waiting = begin(*up(own, name, 0))
    first_line(waiting, within_s=40)
    assert mininetes("down", name, timeout_s=30).status == 0
    *_, said = waiting.communicate(timeout=30)[1].decode().splitlines()
    assert said == "mininetes: the lab ended before it was ready: it was ended, as by `mininetes down`"
    assert waiting.returncode == 1


def test_who_waits_is_told_the_plugins_error(own: Path) -> None:
    name = fresh_name()
    with coming_up(name, *up(own, name, 0)) as said:
        assert said.startswith("still waiting: pod kube-system/coredns-"), said
        assert " on node" in said
        assert said.rstrip().endswith(SAID)


def test_what_comes_up_can_be_looked_into_and_is_not_asked_for_more(own: Path) -> None:
    name = fresh_name()
    with coming_up(name, *up(own, name, 0)):
        assert mininetes("exec", "--lab", name, "node1", "--", "hostname").stdout == "node1\n"
        listed = [line.split() for line in mininetes("ls").stdout.splitlines() if name in line]
        assert [line[-2:] for line in listed] in ([["coming", "up"]], [["s", line[-1]] for line in listed]), listed
        said = f"mininetes: lab {name} is not up yet; exec and shell reach its nodes already\n"
        for command in ("status", "agents ls", "node add", "net ls", "probe latency", "graph"):
            refused = mininetes(*command.split(), "--lab", name, timeout_s=20)
            assert (refused.status, refused.stdout, refused.stderr) == (1, "", said), command


def test_a_mistake_in_a_proxy_modes_file_ends_the_waiting(tmp_path: Path) -> None:
    (tmp_path / "proxy_rules").mkdir()
    (tmp_path / "proxy_rules" / "raiser.py").write_text(
        "LIKE = 'iptables'\ndef compile_rules(view):\n    raise KeyError('oops')\n"
    )
    name = fresh_name()
    options = ["--nodes", "2", "--pods", "0", "--proxy", "raiser"]
    done = mininetes("--parts", str(tmp_path), "up", "--lab", name, *options, timeout_s=60)
    assert (done.status, done.stdout) == (1, "")
    assert done.stderr.endswith(
        "mininetes: no rules of services: kube-proxy on node1, node2: KeyError: 'oops' (raiser.py:3)\n"
    )
    assert not is_left(name)


@contextlib.contextmanager
def coming_up(name: str, *arguments: str) -> Iterator[str]:
    """The command brings a lab of that name up; gives the first line that it writes to stderr, and ends it then."""
    waiting = begin(*arguments)
    try:
        yield first_line(waiting, within_s=40)
    finally:
        waiting.send_signal(signal.SIGTERM)
        waiting.communicate(timeout=30)
    assert not is_left(name)


def begin(*arguments: str) -> subprocess.Popen[bytes]:
    """Start the command, and hear what it writes to stderr."""
    return subprocess.Popen(
        [*MININETES, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
        start_new_session=True,
    )


def first_line(process: subprocess.Popen[bytes], *, within_s: float) -> str:
    """The first line that it writes to stderr; what there is of it when the time is over."""
    assert process.stderr is not None
    end, read = time.monotonic() + within_s, b""
    while b"\n" not in read and select.select([process.stderr], [], [], max(0.0, end - time.monotonic()))[0]:
        more = os.read(process.stderr.fileno(), 4096)
        if not more:
            break
        read += more
    return read.partition(b"\n")[0].decode()


def reference(tmp_path: Path) -> str:
    ranges = [[{"subnet": "$POD_NETWORK", "rangeStart": "$POD_FIRST", "rangeEnd": "$POD_LAST"}]]
    plugin = {"type": "macvlan", "master": "eth0", "ipam": {"type": "host-local", "ranges": ranges}}
    path = tmp_path / "wire.conflist"
    path.write_text(json.dumps({"cniVersion": "1.0.0", "name": "wire", "plugins": [plugin]}))
    return str(path)


@pytest.mark.parametrize("plugin", ["bash-macvlan", "macvlan"])
def test_a_cluster_of_macvlan_pods_comes_up_with_what_the_kernel_allows(plugin: str, tmp_path: Path) -> None:
    cni = reference(tmp_path) if plugin == "macvlan" else f"{plugin}.conflist"
    with running("--nodes", "2", "--pods", "1", "--cni", cni) as lab:
        assert not any(ready for name, ready in system_pods(lab).items() if name.startswith("coredns"))
        assert all(ready for name, ready in system_pods(lab).items() if not name.startswith("coredns"))
        assert lab.try_exec("pod/node1-1", "ping", "-c1", "-W2", lab.address("pod/node2-1")).status == 0
        for node, pod in (("node1", "pod/node1-1"), ("node1", "pod/node2-1")):
            assert lab.try_exec(node, "ping", "-c1", "-W1", lab.address(pod)).status != 0
            assert lab.try_exec(pod, "ping", "-c1", "-W1", lab.address(node)).status != 0
        probed = lab.probe("--timeout", "0.2", "--attempts", "1")
        assert (probed.status, [str(cell) for cell in probed.matrix.mismatches]) == (0, [])
        meet = {("node1", "node2"), ("pod/node1-1", "pod/node2-1")}
        assert probed.reached() == meet | {(other, one) for one, other in meet}
        assert "do not meet" in probed.cell("node1", "pod/node1-1").reason


OF_THE_LAN = """#!/bin/bash
case $CNI_COMMAND in
    VERSION) echo '{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}' ;;
    ADD)
        [[ $CNI_ARGS =~ K8S_POD_NAME=node([12])-([12]) ]] || exit 1
        last=1${BASH_REMATCH[1]}${BASH_REMATCH[2]}
        echo '{"cniVersion": "1.0.0", "ips": [{"address": "192.168.1.'"$last"'/24"}]}' ;;
esac
"""


def test_macvlan_pods_meet_in_the_subnet_that_their_address_plugin_gave_whatever_the_file_says_later(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "cni_scripts"
    folder.mkdir()
    (folder / "of-the-lan").write_text(OF_THE_LAN)
    (folder / "of-the-lan").chmod(0o755)
    plugin = {"type": "bash-macvlan", "master": "eth0", "ipam": {"type": "of-the-lan"}}
    file = folder / "lan.conflist"
    file.write_text(json.dumps({"cniVersion": "1.0.0", "name": "lan", "plugins": [plugin]}))
    plain = ("--nodes", "2", "--pods", "2", "--set", "controlPlane.store=none")
    with running("--cni", "lan.conflist", *plain, parts=tmp_path) as lab:
        file.write_text(file.read_text().replace('"eth0"', '"eth0", "mode": "private"'))
        probed = lab.probe("--timeout", "0.2", "--attempts", "1")
        assert (probed.status, [str(cell) for cell in probed.matrix.mismatches]) == (0, [])
        own = [(node, f"pod/{node}-{number}") for node in ("node1", "node2") for number in (1, 2)]
        assert len(probed.reached()) == 6 * 5 - 2 * len(own)
        assert not {*own, *((pod, node) for node, pod in own)} & probed.reached()


def system_pods(lab: RunningLab) -> dict[str, bool]:
    """The pods of kube-system, and whether they are ready."""
    pods: list[dict[str, Any]] = json.loads(
        lab.command("get", "pods", "-n", "kube-system", "-o", "json").stdout
    )["items"]  # fmt: skip
    return {
        pod["metadata"]["name"]: all(each["ready"] for each in pod["status"].get("containerStatuses", []))
        for pod in pods
    }
